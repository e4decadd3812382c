"""Incremental decoding returns the text of all tokens, for both kinds of tokenizer."""

import pytest
from conftest import TOKENIZERS
from hypothesis import given
from hypothesis import strategies as st

from probemap.models.decoding import TokenDecoder
from probemap.models.model import Model

BUILT = {name: build() for name, build in TOKENIZERS.items()}
TOKENIZER_NAMES = pytest.mark.parametrize("name", TOKENIZERS)
TEXT = st.text(
    st.sampled_from("ab zZü東京🗼é́Ñ. \n\t'’1,0क्षि\ufffd") | st.characters(exclude_categories=["Cs"]), max_size=30
)


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
    class Counting:
        decoded = 0

        def decode(self, token_ids: list[int], **options: bool) -> str:
            self.decoded += len(token_ids)
            return str(BUILT[name].decode(token_ids, **options))

    counting = Counting()
    decoder = TokenDecoder(counting)
    token_ids = encode(name, "In 東京 🗼 is Vienna " * 40)
    for token_id in token_ids:
        decoder.push(token_id)
    assert counting.decoded < 12 * len(token_ids)


def test_token_decoder_returns_the_text_of_a_real_tokenizer(smollm: Model) -> None:
    text = "Zürich liegt in der Schweiz; Ñuñoa está en Chile; 東京 🗼 क्षि.\n\n  def f(x):\n\treturn 'ok'"
    token_ids = smollm.tokenizer(text)["input_ids"]
    decoder = TokenDecoder(smollm.tokenizer)
    pushed = [decoder.push(token_id) for token_id in token_ids]
    assert "".join(pushed) == text
    assert decoder.flush() == ""
