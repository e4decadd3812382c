"""What a cell can show, each with its unit, its scale and its uncertainty; all of it read from the map."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.special import expit

from probemap.probing.auc import Bools, Estimate, Floats, Ints, means, spread
from probemap.probing.cell_map import CellMap
from probemap.probing.cells import cell_aucs
from probemap.probing.inputs import Column, elements
from probemap.records import MapError

_AnyMap = TypeVar("_AnyMap", bound=CellMap)

BINS = 10
"""Of equally many answers each, for the calibration error."""

ROBUST = (2, 98)
"""Percentiles of the cells that a scale spans where nothing fixes it."""


@dataclass(frozen=True)
class Value:
    """One kind of value."""

    label: str
    """What the bar says, unit included."""
    name: str = ""
    """Of the variables of a map that hold it; empty if it is computed from the scores."""
    limits: tuple[float, float] | None = None
    """What the scale spans; None: `ROBUST` percentiles of the cells."""
    signed: bool = False
    """The scale is centred on 0."""
    made_by: str = ""
    """What to do about a map without it."""


VALUES: dict[str, Value] = {
    "auc": Value("AUC", "auc", (0.5, 1.0)),
    "accuracy": Value("accuracy: share of answers on the right side of 0"),
    "balanced-accuracy": Value("balanced accuracy: mean of both classes' shares"),
    "f1": Value("F1 of right answers"),
    "calibration-error": Value(f"expected calibration error, {BINS} bins"),
    "activation-norm": Value(
        "mean norm of the hidden state", "activation_norm", made_by="`probemap map RUN --redo` adds it"
    ),
    "activation-norm-difference": Value(
        "norm, right minus wrong, in standard deviations",
        "activation_norm_difference",
        signed=True,
        made_by="`probemap map RUN --redo` adds it",
    ),
    "attention": Value(
        "attention weight received from the last token", "attention", made_by="`probemap attention RUN` captures it"
    ),
    "attention-exact": Value(
        "attention weight received from the exact answer",
        "attention_exact",
        made_by="`probemap attention RUN` captures it",
    ),
    "gain": Value(
        "AUC above the best baseline's",
        "gain",
        signed=True,
        made_by="`probemap map RUN --redo` without --no-baselines adds it",
    ),
}


@dataclass(frozen=True)
class Measured:
    """One kind of value in every cell, ready to be drawn."""

    kind: Value
    cells: xr.Dataset
    """``value``, ``low``, ``high`` (95 % interval of the cell taken alone): over (layer, position), float64, NaN where
    there is too little to say, and the interval of a calibration error.  ``n``: over (position)."""
    limits: tuple[float, float]
    """What the scale spans."""

    @property
    def apart(self) -> npt.NDArray[np.bool_]:
        """(n_layers, n_positions): cells of a signed value whose interval leaves out 0."""
        return np.asarray((self.cells["low"] > 0) | (self.cells["high"] < 0))


def measure(probe_map: CellMap, value: str = "auc") -> Measured:
    """One kind of value in every cell of a map.

    Parameters
    ----------
    value: a name of `VALUES`.  Accuracy, balanced accuracy and F1 (of right answers) take a score above 0 for "right";
        the calibration error takes 1 / (1 + exp(-score)) for the probability of it (Naeini et al. 2015, bins of equally
        many answers).  All are out of fold, and averaged over repeats.

    Raises
    ------
    MapError: no such value, or the map does not hold what it is made from.
    """
    if value not in VALUES:
        raise MapError(f"there is no value {value!r}", f"there are {', '.join(VALUES)}")
    kind, data = VALUES[value], probe_map.data
    if kind.name and kind.name not in data:
        raise MapError(f"this map holds no {value}", kind.made_by)
    if value == "calibration-error" and data.attrs.get("probe"):
        raise MapError(
            f"the scores of {data.attrs['probe']} are no log-odds, so they have no calibration",
            "the default probe's are",
        )
    if kind.name:
        ends = ("low", "high") if kind.name == "auc" else (f"{kind.name}_low", f"{kind.name}_high")
        cells = {"value": data[kind.name], "low": data[ends[0]], "high": data[ends[1]]}
    else:
        cells = _from_scores(data, _SCORED[value])
    grid = xr.Dataset({**cells, "n": data["n"]})
    return Measured(kind, grid, kind.limits or _robust(grid["value"].values, kind.signed))


def shared_limits(several: Sequence[Measured]) -> list[Measured]:
    """The same values on one scale that spans all of theirs."""
    low, high = (pick(m.limits[end] for m in several) for end, pick in ((0, min), (1, max)))
    return [replace(m, limits=(low, high)) for m in several]


def subtract(one: CellMap, other: CellMap) -> Measured:
    """AUC of `one` minus AUC of `other`, in the cells that both have.

    Of the same answers with the same verdicts it is `ProbeMap.difference`.  Else each map is judged on its own answers;
    what is said to one question, in one map or both, counts as one draw, other questions as independent.

    Raises
    ------
    MapError: no cells in common.
    """
    kind = Value("difference of AUCs", signed=True)
    _, mine, theirs = np.intersect1d(one.data["answer"].values, other.data["answer"].values, return_indices=True)
    same = len(mine) == one.data.sizes["answer"] == other.data.sizes["answer"]
    if same and np.array_equal(one.data["correct"].values[mine], other.data["correct"].values[theirs]):
        made = one.difference(other).rename(difference="value")
        return Measured(kind, made, _robust(made["value"].values, signed=True))
    layers = [layer for layer in one.layers if layer in other.layers]
    positions = [p for p in one.positions if p in other.positions]
    if not layers or not positions:
        raise MapError("the maps have no cells in common", "draw maps of the same layers and positions")
    parts = [m.data.sel(layer=layers, position=positions) for m in (one, other)]
    (a, infl_a), (b, infl_b) = (cell_aucs(part) for part in parts)
    first, second = (part["group"].values.astype(np.int64) for part in parts)
    second = second + first.max() + 1
    count = int(second.max()) + 1
    shared = coo_array((np.ones(len(mine)), (first[mine], second[theirs])), shape=(count, count))
    _, question = connected_components(shared, directed=False)
    joint = Estimate(a - b, np.concatenate([infl_a, -infl_b]))
    low, high = joint.interval(question[np.concatenate([first, second])].astype(np.int64))
    template = parts[0]["auc"]
    cells = {
        name: template.copy(data=values.reshape(template.shape))
        for name, values in (("value", joint.value), ("low", low), ("high", high))
    }
    counts = np.minimum(parts[0]["n"], parts[1]["n"])
    return Measured(kind, xr.Dataset({**cells, "n": counts}), _robust(joint.value, signed=True))


def with_attention(probe_map: _AnyMap, read: Callable[[int], npt.NDArray[np.float32]], ids: Column) -> _AnyMap:
    """The map with the mean attention weight that each cell receives, over the decided answers that have the position.

    Parameters
    ----------
    read: layer -> (n, n_positions, 2), as `attention.attention_received`, of the map's positions.
    ids: (n,) the answers that it holds.
    """
    data = probe_map.data
    row_of = {str(name): row for row, name in enumerate(elements(ids, "ids"))}
    rows = [row_of[str(name)] for name in data["answer"].values]
    groups = data["group"].values.astype(np.int64)
    made = np.full((2, 3, len(probe_map.layers), len(probe_map.positions)), np.nan)
    for number, layer in enumerate(probe_map.layers):
        weights = read(layer)[rows].astype(np.float64)
        for payer in range(2):
            mean = means(weights[:, :, payer])
            made[payer, :, number] = mean.value, *mean.interval(groups)
    names = [f"{name}{end}" for name in ("attention", "attention_exact") for end in ("", "_low", "_high")]
    grids = made.reshape(6, *made.shape[2:])
    return replace(
        probe_map, data=data.assign({n: (("layer", "position"), g) for n, g in zip(names, grids, strict=True)})
    )


def _robust(values: Floats, signed: bool) -> tuple[float, float]:
    known = values[~np.isnan(values)]
    if not len(known):
        return (-1.0, 1.0) if signed else (0.0, 1.0)
    low, high = (float(v) for v in np.percentile(np.abs(known) if signed else known, ROBUST))
    if signed:
        low = -high
    return (low, high) if low < high else (low - 0.5, high + 0.5)


def _from_scores(data: xr.Dataset, scored: Callable[[Floats, Bools], Estimate]) -> dict[str, xr.DataArray]:
    """A statistic of every cell's scores, averaged over repeats, with intervals inside [0, 1]."""
    scores, correct = data["scores"].values.astype(np.float64), data["correct"].values.astype(bool)
    groups: Ints = data["group"].values.astype(np.int64)
    made = np.full((3, *scores.shape[2:]), np.nan)
    for column in range(scores.shape[3]):
        judged = np.asarray(~np.isnan(scores[:, :, :, column]).any(axis=2), np.bool_)
        if not judged.any():
            continue
        parts = [scored(s[rows, :, column], correct[rows]) for s, rows in zip(scores, list(judged), strict=True)]
        influences = [spread(part.influence, rows) for part, rows in zip(parts, list(judged), strict=True)]
        mean = Estimate(np.mean([part.value for part in parts], axis=0), np.mean(influences, axis=0))
        # As the AUC's: probes that are trained on each other's answers move together, see `probe.noise_share`.
        wider = np.sqrt(1 + np.nan_to_num(data["variance_inflation"].values[:, column]))
        low, high = replace(mean, influence=mean.influence * wider).interval(groups)
        made[:, :, column] = mean.value, np.clip(low, 0, 1), np.clip(high, 0, 1)
    return {
        name: data["variance_inflation"].copy(data=grid)
        for name, grid in zip(("value", "low", "high"), made, strict=True)
    }


