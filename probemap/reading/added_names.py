"""Find the names and the quoted parts that a statement adds to its question.

A word that repeats the question is not added.  Each word of the question is matched once only: in "Canada is the
capital of Canada", the first "Canada" is added.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import regex

from probemap.reading.asked import Kind
from probemap.reading.candidates import DEMONYM, Candidate, name_runs, quoted_parts, trimmed
from probemap.reading.grammar import ARTICLES, BY, COPULAS, FUNCTION, IT_IS, PREPOSITIONS, PRONOUNS
from probemap.reading.tokens import Token, same_word, similarity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from probemap.reading.statements import Statement
    from probemap.reading.tokens import Question

_MONTH = regex.compile(
    r"January|February|March|April|May|June|July|August|September|October|November|December|(?:Mon|Tues|Wednes|Thurs"
    r"|Fri|Satur|Sun)day"
)
_SAME_SPELLING = 0.6
"""Minimum similarity of a word to a word of the question that it spells differently."""


@dataclass(frozen=True)
class AddedNames:
    """The names and quoted parts that the statements of a text add to its question."""

    question: Question
    """The question that the text answers."""
    text: str
    """The answer, without its reasoning."""

    @cached_property
    def _quoted(self) -> list[Candidate]:
        return quoted_parts(self.text)

    def names(self, statement: Statement) -> list[Candidate]:
        """Return the names and the quoted or bold parts that a statement adds to the question."""
        tokens = statement.tokens
        runs = [self._shortened(tokens, i, j) for i, j in name_runs(self.text, tokens)]
        names = [
            trimmed(self.text, tokens[i].start, self._end(tokens[j - 1]), "name")
            for i, j in runs
            if self._is_added_name(tokens, i, j)
        ]
        candidates = [name for name in names if name is not None]
        candidates += [part for part in self._quoted if self._is_added_quotation(statement, part)]
        return [
            c
            for c in candidates
            if not any(o is not c and o.kind != "name" and o.start <= c.start and c.stop <= o.stop for o in candidates)
        ]

    def _shortened(self, tokens: list[Token], i: int, j: int) -> tuple[int, int]:
        """Return the range of a name without its first words if these only describe it."""
        question = self.question
        while i == 0 and j - i > 1 and tokens[i].lower in ARTICLES:
            i += 1
        if not question.is_english:  # "Stadt Pokljuka"
            while j - i > 1 and tokens[i].is_asked and any(same_word(tokens[i], n) for n in question.noun):
                i += 1
        if question.kind is Kind.PERSON:
            while j - i > 2 and DEMONYM.fullmatch(tokens[i].text):
                i += 1
            is_described = i > 0 and tokens[i - 1].text[:1].islower()
            if is_described and j - i > 2 and tokens[i + 1].lower == "von":  # "ein bekanntes Bild von Leonardo"
                i += 2 if tokens[i - 1].lower not in COPULAS | BY | PREPOSITIONS else 0
        return i, j

    def _is_added_name(self, tokens: list[Token], i: int, j: int) -> bool:
        run, following = tokens[i:j], tokens[j] if j < len(tokens) else None
        if len(run) == 1 and _MONTH.fullmatch(run[0].text):
            return False
        if all(t.is_asked or t.is_function for t in run) or self._misspells_question(run):
            return False
        if len(run) == 1 and i and run[0].text.isupper() and self._is_label(tokens, i):
            return False
        if following is None:
            return True
        describes = following.text[:1].islower() and not following.is_function and not self._is_gap(run[-1], following)
        if describes and DEMONYM.fullmatch(run[-1].text):
            return False
        is_short = len(run) == 1 and run[0].text.isupper() and len(run[0].text) < 4
        if describes and is_short and not following.is_asked:  # "TV presenter"
            return False
        return i > 0 or len(run) > 1 or self._is_name_at_begin(run[0], following)

    def _is_label(self, tokens: list[Token], i: int) -> bool:
        """Return True for the abbreviation of a name of the question, as in "the World Bank (WB)", and for "100 AD"."""
        gap = self.text[tokens[i - 1].stop : tokens[i].start]
        is_era = tokens[i].text in ("AD", "BC", "BCE", "CE")
        return is_era or (
            gap == " (" and tokens[i - 1].is_asked and self.text[tokens[i].stop : tokens[i].stop + 1] == ")"
        )

    def _is_name_at_begin(self, token: Token, following: Token) -> bool:
        """Return True if the capitalised word that begins a statement is a name, judged by the word after it."""
        gap = self.text[token.stop : following.start]
        if token.lower in FUNCTION or token.text.endswith("ly"):
            return False
        if "," in gap and (following.lower in PRONOUNS or following.lower in IT_IS):
            return False
        is_subject = following.is_function or following.is_asked or following.text.endswith(("s", "ed"))
        return is_subject or regex.search(r"[,(.]|—|–", gap) is not None

    def _misspells_question(self, run: Sequence[Token]) -> bool:
        """Return True if a name is a different spelling of a name in the question ("Jef Raschin")."""
        if len(run) == 1 or not any(t.repeats for t in run):
            return False
        return all(
            t.is_asked
            or t.is_function
            or any(not q.is_function and similarity(t.folded, q.folded) >= _SAME_SPELLING for q in self.question.tokens)
            for t in run
        )

    def _is_added_quotation(self, statement: Statement, part: Candidate) -> bool:
        inside = [t for t in statement.tokens if part.start <= t.start and t.stop <= part.stop]
        if not statement.start <= part.start < statement.stop or not 0 < len(inside) <= 7:
            return False
        if all(t.is_asked or t.is_function for t in inside):
            return False
        if part.kind == "bold" and any(t.lower in COPULAS for t in inside):
            return False
        return self.question.kind is Kind.THING or any(t.is_capital for t in inside)

    def _end(self, token: Token) -> int:
        """Return the end of a word, including the full stop of an initial or "Jr.", but not a Turkish ending."""
        if self.question.is_turkish and (ending := regex.search(r"['’]\p{Ll}+$", token.text)):
            return token.stop - len(ending[0])
        has_point = self.text[token.stop : token.stop + 1] == "." and regex.fullmatch(r"(?:\p{Lu}|[JS]r)", token.text)
        return token.stop + 1 if has_point else token.stop

    def _is_gap(self, a: Token, b: Token) -> bool:
        return regex.search(r"[,.;:()\n]", self.text[a.stop : b.start]) is not None
