"""The verbs of the paper's other questions, on a run folder each."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from probemap.cli import flags
from probemap.cli.console import console_logger, opened, stdout

if TYPE_CHECKING:  # --help answers in a blink
    from probemap.runs.options import Studying
    from probemap.tables import Table

app = typer.Typer()

_WIDE = 300
"""Characters of a table's row where nobody looks at it in a terminal."""


@app.command(epilog="Example:  probemap resample RUN --k 30 --temperature 1")
def resample(
    folder: flags.RunFolder,
    k: Annotated[int, typer.Option("--k", min=2, help="How often each question is asked.")] = 30,
    temperature: Annotated[float, typer.Option(min=0.01, help="Above 0: the answers must differ.")] = 1.0,
    seed: flags.Seed = 0,
    batch_size: flags.BatchSize = 32,
    batch_tokens: flags.BatchTokens = None,
    device: flags.Device = "auto",
    redo: flags.Redo = False,
) -> None:
    """Every question asked again and again, for errors, choose and semantic entropy; writes RUN/resamples.jsonl."""
    from probemap.runs import integrity as contents
    from probemap.runs.options import Resampling
    from probemap.runs.steps import resample as resampling

    made = opened(folder)
    with console_logger() as logger:
        options = Resampling(k, temperature, seed, batch_size, batch_tokens)
        resampling.resample(made, options, loader=contents.loader_of(made, device), redo=redo, logger=logger)


@app.command(epilog="Example:  probemap errors RUN")
def errors(
    folder: flags.RunFolder,
    folds: flags.Folds = 5,
    c: flags.C = "1",
    seed: flags.Seed = 0,
    redo: flags.Redo = False,
) -> None:
    """Which kinds of errors there are, and can it be read from the states which one?  Needs `probemap resample`."""
    from probemap.runs.steps import studies as studying

    with console_logger() as logger:
        made = studying.errors(opened(folder), _studying(folds, c, seed), redo=redo, logger=logger)
    _show(made)


@app.command(epilog="Example:  probemap choose RUN")
def choose(
    folder: flags.RunFolder,
    folds: flags.Folds = 5,
    c: flags.C = "1",
    seed: flags.Seed = 0,
    batch_size: flags.BatchSize = 32,
    redo: flags.Redo = False,
) -> None:
    """Can the probe pick the better one of several answers?  Against greedy, random, majority; needs `resample`."""
    from probemap.runs.steps import choose as choosing

    with console_logger() as logger:
        made = choosing.choose(opened(folder), _studying(folds, c, seed, batch_size), redo=redo, logger=logger)
    _show(made)


@app.command(epilog="Example:  probemap baselines RUN")
def baselines(folder: flags.RunFolder, redo: flags.Redo = False) -> None:
    """All that tells right from wrong answers, on the same answers, in one order: log-probabilities to probes."""
    from probemap.runs.steps import studies as studying

    with console_logger() as logger:
        made = studying.baselines(opened(folder), redo=redo, logger=logger)
    _show(made)


@app.command(epilog="Example:  probemap transfer CITIES CAPITALS ARITHMETIC")
def transfer(
    folders: Annotated[
        list[Path], typer.Argument(metavar="RUN…", help="Run folders of one model; the first one holds the result.")
    ],
    redo: flags.Redo = False,
) -> None:
    """Does a probe of one run tell right from wrong answers in the others?  Writes transfer.png into the first run."""
    from probemap.runs.steps import transfer as transferring

    with console_logger() as logger:
        made = transferring.transfer([opened(folder) for folder in folders], redo=redo, logger=logger)
    _show(made)


def _studying(folds: int, c: str, seed: int, batch_size: int = 32) -> "Studying":
    from probemap.runs.options import Studying

    return Studying(folds, c, seed, batch_size)


def _show(table: "Table") -> None:
    from rich.console import Console

    from probemap.views import terminal
    from probemap.views.printable import printable

    # A file has no width: there every row is one line.
    out = stdout if stdout.is_terminal else Console(file=stdout.file, width=_WIDE, highlight=False)
    out.print(terminal.table_text(table), markup=False)
    for line in table.words:
        stdout.print(printable(line), markup=False, soft_wrap=True)
