"""Commands that display, draw or check the content of a run directory, or that list tasks and positions."""

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from probemap.cli import flags
from probemap.cli.console import console_logger, open_run, say, stdout

if TYPE_CHECKING:  # keeps --help fast
    from probemap.logger import Logger
    from probemap.runs.plan import Context
    from probemap.runs.run import Run
    from probemap.runs.verify import Recomputation

app = typer.Typer()

Words = Annotated[
    bool, typer.Option("--words", help="Print a summary in sentences, each supported by a statistical test.")
]
Kind = Annotated[
    Literal["map", "difference", "layers", "positions"],
    typer.Option(
        help="Kind of figure: maps side by side, the difference between two maps, or curves against layer or position."
    ),
]
Value = Annotated[
    str,
    typer.Option(
        help="Value to draw: auc, accuracy, balanced-accuracy, f1, calibration-error, activation-norm, "
        "activation-norm-difference, attention, attention-exact, gain, adds, absorbed, catch, selectivity, or "
        "auc-within (auc-within:FIELD, if there are several covariates)."
    ),
]
Size = Annotated[
    Literal["column", "page", "slide"] | None,
    typer.Option(
        help="Figure size: one column of a paper, its full text width, or a slide. Default: depends on --kind."
    ),
]
Recompute = Annotated[
    int,
    typer.Option(min=0, help="Recompute the states for this many answers in float32, and print the differences."),
]


@app.command(epilog="Example:  probemap show RUN --words")
def show(directory: flags.RunDirectory, words: Words = False) -> None:
    """Print the map, its best cells, the answer counts, and the reasons why answers were excluded."""
    run = open_run(directory)
    if words:
        _print_words(run)
    else:
        show_map(run)


def show_map(run: "Run") -> None:
    """Print the map of a run."""
    from probemap.views import terminal

    terminal.print_to(stdout, terminal.map_summary(run.read_map(say), run.read_judgements()))
    _print_audit(run)


def _print_words(run: "Run") -> None:
    from probemap.views import terminal
    from probemap.views.words import describe

    terminal.print_to(stdout, terminal.description_text(describe(run.read_map(say))))
    _print_audit(run)


def _print_audit(run: "Run") -> None:
    """Print the consequence of the audit, if there is one."""
    from probemap.runs.study_files import audit_summary
    from probemap.views.printable import printable

    for number, sentence in enumerate(audit_summary(run)):
        stdout.print(("" if number else "\n") + printable(sentence), markup=False, soft_wrap=True)


@app.command("describe", hidden=True)
def _describe(directory: flags.RunDirectory) -> None:
    """Former name of `probemap show --words`."""
    _print_words(open_run(directory))


@app.command(epilog="Example:  probemap plot RUN --value gain --out figure.pdf")
def plot(
    directories: flags.RunDirectories,
    kind: Kind = "map",
    value: Value = "auc",
    positions: Annotated[
        str | None, typer.Option(help="Columns to draw, in the given order, e.g. last_q,-8..-1.")
    ] = None,
    size: Size = None,
    cmap: Annotated[str | None, typer.Option(help="Name of a matplotlib colour map. Default: Blues.")] = None,
    out: Annotated[Path | None, typer.Option(help="File to write: .png, .svg or .pdf.")] = None,
) -> None:
    """Draw maps, the difference between two maps, or curves.

    Writes RUN/map.png and RUN/map.svg (RUN/map-VALUE.png and .svg if VALUE is not auc), or the file given with --out.
    """
    from probemap.runs.options import PlotOptions
    from probemap.runs.steps.plot import plot as draw

    options = PlotOptions(kind=kind, value=value, positions=positions, size=size, cmap=cmap)
    with console_logger() as logger:
        for path in draw([open_run(directory) for directory in directories], options, out=out, logger=logger):
            stdout.print(str(path), markup=False, soft_wrap=True)


@app.command(epilog="Example:  probemap report RUN")
def report(
    directories: flags.RunDirectories,
    out: Annotated[Path | None, typer.Option(help="File to write, ending in .html.")] = None,
) -> None:
    """Write a self-contained HTML page that shows maps, cells, answers and tokens.

    Writes RUN/report.html, or the file given with --out.  If several runs are given, the page compares them.
    """
    from probemap.runs.steps.report import report as write

    with console_logger() as logger:
        path = write([open_run(directory) for directory in directories], out=out, logger=logger)
    stdout.print(str(path), markup=False, soft_wrap=True)


