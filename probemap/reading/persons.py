"""Find names of persons whose given names are abbreviated or omitted in one place and written in full in another."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from probemap.reading.folding import FUNCTION_WORDS, content_words, fold, words_of


def find_persons(text: str, names: Iterable[str]) -> list[tuple[int, int]]:
    """Return the character ranges (start, stop) of names that a text writes with more or fewer given names or initials.

    "J. R. R. Tolkien" is found in "John Ronald Reuel Tolkien", "Samuel Jackson" in "Samuel L. Jackson", and "Leo
    Tolstoy" in "Leo Nikolayevich Tolstoy".  A full middle name is not skipped: John Quincy Adams is not John Adams.

    Examples
    --------
    >>> from probemap.reading.persons import find_persons
    >>> text = "It was Franklin Delano Roosevelt."
    >>> [text[start:stop] for start, stop in find_persons(text, ["Franklin D. Roosevelt"])]
    ['Franklin Delano Roosevelt']
    """
    last_words = {word.text for word in words_of(text)}
    patterns = [
        pattern
        for name in names
        if (words := content_words(name)) and words[-1] in last_words and (pattern := _pattern(words)) is not None
    ]
    if not patterns:
        return []
    folded, origin = fold(text)
    found = []
    for pattern in patterns:
        for match in pattern.finditer(folded):
            start, stop = origin[match.start()], origin[match.end() - 1] + 1
            is_name = all(word[0].isupper() for word in re.findall(r"[^\W\d_]+", text[start:stop]))
            if is_name and not FUNCTION_WORDS.intersection(re.findall(r"\w{2,}", match[0])):
                found.append((start, stop))
    return found


@lru_cache(maxsize=4096)
def _pattern(words: tuple[str, ...]) -> re.Pattern[str] | None:
    """Return a regular expression for other ways to write a name in a folded text, or None if there are none."""
    if len(words) < 2 or len(words[-1]) < 3 or not all(word.isalpha() for word in words):
        return None
    if any(len(word) == 1 for word in words):
        parts = [rf"{word}(?:\w+|\b\.?)" if len(word) == 1 else word for word in words]
        return re.compile(r"\b" + r"[\s.-]{1,3}".join(parts) + r"\b")
    if len(words) == 2 and len(words[0]) > 2:
        inserted = r"(?:(?:[a-z]\.\s*){1,3}|\w+(?:vich|vna|вич|вна|ьич)\s+)"
        return re.compile(rf"\b{words[0]}\s+{inserted}{words[1]}\b")
    return None


_TITLES = frozenset("mr mrs ms miss dr sir lord lady dame president king queen prince professor author".split())
_MIN_SURNAME = 4
"""Minimum length of a surname that is found without its given names."""


def find_surnames(text: str, names: Iterable[str]) -> list[tuple[int, int]]:
    """Return the character ranges (start, stop) where a text gives only the surname of a person.

    A surname next to another name is not found, because it may belong to a different person.

    Examples
    --------
    >>> from probemap.reading.persons import find_surnames
    >>> [find_surnames(text, ["Jane Austen"]) for text in ("Austen wrote it.", "It was Cassandra Austen.")]
    [[(0, 6)], []]
    """
    surnames: dict[str, set[str]] = {}
    for name in names:
        words = content_words(name)
        is_name = 2 <= len(words) <= 4 and all(word[:1].isupper() for word in name.split())
        if is_name and len(words[-1]) >= _MIN_SURNAME and words[-1].isalpha():
            surnames.setdefault(words[-1], set()).update(words)
    found = []
    words_of_text = words_of(text)
    for i, word in enumerate(words_of_text):
        if word.text not in surnames or not text[word.start].isupper():
            continue
        neighbours = []
        if i and re.fullmatch(r"\.?\s", text[words_of_text[i - 1].stop : word.start]):
            neighbours.append(words_of_text[i - 1])
        if i + 1 < len(words_of_text) and text[word.stop : words_of_text[i + 1].start] == " ":
            neighbours.append(words_of_text[i + 1])
        known = surnames[word.text] | _TITLES | FUNCTION_WORDS
        if all(other.text in known or not text[other.start].isupper() for other in neighbours):
            found.append((word.start, word.stop))
    return found
