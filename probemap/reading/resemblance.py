"""Recognise texts that resemble an accepted answer without containing it: misspelt names and paraphrases.

The rules do not decide whether such a text means the accepted answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from probemap.reading.folding import FUNCTION_WORDS, content_words, words_of
from probemap.reading.sentences import sentences


def resembles(text: str, answers: Sequence[str]) -> bool:
    """Return True if a text contains a misspelt accepted name, or most words of an accepted description.

    A name of at least five letters is misspelt if one letter differs, and a name of at least nine letters also if two
    letters differ.  A description has at least three words besides function words, and most of them are in lower case.
    A sentence that repeats at least three fifths of these words may be a paraphrase.

    Examples
    --------
    >>> from probemap.reading.resemblance import resembles
    >>> resembles("It is Kuala Lampur.", ["Kuala Lumpur"]), resembles("It is in Australia.", ["Austria"])
    (True, False)
    >>> resembles("It measures how strong winds are.", ["the strength of winds, measured in steps"])
    False
    """
    forms = [content_words(answer) for answer in answers]
    names = {"".join(words) for words in forms if words and len(words[-1]) > 1 and all(map(str.isalpha, words))}
    if _is_misspelt(text, names):
        return True
    descriptions = [stems for answer in answers if len(stems := _described(answer)) >= 3]
    if not descriptions:
        return False
    stated = [{_stem(word.text) for word in words_of(text[start:stop])} for start, stop in sentences(text)]
    return any(len(stems & words) >= 0.6 * len(stems) for stems in descriptions for words in stated)


@lru_cache(maxsize=16384)
def _described(answer: str) -> frozenset[str]:
    """Return the stems of the words of an accepted answer, or an empty set if it is not a description."""
    if len(content_words(answer)) < 3:
        return frozenset()
    words = [word for word in words_of(answer) if word.text not in FUNCTION_WORDS]
    n_lower = sum(answer[word.start].islower() for word in words)
    is_name = 2 * n_lower <= len(words) or any(char.isdigit() for char in answer)
    return frozenset() if is_name else frozenset(_stem(word.text) for word in words)


def _stem(word: str) -> str:
    return word.removesuffix("s")[:5]


def _is_misspelt(text: str, names: set[str]) -> bool:
    beginnings = {name[:2] for name in names}
    words = words_of(text)
    for i, word in enumerate(words):
        if word.text[:2] not in beginnings or not text[word.start].isupper():
            continue
        joined = ""
        for following in words[i : i + 4]:
            joined += following.text
            if any(name[:2] == joined[:2] and _differ_little(joined, name) for name in names) and joined.isalpha():
                return True
    return False


def _differ_little(a: str, b: str) -> bool:
    n_edits = 2 if min(len(a), len(b)) >= 9 else 1 if min(len(a), len(b)) >= 5 else 0
    if n_edits == 0 or a[:2] != b[:2] or abs(len(a) - len(b)) > n_edits:
        return False
    previous = list(range(len(b) + 1))
    for i, char in enumerate(a, start=1):
        row = [i]
        for k, other in enumerate(b, start=1):
            row.append(min(previous[k] + 1, row[-1] + 1, previous[k - 1] + (char != other)))
        previous = row
    return previous[-1] <= n_edits
