"""The result of a study: a table, and sentences that summarise it.

A study computes typed rows (frozen dataclasses) and creates both the table and the sentences from them.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from probemap.records import RunError

Value = str | int | float | None


class Interval(NamedTuple):
    """An estimate with its 95 % confidence interval."""

    value: float
    low: float
    high: float

    @property
    def text(self) -> str:
        """The estimate and its interval as text, e.g. ``0.812 [0.750, 0.861]``."""
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    @property
    def signed_text(self) -> str:
        """The estimate and its interval with explicit signs, e.g. ``+0.031 [-0.004, +0.066]``."""
        return f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


NO_INTERVAL: tuple[None, None, None] = (None, None, None)
"""The values of the three table cells for an estimate and the ends of its interval, for use if there is no estimate."""


@dataclass(frozen=True)
class Table:
    """A table with a summary."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]
    """Rows with one value per column.  A value is None if there are too few answers for an estimate."""
    words: tuple[str, ...] = ()
    """Sentences that summarise the table."""
    details: tuple[str, ...] = ()
    """Names of columns that are left out where the table would be too wide, e.g. in the terminal."""

    def to_json(self) -> str:
        """Return the table as JSON, in the format that `read_table` reads."""
        return _TABLE.dump_json(self, indent=1).decode() + "\n"

    def to_csv(self) -> str:
        """Return the table as CSV.  Text that a spreadsheet would run as a formula is prefixed with an apostrophe."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([_without_formula(name) for name in self.columns])
        writer.writerows([[_without_formula(value) for value in row] for row in self.rows])
        return out.getvalue()


@dataclass(frozen=True, kw_only=True)
class PairMatrix:
    """Estimates for all pairs of n runs.  Rows are training runs, and columns are test runs.

    Each array has shape (3, n, n).  The entries along the first axis are the estimate and the lower and upper ends of
    its interval.  Values are NaN where a pair has no estimate.
    """

    names: tuple[str, ...]
    """Names of the runs."""
    auc: npt.NDArray[np.float64]
    folded: npt.NDArray[np.float64]
    """The folded AUC, which is max(AUC, 1 - AUC)."""
    gain: npt.NDArray[np.float64]
    """The AUC minus that of the log-probability baseline with the highest AUC in the training run."""


_TABLE = TypeAdapter(Table)
_INTERVAL_ENDS = ("low", "high", " from", " to")
"""Column name suffixes that mark the lower and upper ends of an interval."""


def read_table(path: Path) -> Table:
    """Read a table from the JSON file that a study wrote.

    Raises
    ------
    RunError
        If the file cannot be read or is damaged.
    """
    try:
        table = _TABLE.validate_json(path.read_bytes())
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror})") from None
    except ValidationError:
        table = None
    if table is None or any(len(row) != len(table.columns) for row in table.rows):
        raise RunError(f"{path} is damaged", "run the step again with --redo")
    return table


def formatted(value: Value) -> str:
    """Return a table value as text, with three decimals for floating-point numbers."""
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def compact(table: Table, *, details: bool = True) -> tuple[list[str], list[list[str]]]:
    """Format a table for display, with each estimate and its interval in one column.

    Parameters
    ----------
    table : Table
    details : bool, default=True
        Whether to include the columns in ``table.details``.

    Returns
    -------
    columns : list of str
        Names of the columns.
    rows : list of list of str
        The formatted values.
    """
    left_out = () if details else table.details
    starts = [k for k, name in enumerate(table.columns) if not name.endswith(_INTERVAL_ENDS) and name not in left_out]

    def cell(row: tuple[Value, ...], k: int) -> str:
        value = formatted(row[k])
        ends = [row[j] for j in (k + 1, k + 2) if j < len(row) and table.columns[j].endswith(_INTERVAL_ENDS)]
        return value if len(ends) < 2 or None in ends else f"{value} [{', '.join(map(formatted, ends))}]"

    return [table.columns[k] for k in starts], [[cell(row, k) for k in starts] for row in table.rows]


def enumerated(names: Sequence[str]) -> str:
    """Join the names into text such as ``a, b and c``."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _without_formula(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
