"""Compare answers only with answers that have a similar value of a covariate.

A probe can reach a high AUC by reading a property of the question that predicts correctness, e.g. how popular its
subject is.  If only answers with similar values of this property are compared, the property contributes little to the
AUC.  Five groups of equal size remove about 90 % of the bias that a linear covariate causes (Cochran 1968, Biometrics
24:295).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.stats import rankdata

from probemap.probing.auc import MIN_PER_CLASS, Bools, Floats, Ints
from probemap.probing.cells import CELL_DIMS, cell_aucs, evaluated_rows
from probemap.probing.dataset import auc_table
from probemap.probing.inference import sum_by_group
from probemap.probing.inputs import Column, elements, parse_values
from probemap.records import MapError

if TYPE_CHECKING:
    from probemap.maps.probe_map import ProbeMap

N_QUANTILES = 5
"""Maximum number of groups into which a numeric covariate is divided."""

NOT_COMPARED = -1
"""Stratum of an answer that is not compared with any other answer."""

_VARIABLES = ("auc_within", "auc_within_low", "auc_within_high", "auc_within_band_low", "auc_within_band_high")


def with_strata(probe_map: ProbeMap, name: str, values: Column, ids: Column) -> ProbeMap:
    """Add the AUCs within strata of a covariate to a map.

    Only answers in the same stratum and in the same fold are compared, as correct with incorrect answers.  Answers
    without a value are not compared.  The probes are those of the map; they are not fitted again.

    Parameters
    ----------
    probe_map : ProbeMap
    name : str
        Name of the covariate.  If the map already has a covariate of this name, it is replaced.
    values : array-like of shape (n,)
        Numbers, which are divided into up to five groups of equal size, or texts, each of which is a stratum.  None and
        NaN stand for missing values.
    ids : array-like of shape (n,)
        Ids of the answers, in the same order as the values.  This order may differ from the order in the map.

    Returns
    -------
    ProbeMap
        The map with the additional variables ``auc_within``, ``auc_within_low``, ``auc_within_high``,
        ``auc_within_band_low`` and ``auc_within_band_high``; see ``ProbeMap.data``.

    Raises
    ------
    MapError
        If an answer in the map is not in `ids`, or if there is not one value per id.

    Examples
    --------
    The states encode only a covariate that predicts correctness, not correctness itself:

    >>> import numpy as np
    >>> import probemap
    >>> rng = np.random.default_rng(0)
    >>> popularity = rng.normal(size=1000)
    >>> correct = popularity + rng.normal(size=1000) > 0
    >>> states = rng.normal(size=(1000, 1, 1, 8)).astype(np.float32)
    >>> states[:, 0, 0, 0] += 3 * popularity
    >>> ids = [f"q{i}" for i in range(1000)]
    >>> probe_map = probemap.fit_map(states, correct, positions=["last_q"], ids=ids)
    >>> within = probemap.with_strata(probe_map, "popularity", popularity, ids)
    >>> bool(within.auc[0, 0] > 0.75), bool(within.data["auc_within"][0, 0, 0] < 0.6)
    (True, True)
    """
    data = probe_map.data
    strata = strata_of(_values_of_answers(data, name, values, ids), name)
    grids = _grids(data, strata)
    n_strata = len(np.unique(strata[strata != NOT_COMPARED]))
    names, arrays, counts = [name], [grids], [n_strata]
    if "auc_within" in data:
        previous = [str(covariate) for covariate in data["covariate"].values if str(covariate) != name]
        kept = data.sel(covariate=previous)
        names = [*previous, name]
        arrays = [*np.stack([kept[variable].values for variable in _VARIABLES], axis=1), grids]
        counts = [*kept["n_strata"].values.tolist(), n_strata]
    variables: dict[str, Any] = {
        variable: (("covariate", *CELL_DIMS), np.stack([array[k] for array in arrays]))
        for k, variable in enumerate(_VARIABLES)
    }
    variables["n_strata"] = (("covariate",), np.array(counts, np.int32))
    extended = data.drop_dims("covariate", errors="ignore").assign(variables)
    return replace(probe_map, data=extended.assign_coords(covariate=np.array(names, object)))


def within_strata(data: xr.Dataset, strata: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Return the AUCs of all cells within strata, averaged over repeats, and the influence of each answer.

    Only answers in the same stratum and in the same fold are compared.

    Parameters
    ----------
    data : xarray.Dataset
        The data set of a map; see `probing.cell_map.CellMap`.
    strata : array-like of shape (n,) or (n, n_positions), int
        Stratum of each answer in the map or, in two dimensions, of each answer in each column.  `NOT_COMPARED` excludes
        an answer.

    Returns
    -------
    value : ndarray of shape (n_cells,), float64
        The AUCs, with the cells in the order of ``data["auc"].values.ravel()``.  NaN for cells without an AUC in the
        map, and for columns in which fewer than `auc.MIN_PER_CLASS` correct or incorrect answers can be compared.
    influence : ndarray of shape (n, n_cells), float64
        The influences, as returned by `cells.cell_aucs`, with 0 where `value` is NaN.

    Raises
    ------
    MapError
        If the strata do not match the answers and positions in the map.
    """
    columns = _parse_strata(data, strata)
    n_comparable = _count_comparable(data, columns)
    n, n_layers, n_positions = data["scores"].shape[1:]
    value, influence = np.full((n_layers, n_positions), np.nan), np.zeros((n, n_layers, n_positions))
    fold = data["fold"].values.astype(np.int64)
    for position in np.flatnonzero(n_comparable.min(axis=0) >= MIN_PER_CLASS):
        stratum = columns[:, position]
        column = data.isel(position=[position])
        # Pairs of a fold and a stratum take the place of the folds.
        column = column.assign(fold=(data["fold"].dims, _pairs(fold, stratum)))
        usable = np.repeat((stratum != NOT_COMPARED)[:, None, None], n_layers, axis=1)
        value[:, position], influence[:, :, position] = cell_aucs(column, usable)
    return value.ravel(), influence.reshape(n, -1)


