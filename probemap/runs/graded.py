"""A run's questions, answers and judgements, all in the order of the questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from probemap.positions import Indices, token_indices
from probemap.reading.folding import fold
from probemap.records import DataError, TooFewError
from probemap.runs.definitions import MAP
from probemap.tasks.metadata import field_values

if TYPE_CHECKING:
    from probemap.records import Judgement, Span, Task
    from probemap.runs.answer_file import AnswerFile
    from probemap.runs.run import Run


@dataclass(frozen=True)
class GradedAnswers:
    """A run's questions, answers and judgements, all in the order of the questions."""

    task: Task
    answers: AnswerFile
    judgements: list[Judgement]
    group_by: str | None = None
    """Field of the questions whose values are kept together in cross-validation, or None."""

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
        """Cross-validation group of each question.

        Questions with the same text and context are in the same group, and so are questions with the same value of the
        field `group_by`.

        Raises
        ------
        DataError
            If the questions do not have the field, or if it is missing in some of them.
        """
        texts = [normalized(example.question + example.context) for example in self.task.examples]
        if self.group_by is None:
            return texts
        from probemap.probing.folds import connected_groups

        values = self.field(self.group_by)
        if missing := [name for name, value in zip(self.ids, values, strict=True) if value is None]:
            raise DataError(
                f"the field {self.group_by!r} has no value in {len(missing)} of {len(values)} questions, e.g. in "
                f"{missing[0]!r}, so they belong to no group",
                "complete the field in the question file and use a new run directory, or group by another field",
            )
        return [str(group) for group in connected_groups(texts, values).tolist()]

    def grouped_by(self, field: str | None) -> GradedAnswers:
        """Return the same answers with other cross-validation groups; None or "" groups them by question only."""
        return replace(self, group_by=field or None)

    @property
    def n_groups(self) -> int:
        """Number of groups that contain decided answers."""
        return len({group for group, correct in zip(self.groups, self.correct, strict=True) if correct is not None})

    def check_groups(self, folds: int, held_out: float | None = None) -> None:
        """Raise TooFewError if the answers are grouped by a field and there are too few groups.

        Parameters
        ----------
        folds : int
            Number of folds, each of which needs a group.
        held_out : float, optional
            Share of the groups that are in no fold.
        """
        n_held_out = round((held_out or 0) * self.n_groups)
        if self.group_by is not None and self.n_groups - n_held_out < folds:
            note = f", of which {n_held_out} are held out," if n_held_out else ","
            raise TooFewError(
                f"the field {self.group_by!r} divides the decided answers into {self.n_groups} groups{note} but "
                f"{folds} folds require at least {folds} groups",
                "use fewer folds, or group by a field with more values; questions with the same text connect their "
                "groups",
            )

    def field(self, name: str) -> list[float | None] | list[str | None]:
        """Return the value of a field of each question, with None where it is missing; see `field_values`."""
        return field_values(self.task.examples, name)

    def token_indices(self, positions: Sequence[str]) -> Indices:
        """Return the token index of each position in each answer, as an array of shape (n, n_positions).

        The index is -1 where an answer does not have the position.
        """
        return token_indices(self.answers, self.spans, positions)


def graded_as_mapped(run: Run) -> GradedAnswers:
    """Return a run's answers with the cross-validation groups of its map, if there is one.

    Detectors and studies use the same groups as the map, so that they are not evaluated on groups that they were fitted
    to.
    """
    record = run.find_record(MAP)
    return run.graded.grouped_by(None if record is None else record.options.group_by)


def normalized(text: str) -> str:
    """Return the text in lower case, without accents and with single spaces between words."""
    return " ".join(fold(text)[0].split())
