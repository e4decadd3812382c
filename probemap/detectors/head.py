"""A detector's head: the probes for a few cells, with their calibration, thresholds and evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

from probemap.probing.bootstrap import SelectiveMetrics  # noqa: TC001 - evaluated when detectors are read
from probemap.records import DetectorError

if TYPE_CHECKING:
    from probemap.probing.auc import Floats


@dataclass(frozen=True)
class Cell:
    """The layer and the position of the state that a probe reads."""

    layer: int
    position: str


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Metrics of a head, computed on held-out questions that were not used to select, fit or calibrate it.

    If no questions were held out, `n` is 0 and every metric is NaN.
    """

    n: int
    """Number of held-out answers."""
    n_correct: int
    """Number of correct held-out answers."""
    auc: float
    auc_low: float
    """Lower bound of the 95 % confidence interval of the AUC."""
    auc_high: float
    """Upper bound of the 95 % confidence interval of the AUC."""
    brier: float
    """Brier score: the mean squared error of the probabilities."""
    calibration_error: float
    """Expected calibration error, computed from ten bins that contain equal numbers of answers."""
    calibration_noise: float
    """Expected calibration error that perfectly calibrated probabilities would have.

    It is above 0 because each bin contains a limited number of answers.
    """
    metrics: SelectiveMetrics | None = None
    """Further metrics, with intervals.  None if the head was not evaluated."""


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """The threshold for one false-alarm rate.  Answers with a score below the threshold are flagged."""

    false_alarms: float
    """Guaranteed false-alarm rate, between 0 and 1: the highest probability with which a correct answer to a new
    question is flagged, on average over detectors that are fitted in the same way; see `guarantees`."""
    score: float
    """Threshold for the score, in log-odds before calibration.  NaN if there are too few correct held-out answers for
    this rate; no answer is then flagged."""
    p_correct: float
    """Calibrated probability that corresponds to `score`."""
    flagged_correct: float
    """Share of the correct held-out answers that are flagged.  Because the threshold is determined from the same
    answers, this share is at most `false_alarms` over all answers that the detector scores.  NaN if there are none."""
    flagged_incorrect: float
    """Recall: the share of the incorrect held-out answers that are flagged.  NaN if there are none."""
    precision: float
    """Precision: the share of incorrect answers among the flagged held-out answers.  NaN if no answer is flagged."""


@dataclass(frozen=True, kw_only=True)
class Acceptance:
    """The threshold for accepting answers.  Answers with a score of at least the threshold are accepted."""

    risk: float
    """Highest share of incorrect answers among the accepted answers, between 0 and 1."""
    confidence: float
    """Probability with which the share among the accepted answers to new questions is at most `risk`, over detectors
    that are fitted in the same way; see `guarantees`."""
    score: float
    """Threshold for the score, in log-odds before calibration.  NaN if no threshold can be guaranteed; no answer is
    then accepted."""
    p_correct: float
    """Calibrated probability that corresponds to `score`."""
    coverage: float
    """Share of the held-out answers that are accepted."""
    incorrect: float
    """Share of incorrect answers among the accepted held-out answers.  NaN if no answer is accepted."""


