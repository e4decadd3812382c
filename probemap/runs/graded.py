"""A run's questions, answers and judgements, all in the order of the questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from probemap.positions import Indices, token_indices
from probemap.reading.folding import fold

if TYPE_CHECKING:
    from probemap.records import Judgement, Span, Task
    from probemap.runs.answer_file import AnswerFile


@dataclass(frozen=True)
class GradedAnswers:
    """A run's questions, answers and judgements, all in the order of the questions."""

    task: Task
    answers: AnswerFile
    judgements: list[Judgement]

    @property
    def ids(self) -> list[str]:
        """The ids of the questions."""
        return [example.id for example in self.task.examples]

    @property
    def correct(self) -> list[bool | None]:
        """The verdict on each answer: True (correct), False (incorrect) or None (undecided)."""
        return [judgement.verdict.correct for judgement in self.judgements]

    @property
    def spans(self) -> list[Span | None]:
        """The span of the exact answer in each answer, or None if no exact answer was found."""
        return [judgement.span for judgement in self.judgements]

    @cached_property
    def groups(self) -> list[str]:
        """Cross-validation group of each question.  Questions with the same text and context are in the same group."""
        return [normalized(example.question + example.context) for example in self.task.examples]

    def token_indices(self, positions: Sequence[str]) -> Indices:
        """Return the token index of each position in each answer, as an array of shape (n, n_positions).

        The index is -1 where an answer does not have the position.
        """
        return token_indices(self.answers, self.spans, positions)


def normalized(text: str) -> str:
    """Return the text in lower case, without accents and with single spaces between words."""
    return " ".join(fold(text)[0].split())
