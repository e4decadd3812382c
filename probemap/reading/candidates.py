"""Parts of a text that could be an answer: names and quoted titles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import regex

from probemap.reading.grammar import ARTICLES, FUNCTION, PRONOUNS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from probemap.reading.tokens import Token

_JOINTS = frozenset(
    (
        "of the de la le du des da do dos del della di van von der den zu and et y e & bin ibn al el las los ter ten "
        "af av for in to on a an at à"
    ).split()
)
_WEAK_JOINTS = frozenset("the and et y e for in to on a an at à le la".split())
"""Joints that count only inside a longer name or after another joint."""
DEMONYM = regex.compile(
    r"(?!Christian\b)\p{Lu}[\p{L}-]*(?:ian|can|ean|ese|ish|French|Dutch|Greek|Swiss|Czech|German|Roman|Norman|Arab|Israeli|Iraqi|Welsh|Thai|Latin)"
    r"|French|Dutch|Greek|Swiss|Czech|German|Welsh|Thai|Jewish|Renaissance|Victorian|Olympic|Academy|British-\w+"
)


@dataclass(frozen=True)
class Candidate:
    """A part of a text that could be an answer, ``text[start:stop]``."""

    start: int
    stop: int
    kind: str
    """``name``, ``quoted``, ``bold``, ``date``, ``number`` or ``phrase``."""


_CASED = regex.compile(r"[\p{Lu}\p{Ll}]")
_UNCASED = regex.compile(r"\p{Lo}")
_QUOTED = regex.compile(r"[\"“„«『「]([^\"“”„«»『』「」\n]{1,80}?)[\"”“»』」]|(?<!\w)[‘']([^'‘’\n]{2,60}?)[’'](?!\w)")
_BOLD = regex.compile(r"(?<![\w*])\*\*([^*\n]{1,80}?)\*\*(?!\w)|\\boxed\{([^{}]{1,60})\}")
_ITALIC = regex.compile(r"(?<![\w*])[*_]([^*_\n]{1,80}?)[*_](?![\w*])")
_TRIM = " \t\n\"'“”‘’«»„*_`.,;:!?()[]"


def is_uncased(text: str) -> bool:
    """Return True if most letters of a text belong to scripts without capital letters."""
    return len(_UNCASED.findall(text)) > len(_CASED.findall(text))


def quoted_parts(text: str) -> list[Candidate]:
    """Return the parts in quotation marks, in bold or in italics, without the marks."""
    parts = []
    for kind, pattern in (("bold", _BOLD), ("quoted", _QUOTED), ("quoted", _ITALIC)):
        for match in pattern.finditer(text):
            group = 1 if match[1] is not None else 2
            if candidate := trimmed(text, match.start(group), match.end(group), kind):
                parts.append(candidate)
    return parts


def trimmed(text: str, start: int, stop: int, kind: str) -> Candidate | None:
    """Return a candidate without spaces, quotation marks, markup and final punctuation, or None if nothing is left."""
    while start < stop and text[start] in _TRIM:
        start += 1
    while stop > start and text[stop - 1] in _TRIM:
        if text[stop - 1] == "." and regex.search(r"(?:\b\p{Lu}|\b[JS]r)\.$", text[start:stop]):
            break  # an initial
        if text[stop - 1] == ")" and "(" in text[start:stop]:
            break
        stop -= 1
    return Candidate(start, stop, kind) if start < stop else None


def name_runs(text: str, tokens: Sequence[Token]) -> list[tuple[int, int]]:
    """Return the names among the words of a statement, as ranges of word indices.

    A name is a run of capitalised words, initials and small numbers, with joints such as "of" and "van" between them.

    Examples
    --------
    >>> from probemap.reading.candidates import name_runs
    >>> from probemap.reading.tokens import tokens_of
    >>> text = "It was Vincent van Gogh, not J. K. Rowling."
    >>> words = tokens_of(text)
    >>> [" ".join(word.text for word in words[i:j]) for i, j in name_runs(text, words)]
    ['Vincent van Gogh', 'J. K. Rowling']
    """
    small = {t.folded for t in tokens if not t.is_capital}
    runs = []
    i = 0
    while i < len(tokens):
        if not _begins_name(tokens, i, small):
            i += 1
            continue
        last, k = i, i + 1
        while k < len(tokens) and _is_joined(text[tokens[k - 1].stop : tokens[k].start]):
            t = tokens[k]
            if t.lower in ARTICLES and t.is_capital and tokens[k - 1].text.endswith("."):
                break  # "the U.S. The …"
            following = tokens[k + 1] if k + 1 < len(tokens) else None
            is_counted = following is not None and following.text[:1].islower() and not following.is_function
            is_number = regex.fullmatch(r"\d{1,3}", t.text) and not is_counted  # "Apollo 11"
            if is_number or (t.is_capital and (not t.is_function or t.lower in _JOINTS)):
                last = k
            elif t.lower not in _JOINTS or k - last > 2 or (t.lower in _WEAK_JOINTS and k == last + 1):
                break
            k += 1
        runs.append((i, last + 1))
        i = last + 1
    return runs


def _begins_name(tokens: Sequence[Token], i: int, small: set[str]) -> bool:
    t = tokens[i]
    if not t.is_capital or (t.is_function and t.lower in PRONOUNS) or regex.match(r"I['’]", t.text):
        return False
    if i == 0:
        return t.lower not in FUNCTION and t.folded not in small
    return not t.is_function or (t.lower in ARTICLES and i + 1 < len(tokens) and tokens[i + 1].is_capital)


def _is_joined(gap: str) -> bool:
    """Return True if the characters between two words may occur inside a name."""
    is_short = regex.fullmatch(r"(?:['’]s)?[ \u00a0.&*_-]{0,3}|\s&\s", gap) is not None
    return is_short and not regex.search(r"\.\s", gap) and "**" not in gap
