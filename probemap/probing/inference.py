"""Joint inference about many estimates, based on the influence of each answer: intervals, bands, tests, best cells.

The multiplier bootstrap of a maximum follows van der Vaart & Wellner 1996, chapter 2.9, and Chernozhukov, Chetverikov &
Kato 2013 (Ann. Statist. 41:2786).  The confidence set of the best cell follows Hsu 1984 (Ann. Statist. 12:1136) and
Hansen, Lunde & Nason 2011 (Econometrica 79:453).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import norm

if TYPE_CHECKING:
    from probemap.probing.auc import Bools, Floats, Ints

DRAWS = 2000
"""Number of draws of the multiplier bootstrap."""

_SAME = 1e-9
"""If the difference between two cells has a smaller standard error than this, the cells differ only by rounding."""


def sum_by_group(influence: Floats, groups: Ints | None) -> Floats:
    """Return the influences summed over the answers of each group, which is then treated as one observation.

    Parameters
    ----------
    influence : ndarray of shape (n, m)
    groups : ndarray of shape (n,), int, or None
        Group of each answer.  If None, each answer forms its own group.

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


def simultaneous_quantile(influence: Floats, level: float = 0.95, seed: int = 0) -> float:
    """Return the number of standard errors within which all deviations lie at once with probability `level`.

    The distribution of the largest standardised deviation is approximated by a multiplier bootstrap: by the maximum
    over cells of |Σ_i ξ_i influence_i| / se, where ξ is standard normal.

    Parameters
    ----------
    influence : ndarray of shape (n_groups, m)
        Influences summed by group; see `sum_by_group`.  Columns without variance are ignored.
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
    """The difference between two AUCs with its confidence interval."""

    value: float
    low: float
    high: float
    p: float
    """Two-sided p-value for the hypothesis of no difference, from a normal approximation."""


def estimate_difference(value: float, influence: Floats, level: float = 0.95) -> Difference:
    """Return the confidence interval and the test of a linear combination of AUCs.

    Parameters
    ----------
    value : float
        The linear combination, e.g. AUC a - AUC b.
    influence : ndarray of shape (n_groups,)
        The same linear combination of the influences.
    level : float, default=0.95
    """
    error = float(np.sqrt((influence**2).sum()))
    half = float(norm.ppf(0.5 + level / 2)) * error
    p = float(2 * norm.sf(abs(value) / error)) if error > 0 else float(value == 0)
    return Difference(value, value - half, value + half, p)


@dataclass(frozen=True)
class Estimate:
    """Estimates with their joint uncertainty, which is expressed by the influence of each answer."""

    value: Floats
    """ndarray of shape (m,), with NaN if there are too few answers."""
    influence: Floats
    """ndarray of shape (n, m): contribution of each answer to the deviation of `value`, as in `auc.Aucs`, with 0 where
    `value` is NaN."""

    def interval(self, groups: Ints | None, level: float = 0.95) -> tuple[Floats, Floats]:
        """Return the lower and upper ends of normal confidence intervals, each of shape (m,).

        Parameters
        ----------
        groups : ndarray of shape (n,), int, or None
            Group of each answer.  Answers of the same group are treated as one observation.
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
        Values, with NaN where a row has no value.
    """
    present = ~np.isnan(values)
    n = present.sum(0)
    mean = np.where(present, values, 0).sum(0) / np.where(n > 1, n, np.nan)
    influence = np.where(present, values - mean, 0) / np.sqrt(np.maximum(n * (n - 1.0), 1))
    return Estimate(mean, np.nan_to_num(influence))


def standardised_differences(values: Floats, correct: Bools) -> Estimate:
    """Return the mean of correct answers minus the mean of incorrect answers, in standard deviations (Cohen's d).

    The standard deviation is pooled.  The influences account for both means and for the standard deviation (delta
    method).

    Parameters
    ----------
    values : ndarray of shape (n, m)
        Values, with NaN where an answer has no value.
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


def confidence_set(value: Floats, influence: Floats, level: float = 0.95, seed: int = 0) -> Bools:
    """Return a set of cells that contains the truly best cell with probability `level`.

    A cell is excluded if the largest standardised difference between another cell and this cell is larger than can be
    expected by chance.  The limit is the `level` quantile of the distribution of this largest difference, which is
    estimated for each cell by a multiplier bootstrap.

    Parameters
    ----------
    value : ndarray of shape (m,)
        AUC of each cell.  Cells with NaN are never in the set.
    influence : ndarray of shape (n_groups, m)
        Influences summed by group; see `sum_by_group`.
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

    The answers of an outer fold are used both to evaluate the cell of that fold and to select the cells of the other
    outer folds.  The errors of the folds are therefore correlated, and the variance is larger than the sum of the
    variances of the folds.  The size of this effect depends on how close to each other the best cells are.  This
    function assumes the least favourable case, in which all cells are equally good: in each draw of a multiplier
    bootstrap, every outer fold selects the cell with the largest summed deviation in the other folds.

    Parameters
    ----------
    influences : sequence of ndarray of shape (n_groups, m)
        For each outer fold, the influences of its answers on the AUC of each cell in that fold.
    weights : sequence of float
        Weight of each outer fold in the summed AUC.
    seed : int, default=0

    Returns
    -------
    float
        A ratio of at least 0.  It is 0 for a single cell, and for a single outer fold, whose answers are not used for
        selection.
    """
    draw = np.random.default_rng(seed)
    deviations = [w * (draw.standard_normal((DRAWS, len(i))) @ i) for w, i in zip(weights, influences, strict=True)]
    if len(deviations) < 2 or deviations[0].shape[1] < 2:
        return 0.0
    total, rows = np.sum(deviations, axis=0), np.arange(DRAWS)
    error = np.sum([fold[rows, (total - fold).argmax(1)] for fold in deviations], axis=0)
    fixed = float(np.sum([fold.var(axis=0).mean() for fold in deviations]))
    return max(float(error.var()) / fixed - 1, 0.0) if fixed > 0 else 0.0
