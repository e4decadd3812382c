"""Nested cross-validation: the AUC of the best cell on answers that were not used to select it.

For each outer fold, the cell with the highest AUC on all other answers is selected, and the answers in the fold are
scored by this cell (Varma & Simon 2006, BMC Bioinformatics 7:91).  The AUCs used for selection are computed over
inner folds.
"""

from dataclasses import dataclass

import numpy as np
import xarray as xr

from probemap.probing.auc import LEVEL, Aucs, Bools, Floats, auc_interval, aucs, expand_rows
from probemap.probing.cells import cell_aucs
from probemap.probing.inference import selection_coupling, sum_by_group


@dataclass(frozen=True)
class NestedBest:
    """Nested cross-validation estimate of the AUC of the best cell."""

    auc: float
    low: float
    """Lower end of the 95 % confidence interval."""
    high: float
    """Upper end of the 95 % confidence interval."""
    n: int
    """Number of evaluated answers."""
    selected: tuple[tuple[int, str], ...]
    """The cell that was selected for each outer fold, as (layer, position)."""


@dataclass(frozen=True)
class NestedScores:
    """Scores from nested cross-validation: each outer fold is scored by the cell that is best on all other answers."""

    scores: Floats
    """ndarray of shape (n_repeats, n): out-of-fold scores, with NaN where the position of the selected cell is missing
    or the answer is not evaluated.  Only scores in the same fold are on the same scale."""
    selected: tuple[tuple[int, str], ...]
    """The cell that was selected for each outer fold of each repeat, as (layer, position)."""
    variance_factor: float
    """Factor by which the variance of the AUC is multiplied to account for the variance inflation of the selected cells
    and for the selection itself."""


def nested_scores(data: xr.Dataset, candidates: Bools) -> NestedScores:
    """Return the scores from nested cross-validation, together with the selected cells.

    Parameters
    ----------
    data : xarray.Dataset
        The data set of a map.  It must contain ``inner_auc``.
    candidates : ndarray of shape (n_cells,), bool
        Mask of the cells that may be the best; see `inference.confidence_set`.
    """
    scores, inner_auc, fold = data["scores"].values, data["inner_auc"].values, data["fold"].values
    inflation, layers, positions = (
        data["variance_inflation"].values,
        data["layer"].values,
        data["position"].values,
    )
    selected: list[tuple[int, str]] = []
    factors: list[float] = []
    out_of_fold = np.full(scores.shape[:2], np.nan)
    for repeat in range(len(scores)):
        for k, outer_fold in enumerate(data["outer_fold"].values):
            flat = np.nan_to_num(inner_auc[repeat, k].ravel(), nan=-1)
            layer, column = divmod(int(flat.argmax()), len(positions))
            selected.append((int(layers[layer]), str(positions[column])))
            factors.append(1 + float(inflation[layer, column]))
            rows = fold[repeat] == outer_fold
            out_of_fold[repeat, rows] = scores[repeat, rows, layer, column]
    coupling = selection_coupling(*_influences_by_fold(data, candidates), int(data.attrs["seed"]))
    return NestedScores(out_of_fold, tuple(selected), float(np.mean(factors)) + coupling)


def nested_auc(nested: NestedScores, data: xr.Dataset, rows: Bools) -> Aucs | None:
    """Return the AUC of the nested scores on a subset of the answers, averaged over repeats.

    Parameters
    ----------
    nested : NestedScores
    data : xarray.Dataset
        The data set of the map.
    rows : ndarray of shape (n,), bool
        Mask of the answers in the subset.  Answers without a score are ignored.

    Returns
    -------
    Aucs or None
        The AUC and the influence of each answer.  The influences are scaled so that the variance of the AUC is
        multiplied by ``nested.variance_factor``.  None if no fold contains both classes.
    """
    correct, fold = data["correct"].values, data["fold"].values
    repeats: list[Aucs] = []
    for repeat, scores in enumerate(nested.scores):
        scored = rows & ~np.isnan(scores)
        estimate = aucs(scores[scored, None], correct[scored], fold[repeat][scored])
        if not np.isnan(estimate.value[0]):
            repeats.append(Aucs(estimate.value, expand_rows(estimate.influence, scored)))
    if not repeats:
        return None
    influence = np.mean([estimate.influence for estimate in repeats], axis=0) * np.sqrt(nested.variance_factor)
    return Aucs(np.mean([estimate.value for estimate in repeats], axis=0), influence)


def nested_best(data: xr.Dataset, candidates: Bools) -> NestedBest | None:
    """Return the nested-CV estimate of the AUC of the best cell, or None if no fold contains both classes.

    Parameters
    ----------
    data : xarray.Dataset
        The data set of a map.  It must contain ``inner_auc``.
    candidates : ndarray of shape (n_cells,), bool
        Mask of the cells that may be the best; see `inference.confidence_set`.
    """
    nested = nested_scores(data, candidates)
    correct, group = data["correct"].values, data["group"].values.astype(np.int64)
    estimate = nested_auc(nested, data, np.ones(len(correct), bool))
    if estimate is None:
        return None
    value, variance = float(estimate.value[0]), float((sum_by_group(estimate.influence, group) ** 2).sum())
    evaluated = ~np.isnan(nested.scores).all(axis=0)
    n_correct, n_incorrect = int(correct[evaluated].sum()), int((~correct[evaluated]).sum())
    low, high = auc_interval(value, variance, n_correct, n_incorrect, LEVEL)
    return NestedBest(value, low, high, int(evaluated.sum()), nested.selected)


def _influences_by_fold(data: xr.Dataset, candidates: Bools) -> tuple[list[Floats], list[float]]:
    """Return the influences and the weight for each outer fold in the first repeat, as input for `selection_coupling`.

    For each fold, the influences of its answers on the AUCs of the candidates are summed by group.  A pair consists of
    a correct and an incorrect answer in the same fold, and the weight of a fold is its share of all pairs.
    """
    fold, correct = data["fold"].values[0], data["correct"].values
    influences, pairs = [], []
    for outer_fold in data["outer_fold"].values:
        rows = fold == outer_fold
        subset = data.isel(repeat=[0], answer=rows)
        influence = cell_aucs(subset)[1][:, candidates]
        influences.append(sum_by_group(influence, subset["group"].values.astype(np.int64)))
        pairs.append(float(correct[rows].sum() * (~correct[rows]).sum()))
    return influences, [count / max(sum(pairs), 1.0) for count in pairs]
