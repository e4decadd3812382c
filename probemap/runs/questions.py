"""Read the questions of a run and, if they are supplied, the answers to them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from probemap.logs.importing import Selection, is_log, read_log
from probemap.records import DataError, RunError
from probemap.tasks.loading import load_task, select_questions
from probemap.tasks.supplied import read_text_answers

if TYPE_CHECKING:
    from probemap.logs.samples import Refusal
    from probemap.records import Task, TextAnswer
    from probemap.runs.options import AnswerOptions


@dataclass(frozen=True)
class Questions:
    """The questions of a run."""

    task: Task
    answers: list[TextAnswer] | None = None
    """The supplied answers, one per question and in the same order, or None if the model generates them."""
    sha256: str | None = None
    """Hash of the file with the supplied answers."""
    refusals: list[Refusal] = field(default_factory=list)
    """The samples of a log that cannot be used."""
    notes: list[str] = field(default_factory=list)
    """Messages about how the file was read."""


def read_questions(options: AnswerOptions) -> Questions:
    """Read the questions and, if they come from a log or a file, the answers.

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


def _hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})", "check the path") from None
