"""Divide a text into statements that may answer its question.

A statement is a clause whose words are marked if they repeat the question.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import regex

from probemap.reading.sentences import sentences
from probemap.reading.tokens import Token, mark_asked, tokens_of

if TYPE_CHECKING:
    from probemap.reading.candidates import Candidate
    from probemap.reading.tokens import Question

_MAX_STATEMENTS = 8
"""Number of statements after which no further sentence is read."""
_OPINION = regex.compile(
    r"\b(?:often|commonly|widely|many|most|people|some|popular|sometimes|frequently)\b[^.]*\b(?:assum|believ|belief|thought"
    r"|think|say|said|confus|mistak|named)\w*",
    regex.IGNORECASE,
)
_CLAUSE = regex.compile(
    r"[,;]\s+(?=(?:but|while|whereas|although|though|yet)\b)|;\s+"
    r"|,\s+(?=(?:aber|mais|pero|sondern|sino|mas|ma|но|а)\b)",
    regex.IGNORECASE,
)
_UNFINISHED = regex.compile(r"\b(?:(?:am|den|vom|im|der|dem|zum)\s+\d{1,2}|\p{Lu})\.$")
"""A German ordinal or an initial.  Its full stop does not end a sentence."""
_ASKS = regex.compile(r"\?[\"'”*)\s]*$")


@dataclass(frozen=True)
class Statement:
    """A clause of a text, ``text[start:stop]``."""

    start: int
    stop: int
    tokens: list[Token]
    is_first: bool
    """True if the clause belongs to the first sentence that makes a statement."""

    def before(self, candidate: Candidate) -> list[Token]:
        """Return the words before a candidate."""
        return [t for t in self.tokens if t.stop <= candidate.start]

    def after(self, candidate: Candidate) -> list[Token]:
        """Return the words after a candidate."""
        return [t for t in self.tokens if t.start >= candidate.stop]

    def within(self, candidate: Candidate) -> list[Token]:
        """Return the words that a candidate contains or overlaps."""
        return [t for t in self.tokens if t.start < candidate.stop and t.stop > candidate.start]


def statements(question: Question, text: str) -> list[Statement]:
    """Return the first statements of a text.

    Questions, opinions of others ("It is often assumed that …") and sentences that repeat the same words in a loop are
    omitted.

    Examples
    --------
    >>> from probemap.reading.tokens import Question
    >>> from probemap.reading.statements import statements
    >>> text = "Is it Sydney? Sydney is larger, but Canberra is the capital."
    >>> question = Question("What is the capital of Australia?")
    >>> [text[s.start : s.stop] for s in statements(question, text)]
    [' Sydney is larger, ', 'but Canberra is the capital.']
    """
    result: list[Statement] = []
    begin = None
    for first, stop in sentences(text):
        start, begin = first if begin is None else begin, None
        sentence = text[start:stop]
        if _UNFINISHED.search(sentence) and stop < len(text):
            begin = start
            continue
        is_opinion = _OPINION.search(sentence) and text[stop:].strip()
        if not sentence.strip() or is_opinion or _ASKS.search(sentence) or _is_loop(sentence):
            continue
        words = [replace(t, start=t.start + start, stop=t.stop + start) for t in tokens_of(sentence)]
        words = mark_asked(words, question.tokens)
        bounds = [start, *(start + match.end() for match in _CLAUSE.finditer(sentence)), stop]
        is_first = not result
        for left, right in pairwise(bounds):
            if clause := [t for t in words if left <= t.start < right]:
                result.append(Statement(left, right, clause, is_first))
        if len(result) >= _MAX_STATEMENTS:
            break
    return result


def _is_loop(text: str) -> bool:
    """Return True if the same sequence of four words occurs at least three times in a text."""
    words = regex.findall(r"\w+", text.lower())
    counts = Counter(zip(words, words[1:], words[2:], words[3:], strict=False))
    return any(count >= 3 and len(set(gram)) > 1 for gram, count in counts.items())
