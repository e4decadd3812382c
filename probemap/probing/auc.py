"""Compute the AUCs of several scores on the same answers, together with their uncertainty.

The methods are described in the following publications:

- DeLong, DeLong & Clarke-Pearson 1988 (Biometrics 44:837): covariance of AUCs on the same answers;
- Sun & Xu 2014 (IEEE SPL 21:1389): computation of placement values from ranks;
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
"""An AUC is reported only if there are at least this many correct answers and at least this many incorrect answers."""


@dataclass(frozen=True)
class Aucs:
    """AUCs of m scores on the same n answers, with the influence of each answer."""

    value: Floats
    """ndarray of shape (m,): probability that a correct answer scores higher than an incorrect answer in the same
    stratum, where ties count half.  NaN if no stratum contains both classes."""
    influence: Floats
    """ndarray of shape (n, m): contribution of each answer to the sampling error of `value`.  The covariance matrix of
    the AUCs is ``influence.T @ influence``.  If answers are not independent, sum the influences by group first."""


def aucs(scores: npt.NDArray[np.floating], correct: Bools, strata: Ints | None = None) -> Aucs:
    """Return the AUC of each score as a predictor of correctness, with the influence of each answer.

    Let stratum s contain m_s correct and n_s incorrect answers.  The placement value V_i of a correct answer i in s is
    the share of the incorrect answers in s that have a lower score, where ties count half.  For an incorrect answer j,
    V_j is the share of the correct answers in its stratum that have a higher score.  With N = Σ m_s n_s pairs, the AUC
    is A = Σ_i n_s V_i / N, and the influences are n_s (V_i - A) / N and m_s (V_j - A) / N.  The influences of each
    class are scaled by sqrt(m / (m - 1)), where m is the size of the class.  With a single stratum, the sum of squared
    influences is then DeLong's unbiased variance S10 / m + S01 / n.

    Parameters
    ----------
    scores : ndarray of shape (n, m)
        Finite scores.  A higher score indicates that the answer is more likely to be correct.
    correct : ndarray of shape (n,), bool
    strata : ndarray of shape (n,), int, optional
        Stratum of each answer.  Only answers in the same stratum are compared.  For out-of-fold scores, pass the folds
        as strata, because scores from different probes are not on a common scale.  Default: a single stratum.

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
    """Return the AUC of each column of scores, evaluated with the corresponding column of labels.

    Parameters
    ----------
    scores : ndarray of shape (n, m)
    correct : ndarray of shape (n, m), bool
    strata : ndarray of shape (n,), int

    Returns
    -------
    ndarray of shape (m,), float64
        The AUCs.  An AUC is NaN if no stratum contains both classes.
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
    """Return a two-sided confidence interval for an AUC.

    The interval is symmetric on the logit scale, where the distribution of the estimate is closer to normal, and
    therefore lies within [0, 1].  If the variance is 0 because the classes are perfectly separated, the end of the
    interval nearer to 0.5 is taken from an exact binomial interval for n successes in n trials, where n is the smaller
    of `n_correct` and `n_incorrect`.

    Parameters
    ----------
    value, variance : float
        The AUC and its variance.
    n_correct, n_incorrect : int
        Number of answers in each class.
    level : float, default=0.95
        Confidence level.
    quantile : float, optional
        Half-width of the interval in standard errors, e.g. from `inference.simultaneous_quantile`.  Default: the normal
        quantile for `level`.

    Returns
    -------
    low, high : float
        The ends of the interval, which are NaN if `value` is NaN.
    """
    z = float(norm.ppf(0.5 + level / 2)) if quantile is None else quantile
    if np.isnan(value):
        return float("nan"), float("nan")
    if variance <= 0 and 0 < value < 1:  # all scores are equal, so they contain no information about the AUC
        return 0.0, 1.0
    if variance <= 0 or not 0 < value < 1:
        edge = float(norm.sf(z)) ** (1 / max(min(n_correct, n_incorrect), 1))
        return (edge, 1.0) if value >= 0.5 else (0.0, 1 - edge)
    half = z * np.sqrt(variance) / (value * (1 - value))
    return float(expit(logit(value) - half)), float(expit(logit(value) + half))


def expand_rows(influence: Floats, rows: Bools) -> Floats:
    """Expand the influences of selected answers to all answers, with an influence of 0 for the other answers.

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
