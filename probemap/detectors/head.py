"""What a detector is made of: where it reads, its probes and calibration, what they are worth."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from probemap.probing.auc import Floats
from probemap.records import DetectorError


@dataclass(frozen=True)
class Cell:
    """Where a probe reads."""

    layer: int
    position: str


@dataclass(frozen=True)
class Quality:
    """What a branch is worth on questions that took part in nothing: not in choosing, fitting or calibrating.

    Where none were kept apart, `n` is 0 and every value NaN.
    """

    n: int
    n_right: int
    auc: float
    auc_low: float
    auc_high: float
    brier: float
    """Mean squared error of the probability."""
    calibration_error: float
    """Expected calibration error, ten bins of equally many answers."""
    calibration_noise: float
    """What that would be on average if all probabilities were true: with few answers no bin's share is exact."""


@dataclass(frozen=True)
class Threshold:
    """Answers whose score lies below are flagged."""

    false_alarms: float
    """Share of right answers that are flagged, as asked for; set on the answers that calibrated."""
    score: float
    p_correct: float
    """The probability at that score."""
    flagged_right: float
    """Share of right answers that were flagged among the questions that took no part; NaN without any."""
    flagged_wrong: float
    """Share of wrong answers that were flagged there: recall; NaN without any."""
    precision: float
    """Share of flagged answers that were wrong there; NaN if none was flagged."""


@dataclass(frozen=True)
class Branch:
    """Probes that are read together: the score is the mean of theirs."""

    cells: tuple[Cell, ...]
    weight: Floats
    """(cells, d): scaling folded in."""
    bias: Floats
    """(cells,)."""
    calibration: Floats
    """(2, k).  ``platt``: k = 1, p = 1 / (1 + exp(-(a score + b))).  ``isotonic``: scores and probabilities, between
    which p is interpolated, and beyond which it stays."""
    kind: Literal["platt", "isotonic"]
    quality: Quality
    thresholds: tuple[Threshold, ...]

    @property
    def where(self) -> str:
        """Its cells in words."""
        return ", ".join(f"layer {cell.layer} at {cell.position}" for cell in self.cells)

    @property
    def asked_for(self) -> list[float]:
        """The shares of right answers that its thresholds were set for."""
        return [one.false_alarms for one in self.thresholds]

    def scores(self, states: npt.NDArray[np.floating]) -> Floats:
        """(n,): log-odds before calibration, higher means "right"; NaN where a cell's state is missing.

        Parameters
        ----------
        states: (n, cells, d).
        """
        return np.asarray((np.einsum("ncd,cd->nc", states.astype(np.float64), self.weight) + self.bias).mean(axis=1))

    def probabilities(self, scores: Floats) -> Floats:
        """(n,): of being right; NaN where there is no score."""
        if self.kind == "platt":
            return np.asarray(expit(self.calibration[0, 0] * scores + self.calibration[1, 0]))
        lowest, highest = self.calibration[1, [0, -1]]
        # Between two scores that almost touch, the slope is too large for a number; and a curve of one point gives its
        # probability to everything, what is missing included.
        p = np.clip(np.interp(scores, *self.calibration), lowest, highest)
        return np.asarray(np.where(np.isnan(scores), np.nan, p))

    def threshold(self, false_alarms: float | None = None) -> Threshold:
        """The threshold of a false-alarm rate; None: the lowest.

        Raises
        ------
        DetectorError: none was set for it, or none at all.
        """
        if not self.thresholds:
            raise DetectorError("the detector has no threshold", "make it with false_alarms=(0.05, 0.2)")
        if false_alarms is None:
            return min(self.thresholds, key=lambda one: one.false_alarms)
        for one in self.thresholds:
            if one.false_alarms == false_alarms:
                return one
        there = ", ".join(f"{share:g}" for share in self.asked_for)
        raise DetectorError(
            f"there is no threshold for {false_alarms:g} of right answers", f"there are those for {there}"
        )
