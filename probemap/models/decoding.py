"""Token ids to text: characters per token for finished answers, incremental text for answers being generated."""

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

REPLACEMENT = "\ufffd"
"""What a decoder writes for bytes that are not, or not yet, a complete UTF-8 character."""

_MAX_PENDING = 16
"""Tokens that are held back at most.  A character has at most four bytes, and every token at least one."""


def decode_with_offsets(tokenizer: Any, token_ids: Sequence[int]) -> tuple[str, list[tuple[int, int]]]:
    """Decode tokens, and find the characters that each token encodes.

    Byte-level tokenizers and tokenizers with byte fallback may divide a character among several tokens.  A character is
    complete at the first prefix of `token_ids` whose text shows it.  A prefix whose text differs after its complete
    characters ends with replacement characters; its last token holds the first bytes of the next character.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerFast
    token_ids : sequence of int

    Returns
    -------
    text : str
    offsets : list of (int, int)
        For each token the characters (start, stop) of `text` of which the token encodes at least one byte.  Tokens that
        share a character overlap.
    """
    text = _decode(tokenizer, token_ids)
    offsets = None if REPLACEMENT in text else _offsets_by_window(tokenizer, token_ids, text)
    return text, _offsets_by_prefix(tokenizer, token_ids, text) if offsets is None else offsets


def _offsets_by_prefix(tokenizer: Any, token_ids: Sequence[int], text: str) -> list[tuple[int, int]]:
    """Return the offsets for any decoder, by decoding every prefix: quadratic in the number of tokens."""
    offsets: list[tuple[int, int]] = []
    complete = 0
    for count in range(1, len(token_ids) + 1):
        prefix = _decode(tokenizer, token_ids[:count])
        start = complete
        while complete < min(len(prefix), len(text)) and prefix[complete] == text[complete]:
            complete += 1
        incomplete = len(prefix) > complete
        offsets.append((start, min(complete + incomplete, len(text))))
    return offsets


def _offsets_by_window(tokenizer: Any, token_ids: Sequence[int], text: str) -> list[tuple[int, int]] | None:
    """Return the same offsets in linear time, for a text without replacement characters.

    Instead of a prefix, the last tokens of it are decoded: those after a boundary between complete characters, and as
    context, because decoders treat the first token differently, those of the previous piece of text.

    Returns
    -------
    list of (int, int), or None if the texts of the windows do not add up to the text, as with a decoder that looks
    further back.
    """
    offsets: list[tuple[int, int]] = []
    first = boundary = 0  # tokens: the context is first:boundary
    n_before = 0  # characters before the boundary
    complete = 0
    context = ""
    for count in range(1, len(token_ids) + 1):
        window = _decode(tokenizer, token_ids[first:count])
        # Byte fallback replaces a run of bytes that ends within a character, including the complete characters before.
        extends = window.startswith(context)
        piece = window[len(context) :] if extends else _decode(tokenizer, token_ids[boundary:count])
        start = complete
        pairs = zip(piece, text[n_before : n_before + len(piece)], strict=False)
        common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        complete = max(complete, n_before + common)
        incomplete = n_before + len(piece) > complete
        if incomplete and REPLACEMENT not in piece[common:]:
            return None
        offsets.append((start, min(complete + incomplete, len(text))))
        if piece and not incomplete:
            first, boundary, n_before = boundary, count, complete
            context = _decode(tokenizer, token_ids[first:boundary])
    return offsets if complete == len(text) else None


class TokenDecoder:
    """Decode tokens one at a time, in linear time.

    The texts returned by `push` and `flush`, joined, are the text of all tokens.  A token that ends within a character
    yields an empty string; the character is returned with its last token.

    The one exception is tokenizers with byte fallback, whose decoder replaces *every* byte of a run of byte tokens if
    the run is not valid UTF-8.  Characters of such a run may have been returned before the invalid byte was seen, and
    text that was returned is never taken back.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerFast
    """

    # tokenizers.decoders.DecodeStream is not used: it raises "Invalid prefix encountered" for the invalid byte runs
    # described above, which models do produce; it returns nothing for a text of U+FFFD characters; and an answer that
    # is cut off within a character leaves text that cannot be flushed.

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        # Decoders treat the first token differently (SentencePiece drops its space), so the tokens of the previous
        # piece of text stay in the window as context.
        self._window: list[int] = []
        self._n_returned = 0
        """How many tokens of the window have been returned as text."""

    def push(self, token_id: int) -> str:
        """Return the text that this token completes; empty while a character is incomplete."""
        self._window.append(token_id)
        stop = len(self._window)
        if _decode(self._tokenizer, self._window).endswith(REPLACEMENT):
            if stop - self._n_returned < _MAX_PENDING:
                return ""
            # The text is U+FFFD itself, or not UTF-8.  At most three tokens can belong to an incomplete character;
            # without these the text has the fewest replacement characters.
            stop = min(range(stop, stop - 4, -1), key=self._count_replacements)
        return self._advance(stop)

    def flush(self) -> str:
        """Return the text of the tokens held back, with replacement characters for incomplete characters."""
        return self._advance(len(self._window))

    def _count_replacements(self, stop: int) -> int:
        return _decode(self._tokenizer, self._window[:stop]).count(REPLACEMENT)

    def _advance(self, stop: int) -> str:
        """Return the text of the pending tokens up to `stop`; they become the context of the next ones."""
        text = _decode(self._tokenizer, self._window[:stop])
        context = _decode(self._tokenizer, self._window[: self._n_returned])
        if text.startswith(context):
            new_text = text[len(context) :]
        else:  # an invalid run of bytes changed the text of the context
            new_text = _decode(self._tokenizer, self._window[self._n_returned : stop])
        if new_text:
            self._window = self._window[self._n_returned :]
            self._n_returned = stop - self._n_returned
        return new_text


def _decode(tokenizer: Any, token_ids: Sequence[int]) -> str:
    text: str = tokenizer.decode(token_ids, clean_up_tokenization_spaces=False)
    return text
