"""Find names in a text by their words."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from probemap.reading.folding import FUNCTION_WORDS, NUMBER_OF, ORDINAL_OF, Word, content_words, words_of

Groups = Sequence[Sequence[str]]
"""Possible answers, each as a group of spellings."""

ADJECTIVE = " …"
"""Suffix that marks a spelling as an adjective.  Adjectives are found only before words such as "state" or "city", e.g.
"Malaysian …" in "the Malaysian state"."""

_PLACES = frozenset(
    "state province region city town island territory department prefecture county district capital municipality oblast"
    " governorate mainland republic".split()
)
_PREFIXES = ("New ", "Lake ")
"""Words that turn the name after them into a different name: "New Mexico", "Lake Chad"."""
LABELS = frozenset({"yes", "no", "true", "false"})
"""Labels that are not abbreviations even if they are written in capitals."""

_MAX_SPLIT = 3
"""Maximum number of characters in a name that must be divided into words in the same way as in the text."""


@dataclass(frozen=True)
class Name:
    """A mention of a name, ``text[start:stop]``."""

    start: int
    stop: int
    group: int
    """Index of the group of spellings."""
    is_adjective: bool = False
    """True if the mention is an adjective, as in "the Malaysian state"; see `ADJECTIVE`."""


@dataclass(frozen=True)
class _Spelling:
    group: int
    words: tuple[str, ...]
    text: str
    is_adjective: bool
    is_abbreviation: bool
    """True if the name is found only in capitals."""
    is_function_words: bool
    """True if the name is found only in the same case, and not as the first word of a longer sentence."""


@lru_cache(maxsize=4096)
def _index(groups: tuple[tuple[str, ...], ...]) -> tuple[dict[str, list[_Spelling]], frozenset[str]]:
    """Return a mapping from joined words to spellings, and the set of the beginnings of all joined words."""
    all_capitals = all(name.isupper() for names in groups for name in names)
    spellings: dict[str, list[_Spelling]] = {}
    for group, names in enumerate(groups):
        for name in names:
            bare = name.removesuffix(ADJECTIVE).strip()
            words = content_words(bare)
            is_label = bare.casefold() in LABELS
            for form in {words, *_other_forms(bare)} if words else ():
                spelling = _Spelling(
                    group=group,
                    words=form,
                    text=re.sub(r"^(?:the|an?)\s+(?=\w)", "", bare, flags=re.IGNORECASE),
                    is_adjective=name.endswith(ADJECTIVE),
                    is_abbreviation=bare.isupper()
                    and len(bare) <= 4
                    and bare.isalpha()
                    and not is_label
                    and not (all_capitals and len(groups) > 1),
                    is_function_words=not is_label and all(word in FUNCTION_WORDS for word in words),
                )
                spellings.setdefault("".join(form), []).append(spelling)
    return spellings, frozenset(key[:n] for key in spellings for n in range(1, len(key) + 1))


_TWO_LETTERS = str.maketrans(
    {"ä": "ae", "ö": "oe", "ü": "ue", "å": "aa", "ø": "oe", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "Å": "Aa", "Ø": "Oe"}
)
_HAN_PLACE = re.compile(r"[\u4e00-\u9fff]{2,}[都府県县省市]")
_RULER = re.compile(r"(?P<name>.*[^\W\d]) (?P<number>[IVX]+)")
_RULER_IN_WORDS = re.compile(r"(?P<name>.*[^\W\d]),? the (?P<ordinal>[\w-]+)", re.IGNORECASE)


def _other_forms(name: str) -> list[tuple[str, ...]]:
    """Return other ways to write a name, as words: Goedel for Gödel, Henry the Eighth for Henry VIII."""
    forms = []
    if (replaced := unicodedata.normalize("NFC", name).translate(_TWO_LETTERS)) != name:
        forms.append(content_words(replaced))
    if _HAN_PLACE.fullmatch(name):
        forms.append(content_words(name[:-1]))
    if ruler := _RULER.fullmatch(name):
        number = content_words(ruler["number"])[0].replace("i", "1")
        if ordinal := ORDINAL_OF.get(number):
            forms.append((*content_words(ruler["name"]), "the", ordinal))
    if (ruler := _RULER_IN_WORDS.fullmatch(name)) and (words := content_words(ruler["ordinal"])):
        number = NUMBER_OF.get(words[0], "")
        if number:
            forms.append((*content_words(ruler["name"]), "i" if number == "1" else number))
    return forms


def find_names(text: str, groups: Groups) -> list[Name]:
    """Return all mentions of names, in the order of the text.

    Case, accents, punctuation and the division into words are ignored: "J. K. Rowling" is found in "JK Rowling".  Of
    several overlapping spellings, only the longest is found.  An abbreviation of at most four capital letters ("US") is
    found only in capitals, and a name that consists of function words ("It", "The Who") only in the same case.

    Parameters
    ----------
    text : str
    groups : sequence of sequences of str
        The spellings of each name.

    Examples
    --------
    >>> from probemap.reading.names import find_names
    >>> [text[m.start:m.stop] for text in ("It was J. K. Rowling.",) for m in find_names(text, [["JK Rowling"]])]
    ['J. K. Rowling']
    """
    spellings, prefixes = _index(tuple(tuple(names) for names in groups))
    words = words_of(text) if spellings else ()
    names: list[Name] = []
    i = 0
    while i < len(words):
        found = _longest_at(text, words, i, spellings, prefixes) if words[i].text in prefixes else None
        if found is None:
            i += 1
            continue
        name, n_words = found
        names.append(name)
        i += n_words
    return names


def _longest_at(
    text: str, words: Sequence[Word], i: int, spellings: dict[str, list[_Spelling]], prefixes: frozenset[str]
) -> tuple[Name, int] | None:
    """Return the longest name that starts at word i, and its number of words, or None."""
    key, best = "", None
    for j in range(i, len(words)):
        key += words[j].text
        if key not in prefixes:
            break
        if j > i and text.count("\n", words[j - 1].stop, words[j].start) > 1:
            break
        for spelling in spellings.get(key, ()):
            if _is_mention(text, words, i, j, spelling):
                best = Name(words[i].start, words[j].stop, spelling.group, spelling.is_adjective), j - i + 1
                break
    return best


def _is_mention(text: str, words: Sequence[Word], i: int, j: int, spelling: _Spelling) -> bool:
    found = tuple(word.text for word in words[i : j + 1])
    start, stop = words[i].start, words[j].stop
    prefix = words[i - 1] if i else None
    if prefix and text[prefix.start : start] in _PREFIXES and prefix.text != spelling.words[0]:
        return False
    joined = "".join(found)
    if prefix and joined == "京都" and text[prefix.start : start] in "東东":
        return False  # the characters of Kyoto occur in the name of Tokyo
    if found != spelling.words and len(joined) <= _MAX_SPLIT and joined.isalpha() and not text[start:stop].isupper():
        return False
    if spelling.is_adjective:
        return j + 1 < len(words) and words[j + 1].text.removesuffix("s") in _PLACES
    if spelling.is_abbreviation and not text[start:stop].isupper():
        return False
    if not spelling.is_function_words:
        return True
    if i == 0 and j == len(words) - 1:
        return True  # the text consists of the name
    preceding = text[max(0, start - 10) : start].rstrip(" \"'“(")
    is_first = not preceding or preceding[-1] in ".!?:\n"
    following = text[stop : stop + 1]
    return text[start:stop] == spelling.text and (not is_first or not following or following in "\"'”).,;!?")
