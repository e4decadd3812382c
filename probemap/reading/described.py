"""Find the common noun with which a statement describes its subject, for questions that ask for a kind of thing.

"Ann Lee is a professional tennis player" answers "What sport does Ann Lee play?", and "Quick is a blend of jazz and
rock" answers "What genre is Quick?".
"""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING

import regex

from probemap.reading.asked import PERSONS, Kind
from probemap.reading.candidates import Candidate, trimmed
from probemap.reading.grammar import COPULAS, EMPTY_NOUNS, INDEFINITE, PRONOUNS
from probemap.reading.tokens import same_word, tokens_of

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
_ASKS_ACTIVITY = regex.compile(
    r"^\W*(?:what|which)\s+\p{Ll}+\s+(?:does|did|do)\s+.*\s(\p{Ll}{3,})\W*$", regex.IGNORECASE
)
_OTHER_KINDS = regex.compile(
    r"\b(?:name|title|capital|currency|language|date|number|author|address|nickname|motto|symbol|formula|abbreviation"
    r"|city|country|state|town|river|lake|mountain|planet|island|company|band|team|album|song|occupation|profession"
    r"|job)s?\b"
)
"""Nouns for things that have names or signs of their own, and for occupations, which `Additions.phrase` finds."""
_COLLECTIVES = frozenset("league team club athlete competition championship".split())
"""Nouns after the name of a sport: "a football club"."""
_MIXTURE = regex.compile(
    r"\b(?:(?:blend|mix|mixture|fusion|combination|element|aspect|realm)s?|(?:sub-?)?(?:genre|style|type|kind|form|branch))\s+of\s+"
    r"(?:both\s+)?(?:(?:the|an?)\s+)?",
    regex.IGNORECASE,
)
"""Nouns that introduce the kind of thing: "a blend of jazz and rock", "a genre that combines elements of horror"."""
_WORD = r"\p{L}[\p{L}’'-]*"
_NEXT_WORD = rf"\s(?!(?:and|or|with|that|which|in|to|for|from|is|are|by|on|as|where|who)\b){_WORD}"
_ITEM = rf"(?:(?:the|an?)\s+)?{_WORD}(?:{_NEXT_WORD}){{0,3}}"
_LIST = regex.compile(rf"{_ITEM}(?:(?:,\s+(?!and\b){_ITEM})*,?\s+and\s+{_ITEM})?", regex.IGNORECASE)
_INDEFINITE_ITEM = regex.compile(
    r"(?:elements|multiple|various|several|different|many|other|some|all|genres|it)\b", regex.IGNORECASE
)
_SPECIFICALLY = regex.compile(rf",\s+(?:more\s+)?specifically\s+(?!(?:in|on|at|from|for|the)\b)(?:an?\s+)?({_WORD})")
_MAX_WORDS = 6
"""Maximum number of words in a noun phrase that names a kind of thing."""
_N_STATEMENTS = 4
"""Number of statements at the beginning of a text that are read."""
_PERSONS = frozenset(PERSONS)
"""Nouns for persons, which are no kinds of things."""


