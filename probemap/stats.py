"""AUC and its uncertainty, from placement values.

Sources: DeLong, DeLong & Clarke-Pearson 1988 (Biometrics 44:837) for the variance; Sun & Xu 2014 (IEEE SPL
21:1389) for placement values from ranks; Obuchowski 1997 (Biometrics 53:567) for clustered data; Pepe 2003,
section 5.2, for intervals on the logit scale.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, rankdata

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Auc:
    """One AUC with the parts of its variance."""

    value: float
    """Probability that a right answer scores above a wrong one, ties counted half."""
    influence: Floats
    """(n,): each answer's contribution to the deviation of `value`; its covariance matrix over cells is
    the matrix of products of influences, summed by group."""

    def variance(self, groups: npt.NDArray[np.int64] | None = None) -> float:
        """Of `value`; answers of one group (the same question asked again) count as one draw."""
        if groups is None:
            return float(self.influence @ self.influence)
        summed = np.bincount(groups, weights=self.influence)
        return float(summed @ summed)


def auc(scores: Floats, correct: npt.NDArray[np.bool_]) -> Auc:
    """AUC of scores for right against wrong answers, with influences.

    Parameters
    ----------
    scores: (n,), higher means "right"; finite.
    correct: (n,), at least one of each.

    For right answer i the placement value is the share of wrong answers that score below it (ties half), for
    wrong answer j the share of right answers above it; the AUC is the mean of either.  The influences are the
    placements' deviations over the class size, scaled by sqrt(m / (m - 1)) so that the sum of squares is DeLong's
    unbiased variance S10 / m + S01 / n.
    """
    right, wrong = scores[correct], scores[~correct]
    m, n = len(right), len(wrong)
    if m == 0 or n == 0:
        raise ValueError("AUC needs right and wrong answers")
    pooled = np.empty(m + n)
    pooled[:m], pooled[m:] = right, wrong
    ranks = rankdata(pooled)
    above = (ranks[:m] - rankdata(right)) / n
    below = 1.0 - (ranks[m:] - rankdata(wrong)) / m
    value = float(above.mean())
    influence = np.empty(m + n)
    influence[correct] = (above - value) / np.sqrt(m * max(m - 1, 1))
    influence[~correct] = (below - value) / np.sqrt(n * max(n - 1, 1))
    return Auc(value, influence)


def interval(value: float, variance: float, n_right: int, n_wrong: int, level: float = 0.95) -> tuple[float, float]:
    """A two-sided interval for an AUC, inside [0, 1].

    On the logit scale, where the estimate is closer to normal.  With no variance to go by (perfect separation)
    the end inside is that of an exact binomial interval for min(n_right, n_wrong) successes in as many trials.
    """
    z = float(norm.ppf(0.5 + level / 2))
    if variance <= 0 and 0 < value < 1:  # every score is the same: nothing is known
        return 0.0, 1.0
    if variance <= 0 or not 0 < value < 1:
        edge = ((1 - level) / 2) ** (1 / min(n_right, n_wrong))
        return (edge, 1.0) if value >= 0.5 else (0.0, 1 - edge)
    logit = np.log(value / (1 - value))
    half = z * np.sqrt(variance) / (value * (1 - value))
    low, high = 1 / (1 + np.exp(-(logit - half))), 1 / (1 + np.exp(-(logit + half)))
    return float(low), float(high)
