"""AUC and its uncertainty, from placement values: one cell, or all cells of a map jointly.

Sources: DeLong, DeLong & Clarke-Pearson 1988 (Biometrics 44:837) for the covariance of AUCs measured on the same
answers; Sun & Xu 2014 (IEEE SPL 21:1389) for placement values from ranks; Obuchowski 1997 (Biometrics 53:567) for
clustered data; Pepe 2003, section 5.2, for intervals on the logit scale; van der Vaart & Wellner 1996, chapter 2.9, and
Chernozhukov, Chetverikov & Kato 2013 (Ann. Statist. 41:2786) for the multiplier bootstrap of a maximum; Hsu 1984
(Ann. Statist. 12:1136) and Hansen, Lunde & Nason 2011 (Econometrica 79:453) for the set that holds the best.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit
from scipy.stats import norm, rankdata

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

LEVEL = 0.95
"""Of intervals and bands, where nothing else is asked for."""

DRAWS = 2000
"""Draws of the multiplier bootstrap."""


@dataclass(frozen=True)
class Aucs:
    """AUCs of m scores on the same n answers, with what their joint covariance is made of."""

    value: Floats
    """(m,): probability that a right answer scores above a wrong one of the same stratum, ties counted half; NaN
    where no stratum holds both."""
    influence: Floats
    """(n, m): each answer's contribution to the deviation of `value`: their covariance matrix is
    ``influence.T @ influence``, influences summed by group first where answers are not independent."""


def aucs(scores: npt.NDArray[np.floating], correct: Bools, strata: Ints | None = None) -> Aucs:
    """AUCs of scores for right against wrong answers, with influences.

    Parameters
    ----------
    scores: (n, m), higher means "right"; finite.
    correct: (n,).
    strata: (n,), e.g. the fold of each answer: only answers of one stratum are compared, since scores of different
        probes have no common scale.  None compares all.

    For right answer i of stratum s, which holds m_s right and n_s wrong ones, the placement value V_i is the share of
    the stratum's wrong answers that score below (ties half); for wrong answer j, V_j is the share of right ones above.
    With N = Σ m_s n_s pairs the value is A = Σ_i n_s V_i / N, and the influences are n_s (V_i - A) / N and
    m_s (V_j - A) / N, scaled by sqrt(m / (m - 1)) of their class so that, with one stratum, the sum of squares is
    DeLong's unbiased variance S10 / m + S01 / n.
    """
    n, m = scores.shape
    strata = np.zeros(n, np.int64) if strata is None else strata
    placement, weight, pairs = np.zeros((n, m)), np.zeros((n, 1)), 0
    for stratum in np.unique(strata):
        right, wrong = (np.flatnonzero((strata == stratum) & (correct == side)) for side in (True, False))
        if not len(right) or not len(wrong):
            continue
        ranks = rankdata(np.concatenate([scores[right], scores[wrong]]), axis=0)
        placement[right] = (ranks[: len(right)] - rankdata(scores[right], axis=0)) / len(wrong)
        placement[wrong] = 1 - (ranks[len(right) :] - rankdata(scores[wrong], axis=0)) / len(right)
        weight[right], weight[wrong] = len(wrong), len(right)
        pairs += len(right) * len(wrong)
    if not pairs:
        return Aucs(np.full(m, np.nan), np.zeros((n, m)))
    value = (weight * placement)[correct].sum(0) / pairs
    influence = weight * (placement - value) / pairs
    for side in (True, False):
        used = int((weight[correct == side] > 0).sum())
        influence[correct == side] *= np.sqrt(used / max(used - 1, 1))
    return Aucs(value, influence)


def auc_values(scores: npt.NDArray[np.floating], correct: Bools, strata: Ints) -> Floats:
    """The values alone, each column with labels of its own: scores and correct are (n, m); NaN as in `Aucs`."""
    above, pairs = np.zeros(scores.shape[1]), np.zeros(scores.shape[1])
    for stratum in np.unique(strata):
        rows = strata == stratum
        right = correct[rows].sum(0).astype(float)
        # The rank sum of the right answers (Mann & Whitney 1947).
        ranks = (rankdata(scores[rows], axis=0) * correct[rows]).sum(0)
        above += ranks - right * (right + 1) / 2
        pairs += right * (rows.sum() - right)
    values = np.full(len(pairs), np.nan)
    values[pairs > 0] = above[pairs > 0] / pairs[pairs > 0]
    return values


def by_group(influence: Floats, groups: Ints | None) -> Floats:
    """(n_groups, m): influences summed over answers of one group, which count as one draw."""
    if groups is None:
        return influence
    numbers, where = np.unique(groups, return_inverse=True)
    summed = np.zeros((len(numbers), influence.shape[1]))
    np.add.at(summed, where, influence)
    return summed


def spread(influence: Floats, rows: Bools) -> Floats:
    """Influences of some answers as influences of all: the others, where `rows` is False, have none."""
    made = np.zeros((len(rows), influence.shape[1]))
    made[rows] = influence
    return made


def interval(
    value: float, variance: float, n_right: int, n_wrong: int, level: float = LEVEL, quantile: float | None = None
) -> tuple[float, float]:
    """A two-sided interval for an AUC, inside [0, 1].

    On the logit scale, where the estimate is closer to normal.  With no variance to go by (perfect separation)
    the end inside is that of an exact binomial interval for min(n_right, n_wrong) successes in as many trials.

    Parameters
    ----------
    quantile: instead of the normal one of `level`, e.g. a simultaneous one.
    """
    z = float(norm.ppf(0.5 + level / 2)) if quantile is None else quantile
    if np.isnan(value):
        return float("nan"), float("nan")
    if variance <= 0 and 0 < value < 1:  # every score is the same: nothing is known
        return 0.0, 1.0
    if variance <= 0 or not 0 < value < 1:
        edge = float(norm.sf(z)) ** (1 / max(min(n_right, n_wrong), 1))
        return (edge, 1.0) if value >= 0.5 else (0.0, 1 - edge)
    half = z * np.sqrt(variance) / (value * (1 - value))
    return float(expit(logit(value) - half)), float(expit(logit(value) + half))


def simultaneous_quantile(influence: Floats, level: float = LEVEL, seed: int = 0) -> float:
    """How many standard errors hold *all* deviations at once with probability `level`.

    The maximum over cells of |Σ_i ξ_i influence_i| / se, ξ standard normal, has the distribution of the map's
    largest standardised deviation (multiplier bootstrap).

    Parameters
    ----------
    influence: (n_groups, m), see `by_group`; columns without variance are left out.
    """
    error = np.sqrt((influence**2).sum(0))
    used = influence[:, error > 0] / error[error > 0]
    if not used.shape[1]:
        return float(norm.ppf(0.5 + level / 2))
    draws = np.random.default_rng(seed).standard_normal((DRAWS, len(used)))
    return float(np.quantile(np.abs(draws @ used).max(1), level))


@dataclass(frozen=True)
class Difference:
    """One AUC minus another, on the same answers."""

    value: float
    low: float
    high: float
    p: float
    """Two-sided, of no difference (normal)."""


def difference(value: float, influence: Floats, level: float = LEVEL) -> Difference:
    """The interval and test of any linear combination of AUCs.

    Parameters
    ----------
    value: of the combination, e.g. AUC a - AUC b.
    influence: (n_groups,), the same combination of their influences.
    """
    error = float(np.sqrt((influence**2).sum()))
    half = float(norm.ppf(0.5 + level / 2)) * error
    p = float(2 * norm.sf(abs(value) / error)) if error > 0 else float(value == 0)
    return Difference(value, value - half, value + half, p)


@dataclass(frozen=True)
class Estimate:
    """Numbers with their joint uncertainty."""

    value: Floats
    """(m,); NaN where there is too little to say."""
    influence: Floats
    """(n, m): each answer's contribution to the deviation of `value`, as in `Aucs`; 0 where `value` is NaN."""

    def interval(self, groups: Ints | None, level: float = LEVEL) -> tuple[Floats, Floats]:
        """(low, high), (m,) each: normal, answers of one group counted as one draw."""
        half = norm.ppf(0.5 + level / 2) * np.sqrt((by_group(self.influence, groups) ** 2).sum(0))
        half[np.isnan(self.value)] = np.nan
        return self.value - half, self.value + half


