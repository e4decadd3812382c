"""Read user-supplied answers and manual labels, and match them to the questions."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from probemap.reading.folding import find_words
from probemap.records import SUPPLIED, DataError, Example, Task, TextAnswer, Verdict
from probemap.tasks.cells import parse_truth
from probemap.tasks.files import read_rows

MANUAL = {True: "correct by manual label", False: "incorrect by manual label", None: "undecided by manual label"}
"""Mapping from a manually entered verdict to the reason recorded for it."""

_FIELDS = "each row requires the string field 'text', and either 'id' or 'question'"


def read_text_answers(path: Path, task: Task) -> tuple[list[TextAnswer], int]:
    """Read existing answers to the questions of a task, one per question.

    Parameters
    ----------
    path : Path
        A JSONL, CSV or Parquet file with one row per answer and the following fields:

        * ``text``: the answer as the model produced it;
        * ``id`` or ``question``: the id or the text of the question;
        * ``prompt`` (optional): the exact text that the model saw, including the chat template;
        * ``correct`` (optional): true, false, or null for undecided;
        * ``exact_answer`` (optional): the exact answer, spelled as in the answer;
        * ``stopped`` (optional): false if the answer was cut off.
    task : Task

    Returns
    -------
    answers : list of TextAnswer
        The answers, in the order of the questions.
    n_unmatched : int
        Number of rows that match no question.

    Raises
    ------
    DataError
        If the file does not exist, if a row is invalid, if a question has no answer or more than one, or if a question
        has no accepted answers and its answer has no verdict.
    """
    ids = {e.id for e in task.examples}
    id_of_question = {e.question: e.id for e in task.examples}
    repeated = {question for question, count in Counter(e.question for e in task.examples).items() if count > 1}
    answers: dict[str, TextAnswer] = {}
    n_unmatched = 0
    for number, row in enumerate(read_rows(path), start=1):
        location = f"{path}, row {number}"
        if not isinstance(row, Mapping):
            raise DataError(f"{location}: expected an object, got {type(row).__name__}", "write one object per row")
        id_ = str(row["id"]) if row.get("id") not in (None, "") else ""
        if not id_:
            question = row.get("question")
            if not isinstance(question, str):
                raise DataError(
                    f"{location}: neither 'id' nor 'question' is given (fields: {', '.join(map(str, row))})", _FIELDS
                )
            if question in repeated:
                raise DataError(
                    f"{location}: the question {question[:60]!r} occurs more than once",
                    "identify the questions by 'id'",
                )
            id_ = id_of_question.get(question, "")
        if id_ not in ids:
            n_unmatched += 1
        elif id_ in answers:
            raise DataError(f"{location}: duplicate answer to {id_!r}", "supply one answer per question")
        else:
            answers[id_] = _text_answer(row, id_, location)
    if missing := [e.id for e in task.examples if e.id not in answers]:
        shown = ", ".join(repr(id_) for id_ in missing[:5])
        raise DataError(
            f"{path} contains no answer to {len(missing)} of {len(task.examples)} questions: {shown}",
            "add these answers, or remove the questions",
        )
    if ungradable := [e.id for e in task.examples if not e.answers and answers[e.id].verdict is None]:
        raise DataError(
            f"{len(ungradable)} questions have neither accepted answers nor a verdict; "
            f"the first one is {ungradable[0]!r}",
            "add 'answers' to the questions, or 'correct' (true, false or null) to every answer",
        )
    return [answers[e.id] for e in task.examples], n_unmatched


def _text_answer(row: Mapping[str, Any], id_: str, location: str) -> TextAnswer:
    text, prompt = row.get("text"), row.get("prompt")
    if not isinstance(text, str):
        raise DataError(f"{location}: the field 'text' must be a string (fields: {', '.join(map(str, row))})", _FIELDS)
    if prompt is not None and not isinstance(prompt, str):
        raise DataError(
            f"{location}: 'prompt' must be a string, got {type(prompt).__name__}", "write the text that the model saw"
        )
    verdict = None
    if "correct" in row:
        correct = _parse_bool(row["correct"], f"{location}: 'correct'")
        verdict = Verdict(correct, SUPPLIED[correct])
    stopped = _parse_bool(row.get("stopped"), f"{location}: 'stopped'")
    return TextAnswer(id_, text, stopped is not False, prompt or None, verdict, _exact_answer(row, text, location))


def _exact_answer(row: Mapping[str, Any], text: str, location: str) -> str | None:
    exact = row.get("exact_answer")
    if not isinstance(exact, str | None):
        raise DataError(
            f"{location}: 'exact_answer' must be a string or null, got {type(exact).__name__}",
            "write the exact answer as it is spelled in the answer, or omit it",
        )
    if exact and find_words(text, exact) is None:
        raise DataError(
            f"{location}: the exact answer {exact[:60]!r} does not occur in the answer",
            "copy it verbatim from the answer, or omit it",
        )
    return exact or None


def read_question_answers(path: Path) -> Iterator[tuple[Example, TextAnswer]]:
    """Read answers together with their questions, row by row.

    Parameters
    ----------
    path : Path
        A JSONL, CSV or Parquet file with one row per answer and the following fields:

        * ``question`` and ``answer``;
        * ``id``, ``context`` and ``choices`` (optional);
        * ``prompt`` (optional): the exact text that the model saw, including the chat template;
        * ``stopped`` (optional): false if the answer was cut off.  Truth values may be spelled as in spreadsheets.

    Yields
    ------
    tuple of (Example, TextAnswer)
        A pair: the example, which has no accepted answers, and the answer.  Both have the id of the row, or the row
        number if the row has no id.

    Raises
    ------
    DataError
        If the file does not exist or if a row is invalid.
    """
    for number, row in enumerate(read_rows(path), start=1):
        location = f"{path}, row {number}"
        if not isinstance(row, Mapping):
            raise DataError(f"{location}: expected an object, got {type(row).__name__}", "write one object per row")
        yield _question_answer(row, str(number), location)


def _question_answer(row: Mapping[str, Any], default_id: str, location: str) -> tuple[Example, TextAnswer]:
    texts = {}
    for name, required in (("question", True), ("answer", True), ("context", False), ("prompt", False)):
        value = row.get(name)
        if not isinstance(value, str) and (required or value is not None):
            problem = (
                f"must be a string, got {type(value).__name__}"
                if name in row
                else f"is missing (fields: {', '.join(map(str, row))})"
            )
            raise DataError(
                f"{location}: {name!r} {problem}", "each row requires the string fields 'question' and 'answer'"
            )
        texts[name] = value or ""
    choices = row.get("choices") or ()
    if not isinstance(choices, list | tuple) or not all(isinstance(choice, str) for choice in choices):
        raise DataError(f"{location}: 'choices' must be a list of strings, got {choices!r:.60}", "correct this row")
    stopped = _parse_bool(row.get("stopped"), f"{location}: 'stopped'")
    id_ = str(row["id"]) if row.get("id") not in (None, "") else default_id
    example = Example(id_, texts["question"], ("",), tuple(choices), texts["context"])
    return example, TextAnswer(id_, texts["answer"], stopped is not False, texts["prompt"] or None)


@dataclass(frozen=True)
class ManualLabel:
    """The manually entered verdict on one answer, together with its exact answer."""

    verdict: Verdict
    exact_answer: str | None
    """The exact answer, spelled exactly as in the answer.  It is empty if the answer contains no exact answer, and None
    if the exact answer was not labelled."""


def read_manual_labels(path: Path, task: Task) -> dict[str, ManualLabel]:
    """Read manual labels from a file.

    Parameters
    ----------
    path : Path
        A JSONL, CSV or Parquet file with one row per labelled answer and the following fields (all other fields are
        ignored):

        * ``id``: the id of the question;
        * ``correct``: true, false, or null for undecided;
        * ``exact_answer`` (optional): the exact answer, or null if the answer contains none.
    task : Task

    Returns
    -------
    dict of str to ManualLabel
        Mapping from the id of a question to the label of its answer.

    Raises
    ------
    DataError
        If the file does not exist, if a row is invalid, or if an id is unknown or occurs more than once.
    """
    ids = {e.id for e in task.examples}
    labels: dict[str, ManualLabel] = {}
    for number, row in enumerate(read_rows(path), start=1):
        location = f"{path}, row {number}"
        if not isinstance(row, Mapping) or "id" not in row or "correct" not in row:
            raise DataError(f"{location}: the field 'id' or 'correct' is missing", "each row requires both fields")
        id_ = str(row["id"])
        if id_ not in ids or id_ in labels:
            problem = "duplicate label for" if id_ in labels else "unknown question id"
            raise DataError(f"{location}: {problem} {id_!r}", "write one row per answer, with the id of its question")
        correct, exact = _parse_bool(row["correct"], f"{location}: 'correct'"), row.get("exact_answer")
        if not isinstance(exact, str | None):
            raise DataError(
                f"{location}: 'exact_answer' must be a string or null, got {type(exact).__name__}",
                "write a string, or null if the answer has no exact answer",
            )
        exact_answer = (exact or "") if "exact_answer" in row else None
        labels[id_] = ManualLabel(Verdict(correct, MANUAL[correct]), exact_answer)
    return labels


def _parse_bool(value: Any, location: str) -> bool | None:
    try:
        return parse_truth(value)
    except ValueError:
        raise DataError(
            f"{location} must be true, false or null, got {value!r:.60}", "write true, false, or null for undecided"
        ) from None
