"""Add baselines to a map, and compute the gain of each cell over them.

In each column, the baselines are evaluated on the same answers as the cells.  The gain of a cell is its AUC minus the
AUC of the best baseline in its column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from probemap.probing.auc import LEVEL, Aucs, Bools, Floats, Ints, auc_interval, aucs
from probemap.probing.baselines import Baseline, baseline_scores
from probemap.probing.cells import CELL_DIMS, cell_aucs, evaluated_rows
from probemap.probing.inference import estimate_difference, simultaneous_quantile, sum_by_group
from probemap.probing.inputs import Column, elements
from probemap.probing.plan import ProbePlan
from probemap.probing.variance import variance_inflation
from probemap.records import MapError

if TYPE_CHECKING:
    from probemap.maps.probe_map import ProbeMap

_BASELINE_VARIABLES = ("baseline_auc", "baseline_low", "baseline_high")
_GAIN_VARIABLES = ("gain", "gain_low", "gain_high", "gain_band_low", "gain_band_high")


def with_baselines(probe_map: ProbeMap, baselines: Sequence[Baseline], ids: Column) -> ProbeMap:
    """Add baselines to a map, and compute the gain of each cell over the best baseline in its column.

    In each column, a separate probe is fitted to each baseline.  It uses the same answers and folds as the cells of the
    column.  A baseline that has no value for one of the evaluated answers is skipped in that column.  The best baseline
    of a column is the one with the highest AUC.  Because it is selected and evaluated on the same answers, its AUC is
    biased upwards, and the gain is therefore biased downwards.

    Parameters
    ----------
    probe_map : ProbeMap
    baselines : sequence of Baseline
    ids : array-like of shape (n,)
        Ids of the answers, in the same order as the values of the baselines.  This order may differ from the order in
        the map.

    Returns
    -------
    ProbeMap
        The map with the additional variables ``baseline_auc``, ``best_baseline`` and ``gain``, and with confidence
        intervals for the AUCs and gains; see ``ProbeMap.data``.

    Raises
    ------
    MapError
        If an answer in the map is not in `ids`, or if a baseline does not have one value per id.

    Examples
    --------
    >>> import numpy as np
    >>> import probemap
    >>> from probemap.probing.baselines import Baseline
    >>> rng = np.random.default_rng(0)
    >>> correct = rng.random(200) < 0.5
    >>> states = rng.normal(size=(200, 2, 1, 8)).astype(np.float32)
    >>> states[:, 1, 0, 0] += 2 * correct
    >>> ids = [f"q{i}" for i in range(200)]
    >>> probe_map = probemap.fit_map(states, correct, positions=["last_q"], ids=ids)
    >>> length = Baseline("answer_length", "number of tokens", rng.integers(1, 20, size=200))
    >>> probe_map = probemap.with_baselines(probe_map, [length], ids)
    >>> bool(probe_map.data["gain"].sel(layer=1, position="last_q") > 0.3)
    True
    """
    data = probe_map.data.drop_dims("baseline", errors="ignore")
    rows = _rows_of_answers(data, baselines, ids)
    groups = data["group"].values.astype(np.int64)
    auc, influence = cell_aucs(data)
    shape = (len(probe_map.layers), len(probe_map.positions))
    auc, influence = auc.reshape(shape), influence.reshape(-1, *shape)
    table = np.full((3, len(baselines), shape[1]), np.nan)
    gain = np.full((3, *shape), np.nan)
    gain_influence = np.zeros((len(np.unique(groups)), *shape))
    best = np.full(shape[1], "", object)
    evaluated = evaluated_rows(data["scores"].values)
    cache: dict[tuple[int, bytes], Aucs | None] = {}  # columns with the same answers share their baseline probes
    for column in range(shape[1]):
        in_column = evaluated[:, column]
        if not in_column.any():
            continue
        n_correct = int(data["correct"].values[in_column].sum())
        n_incorrect = int(in_column.sum()) - n_correct
        highest: Aucs | None = None
        for k, baseline in enumerate(baselines):
            present = data["present"].values[:, column]
            key = (k, present.tobytes())
            if key not in cache:
                cache[key] = _baseline_auc(data, baseline, rows, present, in_column)
            estimate = cache[key]
            if estimate is None:
                continue
            variance = float((sum_by_group(estimate.influence, groups) ** 2).sum())
            value = float(estimate.value[0])
            table[:, k, column] = value, *auc_interval(value, variance, n_correct, n_incorrect, LEVEL)
            if highest is None or value > highest.value[0]:
                highest, best[column] = estimate, baseline.name
        if highest is None:
            continue
        for layer in np.flatnonzero(~np.isnan(auc[:, column])):
            cell_influence = sum_by_group(influence[:, [layer], column] - highest.influence, groups)[:, 0]
            gain_influence[:, layer, column] = cell_influence
            cell_gain = estimate_difference(float(auc[layer, column] - highest.value[0]), cell_influence, LEVEL)
            gain[:, layer, column] = cell_gain.value, cell_gain.low, cell_gain.high
    flat = gain_influence.reshape(len(gain_influence), -1)
    quantile = simultaneous_quantile(flat, LEVEL, int(data.attrs["seed"]))
    half = quantile * np.sqrt((flat**2).sum(0)).reshape(shape)
    grids = (*gain, gain[0] - half, gain[0] + half)
    variables = {name: (("baseline", "position"), table[k]) for k, name in enumerate(_BASELINE_VARIABLES)}
    variables |= {name: (CELL_DIMS, grid) for name, grid in zip(_GAIN_VARIABLES, grids, strict=True)}
    extended = data.assign({**variables, "best_baseline": (("position",), best)})
    names = np.array([baseline.name for baseline in baselines], object)
    return replace(probe_map, data=extended.assign_coords(baseline=names))


def _rows_of_answers(data: xr.Dataset, baselines: Sequence[Baseline], ids: Column) -> Ints:
    """For each answer in the map, return its index in `ids`, which is also the index of its value in each baseline."""
    names = [str(name) for name in elements(ids, "ids")]
    for baseline in baselines:
        if len(baseline.values) != len(names):
            raise MapError(
                f"{baseline.name} has {len(baseline.values)} values for {len(names)} ids", "give one value per id"
            )
    row_of = {name: row for row, name in enumerate(names)}
    answers = [str(name) for name in data["answer"].values]
    if missing := [name for name in answers if name not in row_of]:
        raise MapError(
            f"the baselines have no value for the answer {missing[0]!r}", "give one value per answer in the map"
        )
    return np.array([row_of[name] for name in answers])


def _baseline_auc(data: xr.Dataset, baseline: Baseline, rows: Ints, present: Bools, evaluated: Bools) -> Aucs | None:
    """Return the AUC of a baseline on the answers that are evaluated in a column, averaged over repeats.

    The baseline is evaluated like a cell: on the same answers, with the same folds, and with the variance inflation of
    its own probes.

    Parameters
    ----------
    data : xarray.Dataset
    baseline : Baseline
    rows : ndarray of shape (n,), int
        For each answer in the map, the index of its value in ``baseline.values``.
    present, evaluated : ndarray of shape (n,), bool
        Two masks: the answers that have the column's position, and the answers on which the column is evaluated.

    Returns
    -------
    Aucs or None
        The AUC and the influence of each answer, or None if an evaluated answer has no value or if a training set
        contains too few answers of one class.
    """
    values = [baseline.values[int(row)] for row in rows]
    has_value = np.array([value is not None and value == value for value in values])  # neither None nor NaN
    if (evaluated & ~has_value).any():
        return None
    usable = np.flatnonzero(present & has_value)
    selected = [values[i] for i in usable]
    column_values: Floats | list[str | None]
    column_values = selected if isinstance(baseline.values, list) else np.array(selected, np.float64)
    column_baseline, correct = replace(baseline, values=column_values), data["correct"].values[usable]
    folds = data["fold"].values.astype(np.int64)[:, usable]
    value, influence = 0.0, np.zeros((len(values), 1))
    for fold in folds:
        plan = ProbePlan(fold, nested="inner_auc" in data)
        training = np.stack([~np.isin(fold, list(excluded)) for excluded in plan.excluded_folds])
        scores = baseline_scores(column_baseline, correct, training)
        if np.isnan(scores).any():
            return None
        outer_folds = plan.outer_folds
        no_choice = np.zeros(len(outer_folds), np.int64)
        inflation = variance_inflation(scores[:, None], plan, fold=fold, correct=correct, choice=no_choice)
        in_outer = np.isin(fold, outer_folds)
        out_of_fold = scores[np.searchsorted(outer_folds, fold[in_outer]), np.flatnonzero(in_outer)]
        estimate = aucs(out_of_fold[:, None], correct[in_outer], fold[in_outer])
        if np.isnan(estimate.value[0]):
            return None
        value += float(estimate.value[0]) / len(folds)
        influence[usable[in_outer]] += estimate.influence * np.sqrt(1 + inflation) / len(folds)
    return Aucs(np.array([value]), influence)
