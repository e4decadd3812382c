"""Locate the exact answer to an open question by rules, without the accepted answers.

The exact answer is what a text adds to the question in its first statement about it.  It is a name, a date, a number or
a noun phrase at a place where the answer is expected, e.g. after "is", after "by", or before the verb of the question.
Nothing is located if there is no such place.
"""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING

import regex

from probemap.reading.added import Additions
from probemap.reading.alternatives import compares_differently, conclusion_start, offered_answers
from probemap.reading.asked import Kind
from probemap.reading.asserted import own_length
from probemap.reading.candidates import DEMONYM, Candidate
from probemap.reading.closed_set import asserted_name
from probemap.reading.continued import continued_answer
from probemap.reading.described import described_kind
from probemap.reading.grammar import ARTICLES, BOUNDARIES, BY, COPULAS, INDEFINITE, IT_IS, PREPOSITIONS, PRONOUNS
from probemap.reading.refusal import final_refusal
from probemap.reading.statements import Statement, statements
from probemap.reading.tokens import ANSWER_WORDS, Question, Token, refers_to_question, same_word
from probemap.reading.uncased import added_part, is_uncased
from probemap.reading.whole import whole_answer

if TYPE_CHECKING:
    from collections.abc import Sequence

_MAX_STATEMENTS = 6
_ANNOUNCED = regex.compile(
    r"[\s*_]*(?:(?:the\s+)?(?:final\s+|short\s+)?answer(?:\s+is)?|a|antwort|respuesta|réponse|risposta|resposta|ответ"
    r"|assistant|答案|答|回答)[*_]*\s*[:：][*_]*\s*(?=\S)",
    regex.IGNORECASE,
)
_LABEL = regex.compile(
    r"\W*(yes|no|oui|non|sí|si|ja|nein|sim|não|да|нет|nee|nej|kyllä|ei|नहीं|हाँ|हां|نعم|لا|はい|いいえ|是的|不是)"
    r"(?=[\s,.;:!،。，]|$)",
    regex.IGNORECASE,
)
_LIST_ITEM = regex.compile(r"^\s*(?:\d+[.)]|[-*•])\s+\S", regex.MULTILINE)
_LIST_IN_LINE = regex.compile(r"\s*1\.\s.*\s2\.\s")
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
_ORDER = ("whole", "naming", "noun", "copula", "start", "phrase", "agent", "preposition", "object")
"""The places where an answer may occur, from the most to the least certain place."""
_ORDER_OF_THINGS = ("whole", "naming", "noun", "copula", "start", "phrase", "preposition", "object", "agent")


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
        found = locate_open(question, text[announced.end() :])
        return None if found is None else (found[0] + announced.end(), found[1] + announced.end())
    if _says_nothing(text):
        return None
    if offered := offered_answers(question):
        start = conclusion_start(text)
        if compares_differently(question, text[start:]):
            return None
        if concluded := asserted_name(text[start:], offered):
            return concluded.start + start, concluded.stop + start
        asserted = asserted_name(text, offered)
        return None if asserted is None else (asserted.start, asserted.stop)
    asked = Question(question)
    if asked.kind is Kind.YES_NO or (asked.kind is Kind.THING and not asked.has_question_word):
        label = _LABEL.match(text)
        if label or asked.kind is Kind.YES_NO:
            return label.span(1) if label else None
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
    for statement in found[:_MAX_STATEMENTS]:
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
    said = sum(any(same_word(t, c) for t in statement.tokens) for c in content)
    return 2 * said > len(content)


def _placed(additions: Additions, statement: Statement) -> Candidate | None:
    """Return the candidate at the most certain place in a statement."""
    kind = additions.question.kind
    by_place: dict[str, Candidate] = {}
    for candidate in additions.asserted(additions.names(statement)):
        place = _Place(additions, statement, candidate).name()
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
    order: tuple[str, ...] = _ORDER_OF_THINGS if kind is Kind.THING else _ORDER
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
    if not regex.search(
        r"\b(?:country|nation|state|país|pays|land|paese)\b", additions.question.text, regex.IGNORECASE
    ):
        return place
    following = regex.match(
        r"[*_]*,\s+[*_]*(\p{Lu}[\p{L}-]+(?:\s\p{Lu}[\p{L}-]+)*)(?=[*_]*(?:[.,;)\n]|$))", additions.text[place.stop :]
    )
    if following is None:
        return place
    return Candidate(place.stop + following.start(1), place.stop + following.end(1), "name")


class _Place:
    """The place of a candidate in its statement, determined by the words around it."""

    def __init__(self, additions: Additions, statement: Statement, candidate: Candidate) -> None:
        self.additions, self.statement, self.candidate = additions, statement, candidate
        self.question, self.text = additions.question, additions.text
        self.before, self.after = statement.before(candidate), statement.after(candidate)
        self.content = [t for t in self.before if t.lower not in ARTICLES]
        self.crosses_scripts = is_uncased(self.question.text) and not is_uncased(self.text)
        self.gap = self.text[(self.before[-1].stop if self.before else statement.start) : candidate.start]

    def name(self) -> str | None:
        """Return the name of the place, one of `_ORDER`, or None if an answer is not expected there."""
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
        if known := _KNOWN_AS.search(self.text[self.statement.start : self.candidate.start]):
            return known[1] is None and not self._is_about_other()
        return (
            bool(words) and words[-1] in ANSWER_WORDS and regex.fullmatch(r"[*_\s]*:[*_\s\"“]*", self.gap) is not None
        )

    def _is_about_other(self) -> bool:
        """Return True if the name belongs to a clause about something else: ", which is a film about a man named Kim"."""
        before = self.text[self.statement.start : self.candidate.start]
        return _ASIDE.search(before) is not None

    def _follows_noun(self) -> bool:
        """Return True after the noun that the question asks for: "in the city of Lyon", "the novel Emma"."""
        content, noun = self.content, self.question.noun[:3]
        if not content:
            return False
        before, follows = self.text[self.statement.start : self.candidate.start], self.after[:1]
        if self.statement.is_first and self.question.kind is Kind.THING and _SPECIFIES.search(before):
            return True
        if self.before[-1].lower in self.question.prepositions | ARTICLES and self.question.prepositions:
            if any(same_word(t, n) and t.text[:1].islower() for t in follows for n in noun[:1]):
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

    def _object_place(self, head: Token | None) -> str | None:
        """Return the name of the place of a candidate that follows words of the question, or None."""
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