def means(values: Floats) -> Estimate:
    """The mean of each column over the rows that have a value.

    Parameters
    ----------
    values: (n, m), NaN where there is none.
    """
    known = ~np.isnan(values)
    n = known.sum(0)
    mean = np.where(known, values, 0).sum(0) / np.where(n > 1, n, np.nan)
    influence = np.where(known, values - mean, 0) / np.sqrt(np.maximum(n * (n - 1.0), 1))
    return Estimate(mean, np.nan_to_num(influence))


def standardised_differences(values: Floats, correct: Bools) -> Estimate:
    """Mean of right minus mean of wrong answers, in units of the standard deviation inside them (Cohen's d).

    Its influences are those of both means and of the deviation (delta method).

    Parameters
    ----------
    values: (n, m), NaN where there is none; correct: (n,).
    """
    n = (~np.isnan(values)).sum(0)
    right, wrong = (means(np.where(correct[:, None] == side, values, np.nan)) for side in (True, False))
    rest = values - np.where(correct[:, None], right.value, wrong.value)
    variance = np.nansum(rest**2, axis=0) / np.maximum(n - 2, 1)
    variance[variance == 0] = np.nan
    value = (right.value - wrong.value) / np.sqrt(variance)
    of_means = (right.influence - wrong.influence) / np.sqrt(variance)
    of_deviation = value * (rest**2 / variance - 1) / (2 * np.maximum(n, 1))
    return Estimate(value, np.nan_to_num(of_means - of_deviation))


