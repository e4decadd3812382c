"""Classify the place of a candidate in its statement.

Some places are more certain to hold the answer than others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import regex

from probemap.reading.asked import Kind
from probemap.reading.candidates import DEMONYM, is_uncased
from probemap.reading.grammar import ARTICLES, BOUNDARIES, BY, COPULAS, INDEFINITE, IT_IS, PREPOSITIONS, PRONOUNS
from probemap.reading.tokens import ANSWER_WORDS, refers_to_question, same_word

if TYPE_CHECKING:
    from collections.abc import Sequence

    from probemap.reading.added import Additions
    from probemap.reading.candidates import Candidate
    from probemap.reading.statements import Statement
    from probemap.reading.tokens import Token

_NAMING = frozenset(
    (
        "called named titled entitled dubbed nicknamed namely llamado llamada llama llamaba genannt namens heißt hieß "
        "lautet appelé appelée nommé nommée chamado chamada chama chiamato chiamata chiama называется называют adlı "
        "denir hedder"
    ).split()
)
_KNOWN_AS = regex.compile(
    r"\b(also\s+)?(?:known\s+as|referred\s+to\s+as|by\s+the\s+name\s+of)\s+(?:the\s+|an?\s+)?[*_\"“‘'«]*$",
    regex.IGNORECASE,
)
_ASIDE = regex.compile(r",\s+(?:(?:which|who|whose)\b[^,;]*|known\s+as[^,;]*)$", regex.IGNORECASE)
_SPECIFIES = regex.compile(
    r",\s+(?:more\s+)?specifically\s+(?:(?:an?|the)\s+)?(?:(?:type|kind|form|species|breed)\s+of\s+)?[*_\"“]*$"
)
_OF = frozenset("of de di da do du del von des der dei degli della".split())
_TRANSPARENT = frozenset("and y et und e и none other than also no to".split())
"""Words that may occur between a verb and the name that it introduces."""


PlaceKind = Literal["whole", "naming", "noun", "copula", "start", "phrase", "agent", "preposition", "object"]
"""Kinds of places: the whole statement, after a word such as "named", after the noun of the question, after "is", at
the start of the statement, a noun phrase that is no name, after "by", after a preposition of the question, and after
other words of the question."""


class Place:
    """The place of a candidate in its statement, determined by the words around it.

    Parameters
    ----------
    additions : Additions
        What the text adds to the question.
    statement : Statement
    candidate : Candidate
        A part of the statement.
    """

    def __init__(self, additions: Additions, statement: Statement, candidate: Candidate) -> None:
        self.additions, self.statement, self.candidate = additions, statement, candidate
        self.question, self.text = additions.question, additions.text
        self.before, self.after = statement.before(candidate), statement.after(candidate)
        self.content = [t for t in self.before if t.lower not in ARTICLES]
        self.crosses_scripts = is_uncased(self.question.text) and not is_uncased(self.text)
        self.gap = self.text[(self.before[-1].stop if self.before else statement.start) : candidate.start]

    def kind(self) -> PlaceKind | None:
        """Return the kind of the place, or None if an answer is not expected there."""
        is_person = self.question.kind is Kind.PERSON
        if not self.content and not self.after:
            return "whole"
        if self._is_named():
            renames = is_person and len(self.content) > 1 and self.content[-2].repeats
            renames = renames and not any(t.lower in BY for t in self.content[-6:-2])
            return None if renames else "naming"
        if self._follows_noun():
            return "noun"
        if self.before and regex.fullmatch(r"\s[—–-]\s[*_\"“«]*", self.gap) and refers_to_question(self.before, False):
            return "copula"
        k = self._description_start()
        head = self.before[k - 1] if k else None
        if head is not None and self._is_linked(head, self.before[: k - 1]):
            if self.question.kind is Kind.THING and self.additions.describes_other(self.before[: k - 1]):
                return None
            return "copula" if self._identifies(head, self.before[: k - 1], self.before[k:]) else None
        if is_person and any(t.lower in ("i", "we", "my", "our") for t in self.before):
            return None
        is_attributed = k > 1 and [t.lower for t in self.before[k - 2 : k]] in (
            ["attributed", "to"],
            ["credited", "to"],
        )
        if is_attributed and is_person and self._mentions_question():
            return "agent"
        if head is not None and head.lower in BY:
            is_agent = not self._describes_instead() and (is_person or self._mentions_question())
            return "agent" if is_agent else None
        if self._is_subject(k):
            return "start"
        if (
            is_person
            and k == 0
            and self.before
            and self.statement.is_first
            and regex.match(r"[*_\"”]*(?:\.?\s*$|,)", self.text[self.candidate.stop : self.statement.stop])
            and self.before[-1].text[:1].islower()
        ):
            return "whole"  # "The French painter Claude Monet."
        if self._is_with_addition() or (
            len(self.before) <= 2 and not self.after and not any(t.is_asked for t in self.before)
        ):
            return "whole"
        return self._object_place(head)

    def _is_named(self) -> bool:
        """Return True after "called", "known as" or "the answer:", but not after "also called"."""
        words = [t.lower for t in self.content[-3:]]
        if words and words[-1] in _NAMING:
            return "also" not in words and not self._is_about_other()
        if introduction := _KNOWN_AS.search(self.text[self.statement.start : self.candidate.start]):
            return introduction[1] is None and not self._is_about_other()
        return (
            bool(words) and words[-1] in ANSWER_WORDS and regex.fullmatch(r"[*_\s]*:[*_\s\"“]*", self.gap) is not None
        )

    def _is_about_other(self) -> bool:
        """Return True in a clause about something else: ", which is a film about a man named Kim"."""
        before = self.text[self.statement.start : self.candidate.start]
        return _ASIDE.search(before) is not None

    def _follows_noun(self) -> bool:
        """Return True after the noun that the question asks for: "in the city of Lyon", "the novel Emma"."""
        content, noun = self.content, self.question.noun[:2]
        if not content:
            return False
        if self._is_about_other():
            return False
        before, follows = self.text[self.statement.start : self.candidate.start], self.after[:1]
        if self.statement.is_first and self.question.kind is Kind.THING and _SPECIFIES.search(before):
            return True
        is_kind = any(same_word(t, n) and t.text[:1].islower() for t in follows for n in noun[:1])
        prepositions = self.question.prepositions
        if is_kind and prepositions and self.before[-1].lower in prepositions | ARTICLES:
            return True  # "in the Hindu religion"
        gap = self.text[content[-1].stop : self.candidate.start]
        is_apposition = regex.fullmatch(r",\s+(?:the\s+)?[*_\"“]*", gap) and regex.match(
            r"[*_\"”]*[,.]", self.text[self.candidate.stop :]
        )
        if not is_apposition and regex.search(r"[.;:(),]", gap):
            return False
        if any(same_word(content[-1], n) for n in noun):
            return True
        if (
            self.question.kind is Kind.PERSON
            or len(content) < 2
            or content[-1].lower not in _OF
            or not any(same_word(content[-2], n) for n in noun)
            or (self.after and self.after[0].lower in COPULAS)  # "the capital of Peru is"
        ):
            return False
        words = self.statement.within(self.candidate)
        return not all(any(same_word(t, q) for q in self.question.tokens) for t in words)

    def _description_start(self) -> int:
        """Return the index of the first word that describes the candidate: "by *the Italian painter* …"."""
        before, n_described = self.before, 0
        k = len(before)
        while k and n_described <= 8:
            t = before[k - 1]
            gap = self.text[t.stop : before[k].start if k < len(before) else self.candidate.start]
            if regex.search(r"[.;:(\n]|—", gap) or ("," in gap and k < len(before)):
                break
            if t.lower in COPULAS or t.lower in PREPOSITIONS or t.lower in BY:
                break
            if t.lower not in _TRANSPARENT:
                if t.lower in BOUNDARIES or t.lower in PRONOUNS:
                    break
                is_other_name = t.is_capital and t.lower not in ARTICLES and not DEMONYM.fullmatch(t.text)
                if is_other_name and k > 1 and not t.is_asked:
                    break
                n_described += t.lower not in ARTICLES
            k -= 1
        return k

    def _is_linked(self, head: Token, subject: Sequence[Token]) -> bool:
        if head.lower not in COPULAS or any(regex.match(r"i['’]", t.lower) for t in subject):
            return False
        is_first = self.statement.is_first
        if is_first and self.crosses_scripts:
            return True
        if is_first and subject and any(same_word(subject[-1], t) for t in self.question.content):
            return True
        return refers_to_question(subject, is_first) or (head.lower in IT_IS and is_first)

    def _identifies(self, copula: Token, subject: Sequence[Token], described: Sequence[Token]) -> bool:
        """Return False if the words after a copula only describe its subject: "a French composer"."""
        if not described or described[0].lower not in INDEFINITE or copula.lower in IT_IS:
            return True
        return self.question.kind is not Kind.PERSON and self.additions.takes_description(subject, described[1:])

    def _describes_instead(self) -> bool:
        """Return True if the statement describes what is asked for: "The author of Cats is a film directed by …"."""
        for i, t in enumerate(self.before[:-1]):
            if t.lower in COPULAS and self.before[i + 1].lower in INDEFINITE:
                return any(same_word(x, n) for x in self.before[:i] for n in self.question.noun)
        return False

    def _mentions_question(self) -> bool:
        return any(t.repeats for t in self.before) or bool(self.before and self.before[0].lower in PRONOUNS | IT_IS)

    def _is_subject(self, k: int) -> bool:
        """Return True if the candidate begins a clause, and the words after it repeat the question."""
        if self.crosses_scripts and self.statement.is_first and not self.content and self.after:
            return self.after[0].lower in COPULAS
        if any(t.repeats for t in self.before) or not any(t.repeats for t in self.after):
            return False
        if regex.match(r"['’]s\b", self.text[self.candidate.stop :]):
            return False
        begins_clause = k == 1 and self.before[0].lower in BOUNDARIES
        if (
            k
            and not begins_clause
            and not regex.search(r"[,:]", self.text[self.before[k - 1].stop : self.candidate.start])
        ):
            return False
        if self.question.asks_for_object and self.after[0].lower not in COPULAS:
            return False
        if any(same_word(t, n) for t in self.after for n in self.question.noun):
            return True
        content = self.question.content
        return 3 * sum(any(same_word(t, c) for t in self.after) for c in content) >= len(content)

    def _is_with_addition(self) -> bool:
        """Return True if the first statement consists of the candidate and a short addition: "Khartoum, Sudan"."""
        if not self.statement.is_first or self.before:
            return False
        if any(t.lower in COPULAS | PRONOUNS or t.is_asked for t in self.after[:5]):
            return False
        return regex.match(r"[\"”*_'’]*\s*(?:[,(\n–—-]|$)", self.text[self.candidate.stop :]) is not None

    def _object_place(self, head: Token | None) -> PlaceKind | None:
        """Return the kind of the place of a candidate that follows words of the question, or None."""
        last = max((i for i, t in enumerate(self.before) if t.repeats), default=-1)
        question = self.question
        if question.kind is Kind.PERSON:
            follows_verb = head is not None and (head.is_asked or head.lower in COPULAS)
            is_near = len(self.before) - last <= 5 and head is not None and head.lower in ("to", "for", "a", "à")
            if not follows_verb and not is_near:
                return None
        if not self._mentions_question() or any(t.lower in BOUNDARIES for t in self.before[last + 1 :]):
            return None
        if head is not None and head.lower in question.prepositions:
            return "preposition"
        if question.kind is Kind.THING and last >= 0 and len(self.before) - last > 4:
            return None  # the candidate is too far from the words of the question
        is_word = " " not in self.text[self.candidate.start : self.candidate.stop]
        if question.kind is Kind.THING and question.is_german and self.candidate.kind == "name" and is_word:
            return None  # every German noun begins with a capital
        return "object"
