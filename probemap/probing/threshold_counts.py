"""Count the accepted answers and the errors among them at every threshold, for many bootstrap resamples at once.

All metrics that depend only on the order of the answers are functions of these counts.  Tied answers share a threshold;
where a metric has to order them, each counts as the mean of all of them, which is the mean over all their orders.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from probemap.probing.auc import Bools, Floats, Ints


@dataclass(frozen=True)
class ThresholdCounts:
    """The number of answers and of errors per distinct score, from the highest score to the lowest.

    All metrics are arrays of shape (b,), with one value per resample, and NaN where a metric is undefined.
    """

    size: Ints
    """ndarray of shape (m, b): the number of answers with each score."""
    errors: Ints
    """ndarray of shape (m, b): the number of incorrect answers among them."""

    @classmethod
    def of_scores(cls, scores: Floats, correct: Bools, copies: Ints) -> ThresholdCounts:
        """Count the answers with each score.

        Parameters
        ----------
        scores : ndarray of shape (n,), float64
            Finite scores.
        correct : ndarray of shape (n,), bool
        copies : ndarray of shape (n, b), int
            How often each answer occurs in each of b resamples.
        """
        distinct, number = np.unique(-scores, return_inverse=True)
        order = np.argsort(number, kind="stable")
        size = copies[order]
        errors = size * ~correct[order, None]
        if len(distinct) == len(scores):
            return cls(size, errors)
        starts = np.searchsorted(number[order], np.arange(len(distinct)))
        return cls(np.add.reduceat(size, starts), np.add.reduceat(errors, starts))

    @cached_property
    def oracle(self) -> ThresholdCounts:
        """The counts for scores that rank every correct answer above every incorrect answer."""
        n_correct = self.n - self.n_errors
        return ThresholdCounts(np.stack([n_correct, self.n_errors]), np.stack([0 * n_correct, self.n_errors]))

    @cached_property
    def accepted(self) -> Ints:
        """ndarray of shape (m, b): the number of answers whose score is at least that of the threshold."""
        return np.cumsum(self.size, axis=0)

    @cached_property
    def accepted_errors(self) -> Ints:
        """ndarray of shape (m, b): the number of incorrect answers among the accepted ones."""
        return np.cumsum(self.errors, axis=0)

    @cached_property
    def n(self) -> Ints:
        """ndarray of shape (b,): the number of answers."""
        return np.asarray(self.size.sum(axis=0))

    @cached_property
    def n_errors(self) -> Ints:
        """ndarray of shape (b,): the number of incorrect answers."""
        return np.asarray(self.errors.sum(axis=0))

    @property
    def has_both_classes(self) -> Bools:
        """ndarray of shape (b,): whether there are correct and incorrect answers."""
        return np.asarray((self.n_errors > 0) & (self.n_errors < self.n))

    def risk_at(self, coverage: Floats) -> Floats:
        """Return the share of incorrect answers among the accepted ones, for given shares of accepted answers.

        Parameters
        ----------
        coverage : ndarray of shape (k,), float64
            Shares above 0, at most 1.

        Returns
        -------
        ndarray of shape (k, b), float64
            The risks.  Between two thresholds, answers with the lower score are accepted at random.
        """
        accepted = coverage[:, None] * self.n
        threshold = self._threshold_of(accepted)
        rate, errors, before = (np.take_along_axis(x, threshold, 0) for x in (self._rate, *self._before))
        return ratio(np.asarray(errors + rate * (accepted - before), np.float64), accepted)

    @cached_property
    def aurc(self) -> Floats:
        """The area under the risk-coverage curve; see `selective.aurc`."""
        return ratio(self._sum_of_risks, self.n)

    @cached_property
    def excess_aurc(self) -> Floats:
        """The area minus that of the oracle."""
        return self.aurc - self.oracle.aurc

    def prediction_rejection_ratio(self, max_rejection: float = 1.0) -> Floats:
        """Return the prediction rejection ratio; see `selective.prediction_rejection_ratio`."""
        n_points = (max_rejection * self.n).astype(np.int64)
        area, oracle = (1 - ratio(counts._sum_of_last_risks(n_points), n_points) for counts in (self, self.oracle))
        random = 1 - ratio(self.n_errors, self.n)
        # Without a rejected answer, the oracle is as good as random scores, except for rounding.
        return ratio(area - random, np.where(oracle - random > 1e-12, oracle - random, 0.0))

    @cached_property
    def auprc_incorrect(self) -> Floats:
        """The average precision with incorrect answers as the positive class."""
        ascending = _average_precision(self.errors[::-1], self.size[::-1])
        return np.where(self.has_both_classes, ascending, np.nan)

    @cached_property
    def auprc_correct(self) -> Floats:
        """The average precision with correct answers as the positive class."""
        return np.where(self.has_both_classes, _average_precision(self.size - self.errors, self.size), np.nan)

    @cached_property
    def highest_f1(self) -> Floats:
        """The highest F1 score of flagging the answers below a threshold as incorrect."""
        flagged, hits = (np.cumsum(x[::-1], axis=0) for x in (self.size, self.errors))
        f1 = 2 * hits / np.maximum(flagged + self.n_errors, 1)
        return np.where(self.has_both_classes, f1.max(axis=0, initial=0), np.nan)

    @cached_property
    def _rate(self) -> Floats:
        """The share of incorrect answers among those with each score, which is 0 if there are none."""
        return np.asarray(self.errors / np.maximum(self.size, 1))

    @cached_property
    def _before(self) -> tuple[Ints, Ints]:
        """The number of errors and of answers above each score, each of shape (m, b)."""
        return self.accepted_errors - self.errors, self.accepted - self.size

    @cached_property
    def _harmonic(self) -> Floats:
        """The harmonic numbers from 0 to the number of answers."""
        return np.concatenate([[0.0], np.cumsum(1 / np.arange(1, self.n.max(initial=0) + 1))])

    @cached_property
    def _slope(self) -> Floats:
        """The part E - A r of the risk that falls with the number of accepted answers.

        If s answers with error rate r share a score, and E of the A answers above it are errors, the risk after j of
        the s answers is (E + j r) / (A + j) = r + (E - A r) / (A + j).  Its sum over j contains harmonic numbers.
        """
        errors, before = self._before
        return np.asarray(errors - before * self._rate)

    @cached_property
    def _risk_sums(self) -> Floats:
        """ndarray of shape (m, b): the sum of the risks after each of the answers with each score."""
        last = self._harmonic[self.accepted]
        first = np.concatenate([np.zeros((1, last.shape[1])), last[:-1]])
        return np.asarray(self.errors + self._slope * (last - first))

    @cached_property
    def _sum_of_risks(self) -> Floats:
        """ndarray of shape (b,): the sum of the risks among the 1, 2, …, n answers with the highest scores."""
        return np.asarray(self._risk_sums.sum(axis=0))

    def _sum_of_last_risks(self, n_points: Ints) -> Floats:
        """Return the sum of the risks at the highest coverages, for numbers of coverages of shape (b,)."""
        k = self.n - n_points
        if not k.any():
            return self._sum_of_risks
        threshold = self._threshold_of(k[None])
        sums_before = np.cumsum(self._risk_sums, axis=0) - self._risk_sums
        columns = (sums_before, self._slope, self._rate, self._before[1])
        total, slope, rate, before = (np.take_along_axis(x, threshold, 0)[0] for x in columns)
        first = total + rate * (k - before) + slope * (self._harmonic[k] - self._harmonic[before.astype(np.int64)])
        return np.asarray(self._sum_of_risks - first)

    def _threshold_of(self, accepted: Floats | Ints) -> Ints:
        """Return the index of the first threshold that accepts the given numbers of answers, both of shape (k, b)."""
        m, b = self.size.shape
        offset, ascending = self._ascending
        index = np.searchsorted(ascending, (accepted + offset).ravel()).reshape(accepted.shape)
        return np.asarray(np.clip(index - m * np.arange(b), 0, m - 1))

    @cached_property
    def _ascending(self) -> tuple[Ints, Ints]:
        """One offset per resample, of shape (b,), and `accepted` of all resamples, with offsets, as an ascending
        array."""
        offset = np.arange(self.size.shape[1]) * (self.n.max(initial=0) + 1)
        return offset, (self.accepted + offset).ravel(order="F")


def ratio(numerator: Floats | Ints, denominator: Floats | Ints) -> Floats:
    """Return the ratios, with NaN where the denominator is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(denominator != 0, numerator / denominator, np.nan))


def _average_precision(positive: Ints, size: Ints) -> Floats:
    """Return the average precision, for counts of shape (m, b) in the order in which a threshold includes them."""
    precision = np.cumsum(positive, axis=0) / np.maximum(np.cumsum(size, axis=0), 1)
    return ratio((positive * precision).sum(axis=0), positive.sum(axis=0))
