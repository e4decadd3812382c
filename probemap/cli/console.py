"""Output of the command-line interface: results go to stdout, and messages and progress bars go to stderr."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:  # keeps --help fast
    from probemap.logger import Logger
    from probemap.runs.run import Run
    from probemap.tables import Table

_WIDE = 300
"""Width of a table in characters when the output is not a terminal."""

stdout = Console(highlight=False)
stderr = Console(stderr=True, highlight=False)


@contextmanager
def console_logger() -> "Iterator[Logger]":
    """Provide a logger that prints messages and progress bars to stderr."""
    from probemap.logger import Logger

    columns = (TextColumn("{task.description:<13}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=stderr) as bar:
        rows: dict[str, TaskID] = {}

        def progress(what: str, done: int, total: int) -> None:
            if what not in rows:
                rows[what] = bar.add_task(what, total=total)
            bar.update(rows[what], completed=done)

        yield Logger(say, progress)


def say(text: str) -> None:
    """Print a message to stderr, with control characters escaped."""
    from probemap.views.printable import printable

    for line in text.split("\n"):
        stderr.print(printable(line), markup=False, soft_wrap=True)


def open_run(directory: Path) -> "Run":
    """Open an existing run directory."""
    from probemap.runs.run import Run

    return Run.open(directory)


def print_table(table: "Table") -> None:
    """Print the result table of a study, followed by its summary."""
    from probemap.views import terminal
    from probemap.views.printable import printable

    # In a file, every row of the table is written on a single line.
    out = stdout if stdout.is_terminal else Console(file=stdout.file, width=_WIDE, highlight=False)
    out.print(terminal.table_text(table), markup=False)
    for line in table.words:
        stdout.print(printable(line), markup=False, soft_wrap=True)


def print_verdicts(run: "Run") -> None:
    """Print the verdicts of a run by reason and rule, each with examples."""
    from probemap.views import terminal
    from probemap.views.verdicts import explain_verdicts

    graded = run.graded
    terminal.print_to(stdout, explain_verdicts(graded.task.examples, graded.answers, graded.judgements))
