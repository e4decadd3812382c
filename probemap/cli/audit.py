"""The audit command: draw answers, let a person label them, and report how often the verdicts are wrong."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from probemap.cli import flags, steps
from probemap.cli.console import console_logger, open_run, print_table, say, stdout
from probemap.runs.definitions import AUDIT

if TYPE_CHECKING:  # keeps --help fast
    from probemap.records import AuditRow
    from probemap.runs.run import Run

app = typer.Typer()

Ask = Annotated[bool, typer.Option("--ask", help="Show one answer after another in the terminal and ask for labels.")]
Page = Annotated[bool, typer.Option("--page", help="Write RUN/audit.html, a page on which the labels can be entered.")]

_LABELS: dict[str, bool | Literal["cannot tell"]] = {"c": True, "i": False, "u": "cannot tell"}
_KEYS = "c: correct, i: incorrect, u: cannot tell, b: back, q: save and quit"


def audit(directory: Path, ask: bool, page: bool, **options: Any) -> None:
    """Execute the audit step, after asking for labels or writing the page."""
    from probemap.runs.execution import run_step

    run = open_run(directory)
    options = steps.given(options)
    if page or ask:
        rows = _drawn(run, options)
        if page:
            path = _write_page(run, rows)
            stdout.print(str(path), markup=False, soft_wrap=True)
        if ask:
            _ask(rows, lambda changed: _save(run, changed))
    with console_logger() as logger:
        run_step(AUDIT, run, steps.context_from({}, logger), **options)
    if run.is_done(AUDIT):
        print_table(run.read_table(AUDIT.name))


def _drawn(run: "Run", options: dict[str, Any]) -> "list[AuditRow]":
    """Return the drawn answers, after drawing them if necessary."""
    from probemap.runs.audit_files import draw_answers
    from probemap.runs.options import AuditOptions

    with run.locked():
        return draw_answers(run, run.graded, AuditOptions(**options), say)[1]


def _save(run: "Run", rows: "Sequence[AuditRow]") -> None:
    from probemap.runs.audit_files import write_rows

    with run.locked():
        write_rows(run, rows)


def _write_page(run: "Run", rows: "Sequence[AuditRow]") -> Path:
    from probemap.views.audit_page import render_audit

    with run.locked():
        run.write("audit.html", render_audit(rows, run.task.name))
    return run.path / "audit.html"


def _ask(rows: "list[AuditRow]", save: "Callable[[Sequence[AuditRow]], None]") -> None:
    """Ask for a label of each answer that has none, and save the labels after every answer."""
    number = _next_unlabelled(rows, 0)
    while number is not None:
        _show(rows, number)
        key = _read_key()
        if key in ("", "q"):
            break
        if key == "b":
            number = max(number - 1, 0)
        elif key in _LABELS:
            rows[number] = replace(rows[number], correct=_LABELS[key])
            save(rows)
            number = _next_unlabelled(rows, number + 1)
        else:
            stdout.print(f"unknown key {key!r:.10}", markup=False)
    n_labelled = sum(row.correct is not None for row in rows)
    stdout.print(f"\n{n_labelled} of {len(rows)} answers are labelled")


def _next_unlabelled(rows: "Sequence[AuditRow]", start: int) -> int | None:
    """Return the number of the next answer without a label, from `start` to the end and then from the beginning."""
    order = [*range(start, len(rows)), *range(start)]
    return next((number for number in order if rows[number].correct is None), None)


def _show(rows: "Sequence[AuditRow]", number: int) -> None:
    from rich.text import Text

    from probemap.views.printable import printable

    row = rows[number]
    text = Text(f"\nanswer {number + 1} of {len(rows)}", "bold")
    accepted = "; ".join(row.accepted)
    for name, content in (
        ("context", row.context),
        ("question", row.question),
        ("choices", "; ".join(row.choices)),
        ("accepted", accepted),
        ("answer", row.answer or "(empty)"),
    ):
        if content:
            text.append(f"\n{name:<9}", "dim").append("\n         ".join(map(printable, content.split("\n"))))
    if row.correct is not None:
        label = row.correct if isinstance(row.correct, str) else "correct" if row.correct else "incorrect"
        text.append(f"\nlabelled as: {label}", "dim")
    stdout.print(text, soft_wrap=True)
    stdout.print(f"[{_KEYS}] ", markup=False, soft_wrap=True, end="")


def _read_key() -> str:
    """Return the key that was pressed or, if the input is not a terminal, the next line; empty at the end of input."""
    if sys.stdin.isatty():
        import click

        key = click.getchar()
        stdout.print(key if key.isprintable() else "", markup=False)
        return key.lower()
    line = sys.stdin.readline()
    return line.strip().lower() or ("?" if line else "")


app.command(AUDIT.name, epilog=f"Example:  {AUDIT.example}")(
    steps.with_signature(
        lambda **arguments: audit(**arguments),
        [
            flags.keyword("directory", flags.RunDirectory),
            *flags.option_parameters(AUDIT.options),
            flags.keyword("ask", Ask, False),
            flags.keyword("page", Page, False),
        ],
        f"{AUDIT.description}\n\nWrites RUN/audit.jsonl, in which the labels are entered: in the field `correct`, "
        "with --ask or with --page.  The verdicts are not shown, so that they do not influence the labels.  Labels are "
        f"never overwritten.  With labels, the command prints the result, and {steps.writes(AUDIT)[0].lower()}"
        f"{steps.writes(AUDIT)[1:]}",
    )
)
