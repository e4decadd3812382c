"""Read the further fields of a question file, such as a popularity or a relation, as numbers and texts.

These fields do not change the prompt.  They serve as groups for cross-validation (`probemap map --group-by`) and as
covariates (`probemap map --covariate`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from numbers import Number
from typing import Any

from probemap.records import DataError, Example, Metadata
from probemap.tasks.cells import EMPTY

_NUMBER = re.compile(r"[+-]?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")
"""A number in a CSV file.  A text with a leading zero, such as 007, is a code, whose zeros must be kept."""

_MAX_EXACT = 2**53
"""Integers up to this one are exact in float64.  Larger ones are ids, which must not be rounded."""


def parse_metadata(rows: Sequence[Mapping[str, Any]], *, numbers_as_text: bool = False) -> list[Metadata]:
    """Return the scalar fields of each row, in the order of the columns.

    The type of a column is the same in all rows.  A column is numeric if all of its values are numbers.  Otherwise, its
    values are texts: numbers are written without unnecessary digits, and truth values as ``true`` and ``false``.

    Parameters
    ----------
    rows : sequence of mapping
        The fields to keep.  Lists and objects are left out, as are missing values: None, blank texts, and numbers that
        are not finite.
    numbers_as_text : bool
        Whether the file format has no numbers, like CSV.  A column is then numeric if all of its values can be read as
        numbers, where cells such as ``NaN`` and ``null`` are missing.

    Returns
    -------
    list of tuple of (str, str or float)
        For each row, the names and values of its fields.

    Examples
    --------
    >>> from probemap.tasks.metadata import parse_metadata
    >>> parse_metadata([{"popularity": "12", "code": "007"}, {"popularity": "", "code": "12"}], numbers_as_text=True)
    [(('popularity', 12.0), ('code', '007')), (('code', '12'),)]
    """
    names = list(dict.fromkeys(name for row in rows for name in row if name))
    columns = {name: _parse_column([row.get(name) for row in rows], numbers_as_text) for name in names}
    return [
        tuple((name, value) for name, column in columns.items() if (value := column[k]) is not None)
        for k in range(len(rows))
    ]


def field_values(examples: Sequence[Example], name: str) -> list[float | None] | list[str | None]:
    """Return the value of a field for each question, with None where it is missing.

    Parameters
    ----------
    examples : sequence of Example
    name : str
        Name of the field, regardless of case.

    Returns
    -------
    list
        Either numbers or texts.

    Raises
    ------
    DataError
        If no question has the field.

    Examples
    --------
    >>> from probemap import Example
    >>> from probemap.tasks.metadata import field_values
    >>> lima = Example("lima", "Of which country is Lima the capital?", ("Peru",), metadata=(("popularity", 8.0),))
    >>> field_values([lima], "popularity")
    [8.0]
    """
    key = name.strip().lower()
    values: list[Any] = [dict(example.metadata).get(key) for example in examples]
    if all(value is None for value in values):
        names = sorted({field for example in examples for field, _ in example.metadata})
        listed = f"their fields are {', '.join(names)}" if names else "they have no further fields"
        raise DataError(
            f"the questions have no field {name!r}; {listed}",
            "use a field that has a text, a number or a truth value in every row of the question file; `probemap "
            "answer` reads the fields, so a new field requires a new run directory",
        )
    if not all(isinstance(value, float | None) for value in values):
        values = [None if value is None else _as_text(value) for value in values]
    return values


def _parse_column(values: Sequence[Any], numbers_as_text: bool) -> list[float | None] | list[str | None]:
    scalars = [_scalar(value) for value in values]
    numbers = [_as_number(value, numbers_as_text) for value in scalars]
    is_missing = [
        value is None or (numbers_as_text and isinstance(value, str) and value.lower() in EMPTY) for value in scalars
    ]
    if all(number is not None or missing for number, missing in zip(numbers, is_missing, strict=True)):
        return numbers
    return [None if value is None else _as_text(value) for value in scalars]


def _scalar(value: Any) -> str | bool | float | None:
    """Return a text, a truth value or a finite number, or None for any other value."""
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, bool | int):
        return value
    if isinstance(value, Number) and not isinstance(value, complex):
        number = float(value)  # type: ignore[arg-type]
        return number if math.isfinite(number) else None
    return None


def _as_number(value: str | bool | float | None, from_text: bool) -> float | None:
    if isinstance(value, str):
        if not from_text or not _NUMBER.fullmatch(value):
            return None
        value = float(value) if re.search(r"[.eE]", value) else int(value)
    if value is None or isinstance(value, bool) or (isinstance(value, int) and abs(value) > _MAX_EXACT):
        return None
    return float(value) if math.isfinite(value) else None


def _as_text(value: str | bool | float) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
