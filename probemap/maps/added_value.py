"""Compare each cell with the baselines: what it adds to them, how much of its signal they explain, and what it catches.

A cell can have a higher AUC than every baseline only because it is a less noisy copy of one of them.  The three values
in this module do not have this weakness.  They compare a cell with the reference of its column: the best baseline, or
all baselines together if their regression has a higher AUC.

- ``adds``: the AUC of the reference and the cell together minus the AUC of the reference alone.  Both are combined in a
  logistic regression that is fitted and evaluated on different folds.
- ``absorbed``: the share of the cell's AUC above 0.5 that disappears if only answers with about the same reference
  score are compared (a covariate-adjusted AUC; Janes & Pepe 2009, Biometrika 96:371).
- ``catch``: the share of the incorrect answers that are among the answers with the lowest scores of the cell, but not
  among those with the lowest scores of the reference, if each of the two flags the same share of all answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from scipy.stats import rankdata

from probemap.maps.column_baselines import ColumnBaseline, mean_aucs
from probemap.probing.auc import Aucs, Bools, Floats, Ints
from probemap.probing.cells import cell_variables
from probemap.probing.inference import means, sum_by_group
from probemap.probing.metrics import FLAGGED
from probemap.probing.stacking import stacked_scores

ADDED_VALUES = ("adds", "absorbed", "catch")
"""Names of the variables with one value per cell.  Each has an interval (``_low``, ``_high``) and a simultaneous band
over all cells (``_band_low``, ``_band_high``)."""

STRATUM_SIZE = 10
"""Approximate number of answers per stratum of the reference score within a fold, to compute ``absorbed``."""


def added_value(data: xr.Dataset, references: Mapping[int, ColumnBaseline]) -> dict[str, Any]:
    """Return the variables named in `ADDED_VALUES`, with their intervals and bands.

    Parameters
    ----------
    data : xarray.Dataset
        The data set of a map with inner folds.
    references : mapping of int to ColumnBaseline
        The reference of each column that has one, by the index of the column.

    Returns
    -------
    dict
        Variables with the dimensions (layer, position), float64, in the format that `xarray.Dataset.assign` accepts.
        They are NaN for cells without an AUC and for columns without a reference.  ``absorbed`` is also NaN for cells
        whose AUC is not above chance (95 % confidence interval), because such a cell has no signal to explain.
    """
    groups = data["group"].values.astype(np.int64)
    shape = data["auc"].shape
    value = {name: np.full(shape, np.nan) for name in ADDED_VALUES}
    influence = {name: np.zeros((len(np.unique(groups)), *shape)) for name in ADDED_VALUES}
    for column, reference in references.items():
        layers = np.flatnonzero(~np.isnan(data["auc"].values[:, column]))
        if not len(layers):
            continue
        scores = data["scores"].values[:, :, layers, column].astype(np.float64)
        scores[np.isnan(reference.scores)] = np.nan
        factor = np.sqrt(1 + np.nan_to_num(data["variance_inflation"].values[layers, column]))
        added = _adds(data, column, layers, reference)
        absorbed = _absorbed(scores, reference, data["low"].values[layers, column] > 0.5)
        for name, estimate in zip(ADDED_VALUES, (added, absorbed, _catch(scores, reference)), strict=True):
            value[name][layers, column] = estimate.value
            # The answers on which one probe is evaluated are used to train the others; see `variance_inflation`.
            influence[name][:, layers, column] = sum_by_group(estimate.influence * factor, groups)
    variables: dict[str, Any] = {}
    for name in ADDED_VALUES:
        variables |= cell_variables(name, value[name], influence[name], int(data.attrs["seed"]))
    return variables


def _adds(data: xr.Dataset, column: int, layers: Ints, reference: ColumnBaseline) -> Aucs:
    """Return the AUC of the reference and each cell together minus the AUC of the reference, for a column."""
    cells = data["fold_scores"].values[:, :, :, layers, column].astype(np.float64)
    rows = ~np.isnan(cells).any(axis=(0, 1, 3)) & ~np.isnan(reference.features).any(axis=(0, 1, 3))
    together = np.full((*reference.scores.shape, len(layers)), np.nan)
    for repeat, fold in enumerate(reference.fold):
        cell = np.moveaxis(cells[repeat][:, rows], 2, 0)[..., None]
        shared = np.broadcast_to(reference.features[repeat][:, rows], (*cell.shape[:3], reference.features.shape[-1]))
        features = np.concatenate([shared, cell], axis=3)
        outer_folds = data["outer_fold"].values.tolist()
        together[repeat, rows] = stacked_scores(features, reference.correct[rows], fold[rows], outer_folds).T
    estimate = mean_aucs(together, reference.correct, reference.fold)
    return Aucs(estimate.value - reference.auc.value, estimate.influence - reference.auc.influence)


def _absorbed(scores: Floats, reference: ColumnBaseline, has_signal: Bools) -> Aucs:
    """Return the share of each cell's AUC above 0.5 that the reference explains.

    Parameters
    ----------
    scores : ndarray of shape (n_repeats, n, n_layers), float64
    reference : ColumnBaseline
    has_signal : ndarray of shape (n_layers,), bool
    """
    strata = np.stack([_strata(row, fold) for row, fold in zip(reference.scores, reference.fold, strict=True)])
    within = mean_aucs(scores, reference.correct, strata)
    overall = mean_aucs(scores, reference.correct, reference.fold)
    signal = np.where(has_signal, overall.value - 0.5, np.nan)
    share = (within.value - 0.5) / signal  # the share that remains
    influence = (within.influence - share * overall.influence) / signal
    return Aucs(1 - share, -np.nan_to_num(influence))


def _strata(scores: Floats, fold: Ints) -> Ints:
    """Divide the answers in each fold into strata with about the same score, of about `STRATUM_SIZE` answers each.

    Parameters
    ----------
    scores : ndarray of shape (n,), float64
        Scores, with NaN for answers that are not evaluated.
    fold : ndarray of shape (n,), int
    """
    strata = np.zeros(len(scores), np.int64)
    for k in np.unique(fold):
        rows = np.flatnonzero((fold == k) & ~np.isnan(scores))
        if len(rows):
            n_strata = max(len(rows) // STRATUM_SIZE, 1)
            within = np.floor((rankdata(scores[rows]) - 0.5) / len(rows) * n_strata).astype(np.int64)
            strata[rows] = strata.max() + 1 + within
    return strata


def _catch(scores: Floats, reference: ColumnBaseline) -> Aucs:
    """Return the share of the incorrect answers that each cell flags and the reference does not flag."""
    estimates = []
    for repeat in range(len(scores)):
        fold = reference.fold[repeat]
        flagged = _flagged(scores[repeat], fold) & ~_flagged(reference.scores[repeat][:, None], fold)
        rows = ~np.isnan(scores[repeat]) & ~reference.correct[:, None]
        estimates.append(means(np.where(rows, flagged, np.nan)))
    return Aucs(
        np.mean([estimate.value for estimate in estimates], axis=0),
        np.mean([estimate.influence for estimate in estimates], axis=0),
    )


def _flagged(scores: Floats, fold: Ints) -> Bools:
    """Return whether each answer is among the share `FLAGGED` of the answers in its fold with the lowest scores.

    Parameters
    ----------
    scores : ndarray of shape (n, m), float64
        Scores, with NaN for answers that are not evaluated.
    fold : ndarray of shape (n,), int
    """
    flagged = np.zeros(scores.shape, np.bool_)
    for k in np.unique(fold):
        rows = np.flatnonzero((fold == k) & ~np.isnan(scores).any(axis=1))
        if len(rows):
            flagged[rows] = rankdata(scores[rows], axis=0, method="ordinal") <= round(FLAGGED * len(rows))
    return flagged
