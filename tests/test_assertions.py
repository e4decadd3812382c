"""What an answer asserts, which part of a cut-off answer is graded, and statements that repeat the question."""

from dataclasses import replace

import pytest
from conftest import make_answer

from probemap.grading.locate import complete_text, locate_answer
from probemap.grading.rules import grade_answer, rule_grader
from probemap.records import DataError, Example, Kind, Task
from probemap.tasks.kinds import describe_kinds, infer_kinds, set_kind

CAPITAL = Example("x", "What is the capital of Poland?", ("Warsaw",))


def verdict(question: str, answers: tuple[str, ...], text: str, choices: tuple[str, ...] = ()) -> bool | None:
    task = infer_kinds(Task("t", (Example("x", question, answers, choices),), "open"))
    return rule_grader(task)(task.examples[0], text).correct


@pytest.mark.parametrize(
    ("text", "correct", "wrong"),
    [
        ("The capital of Poland is {}, which is", True, False),
        ("It is a city. The capital of Poland is {} and it", True, False),
        ("The capital of Poland is {}", None, None),  # the name may go on
        ("It is {}. It has", True, False),
        ("Poland is a country in", None, None),
        ("I do not know. It could", None, None),
    ],
)
def test_whether_a_cut_off_answer_is_graded_does_not_depend_on_the_answer(
    text: str, correct: bool | None, wrong: bool | None
) -> None:
    task = Task("t", (CAPITAL,), "open")

    def graded(name: str) -> bool | None:
        answer = make_answer(text.format(name), list(text.format(name)), ["?"], stopped=False)
        return grade_answer(task, CAPITAL, answer).correct

    assert (graded("Warsaw"), graded("Prague")) == (correct, wrong)


def test_a_list_of_choices_that_was_cut_off_asserts_none() -> None:
    example = Example("x", "Which metal is liquid?", ("Mercury",), ("Copper", "Mercury"))
    task = infer_kinds(Task("t", (example,), "open"))
    text = "Let us look at each option:\n\nA) Copper is a solid metal"
    answer = make_answer(text, list(text), ["?"], stopped=False)
    assert complete_text(task, example, answer) is None
    assert complete_text(task, example, replace(answer, stopped=True)) == text


@pytest.mark.parametrize(
    ("question", "accepted", "text", "expected"),
    [
        ("What is the capital of Poland?", ("Warsaw",), "The capital of Poland is Poland.", False),
        ("What is the capital of Poland?", ("Warsaw",), "Poland.", False),
        ("What is the capital of Poland?", ("Warsaw",), "It is the capital of Poland.", None),
        ("What is the seat of Racine County?", ("Racine",), "The seat of Racine County is Racine.", True),
        ("What is the seat of Racine County?", ("Racine",), "The seat of Racine County is Kenosha.", None),
        ("What is the seat of Racine County?", ("Racine",), "Racine.", True),
        ("Which town is the seat of Racine County?", ("Racine",), "It is Racine.", True),
        ("How many centimetres are in one inch?", ("2.54",), "One inch is 100 mm long.", False),
        ("How many centimetres are in one inch?", ("2.54",), "There are 2.54 centimetres in one inch.", True),
    ],
)
def test_words_that_repeat_the_question_are_no_answer(
    question: str, accepted: tuple[str, ...], text: str, expected: bool | None
) -> None:
    assert verdict(question, accepted, text) is expected


@pytest.mark.parametrize(
    ("question", "text", "expected"),
    [
        ("Who wrote Emma?", "Austen.", True),
        ("Who wrote Emma?", "It was written by Miss Austen in 1815.", True),
        ("Who wrote Emma?", "It was Cassandra Austen.", False),
        ("Who wrote Emma?", "Austen Powers wrote it.", False),
        ("Which book is it?", "It is by Austen.", False),
    ],
)
def test_surnames_are_enough_if_the_question_asks_for_a_person(question: str, text: str, expected: bool) -> None:
    assert verdict(question, ("Jane Austen",), text) is expected


@pytest.mark.parametrize(
    ("question", "text", "expected"),
    [
        ("Did the war begin in 1939?", "The war began in 1939.", True),
        ("Did the war begin in 1939?", "The war did not begin in 1939.", False),
        ("Did the war begin in 1939?", "The war began in 1914.", None),
        ("Does the Moon orbit the Earth?", "The Moon orbits the Earth in a circular path of", True),
        ("Is iron a liquid?", "Iron is indeed a solid.", None),
        ("Is iron a liquid?", "Iron is indeed a liquid.", True),
        ("Is iron a liquid?", "Indeed, it is.", True),
        ("Is iron a liquid?", "It is a non-liquid metal.", None),
    ],
)
def test_a_statement_answers_a_yes_no_question(question: str, text: str, expected: bool | None) -> None:
    assert verdict(question, ("yes",), text, ("yes", "no")) is expected


@pytest.mark.parametrize(
    ("text", "expected", "exact"),
    [
        ("It is the root.", True, "root"),
        ("It takes up water with its leaf.", False, "leaf"),
        ("B", True, "B"),
        ("The answer is the bark of the tree.", False, "bark"),
    ],
)
def test_choices_in_singular_and_outside_the_set(text: str, expected: bool, exact: str) -> None:
    example = Example("x", "Which part of a plant takes up water?", ("Roots",), ("Leaves", "Roots", "Leaf"))
    task = infer_kinds(Task("t", (example,), "open"))
    answer = make_answer(text, list(text), ["?"])
    span, _ = locate_answer(task, example, answer)
    assert grade_answer(task, task.examples[0], answer).correct is expected
    assert span is not None
    assert exact in span.text


def test_kinds_are_inferred_for_each_row() -> None:
    rows = (
        Example("a", "Who wrote Emma?", ("Jane Austen",)),
        Example("b", "In which year?", ("1815",)),
        Example("c", "Which city?", ("Rome",), ("Rome", "Paris")),
        Example("d", "Who painted it?", ("Goya",)),
    )
    task = infer_kinds(Task("t", rows, "open"))
    assert [task.kind_of(example) for example in task.examples] == ["open", "numbers", "names", "open"]
    assert describe_kinds(task) == "open: 2, numbers: 1, names: 1"
    texts = ("Austen", "1816", "A")
    verdicts = [verdict(r.question, r.answers, text, r.choices) for r, text in zip(rows[:3], texts, strict=True)]
    assert verdicts == [True, False, True]
    kinds: list[Kind] = ["open", "names"]
    for kind in kinds:
        uniform = set_kind(task, kind)
        assert {uniform.kind_of(example) for example in uniform.examples} == {kind}
    with pytest.raises(DataError, match=r"do not fit the kind 'numbers': 'Jane Austen' is not a number, and 2 more"):
        set_kind(task, "numbers")
