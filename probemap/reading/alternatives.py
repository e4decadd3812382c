"""Find the answers that a question offers, and the mentions in a text that are alternatives or follow another name."""

from __future__ import annotations

import re
from collections.abc import Set

from probemap.reading.clauses import CONCLUSION_WORDS
from probemap.reading.folding import FUNCTION_WORDS, content_words, words_of
from probemap.reading.names import LABELS
from probemap.reading.sentences import correction_before, sentence_at, sentences

_OFFERS = re.compile(
    r"(?:^|[,:;]|\b(?:between|either|is|are|was|were|first|older|younger|larger|bigger|longer|taller|more|earlier"
    r"|later)\b)"
    r"\s*(?P<first>(?:(?!\b(?:or|and)\b)[^,:;?\n]){2,60}?),?\s+(?:or|and)\s+(?P<second>[^,:;?\n]{2,60}?)\s*\?\s*$",
    re.IGNORECASE,
)


def offered_answers(question: str) -> list[tuple[str, ...]]:
    """Return the two answers that a question offers ("Who is older, Ann Lee or Bo Kim?"), or an empty list.

    Examples
    --------
    >>> from probemap.reading.alternatives import offered_answers
    >>> offered_answers("Who is older, Ann Lee or Bo Kim?")
    [('Ann Lee',), ('Bo Kim',)]
    """
    match = _OFFERS.search(question)
    if match is None or not re.search(r"\bor\b", match[0]):
        return []
    return [(match["first"].strip(),), (match["second"].strip(),)]


_CONCLUDES = re.compile(rf"\b(?:{CONCLUSION_WORDS}|the answer is)\b", re.IGNORECASE)
_COMPARATIVE = re.compile(
    r"\b(?!(?:other|river|never|either|whether|after all|answer|number|water|under|over)\b)\w{2,}er\b|\b(?:more"
    r"|less|fewer|after|before)\b",
    re.IGNORECASE,
)


def conclusion_start(text: str) -> int:
    """Return the index of the last conclusion of a text ("…, so the Rhine is longer"), or 0 if it draws none."""
    return max((match.start() for match in _CONCLUDES.finditer(text)), default=0)


def compares_differently(question: str, text: str) -> bool:
    """Return True if a text uses a different comparative than the question, such as "shorter" instead of "longer".

    The rules do not decide what such a comparison means for the question.
    """
    asked = {match[0].lower() for match in _COMPARATIVE.finditer(question)}
    stated = {match[0].lower() for match in _COMPARATIVE.finditer(text)}
    return bool(asked or re.search(r"\bfirst\b", question, re.IGNORECASE)) and bool(stated - asked - _SAME_ORDER)


_SAME_ORDER = frozenset({"before", "earlier"})


_ALTERNATIVES_AFTER = re.compile(
    r"[\"'”)*_]*(?:,\s*[A-Z\d][^.!?;,\n]{0,40}){0,5},?\s*\b(?:or|oder|ou)\s+(?:in\s+|the\s+|maybe\s+|perhaps\s+)*[A-Z\d]"
)
_ALTERNATIVES_BEFORE = re.compile(
    r"\b(?i:candidates|(?:possible|potential)\s+\w+|options)\s+(?:are|include|would be)\b[^.!?;\n]{0,80}$|"
    r"\b(?:either|could be|might be|may be|both|whether)\b[^.!?;\n]{1,80}?(?:\b(?:or|and)\b|,)\s*[\"'“(*_]*$"
    r"|(?:^|[.!?:]\s*|\bis\s+|\bin\s+)[A-Z][\w' -]{1,30}\s+or\s+(?:the\s+)?[\"'“(*_]*$"
)


def is_alternative(text: str, start: int, stop: int) -> bool:
    """Return True if ``text[start:stop]`` is one of several alternatives ("Lyon or Paris")."""
    return bool(_ALTERNATIVES_AFTER.match(text, stop) or _ALTERNATIVES_BEFORE.search(text[max(0, start - 120) : start]))


_SUBORDINATES = re.compile(
    r"\((?![^()]*\))|\b(?:who|which|whom|whose|where|although|though|even though|whereas|unlike|alongside|followed by|"
    r"replaced|defeated|beat|ahead of|after|before|from|near|friend of|student of|teacher of|taught by|inspired by"
    r"|influenced by|"
    r"together with|lived with|bypassing|left for|succeeded|preceded|for)\b|;"
)
_CANDIDATE = re.compile(
    r"^\W*[A-ZÀ-Þ][\w'’-]+(?=\s*[,;(]|\s+(?:[A-ZÀ-Þ]|(?:is|was|are|were|has|had|won)\b))"
    r"|(?<![.!?:\n]\s)(?<!^)\b[A-ZÀ-Þ][\w'’-]+"
)
"""Words that may be names.  The first word of a sentence counts only before a verb, punctuation or another capital."""


def follows_another(question: str, text: str, start: int) -> bool:
    """Return True if a text states another name as its answer before the mention that begins at `start`.

    The other name is in the first sentence, or in the same sentence with a subordinate part between it and the mention.
    An example is "It was written by Mozart, a friend of Haydn.", which mentions Haydn but asserts Mozart.
    """
    ranges = sentences(text)
    asked = {word.text for word in words_of(question)} | FUNCTION_WORDS
    sentence_start = sentence_at(ranges, start)[0]
    before = text[max(sentence_start, start - 300) : start]
    if before.endswith("(") and text[start : start + 2].isupper():
        return False  # the mention is an abbreviation of the name before it
    if sentence_start > 0 and not correction_before(text, start):
        first = text[slice(*ranges[0])]
        if _states_another(asked, question, first):
            return True
    for candidate in _CANDIDATE.finditer(before):
        if all(word in asked for word in content_words(candidate[0])):
            continue
        between = before[candidate.end() :]
        if between.endswith(", by "):
            return False  # the mention is the agent of a passive
        if re.search(r"\b(?:but|however|today|now)\b", between):
            continue
        if _SUBORDINATES.search(between) and re.search(r"[,;(]|\b(?:to|of|by|with)\b", between):
            return _COPULA.search(before[: candidate.start()]) is not None or re.search(r"[,;(]", between) is not None
    return False


def _states_another(asked: Set[str], question: str, sentence: str) -> bool:
    """Return True if a sentence consists of a name, or states the question with a name as its subject or predicate."""
    words = {word.text for word in words_of(sentence)}
    if len(words) <= 3 and re.match(r"\W*[A-ZÀ-Þ]", sentence) and sentence.rstrip().endswith("."):
        return not words <= asked | LABELS
    stated = _STATED.match(sentence) or _STATED_LAST.search(sentence)
    return (
        stated is not None
        and not all(word in asked for word in content_words(stated[1]))
        and {word.text for word in words_of(question)} - FUNCTION_WORDS <= words
    )


_NAME = r"[A-ZÀ-Þ][\w'’-]+(?:\s+[A-ZÀ-Þ][\w'’-]+)*"
_STATED = re.compile(rf"\W*({_NAME})\s+(?:is|was|are|were)\s+the\b")
_STATED_LAST = re.compile(rf"\b(?:is|was|are|were)\s+({_NAME})[\s*_\"'”]*[.!]")
_COPULA = re.compile(r"\b(?:is|was|are|were|by|be)\b", re.IGNORECASE)
