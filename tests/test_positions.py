"""Positions by hand: which token each name means, and that missing stays missing."""

import numpy as np
import pytest
from conftest import make_answer

from probemap.grading.locate import token_span
from probemap.positions import (
    DEFAULT_POSITIONS,
    POSITIONS,
    parse_positions,
    positions_of,
    resolve,
    token_indices,
)
from probemap.records import DataError, Span

PROMPT = ["<user>", "Where", "?", "<assistant>"]
TOKENS = ["Vienna", " is", " in", " Aus", "tria", ".", ""]
ANSWER = make_answer("Vienna is in Austria.", TOKENS, PROMPT)
SPAN = token_span(ANSWER, 13, 20)


def test_every_named_position_of_a_worked_example() -> None:
    # index: 0..3 prompt, 4 Vienna, 5 is, 6 in, 7 Aus, 8 tria, 9 ., 10 end
    expected = {
        "last_q": 3,
        "first_answer": 4,
        "second_answer": 5,
        "exact_answer_before_first": 6,
        "exact_answer_first": 7,
        "exact_answer_last": 8,
        "exact_answer_after_last": 9,
        "-8": None,
        "-7": 4,
        "-6": 5,
        "-5": 6,
        "-4": 7,
        "-3": 8,
        "-2": 9,
        "-1": 10,
    }
    assert Span(7, 9, "Austria") == SPAN
    assert {name: resolve(name, ANSWER, SPAN) for name in DEFAULT_POSITIONS} == expected
    assert tuple(expected) == DEFAULT_POSITIONS


def test_the_tokens_that_the_names_mean() -> None:
    """The canary: with any position shifted by one this fails."""
    said = {
        name: TOKENS[index - 4]
        for index, names in positions_of(DEFAULT_POSITIONS[1:], ANSWER, SPAN).items()
        for name in names
    }
    assert said["exact_answer_first"] == " Aus"
    assert said["exact_answer_last"] == "tria"
    assert said["exact_answer_before_first"] == " in"
    assert said["exact_answer_after_last"] == "."
    assert said["first_answer"] == "Vienna"
    assert said["-1"] == ""


def test_without_exact_answer_only_its_columns_are_missing() -> None:
    missing = [name for name in DEFAULT_POSITIONS if resolve(name, ANSWER, None) is None]
    assert missing == [*[n for n in POSITIONS if n.startswith("exact")], "-8"]


def test_an_answer_that_begins_and_ends_with_the_exact_answer() -> None:
    answer = make_answer("Austria", ["Aus", "tria"], PROMPT, stopped=False)
    span = token_span(answer, 0, 7)
    assert resolve("exact_answer_before_first", answer, span) == resolve("last_q", answer, span) == 3
    assert resolve("exact_answer_after_last", answer, span) is None
    assert resolve("second_answer", answer, span) == 5
    assert resolve("-2", answer, span) == 4
    assert resolve("-3", answer, span) is None, "it would lie in the prompt"


def test_an_empty_answer_has_no_answer_positions() -> None:
    answer = make_answer("", [], PROMPT, stopped=False)
    assert [n for n in DEFAULT_POSITIONS if resolve(n, answer, None) is not None] == ["last_q"]


def test_indices_mark_missing_with_minus_one() -> None:
    table = token_indices([ANSWER, ANSWER], [SPAN, None], ("last_q", "exact_answer_last", "-8"))
    np.testing.assert_array_equal(table, [[3, 8, -1], [3, -1, -1]])


def test_positions_are_read_in_the_given_order_with_ranges() -> None:
    assert parse_positions("last_q, exact_answer_first,-3..-1") == (
        "last_q",
        "exact_answer_first",
        "-3",
        "-2",
        "-1",
    )
    assert parse_positions(",".join(DEFAULT_POSITIONS)) == DEFAULT_POSITIONS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("last_question", "there is no position 'last_question'; there are last_q, first_answer"),
        ("0", "there is no position '0'"),
        ("-0", "there is no position '-0'"),
        ("", "there is no position ''"),
        ("-1..-8", "the range '-1..-8' runs backwards\nhint: write it as -8..-1"),
        ("-2..-1,-1", "position '-1' is given twice"),
    ],
)
def test_bad_positions_are_named(text: str, message: str) -> None:
    with pytest.raises(DataError) as raised:
        parse_positions(text)
    assert message in str(raised.value)
