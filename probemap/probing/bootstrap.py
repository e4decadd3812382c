"""Metrics of scores as predictors of correct answers, with intervals from a bootstrap over the questions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from probemap.probing.folds import group_numbers
from probemap.probing.resampling import RESAMPLES, question_copies, with_percentiles
from probemap.probing.selective import best_flagging_threshold, calibration_gaps, check_probabilities, check_scores
from probemap.probing.threshold_counts import ThresholdCounts, ratio
from probemap.tables import Interval

if TYPE_CHECKING:
    from probemap.probing.auc import Bools, Floats
    from probemap.probing.inputs import Column


@dataclass(frozen=True, kw_only=True)
class SelectiveMetrics:
    """Metrics of scores and probabilities as predictors of correct answers, with 95 % bootstrap intervals.

    A value is NaN if it is undefined, e.g. because there are only correct answers; both ends of an interval are NaN if
    the value is NaN or if fewer than half of the resamples contain both classes.
    """

    auprc_incorrect: Interval
    """Average precision, with incorrect answers as the positive class: the area under the precision-recall curve."""
    auprc_correct: Interval
    """Average precision, with correct answers as the positive class."""
    aurc: Interval
    """Area under the risk-coverage curve; lower is better."""
    excess_aurc: Interval
    """`aurc` minus that of scores which rank every correct answer above every incorrect one; 0 is best."""
    prr: Interval
    """Prediction rejection ratio: 1 for perfect scores and 0 for random scores."""
    prr_half: Interval
    """Prediction rejection ratio if at most half of the answers may be rejected."""
    f1: Interval
    """F1 score of flagging incorrect answers, at the threshold that maximises it."""
    f1_threshold: float
    """The threshold that maximises F1; see `selective.FlaggingThreshold`."""
    log_loss: Interval
    """Mean negative log-likelihood of the labels, in nats."""
    brier: Interval
    """Brier score: the mean squared error of the probabilities."""
    ece: float
    """Expected calibration error, from ten bins of equal width.  It has no interval; see
    `selective.calibration_gaps`."""
    mce: float
    """Maximum calibration error, from the same bins."""


def selective_metrics(
    scores: Floats,
    probabilities: Floats,
    correct: Bools,
    *,
    groups: Column | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> SelectiveMetrics:
    """Return all metrics, with 95 % intervals from a bootstrap over the questions.

    Each resample draws as many groups as there are, with replacement, and keeps all answers of a group.  Resamples with
    only correct or only incorrect answers are skipped.  The intervals are the percentiles of the resamples, except that
    of F1: a maximum is too high on average, in the answers as in the resamples, so its percentiles are mirrored about
    the value (the basic bootstrap; Davison & Hinkley 1997, section 5.2).  In a simulation of 200 data sets of 300
    answers, each interval contained the true value in 89 to 95 % of them.

    Parameters
    ----------
    scores : ndarray of shape (n,), float64
        Finite scores.
    probabilities : ndarray of shape (n,), float64
        Probabilities that each answer is correct, between 0 and 1.
    correct : ndarray of shape (n,), bool
    groups : array-like of shape (n,), optional
        Group of each answer, e.g. the id of its question.  By default, each answer forms its own group.
    resamples : int, default=300
        Number of resamples; 0 for no intervals.
    seed : int, default=0

    Returns
    -------
    SelectiveMetrics

    Raises
    ------
    MapError
        If a score is not finite, if a probability is not between 0 and 1, or if the lengths differ.

    Examples
    --------
    >>> import numpy as np
    >>> from probemap.probing.bootstrap import selective_metrics
    >>> rng = np.random.default_rng(0)
    >>> scores = rng.normal(size=200)
    >>> p = 1 / (1 + np.exp(-scores))
    >>> metrics = selective_metrics(scores, p, rng.random(200) < p)
    >>> metrics.prr.text, round(metrics.ece, 3)
    ('0.477 [0.310, 0.624]', 0.055)
    """
    check_scores(scores, correct)
    check_probabilities(probabilities, correct)
    copies = question_copies(group_numbers(groups, len(correct)), correct, resamples=resamples, seed=seed)
    counts = ThresholdCounts.of_scores(scores, correct, copies)
    log_loss, brier = (ratio(loss @ copies, counts.n) for loss in _losses(probabilities, correct).T)
    value, low, high = _interval(counts.highest_f1)
    expected, maximum = calibration_gaps(probabilities, correct)
    return SelectiveMetrics(
        auprc_incorrect=_interval(counts.auprc_incorrect),
        auprc_correct=_interval(counts.auprc_correct),
        aurc=_interval(counts.aurc),
        excess_aurc=_interval(counts.excess_aurc),
        prr=_interval(counts.prediction_rejection_ratio()),
        prr_half=_interval(counts.prediction_rejection_ratio(0.5)),
        f1=Interval(value, max(2 * value - high, 0.0), min(2 * value - low, 1.0)),
        f1_threshold=best_flagging_threshold(scores, correct).score,
        log_loss=_interval(log_loss),
        brier=_interval(brier),
        ece=expected,
        mce=maximum,
    )


def _interval(values: Floats) -> Interval:
    return Interval(*with_percentiles(values).tolist())


def _losses(probabilities: Floats, correct: Bools) -> Floats:
    """Return the log-loss and the squared error of each answer, as an array of shape (n, 2).

    Probabilities of 0 and 1 are clipped as in ``sklearn.metrics.log_loss``, so that the log-loss is finite.
    """
    eps = np.finfo(np.float64).eps
    likelihood = np.clip(np.where(correct, probabilities, 1 - probabilities), eps, 1 - eps)
    return np.stack([-np.log(likelihood), (probabilities - correct) ** 2], axis=1)
