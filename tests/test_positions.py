"""Token positions of worked examples, positions of the user, and parsing."""

from typing import Any

import numpy as np
import pytest
from conftest import make_answer
from hypothesis import given
from hypothesis import strategies as st

from probemap.grading.locate import token_span
from probemap.positions import (
    DEFAULT_POSITIONS,
    POSITIONS,
    Position,
    parse_positions,
    positions_by_token,
    resolve,
    token_indices,
)
from probemap.records import DataError, Span

PROMPT = ["<user>", "Where", "?", "<assistant>"]
TOKENS = ["Vienna", " is", " in", " Aus", "tria", ".", ""]
ANSWER = make_answer("Vienna is in Austria.", TOKENS, PROMPT)
SPAN = token_span(ANSWER, 13, 20)


def test_resolve_every_default_position() -> None:
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


def test_positions_by_token_names_the_expected_tokens() -> None:
    """Fails if any position is shifted by one."""
    text_at = {
        name: TOKENS[index - 4]
        for index, names in positions_by_token(DEFAULT_POSITIONS[1:], ANSWER, SPAN).items()
        for name in names
    }
    assert text_at["exact_answer_first"] == " Aus"
    assert text_at["exact_answer_last"] == "tria"
    assert text_at["exact_answer_before_first"] == " in"
    assert text_at["exact_answer_after_last"] == "."
    assert text_at["first_answer"] == "Vienna"
    assert text_at["-1"] == ""


def test_resolve_without_exact_answer_misses_its_positions_only() -> None:
    missing = [name for name in DEFAULT_POSITIONS if resolve(name, ANSWER, None) is None]
    assert missing == [*[n for n in POSITIONS if n.startswith("exact")], "-8"]


def test_resolve_answer_that_is_the_exact_answer() -> None:
    answer = make_answer("Austria", ["Aus", "tria"], PROMPT, stopped=False)
    span = token_span(answer, 0, 7)
    assert resolve("exact_answer_before_first", answer, span) == resolve("last_q", answer, span) == 3
    assert resolve("exact_answer_after_last", answer, span) is None
    assert resolve("second_answer", answer, span) == 5
    assert resolve("-2", answer, span) == 4
    assert resolve("-3", answer, span) is None, "it would be in the prompt"


def test_resolve_empty_answer_has_no_answer_positions() -> None:
    answer = make_answer("", [], PROMPT, stopped=False)
    assert [n for n in DEFAULT_POSITIONS if resolve(n, answer, None) is not None] == ["last_q"]


def test_token_indices_marks_missing_with_minus_one() -> None:
    table = token_indices([ANSWER, ANSWER], [SPAN, None], ("last_q", "exact_answer_last", "-8"))
    np.testing.assert_array_equal(table, [[3, 8, -1], [3, -1, -1]])


def test_parse_positions_keeps_order_and_expands_ranges() -> None:
    assert parse_positions("last_q, exact_answer_first,-3..-1") == (
        "last_q",
        "exact_answer_first",
        "-3",
        "-2",
        "-1",
    )
    assert parse_positions(",".join(DEFAULT_POSITIONS)) == DEFAULT_POSITIONS
    assert parse_positions() == DEFAULT_POSITIONS


def test_parse_positions_accepts_text_list_tuple_and_mapping() -> None:
    expected = ("last_q", "-2", "-1")
    rules = dict.fromkeys(expected, POSITIONS["last_q"])
    assert all(parse_positions(p) == expected for p in ("last_q,-2..-1", ["last_q", "-2..-1"], expected, rules))
    nothing: tuple[Any, ...] = ([], (), {})
    for empty in nothing:
        with pytest.raises(DataError, match="no positions were passed\nhint: pass at least one name"):
            parse_positions(empty)
    with pytest.raises(DataError, match="a position is -1, expected a string"):
        parse_positions([-1])  # type: ignore[list-item]


def test_positions_of_the_user_are_not_default_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(POSITIONS, "mine", Position("the first prompt token", lambda answer, span: 0))
    assert "mine" not in parse_positions()
    assert parse_positions("mine,-1") == ("mine", "-1")
    assert resolve("mine", ANSWER) == 0


def test_token_indices_accepts_positions_of_the_user() -> None:
    rules: dict[str, Any] = {
        "last_q": "last_q",
        "first_prompt": lambda answer, span: 0,
        "exact_middle": lambda answer, span: span and (span.start + span.stop) // 2,
        "far": lambda answer, span: 99,
    }
    np.testing.assert_array_equal(token_indices([ANSWER] * 2, [SPAN, None], rules), [[3, 0, 8, -1], [3, 0, -1, -1]])
    assert resolve("exact_middle", ANSWER, SPAN, positions=rules) == 8
    assert resolve("-1", ANSWER, SPAN, positions=rules) == 10
    assert positions_by_token(rules, ANSWER, SPAN) == {3: ["last_q"], 0: ["first_prompt"], 8: ["exact_middle"]}


def test_positions_of_the_user_are_checked() -> None:
    for name, rule in (("mine", 3), ("", POSITIONS["last_q"]), (3, POSITIONS["last_q"])):
        with pytest.raises(DataError, match=r"expected a Position or a callable\nhint: pass"):
            parse_positions({name: rule})  # type: ignore[dict-item]
    with pytest.raises(
        DataError, match=r"the position 'mine' returned 1\.5 for the answer 'a', expected an integer or None"
    ):
        token_indices([ANSWER], [SPAN], {"mine": lambda answer, span: 1.5})  # type: ignore[dict-item, return-value]


@given(
    st.text(st.sampled_from("-0123456789., last_q"), max_size=12)
    | st.lists(st.sampled_from([*POSITIONS, "-1", "-2..-1", "-1..-2", "x", ""]) | st.integers(), max_size=4)
    | st.dictionaries(st.text(max_size=3), st.just(POSITIONS["last_q"]) | st.none(), max_size=3)
)
def test_parse_positions_any_input_gives_names_or_error(positions: Any) -> None:
    try:
        names = parse_positions(positions)
    except DataError as error:
        assert "hint:" in str(error)
    else:
        assert len(set(names)) == len(names) > 0
        if not isinstance(positions, dict):
            assert parse_positions(names) == parse_positions(",".join(names)) == names
        assert token_indices([ANSWER], [SPAN], positions).shape == (1, len(names))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("last_question", "there is no position 'last_question'; the positions are last_q, first_answer"),
        ("0", "there is no position '0'"),
        ("-0", "there is no position '-0'"),
        ("", "there is no position ''"),
        ("-1..-8", "the range '-1..-8' runs backwards\nhint: write it as -8..-1"),
        ("-20000..-1", "the range '-20000..-1' has 20000 positions"),
        (f"-{'9' * 5000}", "there is no position '-9999"),
        ("-2..-1,-1", "the position '-1' occurs twice"),
    ],
)
def test_parse_positions_error_names_position(text: str, message: str) -> None:
    with pytest.raises(DataError) as raised:
        parse_positions(text)
    assert message in str(raised.value)
