"""Answers that you already have: a file of texts, joined to the questions by id or by question."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from probemap.records import DataError, Task, TextAnswer, Verdict
from probemap.tasks.files import rows_of

DECIDED = {True: "right, as decided", False: "wrong, as decided", None: "undecided, as decided"}
"""Reason of a verdict that a person gave."""

GIVEN = {True: "right, as given", False: "wrong, as given", None: "undecided, as given"}
"""Reason of a verdict that came with the answer."""

_FIELDS = "each row needs a text field 'text', and 'id' or 'question'"


def read_replies(path: Path, task: Task) -> tuple[list[TextAnswer], int]:
    """One reply per question, in the order of the questions; and how many rows belong to no question.

    A file is JSONL, CSV or Parquet with one row per answer: ``text``, the answer as the model produced it; ``id`` or
    ``question``, whose answer it is; and optionally ``prompt``, the very text that the model saw, template included;
    ``correct``, true, false or null for undecided; ``stopped``, false if the answer was cut off.

    Raises
    ------
    DataError: no such file, a bad row, a question without an answer or with two.
    """
    ids = {e.id for e in task.examples}
    by_question = {e.question: e.id for e in task.examples}
    twice = {question for question, count in Counter(e.question for e in task.examples).items() if count > 1}
    found: dict[str, TextAnswer] = {}
    others = 0
    for number, row in enumerate(rows_of(path), start=1):
        where = f"{path}, row {number}"
        if not isinstance(row, Mapping):
            raise DataError(f"{where}: expected an object, got {type(row).__name__}", "one object per row")
        id_ = str(row["id"]) if row.get("id") not in (None, "") else ""
        if not id_:
            question = row.get("question")
            if not isinstance(question, str):
                raise DataError(f"{where}: neither id nor question (fields: {', '.join(map(str, row))})", _FIELDS)
            if question in twice:
                raise DataError(f"{where}: {question[:60]!r} is asked more than once", "join the answers by 'id'")
            id_ = by_question.get(question, "")
        if id_ not in ids:
            others += 1
        elif id_ in found:
            raise DataError(f"{where}: a second answer to {id_!r}", "give one answer per question")
        else:
            found[id_] = _reply(row, id_, where)
    if missing := [e.id for e in task.examples if e.id not in found]:
        shown = ", ".join(repr(i) for i in missing[:5])
        raise DataError(
            f"{path} has no answer to {len(missing)} of {len(task.examples)} questions: {shown}",
            "answer these too, or take them out of the questions",
        )
    if unjudged := [e.id for e in task.examples if not e.answers and found[e.id].verdict is None]:
        raise DataError(
            f"{len(unjudged)} questions have neither accepted answers nor a verdict, first {unjudged[0]!r}",
            "give 'answers' with the questions, or 'correct' (true, false or null) with every text",
        )
    return [found[e.id] for e in task.examples], others


def _reply(row: Mapping[str, Any], id_: str, where: str) -> TextAnswer:
    text, prompt = row.get("text"), row.get("prompt")
    if not isinstance(text, str):
        raise DataError(f"{where}: no text (fields: {', '.join(map(str, row))})", _FIELDS)
    if prompt is not None and not isinstance(prompt, str):
        raise DataError(f"{where}: prompt is {type(prompt).__name__}", "give the text that the model saw")
    verdict = None
    if "correct" in row:
        correct = _truth(row["correct"], f"{where}: correct")
        verdict = Verdict(correct, GIVEN[correct])
    stopped = _truth(row.get("stopped"), f"{where}: stopped")
    return TextAnswer(id_, text, stopped is not False, prompt or None, verdict)


@dataclass(frozen=True)
class Decision:
    """What a person decided of an answer."""

    verdict: Verdict
    exact_answer: str | None
    """As it stands in the answer; empty: there is none; None: nothing was decided."""


def read_decisions(path: Path, task: Task) -> dict[str, Decision]:
    """Id -> decision, from a file with one row per answer: ``id``, ``correct`` (true, false or null for undecided) and
    optionally ``exact_answer`` (null: there is none); other fields are for the reader.

    Raises
    ------
    DataError: no such file, a bad row, an id that is none of the questions' or stands twice.
    """
    ids = {e.id for e in task.examples}
    found: dict[str, Decision] = {}
    for number, row in enumerate(rows_of(path), start=1):
        where = f"{path}, row {number}"
        if not isinstance(row, Mapping) or "id" not in row or "correct" not in row:
            raise DataError(f"{where}: no id or no correct", "each row needs 'id' and 'correct'")
        id_ = str(row["id"])
        if id_ not in ids or id_ in found:
            problem = "a second decision on" if id_ in found else "none of the questions is"
            raise DataError(f"{where}: {problem} {id_!r}", "one row per answer, under its question's id")
        correct, exact = _truth(row["correct"], f"{where}: correct"), row.get("exact_answer")
        if not isinstance(exact, str | None):
            raise DataError(f"{where}: exact_answer is {type(exact).__name__}", "write a text, or null for none")
        found[id_] = Decision(Verdict(correct, DECIDED[correct]), (exact or "") if "exact_answer" in row else None)
    return found


_TRUTH = {"true": True, "1": True, "false": False, "0": False, "": None, "null": None, "none": None}


def _truth(value: Any, where: str) -> bool | None:
    """A truth value of JSON, or as a CSV spells it."""
    if value is None or isinstance(value, bool):
        return value
    if (spelt := str(value).strip().lower()) in _TRUTH:
        return _TRUTH[spelt]
    raise DataError(f"{where} is {value!r}", "write true, false, or null for undecided")
