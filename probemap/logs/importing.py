"""Import the questions, answers and verdicts of a log."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from probemap.logs import every_eval_ever, inspect_ai, lighteval, lm_eval
from probemap.logs.samples import NOT_SCORED, LoggedAnswer, Refusal, truth, verdict
from probemap.records import DataError, Example, Task, TextAnswer
from probemap.tasks.kinds import infer_kinds

Reader = Callable[[Path], Iterator[LoggedAnswer | Refusal]]

FORMATS: Mapping[str, Reader] = {
    "lm-eval": lm_eval.read,
    "inspect": inspect_ai.read,
    "lighteval": lighteval.read,
    "every-eval-ever": every_eval_ever.read,
}
"""Mapping from the name of a format to the function that reads it."""


NO_SCORE = "none"
"""Name that is selected instead of a score if the answers are to be graded again."""


@dataclass(frozen=True)
class Selection:
    """The part of a log that is imported.

    Examples
    --------
    >>> from probemap.logs.importing import Selection
    >>> Selection.parse("filter=strict-match,score=exact_match")
    Selection(filter='strict-match', score='exact_match')
    """

    filter: str | None = None
    """Name of the filter that processed the answers."""
    score: str | None = None
    """Name of the score that determines the verdicts, or ``none`` to grade the answers again."""

    @classmethod
    def parse(cls, text: str) -> Selection:
        """Parse text such as ``filter=strict-match,score=exact_match``.

        Raises
        ------
        DataError
            If the text has a different form.
        """
        # The name of a score may contain a comma.
        pairs = [part.partition("=") for part in re.split(r",(?=\s*(?:filter|score)=)", text) if part.strip()]
        values = {name.strip(): value.strip() for name, _, value in pairs}
        if len(values) < len(pairs) or not all(values.values()) or not set(values) <= {"filter", "score"}:
            raise DataError(
                f"cannot parse the selection {text!r}", "write filter=NAME, score=NAME or filter=NAME,score=NAME"
            )
        return cls(**values)


@dataclass(frozen=True)
class ImportedLog:
    """The content of a log."""

    path: Path
    task: Task
    answers: list[TextAnswer]
    """One answer per example of the task, in the same order."""
    refusals: list[Refusal]
    """The samples that cannot be used."""
    notes: list[str]
    """Messages about how the log was read."""


def is_log(source: str) -> bool:
    """Return True if a source has the form ``FORMAT:FILE``."""
    name, colon, _ = source.partition(":")
    return bool(colon) and name in FORMATS


def read_log(source: str, selection: Selection = Selection()) -> ImportedLog:
    """Import the questions, answers and verdicts of a log.

    Parameters
    ----------
    source : str
        ``FORMAT:FILE``, where FORMAT is a key of `FORMATS`.
    selection : Selection
        The part of the log that is imported.  If a log has several filters, or scores that differ, one of them must be
        selected.

    Returns
    -------
    ImportedLog
        If a question was answered several times, each answer has its own example.  The ids of all but the first end
        with ``#`` and the number of the answer.

    Raises
    ------
    DataError
        If the format is unknown or the file cannot be read, if it has several filters or scores and none is selected,
        if the selected one does not exist, or if no sample can be used.
    """
    name, _, file = source.partition(":")
    path = Path(file)
    if name not in FORMATS:
        raise DataError(f"unknown format of a log: {name!r}", f"the formats are {', '.join(FORMATS)}")
    try:
        if not path.is_file():
            raise DataError(f"{path} does not exist or is not a file", "check the path")
        rows = list(FORMATS[name](path))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})", "check the path") from None
    refusals = [row for row in rows if isinstance(row, Refusal)]
    answers = _with_filter([row for row in rows if isinstance(row, LoggedAnswer)], selection.filter, path)
    score = _score_name(answers, selection.score, path)
    pairs: list[tuple[Example, TextAnswer]] = []
    for logged in _without_duplicates(answers, score):
        result = logged if isinstance(logged, Refusal) else _imported(logged, score)
        if isinstance(result, Refusal):
            refusals.append(result)
        else:
            pairs.append(result)
    if not pairs:
        example = f"; {refusals[0].location}: {refusals[0].reason}" if refusals else ""
        raise DataError(
            f"none of the {len(rows)} answers in {path} can be imported: "
            f"{_counted(refusals) or 'the file is empty'}{example}",
            f"check that the file is a log of the format {name}, and that the model generated text",
        )
    examples, text_answers = zip(*pairs, strict=True)
    limits = [answer.max_new_tokens for answer in text_answers if answer.max_new_tokens is not None]
    task = Task(path.stem, examples, "open", max_new_tokens=max(limits, default=Task.max_new_tokens), source=path.name)
    notes = _notes(path, len(rows), text_answers, score, refusals)
    return ImportedLog(path, infer_kinds(task), list(text_answers), refusals, notes)


def _with_filter(answers: Sequence[LoggedAnswer], name: str | None, path: Path) -> list[LoggedAnswer]:
    """Return the answers that were processed by the selected filter."""
    names = list(dict.fromkeys(answer.filter for answer in answers))
    if name is None and len(names) > 1:
        raise DataError(
            f"{path} contains the results of {len(names)} filters: {', '.join(names)}",
            f"select one of them, e.g. --select filter={names[0]}",
        )
    if name is not None and name not in names:
        raise DataError(
            f"{path} has no filter named {name!r}", f"its filters are {', '.join(filter(None, names)) or 'not named'}"
        )
    return [answer for answer in answers if name is None or answer.filter == name]


def _score_name(answers: Sequence[LoggedAnswer], name: str | None, path: Path) -> str | None:
    """Return the name of the score that determines the verdicts, or None if the answers have to be graded.

    Scores with other values than those of a verdict, e.g. F1 scores, are not considered unless they are selected.
    """
    columns: dict[str, dict[tuple[str, int], bool | None]] = {}
    is_verdict: dict[str, bool] = {}
    for answer in answers:
        for score, value in answer.scores.items():
            correct = truth(value)
            columns.setdefault(score, {})[answer.id, answer.repeat] = correct
            is_other_number = correct is None and isinstance(value, int | float) and value == value
            is_verdict[score] = is_verdict.get(score, True) and not is_other_number
    if name is not None:
        if name != NO_SCORE and name not in columns:
            raise DataError(f"{path} has no score named {name!r}", f"its scores are {', '.join(columns) or 'none'}")
        return None if name == NO_SCORE else name
    usable = [score for score, column in columns.items() if is_verdict[score] and set(column.values()) - {None}]
    if len(usable) > 1 and any(columns[score] != columns[usable[0]] for score in usable):
        raise DataError(
            f"{path} contains several scores, which differ: {', '.join(usable)}",
            f"select one of them, e.g. --select score={usable[0]}, or score={NO_SCORE} to grade the answers again",
        )
    if columns and not usable:
        raise DataError(
            f"none of the scores in {path} is always 0 or 1: {', '.join(columns)}",
            f"select one nevertheless, e.g. --select score={next(iter(columns))}, so that answers with other values "
            f"are undecided, or score={NO_SCORE} to grade the answers again",
        )
    return usable[0] if usable else None


def _without_duplicates(answers: Sequence[LoggedAnswer], score: str | None) -> Iterator[LoggedAnswer | Refusal]:
    """Yield each answer once.

    A format may have one sample per score, so that an answer occurs several times.  The sample with the selected score
    is used.
    """
    samples: dict[tuple[str, int], list[LoggedAnswer]] = {}
    for answer in answers:
        samples.setdefault((answer.id, answer.repeat), []).append(answer)
    for group in samples.values():
        first, *others = [sample for sample in group if score in sample.scores] or group
        yield first
        for other in others:
            if (other.text, other.prompt) != (first.text, first.prompt) or _value(other, score) != _value(first, score):
                yield Refusal(other.location, f"a different answer with the same id: {first.id!r} ({first.location})")


def _value(answer: LoggedAnswer, score: str | None) -> bool | None:
    return None if score is None else truth(answer.scores.get(score))


def _imported(logged: LoggedAnswer, score: str | None) -> tuple[Example, TextAnswer] | Refusal:
    if not logged.question.strip():
        return Refusal(logged.location, "no question")
    if not logged.prompt and logged.prompt is not None:
        return Refusal(logged.location, "no prompt")
    if score is None and not logged.accepted:
        return Refusal(logged.location, "neither a score nor an accepted answer")
    id_ = logged.id if logged.repeat == 1 else f"{logged.id}#{logged.repeat}"
    return (
        Example(id_, logged.question, logged.accepted, logged.choices),
        TextAnswer(
            id_,
            logged.text,
            logged.stopped,
            logged.prompt,
            None if score is None else verdict(logged.scores.get(score)),
            exact_answer=None if score is None else logged.extracted.get(score),
            max_new_tokens=logged.max_new_tokens,
            reasoning=logged.reasoning,
            prompt_ids=logged.prompt_ids,
            produced_ids=logged.produced_ids,
        ),
    )


def _notes(
    path: Path, n: int, answers: Sequence[TextAnswer], score: str | None, refusals: Sequence[Refusal]
) -> list[str]:
    """Return messages that state what was imported, and what the log does not say."""
    graded = "graded by the judge step" if score is None else f"with verdicts from the score {score!r}"
    notes = [f"imported {len(answers)} of the {n} answers in {path}, {graded}"]
    if refusals:
        notes.append(f"{len(refusals)} answers cannot be imported: {_counted(refusals)}")
    if n_others := n - len(answers) - len(refusals):
        notes.append(f"{n_others} answers were processed by other filters or are repeated")
    if n_unscored := sum(a.verdict is not None and a.verdict.reason == NOT_SCORED for a in answers):
        notes.append(f"{n_unscored} answers have no score of their own and are undecided")
    if n_without := sum(answer.prompt is None and answer.prompt_ids is None for answer in answers):
        notes.append(f"the log does not contain {n_without} of the prompts, which are built from the questions")
    if n_unknown := sum(answer.stopped is None and answer.max_new_tokens is None for answer in answers):
        notes.append(f"whether {n_unknown} answers were cut off is not known: they count as complete")
    return notes


def _counted(refusals: Sequence[Refusal]) -> str:
    """Return the reasons with the number of samples that each of them concerns."""
    counts = Counter(refusal.reason.partition(":")[0] for refusal in refusals)
    return ", ".join(f"{reason} ({n})" for reason, n in counts.most_common())
