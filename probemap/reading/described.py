"""Find the common noun with which a statement describes its subject, for questions that ask for a kind of thing.

"Ann Lee is a professional tennis player" answers "What sport does Ann Lee play?", and "Quick is a blend of jazz and
rock" answers "What genre is Quick?".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import regex

from probemap.reading.asked import PERSONS, Kind
from probemap.reading.candidates import Candidate, trimmed
from probemap.reading.grammar import COPULAS, INDEFINITE, PRONOUNS
from probemap.reading.tokens import same_word

if TYPE_CHECKING:
    from collections.abc import Sequence

    from probemap.reading.added import Additions
    from probemap.reading.statements import Statement
    from probemap.reading.tokens import Token

_NAME = r"[\"“«„']?(?:the\s+)?[\"“«„']?[\p{Lu}\d]"
_ASKS_KIND = regex.compile(
    rf"^\W*(?i:what|which)\s+(?:kind\s+of\s+|type\s+of\s+|sort\s+of\s+)?(\p{{Ll}}+(?:\s\p{{Ll}}+)?)\s+(?:is|are|was|were)\s+{_NAME}"
    rf"|^\W*(?i:what)\s+(?:is|are|was|were)\s+(?:the\s+)?{_NAME}.*['’]s?\s+(\p{{Ll}}+)\W*$"
    rf"|^\W*(?i:what)\s+(?:is|are|was|were)\s+the\s+(\p{{Ll}}+)\s+of\s+{_NAME}"
)
_ASKS_ACTIVITY = regex.compile(r"^\W*(?:what|which)\s+\p{Ll}+\s+(?:does|did|do)\s+.*\s(\p{Ll}{3,})\W*$", regex.IGNORECASE)
_NAMED_KINDS = regex.compile(
    r"\b(?:name|title|capital|currency|language|date|number|author|address|nickname|motto|symbol|formula|abbreviation"
    r"|city|country|state|town|river|lake|mountain|planet|island|company|band|team|album|song)s?\b"
)
"""Nouns for things that have names or signs of their own, so that a description does not answer the question."""
_OCCUPATION = regex.compile(r"\b(?:occupation|profession|job)\b")
_COLLECTIVES = frozenset("league team club athlete competition championship".split())
_MIXTURE = regex.compile(
    r"\b(?:blend|mix|mixture|fusion|combination|elements|aspects|realm|(?:sub-?)?(?:genre|style|type|kind|form|branch))s?\s+of\s+"
    r"(?:both\s+)?(?:(?:the|an?)\s+)?",
    regex.IGNORECASE,
)
"""Nouns that introduce the kind of thing: "a blend of jazz and rock", "a genre that combines elements of horror"."""
_WORD = r"\p{L}[\p{L}’'-]*"
_ITEM = rf"(?:(?:the|an?)\s+)?{_WORD}(?:\s(?!(?:and|or|with|that|which|in|to|for|from|is|are|by|on|as|where|who)\b){_WORD}){{0,3}}"
_LIST = regex.compile(rf"{_ITEM}(?:(?:,\s+(?!and\b){_ITEM})*,?\s+and\s+{_ITEM})?", regex.IGNORECASE)
_INDEFINITE_ITEM = regex.compile(r"(?:elements|multiple|various|several|different|many|other|some|all|genres|it)\b", regex.IGNORECASE)
_N_STATEMENTS = 4
_PERSONS = frozenset(PERSONS)


def described_kind(additions: Additions, statements: Sequence[Statement]) -> Candidate | None:
    """Return the kind of thing that the first statements assign to the subject of the question, or None.

    Parameters
    ----------
    additions : Additions
    statements : sequence of Statement
        Statements of the text, in order.

    Examples
    --------
    >>> from probemap.reading.added import Additions
    >>> from probemap.reading.described import described_kind
    >>> from probemap.reading.statements import statements
    >>> from probemap.reading.tokens import Question
    >>> question = Question("What genre is Quick?")
    >>> text = "Quick is a genre that combines elements of jazz and rock."
    >>> kind = described_kind(Additions(question, text), statements(question, text))
    >>> text[kind.start : kind.stop]
    'jazz and rock'
    """
    question = additions.question
    if question.kind is not Kind.THING or not question.is_english:
        return None
    activity = _ASKS_ACTIVITY.match(question.text)
    asks_kind = _ASKS_KIND.match(question.text)
    noun = next((group for group in asks_kind.groups() if group), "") if asks_kind else ""
    if not activity and (not noun or _NAMED_KINDS.search(noun)):
        return None
    for statement in statements[:_N_STATEMENTS]:
        start = _complement(statement)
        if start is None:
            if statement.is_first:
                return None
            continue
        found = _activity(additions, statement, start) if activity else _kind(additions, statement, start, noun)
        if found is not None:
            return found
    return None


def _complement(statement: Statement) -> int | None:
    """Return the index of the article in "S is a …", if S is a pronoun or consists of words of the question."""
    tokens = statement.tokens
    i = next((i for i, t in enumerate(tokens) if t.lower in COPULAS), len(tokens))
    if i + 1 >= len(tokens) or tokens[i + 1].lower not in INDEFINITE:
        return None
    subject = tokens[:i]
    is_pronoun = len(subject) <= 1 and all(t.lower in PRONOUNS for t in subject) and tokens[i].lower != "i'm"
    if is_pronoun or (any(t.repeats for t in subject) and all(t.is_asked or t.is_function or t.is_capital for t in subject)):
        return i + 1
    return None


def _activity(additions: Additions, statement: Statement, i: int) -> Candidate | None:
    """Return "tennis" in "a tennis player" if the question asks what somebody plays, and otherwise "golfer"."""
    phrase = additions.noun_phrase(statement, i)
    if not phrase:
        return None
    tokens = statement.tokens
    j = tokens.index(phrase[-1]) + 1
    head = tokens[j] if j < len(tokens) and tokens[j].repeats else phrase[-1]
    asked = [t for t in additions.question.tokens if not t.is_function]
    is_agent = head is not phrase[-1] or any(same_word(head, t) for t in asked)
    if is_agent or head.lower in _COLLECTIVES:
        modifiers = [t for t in phrase if t is not head]
        while len(modifiers) > 1 and modifiers[0].text.endswith(("al", "ous", "ful")):
            modifiers = modifiers[1:]
        if not modifiers or modifiers[-1].lower in _COLLECTIVES or modifiers[-1].text.endswith("ing"):
            return None
        return trimmed(additions.text, modifiers[0].start, modifiers[-1].stop, "phrase")
    is_doer = len(phrase) == 1 and head.text.endswith("er") and head.lower not in _PERSONS - {"footballer", "cricketer"}
    return trimmed(additions.text, head.start, head.stop, "phrase") if is_doer else None


def _kind(additions: Additions, statement: Statement, i: int, noun: str) -> Candidate | None:
    text = additions.text
    if _OCCUPATION.search(noun):
        return None
    for match in _MIXTURE.finditer(text, statement.tokens[i].start, statement.stop):
        items = _LIST.match(text, match.end(), statement.stop)
        words = items[0] if items else ""
        if not words or _INDEFINITE_ITEM.match(words) or regex.match(rf"{noun}s?\b", words):
            continue
        return trimmed(text, match.end(), items.end(), "phrase") if items else None
    phrase = additions.noun_phrase(statement, i)
    if not phrase:
        return None
    head = phrase[-1].lower
    is_kind = any(same_word(t, n) for t in phrase for n in additions.question.noun)
    j = statement.tokens.index(phrase[-1]) + 1
    followed_by_kind = j < len(statement.tokens) and statement.tokens[j].repeats
    if is_kind or followed_by_kind or head in _PERSONS or head == "concept":
        return None
    return trimmed(text, phrase[0].start, phrase[-1].stop, "phrase")
