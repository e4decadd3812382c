"""Convert user-supplied labels, groups, masks and names to Python lists or NumPy arrays.

Every public function that takes one value per answer uses this module to convert its arguments once.  Lists, tuples,
NumPy and torch arrays, pandas, polars and Arrow columns, and any object with ``__array__`` are accepted.  A pandas
index is ignored: value i belongs to answer i, no matter how the table was sorted or filtered.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from probemap.records import MapError, Verdict

Labels = Sequence[bool | None] | Sequence[Verdict] | npt.ArrayLike
"""One label per answer: True, False or None; see `parse_labels`."""

Column = Sequence[Any] | npt.ArrayLike
"""One value per answer, position or layer, in any container that `elements` accepts."""

_TO_LIST = ("tolist", "to_list", "to_pylist")
"""Methods that return a list of Python values: ``tolist`` in NumPy, pandas and torch, ``to_list`` in polars, and
``to_pylist`` in Arrow."""


def elements(values: Any, name: str) -> list[Any]:
    """Return the elements of a one-dimensional container as Python values, in the same order.

    Parameters
    ----------
    values : array-like of shape (n,)
    name : str
        Name of the argument, which is used in error messages.

    Raises
    ------
    MapError
        If `values` is a string, a mapping, a set or a single value, or has more than one dimension.
    """
    if isinstance(values, str | bytes | Mapping | Set):
        raise MapError(
            f"{name} is a {type(values).__name__}, not a sequence of values",
            f"pass {name} as a list, an array or a column of a table",
        )
    if getattr(values, "ndim", 1) != 1:
        raise MapError(
            f"{name} has shape {tuple(values.shape)}, but must be one-dimensional",
            f"pass {name} as a list or a one-dimensional array",
        )
    for method in _TO_LIST:
        if hasattr(values, method):
            values = getattr(values, method)()
            break
    else:
        if hasattr(values, "__array__"):
            values = np.asarray(values).tolist()
    if not isinstance(values, Iterable):
        raise MapError(
            f"{name} is a {type(values).__name__}, not a sequence of values",
            f"pass {name} as a list, an array or a column of a table",
        )
    # NumPy scalars and zero-dimensional tensors in a list or an object array are converted to Python values.
    return [value.item() if getattr(value, "ndim", None) == 0 else value for value in values]


def parse_labels(correct: Any, n: int) -> list[bool | None]:
    """Return one label per answer: True (correct), False (incorrect) or None (undecided).

    Parameters
    ----------
    correct : array-like of shape (n,)
        True or 1 for correct answers, False or 0 for incorrect answers, and None, NaN or ``pandas.NA`` for undecided
        answers.  A `Verdict` stands for the value of its ``correct`` attribute.
    n : int
        Number of answers.

    Raises
    ------
    MapError
        If there is not one label per answer, or if a label has an invalid type or value.
    """
    values = elements(correct, "correct")
    if len(values) != n:
        raise MapError(
            f"got {len(values)} labels for {n} answers", "pass one label per answer, in the order of the answers"
        )
    return [_label(value, row) for row, value in enumerate(values)]


def _label(value: Any, row: int) -> bool | None:
    if isinstance(value, Verdict):
        value = value.correct
    if _is_missing(value):
        return None
    if isinstance(value, bool) or (isinstance(value, Real) and value in (0, 1)):
        return bool(value)
    raise MapError(
        f"label {row} is {value!r} ({type(value).__name__}), which is not a valid label",
        "pass True or False (or 1 or 0), or None, NaN or pandas.NA for an undecided answer",
    )


def parse_groups(groups: Any, n: int) -> list[str]:
    """Return the group name of each answer.

    Parameters
    ----------
    groups : array-like of shape (n,)
    n : int
        Number of answers.

    Raises
    ------
    MapError
        If there is not one group per answer, or if a group is missing.
    """
    values = elements(groups, "groups")
    if len(values) != n:
        raise MapError(f"got {len(values)} groups for {n} answers", "pass one group per answer, e.g. its question")
    if missing := [row for row, value in enumerate(values) if _is_missing(value)]:
        raise MapError(f"answer {missing[0]} has no group", "pass a group for every answer, e.g. its question")
    return [str(value) for value in values]


def parse_identities(identities: Any, n: int) -> list[str | None]:
    """Return the identity of each answer, or None if it has none.

    Parameters
    ----------
    identities : array-like of shape (n,)
    n : int
        Number of answers.

    Raises
    ------
    MapError
        If there is not one identity per answer.
    """
    values = elements(identities, "identities")
    if len(values) != n:
        raise MapError(f"got {len(values)} identities for {n} answers", "pass one identity or None per answer")
    return [None if _is_missing(value) else str(value) for value in values]


def parse_names(names: Any, n: int, name: str) -> list[str]:
    """Return one unique name per answer.

    Parameters
    ----------
    names : array-like of shape (n,)
    n : int
        Number of answers.
    name : str
        Name of the argument, which is used in error messages.

    Raises
    ------
    MapError
        If there is not one name per answer, or if a name occurs more than once.
    """
    values = [str(value) for value in elements(names, name)]
    if len(values) != n:
        raise MapError(f"got {len(values)} {name} for {n} answers", "pass one name per answer")
    if len(set(values)) < n:
        (duplicate, _), *_ = Counter(values).most_common(1)
        raise MapError(f"{duplicate!r} occurs more than once in {name}", "pass a unique name for each answer")
    return values


def parse_mask(mask: Any, shape: tuple[int, ...], name: str) -> npt.NDArray[np.bool_]:
    """Convert a mask to a boolean array, after checking its shape and type.

    Parameters
    ----------
    mask : array-like of bool
    shape : tuple of int
        The expected shape.
    name : str
        Name of the argument, which is used in error messages.

    Raises
    ------
    MapError
        If the mask has the wrong shape, is not boolean, or contains a missing value.
    """
    array = np.asarray(mask.detach().cpu() if hasattr(mask, "detach") else mask)
    if array.dtype == object and all(isinstance(value, bool | np.bool_) for value in array.flat):
        array = array.astype(bool)  # a nullable column without missing values
    if array.shape != shape or array.dtype != bool:
        raise MapError(
            f"{name} has shape {array.shape} and type {array.dtype}, but must be boolean with the shape {shape}",
            f"pass True and False values in an array of shape {shape}",
        )
    return np.array(array, np.bool_)


def parse_values(values: Any, name: str) -> npt.NDArray[np.float64] | list[str | None]:
    """Convert numbers to a float64 array with NaN for missing values, or texts to a list with None for missing texts.

    Parameters
    ----------
    values : array-like of shape (n,)
        Numbers or texts.  A list that contains only None is treated as a list of missing texts.
    name : str
        Name of the argument, which is used in error messages.

    Raises
    ------
    MapError
        If the values are neither all numbers nor all strings.
    """
    if isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype.kind in "fiub":
        return values.astype(np.float64, copy=False)
    items = elements(values, name)
    present = [value for value in items if not _is_missing(value)]
    if present and all(isinstance(value, str) for value in present):
        return [None if _is_missing(value) else value for value in items]
    if not all(isinstance(value, Real) for value in present):
        strange = next(value for value in present if not isinstance(value, Real))
        raise MapError(f"{name} contains {strange!r}, which is not a number", "pass either only numbers or only texts")
    if not present and isinstance(values, list) and values and values[0] is None:
        return [None] * len(items)
    return np.array([np.nan if _is_missing(value) else float(value) for value in items], np.float64)


def parse_vectors(vectors: Any, name: str) -> npt.NDArray[np.float32]:
    """Convert one vector per answer to a float32 array of shape (n, d).

    Parameters
    ----------
    vectors : array-like of shape (n, d)
    name : str
        Name of the argument, which is used in error messages.

    Raises
    ------
    MapError
        If the vectors contain values that are not numbers.
    """
    array = np.asarray(vectors.detach().cpu() if hasattr(vectors, "detach") else vectors)
    if array.dtype.kind not in "fiub":
        raise MapError(f"{name} contains values of type {array.dtype}, not numbers", "pass numbers of shape (n, d)")
    return array.astype(np.float32, copy=False)


def _is_missing(value: Any) -> bool:
    """Return whether a value is None, NaN, ``pandas.NA`` or ``pandas.NaT``."""
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and value != value)
