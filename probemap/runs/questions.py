"""Read the questions of a run and, if they are supplied, the answers to them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from probemap.logs.importing import Selection, is_log, read_log
from probemap.records import DataError, RunError, TextAnswer
from probemap.runs.run import Run
from probemap.tasks.loading import load_task, select_questions
from probemap.tasks.supplied import read_text_answers

if TYPE_CHECKING:
    from probemap.logs.samples import Refusal
    from probemap.records import Answer, Judgement, Task
    from probemap.runs.options import AnswerOptions


@dataclass(frozen=True)
class Questions:
    """The questions of a run."""

    task: Task
    answers: list[TextAnswer] | None = None
    """The supplied answers, one per question and in the same order, or None if the model generates them."""
    sha256: str | None = None
    """Hash of the file with the supplied answers, or of the files of the run that they come from."""
    refusals: list[Refusal] = field(default_factory=list)
    """The samples of a log that cannot be used."""
    notes: list[str] = field(default_factory=list)
    """Messages about how the file was read."""


def read_questions(options: AnswerOptions) -> Questions:
    """Read the questions and, if they come from a log, a file or another run, the answers.

    Raises
    ------
    DataError, RunError
        If the questions or the answers are invalid, or if mutually exclusive options are given.
    """
    if is_log(options.data):
        return _logged(options)
    if options.select is not None:
        raise RunError("--select applies only to a log", "pass the log as FORMAT:FILE, or omit --select")
    task = load_task(
        options.data, n=options.n, seed=options.seed, kind=options.kind, require_answers=options.answers is None
    )
    if options.answers is None:
        return Questions(task)
    path = Path(options.answers)
    if path.is_dir():
        return _answers_of_run(Run.open(path), task)
    answers, n_unmatched = read_text_answers(path, task)
    notes = [f"{n_unmatched} rows of {path} do not match any of the {len(answers)} questions"] if n_unmatched else []
    return Questions(task, answers, _hash(path), notes=notes)


def _logged(options: AnswerOptions) -> Questions:
    if options.answers is not None or options.endpoint is not None or options.inline is not None:
        raise RunError("the answers come from a log", "omit --answers and --endpoint")
    log = read_log(options.data, Selection.parse(options.select or ""))
    task = select_questions(log.task, options.data, n=options.n, seed=options.seed, kind=options.kind)
    answer_of = {answer.id: answer for answer in log.answers}
    answers = [answer_of[example.id] for example in task.examples]
    return Questions(task, answers, _hash(log.path), log.refusals, log.notes)


def _answers_of_run(run: Run, task: Task) -> Questions:
    """Return the answers, verdicts and exact answers of another run, so that this run's model reads the same texts.

    The prompts are not taken over, because they contain the chat template of the other model.
    """
    graded = run.graded
    row_of = {id_: row for row, id_ in enumerate(graded.ids)}
    if missing := [example.id for example in task.examples if example.id not in row_of]:
        raise DataError(
            f"{run.path} contains no answer to {len(missing)} of {len(task.examples)} questions: "
            f"{', '.join(map(repr, missing[:5]))}",
            "pass the same questions, --n and --seed as for that run",
        )
    rows = [row_of[example.id] for example in task.examples]
    for example, row in zip(task.examples, rows, strict=True):
        other = graded.task.examples[row]
        if (example.question, example.context) != (other.question, other.context):
            raise DataError(
                f"the question {example.id!r} is {example.question[:60]!r}, but in {run.path} it is "
                f"{other.question[:60]!r}",
                "pass the same questions as for that run",
            )
    answers = [_text_answer(graded.answers[row], graded.judgements[row]) for row in rows]
    n_unmatched = len(graded.ids) - len(rows)
    note = f"{n_unmatched} answers of {run.path} do not match any of the {len(rows)} questions"
    files = run.sha256("answers.jsonl") + run.sha256("verdicts.jsonl")
    return Questions(task, answers, hashlib.sha256(files.encode()).hexdigest(), notes=[note] if n_unmatched else [])


def _text_answer(answer: Answer, judgement: Judgement) -> TextAnswer:
    """Return the text of an answer, without its reasoning, together with its verdict and its exact answer.

    The space at its beginning depends on the prompt format of the model, and is added again where it belongs.  The
    place of the words that decided the verdict is left out, because this space moves it.
    """
    return TextAnswer(
        answer.id,
        answer.final.text.lstrip(),
        answer.stopped,
        verdict=replace(judgement.verdict, rule="", evidence=None),
        exact_answer=judgement.span.text if judgement.span else None,
    )


def _hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})", "check the path") from None
