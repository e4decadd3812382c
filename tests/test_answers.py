"""Answers are read from their file one at a time, in whatever order is asked for."""

from pathlib import Path

import pytest
from conftest import make_answer
from hypothesis import given
from hypothesis import strategies as st

from probemap.records import Answer, RunError
from probemap.runs.answer_file import ANSWER, AnswerFile


def said(i: int) -> Answer:
    return make_answer(f"Zürich {i}", ["Zürich ", str(i)], ["wo", "?"], id_=f"a{i}")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("answers") / "answers.jsonl"
    path.write_bytes(b"".join(ANSWER.dump_json(said(i)) + b"\n" for i in range(9)))
    return path


def test_it_is_a_sequence_in_the_order_of_the_file(file: Path) -> None:
    answers = AnswerFile.read(file)
    assert list(answers) == [said(i) for i in range(9)]
    assert (len(answers), answers[4], answers[-1]) == (9, said(4), said(8))
    assert answers[2:4] == [said(2), said(3)]
    assert answers[::-4] == [said(8), said(4), said(0)]
    with pytest.raises(IndexError):
        answers[9]


@given(st.permutations(range(9)), st.integers(0, 9))
def test_another_order_may_leave_some_out(file: Path, order: list[int], count: int) -> None:
    some = AnswerFile.read(file).in_order([f"a{i}" for i in order[:count]])
    assert list(some) == [said(i) for i in order[:count]]
    assert some.ids == [a.id for a in some]


def test_an_answer_that_is_not_there_is_not_made_up(file: Path) -> None:
    with pytest.raises(KeyError):
        AnswerFile.read(file).in_order(["a1", "b"])


def test_every_line_is_looked_at_before_any_is_used(file: Path, tmp_path: Path) -> None:
    lines = file.read_bytes().splitlines(keepends=True)
    for wrong, problem in (
        (lines[8][:40] + b"\n", "line 9 is damaged"),
        (lines[0], "line 9 is inconsistent: duplicate id"),
        (
            lines[8].replace(b'"n_prompt":2', b'"n_prompt":7'),
            "line 9 is inconsistent: n_prompt is 7, but must be from 1 to 4",
        ),
    ):
        (tmp_path / "broken.jsonl").write_bytes(b"".join(lines[:8]) + wrong)
        with pytest.raises(RunError, match=problem):
            AnswerFile.read(tmp_path / "broken.jsonl")