@app.command(epilog="Example:  probemap inspect RUN city-Vienna")
def inspect(
    directory: flags.RunDirectory,
    name: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Id of the question. Default: the first question.")
    ] = None,
) -> None:
    """Print one answer token by token, with the position names below the tokens."""
    from probemap.views import terminal, tokens

    example, answer, judgement = open_run(directory).one_answer(name)
    width = shutil.get_terminal_size((100, 24)).columns
    terminal.print_to(stdout, tokens.inspect_answer(example, answer, judgement, width=width))


@app.command("list", epilog="Example:  probemap list positions")
def list_(
    what: Annotated[
        Literal["tasks", "positions", "all"], typer.Argument(metavar="[tasks|positions]", help="Default: both.")
    ] = "all",
) -> None:
    """List the tasks and the token positions that can be selected by name."""
    if what in ("tasks", "all"):
        _print_tasks()
    if what in ("positions", "all"):
        _print_positions()


@app.command("tasks", hidden=True)
def _tasks() -> None:
    """Former name of `probemap list tasks`."""
    _print_tasks()


@app.command("positions", hidden=True)
def _positions() -> None:
    """Former name of `probemap list positions`."""
    _print_positions()


def _print_tasks() -> None:
    from probemap.tasks.builtin import TASKS
    from probemap.tasks.published import PUBLISHED

    for name, builtin in TASKS.items():
        task = builtin.load()
        stdout.print(f"{name:<17} {len(task.examples):>4} questions  {builtin.description}", soft_wrap=True)
    for name, published in PUBLISHED.items():
        source = "file only" if published.hub is None else published.hub.repository
        stdout.print(f"{name:<17} {published.description}  ({source}; {published.task.source})", soft_wrap=True)


def _print_positions() -> None:
    from probemap.positions import POSITIONS

    for name, position in POSITIONS.items():
        stdout.print(f"{name:<26} {position.description}", soft_wrap=True)
    from_end = "counted from the last token of the answer; missing if the token would be in the prompt"
    stdout.print(f"{'-1, -2, …':<26} {from_end}", soft_wrap=True)


@app.command(epilog="Example:  probemap verify RUN --repair")
def verify(
    directory: flags.RunDirectory,
    repair: Annotated[bool, typer.Option("--repair", help="Capture the damaged shards again, but no others.")] = False,
    recompute: Recompute = 0,
    seed: flags.Seed = 0,
    device: flags.Device = "auto",
) -> None:
    """Check the stored states against their checksums.

    The exit status is 1 if states are damaged and not repaired.
    """
    from probemap.runs.steps.capture import recapture
    from probemap.runs.verify import verify as compare

    run = open_run(directory)
    if repair:
        with console_logger() as logger:
            faults = recapture(run, _context(logger, device))
    else:
        faults = compare(run)
    stdout.print(_fault_text(faults, repair), markup=False, soft_wrap=True)
    if faults and not repair:
        sys.exit(1)
    if recompute:
        _recompute(run, recompute, seed, device)


@app.command("check", hidden=True)
def _check(
    directory: flags.RunDirectory,
    n: Annotated[int, typer.Option("--n", min=1)] = 16,
    seed: flags.Seed = 0,
    device: flags.Device = "auto",
) -> None:
    """Former name of `probemap verify --recompute N`."""
    _recompute(open_run(directory), n, seed, device)


def _recompute(run: "Run", n: int, seed: int, device: str) -> None:
    from probemap.runs.verify import recompute

    with console_logger() as logger:
        result = recompute(run, n=n, seed=seed, context=_context(logger, device))
    stdout.print(_recomputation_text(result), markup=False, soft_wrap=True)


def _context(logger: "Logger", device: str) -> "Context":
    from probemap.runs.plan import Context

    return Context(logger=logger, device=device)


def _fault_text(faults: Mapping[int, str], repaired: bool) -> str:
    if not faults:
        return "all stored states match their checksums"
    lines = [f"shard {shard}: {fault}" for shard, fault in sorted(faults.items())]
    end = "all captured again; the damaged files were moved to `aside`" if repaired else "--repair captures them again"
    return "\n".join([*lines, end])


def _recomputation_text(result: "Recomputation") -> str:
    return (
        f"{result.n} answers captured again, one at a time in float32: the states differ by {result.median:.1e} of "
        f"their norm (median), and by at most {result.maximum:.1e} ({result.answer}, layer {result.layer}, "
        f"{result.position})"
    )
