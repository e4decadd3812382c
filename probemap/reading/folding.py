"""Fold texts for comparison: remove case, accents and markup, and divide the text into words.

Names are compared by their words.  Words that differ only in spelling conventions are equal after folding: "Łódź" and
"Lodz", "Simon & Garfunkel" and "Simon and Garfunkel", "World War II" and "World War 2", "東京" and "东京".
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import regex
from anyascii import anyascii

if TYPE_CHECKING:
    from collections.abc import Callable

_QUOTES = dict.fromkeys("’‘`´ʼʹ′", "'") | dict.fromkeys("“”„«»″", '"')
_REMOVED = frozenset("*\u00ad\u0640")  # asterisks mark bold words; soft hyphen; Arabic tatweel

_NOT_FOLDED = regex.compile(r"[*`]")

_WORD = regex.compile(
    r"(?<![\d.,])\d+(?:[.,']\d+)*"  # a number with its separators is one word, so that 5 is not found in 1.5
    r"|[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"  # scripts without spaces
    r"|[\p{L}\p{M}]+|\p{N}+|[&+#@%°$€£¥]"
)
_ASCII_WORD = re.compile(r"[a-z]+|(?<![\d.,])\d+(?:[.,']\d+)*|\d+|[&+#@%$]")
"""The same as `_WORD`, for texts of ASCII characters.  It is several times as fast."""
_ROMAN = {
    roman: str(number)
    for number, roman in enumerate(
        "i ii iii iv v vi vii viii ix x xi xii xiii xiv xv xvi xvii xviii xix xx xxi xxii xxiii xxiv".split(), start=1
    )
    if len(roman) > 1
}
_CARDINALS = {
    word: str(number)
    for number, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen twenty".split()
    )
}
_SUFFIX = {1: "st", 2: "nd", 3: "rd", 21: "st", 22: "nd", 23: "rd"}
ORDINAL_OF = {str(number): f"{number}{_SUFFIX.get(number, 'th')}" for number in range(1, 25)}
"""Mapping from a number in digits to its ordinal: from 8 to 8th."""
NUMBER_OF = {ordinal: number for number, ordinal in ORDINAL_OF.items()}
_ORDINALS = {
    word: ORDINAL_OF[str(number)]
    for number, word in enumerate(
        "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth "
        "fifteenth sixteenth seventeenth eighteenth nineteenth twentieth".split(),
        start=1,
    )
}
_SYMBOLS = {"&": "and", "%": "percent", "saint": "st", "mount": "mt", "fort": "ft"}
_CANONICAL = _ROMAN | _CARDINALS | _ORDINALS | _SYMBOLS

FUNCTION_WORDS = frozenset(
    "a about after again all an and any are as at away be before both but by can could did do does done down "
    "each first for from get go had has have he her here hers him his how i if in is it its just last let like "
    "made make may me might mine more most much must my never next no not now of off on once one only or other "
    "our out over own said same say see she should so some such than that the their them then there these they "
    "this those through to too two under up us very was we were what when where which while who whom why will "
    "with would yes you your".split()
)
"""English words that have only a grammatical function."""

ARTICLES = frozenset({"the", "a", "an"})


class Word(NamedTuple):
    """A word of a text, ``text[start:stop]``."""

    start: int
    stop: int
    text: str
    """The word after folding, with numerals in digits."""


@lru_cache(maxsize=65536)
def _fold_character(char: str) -> str:
    if char in _REMOVED or unicodedata.category(char) == "Cf":
        return ""
    pieces = []
    for piece in unicodedata.normalize("NFKD", char).casefold():
        if unicodedata.combining(piece):
            continue
        piece = _QUOTES.get(piece, piece)
        if "\u4e00" <= piece <= "\u9fff":
            piece = _simplified()(piece)
        elif ord(piece) > 127 and unicodedata.name(piece, "").startswith("LATIN"):
            piece = anyascii(piece).casefold()  # letters such as ø, ł and æ have no decomposition
        pieces.append(piece)
    return "".join(pieces)


@lru_cache(maxsize=1)
def _simplified() -> Callable[[str], str]:
    """Return a function that converts a traditional Chinese character to its simplified form."""
    from opencc import OpenCC

    convert: Callable[[str], str] = OpenCC("t2s").convert
    return convert


def fold(text: str) -> tuple[str, list[int]]:
    """Convert a text to lower case, without accents, asterisks and invisible characters.

    Latin letters are transliterated to ASCII, and traditional Chinese characters are converted to simplified ones.
    Letters of other scripts are kept, without diacritics.

    Returns
    -------
    folded : str
    origin : list of int
        For each character of `folded`, the index of the character in `text` from which it was derived.

    Examples
    --------
    >>> from probemap.reading.folding import fold
    >>> fold("**Łódź**")
    ('lodz', [2, 3, 4, 5])
    """
    if text.isascii() and not _NOT_FOLDED.search(text):
        return text.lower(), list(range(len(text)))
    folded: list[str] = []
    origin: list[int] = []
    for index, char in enumerate(text):
        pieces = _fold_character(char)
        folded.append(pieces)
        origin.extend([index] * len(pieces))
    return "".join(folded), origin


@lru_cache(maxsize=16)
def words_of(text: str) -> tuple[Word, ...]:
    """Return the words of a text, in order.

    Each character of a script without spaces (Han, kana, Thai, …) is a separate word.

    Examples
    --------
    >>> from probemap.reading.folding import words_of
    >>> [word.text for word in words_of("World War II & 1,500 men")]
    ['world', 'war', '2', 'and', '1500', 'men']
    """
    return _divide(text)


def _divide(text: str) -> tuple[Word, ...]:
    if text.isascii() and not _NOT_FOLDED.search(text):
        return tuple([Word(m.start(), m.end(), _canonical(m[0])) for m in _ASCII_WORD.finditer(text.lower())])
    folded, origin = fold(text)
    return tuple([Word(origin[m.start()], origin[m.end() - 1] + 1, _canonical(m[0])) for m in _WORD.finditer(folded)])


@lru_cache(maxsize=16384)
def _canonical(word: str) -> str:
    if word[0].isdigit():
        word = _without_separators(word)
    return _CANONICAL.get(word, word)


_GROUPED = re.compile(r"\d{1,3}(?:[,']\d{2,3})*[,']\d{3}(?:\.\d+)?")


def _without_separators(number: str) -> str:
    """Remove the thousands separators of a number in digits."""
    if _GROUPED.fullmatch(number):
        return number.replace(",", "").replace("'", "")
    return number.rstrip(".,'")


@lru_cache(maxsize=16384)
def content_words(name: str) -> tuple[str, ...]:
    """Return the words of a name, without the article at its beginning."""
    words = tuple(word.text for word in _divide(name))
    return words[1:] if len(words) > 1 and words[0] in ARTICLES else words


def same_name(a: str, b: str) -> bool:
    """Return True if two names consist of the same letters and digits.

    Case, accents, punctuation, spaces and articles at the beginning are ignored.  Names without letters and digits are
    equal if their characters are equal.
    """
    first, second = "".join(content_words(a)), "".join(content_words(b))
    return first == second if first or second else a.strip() == b.strip()


def find_words(text: str, words: str) -> tuple[int, int] | None:
    """Return the character range (start, stop) of the first occurrence of `words`, or None.

    Only whole words match; case and accents are ignored.
    """
    words = words.strip(" \t\r\n\"'“”‘’.,;:!?*`")
    haystack, origin = fold(text)
    needle = fold(words)[0]
    start = haystack.find(needle) if needle else -1
    while start >= 0:
        stop = start + len(needle)
        if not (_is_inside_word(haystack, start) or _is_inside_word(haystack, stop)):
            return origin[start], origin[stop - 1] + 1
        start = haystack.find(needle, start + 1)
    return None


def _is_inside_word(text: str, index: int) -> bool:
    """Return True if the characters before and at `index` belong to the same word."""
    return 0 < index < len(text) and text[index - 1].isalnum() and text[index].isalnum()