@dataclass(frozen=True, kw_only=True)
class Head:
    """Linear probes for one or more cells.  Their mean score is converted to a calibrated probability."""

    cells: tuple[Cell, ...]
    weight: Floats
    """ndarray of shape (n_cells, d), float64; weights for unscaled states, with the standardisation folded in."""
    bias: Floats
    """ndarray of shape (n_cells,), float64."""
    calibration: Floats
    """ndarray of shape (2, k), float64; the parameters of the calibration.

    For ``platt``, k is 1, and the rows contain a and b in p = 1 / (1 + exp(-(a score + b))).  For ``isotonic``, the
    rows contain k scores and their probabilities; p is interpolated linearly between the scores and is constant
    outside their range.
    """
    calibration_method: Literal["platt", "isotonic"]
    evaluation: Evaluation
    thresholds: tuple[Threshold, ...]
    acceptances: tuple[Acceptance, ...] = ()

    @property
    def location(self) -> str:
        """Description of the cells, such as ``layer 16 at exact_answer_last``."""
        return ", ".join(f"layer {cell.layer} at {cell.position}" for cell in self.cells)

    @property
    def false_alarms(self) -> list[float]:
        """The false-alarm rates for which the head has a threshold."""
        return [threshold.false_alarms for threshold in self.thresholds]

    def scores(self, states: npt.NDArray[np.floating]) -> Floats:
        """Return the mean score of the probes for each answer, in log-odds before calibration.

        Parameters
        ----------
        states : ndarray of shape (n, n_cells, d)
            Hidden states at the cells, with NaN where an answer lacks the position.

        Returns
        -------
        ndarray of shape (n,), float64
            The scores, with NaN where a state is missing.  Answers with a higher score are more likely to be correct.
        """
        return np.asarray((np.einsum("ncd,cd->nc", states.astype(np.float64), self.weight) + self.bias).mean(axis=1))

    def probabilities(self, scores: Floats) -> Floats:
        """Return the calibrated probability that each answer is correct.

        Parameters
        ----------
        scores : ndarray of shape (n,), float64
            Scores, as returned by `scores`.

        Returns
        -------
        ndarray of shape (n,), float64
            The probabilities, with NaN where the score is NaN.
        """
        if self.calibration_method == "platt":
            return np.asarray(expit(self.calibration[0, 0] * scores + self.calibration[1, 0]))
        lowest, highest = self.calibration[1, [0, -1]]
        # np.interp has two edge cases.  The slope between two almost equal scores can overflow, which is why the result
        # is clipped.  A curve with a single point assigns its probability to NaN as well, which is why NaN is restored.
        p = np.clip(np.interp(scores, *self.calibration), lowest, highest)
        return np.asarray(np.where(np.isnan(scores), np.nan, p))

    def score_at(self, p: float) -> float:
        """Return the lowest score with a calibrated probability of at least `p`.

        Returns
        -------
        float
            The score, in log-odds before calibration.  It is -inf if every score has such a probability, and inf if no
            score has one.
        """
        if self.calibration_method == "platt":
            slope, intercept = self.calibration[:, 0]
            if slope == 0:
                return -np.inf if expit(intercept) >= p else np.inf
            return float((logit(p) - intercept) / slope)
        scores, probabilities = self.calibration
        k = int(np.searchsorted(probabilities, p))
        if k in (0, len(scores)):
            return float(np.inf if k else -np.inf)
        share = (p - probabilities[k - 1]) / (probabilities[k] - probabilities[k - 1])
        return float(scores[k - 1] + share * (scores[k] - scores[k - 1]))

    def threshold(self, false_alarms: float | None = None) -> Threshold:
        """Return the threshold for a false-alarm rate.

        Parameters
        ----------
        false_alarms : float or None
            One of the false-alarm rates for which the head has a threshold.  If None, the lowest rate is used.

        Raises
        ------
        DetectorError
            If the head has no threshold for that rate, or no thresholds at all.
        """
        if not self.thresholds:
            raise DetectorError("the detector has no threshold", "fit it with false_alarms, for example (0.05, 0.2)")
        if false_alarms is None:
            return min(self.thresholds, key=lambda threshold: threshold.false_alarms)
        for threshold in self.thresholds:
            if threshold.false_alarms == false_alarms:
                return threshold
        rates = ", ".join(f"{rate:g}" for rate in self.false_alarms)
        raise DetectorError(
            f"the detector has no threshold for a false-alarm rate of {false_alarms:g}", f"use one of {rates}"
        )

    def acceptance(self, risk: float | None = None) -> Acceptance | None:
        """Return the acceptance threshold for a risk, or None if the head has no acceptance thresholds.

        Parameters
        ----------
        risk : float or None
            One of the risks for which the head has an acceptance threshold.  If None, the lowest risk is used.

        Raises
        ------
        DetectorError
            If the head has acceptance thresholds, but none for that risk.
        """
        if not self.acceptances and risk is None:
            return None
        for acceptance in sorted(self.acceptances, key=lambda item: item.risk):
            if risk is None or acceptance.risk == risk:
                return acceptance
        risks = ", ".join(f"{item.risk:g}" for item in self.acceptances) or "none"
        raise DetectorError(
            f"the detector has no acceptance threshold for a risk of {risk:g}", f"its risks are: {risks}"
        )
