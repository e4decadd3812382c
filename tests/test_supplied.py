"""User-supplied answers: matched to their questions, with their verdicts."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from running import execute

from probemap.records import DataError, Example, RunError, Task, TextAnswer, Verdict
from probemap.runs.definitions import ANSWER, JUDGE
from probemap.tasks.loading import load_task
from probemap.tasks.supplied import read_question_answers, read_text_answers

TASK = Task(
    "t",
    (Example("a", "Where is Rome?", ("Italy",)), Example("b", "Where is Lima?", ("Peru",))),
    "open",
    prompt="{question}",
)


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_read_text_answers_matches_by_id_or_question(tmp_path: Path) -> None:
    file = write(
        tmp_path / "f.jsonl",
        {"question": "Where is Lima?", "text": "Peru.", "prompt": "Q: Lima?\nA:", "correct": True},
        {"id": "c", "text": "of another question"},
        {"id": "a", "text": " In Spain", "stopped": False, "correct": None},
    )
    answers, n_unmatched = read_text_answers(file, TASK)
    assert n_unmatched == 1
    assert answers == [
        TextAnswer("a", " In Spain", False, None, Verdict(None, "supplied as undecided")),
        TextAnswer("b", "Peru.", True, "Q: Lima?\nA:", Verdict(True, "supplied as correct")),
    ]


def test_read_text_answers_parses_booleans_of_csv(tmp_path: Path) -> None:
    file = tmp_path / "f.csv"
    for written in (
        "a,Italy,False,true\nb,Peru,,0\n",
        "a,Italy,FALSE,yes\nb,Peru,NA,FALSCH\n",
        "a,Italy,n,1.0\nb,x,,no\n",
    ):
        file.write_text("id,text,correct,stopped\n" + written)
        answers, _ = read_text_answers(file, TASK)
        assert [(r.verdict and r.verdict.correct, r.stopped) for r in answers] == [(False, True), (None, False)]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"id": "a", "text": "x"}], r"no answer to 1 of 2 questions: 'b'"),
        ([{"id": "a", "text": "x"}, {"id": "a", "text": "y"}], r"row 2: duplicate answer to 'a'"),
        ([{"text": "x"}], r"row 1: neither 'id' nor 'question' is given \(fields: text\)"),
        ([{"id": "a", "answer": "x"}], r"row 1: the field 'text' must be a string \(fields: id, answer\)"),
        ([{"id": "a", "text": None}], r"row 1: the field 'text' must be a string"),
        ([{"id": "a", "text": "x", "correct": "maybe"}], r"row 1: 'correct' must be true, false or null, got 'maybe'"),
        ([{"id": "a", "text": "x", "prompt": 3}], r"row 1: 'prompt' must be a string, got int"),
        (["text"], r"row 1: expected an object, got str"),
    ],
)
def test_read_text_answers_error_names_row(tmp_path: Path, rows: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_text_answers(write(tmp_path / "f.jsonl", *rows), TASK)


def test_read_text_answers_repeated_question_needs_id(tmp_path: Path) -> None:
    repeated = Task("t", (TASK.examples[0], Example("c", "Where is Rome?", ("Italy",))), "open")
    with pytest.raises(DataError, match="the question 'Where is Rome\\?' occurs more than once"):
        read_text_answers(write(tmp_path / "f.jsonl", {"question": "Where is Rome?", "text": "x"}), repeated)


@given(st.lists(st.dictionaries(st.sampled_from(["id", "question", "text", "correct", "x"]), st.from_type(object))))
def test_read_text_answers_any_rows_give_data_error(rows: list[dict[str, Any]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        file = write(Path(folder) / "f.jsonl", *json.loads(json.dumps(rows, default=str, skipkeys=True)))
        with pytest.raises(DataError):
            read_text_answers(file, Task("t", (Example("unmatched", "unmatched", ("x",)),), "open"))


def test_supplied_verdicts_need_no_accepted_answers(tmp_path: Path, chat_folder: Path) -> None:
    questions = write(tmp_path / "q.jsonl", {"id": "a", "question": "Where is Rome?"}, {"id": "b", "question": "Lima?"})
    with pytest.raises(DataError, match="row 1: there are no accepted answers to 'Where is Rome"):
        load_task(questions)
    texts = write(tmp_path / "f.jsonl", {"id": "a", "text": "Italy", "correct": True}, {"id": "b", "text": "Spain"})
    options: dict[str, Any] = {"model": chat_folder, "answers": str(texts)}
    with pytest.raises(
        DataError, match="1 questions have neither accepted answers nor a verdict; the first one is 'b'"
    ):
        execute(ANSWER, tmp_path / "run", data=questions, **options)
    write(texts, {"id": "a", "text": "Italy", "correct": True}, {"id": "b", "text": "Spain", "correct": False})
    run = execute(ANSWER, tmp_path / "run", data=questions, **options)
    execute(JUDGE, run, locator="none")
    assert [j.verdict for j in run.read_judgements()] == [
        Verdict(True, "supplied as correct"),
        Verdict(False, "supplied as incorrect"),
    ]


def test_changed_answer_file_is_a_changed_input(tmp_path: Path, chat_folder: Path) -> None:
    questions = write(tmp_path / "q.jsonl", {"id": "a", "question": "Where is Rome?", "answers": ["Italy"]})
    texts = write(tmp_path / "f.jsonl", {"id": "a", "text": "Italy"})
    options: dict[str, Any] = {"model": chat_folder, "answers": str(texts)}
    run = execute(ANSWER, tmp_path / "run", data=questions, **options)
    execute(JUDGE, run, locator="none")
    assert run.read_judgements()[0].verdict.reason == "names an accepted answer", (
        "an answer without a verdict is graded by the rules"
    )
    write(texts, {"id": "a", "text": "Spain"})
    with pytest.raises(RunError, match="changed input: answers"):
        execute(ANSWER, tmp_path / "run", data=questions, **options)


def test_read_question_answers_reads_files_of_spreadsheets(tmp_path: Path) -> None:
    file = tmp_path / "f.csv"
    file.write_text("question,answer,stopped\nWho?,Ann.,FALSE\nWhere?,Here.,WAHR\nWhen?,Now.,\n")
    assert [answer.stopped for _, answer in read_question_answers(file)] == [False, True, True]
    file.write_text("question,answer,stopped\nWho?,Ann.,perhaps\n")
    with pytest.raises(DataError, match="row 1: 'stopped' must be true, false or null, got 'perhaps'"):
        list(read_question_answers(file))
