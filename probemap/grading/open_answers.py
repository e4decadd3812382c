"""Locate the exact answer to an open question by rules, without the accepted answers.

The exact answer is what a text adds to the question in its first statement about it.  It is a name, a date, a number or
a noun phrase at a place where the answer is expected, e.g. after "is", after "by", or before the verb of the question.
Nothing is located if there is no such place.
"""

from __future__ import annotations

from itertools import takewhile

import regex

from probemap.reading.added import Additions
from probemap.reading.alternatives import offered_answers
from probemap.reading.asked import Kind, asks_for_country
from probemap.reading.asserted import own_length
from probemap.reading.candidates import Candidate, is_uncased
from probemap.reading.closed_set import asserted_offer
from probemap.reading.continued import continued_answer
from probemap.reading.described import described_kind
from probemap.reading.grammar import COPULAS
from probemap.reading.places import Place, PlaceKind
from probemap.reading.refusal import final_refusal
from probemap.reading.statements import Statement, statements
from probemap.reading.tokens import Question, same_word
from probemap.reading.uncased import added_part
from probemap.reading.whole import whole_answer
from probemap.reading.yes_no import leading_label

_ANNOUNCED = regex.compile(
    r"(?:[\s*_]*(?:(?:the\s+)?(?:final\s+|short\s+)?answer(?:\s+is)?|a|antwort|respuesta|réponse|risposta|resposta"
    r"|ответ|assistant|答案|答|回答)[*_]*\s*[:：][*_]*)+\s*(?=\S)",
    regex.IGNORECASE,
)
_LIST_ITEM = regex.compile(r"^[^\S\n]*(?:\d+[.)]|[-*•])\s+\S", regex.MULTILINE)
_LIST_IN_LINE = regex.compile(r"\s*1\.\s.*\s2\.\s")
_ORDER: tuple[PlaceKind, ...] = (
    "whole",
    "naming",
    "noun",
    "copula",
    "start",
    "phrase",
    "agent",
    "preposition",
    "object",
)
"""The places where an answer may occur, from the most to the least certain place."""
_ORDER_OF_THINGS: tuple[PlaceKind, ...] = (*_ORDER[:6], "preposition", "object", "agent")
"""The same for questions that ask for a thing."""


def locate_open(question: str, text: str) -> tuple[int, int] | None:
    """Locate the exact answer to an open question.

    Parameters
    ----------
    question : str
    text : str
        Answer without its reasoning.

    Returns
    -------
    tuple of (int, int) or None
        Character range (start, stop) of the exact answer, or None if the rules find none.  They find none in refusals,
        in texts that give reasons or descriptions, and in texts in which it is not clear what the answer is.

    Examples
    --------
    >>> from probemap.grading.open_answers import locate_open
    >>> text = "Athens is the capital of Greece."
    >>> start, stop = locate_open("What is the capital of Greece?", text)
    >>> text[start:stop]
    'Athens'
    """
    text = text[: own_length(text)]
    if announced := _ANNOUNCED.match(text):  # "Answer: Paris"
        located = locate_open(question, text[announced.end() :])
        return None if located is None else (located[0] + announced.end(), located[1] + announced.end())
    if _says_nothing(text):
        return None
    if offered := offered_answers(question):
        asserted = asserted_offer(question, text, offered)
        return None if asserted is None else (asserted.start, asserted.stop)
    asked = Question(question)
    if asked.kind is Kind.YES_NO or (asked.kind is Kind.THING and not asked.has_question_word):
        label = leading_label(text)
        if label or asked.kind is Kind.YES_NO:
            return label
    if asked.kind is Kind.REASON:
        return None
    if is_uncased(text) or (is_uncased(question) and len(text) < 40 and len(text.split()) < 3):
        chosen = added_part(question, text, asked.kind)
    else:
        chosen = _answer(asked, text)
    return None if chosen is None else (chosen.start, chosen.stop)


