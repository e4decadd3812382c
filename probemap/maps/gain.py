"""What the map adds to its baselines: every baseline scored on the rows of every column, and the difference."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import xarray as xr

from probemap.maps.probe_map import ProbeMap
from probemap.probing.auc import LEVEL, Aucs, aucs, by_group, difference, interval, simultaneous_quantile
from probemap.probing.baselines import Baseline, scores_by_set
from probemap.probing.cell_scores import Plan, noise_share
from probemap.probing.cells import cell_aucs, judged_rows
from probemap.probing.inputs import Column, elements
from probemap.records import MapError

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


def with_baselines(probe_map: ProbeMap, baselines: Sequence[Baseline], ids: Column) -> ProbeMap:
    """The map with its baselines, and the gain of each cell over the best of them, on the very same answers.

    A baseline is scored in a column only if it has a value for every answer of that column, by a probe of its own with
    the map's folds.  The best baseline of a column is the one with the highest AUC there: chosen after the fact, so the
    gain is, if anything, too small.

    Parameters
    ----------
    ids: (n,) the answers that the baselines' values belong to.

    Raises
    ------
    MapError: an answer of the map has no line in `ids`.
    """
    data = probe_map.data.drop_dims("baseline", errors="ignore")
    known_ids = [str(name) for name in elements(ids, "ids")]
    if strange := [b for b in baselines if len(b.values) != len(known_ids)]:
        raise MapError(
            f"{strange[0].name} has {len(strange[0].values)} values for {len(known_ids)} ids", "give one value per id"
        )
    row_of = {name: row for row, name in enumerate(known_ids)}
    names = [str(name) for name in data["answer"].values]
    if missing := [name for name in names if name not in row_of]:
        raise MapError(f"the baselines have no value for {missing[0]!r}", "give one value per answer of the map")
    rows = np.array([row_of[name] for name in names])
    groups = data["group"].values.astype(np.int64)
    auc, influence = cell_aucs(data)
    shape = (len(probe_map.layers), len(probe_map.positions))
    auc, influence = auc.reshape(shape), influence.reshape(-1, *shape)

    table = np.full((3, len(baselines), shape[1]), np.nan)
    gain = np.full((3, *shape), np.nan)
    above = np.zeros((len(np.unique(groups)), *shape))
    best = np.full(shape[1], "", object)
    judged_everywhere = judged_rows(data["scores"].values)
    known: dict[tuple[str, bytes], Aucs | None] = {}
    for column in range(shape[1]):
        judged = judged_everywhere[:, column]
        if not judged.any():
            continue
        top: Aucs | None = None
        for k, baseline in enumerate(baselines):
            key = (baseline.name, data["present"].values[:, column].tobytes())
            if key not in known:
                known[key] = _baseline_auc(data, baseline, rows, data["present"].values[:, column], judged)
            made = known[key]
            if made is None:
                continue
            variance = float((by_group(made.influence, groups) ** 2).sum())
            right = int(data["correct"].values[judged].sum())
            value = float(made.value[0])
            table[:, k, column] = value, *interval(value, variance, right, int(judged.sum()) - right, LEVEL)
            if top is None or value > top.value[0]:
                top, best[column] = made, baseline.name
        if top is None:
            continue
        for layer in np.flatnonzero(~np.isnan(auc[:, column])):
            minus = by_group(influence[:, [layer], column] - top.influence, groups)[:, 0]
            above[:, layer, column] = minus
            made_gain = difference(float(auc[layer, column] - top.value[0]), minus, LEVEL)
            gain[:, layer, column] = made_gain.value, made_gain.low, made_gain.high
    extra = {f"baseline_{name}": (("baseline", "position"), table[k]) for k, name in enumerate(("auc", "low", "high"))}
    flat = above.reshape(len(above), -1)
    half = simultaneous_quantile(flat, LEVEL, int(data.attrs["seed"])) * np.sqrt((flat**2).sum(0)).reshape(shape)
    grids = (*gain, gain[0] - half, gain[0] + half)
    called = ("gain", "gain_low", "gain_high", "gain_band_low", "gain_band_high")
    extra |= {name: (("layer", "position"), grid) for name, grid in zip(called, grids, strict=True)}
    return ProbeMap(
        data.assign({**extra, "best_baseline": (("position",), best)}).assign_coords(
            baseline=np.array([baseline.name for baseline in baselines], object)
        )
    )


def _baseline_auc(data: xr.Dataset, baseline: Baseline, rows: Ints, has: Bools, judged: Bools) -> Aucs | None:
    """The baseline on a column's answers, averaged over repeats, influences over all answers; None if it lacks some.

    Judged as a cell is, on the same rows with the same folds, its variance widened in the same way.

    Parameters
    ----------
    rows: (answers,) where the baseline's values for the map's answers are.
    has, judged: (answers,) which have the column's position, and which it is judged on.
    """
    mine = [baseline.values[int(i)] for i in rows]
    known = np.array([v is not None and v == v for v in mine])
    if (judged & ~known).any():
        return None
    usable = np.flatnonzero(has & known)
    picked = [mine[i] for i in usable]
    values = picked if isinstance(baseline.values, list) else np.array(picked, np.float64)
    inside, correct = replace(baseline, values=values), data["correct"].values[usable]
    value, influence = 0.0, np.zeros((len(mine), 1))
    folds = data["fold"].values.astype(np.int64)[:, usable]
    for fold in folds:
        plan = Plan(fold, inner="inner_auc" in data)
        sets = plan.left_out()
        scores = scores_by_set(inside, correct, np.stack([~np.isin(fold, list(out)) for out in sets]))
        if np.isnan(scores).any():
            return None
        noise = noise_share(scores[:, None], sets, fold, correct, plan, np.zeros(len(plan.parts), np.int64))
        here = np.isin(fold, plan.parts)
        mine_only = scores[np.searchsorted(plan.parts, fold[here]), np.flatnonzero(here)]
        made = aucs(mine_only[:, None], correct[here], fold[here])
        if np.isnan(made.value[0]):
            return None
        value += float(made.value[0]) / len(folds)
        influence[usable[here]] += made.influence * np.sqrt(1 + noise) / len(folds)
    return Aucs(np.array([value]), influence)
