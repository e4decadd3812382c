"""The questions, answers and judgements of a run, in one order."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from probemap.mentions import fold
from probemap.positions import Indices, token_indices
from probemap.records import Judgement, Span, Task
from probemap.runs.answer_file import AnswerFile


@dataclass(frozen=True)
class GradedAnswers:
    """Questions, answers and judgements of a run, in the order of the questions."""

    task: Task
    answers: AnswerFile
    judgements: list[Judgement]

    @property
    def ids(self) -> list[str]:
        """Ids of the questions."""
        return [example.id for example in self.task.examples]

    @property
    def correct(self) -> list[bool | None]:
        """True, False, or None for undecided answers."""
        return [judgement.verdict.correct for judgement in self.judgements]

    @property
    def spans(self) -> list[Span | None]:
        """The exact answer of each answer."""
        return [judgement.span for judgement in self.judgements]

    @cached_property
    def groups(self) -> list[str]:
        """Group of each question for cross-validation: questions with the same words and context share a group."""
        return [normalized(example.question + example.context) for example in self.task.examples]

    def token_indices(self, positions: Sequence[str]) -> Indices:
        """Return the token index of each position in each answer, (n, n_positions), -1 where it is missing."""
        return token_indices(self.answers, self.spans, positions)


def normalized(text: str) -> str:
    """Return the text in lower case with single spaces."""
    return " ".join(fold(text)[0].split())
