"""A study's result: a table, and what it says in words."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from probemap.records import RunError

Value = str | int | float | None


@dataclass(frozen=True)
class Table:
    """What a study found."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]
    """One value per column; None: too little to say."""
    words: tuple[str, ...] = ()
    """What can be said, each sentence with its numbers."""

    def to_json(self) -> str:
        return _TABLE.dump_json(self, indent=1).decode() + "\n"

    def to_csv(self) -> str:
        """For spreadsheets: a text that one would run begins with an apostrophe."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([_defused(name) for name in self.columns])
        writer.writerows([[_defused(value) for value in row] for row in self.rows])
        return out.getvalue()


_TABLE = TypeAdapter(Table)
_ENDS = ("low", "high", " from", " to")
"""What the columns of an interval's ends are called."""


def read_table(path: Path) -> Table:
    """A table that a study wrote as JSON.

    Raises
    ------
    RunError: it is not there, or damaged.
    """
    try:
        made = _TABLE.validate_json(path.read_bytes())
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror})") from None
    except ValidationError:
        made = None
    if made is None or any(len(row) != len(made.columns) for row in made.rows):
        raise RunError(f"{path} is damaged", "make it again with --redo")
    return made


def shown(value: Value) -> str:
    """A value as people read it: three digits behind the point."""
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def compact(table: Table) -> tuple[list[str], list[list[str]]]:
    """The table as people read it: a number and its interval, or its range, in one column.

    Returns
    -------
    The names of the columns, and the rows.
    """
    starts = [k for k, name in enumerate(table.columns) if not name.endswith(_ENDS)]

    def cell(row: tuple[Value, ...], k: int) -> str:
        value = shown(row[k])
        ends = [row[j] for j in (k + 1, k + 2) if j < len(row) and table.columns[j].endswith(_ENDS)]
        return value if len(ends) < 2 or None in ends else f"{value} [{', '.join(map(shown, ends))}]"

    return [table.columns[k] for k in starts], [[cell(row, k) for k in starts] for row in table.rows]


def ranged(value: float, low: float, high: float) -> str:
    """A number with its interval, in words."""
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def signed(value: float, low: float, high: float) -> str:
    """A difference with its interval, in words."""
    return f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"


def listed(names: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _defused(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
