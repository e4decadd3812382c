"""Find what a statement adds to its question: names, values, and noun phrases in lower case."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import regex

from probemap.reading.added_names import AddedNames
from probemap.reading.asked import Kind
from probemap.reading.candidates import DEMONYM, Candidate, trimmed
from probemap.reading.grammar import (
    ARTICLES,
    BOUNDARIES,
    COPULAS,
    EMPTY_NOUNS,
    FUNCTION,
    INDEFINITE,
    PREPOSITIONS,
    PRONOUNS,
)
from probemap.reading.stance import asserted_mentions
from probemap.reading.tokens import Token, refers_to_question, same_word
from probemap.reading.values import find_values

if TYPE_CHECKING:
    from collections.abc import Sequence

    from probemap.reading.statements import Statement

_FIRST_PERSON = frozenset("i we my our i'm i’m we're we’re".split())
_LIGHT = regex.compile(
    r"(?:branch|type|kind|form|style|genre|species|sort|piece|member|field|part|study|name|game|sport)s?\s+of\s+"
    r"(?:the\s+|an?\s+)?",
    regex.IGNORECASE,
)
"""Nouns that only introduce the answer, such as "branch" in "a branch of medicine"."""
_PRAISE = frozenset(
    "unique professional famous renowned popular well-known former retired prominent successful classic".split()
)
_PARTICIPLES = frozenset(
    ("written directed produced known named called located used based made said composed created founded born").split()
)
_PROPER = frozenset(
    (
        "capital capitale hauptstadt city country state town river lake mountain planet currency language continent "
        "island ocean name company band team largest tallest longest highest"
    ).split()
)
"""Nouns for things that have names, so that a description ("a large city") does not answer the question."""
_DEFINES = regex.compile(
    r"\W*(?:what(?:'s|’s)?|qué|que|was|cos'è|что)\s+(?:(?:is|are|was|were|es|son|ist|sind|é|est-ce\s+que)\s+)"
    r"(?:an?\s+|the\s+)?[^?]{1,40}\?*$(?<!\b(?:of|for|in|by|von|de|del|du|do|da|di|des)\b.*)",
    regex.IGNORECASE,
)
_OCCUPATION = regex.compile(
    r"\b(?:occupation|profession|job|do(?:es)? .* do|nationality|kind of|type of|sort of)\b", regex.IGNORECASE
)
_SKIPPED = frozenset(
    "called known as also named actually simply usually just considered probably likely now still currently".split()
)
_ALTERNATIVE = frozenset("or oder ou o или".split())
_AFTER_VERB = regex.compile(
    r"\b(?:is|was|were|are)\s+(?:\w+ly\s+)?(?:(?:in|on|at|about|around)\s+)?(?:the\s+)?[*_\"“]*$", regex.IGNORECASE
)
_NAMED = regex.compile(
    r"\b(?:is|are|was|were|process|type\s+of\s+\w+)\s+(?:called|named|known\s+as)\s+(?:the\s+|an?\s+)?[*_\"“]+$"
)
_TWO_NAMES = regex.compile(r"[*_\"”]+\s+or\s+[*_\"“]")


@dataclass(frozen=True)
class Additions(AddedNames):
    """What the statements of a text add to its question."""

    def asserted(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Return the candidates that the text asserts, in the order of the text.

        Parameters
        ----------
        candidates : sequence of Candidate
            Parts of the text, in any order.
        """
        ordered = sorted(candidates, key=lambda c: (c.start, -c.stop))
        kept = asserted_mentions(self.text, ordered)
        named = [c for c in ordered if c.kind != "name" and c not in kept and self._has_two_names(c)]
        return sorted([*kept, *named], key=lambda c: (c.start, -c.stop)) if named else kept

    def _has_two_names(self, candidate: Candidate) -> bool:
        """Return True for A in 'is called "A" or "B"', where two names of the same thing are given."""
        before, after = self.text[max(0, candidate.start - 30) : candidate.start], self.text[candidate.stop :]
        return _TWO_NAMES.match(after) is not None and _NAMED.search(before) is not None

    def all(self, statement: Statement) -> list[Candidate]:
        """Return all names, values and noun phrases that a statement adds and asserts, in the order of the text."""
        candidates = self.names(statement)
        kinds = (self.question.kind,) if self.question.asks_for_value else (Kind.DATE, Kind.QUANTITY)
        for kind in kinds:
            candidates += self._values(statement, kind)
        candidates += [p for p in (self.subject(statement), self.phrase(statement)) if p is not None]
        by_place = {(c.start, c.stop): c for c in candidates if not all(t.is_asked for t in statement.within(c))}
        return self.asserted(list(by_place.values()))

    # --- values ---

    def value(self, statement: Statement) -> Candidate | None:
        """Return the date or the number that a statement adds, of the kind that the question asks for."""
        added = [
            c
            for c in self._values(statement, self.question.kind)
            if not statement.within(c) or not all(t.is_asked for t in statement.within(c))
        ]
        added = [c for c in self.asserted(added) if not self._is_in_parentheses(c)]
        if not added or not (statement.is_first or any(t.repeats for t in statement.tokens)):
            return None
        if self.question.kind is Kind.NUMBER:
            # "In 2016, there were 12 of them": a year after "in" is not a count.
            counts = [
                c for c in added if not regex.search(r"\b(?:in|since|by|as of)\s+$", self.text[: c.start], regex.I)
            ]
            added = counts or added
        behind_verb = [c for c in added if _AFTER_VERB.search(self.text[statement.start : c.start])]
        return (behind_verb or added)[0]

    def _values(self, statement: Statement, kind: Kind) -> list[Candidate]:
        values = find_values(self.text[statement.start : statement.stop], kind)
        return [Candidate(v.start + statement.start, v.stop + statement.start, v.kind) for v in values]

    def _is_in_parentheses(self, candidate: Candidate) -> bool:
        before = self.text[: candidate.start]
        return before.rfind("(") > before.rfind(")") and bool(before[: before.rfind("(")].strip())

    def only_repeats(self, statement: Statement, candidate: Candidate) -> bool:
        """Return True if a candidate has only words of the question, even if these also occur elsewhere."""
        words = [t for t in statement.within(candidate) if not t.is_function]
        return all(any(same_word(t, q) for q in self.question.tokens) for t in words)

    # --- noun phrases ---

    def subject(self, statement: Statement) -> Candidate | None:
        """Return the noun phrase that begins a statement about the question: "Carbon dioxide is the gas …"."""
        tokens = statement.tokens
        if tokens[0].is_asked or not self.question.is_english:
            return None
        i = j = int(tokens[0].lower in ARTICLES)
        while j < len(tokens) and not (tokens[j].is_function or tokens[j].is_asked):
            if j > i and self._is_gap(tokens[j - 1], tokens[j]):
                break
            j += 1
        if not i < j <= i + 4 or not any(t.repeats for t in tokens[j:]):
            return None
        is_modifier = tokens[j].is_asked and (
            not tokens[j].text[:1].islower() or any(same_word(tokens[j], n) for n in self.question.noun[:2])
        )
        if is_modifier and not self._is_gap(tokens[j - 1], tokens[j]):  # "the primary gas"
            return None
        if any(same_word(tokens[j - 1], n) for n in self.question.noun):
            return None
        if not any(t.lower in COPULAS or t.is_asked for t in tokens[j : j + 6]):
            return None
        if not (tokens[j].lower in COPULAS or tokens[j].is_asked or self._is_gap(tokens[j - 1], tokens[j])):
            return None
        return self._asserted_phrase(tokens[i].start, tokens[j - 1].stop)

    def phrase(self, statement: Statement) -> Candidate | None:
        """Return the noun phrase that follows the verb of a statement about the question."""
        tokens = statement.tokens
        is_short = len(tokens) <= 5 and not any(t.repeats or t.lower in COPULAS | PRONOUNS for t in tokens)
        if statement.is_first and is_short:
            return self._phrase_at(tokens, 0)
        asks_you = regex.search(r"\byou\b", self.question.text, regex.IGNORECASE)
        for i, t in enumerate(tokens):
            if t.lower in _FIRST_PERSON and not asks_you:
                return None
            is_copula = t.lower in COPULAS and refers_to_question(tokens[:i], statement.is_first)
            if is_copula and (self.describes_other(tokens[:i]) or self._describes_noun(tokens, i)):
                return None
            describes = is_copula and i + 1 < len(tokens) and tokens[i + 1].lower in INDEFINITE
            if describes and not self.takes_description(tokens[:i], tokens[i + 2 :]):
                return None
            if (is_copula or self._is_verb(tokens, i)) and (phrase := self._phrase_at(tokens, i + 1)):
                return phrase
        return None

    def agent(self, statement: Statement) -> Candidate | None:
        """Return the noun phrase or name after "by" and a verb of the question: "was founded by the government"."""
        tokens = statement.tokens
        for i in range(2, len(tokens) - 1):
            is_passive = tokens[i - 1].repeats and any(t.lower in COPULAS for t in tokens[max(0, i - 3) : i - 1])
            if tokens[i].lower == "by" and is_passive and any(t.repeats for t in tokens[: i - 2]):
                phrase = self.noun_phrase(statement, i + 1)
                return self._asserted_phrase(phrase[0].start, phrase[-1].stop) if phrase else None
        return None

    def describes_other(self, subject: Sequence[Token]) -> bool:
        """Return True if a statement is about a name in the question instead of the noun that the question asks for.

        An example is "Quick is a song" as an answer to "What genre is Quick?".
        """
        noun = self.question.noun
        if (
            not noun
            or any(t.lower in ("name", "names", "title", "titles") for t in noun)
            or _OCCUPATION.search(self.question.text)
        ):
            return False
        asked = [t for t in subject if t.repeats]
        is_name = bool(asked) and all(t.is_capital for t in asked)
        return is_name and not any(same_word(t, n) for t in subject for n in noun)

    def _describes_noun(self, tokens: list[Token], i: int) -> bool:
        """Return True for a description of the noun of the question alone: "Metal is a material"."""
        subject = [t for t in tokens[:i] if not t.is_function]
        noun = self.question.noun
        is_article = i + 1 < len(tokens) and tokens[i + 1].lower in ARTICLES
        is_noun = bool(subject) and all(any(same_word(t, n) for n in noun[:1]) for t in subject)
        return is_noun and is_article and len(noun) + len(self.question.content) > 1

    def _is_verb(self, tokens: list[Token], i: int) -> bool:
        """Return True if a word repeats the question, and a word that the question lacks follows ("plays football")."""
        token = tokens[i]
        if token.lower == "for" and token.is_asked:
            return refers_to_question(tokens[:i], False)
        if token.lower in self.question.prepositions and i and tokens[i - 1].repeats:
            return True
        if not (self.question.is_english and token.repeats and token.text[:1].islower() and 0 < i < len(tokens) - 1):
            return False
        following = tokens[i + 1]
        after = tokens[i + 2] if i + 2 < len(tokens) else None
        is_verb = following.text.endswith(("s", "ed")) and after is not None and after.is_function  # "model belongs to"
        is_noun = any(same_word(token, n) for n in self.question.noun[:1])
        if is_verb or is_noun or following.lower in _FIRST_PERSON:
            return False
        return not (following.is_asked or following.is_function or self._is_gap(token, following))

    def takes_description(self, subject: Sequence[Token], complement: Sequence[Token]) -> bool:
        """Return True if a phrase such as "a singer" answers the question instead of only describing its subject.

        Parameters
        ----------
        subject, complement : sequence of Token
            The words before the verb, and the words after the indefinite article.
        """
        if _OCCUPATION.search(self.question.text):
            return True
        noun = self.question.noun
        if _DEFINES.match(self.question.text) or any(t.lower in _PROPER for t in noun):
            return False  # the answer is a whole definition, or a name
        if any(same_word(t, n) for t in [*subject, *complement[:2]] for n in noun):
            return True
        is_light = bool(complement) and _LIGHT.match(self.text[complement[0].start :]) is not None
        return is_light and "stud" in self.question.text

    def noun_phrase(self, statement: Statement, i: int) -> list[Token]:
        """Return the noun phrase that begins at word i, without its article and words such as "famous"."""
        i = self._phrase_start(statement.tokens, i)
        return statement.tokens[i : self._phrase_end(statement.tokens, i)]

    def _phrase_start(self, tokens: list[Token], i: int) -> int:
        """Return the index after the article and the words of origin and praise at word i."""
        is_description = i < len(tokens) and tokens[i].lower in INDEFINITE
        while i < len(tokens) and (tokens[i].lower in ARTICLES or tokens[i].lower in _SKIPPED):
            i += 1
        while is_description and i + 1 < len(tokens):
            following = tokens[i + 1]
            is_origin = DEMONYM.fullmatch(tokens[i].text) or tokens[i].text.isdigit() or tokens[i].lower in _PRAISE
            if not is_origin or following.is_function:
                break
            i += 1
        return i

    def _phrase_at(self, tokens: list[Token], i: int) -> Candidate | None:
        """Return the noun phrase that begins at word i, without its article, if it adds something to the question."""
        i = self._phrase_start(tokens, i)
        j = self._phrase_end(tokens, i)
        if i < j and tokens[i].is_asked and tokens[i].text.endswith("ing"):  # "studying the human body"
            i += 1
            while i < j and tokens[i].lower in ARTICLES:
                i += 1
        phrase = tokens[i:j]
        if not 0 < len(phrase) <= 6 or phrase[0].lower in EMPTY_NOUNS:
            return None
        if all(t.is_asked or t.is_function for t in phrase):
            return None
        asked = self.question.tokens
        if len(phrase) > 1 and all(t.is_function or any(same_word(t, q) for q in asked) for t in phrase):
            return None
        if len(phrase) == 1 and any(same_word(phrase[0], n) for n in self.question.noun[:1]):
            return None
        is_participle = phrase[0].text.endswith("ed") or phrase[0].lower in _PARTICIPLES
        if len(phrase) == 1 and (is_participle or phrase[0].text.endswith("ing")):
            return None
        if len(phrase) > 1 and is_participle and phrase[1].lower in PREPOSITIONS | {"up"}:  # "composed of three layers"
            return None
        if j < len(tokens) and tokens[j].lower in _ALTERNATIVE:
            return None
        is_adjective = (
            len(phrase) == 1 and [t.lower for t in tokens[j : j + 1]] == ["and"] and tokens[i - 1].lower in INDEFINITE
        )
        if is_adjective and len(self._run(tokens, j + 1)) > 1:  # "a dark and complex genre"
            return None
        start, stop = phrase[0].start, phrase[-1].stop
        if light := _LIGHT.match(self.text[start:stop]):
            start += len(light[0])
        return self._asserted_phrase(start, stop)

    def _phrase_end(self, tokens: list[Token], i: int) -> int:
        """Return the index after the last word of the noun phrase that begins at word i."""
        j = i
        while j < len(tokens):
            t = tokens[j]
            if j > i and regex.search(r"[,.;:()\n]|—|\s[-–]\s", self.text[tokens[j - 1].stop : t.start]):
                break
            if t.lower in BOUNDARIES or t.lower in COPULAS or t.lower in PRONOUNS:
                break
            if t.is_asked and any(not x.is_asked and not x.is_function for x in tokens[i:j]):
                break
            if (t.lower in PREPOSITIONS and t.lower not in ("of", "de")) or (j == i and t.is_function):
                break
            j += 1
        while j > i and (tokens[j - 1].lower in FUNCTION or (j > i + 1 and tokens[j - 1].lower in _PARTICIPLES)):
            j -= 1
        return j

    def _run(self, tokens: list[Token], i: int) -> list[Token]:
        j = i
        while j < len(tokens) and not tokens[j].is_function and not (j > i and self._is_gap(tokens[j - 1], tokens[j])):
            j += 1
        return tokens[i:j]

    def _asserted_phrase(self, start: int, stop: int) -> Candidate | None:
        phrase = trimmed(self.text, start, stop, "phrase")
        return phrase if phrase and self.asserted([phrase]) else None
