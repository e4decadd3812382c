"""Joint inference about many estimates: confidence intervals, simultaneous bands, tests, and sets of the best cells.

Uncertainties are computed from the influence of each answer on each estimate.  The multiplier bootstrap of a maximum
follows van der Vaart & Wellner 1996, chapter 2.9, and Chernozhukov, Chetverikov & Kato 2013 (Ann. Statist. 41:2786).
The confidence set of the best cell follows Hsu 1984 (Ann. Statist. 12:1136) and Hansen, Lunde & Nason 2011
(Econometrica 79:453).
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
"""Two cells differ only by rounding if the standard error of their difference is smaller than this."""

_FEW = 16
"""The first comparison of a cell covers one in this many of the other cells."""


def sum_by_group(influence: Floats, groups: Ints | None) -> Floats:
    """Sum the influences over the answers in each group, so that the group can be treated as one observation.

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
    """Return the number of standard errors within which all deviations lie simultaneously with probability `level`.

    The distribution of the largest standardised deviation is approximated by a multiplier bootstrap.  In each draw, the
    largest deviation is the maximum over cells of |Σ_i ξ_i influence_i| / se, where the ξ_i are standard normal.

    Parameters
    ----------
    influence : ndarray of shape (n_groups, m)
        Influences summed by group; see `sum_by_group`.  Columns with zero variance are ignored.
    level : float, default=0.95
    seed : int, default=0
    """
    error = np.sqrt((influence**2).sum(0))
    standardised = influence[:, error > 0] / error[error > 0]
    if not standardised.shape[1]:
        return float(norm.ppf(0.5 + level / 2))
    draws = np.random.default_rng(seed).standard_normal((DRAWS, len(standardised)))
    return float(np.quantile(np.abs(draws @ standardised).max(1), level))


def adjusted_p(value: Floats, influence: Floats, seed: int = 0) -> Floats:
    """Return, for each of several values, the p-value of the hypothesis that it is not above 0.

    The p-values are corrected for the number of values: each one is the probability that the largest of all
    standardised deviations reaches this value (single-step procedure of Westfall & Young 1993).  The distribution is
    approximated as in `simultaneous_quantile`, so a p-value is below 0.05 if the 95 % band of the value lies above 0.

    Parameters
    ----------
    value : ndarray of shape (m,)
        Values, which may be NaN.
    influence : ndarray of shape (n_groups, m)
        Influences summed by group; see `sum_by_group`.
    seed : int, default=0

    Returns
    -------
    ndarray of shape (m,), float64
        At least 1 / (`DRAWS` + 1).  NaN where the value is NaN or has no variance.
    """
    error = np.sqrt((influence**2).sum(0))
    used = (error > 0) & ~np.isnan(value)
    p = np.full(len(value), np.nan)
    if used.any():
        standardised = influence[:, used] / error[used]
        draws = np.random.default_rng(seed).standard_normal((DRAWS, len(influence)))
        largest = np.sort(np.abs(draws @ standardised).max(1))
        n_reached = DRAWS - np.searchsorted(largest, value[used] / error[used])
        p[used] = (1 + n_reached) / (1 + DRAWS)
    return p


@dataclass(frozen=True)
class Difference:
    """The difference between two AUCs, with its confidence interval."""

    value: float
    low: float
    high: float
    p: float
    """Two-sided p-value for the hypothesis of no difference, based on a normal approximation."""


