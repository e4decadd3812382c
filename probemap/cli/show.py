"""The verbs that look: at a map, an answer, what was captured, and what there is to choose from."""

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from probemap.cli import flags
from probemap.cli.console import console_logger, opened, say, stdout

if TYPE_CHECKING:  # --help answers in a blink
    from probemap.runs.run import Run
    from probemap.runs.verify import Parity

app = typer.Typer()


@app.command(epilog="Example:  probemap show RUN")
def show(folder: flags.RunFolder) -> None:
    """The map in the terminal: cells, best cells, counts, what was left out and why."""
    show_map(opened(folder))


def show_map(run: "Run") -> None:
    from probemap.runs import integrity as contents
    from probemap.views import terminal

    probe_map = contents.read_map(run, say)
    terminal.print_to(stdout, terminal.show(probe_map, run.judgements()))


@app.command(epilog="Example:  probemap describe RUN")
def describe(folder: flags.RunFolder) -> None:
    """The map in words: its values at every second layer, and what can be said of them, each with its numbers."""
    from probemap.runs import integrity as contents
    from probemap.views import terminal
    from probemap.views.words import describe as in_words

    terminal.print_to(stdout, terminal.description_text(in_words(contents.read_map(opened(folder), say))))


@app.command(epilog="Example:  probemap plot RUN --value gain --out figure.pdf")
def plot(
    folders: Annotated[
        list[Path], typer.Argument(metavar="RUN…", help="Run folders; maps of several share one scale.")
    ],
    kind: flags.Kind = "map",
    value: flags.Value = "auc",
    positions: flags.Columns = None,
    size: flags.PrintSize = None,
    cmap: Annotated[str | None, typer.Option(help="A matplotlib colour map; default: blues.")] = None,
    out: Annotated[Path | None, typer.Option(help="A .png, .svg or .pdf.")] = None,
) -> None:
    """The picture; writes RUN/map.png and RUN/map.svg (other values: RUN/map-VALUE.png), or the file you name."""
    from probemap.runs.steps import plot as drawing

    with console_logger() as logger:
        wanted = drawing.Drawing(kind, value, positions, size, cmap)
        for path in drawing.plot([opened(folder) for folder in folders], wanted, out=out, logger=logger):
            stdout.print(str(path), markup=False, soft_wrap=True)


@app.command(epilog="Example:  probemap report RUN")
def report(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN…", help="Run folders; several are compared.")],
    out: Annotated[Path | None, typer.Option(help="An .html file.")] = None,
) -> None:
    """One page that opens anywhere: maps, cells, answers, tokens.  Writes RUN/report.html, or the file you name."""
    from probemap.runs.steps import report as reporting

    with console_logger() as logger:
        path = reporting.report([opened(folder) for folder in folders], out=out, logger=logger)
    stdout.print(str(path), markup=False, soft_wrap=True)


@app.command(epilog="Example:  probemap inspect RUN city-Vienna")
def inspect(
    folder: flags.RunFolder,
    id_: Annotated[str | None, typer.Argument(metavar="[ID]", help="Default: the first.")] = None,
) -> None:
    """One answer, token by token, with the position names under the tokens."""
    from probemap.runs import integrity as contents
    from probemap.views import terminal

    example, said, judgement = contents.one_answer(opened(folder), id_)
    width = shutil.get_terminal_size((100, 24)).columns
    terminal.print_to(stdout, terminal.inspect(example, said, judgement, width=width))


@app.command(epilog="Example:  probemap tasks")
def tasks() -> None:
    """The built-in tasks, and the published data sets that are known by name."""
    from probemap.tasks.builtin import TASKS
    from probemap.tasks.published import PUBLISHED

    for name, builtin in TASKS.items():
        task = builtin.load()
        stdout.print(f"{name:<17} {len(task.examples):>4} questions  {builtin.description}", soft_wrap=True)
    for name, published in PUBLISHED.items():
        where = "file only" if published.hub is None else published.hub.repository
        stdout.print(f"{name:<17} {published.description}  ({where}; {published.task.source})", soft_wrap=True)


@app.command(epilog="Example:  probemap positions")
def positions() -> None:
    """The named token positions."""
    from probemap.positions import POSITIONS

    for name, position in POSITIONS.items():
        stdout.print(f"{name:<26} {position.description}", soft_wrap=True)
    last = "counted from the answer's last token; missing if it lies in the prompt"
    stdout.print(f"{'-1, -2, …':<26} {last}", soft_wrap=True)


@app.command(epilog="Example:  probemap verify RUN --repair")
def verify(
    folder: flags.RunFolder,
    repair: Annotated[bool, typer.Option("--repair", help="Capture broken shards again, and nothing else.")] = False,
    device: flags.Device = "auto",
) -> None:
    """Are the captured states what was written, bit by bit?  Exit status 1 if they are not, and stay so."""
    from probemap.runs import verify as checking

    with console_logger() as logger:
        found = checking.verify(opened(folder), repair=repair, device=device, logger=logger)
    stdout.print(_faults(found, repair), markup=False, soft_wrap=True)
    if found and not repair:
        sys.exit(1)


@app.command(epilog="Example:  probemap check RUN --n 32")
def check(
    folder: flags.RunFolder,
    n: Annotated[int, typer.Option("--n", min=1, help="Answers, drawn by --seed.")] = 16,
    seed: flags.Seed = 0,
    device: flags.Device = "auto",
) -> None:
    """Do captured states depend on the batch?  A few answers again, each alone and in float32, and the difference."""
    from probemap.runs import verify as checking

    with console_logger() as logger:
        found = checking.check(opened(folder), n=n, seed=seed, device=device, logger=logger)
    stdout.print(_parity(found), markup=False, soft_wrap=True)


def _faults(found: Mapping[int, str], repaired: bool) -> str:
    """Which shards of states are not what was written, and what was done about it."""
    if not found:
        return "the states are what was written, bit by bit"
    lines = [f"shard {shard}: {what}" for shard, what in sorted(found.items())]
    end = "all captured again; what was broken lies in `aside`" if repaired else "--repair captures them again"
    return "\n".join([*lines, end])


def _parity(found: "Parity") -> str:
    """How far captured states are from those of a pass of their own."""
    return (
        f"{found.n} answers, each alone and in float32: states differ by {found.typical:.1e} of their norm (median), "
        f"at most {found.largest:.1e} ({found.answer}, layer {found.layer}, {found.position})"
    )