def described_kind(additions: Additions, statements: Sequence[Statement]) -> Candidate | None:
    """Return the kind of thing that the first statements assign to the subject of the question, or None.

    Parameters
    ----------
    additions : Additions
        What the text adds to the question.
    statements : sequence of Statement
        Statements of the text, in order.

    Returns
    -------
    Candidate or None

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
    if not activity and (not noun or _OTHER_KINDS.search(noun)):
        return None
    for statement in statements[:_N_STATEMENTS]:
        start = _complement(statement)
        if start is None:
            if statement.is_first:
                return None
            continue
        phrase = additions.noun_phrase(statement, start)
        if not activity and phrase and phrase[-1].lower in _PERSONS:
            return None
        verb = additions.question.tokens[-1]
        candidate = _activity(additions, statement, start, verb) if activity else _kind(additions, statement, start)
        if candidate is not None:
            return candidate
    return None


def _complement(statement: Statement) -> int | None:
    """Return the index of the article in "S is a …", if S is a pronoun or consists of words of the question."""
    tokens = statement.tokens
    i = next(
        (i for i, t in enumerate(tokens) if t.lower in COPULAS and not t.repeats and not (t.is_asked and t.is_capital)),
        len(tokens),
    )
    if i + 1 >= len(tokens) or tokens[i + 1].lower not in INDEFINITE:
        return None
    subject = tokens[:i]
    is_pronoun = len(subject) <= 1 and all(t.lower in PRONOUNS for t in subject) and tokens[i].lower != "i'm"
    if is_pronoun or (
        any(t.repeats for t in subject) and all(t.is_asked or t.is_function or t.is_capital for t in subject)
    ):
        return i + 1
    return None


def _activity(additions: Additions, statement: Statement, i: int, verb: Token) -> Candidate | None:
    """Return "tennis" in "a tennis player" if the question asks what somebody plays, and otherwise "golfer"."""
    phrase = additions.noun_phrase(statement, i)
    tokens = statement.tokens
    if not phrase:
        return None
    j = tokens.index(phrase[-1]) + 1
    head = tokens[j] if j < len(tokens) and tokens[j].repeats else phrase[-1]
    if head.lower in _COLLECTIVES or (same_word(head, verb) and head.text != verb.text):
        modifiers = [t for t in phrase if t is not head]
        while len(modifiers) > 1 and modifiers[0].text.endswith(("al", "ous", "ful")):
            modifiers = modifiers[1:]
        if not modifiers or modifiers[-1].lower in _COLLECTIVES or modifiers[-1].text.endswith("ing"):
            return None
        return trimmed(additions.text, modifiers[0].start, modifiers[-1].stop, "phrase")
    if any(same_word(head, n) for n in additions.question.noun):
        return _mixture(additions, statement, head.start)
    is_doer = len(phrase) == 1 and head.text.endswith("er") and head.lower not in _PERSONS - {"footballer", "cricketer"}
    return trimmed(additions.text, head.start, head.stop, "phrase") if is_doer else None


def _kind(additions: Additions, statement: Statement, i: int) -> Candidate | None:
    """Return the noun phrase at the article i, or what a mixture consists of ("a blend of jazz and rock")."""
    if not (phrase := additions.noun_phrase(statement, i)):
        return _mixture(additions, statement, statement.tokens[i].start)
    if _MIXTURE.match(additions.text, phrase[0].start):
        return _mixture(additions, statement, phrase[0].start)
    j = statement.tokens.index(phrase[-1]) + 1
    following = takewhile(lambda t: not t.is_function or t.lower == "and", statement.tokens[j : j + 4])
    words = [*phrase, *following]
    if any(same_word(t, n) for t in words for n in additions.question.noun):
        return _mixture(additions, statement, phrase[0].start)
    if not statement.is_first or len(phrase) > _MAX_WORDS or phrase[0].lower in EMPTY_NOUNS:
        return None
    if len(phrase) == 1 and len(words) > 3 and words[1].lower == "and":
        return None
    if specific := _SPECIFICALLY.match(additions.text, phrase[-1].stop, statement.stop):
        return trimmed(additions.text, specific.start(1), specific.end(1), "phrase")
    return trimmed(additions.text, phrase[0].start, phrase[-1].stop, "phrase")


def _mixture(additions: Additions, statement: Statement, start: int) -> Candidate | None:
    """Return the first list after words such as "a blend of" and "elements of" in the rest of a statement."""
    text, nouns = additions.text, additions.question.noun
    for match in _MIXTURE.finditer(text, start, statement.stop):
        items = _LIST.match(text, match.end(), statement.stop)
        if items is None or _INDEFINITE_ITEM.match(items[0]):
            continue
        if any(same_word(t, n) for t in tokens_of(items[0]) for n in nouns):
            continue
        return trimmed(text, match.end(), items.end(), "phrase")
    return None
