"""Recognise texts that contain statements or questions, but no answer: descriptions, plans and questions.

The functions use the question and the text only, so whether a text has no answer does not depend on the accepted
answers.
"""

from __future__ import annotations

import re
from enum import Enum
from functools import lru_cache
from itertools import takewhile
from typing import TYPE_CHECKING

import regex

from probemap.reading.asked import Kind
from probemap.reading.candidates import DEMONYM
from probemap.reading.grammar import ARTICLES, BY, COPULAS, FUNCTION, INDEFINITE, PREPOSITIONS
from probemap.reading.sentences import sentences
from probemap.reading.statements import statements
from probemap.reading.tokens import Question, same_word, similarity, tokens_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from probemap.reading.statements import Statement
    from probemap.reading.tokens import Token


class Lack(Enum):
    """Reason why a text contains no answer.  The values are the reasons in verdicts."""

    DESCRIBES = "describes what the question names instead of answering"
    ASKS = "asks a question instead of answering"
    ABOUT_ITSELF = "speaks about itself instead of answering"


_PLANS = regex.compile(
    r"\W*(?:(?:sure|okay|certainly)\W+)?to\s+(?:determine|find|solve|answer|calculate|figure\s+out|compute|identify)\b"
    r"[^.\n]*?,\s+(?:we|you|let['’]?s|let\s+us|one|i)\b",
    regex.IGNORECASE,
)
_ABOUT_ITSELF = regex.compile(
    r"\bI(?:['’]m|\s+am)\s+(?:just\s+)?an?\s+(?:\w+\s+){0,3}(?:AI|assistant|chatbot|language\s+model)\b"
    r"|\bI(?:['’]m|\s+am)\s+(?:happy|glad|here|ready)\s+to\s+(?:help|assist)\b|\byou\s+are\s+a\s+helpful\b"
)
_CONVERSES = regex.compile(
    r"^\W*(?i:hello|hi|hey|sure|certainly|of\s+course|okay|great|thanks|thank\s+you)\b(?:\s+there)?\W*$"
    r"|^\W*I(?:['’]\p{Ll}+)?\s+(?!(?:think|believe|guess|would\s+say)\b)\p{Ll}"
    r"|^\W*(?i:please|feel\s+free|let\s+me|you\s+(?:can|could|may|should)|my\s+(?:name|purpose|goal|role)\s+is)\b"
    r"|[?？؟]\W*$"
)
"""Sentences that may accompany a sentence about the model itself, e.g. greetings and questions to the user."""
_ANNOUNCES = regex.compile(r"\b(?:answer|result|respuesta|réponse|antwort|resposta|risposta|ответ)\b|答", regex.I)
_NAMING = regex.compile(
    r"\b(?:named|called|titled|entitled|known\s+as|nicknamed|name\s+of|namens|genannt|llamad[oa]|appelée?|nommée?)\b",
    regex.IGNORECASE,
)
_WORD_MEANS = regex.compile(
    r"\b(?:word|phrase|term|expression)\s+(?:for|that\s+(?:means|refers|translates)|meaning|which\s+means)\b", regex.I
)
_TRANSLATES = regex.compile(
    r"\b(?:is|was)\s+an?\s+(?:\p{Lu}\w+\s+)?(?:word|phrase|term|expression)\s+(?:for|meaning"
    r"|(?:that|which)\s+(?:means|refers|translates))\b"
)
_ASKS_WORD = regex.compile(r"\b(?:word|phrase|term|expression|mean(?:s|ing)?|name[ds]?|called)\b", regex.I)
_KINDS = frozenset("type kind form group class set collection category sort part piece process".split())
_ASKS_DESCRIPTION = regex.compile(
    r"^\W*(?:what|who)(?:['’]s|\s+(?:is|are|was|were))\s+(?:an?\s+|the\s+)?[^?]{1,40}\?*$(?<!\b(?:of|for|in|by)\b.*)"
    r"|\b(?:occupation|profession|job|nationality|kind\s+of|type\s+of|sort\s+of|mean|meaning|known\s+for|famous\s+for)\b"
    r"|\bwhat\s+(?:do|does|did)\b"
    r"|\b(?:sports?|genre|religion|faith|colou?r|instrument|species|breed|position|party)\b",
    regex.IGNORECASE,
)
_LOCATES = regex.compile(
    r"\b(?:where|in|on|at|from|to)\s+(?:what|which)\b|\b(?:where|located|situated|found)\b", regex.I
)
_MIN_WORDS = 4
"""Minimum number of words in a question that is not a guess ("Rome?")."""
_ECHO = 0.7
"""Minimum similarity of a sentence and the question that it repeats."""