def strata_of(values: Floats | list[str | None], name: str = "the covariate") -> Ints:
    """Return the stratum of each value: its text, or its group of about equally many similar numbers.

    Equal values are in the same stratum.  There are up to `N_QUANTILES` groups of numbers, and fewer if many numbers
    are equal.

    Parameters
    ----------
    values : ndarray of shape (n,), float64, or list of str or None
        Numbers with NaN for missing values, or texts with None for missing texts.
    name : str
        Name of the covariate, which is used in error messages.

    Returns
    -------
    ndarray of shape (n,), int64
        Numbers from 0, in the order of the values, and `NOT_COMPARED` where a value is missing.

    Raises
    ------
    MapError
        If a number is infinite.

    Examples
    --------
    >>> import numpy as np
    >>> from probemap.maps.strata import strata_of
    >>> strata_of(["spouse", None, "capital", "spouse"]).tolist()
    [1, -1, 0, 1]
    >>> strata_of(np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 3.0, 50.0, 7.0, np.nan])).tolist()
    [0, 0, 0, 0, 0, 0, 1, 3, 2, -1]
    """
    if isinstance(values, list):
        number_of = {text: k for k, text in enumerate(sorted({text for text in values if text is not None}))}
        return np.array([NOT_COMPARED if text is None else number_of[text] for text in values], np.int64)
    if np.isinf(values).any():
        raise MapError(f"{name} contains infinite values", "use NaN for missing values")
    strata = np.full(len(values), NOT_COMPARED, np.int64)
    present = ~np.isnan(values)
    distinct, groups = np.unique(values[present], return_inverse=True)
    if len(distinct) > N_QUANTILES:
        # Equal numbers have their mean rank, so that a number that is very common forms a group of its own.
        groups = np.floor((rankdata(values[present]) - 0.5) / present.sum() * N_QUANTILES)
    strata[present] = np.unique(groups, return_inverse=True)[1]
    return strata


