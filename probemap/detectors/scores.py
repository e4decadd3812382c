"""The results that a scorer returns: the score of an existing answer, or a generated answer with its score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from probemap.detectors.detector import HeadName
    from probemap.records import Answer


@dataclass(frozen=True, kw_only=True)
class Score:
    """The score of one answer.

    Examples
    --------
    >>> from probemap import Score
    >>> score = Score(
    ...     id="q1", p_correct=0.31, flagged=True, score=-0.8, judged_by="primary", exact_answer="Rome", why=""
    ... )
    >>> score.p_correct, score.flagged
    (0.31, True)
    """

    id: str
    p_correct: float | None
    """Probability that the answer is correct, or None if no head could score it."""
    flagged: bool | None
    """Whether the score is below the threshold, or None if no head could score the answer."""
    score: float | None
    """Log-odds before calibration, or None if no head could score the answer.

    A score from the fallback includes a shift that accounts for the position that the answer lacks.
    """
    judged_by: HeadName
    """The head that scored the answer, or ``none`` if no head could score it."""
    exact_answer: str | None
    """The exact answer, or None if it was not found."""
    why: str
    """The reason why the primary head did not score the answer, or an empty string if it did."""
    accept: bool | None = None
    """Whether the score reaches the acceptance threshold.  None if no head could score the answer, or if the detector
    has no acceptance threshold."""
    risk: float | None = None
    """Guaranteed upper limit of the share of incorrect answers among the accepted answers; see `head.Acceptance`."""
    coverage: float | None = None
    """Share of the held-out answers that the acceptance threshold accepts."""


@dataclass(frozen=True, kw_only=True)
class GenerationResult:
    """A generated answer with its score, as returned by `Scorer.generate`.

    Examples
    --------
    >>> from probemap import Answer, GenerationResult, Score
    >>> answer = Answer(
    ...     id="q1", prompt="Capital of Italy?", text="Rome", token_ids=(5, 6, 0), n_prompt=1,
    ...     offsets=((0, 17), (0, 4), (4, 4)), logprobs=(-0.1, -0.2), stopped=True,
    ... )
    >>> score = Score(
    ...     id="q1", p_correct=0.9, flagged=False, score=1.2, judged_by="primary", exact_answer="Rome", why=""
    ... )
    >>> result = GenerationResult(answer=answer, score=score, token_p_correct=(0.9,))
    >>> list(zip(result.answer.token_texts, result.token_p_correct))
    [('Rome', 0.9)]
    """

    answer: Answer
    score: Score
    token_p_correct: tuple[float, ...]
    """For each generated token except the last, the probability that the primary head computes from the token's state.

    Every token is treated as if it were at the head's positions, so the values are suitable for display but not for
    decisions.
    """