def lacks_answer(question: str, text: str) -> Lack | None:
    """Return why a text contains no answer to an open question, or None if it may contain one.

    Parameters
    ----------
    question : str
    text : str
        Answer without its reasoning.

    Returns
    -------
    Lack or None

    Examples
    --------
    >>> from probemap.reading.answerless import lacks_answer
    >>> question = "What is the main language of Brazil?"
    >>> lacks_answer(question, "Brazil is a country in South America.").value
    'describes what the question names instead of answering'
    >>> lacks_answer(question, "The language is Spanish.") is None
    True
    """
    lack = _lack(question, text)
    return None if lack is None or _ANNOUNCES.search(text) else lack


def _lack(question: str, text: str) -> Lack | None:
    if _ABOUT_ITSELF.search(text) and all(
        _ABOUT_ITSELF.search(part) or _CONVERSES.search(part) for part in _sentences_with_words(text)
    ):
        return Lack.ABOUT_ITSELF
    if any(mark in text for mark in "?？؟") and _only_asks(question, text):
        return Lack.ASKS
    has_noun = any(noun in text for noun in (" word ", " phrase ", " term ", " expression "))  # a fast first check
    if has_noun and _TRANSLATES.search(text) and not _ASKS_WORD.search(question):
        return Lack.DESCRIBES
    asked = _asks_name(question)
    if asked is None or not _begins_with_question(asked, text):
        return None
    return Lack.DESCRIBES if _only_describes(asked, text, statements(asked, text)) else None


def is_plan(text: str) -> bool:
    """Return True if a text begins with a plan to find the answer ("To find the total, we need to …").

    Examples
    --------
    >>> from probemap.reading.answerless import is_plan
    >>> is_plan("To find the square root, we need a number."), is_plan("It is 12.")
    (True, False)
    """
    return _PLANS.match(text) is not None


def _only_asks(question: str, text: str) -> bool:
    """Return True if a text consists of questions, or of a repeated question and what a word means."""
    parts = _sentences_with_words(text)
    asks = [regex.search(r"[?？؟]\W*$", part) is not None for part in parts]
    if not parts or not asks[0] or (len(tokens_of(parts[0])) < _MIN_WORDS and not regex.search(r"\p{Lo}{6}", parts[0])):
        return False
    rest = [part for part, is_question in zip(parts, asks, strict=True) if not is_question]
    if not rest:
        return True
    is_echo = similarity(parts[0][:40], question[:40]) >= _ECHO
    return is_echo and len(rest) == 1 and (_WORD_MEANS.search(rest[0]) is not None or len(rest[0]) <= len(parts[0]))


def _sentences_with_words(text: str) -> list[str]:
    """Return the sentences of a text that contain a letter or a digit, without white space around them."""
    return [text[start:stop].strip() for start, stop in sentences(text) if regex.search(r"\w", text[start:stop])]


@lru_cache(maxsize=1024)
def _asks_name(text: str) -> Question | None:
    """Return a question if a description of something that it names does not answer it, or None."""
    question = Question(text)
    if question.kind not in (Kind.PERSON, Kind.THING, Kind.PLACE) or _ASKS_DESCRIPTION.search(text):
        return None
    if question.kind is Kind.PLACE and (question.prepositions or not question.noun or _LOCATES.search(text)):
        return None  # a description may state where something is
    return question


def _begins_with_question(question: Question, text: str) -> bool:
    """Return True if the words of a text before its first copula may repeat the question (a fast first check)."""
    initials = _initials(question.text)
    for match in _WORD.finditer(text, 0, _SUBJECT):
        word = match[0].lower()
        if word in COPULAS:
            return _is_of_question(question, tokens_of(text[: match.start()]))
        if word[0] not in initials and word.isascii() and word not in FUNCTION:
            return False
    return False


@lru_cache(maxsize=1024)
def _initials(question: str) -> frozenset[str]:
    """Return the first letters of the words of a question."""
    return frozenset(token.folded[0] for token in tokens_of(question) if token.folded)


_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_SUBJECT = 200
"""Maximum number of characters before the first copula of a text that describes something."""


