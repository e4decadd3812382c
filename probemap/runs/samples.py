"""Read the answers that were sampled for each question of a run, and judge them like the run's own answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from probemap.grading.rules import REFUSAL
from probemap.records import Answer, Example, Judgement, RunError, Task
from probemap.runs.definitions import RESAMPLE
from probemap.runs.folder import step_command
from probemap.runs.llm_judge import judge_of
from probemap.runs.plan import Context
from probemap.studies.error_types import SampledQuestion
from probemap.studies.semantics import meanings

if TYPE_CHECKING:
    from probemap.runs.graded import GradedAnswers
    from probemap.runs.run import Run

FILE = "resamples.jsonl"

_QUESTIONS_IN_MEMORY = 64
"""Maximum number of questions whose samples are in memory at the same time."""


@dataclass(frozen=True)
class QuestionSamples:
    """A question with its sampled answers and their judgements."""

    example: Example
    answers: list[Answer]
    judgements: list[Judgement]

    def summary(self, task: Task) -> SampledQuestion:
        """Return, for each sample, its verdict, its meaning, and whether it is a refusal."""
        meaning, contents = meanings(task, self.example, self.answers, self.judgements)
        verdicts = [judgement.verdict for judgement in self.judgements]
        # The verdicts determine which samples are refusals.  The rules for refusals apply only to undecided samples.
        contents = [
            "refusal" if verdict == REFUSAL else "answer" if verdict.correct is not None else content
            for verdict, content in zip(verdicts, contents, strict=True)
        ]
        return SampledQuestion(self.example.id, tuple(v.correct for v in verdicts), tuple(meaning), tuple(contents))


def sample_id(name: str, sample: int) -> str:
    """Return the id of a sample, which consists of the question id and the sample number (counted from 0)."""
    return f"{name}#{sample}"


def samples_per_question(run: Run) -> int:
    """Return the number of samples per question.

    Raises
    ------
    RunError
        If the resample step has not been completed, or if the answers have changed since it was executed.
    """
    if not run.is_done(RESAMPLE):
        raise RunError(
            f"the samples in {run.path} are missing or incomplete",
            f"{step_command('resample', run.path, redo=False)} draws them",
        )
    run.check_inputs(RESAMPLE, "the samples were drawn", "draws new samples and keeps the old ones")
    return run.record(RESAMPLE).options.k


def each_question(
    run: Run, task: Task, rows: Sequence[int] | None = None, context: Context = Context()
) -> Iterator[QuestionSamples]:
    """Yield each question with its samples.

    Parameters
    ----------
    rows : sequence of int, optional
        Indices of the questions to yield.  By default, all questions are yielded in order.

    Raises
    ------
    RunError
        If the samples are damaged or cannot be judged.  See also `samples_per_question`.
    """
    k = samples_per_question(run)
    if n_without := sum(not example.answers for example in task.examples):
        raise RunError(
            f"{n_without} questions have no accepted answers, so their samples cannot be judged",
            "add `answers` to the questions; verdicts that were supplied with the answers do not apply to samples",
        )
    judge, file = judge_of(run, context), run.read_answers(FILE, "resample")
    selected = task.examples if rows is None else [task.examples[row] for row in rows]
    for start in range(0, len(selected), _QUESTIONS_IN_MEMORY):
        examples = selected[start : start + _QUESTIONS_IN_MEMORY]
        per_sample = [replace(e, id=sample_id(e.id, sample)) for e in examples for sample in range(k)]
        try:
            answers = list(file.in_order([e.id for e in per_sample]))
        except KeyError as error:
            raise RunError(
                f"{run.path / FILE} contains no sample {error}",
                f"{step_command('resample', run.path)} draws new samples",
            ) from None
        judgements = judge(replace(task, examples=tuple(per_sample)), answers)
        context.logger.progress("samples judged", (start + len(examples)) * k, len(selected) * k)
        for number, example in enumerate(examples):
            block = slice(number * k, (number + 1) * k)
            yield QuestionSamples(example, answers[block], judgements[block])


def note_on_verdicts(run: Run, graded: GradedAnswers) -> str:
    """Return a note if the judge used for the samples disagrees with any of the run's verdicts, or an empty string.

    The verdicts can differ because manual labels and verdicts supplied with the answers do not apply to samples.
    """
    judgements = judge_of(run)(graded.task, graded.answers)
    n_different = sum(
        a.verdict.correct != b.verdict.correct for a, b in zip(judgements, graded.judgements, strict=True)
    )
    if not n_different:
        return ""
    return (
        f"Note: {n_different} of the {len(graded.answers)} answers in the run have a manual or supplied verdict that "
        "differs from the verdict of the judge used for the samples."
    )
