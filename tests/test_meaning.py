"""Which answers mean the same: by hand, and blind to verdicts."""

from dataclasses import replace
from math import log

import pytest
from conftest import make_answer
from hypothesis import given
from hypothesis import strategies as st

from probemap.grading.locate import find_words, locate_answer, token_span
from probemap.records import Answer, Example, Judgement, Span, Task, Verdict
from probemap.studies.semantics import Gives, entropy, meanings

COUNTRIES = Task(
    "c", (), "names", possible=(("Austria",), ("United Kingdom", "the UK", "Great Britain"), ("Germany", "German …"))
)
NUMBERS = Task("n", (), "numbers")
OPEN = Task("o", (), "open")
EXAMPLE = Example("q", "Which one?", ("Austria",))


def said(text: str) -> Answer:
    return make_answer(text, [text] if text else [], ["p"])


def meant(task: Task, *texts: str) -> tuple[list[int], list[Gives]]:
    answers = [said(text) for text in texts]
    judged = [Judgement("q", Verdict(None, ""), *locate_answer(task, EXAMPLE, a)) for a in answers]
    return meanings(task, EXAMPLE, answers, judged)


def extracted(*pairs: tuple[str, str]) -> list[int]:
    """Of open answers, each with the exact answer that a model copied out of it."""
    answers = [said(text) for text, _ in pairs]
    judged = []
    for answer, (text, exact) in zip(answers, pairs, strict=True):
        place = find_words(text, exact)
        assert place is not None
        judged.append(Judgement("q", Verdict(None, ""), token_span(answer, *place), ""))
    return meanings(OPEN, EXAMPLE, answers, judged)[0]


def test_names_mean_the_member_of_the_closed_set() -> None:
    texts = "It is in Austria.", "AUSTRIA!", "Great Britain", "It lies in the UK", "a German city", "I don't know."
    found, gives = meant(COUNTRIES, *texts)
    assert found == [0, 0, 1, 1, 2, 3]
    assert gives == ["answer"] * 5 + ["refusal"]


def test_numbers_mean_their_value() -> None:
    assert meant(NUMBERS, "7", "It is 7.0", "seven", "1,200", "1200", "8", "no idea what")[0] == [0, 0, 0, 1, 1, 2, 3]


def test_numbers_of_any_size_have_a_meaning_of_their_own() -> None:
    large = "123456789012345678901234567890"
    assert meant(NUMBERS, large, large[:-1] + "1", large + ".0", "1" + "0" * 400)[0] == [0, 1, 0, 2]
    assert extracted(("1e9999999", "1e9999999"), ("1e9999998", "1e9999998"), ("10e9999998", "10e9999998")) == [0, 1, 0]


def test_an_exact_answer_without_words_gives_nothing() -> None:
    by_hand = Judgement("q", Verdict(None, ""), Span(1, 2, " "))
    assert meanings(OPEN, EXAMPLE, [said("?!")], [by_hand]) == ([0], ["nothing"])


def test_an_empty_answer_says_nothing_and_is_no_refusal() -> None:
    found, gives = meant(COUNTRIES, "", "Austria", " ")
    assert (found, gives) == ([0, 1, 0], ["nothing", "answer", "nothing"])


def test_open_answers_mean_their_exact_answer() -> None:
    assert extracted(
        ("It was William Shakespeare.", "William Shakespeare"),
        ("Shakespeare wrote it", "Shakespeare"),
        ("the bard, SHAKESPEARE", "SHAKESPEARE"),
        ("Marlowe", "Marlowe"),
    ) == [0, 0, 0, 1]
    assert extracted(
        ("On July 4, 1776.", "July 4, 1776"), ("1776-07-04", "1776-07-04"), ("the 4th of July 1776", "4th of July 1776")
    ) == [0, 0, 0]
    assert extracted(("seventeen", "seventeen"), ("17 of them", "17"), ("The Danube", "The Danube")) == [0, 0, 1]


def test_words_that_two_different_answers_contain_mean_neither() -> None:
    # "York" may be either, and stays by itself; "New York" is in "New York City" alone.
    assert extracted(
        ("New York City", "New York City"), ("Duke of York", "Duke of York"), ("York", "York"), ("New York", "New York")
    ) == [0, 1, 2, 0]


def test_verdicts_are_not_looked_at() -> None:
    answers = [said("Austria"), said("Germany"), said("Austria")]
    judged = [Judgement("q", Verdict(True, "x"), *locate_answer(COUNTRIES, EXAMPLE, a)) for a in answers]
    other = [replace(j, verdict=Verdict(i > 0, "y")) for i, j in enumerate(judged)]
    assert meanings(COUNTRIES, EXAMPLE, answers, judged) == ([0, 1, 0], ["answer"] * 3)
    assert meanings(COUNTRIES, EXAMPLE, answers, other) == ([0, 1, 0], ["answer"] * 3)


def test_entropy_by_hand() -> None:
    assert entropy([3, 3, 3, 3]) == 0
    assert entropy([0, 1]) == pytest.approx(log(2))
    assert entropy([0, 0, 0, 1]) == pytest.approx(0.75 * log(4 / 3) + 0.25 * log(4))


@given(st.lists(st.text(max_size=40), min_size=1, max_size=8), st.sampled_from([COUNTRIES, NUMBERS, OPEN]))
def test_any_text_has_a_meaning(texts: list[str], task: Task) -> None:
    found, gives = meant(task, *texts)
    assert len(found) == len(gives) == len(texts)
    assert found[0] == 0
    for i, one in enumerate(texts):  # equal texts mean the same
        assert all(found[i] == found[j] for j, other in enumerate(texts) if one == other)
