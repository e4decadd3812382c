"""Recognise texts without an answer, which add nothing to the question, or nothing of the kind that it asks for."""

from __future__ import annotations

import re
from collections import Counter

from probemap.reading.asked import VALUES, Kind, asked_kind
from probemap.reading.folding import FUNCTION_WORDS, content_words, words_of
from probemap.reading.numbers import find_numbers
from probemap.reading.sentences import sentence_at, sentences

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

    A capitalised word counts as a name if it is not in the question.  The result is always False for a text of at most
    six words, and for a script without capital letters.

    Examples
    --------
    >>> from probemap.reading.off_topic import lacks_asked_kind
    >>> lacks_asked_kind("Who wrote Emma?", "Emma is a novel about love, written with wit.")
    True
    >>> lacks_asked_kind("Who wrote Emma?", "It was written by Anne Bell.")
    False
    """
    kind = asked_kind(question)
    if len(words_of(text)) <= _SHORT or not _is_cased(text):
        return False
    if kind in VALUES:
        return _TIME.search(text) is None and not find_numbers(text)
    asks_name = kind is Kind.PERSON or (kind is Kind.PLACE and _WHERE.search(question) is None)
    return asks_name and not _has_name(question, text)


_WHERE = re.compile(r"\b(?:where|dónde|où|wo|woher|wohin|onde|dove|где)\b", re.IGNORECASE)
"""Question words whose answers need not be names ("in the kitchen")."""
_SHORT = 6
"""Maximum number of words in a text that may be a name in lower case, or a number in words of any language."""


def _is_cased(text: str) -> bool:
    """Return True if a text contains capital letters, and no characters of scripts without them."""
    return any(char.isupper() for char in text) and not any(
        "\u0590" < char < "\u1fff" or char > "\u2e7f" for char in text
    )


def _has_name(question: str, text: str) -> bool:
    """Return True if a text contains a capitalised word that is not in the question and does not begin a sentence."""
    if repeats_name(question, text):
        return True
    asked = {word.text for word in words_of(question)}
    ranges = sentences(text)
    for match in _CAPITAL.finditer(text):
        words = [word.text for word in words_of(match[0])]
        if not words or all(word in asked or word in FUNCTION_WORDS for word in words):
            continue
        start, stop = sentence_at(ranges, match.start())
        is_first = not text[start : match.start()].strip(" \n\t\"'“*-_(")
        if not is_first or _BEGINS_NAME.match(text, match.end()) or len(words_of(text[start:stop])) <= _SHORT:
            return True
    return False


_BEGINS_NAME = re.compile(r"[\"'”*_)]*(?:\s+(?:[^\W\d_a-z]|(?:is|was|are|were|wrote|did|has|had|won)\b)|\s*[,.!?(]|$)")


def adds_words(question: str, text: str) -> bool:
    """Return True if a text contains words that are neither in the question nor function words, or repeats a name.

    A capitalised function word that does not begin a sentence counts as an added word ("the film is Get Out").  If a
    text consists of one or two words, these count as added even if they are in the question ("Poland.").

    Examples
    --------
    >>> from probemap.reading.off_topic import adds_words
    >>> question = "What is the capital of Poland?"
    >>> [adds_words(question, text) for text in ("It is the capital of Poland.", "The capital of Poland is Poland.")]
    [False, True]
    """
    if re.search(r"[\u3040-\u30ff]", text) and any(
        run not in question for run in re.findall(r"[\u4e00-\u9fff]{2,}", text)
    ):
        return True  # in Japanese, characters that occur in the question may form a different word
    asked = {word.text for word in words_of(question)}
    for word in words_of(text):
        if word.text in asked or (word.stop == len(text) and any(known.startswith(word.text) for known in asked)):
            continue  # the last word of a text may be cut off
        preceding = text[max(0, word.start - 8) : word.start].rstrip(" \"'“")
        is_first = not preceding or preceding[-1] in ".!?\n"
        if word.text not in FUNCTION_WORDS or (text[word.start].isupper() and not is_first and word.text != "i"):
            return True
    if len(content_words(text)) <= _ANSWER_ALONE and not text.rstrip().endswith("?"):
        return bool(content_words(text))
    return repeats_name(question, text)


_ANSWER_ALONE = 2
"""Maximum number of words in a text that consists of its answer."""


def repeats_name(question: str, text: str) -> bool:
    """Return True if the first sentence of a text contains a name of the question more often than the question does.

    An example is "The capital of Poland is Poland.".
    """
    first = text[slice(*next(iter(sentences(text)), (0, 0)))]
    asked = Counter(word.text for word in words_of(question))
    names = Counter(word.text for word in words_of(first) if first[word.start].isupper())
    return any(n > asked[name] > 0 for name, n in names.items() if name not in FUNCTION_WORDS)