def estimate_difference(value: float, influence: Floats, level: float = 0.95) -> Difference:
    """Return a linear combination of AUCs with its confidence interval and p-value.

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


def holm(p: Sequence[float]) -> list[float]:
    """Return p-values that are adjusted for the number of tests (Holm 1979, Scand. J. Statist. 6:65).

    A test is significant at a family-wise error rate of α if its adjusted p-value is at most α.

    Parameters
    ----------
    p : sequence of float
        The p-values.  NaN stands for a test that was not done; it is not counted, and its adjusted p-value is NaN.

    Examples
    --------
    >>> from probemap.probing.inference import holm
    >>> holm([0.02, 0.03, 0.5])
    [0.06, 0.06, 0.5]
    """
    tests = [k for k in np.argsort(p, kind="stable").tolist() if p[k] == p[k]]
    adjusted, largest = [float("nan")] * len(p), 0.0
    for rank, k in enumerate(tests):
        largest = max(largest, min((len(tests) - rank) * p[k], 1.0))
        adjusted[k] = largest
    return adjusted


@dataclass(frozen=True)
class Estimate:
    """Estimates and the influence of each answer, from which their joint uncertainty can be computed."""

    value: Floats
    """ndarray of shape (m,), with NaN if there are too few answers."""
    influence: Floats
    """ndarray of shape (n, m): contribution of each answer to the sampling error of `value`, as in `auc.Aucs`, with 0
    where `value` is NaN."""

    def interval(self, groups: Ints | None, level: float = 0.95) -> tuple[Floats, Floats]:
        """Return the lower and upper ends of the confidence intervals, assuming normally distributed errors.

        Parameters
        ----------
        groups : ndarray of shape (n,), int, or None
            Group of each answer.  Answers in the same group are treated as one observation.
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
    """Return the mean over correct answers minus the mean over incorrect answers, in standard deviations (Cohen's d).

    The standard deviation is pooled over both classes.  The influences are obtained by the delta method, and account
    for the uncertainty of both means and of the standard deviation.

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

    For each cell, the test statistic is the largest standardised difference between the AUC of another cell and the AUC
    of this cell.  The cell is excluded if the statistic exceeds the `level` quantile of the distribution that it would
    have if all AUCs were equal.  This distribution is estimated by a multiplier bootstrap.

    Parameters
    ----------
    value : ndarray of shape (m,)
        AUC of each cell.  A cell whose AUC is NaN is never in the set.
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
    draws = (np.random.default_rng(seed).standard_normal((DRAWS, len(influence))) @ influence).T.copy()
    included = np.zeros(len(value), bool)
    for k, cell in enumerate(evaluated):
        error = np.sqrt(np.maximum(variance + variance[k] - 2 * covariance[k], 0))
        distinct = np.flatnonzero(error > _SAME)
        if not len(distinct):
            included[cell] = True
            continue
        statistic = ((auc[distinct] - auc[k]) / error[distinct]).max()
        # The quantile for some of the other cells is at most the quantile for all of them.  Most cells are in the set,
        # and a few other cells are enough to show this.
        for compared in (distinct[::_FEW], distinct):
            largest = ((draws[compared] - draws[k]) / error[compared, None]).max(0)
            included[cell] = statistic <= np.quantile(largest, level)
            if included[cell]:
                break
    return included


def selection_coupling(influences: Sequence[Floats], weights: Sequence[float], seed: int = 0) -> float:
    """Return the variance that cell selection adds to a nested-CV estimate, divided by the variance for fixed cells.

    The answers in an outer fold are used both to evaluate the cell that was selected for this fold and to select the
    cells for the other outer folds.  The errors of the folds are therefore correlated, and the variance is larger than
    the sum of the variances of the folds.  The size of this effect depends on how close the AUCs of the best cells are
    to each other.  This function assumes the least favourable case, in which all cells are equally good.  In each draw
    of a multiplier bootstrap, it selects for each outer fold the cell with the largest summed deviation in the other
    folds.

    Parameters
    ----------
    influences : sequence of ndarray of shape (n_groups, m)
        For each outer fold, the influences of its answers on the AUC of each cell in that fold.
    weights : sequence of float
        Weight of each outer fold in the overall AUC.
    seed : int, default=0

    Returns
    -------
    float
        A ratio of at least 0.  It is 0 if there is only one cell.  It is also 0 if there is only one outer fold,
        because the answers in that fold are then not used for selection.
    """
    draw = np.random.default_rng(seed)
    deviations = [w * (draw.standard_normal((DRAWS, len(i))) @ i) for w, i in zip(weights, influences, strict=True)]
    if len(deviations) < 2 or deviations[0].shape[1] < 2:
        return 0.0
    total, rows = np.sum(deviations, axis=0), np.arange(DRAWS)
    error = np.sum([fold[rows, (total - fold).argmax(1)] for fold in deviations], axis=0)
    fixed = float(np.sum([fold.var(axis=0).mean() for fold in deviations]))
    return max(float(error.var()) / fixed - 1, 0.0) if fixed > 0 else 0.0