def _only_describes(question: Question, text: str, stated: Sequence[Statement]) -> bool:
    """Return True if a text describes something that the question names instead of what it asks for."""
    tokens = stated[0].tokens if stated else ()
    i = next((i for i, t in enumerate(tokens) if t.lower in COPULAS), None)
    if i is None or not i or i + 1 >= len(tokens):
        return False
    subject, complement = tokens[:i], tokens[i + 1 :]
    phrase = list(takewhile(lambda t: t.lower not in PREPOSITIONS and t.lower not in _RELATIVE, complement))
    if not _is_of_question(question, subject) or _NAMING.search(text, subject[0].start) or _names(phrase):
        return False
    is_quoted = regex.match(r"\W*[\"“«„]", text[tokens[i].stop :]) is not None
    is_participle = _PARTICIPLE.fullmatch(complement[0].lower) is not None and not complement[0].is_asked
    if is_quoted or any(t.repeats for t in phrase[1:2]) or not (complement[0].lower in ARTICLES or is_participle):
        return False
    has_noun = any(same_word(t, noun) for t in subject for noun in question.noun)
    if question.kind is Kind.PERSON:
        return not (has_noun and _names(complement)) and not _names_agent(complement, stated[1:])
    if is_participle and question.kind is Kind.THING and _names(complement):
        return False
    if has_noun:
        return _describes_noun(question, subject, complement, phrase)
    nouns = question.noun or [t for t in question.content if not any(same_word(t, s) for s in subject)]
    described = [*complement, *(t for statement in stated[1:] for t in statement.tokens)]
    return (
        bool(nouns)
        and not any(same_word(t, n) for t in described for n in nouns)
        and not _is_predicate(question, subject)
    )


def _is_of_question(question: Question, subject: Sequence[Token]) -> bool:
    """Return True if the words before a verb repeat the question and add nothing."""
    content = [t for t in subject if not t.is_function or (t.is_capital and t is not subject[0])]
    return bool(content) and all(any(same_word(t, other) for other in question.tokens) for t in content)


def _is_predicate(question: Question, subject: Sequence[Token]) -> bool:
    """Return True if the subject repeats the predicate of the question ("Which fruit is the main ingredient …?")."""
    content = [t.folded for t in subject if not t.is_function]
    asked = question.tokens
    starts = [k for k, t in enumerate(asked) if t.lower in COPULAS and k]
    return any([t.folded for t in asked[k + 1 :] if not t.is_function][: len(content)] == content for k in starts)


def _describes_noun(
    question: Question, subject: Sequence[Token], complement: Sequence[Token], phrase: Sequence[Token]
) -> bool:
    """Return True if a statement about what the question asks for states only what kind of thing it is.

    Examples are "The metal is a type of element" and "The sport is a sport that is played with a ball".
    """
    following = complement[len(phrase)] if len(phrase) < len(complement) else None
    if len(phrase) < _WITH_ARTICLE or any(t.text[0].isdigit() for t in phrase):
        return False
    is_indefinite = phrase[0].lower in INDEFINITE
    if is_indefinite and phrase[1].lower in _KINDS:
        return True
    is_bare = all(t.is_function or any(same_word(t, noun) for noun in question.noun) for t in subject)
    if is_bare and (phrase[1].lower == "most" or phrase[1].lower.endswith("est")) and not phrase[1].is_asked:
        return True
    is_relative = following is not None and following.lower in _RELATIVE
    return (is_indefinite or is_relative) and same_word(phrase[-1], question.noun[-1])


_PARTICIPLE = regex.compile(r"(?!located|situated)\w{2,}ed|made|born|known|written|set")
_RELATIVE = frozenset("that which who whose where".split())
_WITH_ARTICLE = 2
"""Minimum number of words in a noun phrase with its article."""


def _names(tokens: Sequence[Token]) -> bool:
    """Return True if some words contain a name that is not in the question and is not an adjective of nationality."""
    return any(
        t.is_capital and not (t.is_asked or t.is_function or DEMONYM.fullmatch(t.text) is not None) for t in tokens
    )


def _names_agent(complement: Sequence[Token], later: Sequence[Statement]) -> bool:
    """Return True if a name that is not in the question, or the agent of a verb of the question, follows "by"."""
    return any(
        t.lower in BY and (_names(tokens[k + 1 : k + _AGENT]) or (k > 0 and tokens[k - 1].is_asked))
        for tokens in (complement, *(statement.tokens for statement in later))
        for k, t in enumerate(tokens)
    )


_AGENT = 8
"""Number of words after "by" that may contain the name of an agent."""
