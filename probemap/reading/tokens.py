"""Divide questions and texts into words, and find which words of a text repeat the question."""

from __future__ import annotations

from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import regex

from probemap.reading.asked import VALUES, Kind, asked_kind, asked_prepositions, asks_for_object
from probemap.reading.folding import fold
from probemap.reading.grammar import ARTICLES, COPULAS, ENGLISH_FUNCTION, FUNCTION, PRONOUNS

if TYPE_CHECKING:
    from collections.abc import Sequence

_WORD = regex.compile(
    r"(?P<number>[$€£¥]?\d+(?:[.,:]\d+)*(?:st|nd|rd|th|s)?\b%?|[$€£¥]?\d+(?:[.,]\d+)*%?)"
    r"|(?P<initials>(?:\p{Lu}\.\s?){1,4}(?=[\s\p{Lu}),;]|$)(?:\p{Lu}\b\.?(?!\w))?)"
    r"|(?P<title>(?:Mr|Mrs|Ms|Dr|St|Prof|Sr|Jr|Mt|Gen|Lt|Capt)\.)"
    r"|(?P<word>\p{L}[\p{L}\p{M}\d]*(?:['’‑-][\p{L}\p{M}\d]+)*)"
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
        """The word in lower case, with its accents."""
        return self.text.lower()

    @property
    def is_function(self) -> bool:
        """True if the word has only a grammatical function.

        A capitalised word counts only if it is English, because "Au", "Die" and "Las" may be parts of names.
        """
        return self.lower in (ENGLISH_FUNCTION if self.is_capital else FUNCTION)

    @property
    def repeats(self) -> bool:
        """True if the word repeats a word of the question and is not a function word."""
        return self.is_asked and not self.is_function

    @property
    def is_capital(self) -> bool:
        """True if the word starts with a capital letter."""
        return self.text[:1].isupper()


def tokens_of(text: str) -> list[Token]:
    """Return the words of a text, without punctuation and markup.

    Consecutive initials form one word.  A possessive ending is not part of the word.

    Examples
    --------
    >>> from probemap.reading.tokens import tokens_of
    >>> [token.text for token in tokens_of("J. K. Rowling's **book** cost $1.50.")]
    ['J. K.', 'Rowling', 'book', 'cost', '$1.50']
    """
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
"""Minimum similarity of two spellings of one name.  Models misspell names: "Cillerulo" repeats "Cilleruelo"."""


@lru_cache(maxsize=65536)
def similarity(a: str, b: str) -> float:
    """Return the similarity of two words, between 0 and 1.  Words of very different lengths have the similarity 0."""
    if abs(len(a) - len(b)) > max(len(a), len(b)) / 2 or len(a) + len(b) > 80:
        return 0.0
    return SequenceMatcher(None, a, b, autojunk=False).ratio()


def same_word(a: Token, b: Token) -> bool:
    """Return True if two words are equal or differ only in a short ending ("plays" and "play")."""
    first, second = a.folded, b.folded
    if first == second:
        return True
    if first[:1] != second[:1]:
        return False
    if a.is_capital and b.is_capital and regex.match(r"\p{Cyrillic}", first):
        return min(len(first), len(second)) > 3 and first[:-2][:4] == second[:4] and abs(len(first) - len(second)) < 3
    is_extended = first.startswith(second) or second.startswith(first)  # Brasil, Brasília
    if (
        not is_extended
        and min(len(first), len(second)) > 5
        and first[0] == second[0]
        and similarity(first, second) >= _SIMILAR
    ):
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

    Examples
    --------
    >>> from probemap.reading.tokens import mark_asked, tokens_of
    >>> question = tokens_of("What is the capital of Canada?")
    >>> [t.text for t in mark_asked(tokens_of("Canada is the capital of Canada"), question) if t.is_asked]
    ['is', 'the', 'capital', 'of', 'Canada']
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
    return [replace(t, is_asked=not free) for t, free in zip(tokens, free_text, strict=True)]


ANSWER_WORDS = frozenset("answer respuesta antwort réponse resposta risposta ответ cevap".split())
_IT = frozenset("it that this es ce c' esto eso isso questo это".split())
QUESTION_WORDS = frozenset(
    ("who what which welche welcher welches was quel quelle qual quale cuál qué que какой какая какое").split()
)
_ENGLISH = regex.compile(
    r"\b(?:the|what|which|who|whose|whom|how|where|when|does|did|is|are|were|of)\b", regex.IGNORECASE
)
_GERMAN = regex.compile(r"\b(?:der|das|welche[rsmn]?|wie|wofür|wovon|ist|wurde|und)\b", regex.IGNORECASE)


@dataclass(frozen=True)
class Question:
    """A question, and what it asks for.

    Examples
    --------
    >>> from probemap.reading.tokens import Question
    >>> question = Question("Which gas do plants absorb?")
    >>> question.kind.value, [token.text for token in question.noun], question.asks_for_object
    ('thing', ['gas'], True)
    """

    text: str

    @cached_property
    def kind(self) -> Kind:
        """Kind of answer that the question asks for."""
        return asked_kind(self.text)

    @property
    def asks_for_value(self) -> bool:
        """True if the answer is a date or a number."""
        return self.kind in VALUES

    @cached_property
    def tokens(self) -> list[Token]:
        """Words of the question."""
        return tokens_of(self.text)

    @property
    def has_question_word(self) -> bool:
        """True if the question contains a word such as "what" or "which"."""
        return any(token.lower in QUESTION_WORDS for token in self.tokens)

    @cached_property
    def noun(self) -> list[Token]:
        """The words after "which" or "what is the", up to the next function word, but at most four words."""
        tokens = self.tokens
        words = QUESTION_WORDS - {"was"} if self.is_english else QUESTION_WORDS
        i = 1 + next((i for i, token in enumerate(tokens) if token.lower in words), len(tokens))
        if i < len(tokens) and tokens[i - 1].lower == "who" and tokens[i].lower not in COPULAS:
            return []  # "who wrote"
        while i < len(tokens) and (tokens[i].lower in COPULAS or tokens[i].lower in ARTICLES):
            i += 1
        j = i
        while j < len(tokens) and not tokens[j].is_function and j < i + 4:
            j += 1
        return tokens[i:j]

    @cached_property
    def content(self) -> list[Token]:
        """The words of the question, without question words, function words, and `noun`."""
        return [t for t in self.tokens if not t.is_function and t.lower not in QUESTION_WORDS and t not in self.noun]

    @cached_property
    def asks_for_object(self) -> bool:
        """True if the answer is not the subject of the question: "What did …", "In which city …"."""
        return asks_for_object(self.text)

    @cached_property
    def prepositions(self) -> frozenset[str]:
        """The preposition with which the question begins ("In which …") and its translations."""
        return asked_prepositions(self.text)

    @cached_property
    def is_english(self) -> bool:
        """True if the question contains common English words."""
        return _ENGLISH.search(self.text) is not None

    @cached_property
    def is_turkish(self) -> bool:
        """True if the question contains Turkish letters.  In Turkish, an apostrophe and an ending may follow a name."""
        return regex.search(r"[ığş]", self.text) is not None

    @cached_property
    def is_german(self) -> bool:
        """True if the question contains common German words.  In German, every noun begins with a capital."""
        return _GERMAN.search(self.text) is not None


def refers_to_question(tokens: Sequence[Token], is_first: bool) -> bool:
    """Return True if the words before a verb refer to what was asked: a word of the question, or a pronoun.

    Parameters
    ----------
    tokens : sequence of Token
        The words before the verb.
    is_first : bool
        Whether the words belong to the first statement.  In a later statement, a pronoun may refer to something else.
    """
    if any(t.repeats or t.lower in ANSWER_WORDS for t in tokens):
        return True
    if not is_first or not tokens:
        return False
    return (tokens[0].lower in PRONOUNS | {"there"} and len(tokens) <= 2) or tokens[-1].lower in _IT
