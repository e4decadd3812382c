"""The results of a scorer: the score of an answer, and a generated answer with its score."""

from dataclasses import dataclass

from probemap.detectors.detector import HeadName
from probemap.records import Answer


@dataclass(frozen=True, kw_only=True)
class Score:
    """The score of one answer."""

    id: str
    p_correct: float | None
    """The probability that the answer is correct; None if no head could score it."""
    flagged: bool | None
    """Whether the score is below the threshold."""
    score: float | None
    """The log-odds before calibration; those of the fallback include a shift for answers that need the fallback."""
    judged_by: HeadName
    """The head that scored the answer."""
    exact_answer: str | None
    why: str
    """If the primary head did not score the answer: the reason.  Otherwise empty."""


@dataclass(frozen=True, kw_only=True)
class GenerationResult:
    """A generated answer with its score."""

    answer: Answer
    score: Score
    token_p_correct: tuple[float, ...]
    """For each produced token but the last, the probability that the primary head assigns to its state.

    It treats every token as if it were at the positions of the head.  For display, not for decisions.
    """
