"""The kinds of values that the cells of a heatmap can show, with their labels, colour scales and intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.special import expit

from probemap.probing.auc import expand_rows
from probemap.probing.inference import Estimate, means
from probemap.records import MapError

if TYPE_CHECKING:
    from probemap.probing.auc import Bools, Floats, Ints
    from probemap.probing.cell_map import CellMap

BINS = 10
"""Number of bins for the calibration error.  All bins contain the same number of answers, up to rounding."""

FLAGGED = 0.2
"""Share of the answers that a cell and the baselines each flag to compute the value ``catch``."""

LIMIT_PERCENTILES = (2, 98)
"""Percentiles of the cell values that are used as limits of the colour scale if a kind of value has no fixed limits."""


@dataclass(frozen=True, kw_only=True)
class ValueKind:
    """A kind of value that the cells of a heatmap can show."""

    label: str
    """Label of the colour bar, including the unit."""
    variable: str = ""
    """Name of the map variable that contains the value, or an empty string if the value is computed from the scores."""
    limits: tuple[float, float] | None = None
    """Limits of the colour scale.  If None, the `LIMIT_PERCENTILES` of the cell values are used."""
    signed: bool = False
    """Whether the colour scale is centred on 0."""
    hint: str = ""
    """Hint that tells the user how to add the value to a map that lacks it."""


_WITH_BASELINES = "`probemap map RUN --redo` without --no-baselines adds it"
_WITHIN = "auc-within"

VALUES: dict[str, ValueKind] = {
    "auc": ValueKind(label="AUC", variable="auc", limits=(0.5, 1.0)),
    "accuracy": ValueKind(label="accuracy at a threshold of 0"),
    "balanced-accuracy": ValueKind(label="balanced accuracy: mean of both classes' accuracy"),
    "f1": ValueKind(label="F1 of correct answers"),
    "calibration-error": ValueKind(label=f"expected calibration error, {BINS} bins"),
    "activation-norm": ValueKind(
        label="mean norm of the hidden state", variable="activation_norm", hint="`probemap map RUN --redo` adds it"
    ),
    "activation-norm-difference": ValueKind(
        label="norm, correct minus incorrect, in standard deviations",
        variable="activation_norm_difference",
        signed=True,
        hint="`probemap map RUN --redo` adds it",
    ),
    "attention": ValueKind(
        label="attention weight received from the last token",
        variable="attention",
        hint="`probemap attention RUN` captures it",
    ),
    "attention-exact": ValueKind(
        label="attention weight received from the exact answer",
        variable="attention_exact",
        hint="`probemap attention RUN` captures it",
    ),
    "auc-within": ValueKind(
        label="AUC within strata",
        variable="auc_within",
        limits=(0.5, 1.0),
        hint="`probemap map RUN --covariate FIELD --redo` adds it",
    ),
    "gain": ValueKind(
        label="AUC minus that of the best baseline",
        variable="gain",
        signed=True,
        hint=_WITH_BASELINES,
    ),
    "selectivity": ValueKind(
        label="AUC minus that of the control task",
        variable="selectivity",
        signed=True,
        hint="`probemap map RUN --redo` adds it if exact answers were located",
    ),
    "adds": ValueKind(
        label="AUC that the cell adds to the baselines",
        variable="adds",
        signed=True,
        hint=_WITH_BASELINES,
    ),
    "absorbed": ValueKind(
        label="share of AUC − 0.5 that the baselines explain",
        variable="absorbed",
        limits=(0.0, 1.0),
        hint=_WITH_BASELINES,
    ),
    "catch": ValueKind(
        label="incorrect answers flagged, and missed by the baselines",
        variable="catch",
        hint=_WITH_BASELINES,
    ),
}
"""Mapping from the names that the ``--value`` option accepts to the kinds of values.  ``auc-within`` may be followed by
a colon and the name of a covariate."""


@dataclass(frozen=True)
class CellValues:
    """Values of one kind for all cells of a map, ready to be drawn."""

    kind: ValueKind
    cells: xr.Dataset
    """For each (layer, position) cell, float64: ``value`` and its 95 % confidence interval (``low``, ``high``).  They
    are NaN if there are too few answers; the interval of a calibration error is always NaN.  For each position: the
    number of answers (``n``)."""
    limits: tuple[float, float]
    """Limits of the colour scale."""

    @property
    def differs_from_zero(self) -> npt.NDArray[np.bool_]:
        """Mask of the cells whose interval does not contain 0, as an array of shape (n_layers, n_positions)."""
        return np.asarray((self.cells["low"] > 0) | (self.cells["high"] < 0))


def measure(probe_map: CellMap, value: str = "auc") -> CellValues:
    """Return the values of one kind for all cells of a map.

    For accuracy, balanced accuracy and F1, a score above 0 counts as a prediction of "correct", which is the positive
    class for F1.  The calibration error treats 1 / (1 + exp(-score)) as the probability that the answer is correct.
    It is defined as in Naeini et al. 2015, except that its bins have equal sizes instead of equal widths.  These four
    statistics are computed from out-of-fold scores and averaged over repeats.

    Parameters
    ----------
    probe_map : ProbeMap
    value : str, default="auc"
        A key of `VALUES`.  For a map with several covariates, the name of one of them is added to ``auc-within``, e.g.
        ``auc-within:popularity``.

    Returns
    -------
    CellValues

    Raises
    ------
    MapError
        If the kind of value is unknown, or if the map lacks the data from which it is computed.
    """
    name, colon, covariate = value.partition(":")
    if name not in VALUES or (colon and name != _WITHIN):
        raise MapError(f"unknown value {value!r}", f"known values are {', '.join(VALUES)}")
    kind, data = VALUES[name], probe_map.data
    if kind.variable and kind.variable not in data:
        raise MapError(f"the map does not contain {value}", kind.hint)
    if name == _WITHIN:
        kind, data = _select_covariate(kind, data, covariate)
    if value == "calibration-error" and data.attrs.get("probe"):
        raise MapError(
            f"the calibration error requires log-odds, but the scores of {data.attrs['probe']} are not log-odds",
            "use the default probe",
        )
    if kind.variable:
        ends = ("low", "high") if kind.variable == "auc" else (f"{kind.variable}_low", f"{kind.variable}_high")
        cells = {"value": data[kind.variable], "low": data[ends[0]], "high": data[ends[1]]}
    else:
        cells = _from_scores(data, _STATISTICS[value])
    grid = xr.Dataset({**cells, "n": data["n"]})
    return CellValues(kind, grid, kind.limits or percentile_limits(grid["value"].values, signed=kind.signed))


def value_names(data: xr.Dataset) -> list[str]:
    """Return the names of all values that a map with the given data may contain, with one name per covariate."""
    names = [f"{_WITHIN}:{name}" for name in data["covariate"].values] if "covariate" in data.coords else [_WITHIN]
    return [name for key in VALUES for name in (names if key == _WITHIN else [key])]


def _select_covariate(kind: ValueKind, data: xr.Dataset, name: str) -> tuple[ValueKind, xr.Dataset]:
    """Return the values of one covariate, with a label that names it.  If `name` is empty, there must be only one."""
    names = [str(covariate) for covariate in data["covariate"].values]
    if name not in names and (name or len(names) > 1):
        raise MapError(
            f"the map has no covariate {name!r}" if name else f"the map has {len(names)} covariates",
            f"use {' or '.join(f'{_WITHIN}:{covariate}' for covariate in names)}",
        )
    name = name or names[0]
    return replace(kind, label=f"{kind.label} of {name}"), data.sel(covariate=name)


def shared_limits(maps: Sequence[CellValues]) -> list[CellValues]:
    """Return the same values with a common colour scale that spans the scales of all maps."""
    limits = min(m.limits[0] for m in maps), max(m.limits[1] for m in maps)
    return [replace(m, limits=limits) for m in maps]


def percentile_limits(values: Floats, *, signed: bool) -> tuple[float, float]:
    """Return colour-scale limits that are robust to outliers and, for signed values, symmetric about 0."""
    values = values[~np.isnan(values)]
    if not len(values):
        return (-1.0, 1.0) if signed else (0.0, 1.0)
    low, high = (float(v) for v in np.percentile(np.abs(values) if signed else values, LIMIT_PERCENTILES))
    if signed:
        low = -high
    return (low, high) if low < high else (low - 0.5, high + 0.5)


def _from_scores(data: xr.Dataset, statistic: Callable[[Floats, Bools], Estimate]) -> dict[str, xr.DataArray]:
    """Return a statistic of the scores of each cell, averaged over repeats, with its interval clipped to [0, 1]."""
    scores, correct = data["scores"].values.astype(np.float64), data["correct"].values.astype(bool)
    groups: Ints = data["group"].values.astype(np.int64)
    grids = np.full((3, *scores.shape[2:]), np.nan)
    for column in range(scores.shape[3]):
        scored = np.asarray(~np.isnan(scores[:, :, :, column]).any(axis=2), np.bool_)
        if not scored.any():
            continue
        repeats = list(zip(scores, list(scored), strict=True))
        estimates = [statistic(values[rows, :, column], correct[rows]) for values, rows in repeats]
        influences = [expand_rows(e.influence, rows) for e, (_, rows) in zip(estimates, repeats, strict=True)]
        mean = Estimate(np.mean([e.value for e in estimates], axis=0), np.mean(influences, axis=0))
        # As with the AUC, the errors are correlated, because probes are trained on each other's evaluation answers.
        factor = np.sqrt(1 + np.nan_to_num(data["variance_inflation"].values[:, column]))
        low, high = replace(mean, influence=mean.influence * factor).interval(groups)
        grids[:, :, column] = mean.value, np.clip(low, 0, 1), np.clip(high, 0, 1)
    cells = data["auc"]
    return {
        name: xr.DataArray(grid, cells.coords, cells.dims)
        for name, grid in zip(("value", "low", "high"), grids, strict=True)
    }


def _hits(scores: Floats, correct: Bools) -> Floats:
    """Return 1 where the score predicts the label and 0 elsewhere, as an array of shape (n, m)."""
    return np.asarray((scores > 0) == correct[:, None], np.float64)


def _accuracy(scores: Floats, correct: Bools) -> Estimate:
    return means(_hits(scores, correct))


def _balanced_accuracy(scores: Floats, correct: Bools) -> Estimate:
    hits = _hits(scores, correct)
    positive, negative = (means(np.where(correct[:, None] == side, hits, np.nan)) for side in (True, False))
    return Estimate((positive.value + negative.value) / 2, (positive.influence + negative.influence) / 2)


def _f1(scores: Floats, correct: Bools) -> Estimate:
    """Return the F1 score, 2 TP / (2 TP + FP + FN), with influences obtained by the delta method."""
    predicted = scores > 0
    numerator = 2.0 * (predicted & correct[:, None])
    denominator = predicted.astype(np.float64) + correct[:, None]
    total = np.maximum(denominator.sum(0), 1)
    value = numerator.sum(0) / total
    return Estimate(value, (numerator - value * denominator) / total)


def calibration_errors(p: Floats, correct: Bools) -> Floats:
    """Return the expected calibration error of each column of probabilities.

    The error is the mean of |mean probability - share of correct answers| over `BINS` bins, weighted by bin size.

    No confidence interval is computed.  Even if the probabilities are perfectly calibrated, the share of correct
    answers differs from them by chance in every bin.  The estimate is therefore too high on average, especially if
    there are few answers.

    ``sklearn.calibration.calibration_curve(strategy="quantile")`` is not used for two reasons.  Its bins are bounded by
    interpolated quantiles, so their sizes differ unless `BINS` divides the number of answers.  It also does not
    return the bin sizes, which are needed as weights.

    Parameters
    ----------
    p : ndarray of shape (n, m), float64
        Probabilities that each answer is correct.
    correct : ndarray of shape (n,), bool

    Returns
    -------
    ndarray of shape (m,), float64
    """
    gap = p - correct[:, None]
    bins = np.array_split(np.argsort(p, axis=0, kind="stable"), min(BINS, len(p)))
    weighted = [np.abs(np.take_along_axis(gap, rows, axis=0).mean(0)) * len(rows) for rows in bins]
    return np.asarray(np.sum(weighted, axis=0) / len(p))


def _calibration(scores: Floats, correct: Bools) -> Estimate:
    return Estimate(calibration_errors(expit(scores), correct), np.full(scores.shape, np.nan))


_STATISTICS: dict[str, Callable[[Floats, Bools], Estimate]] = {
    "accuracy": _accuracy,
    "balanced-accuracy": _balanced_accuracy,
    "f1": _f1,
    "calibration-error": _calibration,
}
