"""Joint inference about many estimates from the influence of each answer: intervals, bands, comparisons, best cells.

Sources: van der Vaart & Wellner 1996, chapter 2.9, and Chernozhukov, Chetverikov & Kato 2013 (Ann. Statist. 41:2786)
for the multiplier bootstrap of a maximum; Hsu 1984 (Ann. Statist. 12:1136) and Hansen, Lunde & Nason 2011
(Econometrica 79:453) for the confidence set of the best.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from probemap.probing.auc import LEVEL, Bools, Floats, Ints

DRAWS = 2000
"""Draws of the multiplier bootstrap."""

_SAME = 1e-9
"""Cells whose difference has a smaller standard error differ by rounding alone."""


def sum_by_group(influence: Floats, groups: Ints | None) -> Floats:
    """Return influences summed over the answers of each group, which count as one draw.

    Parameters
    ----------
    influence : ndarray of shape (n, m)
    groups : ndarray of shape (n,), int, or None
        None: every answer is its own group.

    Returns
    -------
    ndarray of shape (n_groups, m), float64
    """
    if groups is None:
        return influence
    numbers, row = np.unique(groups, return_inverse=True)
    summed = np.zeros((len(numbers), influence.shape[1]))
    np.add.at(summed, row, influence)
    return summed


def expand_rows(influence: Floats, rows: Bools) -> Floats:
    """Return influences of the selected answers as influences of all answers: 0 for the answers not selected.

    Parameters
    ----------
    influence : ndarray of shape (n_selected, m)
    rows : ndarray of shape (n,), bool

    Returns
    -------
    ndarray of shape (n, m), float64
    """
    expanded = np.zeros((len(rows), influence.shape[1]))
    expanded[rows] = influence
    return expanded


def simultaneous_quantile(influence: Floats, level: float = LEVEL, seed: int = 0) -> float:
    """Return the number of standard errors that bounds all deviations at once with probability `level`.

    The maximum over cells of |Σ_i ξ_i influence_i| / se, with ξ standard normal, has the distribution of the largest
    standardised deviation of the map (multiplier bootstrap).

    Parameters
    ----------
    influence : ndarray of shape (n_groups, m)
        As from `sum_by_group`; columns without variance are ignored.
    level : float, default=0.95
    seed : int, default=0
    """
    error = np.sqrt((influence**2).sum(0))
    standardised = influence[:, error > 0] / error[error > 0]
    if not standardised.shape[1]:
        return float(norm.ppf(0.5 + level / 2))
    draws = np.random.default_rng(seed).standard_normal((DRAWS, len(standardised)))
    return float(np.quantile(np.abs(draws @ standardised).max(1), level))


@dataclass(frozen=True)
class Difference:
    """One AUC minus another, with its confidence interval."""

    value: float
    low: float
    high: float
    p: float
    """Two-sided p-value of no difference (normal)."""


def estimate_difference(value: float, influence: Floats, level: float = LEVEL) -> Difference:
    """Return the interval and the test of a linear combination of AUCs.

    Parameters
    ----------
    value : float
        The combination, e.g. AUC a - AUC b.
    influence : ndarray of shape (n_groups,)
        The same combination of their influences.
    level : float, default=0.95
    """
    error = float(np.sqrt((influence**2).sum()))
    half = float(norm.ppf(0.5 + level / 2)) * error
    p = float(2 * norm.sf(abs(value) / error)) if error > 0 else float(value == 0)
    return Difference(value, value - half, value + half, p)


@dataclass(frozen=True)
class Estimate:
    """Estimates with their joint uncertainty."""

    value: Floats
    """ndarray of shape (m,); NaN if there are too few answers."""
    influence: Floats
    """ndarray of shape (n, m): contribution of each answer to the deviation of `value`, as in `auc.Aucs`; 0 where
    `value` is NaN."""

    def interval(self, groups: Ints | None, level: float = LEVEL) -> tuple[Floats, Floats]:
        """Return the ends of normal confidence intervals, each of shape (m,).

        Parameters
        ----------
        groups : ndarray of shape (n,), int, or None
            Answers of one group count as one draw.
        level : float, default=0.95
        """
        half = norm.ppf(0.5 + level / 2) * np.sqrt((sum_by_group(self.influence, groups) ** 2).sum(0))
        half[np.isnan(self.value)] = np.nan
        return self.value - half, self.value + half


def means(values: Floats) -> Estimate:
    """Return the mean of each column over the rows that have a value.

    Parameters
    ----------
    values : ndarray of shape (n, m)
        NaN where a row has no value.
    """
    present = ~np.isnan(values)
    n = present.sum(0)
    mean = np.where(present, values, 0).sum(0) / np.where(n > 1, n, np.nan)
    influence = np.where(present, values - mean, 0) / np.sqrt(np.maximum(n * (n - 1.0), 1))
    return Estimate(mean, np.nan_to_num(influence))


def standardised_differences(values: Floats, correct: Bools) -> Estimate:
    """Return the mean of correct minus the mean of incorrect answers in units of the pooled deviation (Cohen's d).

    The influences are those of both means and of the deviation (delta method).

    Parameters
    ----------
    values : ndarray of shape (n, m)
        NaN where an answer has no value.
    correct : ndarray of shape (n,), bool
    """
    n = (~np.isnan(values)).sum(0)
    positive, negative = (means(np.where(correct[:, None] == side, values, np.nan)) for side in (True, False))
    residual = values - np.where(correct[:, None], positive.value, negative.value)
    variance = np.nansum(residual**2, axis=0) / np.maximum(n - 2, 1)
    variance[variance == 0] = np.nan
    value = (positive.value - negative.value) / np.sqrt(variance)
    of_means = (positive.influence - negative.influence) / np.sqrt(variance)
    of_deviation = value * (residual**2 / variance - 1) / (2 * np.maximum(n, 1))
    return Estimate(value, np.nan_to_num(of_means - of_deviation))


def confidence_set(value: Floats, influence: Floats, level: float = LEVEL, seed: int = 0) -> Bools:
    """Return the cells that may be the best: a set that contains the truly best cell with probability `level`.

    A cell is excluded if some cell is better by more standard errors of their difference than the largest of these
    standardised differences reaches by chance (its quantile over the multiplier bootstrap, computed for each cell).

    Parameters
    ----------
    value : ndarray of shape (m,)
        AUCs; cells with NaN are never in the set.
    influence : ndarray of shape (n_groups, m)
        As from `sum_by_group`.
    level : float, default=0.95
    seed : int, default=0

    Returns
    -------
    ndarray of shape (m,), bool
    """
    evaluated = np.flatnonzero(~np.isnan(value))
    auc, influence = value[evaluated], influence[:, evaluated]
    covariance = influence.T @ influence
    variance = np.diag(covariance)
    draws = np.random.default_rng(seed).standard_normal((DRAWS, len(influence))) @ influence
    included = np.zeros(len(value), bool)
    for k, cell in enumerate(evaluated):
        error = np.sqrt(np.maximum(variance + variance[k] - 2 * covariance[k], 0))
        distinct = error > _SAME
        if not distinct.any():
            included[cell] = True
            continue
        largest = ((draws[:, distinct] - draws[:, [k]]) / error[distinct]).max(1)
        included[cell] = bool(((auc[distinct] - auc[k]) / error[distinct]).max() <= np.quantile(largest, level))
    return included


def selection_coupling(influences: Sequence[Floats], weights: Sequence[float], seed: int = 0) -> float:
    """Return the variance that selecting cells adds to nested cross-validation, relative to that of fixed cells.

    The answers on which the cell of one outer fold is evaluated select the cells of the other outer folds.  A cell that
    is high by chance in fold k is evaluated there, and selected by all other folds.  The errors of the folds are
    therefore correlated, and the variance is larger than the sum of the folds' variances.  By how much depends on how
    close the best cells are.  This function assumes that all cells are equally good, the least favourable case; each
    outer fold selects the cell whose summed deviation in the other folds is largest (multiplier bootstrap).

    Parameters
    ----------
    influences : sequence of ndarray of shape (n_groups, m)
        For each outer fold, the influences of its answers on the AUC of each cell in that fold.
    weights : sequence of float
        Share of each outer fold in the summed AUC.
    seed : int, default=0

    Returns
    -------
    float
        0 or more; 0 with a single outer fold, whose answers do not take part in the selection, or with a single cell.
    """
    draw = np.random.default_rng(seed)
    deviations = [w * (draw.standard_normal((DRAWS, len(i))) @ i) for w, i in zip(weights, influences, strict=True)]
    if len(deviations) < 2 or deviations[0].shape[1] < 2:
        return 0.0
    total, rows = np.sum(deviations, axis=0), np.arange(DRAWS)
    error = np.sum([fold[rows, (total - fold).argmax(1)] for fold in deviations], axis=0)
    fixed = float(np.sum([fold.var(axis=0).mean() for fold in deviations]))
    return max(float(error.var()) / fixed - 1, 0.0) if fixed > 0 else 0.0