def _hits(scores: Floats, correct: Bools) -> Floats:
    return np.asarray((scores > 0) == correct[:, None], np.float64)


def _accuracy(scores: Floats, correct: Bools) -> Estimate:
    return means(_hits(scores, correct))


def _balanced_accuracy(scores: Floats, correct: Bools) -> Estimate:
    hits = _hits(scores, correct)
    right, wrong = (means(np.where(correct[:, None] == side, hits, np.nan)) for side in (True, False))
    return Estimate((right.value + wrong.value) / 2, (right.influence + wrong.influence) / 2)


def _f1(scores: Floats, correct: Bools) -> Estimate:
    """2 TP / (2 TP + FP + FN), a ratio of sums; its influences by the delta method."""
    said = scores > 0
    above = 2.0 * (said & correct[:, None])
    below = said.astype(np.float64) + correct[:, None]
    total = np.maximum(below.sum(0), 1)
    value = above.sum(0) / total
    return Estimate(value, (above - value * below) / total)


def calibration_errors(p: Floats, correct: Bools) -> Floats:
    """(m,): expected calibration errors, the mean |mean probability - share right| over `BINS`.

    Without an interval: even true probabilities are off in every bin by chance, so the error lies above its own truth,
    and the more so the fewer answers there are.

    Parameters
    ----------
    p: (n, m), probabilities of "right"; correct: (n,).
    """
    gap = p - correct[:, None]
    parts = np.array_split(np.argsort(p, axis=0, kind="stable"), min(BINS, len(p)))
    sizes = [np.abs(np.take_along_axis(gap, part, axis=0).mean(0)) * len(part) for part in parts]
    return np.asarray(np.sum(sizes, axis=0) / len(p))


def _calibration(scores: Floats, correct: Bools) -> Estimate:
    return Estimate(calibration_errors(expit(scores), correct), np.full(scores.shape, np.nan))


_SCORED: dict[str, Callable[[Floats, Bools], Estimate]] = {
    "accuracy": _accuracy,
    "balanced-accuracy": _balanced_accuracy,
    "f1": _f1,
    "calibration-error": _calibration,
}