def confidence_set(value: Floats, influence: Floats, level: float = LEVEL, seed: int = 0) -> Bools:
    """Which cells may be the best: a set that holds the truly best one with probability `level`.

    A cell stays unless some other is better by more standard errors of their difference than the largest of all
    such deviations reaches by chance (its quantile over the multiplier bootstrap, for each cell its own).

    Parameters
    ----------
    value: (m,), NaN cells are never in the set.
    influence: (n_groups, m), see `by_group`.
    """
    known = np.flatnonzero(~np.isnan(value))
    a, infl = value[known], influence[:, known]
    covariance = infl.T @ infl
    variance = np.diag(covariance)
    chance = np.random.default_rng(seed).standard_normal((DRAWS, len(infl))) @ infl
    stays = np.zeros(len(value), bool)
    for k, cell in enumerate(known):
        error = np.sqrt(np.maximum(variance + variance[k] - 2 * covariance[k], 0))
        # Twin cells: what differs by rounding alone does not differ.
        other = error > 1e-9
        if not other.any():
            stays[cell] = True
            continue
        largest = ((chance[:, other] - chance[:, [k]]) / error[other]).max(1)
        stays[cell] = bool(((a[other] - a[k]) / error[other]).max() <= np.quantile(largest, level))
    return stays


def choice_coupling(influences: Sequence[Floats], weights: Sequence[float], seed: int = 0) -> float:
    """What choosing adds to the variance of nested cross-validation, as a share of that of cells named before.

    The answers that judge one part's cell choose the others' cells.  A cell that by luck is high in part k is judged
    there, and then chosen, by all other parts; so their errors move together, and the variance is more than the sum
    of the parts' own.  By how much depends on how close the best cells are; here all of them are equally good, the
    least favourable case, and each part chooses the one whose summed deviation in the other parts is largest
    (multiplier bootstrap).

    Parameters
    ----------
    influences: for each part (n_groups, m), the influences of its answers on its AUC in each cell.
    weights: the part's share in the summed AUC.

    Returns
    -------
    0 or more; 0 if there is one part, which has no say in its own choice, or nothing to choose from.
    """
    draw = np.random.default_rng(seed)
    luck = [w * (draw.standard_normal((DRAWS, len(i))) @ i) for w, i in zip(weights, influences, strict=True)]
    if len(luck) < 2 or luck[0].shape[1] < 2:
        return 0.0
    total, one_by_one = np.sum(luck, axis=0), np.arange(DRAWS)
    error = np.sum([part[one_by_one, (total - part).argmax(1)] for part in luck], axis=0)
    alone = float(np.sum([part.var(axis=0).mean() for part in luck]))
    return max(float(error.var()) / alone - 1, 0.0) if alone > 0 else 0.0
