"""A questionnaire in the terminal that asks a person for the labels of an audit."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # keeps --help fast
    from rich.console import Console

    from probemap.records import AuditRow

_LABELS: dict[str, bool | Literal["cannot tell"]] = {"c": True, "i": False, "u": "cannot tell"}
_KEYS = "c: correct, i: incorrect, u: cannot tell, b: back, q: save and quit"


def ask_labels(rows: "list[AuditRow]", save: "Callable[[AuditRow], None]", out: "Console") -> None:
    """Ask for the labels of all answers without a label, until the person quits.

    If the standard input is a terminal, single key presses are read from it.  Otherwise, lines are read.

    Parameters
    ----------
    rows : list of AuditRow
        The answers.  The list is changed in place.
    save : callable
        Function that saves a row.  It is called after every label.
    out : Console
        The console on which the answers are shown.
    """
    number = _next_unlabelled(rows, 0)
    while number is not None:
        _show(rows, number, out)
        key = _read_key(out)
        if key in ("", "q"):
            break
        if key == "b":
            number = max(number - 1, 0)
        elif key in _LABELS:
            rows[number] = replace(rows[number], correct=_LABELS[key])
            save(rows[number])
            number = _next_unlabelled(rows, number + 1)
        else:
            out.print(f"unknown key {key!r:.10}", markup=False)
    n_labelled = sum(row.correct is not None for row in rows)
    out.print(f"\n{n_labelled} of {len(rows)} answers are labelled")


def _next_unlabelled(rows: "Sequence[AuditRow]", start: int) -> int | None:
    """Return the index of the next answer without a label.  After the last answer, the search goes on at the first."""
    order = [*range(start, len(rows)), *range(start)]
    return next((number for number in order if rows[number].correct is None), None)


def _show(rows: "Sequence[AuditRow]", number: int, out: "Console") -> None:
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
    out.print(text, soft_wrap=True)
    out.print(f"[{_KEYS}] ", markup=False, soft_wrap=True, end="")


def _read_key(out: "Console") -> str:
    """Return the pressed key or, if the input is not a terminal, the next line.  Empty at the end of the input."""
    if sys.stdin.isatty():
        import click

        key = click.getchar()
        out.print(key if key.isprintable() else "", markup=False)
        return key.lower()
    line = sys.stdin.readline()
    return line.strip().lower() or ("?" if line else "")
