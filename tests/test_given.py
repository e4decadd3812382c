"""Answers that somebody already has: joined to their questions, their verdicts honoured, nothing guessed."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probemap.models.loading import Loader
from probemap.records import DataError, Example, RunError, Task, TextAnswer, Verdict
from probemap.runs.options import Answering, Judging
from probemap.runs.pipeline import answer
from probemap.runs.steps.judge import judge
from probemap.tasks.files import load_task
from probemap.tasks.supplied import read_replies

TASK = Task(
    "t",
    (Example("a", "Where is Rome?", ("Italy",)), Example("b", "Where is Lima?", ("Peru",))),
    "open",
    prompt="{question}",
)


def rows(path: Path, *made: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in made), encoding="utf-8")
    return path


def test_replies_are_joined_by_id_or_by_question_in_the_order_of_the_questions(tmp_path: Path) -> None:
    file = rows(
        tmp_path / "f.jsonl",
        {"question": "Where is Lima?", "text": "Peru.", "prompt": "Q: Lima?\nA:", "correct": True},
        {"id": "c", "text": "of another question"},
        {"id": "a", "text": " In Spain", "stopped": False, "correct": None},
    )
    replies, others = read_replies(file, TASK)
    assert others == 1
    assert replies == [
        TextAnswer("a", " In Spain", False, None, Verdict(None, "undecided, as given")),
        TextAnswer("b", "Peru.", True, "Q: Lima?\nA:", Verdict(True, "right, as given")),
    ]


def test_a_csv_spells_truth_in_words(tmp_path: Path) -> None:
    file = tmp_path / "f.csv"
    file.write_text("id,text,correct,stopped\na,Italy,False,true\nb,Peru,,0\n")
    replies, _ = read_replies(file, TASK)
    assert [(r.verdict and r.verdict.correct, r.stopped) for r in replies] == [(False, True), (None, False)]


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ([{"id": "a", "text": "x"}], r"no answer to 1 of 2 questions: 'b'"),
        ([{"id": "a", "text": "x"}, {"id": "a", "text": "y"}], r"row 2: a second answer to 'a'"),
        ([{"text": "x"}], r"row 1: neither id nor question \(fields: text\)"),
        ([{"id": "a", "answer": "x"}], r"row 1: no text \(fields: id, answer\)"),
        ([{"id": "a", "text": None}], r"row 1: no text"),
        ([{"id": "a", "text": "x", "correct": "maybe"}], r"row 1: correct is 'maybe'"),
        ([{"id": "a", "text": "x", "prompt": 3}], r"row 1: prompt is int"),
        (["text"], r"row 1: expected an object, got str"),
    ],
)
def test_a_bad_file_is_told_by_its_row(tmp_path: Path, made: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_replies(rows(tmp_path / "f.jsonl", *made), TASK)


def test_a_question_that_is_asked_twice_needs_an_id(tmp_path: Path) -> None:
    twice = Task("t", (TASK.examples[0], Example("c", "Where is Rome?", ("Italy",))), "open")
    with pytest.raises(DataError, match="'Where is Rome\\?' is asked more than once"):
        read_replies(rows(tmp_path / "f.jsonl", {"question": "Where is Rome?", "text": "x"}), twice)


@given(st.lists(st.dictionaries(st.sampled_from(["id", "question", "text", "correct", "x"]), st.from_type(object))))
def test_whatever_stands_in_the_rows_the_error_is_ours(made: list[dict[str, Any]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        file = rows(Path(folder) / "f.jsonl", *json.loads(json.dumps(made, default=str, skipkeys=True)))
        with pytest.raises(DataError):
            read_replies(file, Task("t", (Example("never so", "never so", ("x",)),), "open"))


def test_given_verdicts_count_and_need_no_accepted_answers(tmp_path: Path, chat_folder: Path) -> None:
    questions = rows(tmp_path / "q.jsonl", {"id": "a", "question": "Where is Rome?"}, {"id": "b", "question": "Lima?"})
    with pytest.raises(DataError, match="row 1: no answers to 'Where is Rome"):
        load_task(questions)
    texts = rows(tmp_path / "f.jsonl", {"id": "a", "text": "Italy", "correct": True}, {"id": "b", "text": "Spain"})
    loader, options = Loader(str(chat_folder)), Answering(answers=str(texts))
    with pytest.raises(DataError, match="1 questions have neither accepted answers nor a verdict, first 'b'"):
        answer(questions, loader, tmp_path / "run", options)
    rows(texts, {"id": "a", "text": "Italy", "correct": True}, {"id": "b", "text": "Spain", "correct": False})
    run = answer(questions, loader, tmp_path / "run", options)
    judge(run, Judging("none"))
    assert [j.verdict for j in run.judgements()] == [
        Verdict(True, "right, as given"),
        Verdict(False, "wrong, as given"),
    ]


def test_a_changed_file_is_another_input(tmp_path: Path, chat_folder: Path) -> None:
    questions = rows(tmp_path / "q.jsonl", {"id": "a", "question": "Where is Rome?", "answers": ["Italy"]})
    texts = rows(tmp_path / "f.jsonl", {"id": "a", "text": "Italy"})
    loader, options = Loader(str(chat_folder)), Answering(answers=str(texts))
    run = answer(questions, loader, tmp_path / "run", options)
    judge(run, Judging("none"))
    assert run.judgements()[0].verdict.reason == "names an accepted answer", "without a verdict it is judged"
    rows(texts, {"id": "a", "text": "Spain"})
    with pytest.raises(RunError, match=r"its input changed \(answers\)"):
        answer(questions, loader, tmp_path / "run", options)
