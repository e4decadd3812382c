"""Find the answer in a text that consists only of it: a name or a noun phrase, without a verb."""

from __future__ import annotations

from typing import TYPE_CHECKING

import regex

from probemap.reading.asked import Kind
from probemap.reading.candidates import Candidate, trimmed
from probemap.reading.grammar import ARTICLES, BOUNDARIES, COPULAS, PREPOSITIONS, PRONOUNS
from probemap.reading.tokens import Question, Token, mark_asked, tokens_of

if TYPE_CHECKING:
    from collections.abc import Sequence

_CONJUNCTIONS = frozenset("and y et und e".split())
_NOT_WHOLE = frozenset(
    (
        "no not yes nicht neither nor niet inte non pas viele or by born written invented discovered wrote won oder ou"
    ).split()
)


def whole_answer(question: Question, text: str) -> Candidate | None:
    """Return the name or noun phrase that a short text consists of, or None if the text is anything else.

    The article and additions such as "(Ailuropoda)" are not part of the result.

    Examples
    --------
    >>> from probemap.reading.tokens import Question
    >>> from probemap.reading.whole import whole_answer
    >>> text = "The giant panda (Ailuropoda)."
    >>> whole = whole_answer(Question("What animal is it?"), text)
    >>> text[whole.start : whole.stop]
    'giant panda'
    """
    part = text.rstrip()
    start = len(part) - len(part.lstrip())
    match = regex.match(r"[^,(\n–—;:=/]+", part[start:])
    if match is None or len(part) > 120 or regex.search(r"[.!?]\s+\p{Lu}\p{L}{2}", part) or part.count(",") > 1:
        return None
    tokens = tokens_of(part)
    states = any(t.lower in (COPULAS | PRONOUNS | BOUNDARIES) - _CONJUNCTIONS for t in tokens)
    if len(tokens) > 7 or (len(tokens) > 1 and states):
        return None
    inside = mark_asked([t for t in tokens if t.stop <= start + match.end()], question.tokens)
    if not 0 < len(inside) <= 5 or inside[0].lower in PREPOSITIONS or any(t.lower in _NOT_WHOLE for t in inside):
        return None
    if len(tokens) > 1 and not _is_name_or_phrase(question, inside, is_all=len(inside) == len(tokens)):
        return None
    has_article = (
        len(inside) > 1 and inside[0].lower in ARTICLES and not (inside[0].is_capital and inside[1].is_capital)
    )
    return trimmed(text, inside[1 if has_article else 0].start, start + match.end(), "phrase")


def _is_name_or_phrase(question: Question, tokens: Sequence[Token], *, is_all: bool) -> bool:
    """Return True if several words without a copula form a name or a noun phrase, and not a sentence."""
    if all(t.is_function for t in tokens) or (not is_all and tokens[-1].text.endswith("ly")):
        return False
    if len(tokens) > 1 and any(t.repeats for t in tokens):
        return all(t.is_capital for t in tokens) and not all(t.is_asked or t.is_function for t in tokens)
    has_verb = len(tokens) > 2 and tokens[0].is_capital and not tokens[1].is_capital and tokens[0].lower not in ARTICLES
    return not (is_all and has_verb and question.kind is Kind.PERSON)
