"""AUC of several scores on the same answers, with its uncertainty.

The methods are described in:

- DeLong, DeLong & Clarke-Pearson 1988 (Biometrics 44:837): covariance of AUCs on the same answers;
- Sun & Xu 2014 (IEEE SPL 21:1389): placement values from ranks;
- Obuchowski 1997 (Biometrics 53:567): clustered data;
- Pepe 2003, section 5.2: intervals on the logit scale.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit
from scipy.stats import norm, rankdata

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

LEVEL = 0.95
"""Default confidence level of intervals and bands."""

MIN_PER_CLASS = 10
"""Minimum number of correct answers, and of incorrect answers, for an AUC to be reported."""


@dataclass(frozen=True)
class Aucs:
    """AUCs of m scores on the same n answers, with the influence of each answer."""

    value: Floats
    """ndarray of shape (m,): probability that a correct answer scores higher than an incorrect answer of the same
    stratum, where ties count half.  NaN if no stratum contains both classes."""
    influence: Floats
    """ndarray of shape (n, m): contribution of each answer to the deviation of `value`.  The covariance matrix of the
    AUCs is ``influence.T @ influence``.  If answers are not independent, influences must first be summed by group."""


def aucs(scores: npt.NDArray[np.floating], correct: Bools, strata: Ints | None = None) -> Aucs:
    """Return the AUCs of scores as predictors of correct answers, with the influence of each answer.

    Let stratum s contain m_s correct and n_s incorrect answers.  The placement value V_i of a correct answer i in s is
    the share of the incorrect answers in s that have a lower score, where ties count half.  For an incorrect answer j,
    V_j is the share of the correct answers in its stratum that have a higher score.  With N = Σ m_s n_s pairs, the AUC
    is A = Σ_i n_s V_i / N, and the influences are n_s (V_i - A) / N and m_s (V_j - A) / N.  The influences of each
    class are scaled by sqrt(m / (m - 1)), where m is the size of the class.  With a single stratum, the sum of squares
    is then DeLong's unbiased variance S10 / m + S01 / n.

    Parameters
    ----------
    scores : ndarray of shape (n, m)
        Finite scores; higher means "correct".
    correct : ndarray of shape (n,), bool
    strata : ndarray of shape (n,), int, optional
        Stratum of each answer.  Only answers of the same stratum are compared.  Folds are used as strata, because
        scores of different probes have no common scale.  Default: a single stratum.

    Returns
    -------
    Aucs
    """
    n, m = scores.shape
    strata = np.zeros(n, np.int64) if strata is None else strata
    placement, weight, pairs = np.zeros((n, m)), np.zeros((n, 1)), 0
    for stratum in np.unique(strata):
        positive, negative = (np.flatnonzero((strata == stratum) & (correct == side)) for side in (True, False))
        if not len(positive) or not len(negative):
            continue
        ranks = rankdata(np.concatenate([scores[positive], scores[negative]]), axis=0)
        placement[positive] = (ranks[: len(positive)] - rankdata(scores[positive], axis=0)) / len(negative)
        placement[negative] = 1 - (ranks[len(positive) :] - rankdata(scores[negative], axis=0)) / len(positive)
        weight[positive], weight[negative] = len(negative), len(positive)
        pairs += len(positive) * len(negative)
    if not pairs:
        return Aucs(np.full(m, np.nan), np.zeros((n, m)))
    value = (weight * placement)[correct].sum(0) / pairs
    influence = weight * (placement - value) / pairs
    for side in (True, False):
        n_used = int((weight[correct == side] > 0).sum())
        influence[correct == side] *= np.sqrt(n_used / max(n_used - 1, 1))
    return Aucs(value, influence)


def auc_values(scores: npt.NDArray[np.floating], correct: Bools, strata: Ints) -> Floats:
    """Return AUCs without influences; each column of scores has its own labels.

    Parameters
    ----------
    scores : ndarray of shape (n, m)
    correct : ndarray of shape (n, m), bool
    strata : ndarray of shape (n,), int

    Returns
    -------
    ndarray of shape (m,), float64
        NaN if no stratum contains both classes.
    """
    above, pairs = np.zeros(scores.shape[1]), np.zeros(scores.shape[1])
    for stratum in np.unique(strata):
        rows = strata == stratum
        n_correct = correct[rows].sum(0).astype(float)
        # This is the rank sum of the correct answers (Mann & Whitney 1947).
        ranks = (rankdata(scores[rows], axis=0) * correct[rows]).sum(0)
        above += ranks - n_correct * (n_correct + 1) / 2
        pairs += n_correct * (rows.sum() - n_correct)
    values = np.full(len(pairs), np.nan)
    values[pairs > 0] = above[pairs > 0] / pairs[pairs > 0]
    return values


def auc_interval(
    value: float,
    variance: float,
    n_correct: int,
    n_incorrect: int,
    level: float = LEVEL,
    *,
    quantile: float | None = None,
) -> tuple[float, float]:
    """Return a two-sided confidence interval for an AUC that stays within [0, 1].

    The interval is symmetric on the logit scale, where the distribution of the estimate is closer to normal.  If the
    variance is 0 because the classes are perfectly separated, the inner end of the interval is that of an exact
    binomial interval for min(n_correct, n_incorrect) successes in the same number of trials.

    Parameters
    ----------
    value, variance : float
        The AUC and its variance.
    n_correct, n_incorrect : int
        Number of answers of each class.
    level : float, default=0.95
        Confidence level.
    quantile : float, optional
        Number of standard errors, e.g. for a simultaneous band.  Default: the normal quantile for `level`.

    Returns
    -------
    low, high : float
        NaN if `value` is NaN.
    """
    z = float(norm.ppf(0.5 + level / 2)) if quantile is None else quantile
    if np.isnan(value):
        return float("nan"), float("nan")
    if variance <= 0 and 0 < value < 1:  # all scores are equal, so that they contain no information about the AUC
        return 0.0, 1.0
    if variance <= 0 or not 0 < value < 1:
        edge = float(norm.sf(z)) ** (1 / max(min(n_correct, n_incorrect), 1))
        return (edge, 1.0) if value >= 0.5 else (0.0, 1 - edge)
    half = z * np.sqrt(variance) / (value * (1 - value))
    return float(expit(logit(value) - half)), float(expit(logit(value) + half))


def expand_rows(influence: Floats, rows: Bools) -> Floats:
    """Return the influences of all answers, given those of the selected answers; the others have an influence of 0.

    Parameters
    ----------
    influence : ndarray of shape (n_selected, m)
    rows : ndarray of shape (n,), bool
        Mask of the selected answers.

    Returns
    -------
    ndarray of shape (n, m), float64
    """
    expanded = np.zeros((len(rows), influence.shape[1]))
    expanded[rows] = influence
    return expanded
