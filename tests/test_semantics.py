"""Meanings of answers: worked examples, and independence of the verdicts."""

from dataclasses import replace
from math import log

import pytest
from conftest import make_answer
from hypothesis import given
from hypothesis import strategies as st

from probemap.grading.locate import locate_answer, token_span
from probemap.reading.folding import find_words
from probemap.records import Answer, Example, Judgement, Span, Task, Verdict
from probemap.studies.semantics import Content, meanings, semantic_entropy

COUNTRIES = Task(
    "c", (), "names", possible=(("Austria",), ("United Kingdom", "the UK", "Great Britain"), ("Germany", "German …"))
)
NUMBERS = Task("n", (), "numbers")
OPEN = Task("o", (), "open")
EXAMPLE = Example("q", "Which one?", ("Austria",))


def answer_of(text: str) -> Answer:
    return make_answer(text, [text] if text else [], ["p"])


def meanings_of(task: Task, *texts: str) -> tuple[list[int], list[Content]]:
    answers = [answer_of(text) for text in texts]
    judged = [Judgement("q", Verdict(None, ""), *locate_answer(task, EXAMPLE, a)) for a in answers]
    return meanings(task, EXAMPLE, answers, judged)


def meanings_of_exact(*pairs: tuple[str, str]) -> list[int]:
    """Return the meanings of open answers, given as (text, exact answer)."""
    answers = [answer_of(text) for text, _ in pairs]
    judged = []
    for answer, (text, exact) in zip(answers, pairs, strict=True):
        characters = find_words(text, exact)
        assert characters is not None
        judged.append(Judgement("q", Verdict(None, ""), token_span(answer, *characters), ""))
    return meanings(OPEN, EXAMPLE, answers, judged)[0]


def test_meanings_of_names_are_members_of_the_closed_set() -> None:
    texts = "It is in Austria.", "AUSTRIA!", "Great Britain", "It lies in the UK", "a German city", "I don't know."
    numbers, contents = meanings_of(COUNTRIES, *texts)
    assert numbers == [0, 0, 1, 1, 2, 3]
    assert contents == ["answer"] * 5 + ["refusal"]


def test_meanings_of_numbers_are_their_values() -> None:
    assert meanings_of(NUMBERS, "7", "It is 7.0", "seven", "1,200", "1200", "8", "no idea what")[0] == [
        0,
        0,
        0,
        1,
        1,
        2,
        3,
    ]


def test_meanings_of_numbers_of_any_size() -> None:
    large = "123456789012345678901234567890"
    assert meanings_of(NUMBERS, large, large[:-1] + "1", large + ".0", "1" + "0" * 400)[0] == [0, 1, 0, 2]
    assert meanings_of_exact(("1e9999999", "1e9999999"), ("1e9999998", "1e9999998"), ("10e9999998", "10e9999998")) == [
        0,
        1,
        2,
    ], "numbers with an exponent above 400 are compared as words"


def test_meanings_exact_answer_without_words_contains_nothing() -> None:
    judgement = Judgement("q", Verdict(None, ""), Span(1, 2, " "))
    assert meanings(OPEN, EXAMPLE, [answer_of("?!")], [judgement]) == ([0], ["nothing"])


def test_meanings_empty_answer_contains_nothing_and_is_not_a_refusal() -> None:
    numbers, contents = meanings_of(COUNTRIES, "", "Austria", " ")
    assert (numbers, contents) == ([0, 1, 0], ["nothing", "answer", "nothing"])


def test_meanings_of_open_answers_are_their_exact_answers() -> None:
    assert meanings_of_exact(
        ("It was William Shakespeare.", "William Shakespeare"),
        ("Shakespeare wrote it", "Shakespeare"),
        ("the bard, SHAKESPEARE", "SHAKESPEARE"),
        ("Marlowe", "Marlowe"),
    ) == [0, 0, 0, 1]
    assert meanings_of_exact(
        ("On July 4, 1776.", "July 4, 1776"), ("1776-07-04", "1776-07-04"), ("the 4th of July 1776", "4th of July 1776")
    ) == [0, 0, 0]
    assert meanings_of_exact(("seventeen", "seventeen"), ("17 of them", "17"), ("The Danube", "The Danube")) == [
        0,
        0,
        1,
    ]


def test_meanings_words_contained_in_two_different_answers_are_not_merged() -> None:
    # "York" is ambiguous and has a meaning of its own; "New York" is only in "New York City".
    assert meanings_of_exact(
        ("New York City", "New York City"), ("Duke of York", "Duke of York"), ("York", "York"), ("New York", "New York")
    ) == [0, 1, 2, 0]


def test_meanings_do_not_depend_on_verdicts() -> None:
    answers = [answer_of("Austria"), answer_of("Germany"), answer_of("Austria")]
    judged = [Judgement("q", Verdict(True, "x"), *locate_answer(COUNTRIES, EXAMPLE, a)) for a in answers]
    changed = [replace(j, verdict=Verdict(i > 0, "y")) for i, j in enumerate(judged)]
    assert meanings(COUNTRIES, EXAMPLE, answers, judged) == ([0, 1, 0], ["answer"] * 3)
    assert meanings(COUNTRIES, EXAMPLE, answers, changed) == ([0, 1, 0], ["answer"] * 3)


def test_semantic_entropy_by_hand() -> None:
    assert semantic_entropy([3, 3, 3, 3]) == 0
    assert semantic_entropy([0, 1]) == pytest.approx(log(2))
    assert semantic_entropy([0, 0, 0, 1]) == pytest.approx(0.75 * log(4 / 3) + 0.25 * log(4))


@given(st.lists(st.text(max_size=40), min_size=1, max_size=8), st.sampled_from([COUNTRIES, NUMBERS, OPEN]))
def test_meanings_of_any_text(texts: list[str], task: Task) -> None:
    numbers, contents = meanings_of(task, *texts)
    assert len(numbers) == len(contents) == len(texts)
    assert numbers[0] == 0
    for i, text in enumerate(texts):  # equal texts mean the same
        assert all(numbers[i] == numbers[j] for j in range(len(texts)) if texts[j] == text)