def open_candidates(question: str, text: str) -> list[Candidate]:
    """Return the parts of a text that could be the answer to an open question, in the order of the text.

    Examples
    --------
    >>> from probemap.grading.open_answers import open_candidates
    >>> text = "Emma was written by Jane Austen in Hampshire."
    >>> [text[c.start : c.stop] for c in open_candidates("Who wrote Emma?", text)]
    ['Jane Austen', 'Hampshire']
    """
    asked = Question(question)
    if asked.kind in (Kind.YES_NO, Kind.REASON) or offered_answers(question) or is_uncased(text):
        located = locate_open(question, text)
        return [] if located is None else [Candidate(*located, "phrase")]
    text = text[: own_length(text)]
    if _says_nothing(text):
        return []
    additions = Additions(asked, text)
    found = [candidate for statement in statements(asked, text) for candidate in additions.all(statement)]
    whole = whole_answer(asked, text)
    if whole is not None and (whole.start, whole.stop) not in {(c.start, c.stop) for c in found}:
        found.append(whole)
    return additions.asserted(found)


def _says_nothing(text: str) -> bool:
    return not text.strip() or final_refusal(text) is not None


def _answer(question: Question, text: str) -> Candidate | None:
    """Return what the first statement with an answer adds to the question."""
    additions = Additions(question, text)
    items = [match.start() for match in _LIST_ITEM.finditer(text)]
    if _LIST_IN_LINE.match(text):
        return None
    found = statements(question, text)
    if len(items) > 1:  # a list contains several answers, so only an answer before it is located
        found = [s for s in found if s.stop <= items[0] and not text[s.start : s.stop].rstrip(" \n*").endswith(":")]
    elif not question.asks_for_value and (whole := whole_answer(question, text)) is not None:
        return whole
    if (kind := described_kind(additions, found)) is not None:
        return kind
    for statement in found:
        if not _may_answer(question, statement):
            continue
        if question.asks_for_value:
            candidate = additions.value(statement)
        else:
            candidate = continued_answer(additions, statement) or _placed(additions, statement)
        if candidate is not None:
            return candidate
    return None


def _may_answer(question: Question, statement: Statement) -> bool:
    """Return True for the first statement, and for a later statement that repeats most words of the question.

    A text that does not begin with an answer seldom contains one later.
    """
    if statement.is_first:
        return True
    content = [t for t in question.tokens if not t.is_function]
    n_repeated = sum(any(same_word(t, c) for t in statement.tokens) for c in content)
    return 2 * n_repeated > len(content)


def _placed(additions: Additions, statement: Statement) -> Candidate | None:
    """Return the candidate at the most certain place in a statement."""
    kind = additions.question.kind
    by_place: dict[PlaceKind, Candidate] = {}
    for candidate in additions.asserted(additions.names(statement)):
        place = Place(additions, statement, candidate).kind()
        if place is None:
            continue
        former = by_place.setdefault(place, candidate)
        is_named = place in ("start", "naming")
        if is_named and additions.only_repeats(statement, former) and not additions.only_repeats(statement, candidate):
            by_place[place] = candidate
    if kind is Kind.THING:
        phrase = additions.subject(statement) or additions.phrase(statement)
        if phrase is not None:
            by_place.setdefault("phrase", phrase)
    order = _ORDER_OF_THINGS if kind is Kind.THING else _ORDER
    subject = list(takewhile(lambda t: t.lower not in COPULAS, statement.tokens))
    if kind is Kind.THING and len(subject) < len(statement.tokens) and additions.describes_other(subject):
        order = ("whole", "naming", "noun", "preposition")
        order += ("agent",) if any(t.repeats and t.text.endswith("ed") for t in statement.tokens) else ()
    best = next((by_place[place] for place in order if place in by_place), None)
    if best is None and kind is Kind.PERSON:
        return additions.agent(statement)
    return best if best is None or kind is not Kind.PLACE else _containing_place(additions, best)


def _containing_place(additions: Additions, place: Candidate) -> Candidate:
    """Return the larger place that contains a place ("Paris, France") if the question asks for a country or state."""
    if not asks_for_country(additions.question.text):
        return place
    following = regex.match(
        r"[*_]*,\s+[*_]*(\p{Lu}[\p{L}-]+(?:\s\p{Lu}[\p{L}-]+)*)(?=[*_]*(?:[.,;)\n]|$))", additions.text[place.stop :]
    )
    if following is None:
        return place
    return Candidate(place.stop + following.start(1), place.stop + following.end(1), "name")
