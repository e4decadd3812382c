"""The kind of answer that a question asks for, and whether a text contains any answer of this kind."""

from __future__ import annotations

import re

from probemap.reading.folding import FUNCTION_WORDS, words_of
from probemap.reading.numbers import find_numbers
from probemap.reading.sentences import sentence_at, sentences

_NAMED = (
    "person man woman player actor actress singer musician band group team club king queen monarch emperor pharaoh "
    "president politician country nation city town village state province county river author writer poet novelist "
    "artist painter sculptor composer director producer scientist physicist chemist inventor philosopher explorer "
    "astronaut architect character company"
)
_ASKED = re.compile(
    r"\b(?:(?P<name>(?:who|whose|whom|wer|wen|wessen|qui[eé]n|quem|chi|кто)\b"
    rf"|(?:which|what)\s+(?:\w+\s+)?(?:{'|'.join(_NAMED.split())})\b)"
    r"|(?P<number>when\b|(?:what|which)\s+(?:year|date)\b|how\s+(?:many|old|tall|high|long|far|deep|heavy|fast)\b"
    r"|wann\b|wie\s+viele?\b|welchem\s+jahr\b|cu[aá]ndo\b|cu[aá]nt[oa]s?\b|qu[eé]\s+año\b|quand\b|combien\b"
    r"|quelle\s+année\b|quando\b|quant[oaie]s?\b|que\s+ano\b|che\s+anno\b|сколько\b|когда\b|каком\s+году\b)"
    r"|what\b|which\b|where\b|why\b|how\b)",
    re.IGNORECASE,
)
_CAPITAL = re.compile(r"\b[^\W\d_a-z][\w'’.-]*")
_TIME = re.compile(
    r"\d|\b(?:century|centuries|decade|ago|today|yesterday|morning|evening|night|noon|midnight|spring|summer|autumn"
    r"|winter|christmas|easter|(?:mon|tues|wednes|thurs|fri|satur|sun)day|january|february|march|april|may|june|july"
    r"|august|september|october|november|december|never|none|always|several|many|few|dozens?|hundreds|thousands"
    r"|millions|billions|after|before|during|when|while)\b",
    re.IGNORECASE,
)


def lacks_asked_kind(question: str, text: str) -> bool:
    """Return True if a question asks for a person, a place, a time or a number, and a text contains none.

    Only names and numbers that are not in the question count.  The first interrogative of the question decides.

    Examples
    --------
    >>> from probemap.reading.asked import lacks_asked_kind
    >>> lacks_asked_kind("Who wrote Emma?", "Emma is a novel about love, written with wit.")
    True
    >>> lacks_asked_kind("Who wrote Emma?", "It was written by Anne Bell.")
    False
    """
    asked = _ASKED.search(question)
    if asked is None:
        return False
    if len(words_of(text)) <= _SHORT or not _is_cased(text):
        return False
    if asked["number"]:
        return _TIME.search(text) is None and not find_numbers(text)
    return bool(asked["name"]) and not _has_name(text, {word.text for word in words_of(question)})


_SHORT = 6
"""Number of words up to which a text may be a name in lower case, or a number in words of any language."""


def _is_cased(text: str) -> bool:
    """Return True if the script of a text has capital letters."""
    return any(char.isupper() for char in text) and not any(
        "\u0590" < char < "\u1fff" or char > "\u2e7f" for char in text
    )


def _has_name(text: str, known: set[str]) -> bool:
    """Return True if a text contains a capitalised word that is not in the question and does not begin a sentence."""
    ranges = sentences(text)
    for match in _CAPITAL.finditer(text):
        words = [word.text for word in words_of(match[0])]
        if not words or all(word in known or word in FUNCTION_WORDS for word in words):
            continue
        start, stop = sentence_at(ranges, match.start())
        is_first = not text[start : match.start()].strip(" \n\t\"'“*-_(")
        if not is_first or _BEGINS_NAME.match(text, match.end()) or len(words_of(text[start:stop])) <= _SHORT:
            return True
    return False


_BEGINS_NAME = re.compile(r"[\"'”*_)]*(?:\s+(?:[^\W\d_a-z]|(?:is|was|are|were|wrote|did|has|had|won)\b)|\s*[,.!?(]|$)")
