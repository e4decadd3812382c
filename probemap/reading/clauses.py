"""Choose between several mentions in a text: the answer is the one whose clause repeats the words of the question."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol, TypeVar

from probemap.reading.asked import asks_for_country
from probemap.reading.folding import FUNCTION_WORDS, words_of
from probemap.reading.sentences import Mention, sentence_at, sentences

_Mention = TypeVar("_Mention", bound=Mention)


class NamedMention(Mention, Protocol):
    """A mention of one of several groups of spellings."""

    @property
    def group(self) -> int: ...


_Name = TypeVar("_Name", bound=NamedMention)

CONCLUSION_WORDS = "so|therefore|thus|hence"
"""Words that begin a conclusion, as alternatives in a regular expression."""
_CLAUSE_END = re.compile(r"[,;:.?!(]|\s(?:and|but|while|whereas|und|aber|y|et|e)\s")
_MEASURES = frozenset("many much old tall high long far deep heavy fast large big year date".split())
"""Words of a question that apply to any of several answers."""


def repeating_mention(question: str, text: str, mentions: Sequence[_Mention]) -> _Mention | None:
    """Return the mention whose clause repeats more words of the question than the clauses of all others, or None.

    The clause of a mention begins where the clause of the previous mention ends, and extends to the first comma,
    conjunction or end mark after the mention.  The last clause extends to the end of its sentence.  The names in the
    question together count as half a word, because the first mention usually repeats the subject of the question.

    Examples
    --------
    >>> from probemap.reading.clauses import repeating_mention
    >>> from probemap.reading.names import find_names
    >>> text = "Mars is small, and Venus is hot. Jupiter is the largest."
    >>> names = find_names(text, [["Mars"], ["Venus"], ["Jupiter"]])
    >>> repeating_mention("Which planet is the largest?", text, names).group
    2
    """
    words = [word for word in words_of(question) if word.text not in FUNCTION_WORDS and word.text not in _MEASURES]
    names = {word.text for word in words if question[word.start].isupper()}
    others = {word.text for word in words if len(word.text) > 2} - names
    bounds = [sentence_at(sentences(text), mentions[0].start)[0]]
    for mention, following in pairwise(mentions):
        end = _CLAUSE_END.search(text, mention.stop, following.start)
        bounds.append(end.start() if end else following.start)
    bounds.append(max(sentence_at(sentences(text), mentions[-1].start)[1], mentions[-1].stop))
    scores = []
    for start, stop in pairwise(bounds):
        stated = {word.text for word in words_of(text[start:stop])}
        n_repeated = sum(any(_have_one_stem(word, other) for other in stated) for word in others)
        scores.append(n_repeated + 0.5 * (not names.isdisjoint(stated)))
    best = max(scores)
    return mentions[scores.index(best)] if best > 0 and scores.count(best) == 1 else None


_LEADS = re.compile(
    r"\W*(?:\w+\s+){0,3}?(?:(?:it|that|this|there|he|she|they|answer)(?:['’]s|\s+is|\s+are|\s+was|\s+were)\s+)?"
    r"(?:(?:in|the|an?|at|by|from)\s+)*\W*",
    re.IGNORECASE,
)
_CONTAINS = re.compile(
    r"[\s*_\"]*(?:\(|,|\sin\b|,?\s(?:which|that)\s(?:is|was|lies|belongs)\b)\s*(?:an?\s+|the\s+)?"
    r"(?:(?:us\s+)?(?:state|province|part|region|territory|city|county|country|republic)\s+)?(?:(?:of|in|to)\s+)?(?:the\s+)?"
    r"[*_\"]*",
    re.IGNORECASE,
)
"""Text between a place and the larger place that contains it: "Georgia, USA", "Georgia, a state of the USA"."""


def chosen_mention(question: str, text: str, mentions: Sequence[_Name]) -> _Name:
    """Return the one of several asserted names that a text gives as its answer.

    If the question asks for a country and the first name is followed by the place that contains it ("Georgia, USA"),
    the containing place is the answer.  If the text begins with the first name, this name is the answer.  Otherwise,
    the answer is the name whose clause repeats most of the question, or the first name if there is no such clause.
    """
    first = mentions[0]
    if asks_for_country(question):
        for following in mentions[1:]:
            is_list = re.match(r"\s*,?\s*(?:and|or)\s|,\s", text[following.stop : following.stop + 8])
            if is_list or not _CONTAINS.fullmatch(text[first.stop : following.start]):
                break
            first = following
        if first.group != mentions[0].group:
            return first
    if len({mention.group for mention in mentions}) == 1 or not question:
        return first
    if _LEADS.fullmatch(text[: first.start]) and re.match(r"[\W]*(?:[.,;:(!\n]|$)", text[first.stop : first.stop + 6]):
        return first
    return repeating_mention(question, text, mentions) or first


def _have_one_stem(a: str, b: str) -> bool:
    """Return True if two words differ only in their endings ("die" and "died", "completed" and "completion")."""
    return a == b or (
        min(len(a), len(b)) >= 3 and a[0] == b[0] and (a[:5] == b[:5] or a.startswith(b) or b.startswith(a))
    )
