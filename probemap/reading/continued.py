"""Find the answer that continues the words of the question.

A question may ask in the middle of a sentence ("Lyon lies on which river?") or end with a preposition ("What is Lyon
the capital of?").  An answer often repeats the words before that place, and goes on with the exact answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import regex

from probemap.reading.candidates import DEMONYM, Candidate, name_runs, trimmed
from probemap.reading.grammar import ARTICLES, BOUNDARIES, COPULAS, PREPOSITIONS
from probemap.reading.tokens import QUESTION_WORDS, same_word

if TYPE_CHECKING:
    from probemap.reading.added import Additions
    from probemap.reading.statements import Statement
    from probemap.reading.tokens import Question, Token

_ENDS = frozenset("of for by from in on with to as".split())
"""Prepositions that may end a question."""
_SHARE = 0.5
"""Minimum share of the words of the question that a statement repeats before the answer."""
_MIN_WORDS = 3
"""Minimum number of words of the question before the answer."""


def continued_answer(additions: Additions, statement: Statement) -> Candidate | None:
    """Return the name or noun phrase with which a statement continues the words of the question, or None.

    Parameters
    ----------
    additions : Additions
        What the text adds to the question.
    statement : Statement
        A statement of the text.

    Returns
    -------
    Candidate or None

    Examples
    --------
    >>> from probemap.reading.added import Additions
    >>> from probemap.reading.continued import continued_answer
    >>> from probemap.reading.statements import statements
    >>> from probemap.reading.tokens import Question
    >>> question = Question("The city of Lyon lies on which river?")
    >>> text = "The city of Lyon lies on the river Elbe."
    >>> answer = continued_answer(Additions(question, text), statements(question, text)[0])
    >>> text[answer.start : answer.stop]
    'Elbe'
    """
    repeated = _before_answer(additions.question)
    if len(repeated) < _MIN_WORDS:
        return None
    tokens = statement.tokens
    i = _after(tokens, repeated)
    if i is None:
        return None
    noun = additions.question.noun
    of = next(
        (j for j in range(i, min(i + 6, len(tokens) - 1)) if tokens[j].lower == "of"),
        None,
    )
    if of is not None and of > i and any(same_word(tokens[of - 1], n) or _is_general(tokens[of - 1]) for n in noun):
        i = of + 1
    while i < len(tokens) and (tokens[i].lower in ARTICLES or _introduces(tokens, i, noun)):
        i += 1
    if i >= len(tokens):
        return None
    text = additions.text
    for first, stop in name_runs(text, tokens):
        if first <= i < stop:
            if all(any(same_word(t, q) for q in additions.question.tokens) for t in tokens[i:stop]):
                return None
            if DEMONYM.fullmatch(tokens[stop - 1].text) and tokens[stop : stop + 1] and tokens[stop].text[0].islower():
                return None
            is_description = regex.match(r"['’]s\b|[*_\"”]*\s\p{Ll}+,", text[tokens[stop - 1].stop :])
            return None if is_description else trimmed(text, tokens[i].start, tokens[stop - 1].stop, "name")
    phrase = additions.noun_phrase(statement, i)
    is_other = any(same_word(phrase[0], n) for n in noun) if phrase else True
    if is_other or phrase[0].lower in PREPOSITIONS or all(t.is_asked for t in phrase):
        return None
    if regex.search(r"[\"“”]", text[phrase[0].start : phrase[-1].stop]):
        return None
    return trimmed(text, phrase[0].start, phrase[-1].stop, "phrase")


def _introduces(tokens: list[Token], i: int, noun: list[Token]) -> bool:
    """Return True if a word is the noun of the question and a name follows it: "the river Elbe"."""
    return i + 1 < len(tokens) and tokens[i + 1].is_capital and any(same_word(tokens[i], n) for n in noun)


def _is_general(token: Token) -> bool:
    return token.lower in ("name", "nation", "country", "city", "state")


def _before_answer(question: Question) -> list[Token]:
    """Return the words of the question that precede the answer in a statement."""
    tokens = question.tokens
    if not tokens or not question.is_english:
        return []
    if tokens[-1].lower in _ENDS and tokens[0].lower in QUESTION_WORDS:
        return [t for t in tokens[1:] if t.lower not in COPULAS and t.lower not in ("do", "does", "did")]
    asked = [i for i, t in enumerate(tokens) if t.lower in ("which", "what", "whom")]
    if not asked or asked[-1] < _MIN_WORDS or regex.search(r"[.!?,;:]", question.text[: tokens[asked[-1]].start]):
        return []
    return tokens[: asked[-1]]


def _after(tokens: list[Token], repeated: list[Token]) -> int | None:
    """Return the index of the word after the words of the question, if a statement repeats most of them."""
    last, previous = repeated[-1], repeated[-2]
    content = [t for t in repeated if not t.is_function]
    for i in range(1, len(tokens) - 1):
        if not (same_word(tokens[i], last) and same_word(tokens[i - 1], previous)):
            continue
        n_repeated = sum(any(same_word(t, c) for t in tokens[: i + 1]) for c in content)
        if n_repeated < max(1, _SHARE * len(content)):
            return None
        i += 1
        while i < len(tokens) - 1 and tokens[i].lower in BOUNDARIES:
            i += 1
        return i
    return None
