"""Metrics of scores as predictors of correct answers: selective answering, flagging and calibration.

A higher score indicates that an answer is more likely to be correct.  The definitions are those of the field, so that
values can be compared with published ones:

- El-Yaniv & Wiener 2010 (JMLR 11:1605) and Geifman & El-Yaniv 2017: risk-coverage curve;
- Geifman, Uziel & El-Yaniv 2019 (ICLR): area under this curve, and its excess over that of an oracle;
- Malinin & Gales 2021 (ICLR): prediction rejection ratio, as LM-Polygraph computes it (``PredictionRejectionArea``);
- Naeini, Cooper & Hauskrecht 2015 (AAAI): expected and maximum calibration error, with the equal-width bins of uqlm.

All values are independent of the order of the answers.  LM-Polygraph sorts tied scores in the order of the data; here,
each tied answer counts as the mean of all of them, which is the mean over all orders of the ties.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from probemap.records import MapError

if TYPE_CHECKING:
    from probemap.probing.auc import Bools, Floats

BINS = 10
"""Number of equal-width bins for the expected and the maximum calibration error."""

_NAN = float("nan")


@dataclass(frozen=True)
class RiskCoverageCurve:
    """The share of incorrect answers among the accepted ones, for each threshold that can be chosen."""

    threshold: Floats
    """ndarray of shape (n_distinct,): the distinct scores, from high to low.  Answers whose score is at least the
    threshold are accepted."""
    coverage: Floats
    """ndarray of shape (n_distinct,): share of answers that are accepted.  The last value is 1."""
    risk: Floats
    """ndarray of shape (n_distinct,): share of incorrect answers among the accepted ones.  The last value is the share
    of incorrect answers among all answers."""


@dataclass(frozen=True)
class PrecisionRecallCurve:
    """Precision and recall of selecting the answers with the highest scores, for each threshold that can be chosen."""

    threshold: Floats
    """ndarray of shape (n_distinct,): the distinct scores, from high to low.  Answers whose score is at least the
    threshold are selected."""
    precision: Floats
    """ndarray of shape (n_distinct,): share of positive answers among the selected ones."""
    recall: Floats
    """ndarray of shape (n_distinct,): share of the positive answers that are selected.  The last value is 1."""

    @property
    def average_precision(self) -> float:
        """Mean precision, weighted by the increase in recall, as ``sklearn.metrics.average_precision_score``."""
        return float(np.diff(self.recall, prepend=0.0) @ self.precision)


@dataclass(frozen=True, kw_only=True)
class FlaggingThreshold:
    """The threshold with the highest F1 score for incorrect answers.  Answers with a score below it are flagged.

    The values are computed from the answers with which the threshold was chosen, and are therefore optimistic for new
    answers.  They are NaN if there are only correct or only incorrect answers.
    """

    score: float
    """The threshold: the lowest score that is not flagged, or infinity if all answers are flagged."""
    f1: float
    precision: float
    """Share of incorrect answers among the flagged ones."""
    recall: float
    """Share of the incorrect answers that are flagged."""


def risk_coverage_curve(scores: Floats, correct: Bools) -> RiskCoverageCurve:
    """Return the risk-coverage curve: the share of incorrect answers among those with the highest scores.

    Parameters
    ----------
    scores : ndarray of shape (n,), float64
    correct : ndarray of shape (n,), bool

    Returns
    -------
    RiskCoverageCurve

    Raises
    ------
    MapError
        If a score is not finite, or if the numbers of scores and labels differ.

    Examples
    --------
    >>> import numpy as np
    >>> from probemap.probing.selective import risk_coverage_curve
    >>> curve = risk_coverage_curve(np.array([3.0, 2.0, 2.0, 1.0]), np.array([True, True, False, False]))
    >>> curve.threshold.tolist(), curve.coverage.tolist(), curve.risk.round(3).tolist()
    ([3.0, 2.0, 1.0], [0.25, 0.75, 1.0], [0.0, 0.333, 0.5])
    """
    check_scores(scores, correct)
    threshold, accepted, errors = _cumulative_counts(scores, ~correct)
    return RiskCoverageCurve(threshold, accepted / max(len(scores), 1), errors / accepted)


def aurc(scores: Floats, correct: Bools) -> float:
    """Return the area under the risk-coverage curve: the mean risk at the coverages 1 / n, 2 / n, …, 1.

    This is LM-Polygraph's ``RiskCoverageCurveAUC``, except that it is the error rate, 0 or 1, if there is only one
    class.  LM-Polygraph then returns 0.5.

    Parameters
    ----------
    scores : ndarray of shape (n,), float64
    correct : ndarray of shape (n,), bool

    Returns
    -------
    float
        The area, between 0 and 1; NaN if there are no answers.

    Raises
    ------
    MapError
        If a score is not finite, or if the numbers of scores and labels differ.

    Examples
    --------
    >>> import numpy as np
    >>> from probemap.probing.selective import aurc, excess_aurc
    >>> scores, correct = np.array([3.0, 2.0, 1.0]), np.array([True, False, True])
    >>> round(aurc(scores, correct), 3), round(excess_aurc(scores, correct), 3)
    (0.278, 0.167)
    """
    check_scores(scores, correct)
    return float(_risks(scores, correct).mean()) if len(scores) else _NAN


def excess_aurc(scores: Floats, correct: Bools) -> float:
    """Return `aurc` minus the area for scores that rank every correct answer above every incorrect answer.

    The latter area is computed for the given number of answers, not from the approximation in Geifman et al. 2019.

    Parameters
    ----------
    scores : ndarray of shape (n,), float64
    correct : ndarray of shape (n,), bool
    """
    return aurc(scores, correct) - aurc(correct.astype(np.float64), correct)


def prediction_rejection_ratio(scores: Floats, correct: Bools, max_rejection: float = 1.0) -> float:
    """Return the area under the prediction-rejection curve, normalised to 0 for random and 1 for perfect scores.

    The area is the mean, over the numbers of rejected answers, of the accuracy among the remaining answers.  The ratio
    is (area - random) / (oracle - random).  The area for random scores is the accuracy, which is the exact mean;
    LM-Polygraph estimates it from 1000 shuffles, so that its ratios differ by a small random amount.

    Parameters
    ----------
    scores : ndarray of shape (n,), float64
    correct : ndarray of shape (n,), bool
    max_rejection : float, default=1.0
        Largest share of answers that are rejected, from 0 to 1.  LM-Polygraph reports 1.0 and 0.5.

    Returns
    -------
    float
        At most 1, and negative for scores that are worse than random.  NaN if there are only correct or only incorrect
        answers, or if no answer may be rejected.

    Raises
    ------
    MapError
        If a score is not finite, or if the numbers of scores and labels differ.

    Examples
    --------
    >>> import numpy as np
    >>> from probemap.probing.selective import prediction_rejection_ratio
    >>> correct = np.array([True, False, True, False])
    >>> prediction_rejection_ratio(np.array([4.0, 1.0, 3.0, 2.0]), correct)
    1.0
    >>> prediction_rejection_ratio(np.ones(4), correct)
    0.0
    """
    check_scores(scores, correct)
    n_points = int(max_rejection * len(scores))
    if not n_points or correct.all() or not correct.any():
        return _NAN
    area, oracle = (1 - _risks(x, correct)[-n_points:].mean() for x in (scores, correct.astype(np.float64)))
    return float((area - correct.mean()) / (oracle - correct.mean()))


def best_flagging_threshold(scores: Floats, correct: Bools) -> FlaggingThreshold:
    """Return the threshold with the highest F1 score for flagging incorrect answers.

    Of several thresholds with the same F1 score, the lowest is returned, which flags the fewest answers.

    Parameters
    ----------
    scores : ndarray of shape (n,), float64
    correct : ndarray of shape (n,), bool

    Returns
    -------
    FlaggingThreshold

    Raises
    ------
    MapError
        If a score is not finite, or if the numbers of scores and labels differ.

    Examples
    --------
    >>> import numpy as np
    >>> from probemap.probing.selective import best_flagging_threshold
    >>> best = best_flagging_threshold(np.array([1.0, 2.0, 3.0, 4.0]), np.array([False, False, True, True]))
    >>> best.score, best.f1
    (3.0, 1.0)
    """
    check_scores(scores, correct)
    if correct.all() or not correct.any():
        return FlaggingThreshold(score=_NAN, f1=_NAN, precision=_NAN, recall=_NAN)
    curve = precision_recall_curve(-scores, ~correct)
    f1 = f1_scores(curve.precision, curve.recall)
    best = int(np.flatnonzero(f1 >= f1.max() - 1e-12)[0])
    above = scores[scores > -curve.threshold[best]]
    return FlaggingThreshold(
        score=float(above.min()) if len(above) else float("inf"),
        f1=float(f1[best]),
        precision=float(curve.precision[best]),
        recall=float(curve.recall[best]),
    )


def calibration_gaps(probabilities: Floats, correct: Bools, bins: int = BINS) -> tuple[float, float]:
    """Return the expected and the maximum calibration error, computed from bins of equal width.

    The gap of a bin is |mean probability - share of correct answers|.  The expected calibration error is the mean gap,
    weighted by the number of answers in the bin, and the maximum calibration error is the largest gap.  Bins include
    their upper edge, and the first bin also includes 0, as in uqlm.  `metrics.calibration_errors` uses bins of equal
    size instead, whose gaps are less noisy.

    Neither error has a confidence interval here.  Both are above 0 even for calibrated probabilities, because of chance
    in each bin, and resampling adds as much chance again: in a simulation with 300 answers and calibrated
    probabilities, no 95 % percentile interval contained the true value.

    Parameters
    ----------
    probabilities : ndarray of shape (n,), float64
        Probabilities that each answer is correct.
    correct : ndarray of shape (n,), bool
    bins : int, default=10

    Returns
    -------
    expected, maximum : float
        Both are NaN if there are no answers.

    Raises
    ------
    MapError
        If a probability is not between 0 and 1, or if the numbers of probabilities and labels differ.

    Examples
    --------
    >>> import numpy as np
    >>> from probemap.probing.selective import calibration_gaps
    >>> expected, maximum = calibration_gaps(np.array([0.9, 0.9, 0.9, 0.2]), np.array([True, True, False, False]))
    >>> round(expected, 3), round(maximum, 3)
    (0.225, 0.233)
    """
    check_probabilities(probabilities, correct)
    if not len(correct):
        return _NAN, _NAN
    number = np.maximum(np.searchsorted(np.linspace(0, 1, bins + 1), probabilities, side="left") - 1, 0)
    size = np.bincount(number, minlength=bins)
    gaps = np.abs(np.bincount(number, probabilities - correct, minlength=bins))
    return float(gaps.sum() / len(correct)), float((gaps / np.maximum(size, 1)).max())


def precision_recall_curve(scores: Floats, positive: Bools) -> PrecisionRecallCurve:
    """Return the precision-recall curve: how many of the answers with the highest scores are positive.

    It is that of ``sklearn.metrics.precision_recall_curve``, in the opposite order and without the additional point at
    recall 0.  The input is not validated, because the bootstrap calls this function hundreds of times.

    Parameters
    ----------
    scores : ndarray of shape (n,), float64
        Finite scores.
    positive : ndarray of shape (n,), bool
        At least one is true.
    """
    threshold, selected, hits = _cumulative_counts(scores, positive)
    return PrecisionRecallCurve(threshold, hits / selected, hits / hits[-1])


def _cumulative_counts(scores: Floats, labels: Bools) -> tuple[Floats, Floats, Floats]:
    """Return the distinct scores from high to low, and how many answers, and answers with the label, score as high."""
    threshold, number, size = np.unique(-scores, return_inverse=True, return_counts=True)
    return -threshold, np.cumsum(size), np.cumsum(np.bincount(number, labels, minlength=len(size)))


def _risks(scores: Floats, correct: Bools) -> Floats:
    """Return the risk among the k answers with the highest scores, for k = 1 to n: the mean over all orders of ties."""
    _, number, size = np.unique(-scores, return_inverse=True, return_counts=True)
    error_rate = np.bincount(number, ~correct, minlength=len(size)) / size
    return np.asarray(np.cumsum(np.repeat(error_rate, size)) / np.arange(1, len(scores) + 1))


def f1_scores(precision: Floats, recall: Floats) -> Floats:
    """Return the harmonic means of precision and recall, which are 0 where both are 0."""
    return np.asarray(2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny))


def check_scores(scores: Floats, correct: Bools) -> None:
    """Raise an error unless there is one finite score per label."""
    if scores.shape != correct.shape or scores.ndim != 1:
        raise MapError(
            f"expected one score per label, got scores of shape {scores.shape} and labels of shape {correct.shape}",
            "pass two one-dimensional arrays of the same length",
        )
    if not np.isfinite(scores).all():
        raise MapError(
            f"{int((~np.isfinite(scores)).sum())} of {len(scores)} scores are not finite",
            "leave out answers without a score, and clip infinite scores",
        )


def check_probabilities(probabilities: Floats, correct: Bools) -> None:
    """Raise an error unless there is one probability between 0 and 1 per label."""
    check_scores(probabilities, correct)
    if len(probabilities) and not (probabilities.min() >= 0 and probabilities.max() <= 1):
        raise MapError(
            f"probabilities range from {probabilities.min():g} to {probabilities.max():g}, but must be between 0 and 1",
            "pass calibrated probabilities rather than scores",
        )
