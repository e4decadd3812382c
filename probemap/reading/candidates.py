"""Parts of a text that could be the answer to a question: names, titles, dates, numbers and noun phrases.

A candidate is what the text adds to the question.  Words of the question are not added, and each word of the question
accounts for one occurrence only: in "Canada is the capital of Canada", the first Canada is added.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache
from typing import TYPE_CHECKING

import regex

from probemap.reading.asked import Kind
from probemap.reading.dates import find_dates
from probemap.reading.folding import fold
from probemap.reading.numbers import find_numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

COPULAS = frozenset(
    "it's that's he's she's there's c'est c’est it’s that’s is was are were be been being isn't wasn't 's becomes became remains means es fue era son está ser est était sont fut "
    "ist war sind heißt lautet wurde é foi è fu это является был была было są jest är var stato stata stati state été sido gewesen sind seien".split()
)
ARTICLES = frozenset(
    "the a an el la los las un una le les l l' der die das den dem des ein eine einen einem os o as um uma il lo gli i uno"
    " het een".split()
)
PRONOUNS = frozenset(
    "ich je j'ai yo eu io я wir nous it he she they this that these those his her its their there i you we es er sie c'est c ce él ella ele ela il elle "
    "он она оно это".split()
)
PREPOSITIONS = frozenset(
    "of in on at for with from to into through by during after before between under over near about around since until "
    "as against among across behind inside outside within without de del di da do du des dal dalla della dello à au aux en"
    " em na no nos nas dans sur pour par por con com mit von vom zu zum zur im am auf für durch bei nach in в во на из от "
    "для с со по к у о об van bij met".split()
)
BOUNDARIES = frozenset(
    "that which who whom whose where when while because although though but and or so however if than then also y e et und"
    " que qui quien der où donde wo mais aber pero и или но которая который".split()
)
OTHERS = frozenset(
    "not no yes none other than only just more most very actually currently generally commonly often usually typically "
    "known called named located situated officially originally famous approximately roughly exactly some any all "
    "both each first last has have had do does did will would can could may might must shall there here what which who "
    "when where why how whom answer correct question based according sure certainly well ok okay great however therefore "
    "thus hence indeed here's also one nicht niet inte ikke não pas ne не değil rather unlike neither contrary instead surprisingly selon cependant "
    "toutefois ensuite après según embargo laut jedoch aber dans pour ses son sa leur leurs actuellement en dans keine kein "
    "каждая каждый каждое все этот эта эти sí si oui non ja nein нет да as per my knowledge".split()
)
_ENGLISH = frozenset(
    "a an the it he she they this that these those his her its their there i you we is was are were be been of in on at "
    "for with from to into by during after before as and or but not no yes none other than only what which who when where "
    "how some any all both each first last has have had do does did will would can could may might must here also one"
    .split()
)
FUNCTION = COPULAS | ARTICLES | PRONOUNS | PREPOSITIONS | BOUNDARIES | OTHERS

_WORD = regex.compile(
    r"(?P<number>[$€£¥]?\d+(?:[.,:]\d+)*(?:st|nd|rd|th|s)?\b%?|[$€£¥]?\d+(?:[.,]\d+)*%?)"
    r"|(?P<initials>(?:\p{Lu}\.\s?){1,4}(?=[\s\p{Lu}),;]|$)(?:\p{Lu}\b\.?(?!\w))?)"
    r"|(?P<title>(?:Mr|Mrs|Ms|Dr|St|Prof|Sr|Jr|Mt|Gen|Lt|Capt)\.)"
    r"|(?P<word>\p{L}[\p{L}\p{M}\d]*(?:['’‑-][\p{L}\p{M}\d]+)*)"
)
_JOINTS = frozenset(
    "of the de la le du des da do dos del della di van von der den zu and et y e & bin ibn al el las los ter ten af av"
    " for in to on a an at à".split()
)
_WEAK_JOINTS = frozenset("the and et y e for in to on a an at à le la".split())
"""Joints that must stand inside a longer name or after another joint."""
DEMONYM = regex.compile(
    r"\p{Lu}[\p{L}-]*(?:ian|can|ean|ese|ish|French|Dutch|Greek|Swiss|Czech|German|Roman|Norman|Arab|Israeli|Iraqi|Welsh|Thai|Latin)"
    r"|French|Dutch|Greek|Swiss|Czech|German|Welsh|Thai|Jewish|Renaissance|Victorian|Olympic|Academy|British-\w+"
)


@dataclass(frozen=True)
class Token:
    """A word of a text, ``text[start:stop]``."""

    start: int
    stop: int
    text: str
    folded: str
    is_asked: bool = False
    """True if the word repeats a word of the question."""

    @property
    def lower(self) -> str:
        """The word in small letters, with its accents."""
        return self.text.lower()

    @property
    def is_function(self) -> bool:
        """True if the word has a grammatical function only.

        Of the words in capitals, only English ones count, because "Au", "Die" and "Las" may be parts of names.
        """
        return self.lower in (_ENGLISH if self.is_capital else FUNCTION)

    @property
    def is_capital(self) -> bool:
        """True if the word starts with a capital letter or a digit."""
        return self.text[:1].isupper()


@dataclass(frozen=True)
class Candidate:
    """A part of a text that could be an answer, ``text[start:stop]``."""

    start: int
    stop: int
    kind: str
    """``name``, ``quoted``, ``bold``, ``date``, ``number`` or ``phrase``."""


def tokens_of(text: str) -> list[Token]:
    """Return the words of a text, without punctuation and markup."""
    tokens = []
    for match in _WORD.finditer(text):
        start, stop = match.span()
        while text[stop - 1].isspace():
            stop -= 1
        word = text[start:stop]
        if word.lower() not in COPULAS and (possessive := regex.search(r"['’]s$", word)):
            stop -= len(possessive[0])
            word = text[start:stop]
        tokens.append(Token(start, stop, word, fold(word)[0]))
    return tokens


_SIMILAR = 0.82
"""Models misspell the names of a question; "Cillerulo" repeats "Cilleruelo"."""


@lru_cache(maxsize=65536)
def similarity(a: str, b: str) -> float:
    """Return the similarity of two words, between 0 and 1."""
    return SequenceMatcher(None, a, b, autojunk=False).ratio()


def same_word(a: Token, b: Token) -> bool:
    """Return True if two words are equal, or differ in a short ending only ("plays" and "play")."""
    first, second = a.folded, b.folded
    if first == second:
        return True
    if a.is_capital and b.is_capital and regex.match(r"\p{Cyrillic}", first):
        return min(len(first), len(second)) > 3 and first[:-2][:4] == second[:4] and abs(len(first) - len(second)) < 3
    is_extended = first.startswith(second) or second.startswith(first)  # Brasil, Brasília
    if not is_extended and min(len(first), len(second)) > 5 and first[0] == second[0] and similarity(first, second) >= _SIMILAR:
        return True
    if a.is_capital and b.is_capital:
        return first.rstrip("s'’") == second.rstrip("s'’") and min(len(first), len(second)) > 3
    short, long = sorted((first, second), key=len)
    if len(short) < 4 or len(long) - len(short) > 3:
        return False
    return long.startswith(short) or (len(short) >= 5 and long[: len(short) - 1] == short[:-1])


def mark_asked(tokens: Sequence[Token], question: Sequence[Token]) -> list[Token]:
    """Mark the words that repeat the question.

    The longest common runs of words are matched first, and each word of the question is used once.  Function words are
    matched only inside a run.
    """
    free_text, free_question = [True] * len(tokens), [True] * len(question)
    runs = []
    for i in range(len(tokens)):
        for j in range(len(question)):
            if not same_word(tokens[i], question[j]):
                continue
            if i and j and same_word(tokens[i - 1], question[j - 1]):
                continue
            n = 1
            while i + n < len(tokens) and j + n < len(question) and same_word(tokens[i + n], question[j + n]):
                n += 1
            weight = sum(not tokens[i + k].is_function for k in range(n))
            if weight:
                runs.append((-weight, -n, i, j))
    for _, length, i, j in sorted(runs):
        for k in range(-length):
            if free_text[i + k] and free_question[j + k]:
                free_text[i + k] = free_question[j + k] = False
    return [
        Token(t.start, t.stop, t.text, t.folded, is_asked=not free) for t, free in zip(tokens, free_text, strict=True)
    ]


_QUOTED = regex.compile(r"[\"“„«『「]([^\"“”„«»『』「」\n]{1,80}?)[\"”“»』」]|(?<!\w)[‘']([^'‘’\n]{2,60}?)[’'](?!\w)")
_BOLD = regex.compile(r"(?<![\w*])\*\*([^*\n]{1,80}?)\*\*(?!\w)|\\boxed\{([^{}]{1,60})\}")
_ITALIC = regex.compile(r"(?<![\w*])[*_]([^*_\n]{1,80}?)[*_](?![\w*])")
_TRIM = " \t\n\"'“”‘’«»„*_`.,;:!?()[]"


def quoted_parts(text: str) -> list[Candidate]:
    """Return the parts in quotation marks, in bold or in italics, without the marks."""
    parts = []
    for kind, pattern in (("bold", _BOLD), ("quoted", _QUOTED), ("quoted", _ITALIC)):
        for match in pattern.finditer(text):
            group = 1 if match[1] is not None else 2
            if candidate := trimmed(text, match.start(group), match.end(group), kind):
                parts.append(candidate)
    return parts


def trimmed(text: str, start: int, stop: int, kind: str) -> Candidate | None:
    """Return a candidate without spaces, quotation marks, markup and final punctuation, or None if nothing is left."""
    while start < stop and text[start] in _TRIM:
        start += 1
    while stop > start and text[stop - 1] in _TRIM:
        if text[stop - 1] == "." and regex.search(r"(?:\b\p{Lu}|\b[JS]r)\.$", text[start:stop]):
            break  # an initial
        if text[stop - 1] == ")" and "(" in text[start:stop]:
            break
        stop -= 1
    return Candidate(start, stop, kind) if start < stop else None


def name_runs(text: str, tokens: Sequence[Token], begins: frozenset[int] = frozenset()) -> list[tuple[int, int]]:
    """Return the names among the words of a text, as ranges of indices of words.

    A name is a run of words in capitals, initials, and joints such as "of", "de" and "van" between them.

    Parameters
    ----------
    text : str
    tokens : sequence of Token
    begins : frozenset of int
        Indices of the words that begin a sentence.  Function words there are no names.
    """
    lower = {t.folded for t in tokens if not t.is_capital}
    runs = []
    i = 0
    while i < len(tokens):
        t = tokens[i]
        is_begin = i in begins
        if not t.is_capital or (is_begin and (t.lower in FUNCTION or t.folded in lower)) or (t.is_function and t.lower in PRONOUNS):
            i += 1
            continue
        if t.is_function and not (t.lower in ARTICLES and i + 1 < len(tokens) and tokens[i + 1].is_capital and not is_begin):
            i += 1
            continue
        j = i
        k = i + 1
        while k < len(tokens):
            gap = text[tokens[k - 1].stop : tokens[k].start]
            if not regex.fullmatch(r"(?:['’]s)?[ \u00a0.&*_-]{0,3}|\s&\s", gap) or k in begins:
                break
            if regex.search(r"\.\s", gap) or "**" in gap:
                break
            w = tokens[k]
            if w.is_capital and not (w.is_function and w.lower not in _JOINTS):
                j = k
            elif w.text[:1].isdigit() and regex.fullmatch(r"\d{1,3}", w.text) and not (
                k + 1 < len(tokens) and tokens[k + 1].text[:1].islower() and not tokens[k + 1].is_function
            ):
                j = k
            elif w.lower not in _JOINTS or k - j > 2 or (w.lower in _WEAK_JOINTS and k == j + 1 and w.lower != "the"):
                break
            elif w.lower == "the" and k == j + 1:
                break
            k += 1
        runs.append((i, j + 1))
        i = j + 1
    return runs


def find_values(text: str, kind: Kind) -> list[Candidate]:
    """Return the dates, years, numbers or quantities in a text."""
    if kind in (Kind.YEAR, Kind.DATE):
        years = [
            Candidate(m.start(), m.end(), "date")
            for m in regex.finditer(
                r"(?<![\w.,-])(?:\d{4}(?:[-–/]\d{2,4})?(?:s\b)?|\d{1,4}\s?(?:AD|BC|BCE|CE)\b)(?!\w|[.,]\d)"
                r"|(?<=\b(?:in|en|im Jahr|im Jahre|year|anno|nel|em|in AD|around)\s)\d{3}(?!\w|[.,]\d)"
                r"|\d{3,4}年(?:\d{1,2}月)?(?:\d{1,2}[日号])?"
                r"|\b(?:\d{1,2}(?:st|nd|rd|th|\.)|first|early|late|mid)[\s-]+(?:century|Jahrhundert)\b",
                text,
            )
        ]
        if kind is Kind.YEAR:
            return years
        dates = [Candidate(d.start, d.stop, "date") for d in find_dates(text)]
        dates += [y for y in years if not any(d.start <= y.start < d.stop for d in dates)]
        return sorted(dates, key=lambda c: c.start)
    numbers = find_numbers(text)
    candidates = []
    for number in numbers:
        start, stop = number.start, number.stop
        if number.is_ordinal:
            continue
        if start and text[start - 1] in "$€£¥":
            start -= 1
        if kind is Kind.QUANTITY and (unit := regex.match(r"\s?(?:[%°]\w?|\p{L}[\p{L}²³/]*)", text[stop:])):
            word = fold(unit[0].strip())[0]
            if word not in FUNCTION:
                stop += len(unit[0])
        elif stop < len(text) and text[stop] == "%":
            stop += 1
        candidates.append(Candidate(start, stop, "number"))
    return candidates
