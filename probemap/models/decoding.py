"""Convert token ids to text, either all at once with character offsets or incrementally during generation."""

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

REPLACEMENT = "\ufffd"
"""The replacement character, which decoders output for invalid or incomplete UTF-8."""

_MAX_PENDING = 16
"""Maximum number of tokens that are held back until a character is complete.  No valid character needs more than four,
because a character has at most four bytes and a token has at least one."""


def decode_with_offsets(tokenizer: Any, token_ids: Sequence[int]) -> tuple[str, list[tuple[int, int]]]:
    """Decode tokens and find the characters that each token encodes.

    Byte-level tokenizers and tokenizers with byte fallback may split a character across several tokens.  A character is
    considered complete after the shortest prefix of `token_ids` whose text contains it.  If the text of a prefix
    contains replacement characters after the complete characters, the last token of the prefix contains the first bytes
    of the next character.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerFast
    token_ids : sequence of int

    Returns
    -------
    text : str
    offsets : list of (int, int)
        For each token, the range (start, stop) of the characters of `text` that the token encodes completely or in
        part.  The ranges of tokens that share a character overlap.
    """
    text = _decode(tokenizer, token_ids)
    n_complete = _n_complete(tokenizer, token_ids)
    complete = _decode(tokenizer, token_ids[:n_complete])
    offsets = _offsets_by_window(tokenizer, token_ids[:n_complete], complete) if text.startswith(complete) else None
    if offsets is None:
        offsets = _offsets_by_prefix(tokenizer, token_ids, text)
    else:
        offsets += _offsets_by_prefix(tokenizer, token_ids, text, n_complete, len(complete))
    if not getattr(tokenizer, "is_fast", True):
        offsets = _with_first_bytes(tokenizer, token_ids, offsets)
    return text, offsets


def _n_complete(tokenizer: Any, token_ids: Sequence[int]) -> int:
    """Return the number of tokens before an incomplete character at the end, or 0 if a character elsewhere is invalid.

    The last character of an answer is incomplete if the answer was cut off between the tokens of this character.
    """
    counts = range(len(token_ids), max(0, len(token_ids) - _MAX_PENDING), -1)
    return next((count for count in counts if REPLACEMENT not in _decode(tokenizer, token_ids[:count])), 0)


def offsets_in(tokenizer: Any, token_ids: Sequence[int], text: str) -> list[tuple[int, int]]:
    """Find the characters of a text that its tokens encode, for tokenizers that do not report them.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
    token_ids : sequence of int
        The tokens of `text`.
    text : str
        The text.  The tokens may decode to a slightly different text, e.g. with other spaces.

    Returns
    -------
    list of (int, int)
        For each token, the range (start, stop) of the characters of `text` that it encodes, or (0, 0) if it encodes
        none of them.
    """
    decoded, decoded_offsets = decode_with_offsets(tokenizer, token_ids)
    if decoded == text:
        return decoded_offsets
    special_ids = set(getattr(tokenizer, "all_special_ids", ()))
    lower = text.lower() if len(text.lower()) == len(text) else text
    index_of: dict[int, int] = {}  # for each decoded character, its index in the text
    n_found = n_missing = 0
    for token_id, (start, stop) in zip(token_ids, decoded_offsets, strict=True):
        if token_id in special_ids and not text.startswith(decoded[start:stop], n_found):
            continue  # a token that the tokenizer has added
        for k in range(start, stop):
            if k in index_of:
                continue
            index = lower.find(decoded[k].lower(), n_found)
            # White space may be missing from the decoded text, and a decoded character may replace two characters.
            if index < 0 or len("".join(text[n_found:index].split())) > 2 * n_missing:
                n_missing += 1
            else:
                index_of[k], n_found, n_missing = index, index + 1, 0
    offsets = []
    for start, stop in decoded_offsets:
        indices = [index_of[k] for k in range(start, stop) if k in index_of]
        offsets.append((indices[0], indices[-1] + 1) if indices else (0, 0))
    return offsets


