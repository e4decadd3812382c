"""Decoding of finished answers and token by token, for both kinds of tokenizer."""

from typing import Any

import pytest
from conftest import TOKENIZERS
from hypothesis import given
from hypothesis import strategies as st

from probemap.models import decoding
from probemap.models.decoding import TokenDecoder, decode_with_offsets
from probemap.models.model import Model

BUILT = {name: build() for name, build in TOKENIZERS.items()}
TOKENIZER_NAMES = pytest.mark.parametrize("name", TOKENIZERS)
TEXT = st.text(
    st.sampled_from("ab zZü東京🗼é́Ñ. \n\t'’1,0क्षि\ufffd") | st.characters(exclude_categories=["Cs"]), max_size=30
)


class CountingTokenizer:
    """Counts the tokens that it decodes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.n_decoded = 0

    def decode(self, token_ids: list[int], **options: bool) -> str:
        self.n_decoded += len(token_ids)
        return str(BUILT[self.name].decode(token_ids, **options))


def pieces(name: str, token_ids: list[int]) -> list[str]:
    decoder = TokenDecoder(BUILT[name])
    return [*(decoder.push(token_id) for token_id in token_ids), decoder.flush()]


def encode(name: str, text: str) -> list[int]:
    return list(BUILT[name](text, add_special_tokens=False)["input_ids"])


def decode(name: str, token_ids: list[int]) -> str:
    return str(BUILT[name].decode(token_ids, clean_up_tokenization_spaces=False))


@TOKENIZER_NAMES
@given(text=TEXT)
def test_token_decoder_returns_the_text_of_any_encoded_text(name: str, text: str) -> None:
    token_ids = encode(name, text)
    assert "".join(pieces(name, token_ids)) == decode(name, token_ids)


@given(token_ids=st.lists(st.integers(0, 399), max_size=25))
def test_token_decoder_returns_the_text_of_any_byte_level_tokens(token_ids: list[int]) -> None:
    assert "".join(pieces("byte-level", token_ids)) == decode("byte-level", token_ids)


@given(token_ids=st.lists(st.integers(0, 519), max_size=25))
def test_token_decoder_accepts_any_byte_fallback_tokens(token_ids: list[int]) -> None:
    token_ids = [*token_ids, *encode("byte-fallback", " is Vienna")]
    assert "".join(pieces("byte-fallback", token_ids)).endswith(" is Vienna")


def test_token_decoder_returns_a_character_with_its_last_token() -> None:
    assert pieces("byte-fallback", encode("byte-fallback", "in 東🗼")) == ["in ", "", "", "東", "", "", "", "🗼", ""]
    assert pieces("byte-level", encode("byte-level", "東京")) == ["", "東京", ""]


@TOKENIZER_NAMES
def test_token_decoder_flushes_an_incomplete_character(name: str) -> None:
    token_ids = encode(name, "in 🗼")[:-1]
    *pushed, flushed = pieces(name, token_ids)
    assert "".join(pushed).rstrip() == "in"
    assert set(flushed.lstrip()) == {"\ufffd"}
    assert "".join(pushed) + flushed == decode(name, token_ids)


def test_token_decoder_continues_after_an_invalid_run_of_bytes() -> None:
    token_ids = [*encode("byte-fallback", "東"), *encode("byte-fallback", "京")[:1], *encode("byte-fallback", " is")]
    assert decode("byte-fallback", token_ids) == "\ufffd\ufffd\ufffd\ufffd is"
    assert "".join(pieces("byte-fallback", token_ids)) == "東\ufffd is", "東 was valid when it was returned"


@TOKENIZER_NAMES
def test_token_decoder_returns_replacement_characters_that_are_text(name: str) -> None:
    token_ids = encode(name, "\ufffd" * 40)
    *pushed, _ = pieces(name, token_ids)
    assert sum(map(len, pushed)) >= 30, "it does not wait for ever"
    assert "".join(pieces(name, token_ids)) == "\ufffd" * 40


@TOKENIZER_NAMES
def test_token_decoder_takes_linear_time(name: str) -> None:
    tokenizer = CountingTokenizer(name)
    decoder = TokenDecoder(tokenizer)
    token_ids = encode(name, "In 東京 🗼 is Vienna " * 40)
    for token_id in token_ids:
        decoder.push(token_id)
    assert tokenizer.n_decoded < 12 * len(token_ids)


def test_token_decoder_returns_the_text_of_a_real_tokenizer(smollm: Model) -> None:
    text = "Zürich liegt in der Schweiz; Ñuñoa está en Chile; 東京 🗼 क्षि.\n\n  def f(x):\n\treturn 'ok'"
    token_ids = smollm.tokenizer(text)["input_ids"]
    decoder = TokenDecoder(smollm.tokenizer)
    pushed = [decoder.push(token_id) for token_id in token_ids]
    assert "".join(pushed) == text
    assert decoder.flush() == ""


# Offsets.  Their properties are tested in test_alignment; the linear algorithm must give those of the general one.


def assert_same_offsets(tokenizer: Any, token_ids: list[int]) -> None:
    text, offsets = decode_with_offsets(tokenizer, token_ids)
    assert text == tokenizer.decode(token_ids, clean_up_tokenization_spaces=False)
    assert offsets == decoding._offsets_by_prefix(tokenizer, token_ids, text)


@TOKENIZER_NAMES
@given(text=TEXT)
def test_decode_with_offsets_of_any_encoded_text_equals_the_general_algorithm(name: str, text: str) -> None:
    assert_same_offsets(BUILT[name], encode(name, text))


@TOKENIZER_NAMES
@given(token_ids=st.lists(st.integers(0, 399), max_size=25))
def test_decode_with_offsets_of_any_tokens_equals_the_general_algorithm(name: str, token_ids: list[int]) -> None:
    assert_same_offsets(BUILT[name], token_ids)


@TOKENIZER_NAMES
@given(token_ids=st.lists(st.integers(0, 399), max_size=25))
def test_offsets_by_window_equal_the_general_algorithm_where_they_exist(name: str, token_ids: list[int]) -> None:
    text = decode(name, token_ids)
    if "\ufffd" not in text:
        offsets = decoding._offsets_by_window(BUILT[name], token_ids, text)
        assert offsets == decoding._offsets_by_prefix(BUILT[name], token_ids, text)


@TOKENIZER_NAMES
def test_decode_with_offsets_takes_linear_time(name: str) -> None:
    tokenizer = CountingTokenizer(name)
    token_ids = encode(name, "In 東京 🗼 is Vienna " * 40)
    decode_with_offsets(tokenizer, token_ids)
    assert tokenizer.n_decoded < 12 * len(token_ids)


@TOKENIZER_NAMES
def test_decode_with_offsets_takes_linear_time_if_the_text_was_cut_off_inside_a_character(name: str) -> None:
    tokenizer = CountingTokenizer(name)
    token_ids = [*encode(name, "In Vienna, 東京 is known. " * 40), *encode(name, "🗼")[:-1]]
    text, _ = decode_with_offsets(tokenizer, token_ids)
    assert text.endswith("\ufffd")
    assert tokenizer.n_decoded < 30 * len(token_ids)
    assert_same_offsets(BUILT[name], token_ids)


def test_decode_with_offsets_of_a_decoder_that_looks_further_back_uses_the_general_algorithm() -> None:
    class Reversing:
        def decode(self, token_ids: list[int], **options: bool) -> str:
            return "".join(chr(token_id) for token_id in reversed(token_ids))

    token_ids = [ord(character) for character in "abcab"]
    assert decoding._offsets_by_window(Reversing(), token_ids, "bacba") is None
    assert_same_offsets(Reversing(), token_ids)


def test_decode_with_offsets_of_a_real_tokenizer_equals_the_general_algorithm(smollm: Model) -> None:
    text = "Zürich liegt in der Schweiz; Ñuñoa está en Chile; 東京 🗼 क्षि.\n\n  def f(x):\n\treturn 'ok'"
    assert_same_offsets(smollm.tokenizer, smollm.tokenizer(text)["input_ids"])