def _grids(data: xr.Dataset, strata: Ints) -> Floats:
    """Return the `_VARIABLES` as an array of shape (5, n_layers, n_positions)."""
    value, influence = within_strata(data, strata)
    influence = sum_by_group(influence, data["group"].values.astype(np.int64))
    n_correct, n_incorrect = _count_comparable(data, _parse_strata(data, strata))
    table = auc_table(value, influence, n_correct + n_incorrect, n_correct, int(data.attrs["seed"]))
    return table.T.reshape(len(_VARIABLES), *data["auc"].shape)


def _parse_strata(data: xr.Dataset, strata: npt.ArrayLike) -> Ints:
    """Return the strata as an array of shape (n, n_positions)."""
    array = np.asarray(strata)
    n, n_positions = data["present"].shape
    if array.shape not in ((n,), (n, n_positions)) or array.dtype.kind not in "iu":
        raise MapError(
            f"the strata have the shape {array.shape} and the type {array.dtype}, but the map has {n} answers and "
            f"{n_positions} positions",
            "pass one integer per answer in the map, or one per answer and position",
        )
    array = array.astype(np.int64)
    return array if array.ndim == 2 else np.repeat(array[:, None], n_positions, axis=1)


def _pairs(fold: Ints, stratum: Ints) -> Ints:
    """Return a number for each pair of a fold and a stratum, as an array of shape (n_repeats, n)."""
    return np.asarray((fold - fold.min()) * (stratum.max() + 2) + stratum + 1, np.int64)


def _count_comparable(data: xr.Dataset, columns: Ints) -> Ints:
    """Return the number of correct and of incorrect answers that are compared with another answer.

    Parameters
    ----------
    data : xarray.Dataset
    columns : ndarray of shape (n, n_positions), int

    Returns
    -------
    ndarray of shape (2, n_positions), int64
        The lowest number of all repeats.
    """
    fold, correct = data["fold"].values.astype(np.int64), data["correct"].values.astype(bool)
    evaluated = evaluated_rows(data["scores"].values) & (columns != NOT_COMPARED)
    counts = np.zeros((2, columns.shape[1], len(fold)), np.int64)
    for position in range(columns.shape[1]):
        rows = evaluated[:, position]
        if rows.any():
            pairs = _pairs(fold, columns[:, position])[:, rows]
            counts[:, position] = np.transpose([_comparable(pair, correct[rows]) for pair in pairs])
    return np.asarray(counts.min(axis=2), np.int64)


def _comparable(stratum: Ints, correct: Bools) -> tuple[int, int]:
    """Return the number of correct and of incorrect answers in the strata that contain both."""
    number = np.unique(stratum, return_inverse=True)[1]
    n_correct, n_incorrect = (
        np.bincount(number[correct == side], minlength=number.max() + 1) for side in (True, False)
    )
    both = (n_correct > 0) & (n_incorrect > 0)
    return int(n_correct[both].sum()), int(n_incorrect[both].sum())


def _values_of_answers(data: xr.Dataset, name: str, values: Column, ids: Column) -> Floats | list[str | None]:
    """Return the value of each answer in the map."""
    parsed, names = parse_values(values, name), [str(id_) for id_ in elements(ids, "ids")]
    if len(parsed) != len(names):
        raise MapError(f"{name} has {len(parsed)} values for {len(names)} ids", "give one value per id")
    row_of = {id_: row for row, id_ in enumerate(names)}
    answers = [str(answer) for answer in data["answer"].values]
    if missing := [answer for answer in answers if answer not in row_of]:
        raise MapError(f"{name} has no value for the answer {missing[0]!r}", "give one value per answer in the map")
    rows = [row_of[answer] for answer in answers]
    return [parsed[row] for row in rows] if isinstance(parsed, list) else parsed[rows]