def _with_first_bytes(
    tokenizer: Any, token_ids: Sequence[int], offsets: list[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Assign the first bytes of a character to it, for decoders that ignore incomplete characters."""
    special_ids = set(tokenizer.all_special_ids)
    offsets = list(offsets)
    for i in range(len(offsets) - 2, -1, -1):
        (start, stop), following = offsets[i], offsets[i + 1]
        if start == stop == following[0] < following[1] and token_ids[i] not in special_ids:
            offsets[i] = (start, start + 1)
    return offsets


def _offsets_by_prefix(
    tokenizer: Any, token_ids: Sequence[int], text: str, n_before: int = 0, complete: int = 0
) -> list[tuple[int, int]]:
    """Compute the offsets by decoding every prefix, which works for any decoder but takes quadratic time.

    The offsets of the first `n_before` tokens, which encode the first `complete` characters, are omitted.
    """
    offsets: list[tuple[int, int]] = []
    for count in range(n_before + 1, len(token_ids) + 1):
        prefix = _decode(tokenizer, token_ids[:count])
        start = complete
        while complete < min(len(prefix), len(text)) and prefix[complete] == text[complete]:
            complete += 1
        incomplete = len(prefix) > complete
        offsets.append((start, min(complete + incomplete, len(text))))
    return offsets


def _offsets_by_window(tokenizer: Any, token_ids: Sequence[int], text: str) -> list[tuple[int, int]] | None:
    """Compute the same offsets as `_offsets_by_prefix` in linear time, for text without replacement characters.

    Only a window of the last tokens of each prefix is decoded, rather than the whole prefix.  A piece is the shortest
    run of tokens that decodes to complete characters.  The window consists of the last piece that was completed before
    the newest token and of all tokens after that piece.  The completed piece provides context, because decoders treat
    the first token differently.

    Returns
    -------
    list of (int, int) or None
        The offsets, or None if the texts decoded from the windows do not add up to `text`, which happens if the
        decoder's output depends on tokens before the window.
    """
    offsets: list[tuple[int, int]] = []
    first = boundary = 0  # token indices; the context is token_ids[first:boundary]
    n_before = 0  # number of characters before the boundary
    complete = 0
    context = ""
    for count in range(1, len(token_ids) + 1):
        window = _decode(tokenizer, token_ids[first:count])
        # If a run of byte tokens ends within a character, byte fallback replaces the whole run, including the complete
        # characters in it.
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
    """Decoder that receives tokens one at a time and converts them to text in linear time.

    The concatenation of the texts returned by `push` and `flush` is the text of all tokens.  For a token that ends
    within a character, `push` returns an empty string; the character is returned when its last token is pushed.

    Tokenizers with byte fallback are an exception.  If a run of byte tokens is not valid UTF-8, their decoder replaces
    *every* byte of the run, whereas `push` may already have returned characters that precede the invalid byte.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerFast
    """

    # tokenizers.decoders.DecodeStream is not used for three reasons.  It raises "Invalid prefix encountered" for the
    # invalid runs of bytes described above, which models do produce.  It returns nothing for a text that consists of
    # U+FFFD characters.  If an answer is cut off within a character, its last text cannot be flushed.

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        # Decoders treat the first token differently (SentencePiece removes its leading space), so the tokens of the
        # previous piece of text stay in the window as context.
        self._window: list[int] = []
        self._n_returned = 0
        """Number of tokens in the window whose text has been returned."""

    def push(self, token_id: int) -> str:
        """Return the text that this token completes, or an empty string if it ends within a character."""
        self._window.append(token_id)
        stop = len(self._window)
        if _decode(self._tokenizer, self._window).endswith(REPLACEMENT):
            if stop - self._n_returned < _MAX_PENDING:
                return ""
            # The pending text contains U+FFFD itself or is not valid UTF-8.  At most three tokens can belong to an
            # incomplete character; the text has the fewest replacement characters if exactly these are held back.
            stop = min(range(stop, stop - 4, -1), key=self._count_replacements)
        return self._advance(stop)

    def flush(self) -> str:
        """Return the text of the pending tokens, with replacement characters for incomplete characters."""
        return self._advance(len(self._window))

    def _count_replacements(self, stop: int) -> int:
        return _decode(self._tokenizer, self._window[:stop]).count(REPLACEMENT)

    def _advance(self, stop: int) -> str:
        """Return the text of the pending tokens up to `stop`, and keep these tokens as context for the next ones."""
        text = _decode(self._tokenizer, self._window[:stop])
        context = _decode(self._tokenizer, self._window[: self._n_returned])
        if text.startswith(context):
            new_text = text[len(context) :]
        else:  # an invalid run of bytes has changed the text of the context
            new_text = _decode(self._tokenizer, self._window[self._n_returned : stop])
        if new_text:
            self._window = self._window[self._n_returned :]
            self._n_returned = stop - self._n_returned
        return new_text


def _decode(tokenizer: Any, token_ids: Sequence[int]) -> str:
    if not getattr(tokenizer, "is_fast", True):
        # A model may have more embeddings than its tokenizer has tokens.  Tokenizers in Python fail for such ids.
        token_ids = [token_id for token_id in token_ids if token_id < len(tokenizer)]
    text: str = tokenizer.decode(token_ids, clean_up_tokenization_spaces=False)
    return text
