"""What a detector is made of: where it reads, its probes and calibration, what they are worth, what it belongs to."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from probemap.probes.stats import Floats
from probemap.records import DetectorError, Task


@dataclass(frozen=True)
class Cell:
    """Where a probe reads."""

    layer: int
    position: str


@dataclass(frozen=True)
class Quality:
    """What a branch is worth on questions that took part in nothing: not in choosing, fitting or calibrating."""

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
    """Share of wrong answers that were flagged there: recall."""
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

    def scores(self, states: npt.NDArray[np.floating]) -> Floats:
        """(n,): log-odds before calibration, higher means "right"; NaN where a cell's state is missing.

        Parameters
        ----------
        states: (n, cells, d).
        """
        return np.asarray((np.einsum("ncd,cd->nc", states.astype(np.float64), self.weight) + self.bias).mean(axis=1))

    def probabilities(self, scores: Floats) -> Floats:
        """(n,): of being right."""
        if self.kind == "platt":
            return np.asarray(expit(self.calibration[0, 0] * scores + self.calibration[1, 0]))
        return np.asarray(np.interp(scores, self.calibration[0], self.calibration[1]))

    def threshold(self, false_alarms: float) -> Threshold:
        """The threshold of a false-alarm rate.

        Raises
        ------
        DetectorError: none was set for it.
        """
        for one in self.thresholds:
            if one.false_alarms == false_alarms:
                return one
        there = ", ".join(f"{one.false_alarms:g}" for one in self.thresholds)
        raise DetectorError(
            f"there is no threshold for {false_alarms:g} of right answers", f"there are those for {there}"
        )


@dataclass(frozen=True)
class Origin:
    """What a detector belongs to.  Empty fields are not known, and are not checked."""

    model: str = ""
    name: str = ""
    """What the model was loaded by: a hub id, a folder, a file, or an alias."""
    revision: str = ""
    dtype: str = ""
    template: str = ""
    """SHA-256 of the tokenizer's chat template."""
    frame: str = ""
    """Around the prompt: ``chat``, ``qa`` or ``none``."""
    asked: Task = field(default_factory=lambda: Task("questions", (), "open"))
    """How questions were put, and where their answers come from; without the questions themselves."""
    site: str = "resid"
    locator: str = ""
    versions: dict[str, str] = field(default_factory=dict)
