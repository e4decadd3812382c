"""Thresholds with guarantees for new questions: for the false-alarm rate, and for the risk of the accepted answers.

Both guarantees hold in finite samples and for any distribution of the scores.  They assume that the questions, those of
the calibration and new ones, are exchangeable, e.g. drawn independently from the same source, and that their answers
were not used to fit the probe or to choose its cell.  They do not hold for questions from another source.

- `conformal_threshold` follows split conformal prediction (Vovk, Gammerman & Shafer 2005; Lei et al. 2018) and, for
  several answers per question, hierarchical conformal prediction (Dunn, Wasserman & Ramdas 2022; Lee, Barber & Willett
  2023).
- `acceptance_threshold` follows Learn then Test (Angelopoulos, Bates, Candès, Jordan & Lei 2021).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import binom, binomtest

from probemap.probing.folds import group_numbers
from probemap.records import DetectorError
from probemap.tables import Interval

if TYPE_CHECKING:
    from probemap.probing.auc import Bools, Floats, Ints
    from probemap.probing.inputs import Column

START = 3
"""`acceptance_threshold` starts with this multiple of the number of answers that a test needs without an error."""

_ROUNDING = 1e-9
"""Differences between a number of questions and a limit that are due to rounding, e.g. in 0.29 * 100."""


@dataclass(frozen=True, kw_only=True)
class AcceptanceThreshold:
    """A threshold for accepting answers such that the share of incorrect answers among them is limited."""

    risk: float
    """Largest share of incorrect answers among the accepted ones."""
    confidence: float
    """Probability, over calibration sets, that `risk` is not exceeded on new questions."""
    score: float | None
    """The threshold: answers whose score is at least this are accepted.  -inf if all answers can be accepted; None if
    the risk cannot be guaranteed for any threshold."""
    n: int
    """Number of calibration answers, one per question."""
    n_accepted: int
    """Number of these answers that are accepted."""
    coverage: Interval
    """Share of these answers that are accepted, with its 95 % interval (Clopper & Pearson 1934).  0 without a
    threshold, NaN without answers."""
    observed_risk: Interval
    """Share of incorrect answers among the accepted ones, with its 95 % interval.  NaN if no answer is accepted.

    The intervals treat the threshold as fixed, although it was chosen with the same answers.
    """


def conformal_threshold(scores: Floats, groups: Column | None, false_alarms: float) -> float:
    """Return the threshold below which answers are flagged, so that few correct answers to new questions are flagged.

    A correct answer to a new question has a score below the threshold with a probability of at most `false_alarms`.

    With one answer per question, the threshold is the k-th lowest of the n scores, where k = ⌊false_alarms (n + 1)⌋.
    This includes the new answer among n + 1 answers, each of which is equally likely to have any rank.  With several
    answers per question, each of the K questions has the weight 1 / (K + 1), which its answers share equally, and the
    rest of the weight, that of the new question, lies at -∞.  The threshold is the lowest score at which the cumulative
    weight exceeds `false_alarms`.  With one answer per question, both definitions agree.

    What the guarantee means:

    - It assumes that questions with at least one correct answer are exchangeable.  Answers to the same question may
      depend on each other.
    - Each question counts equally: the probability is that for one correct answer, drawn at random, to a new question.
      Among all correct answers, the share that is flagged can be higher, if questions with many correct answers differ
      from others.
    - It holds on average over calibration sets.  For one calibration set of n questions, the false-alarm rate varies
      about `false_alarms` with a standard deviation of about sqrt(false_alarms (1 - false_alarms) / n).

    Parameters
    ----------
    scores : ndarray of shape (n,), float64
        Finite scores of the correct calibration answers.
    groups : array-like of shape (n,), or None
        Group of each answer, e.g. the id of its question.  If None, each answer forms its own group.
    false_alarms : float
        Nominal false-alarm rate, between 0 and 1.

    Returns
    -------
    float
        The threshold; -inf, which flags no answer, if there are fewer than 1 / false_alarms - 1 questions.

    Raises
    ------
    DetectorError
        If `false_alarms` is not between 0 and 1, or if a score is not finite.
    MapError
        If there is not one group per score.

    Examples
    --------
    >>> import numpy as np
    >>> from probemap.detectors.guarantees import conformal_threshold
    >>> scores = np.arange(99.0)
    >>> conformal_threshold(scores, None, 0.05)  # the fifth of 99 scores
    4.0
    >>> conformal_threshold(scores[:18], None, 0.05)
    -inf
    """
    _check_share(false_alarms, "false_alarms")
    _check_scores(scores)
    group = group_numbers(groups, len(scores))
    n_groups, size = len(np.unique(group)), np.bincount(group)
    order = np.argsort(scores, kind="stable")
    # The weights are in units of one question, so that they are exact with one answer per question.
    weight = 1 + np.cumsum(1 / size[group[order]])
    # At tied scores, the weight is that of the last one.  Until then, it is lower, so that the first excess would be
    # found at the same score.
    exceeding = np.flatnonzero(weight > false_alarms * (n_groups + 1) + _ROUNDING)
    if false_alarms * (n_groups + 1) + _ROUNDING < 1 or not len(exceeding):
        return -math.inf
    return float(scores[order[exceeding[0]]])


def acceptance_threshold(
    scores: Floats,
    correct: Bools,
    groups: Column | None,
    *,
    risk: float,
    confidence: float = 0.95,
    seed: int = 0,
) -> AcceptanceThreshold:
    """Return the lowest threshold for which few of the accepted answers are guaranteed to be incorrect.

    With a probability of at least `confidence` over calibration sets, the share of incorrect answers among answers to
    new questions with a score of at least the threshold is at most `risk`.

    For one threshold, the number of errors among the accepted answers has a binomial distribution, whose lower tail at
    the error rate `risk` is the p-value for the hypothesis that the threshold is too low.  Several thresholds are
    tested in a fixed sequence, from high to low, each at the level 1 - confidence; the first hypothesis that is not
    rejected ends the sequence.  No correction for the number of tests is needed, because a threshold that is too low is
    returned only if the first such threshold of the sequence is wrongly rejected.  The sequence contains every score
    that occurs, from the one that accepts three times as many answers as a test needs to succeed without an error, or
    half of the answers if these are fewer.  In simulations, starting with fewer answers ended more sequences by a
    single early error, and Bonferroni corrections accepted fewer answers.

    What the guarantee means:

    - It assumes that questions are exchangeable, and refers to one answer, drawn at random, to each question.  If a
      question has several answers, one is drawn, so that the distribution is exactly binomial.
    - It is exact if the risk exceeds the level for all thresholds below a certain one, as it does if answers with lower
      scores are more often incorrect.  In simulations in which the risk crossed the level several times, the share of
      calibration sets that exceeded it remained below 1 - confidence.
    - It limits the share of incorrect answers among the accepted ones, not among all answers or in any subset.

    Parameters
    ----------
    scores : ndarray of shape (n,), float64
        Finite scores of the calibration answers.
    correct : ndarray of shape (n,), bool
    groups : array-like of shape (n,), or None
        Group of each answer, e.g. the id of its question.  If None, each answer forms its own group.
    risk : float
        Largest share of incorrect answers among the accepted ones, between 0 and 1.
    confidence : float, default=0.95
        Probability over calibration sets, between 0 and 1.
    seed : int, default=0
        Seed for drawing one answer per question.

    Returns
    -------
    AcceptanceThreshold
        Its `score` is None if no threshold can be guaranteed, e.g. because fewer than log(1 - confidence) /
        log(1 - risk) questions are available: 59 for a risk of 5 % and a confidence of 95 %.

    Raises
    ------
    DetectorError
        If `risk` or `confidence` is not between 0 and 1, if a score is not finite, or if the lengths differ.
    MapError
        If there is not one group per score.

    Examples
    --------
    >>> import numpy as np
    >>> from probemap.detectors.guarantees import acceptance_threshold
    >>> scores = np.arange(200.0)
    >>> accepted = acceptance_threshold(scores, scores >= 100, None, risk=0.1)
    >>> accepted.score, accepted.n_accepted, round(accepted.observed_risk.value, 3)
    (95.0, 105, 0.048)
    """
    _check_share(risk, "risk")
    _check_share(confidence, "confidence")
    _check_scores(scores)
    if scores.shape != correct.shape:
        raise DetectorError(
            f"expected one label per score, got {len(correct)} labels for {len(scores)} scores",
            "pass two one-dimensional arrays of the same length",
        )
    rows = _one_per_group(group_numbers(groups, len(scores)), seed)
    scores, errors = scores[rows], ~correct[rows]
    n, level = len(rows), 1 - confidence
    values, number, size = np.unique(-scores, return_inverse=True, return_counts=True)
    n_accepted = np.cumsum(size)
    n_errors = np.cumsum(np.bincount(number, errors, minlength=len(values)))
    needed = math.ceil(math.log(level) / math.log1p(-risk) - _ROUNDING)
    start = int(np.searchsorted(n_accepted, max(needed, min(START * needed, n // 2))))
    p_values = binom.cdf(n_errors[start:], n_accepted[start:], risk)
    n_rejected = int(np.cumprod(p_values <= level + _ROUNDING).sum())
    last = start + n_rejected - 1
    if not n_rejected:
        score, accepted, wrong = None, 0, 0
    else:
        score, accepted, wrong = -float(values[last]), int(n_accepted[last]), int(n_errors[last])
    return AcceptanceThreshold(
        risk=risk,
        confidence=confidence,
        score=-math.inf if n and accepted == n else score,
        n=n,
        n_accepted=accepted,
        coverage=_share(accepted, n),
        observed_risk=_share(wrong, accepted),
    )


def _one_per_group(group: Ints, seed: int) -> Ints:
    """Return the row of one answer per group, drawn at random."""
    shuffled = np.random.default_rng(seed).permutation(len(group))
    return np.asarray(shuffled[np.unique(group[shuffled], return_index=True)[1]], np.int64)


def _share(successes: int, n: int) -> Interval:
    """Return a share with its 95 % interval (Clopper & Pearson 1934)."""
    if not n:
        return Interval(math.nan, math.nan, math.nan)
    ends = binomtest(successes, n).proportion_ci(0.95, method="exact")
    return Interval(successes / n, float(ends.low), float(ends.high))


def _check_share(value: float, name: str) -> None:
    if not 0 < value < 1:
        raise DetectorError(f"{name} must be between 0 and 1, got {value}", f"pass {name}=0.1, for example")


def _check_scores(scores: Floats) -> None:
    if not np.isfinite(scores).all():
        raise DetectorError(
            f"{int((~np.isfinite(scores)).sum())} of {len(scores)} scores are not finite",
            "leave out answers without a score",
        )
