"""Alignment of characters and tokens, with two kinds of tokenizer, on text whose characters are split across tokens."""

import pytest
from conftest import TOKENIZERS, make_answer
from hypothesis import given
from hypothesis import strategies as st

from probemap.grading.locate import token_span
from probemap.models.decoding import decode_with_offsets
from probemap.records import Answer

BUILT = {name: build() for name, build in TOKENIZERS.items()}
KINDS = pytest.mark.parametrize("kind", TOKENIZERS)
TEXT = st.text(st.sampled_from("ab zZü東京🗼é́Ñ. \n\t'’1,0क्षि") | st.characters(exclude_categories=["Cs"]), max_size=30)


def answer_of(kind: str, ids: list[int]) -> Answer:
    text, offsets = decode_with_offsets(BUILT[kind], ids)
    return answer_with_offsets(text, tuple(ids), tuple(offsets))


def answer_with_offsets(text: str, ids: tuple[int, ...], offsets: tuple[tuple[int, int], ...]) -> Answer:
    return Answer(
        id="a",
        prompt="",
        text=text,
        token_ids=ids,
        n_prompt=0,
        offsets=offsets,
        logprobs=(-1.0,) * len(ids),
        stopped=True,
    )


def ids_of(kind: str, text: str) -> list[int]:
    return list(BUILT[kind](text, add_special_tokens=False)["input_ids"])


@KINDS
@given(text=TEXT, data=st.data())
def test_token_span_decodes_to_complete_exact_answer(kind: str, text: str, data: st.DataObject) -> None:
    answer = answer_of(kind, ids_of(kind, text))
    if not answer.text:
        return
    start = data.draw(st.integers(0, len(answer.text) - 1))
    stop = data.draw(st.integers(start + 1, len(answer.text)))
    span = token_span(answer, start, stop)
    decoded = BUILT[kind].decode(answer.token_ids[span.start : span.stop], clean_up_tokenization_spaces=False)
    assert answer.text[start:stop] in decoded
    # The span is minimal: without its first or last token the exact answer is incomplete.
    for ids in (answer.token_ids[span.start + 1 : span.stop], answer.token_ids[span.start : span.stop - 1]):
        shorter = answer_of(kind, list(ids))
        assert len(shorter.text.replace("\ufffd", "")) < len(decoded.replace("\ufffd", "")) or not ids


@KINDS
@given(ids=st.lists(st.integers(0, 399), max_size=25))
def test_decode_with_offsets_gives_ordered_offsets_inside_text(kind: str, ids: list[int]) -> None:
    text, offsets = decode_with_offsets(BUILT[kind], ids)
    assert len(offsets) == len(ids)
    assert all(0 <= a <= b <= len(text) for a, b in offsets)
    assert [a for a, _ in offsets] == sorted(a for a, _ in offsets)
    assert not ids or max(b for _, b in offsets) == len(text), "every character belongs to a token"


def test_token_span_contains_all_tokens_of_a_character() -> None:
    for kind in TOKENIZERS:
        ids = ids_of(kind, "in 東")
        answer = answer_of(kind, ids)
        assert answer.text == "in 東"
        span = token_span(answer, 3, 4)
        assert span.stop - span.start >= 2, "東 has three bytes and is in neither vocabulary"
        assert span.stop == len(ids)
        assert BUILT[kind].decode(list(answer.token_ids[span.start : span.stop])).strip() == "東"


def test_token_span_token_with_bytes_of_two_characters_counts_for_both() -> None:
    # offsets as decode_with_offsets returns them: token 1 contains "é" and the first byte of "東"
    answer = answer_with_offsets("xé東", (0, 1, 2), ((0, 1), (1, 3), (2, 3)))
    assert (token_span(answer, 2, 3).start, token_span(answer, 2, 3).stop) == (1, 3)
    assert (token_span(answer, 1, 2).start, token_span(answer, 1, 2).stop) == (1, 2)


def test_token_span_leading_spaces_and_split_words() -> None:
    answer = make_answer("It is in Austria.", ["It", " is", " in", " Aus", "tria", "."], ["Q"])
    assert (token_span(answer, 9, 16).start, token_span(answer, 9, 16).stop) == (4, 6)
    assert (token_span(answer, 9, 10).start, token_span(answer, 9, 10).stop) == (4, 5)
    with pytest.raises(ValueError, match="the range 9:99 is empty or outside an answer of 17 characters"):
        token_span(answer, 9, 99)
