"""Compute the differences between two maps, even if they are based on different models, tasks or answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from probemap.probing.cells import cell_aucs
from probemap.probing.inference import Estimate
from probemap.probing.metrics import CellValues, ValueKind, percentile_limits
from probemap.records import MapError

if TYPE_CHECKING:
    from probemap.probing.auc import Ints
    from probemap.probing.cell_map import CellMap

_KIND = ValueKind(label="difference of AUCs", signed=True)


def difference(minuend: CellMap, subtrahend: CellMap, *, same_answers: bool | None = None) -> CellValues:
    """Return the AUCs of one map minus those of another, for the cells that both maps contain.

    Answers are matched by their ids.  If both maps have the same answers with the same labels, their cells are compared
    on these answers; see `ProbeMap.difference`.  Otherwise, each map is evaluated on its own answers.  In this case,
    all answers to the same question in the two maps are treated as one observation, and different questions are assumed
    to be independent.

    If one of the maps was fitted without ids, its answers are only numbered.  Because these numbers do not identify
    answers, the maps are then assumed to have different answers unless `same_answers` is True.

    Parameters
    ----------
    minuend, subtrahend : ProbeMap
    same_answers : bool, optional
        Whether the maps have the same answers.  If it is True for maps that were fitted without ids, the answers must
        be in the same order in both maps.  By default, this is determined from the ids and labels.

    Returns
    -------
    CellValues
        The differences.  The ``cells`` attribute contains ``value`` and its 95 % confidence interval (``low``,
        ``high``).

    Raises
    ------
    MapError
        If the maps have no cells in common, or if `same_answers` is True but the labels differ.

    Examples
    --------
    >>> import numpy as np
    >>> import probemap
    >>> rng = np.random.default_rng(0)
    >>> correct = rng.random(200) < 0.5
    >>> states = rng.normal(size=(200, 2, 1, 8)).astype(np.float32)
    >>> shifted = states.copy()
    >>> shifted[:, 1, 0, 0] += 2 * correct
    >>> ids = [f"q{i}" for i in range(200)]
    >>> maps = [probemap.fit_map(x, correct, positions=["-1"], ids=ids) for x in (shifted, states)]
    >>> cells = probemap.difference(*maps).cells
    >>> bool(cells["low"].sel(layer=1, position="-1") > 0)
    True
    """
    answers_a, answers_b = minuend.data["answer"].values, subtrahend.data["answer"].values
    _, rows_a, rows_b = np.intersect1d(answers_a, answers_b, return_indices=True)
    if same_answers is False or (same_answers is None and (_is_numbered(minuend) or _is_numbered(subtrahend))):
        rows_a = rows_b = np.empty(0, np.int64)
    if same_answers or _are_paired(minuend, subtrahend, rows_a, rows_b):
        paired = minuend.difference(subtrahend).rename(difference="value")
        return CellValues(_KIND, paired, percentile_limits(paired["value"].values, signed=True))
    layers = [layer for layer in minuend.layers if layer in subtrahend.layers]
    positions = [position for position in minuend.positions if position in subtrahend.positions]
    if not layers or not positions:
        raise MapError("the maps have no cells in common", "compare maps with the same layers and positions")
    data_a, data_b = (m.data.sel(layer=layers, position=positions) for m in (minuend, subtrahend))
    (auc_a, influence_a), (auc_b, influence_b) = (cell_aucs(data) for data in (data_a, data_b))
    estimate = Estimate(auc_a - auc_b, np.concatenate([influence_a, -influence_b]))
    low, high = estimate.interval(_questions(data_a, data_b, rows_a, rows_b))
    template = data_a["auc"]
    cells = {
        name: template.copy(data=values.reshape(template.shape))
        for name, values in (("value", estimate.value), ("low", low), ("high", high))
    }
    counts = np.minimum(data_a["n"], data_b["n"])
    limits = percentile_limits(estimate.value, signed=True)
    return CellValues(_KIND, xr.Dataset({**cells, "n": counts}), limits)


def _is_numbered(probe_map: CellMap) -> bool:
    """Return whether the map was fitted without the ids of the answers."""
    return bool(probe_map.data.attrs.get("numbered_answers"))


def _are_paired(minuend: CellMap, subtrahend: CellMap, rows_a: Ints, rows_b: Ints) -> bool:
    """Return whether both maps have the same answers with the same labels."""
    correct_a, correct_b = minuend.data["correct"].values, subtrahend.data["correct"].values
    return len(rows_a) == len(correct_a) == len(correct_b) and np.array_equal(correct_a[rows_a], correct_b[rows_b])


def _questions(data_a: xr.Dataset, data_b: xr.Dataset, rows_a: Ints, rows_b: Ints) -> Ints:
    """Return the question numbers of the answers in `data_a`, followed by those of the answers in `data_b`.

    If a group in one map shares an answer with a group in the other map, both groups are treated as the same question.
    """
    group_a, group_b = (data["group"].values.astype(np.int64) for data in (data_a, data_b))
    group_b = group_b + group_a.max() + 1
    n_groups = int(group_b.max()) + 1
    shared = coo_array((np.ones(len(rows_a)), (group_a[rows_a], group_b[rows_b])), shape=(n_groups, n_groups))
    _, question = connected_components(shared, directed=False)
    return np.asarray(question[np.concatenate([group_a, group_b])], np.int64)
