"""`Detector`: scores answers based on their hidden states."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from probemap.detectors import hub
from probemap.detectors.files import DetectorFiles, read_files, write_files
from probemap.records import DetectorError

if TYPE_CHECKING:
    from probemap.detectors.head import Cell, Head
    from probemap.detectors.provenance import Provenance
    from probemap.probing.auc import Bools, Floats

HeadName = Literal["primary", "fallback", "none"]


@dataclass(frozen=True, kw_only=True)
class StateScores:
    """The scores of n answers, computed from their hidden states."""

    judged_by: list[HeadName]
    """The head that scored each answer, or ``none`` if no head could score it."""
    score: Floats
    """ndarray of shape (n,), float64; log-odds before calibration, with NaN where no head scored the answer."""
    p_correct: Floats
    """ndarray of shape (n,), float64; probability that the answer is correct, with NaN where the score is NaN."""


@dataclass(frozen=True)
class Detector:
    """Calibrated probes for a few cells, which estimate the probability that an answer is correct.

    Detectors are created by `fit_detector` or ``probemap export``.  To score texts, use `Scorer` or `load_scorer`.

    Parameters
    ----------
    primary : Head
        The head that scores all answers that have a token at every one of its positions.
    fallback : Head or None
        The head that scores the other answers.  If None, those answers get no score.
    provenance : Provenance or None
        The model and the task that the detector was fitted for.  If None, they are unknown, and the detector can score
        hidden states but not texts.
    seed : int
        Random seed that was used to fit the detector.

    Examples
    --------
    >>> import numpy as np
    >>> from probemap import fit_detector
    >>> rng = np.random.default_rng(0)
    >>> correct = rng.random(400) < 0.5
    >>> states = rng.normal(size=(400, 1, 1, 8)) + 2 * correct[:, None, None, None]
    >>> detector = fit_detector(states, correct, positions=["last_q"])
    >>> scores = detector.score_states(states[:3, 0])
    >>> scores.judged_by
    ['primary', 'primary', 'primary']
    >>> (scores.p_correct > 0.5) == correct[:3]
    array([ True,  True,  True])
    """

    primary: Head
    fallback: Head | None
    provenance: Provenance | None = None
    seed: int = 0

    @property
    def cells(self) -> list[Cell]:
        """All cells that the detector reads, starting with those of the primary head."""
        return [*self.primary.cells, *(self.fallback.cells if self.fallback else ())]

    def head(self, name: Literal["primary", "fallback"]) -> Head:
        """Return a head by name.

        Raises
        ------
        DetectorError
            If the detector has no fallback.
        """
        if name == "primary":
            return self.primary
        if self.fallback is None:
            raise DetectorError("the detector has no fallback", "fit it with fallback='best'")
        return self.fallback

    def required_provenance(self) -> Provenance:
        """Return the provenance, which is required to score texts.

        Raises
        ------
        DetectorError
            If the detector has no provenance.
        """
        if self.provenance is None:
            raise DetectorError(
                "the detector has no provenance: the prompt, the hook point and the locator that it was fitted with "
                "are unknown, so it can score states but not texts",
                "fit it with provenance=Provenance.of(model, task, site=..., locator=...), or export it from a run",
            )
        return self.provenance

    def score_states(self, states: npt.NDArray[np.floating]) -> StateScores:
        """Score answers from their hidden states.

        An answer that has a token at every position of the primary head is scored by that head; any other answer is
        scored by the fallback, if there is one and the answer has its positions.

        Parameters
        ----------
        states : ndarray of shape (n, n_cells, d)
            The hidden states at the detector's `cells`, in the order in which `cells` lists them, with NaN where an
            answer lacks the position.

        Returns
        -------
        StateScores

        Raises
        ------
        DetectorError
            If the states do not have the expected shape.
        """
        n_cells, d = len(self.cells), self.primary.weight.shape[1]
        if states.ndim != 3 or states.shape[1:] != (n_cells, d):
            raise DetectorError(
                f"the states have shape {states.shape}, expected (n, {n_cells}, {d})",
                "pass the states of the detector's model at the detector's cells",
            )
        k = len(self.primary.cells)
        has_primary, has_fallback = (~np.isnan(s[:, :, 0]).any(axis=1) for s in (states[:, :k], states[:, k:]))
        score = np.where(has_primary, self.primary.scores(states[:, :k]), np.nan)
        p_correct = self.primary.probabilities(score)
        if self.fallback:
            use_fallback = ~has_primary & has_fallback
            fallback_score = self.fallback.scores(states[:, k:])
            score = np.where(use_fallback, fallback_score, score)
            p_correct = np.where(use_fallback, self.fallback.probabilities(fallback_score), p_correct)
        else:
            use_fallback = np.zeros(len(states), bool)
        judged_by = _head_names(has_primary, use_fallback)
        return StateScores(judged_by=judged_by, score=score, p_correct=p_correct)

    def p_correct(self, states: npt.NDArray[np.floating]) -> Floats:
        """Return the probability that each answer is correct, as an array of shape (n,); see `score_states`."""
        return self.score_states(states).p_correct

    def is_flagged(self, scores: StateScores, false_alarms: float | None = None) -> list[bool | None]:
        """Return whether each answer is flagged.

        An answer is flagged if its score is below the threshold of the head that scored it.

        Parameters
        ----------
        scores : StateScores
            The scores, as returned by `score_states`.
        false_alarms : float or None
            One of the false-alarm rates for which the detector has a threshold.  If None, the lowest rate is used.

        Returns
        -------
        list of bool or None
            Whether each answer is flagged, or None for an answer without a score and for all answers if the detector
            has no thresholds.

        Raises
        ------
        DetectorError
            If a rate is given, and a head that scored an answer has no threshold for it.
        """
        if false_alarms is None and not self.primary.thresholds:
            return [None] * len(scores.judged_by)
        thresholds = {
            name: self.head(name).threshold(false_alarms).score for name in set(scores.judged_by) if name != "none"
        }
        return [
            None if name == "none" else score < thresholds[name]
            for name, score in zip(scores.judged_by, scores.score.tolist(), strict=True)
        ]

    def is_accepted(self, scores: StateScores, risk: float | None = None) -> list[bool | None]:
        """Return whether each answer is accepted.

        An answer is accepted if its score is at least the acceptance threshold of the head that scored it.

        Parameters
        ----------
        scores : StateScores
            The scores, as returned by `score_states`.
        risk : float or None
            One of the risks for which the detector has an acceptance threshold.  If None, the lowest risk is used.

        Returns
        -------
        list of bool or None
            Whether each answer is accepted, or None for an answer without a score and for all answers if the detector
            has no acceptance threshold.

        Raises
        ------
        DetectorError
            If a head that scored an answer has no acceptance threshold for that risk.
        """
        acceptances = {name: self.head(name).acceptance(risk) for name in set(scores.judged_by) if name != "none"}
        return [
            None if name == "none" or (acceptance := acceptances[name]) is None else score >= acceptance.score
            for name, score in zip(scores.judged_by, scores.score.tolist(), strict=True)
        ]

    def save(self, directory: str | Path) -> None:
        """Write the detector to a directory.

        The directory contains the arrays, the configuration and a model card.  An existing detector in the directory is
        replaced; other files in the directory are not changed.
        """
        write_files(Path(directory), DetectorFiles(self.primary, self.fallback, self.provenance, self.seed))

    @classmethod
    def load(cls, source: str | Path) -> Detector:
        """Load a detector from a directory or from the Hugging Face hub.

        Parameters
        ----------
        source : str or Path
            A directory written by `save`, or the address ``hf://owner/name[@revision]``.

        Raises
        ------
        DetectorError
            If the detector does not exist, if a file was modified or has an unsupported format version, or if the hub
            denies access.
        """
        if isinstance(source, str) and source.startswith(hub.SCHEME):
            return cls(*read_files(hub.download(*hub.parse_address(source)), source))
        return cls(*read_files(Path(source), str(source)))


def _head_names(primary: Bools, fallback: Bools) -> list[HeadName]:
    return ["primary" if a else "fallback" if b else "none" for a, b in zip(primary, fallback, strict=True)]
