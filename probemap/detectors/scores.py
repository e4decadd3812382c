"""The results of a scorer: the score of an answer, and a generated answer with its score."""

from dataclasses import dataclass

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
    """A generated answer with its score, from `Scorer.generate`.

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
    """For each produced token but the last, the probability that the primary head assigns to its state.

    It treats every token as if it were at the positions of the head.  For display, not for decisions.
    """
