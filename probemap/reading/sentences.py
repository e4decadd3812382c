"""Divide a text into sentences, and find the corrections and concessions in them."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol


class Mention(Protocol):
    """A part of a text, ``text[start:stop]``."""

    @property
    def start(self) -> int: ...
    @property
    def stop(self) -> int: ...


_SENTENCE_END = re.compile(r"[.!?。！？।؟]+[\"'”’)\]*_]*(?=\s|$)|[。！？।\n]")
_ABBREVIATION = re.compile(
    r"(?:\b[A-Z]|\b(?:Mr|Mrs|Ms|Dr|St|Sr|Jr|vs|No|Mt|Prof|Rs|approx|ca|c|e\.g|i\.e|U\.S|etc))\.$"
)


@lru_cache(maxsize=16)
def sentences(text: str) -> tuple[tuple[int, int], ...]:
    """Return the sentences of a text as ranges of characters.

    Initials and common abbreviations do not end a sentence.  If the text ends without an end mark, the incomplete
    sentence is included.

    Examples
    --------
    >>> from probemap.reading.sentences import sentences
    >>> text = "It was J. K. Rowling. She wrote it"
    >>> [text[start:stop] for start, stop in sentences(text)]
    ['It was J. K. Rowling.', ' She wrote it']
    """
    ranges, start = [], 0
    for match in _SENTENCE_END.finditer(text):
        if _ABBREVIATION.search(text[start : match.start() + 1]) and match.end() < len(text) and match[0] == ".":
            continue
        ranges.append((start, match.end()))
        start = match.end()
    if text[start:].strip():
        ranges.append((start, len(text)))
    return tuple(ranges)


def complete_sentences(text: str, stopped: bool) -> str | None:
    """Return a text or, if it was cut off, its complete sentences.  The result is None if no sentence is complete.

    Examples
    --------
    >>> from probemap.reading.sentences import complete_sentences
    >>> complete_sentences("It is Rome. It was", stopped=False)
    'It is Rome.'
    """
    if stopped:
        return text
    ends = [stop for _, stop in sentences(text) if stop < len(text) or _END.search(text)]
    return text[: ends[-1]] if ends else None


_END = re.compile(r"[.!?。！？।؟][\"'”’)\]*_]*\s*$")


def sentence_at(ranges: Sequence[tuple[int, int]], index: int) -> tuple[int, int]:
    """Return the sentence that contains a character, or the range of all sentences if none contains it.

    Examples
    --------
    >>> from probemap.reading.sentences import sentence_at
    >>> sentence_at([(0, 5), (5, 9)], 6)
    (5, 9)
    """
    k = bisect_right(ranges, index, key=lambda sentence: sentence[0]) - 1
    return ranges[k] if k >= 0 and index < ranges[k][1] else (0, ranges[-1][1] if ranges else 0)


ASIDE = re.compile(
    r"(?:^|[\s,;(])(?:although|(?:even )?though|while|whereas|despite|in spite of|unlike|as opposed to|obwohl"
    r"|während|aunque|mientras que|bien que|tandis que|embora|mentre|sebbene)\s[^,;:]*$"
    r"|(?:^|(?<!\bthe)(?<!\bfar)(?<!\bnorth)(?<!\bsouth)[\s,(])"
    r"(?:(?-i:(?:north|south|east|west|[a-z]+(?:east|west))) of"
    r"|opposite(?: \w+,)?|across (?:the \w+ )?from|ahead of|behind|next to|close to|adjacent to|neighbou?rs|borders"
    r"|bordering|border with|replaced|replacing|beat|defeated|defeating|lost to|followed by|superseded by"
    r"|succeeded by|preceded by|claimed by|formerly|previously|used to be|(?:used to|once) belong(?:ed)? to"
    r"|better known for|confused with)\s+(?:the\s+|an?\s+)?$",
    re.IGNORECASE,
)
"""Words that introduce a mention which is not the answer, such as a concession or a neighbouring place."""
_CORRECTIONS = (
    *(
        "oh",
        "no",
        "wait",
        "sorry",
        "hmm",
        "hold on",
        "apologies",
        "my apologies",
        "I apologi[sz]e",
        "correction",
        "oops",
    ),
    *("scratch that", "strike that", "let me correct", "(?:but )?I (?:made an?|was) (?:mistake|error|wrong|mistaken)"),
    *("(?:but )?I (?:meant|misspoke)", "nope", "on second thought", "let me (?:reconsider|double-check|rethink)"),
    *("edit", "revised answer", "final answer", "I stand corrected", "I mean", "or rather"),
    *("nein", "moment", "espera", "perdón", "pardon", "attends", "scusa", "нет"),
)
CORRECTION = re.compile(
    rf"(?:^|(?<=[.!?,;\n—–-]|…))\s*(?:(?:{'|'.join(_CORRECTIONS)})\b[\s,.:!—–-]*)+"
    r"|(?:^|(?<=[.!?\n]))\s*actually\b[\s,:]*(?:no\b[\s,:]*)?",
    re.IGNORECASE,
)
"""Words with which a text withdraws an earlier statement."""


def correction_before(text: str, index: int) -> bool:
    """Return True if a text corrects an earlier statement before the character at `index`."""
    return any(match.start() > 0 for match in CORRECTION.finditer(text, 0, index))


def is_aside(text: str, index: int) -> bool:
    """Return True if the words before the character at `index` introduce a concession, or what others say."""
    before = text[max(sentence_at(sentences(text), index)[0], index - 120) : index]
    return ASIDE.search(before) is not None or _SAID_BY_OTHERS.search(before) is not None


_SAID_BY_OTHERS = re.compile(
    r"\b(?:some|many|people|most|others|often)\b[^.!?;,]{0,30}?"
    r"\b(?:say|claim|claimed|think|believe|argue|said)\b[^.!?;,]{0,20}$",
    re.IGNORECASE,
)
