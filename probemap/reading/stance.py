"""Find how a text mentions something: as its answer, or negated, rejected, compared, listed, in doubt, or withdrawn.

The rules use the words around a mention.  They use neither the accepted answers nor the verdict.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from enum import Enum
from itertools import pairwise
from typing import TypeVar

from probemap.reading.sentences import ASIDE, CORRECTION, Mention, sentence_at, sentences

_Mention = TypeVar("_Mention", bound=Mention)


class Stance(Enum):
    """How a text mentions something."""

    ASSERTED = "asserted"
    NEGATED = "negated"
    """The mention is denied or rejected: "not Lyon", "Paris is wrong", "many people think it is Paris, but …"."""
    COMPARED = "compared"
    """Something else is compared with or related to the mention: "older than Ann Lee", "a contemporary of Mozart"."""
    LISTED = "listed"
    """The mention is one of several alternatives: "either Lyon or Paris"."""
    ASIDE = "aside"
    """The mention is in a concession, or is a former state or a nearby place: "although Lyon is large", "next to Lyon".
    """
    DOUBTED = "doubted"
    """The mention is a further possibility: "…, but it could be Lyon"."""
    WITHDRAWN = "withdrawn"
    """The mention is replaced by a later correction: "Spain. Wait, I made a mistake: …"."""


_QUOTE = r"[\"'“”‘’«(\[*_`]*"

_EMPHATIC = re.compile(
    r"\b(?:none|nobody|no one|nothing|no person|no place|nowhere|no|anything|anyone)\s+(?:other|else|but"
    r"|less)(?:\s+than|\s+but)?\s+"
    r"|\b(?:without|no|beyond|not)\s+(?:a\s+|any\s+)?(?:shadow of a\s+)?(?:doubt|question)\b(?:\s+about\s+(?:it|that))?"
    r"|(?:\bnot|n['’]t)\b[^.!?;]{0,60}?\buntil\b|\bis(?:n['’]t|\s+not)\s+(?:it|that)\b"
    r"|\bnot\s+until\b|\bnot\s+only\b|\bnot\s+just\b|\bcannot\s+be\s+(?:anyone|anything|other)\b|\bwhy\s+not\b"
    r"|\b(?:can|could)(?:not|n['’]t)\s+be\s+(?:anyone|anything|nobody)?\s*(?:other|else)\s+(?:than|but)\b"
    r"|\bnot\s+(?:surprisingly|to mention|sure)\b|\bif\s+(?:I'm\s+|I am\s+)?not\s+(?:mistaken|wrong)\b"
    r"|n['’]t\s+(?:sure|certain)\b",
    re.IGNORECASE,
)
"""Words that contain a negation but do not negate what follows."""

_NEGATION = re.compile(
    r"\b(?:not|never|neither|nor|no longer|without|except|rather than|instead of|other than|unlike|outside|cannot|"
    r"rules? out|ruled out|ruling out|eliminat(?:e|es|ed|ing)|exclud(?:e|es|ed|ing)|isn['’]?t|wasn['’]?t"
    r"|aren['’]?t|weren['’]?t|doesn['’]?t|didn['’]?t|don['’]?t|won['’]?t|can['’]?t|couldn['’]?t|"
    r"no es|no fue|no era|nunca|tampoco|nicht|kein(?:e[nrms]?)?|nie|ne\s+\w+\s+pas|n['’]est\s+pas|n['’]était\s+pas"
    r"|pas|jamais|"
    r"non è|non era|non fu|mai|não é|não foi|não|niet|geen|нет|не|ни|bukan|inte|ikke)\b"
    r"|不是|并非|不在|没有|ليست?\s|लيس",
    re.IGNORECASE,
)
_RESTORING = re.compile(
    r"\b(?:but|rather|instead|sino|sondern|mais|mas|ma|bensì|maar|utan|melainkan|leav(?:es|ing)|left|а|но)\b|而是|بل"
    r"|[;:]|—|--",
    re.IGNORECASE,
)
"""Words between a negation and a mention that end the effect of the negation: "not Lyon but Paris"."""

_REJECTED_AFTER = re.compile(
    rf"{_QUOTE}\s*(?:ではな|じゃな|(?:이|가)\s*아니|değil|नहीं|,?\s+(?:did|does|do|could|was|is)\s+not\b)"
    rf"|{_QUOTE}\s+(?:may|might|can|could|would)\s+(?:seem|look|appear|sound)\b|~~"
    r"|\?\s+(?:that['’]s\s+(?:not|wrong|incorrect|an?\s+(?:\w+\s+)?(?:mis|myth|mistake))"
    r"|no\b|not\b|wrong)"
    rf"|{_QUOTE}\s*[:—–-]\s*(?:no|incorrect|wrong|false|not)\b"
    rf"|{_QUOTE}[^.!?;\n,]{{0,40}}?\b(?:is|was|are|were|would be)\s+(?:clearly\s+|obviously\s+|actually\s+"
    rf"|in fact\s+|also\s+)?"
    r"(?:not\b|n['’]t\b|never\b|wrong\b|incorrect\b|false\b|a\s+common\s+(?:mistake|misconception)|mistaken)"
    rf"|{_QUOTE}[^.!?;\n,]{{0,20}}?\b(?:isn|wasn|aren|weren|doesn|didn)['’]?t\b"
    rf"|{_QUOTE}\s+(?:is|was)?\s*(?:often|commonly|sometimes|frequently|widely|usually|mistakenly|wrongly)\s+"
    r"(?:mentioned|named|cited|thought|believed|assumed|confused|said|given|mistaken)\b",
    re.IGNORECASE,
)
_MYTH = re.compile(
    r"\b(?:it is a (?:common )?(?:myth|misconception) that|(?:mis|wrongly |incorrectly |mistakenly "
    r"|falsely )attributed to|"
    r"you might be thinking of|contrary to popular belief|(?:initial|first|original|previous) answer was"
    r"|at first I thought)\s*(?:the\s+)?[\"'“*_]*$"
    r"|\b(?:common|popular|widespread) (?:belief|assumption|misconception|mistake)\b[^.!?;\n]{0,30}$",
    re.IGNORECASE,
)
"""Words before a mention that reject it, even if the sentence contains no contrast."""
_REJECTED_BEFORE = re.compile(
    r"\b(?:(?:one|you|people)\s+(?:might|may|would|could)|you['’]d|people)\s+(?:expect|think"
    r"|assume|guess|suppose)\b[^.!?;\n]{0,30}$"
    r"|\b(?:viele|muchos|beaucoup|molti|muitos)\s+(?:denken|glauben|meinen|piensan|creen|pensent|croient|pensano|pensam)"
    r"\b[^.!?;\n]{0,30}$|\battributed\s+to\b[^.!?;\n]{0,20}$|\bassumed\b[^.!?;\n]{0,30}$"
    r"|\b(?:many|most|some|people|often|commonly|sometimes|one|you)\b[^.!?;\n]{0,30}?\b(?:think|thinks|believe"
    r"|believes|say|"
    r"assume|guess|place|confuse|thought|believed|mistake|mistaken|call)\b[^.!?;\n]{0,40}$"
    r"|\b(?:contrary to|despite|unlike|as opposed to|confused with|mistaken for|wrong|incorrect)\b[^.!?;,\n]{0,30}$",
    re.IGNORECASE,
)
_CONTRAST = re.compile(
    r"\b(?:but|however|yet|in fact|actually|in reality|although|though|aber|pero|mais|mas|ma)\b", re.IGNORECASE
)
_COMPARED = re.compile(
    r"(?:\b(?:than|compared (?:to|with)|versus|vs\.?|unlike|contemporary of|rival of|similar to)\b)\s+(?:the\s+"
    r"|that of\s+|an?\s+)*$",
    re.IGNORECASE,
)
_JOINS = re.compile(
    r"(?:\s+to (?:the|its) \w+)?(?:,\s+(?:and\s+)?|\s+and\s+)(?:to (?:the|its) \w+,?\s+)?(?:the\s+)?", re.IGNORECASE
)
"""Text between two mentions of a list ("bordering Egypt to the west, and Libya")."""
_ASIDE_AFTER = re.compile(
    r"[\"'”*_]*\s+(?:until|till)\s+\d{4}\b|[\"'”*_]*\s+from\s+\d{4}\s+(?:to|until)\s+\d{4}", re.IGNORECASE
)
_DOUBT = re.compile(
    r"\b(?:but|or|although|though|however)\b[^.!?;\n]{0,30}\b(?:could|might|may)\s+(?:also\s+|well\s+)?(?:be"
    r"|have been)\b[^.!?;\n]{0,12}$",
    re.IGNORECASE,
)
_JOINT = re.compile(
    r"[\s\"'“”‘’()*_`]*(?:,|/|&|\b(?:or|and|nor|and/or|o|oder|ou|или|または|或)\b|或者?|和)[\s\"'“”‘’()*_`]*(?:(?:or|and"
    r"|maybe|perhaps|even)\s+)?(?:(?:the|an?|in|at|by)\s+)*",
    re.IGNORECASE,
)
_ALTERNATIVE = re.compile(r"\b(?:or|nor|o|oder|ou|или)\b|/|或", re.IGNORECASE)
_ENUMERATES = re.compile(
    r"\b(?:either|both|between|neither|whether|could be|might be|may be|one of|entweder|entre)\b\W+(?:the\s+|in\s+)*$",
    re.IGNORECASE,
)


def mentions_with(text: str, mentions: Sequence[_Mention], stance: Stance) -> list[_Mention]:
    """Return the mentions towards which a text has the given stance."""
    return [m for m, value in zip(mentions, stances(text, mentions), strict=True) if value is stance]


def asserted_mentions(text: str, mentions: Sequence[_Mention]) -> list[_Mention]:
    """Return the mentions that a text asserts."""
    return mentions_with(text, mentions, Stance.ASSERTED)


def stances(text: str, mentions: Sequence[Mention]) -> list[Stance]:
    """Return the stance of a text towards each mention.

    Examples
    --------
    >>> from probemap.reading.names import find_names
    >>> from probemap.reading.stance import stances
    >>> text = "It is not Lyon but Paris."
    >>> [stance.value for stance in stances(text, find_names(text, [["Lyon"], ["Paris"]]))]
    ['negated', 'asserted']
    """
    if not mentions:
        return []
    ranges = sentences(text)
    listed = _listed(text, mentions)
    corrections = [match for match in CORRECTION.finditer(text) if match.start() > 0 and text[match.end() :].strip()]
    corrected = corrections[-1].start() + 1 if corrections and _is_corrected(text, corrections[-1], mentions) else 0
    masked = _EMPHATIC.sub(lambda match: " " * len(match[0]), text)
    negations = [match.span() for match in _NEGATION.finditer(masked)]
    found: list[Stance] = []
    for number, mention in enumerate(mentions):
        start, stop = sentence_at(ranges, mention.start)
        before = masked[max(start, mention.start - _REACH) : mention.start]
        after = text[mention.stop : min(max(stop, mention.stop), mention.stop + _REACH)]
        if text.startswith("?", mention.stop):
            after = text[mention.stop : mention.stop + 60]  # "Lyon? That's wrong."
        found.append(
            Stance.WITHDRAWN
            if mention.stop <= corrected
            else Stance.NEGATED
            if _is_negated(masked, negations, start, mention.start)
            or before.endswith(", no ")  # Spanish and Portuguese
            or _is_rejected(after)
            or _is_attributed(before, after)
            or _is_denied_next(before, text, mention.stop)
            else Stance.LISTED
            if number in listed
            else Stance.COMPARED
            if _COMPARED.search(before[-60:])
            else Stance.ASIDE
            if (_ASIDE_AFTER.match(after) and stop - mention.stop > 30)
            or ASIDE.search(before[-120:])
            or (found[-1:] == [Stance.ASIDE] and _JOINS.fullmatch(text, mentions[number - 1].stop, mention.start))
            else Stance.DOUBTED
            if _DOUBT.search(before[-80:])
            else Stance.ASSERTED
        )
    return found


_REACH = 240
"""Number of characters around a mention, within its sentence, that the rules consider."""


def _is_corrected(text: str, correction: re.Match[str], mentions: Sequence[Mention]) -> bool:
    """Return True if a correction replaces what precedes it, because a mention, another name or a number follows."""
    if mentions[-1].start >= correction.start():
        return True
    rest = text[correction.end() : correction.end() + 80]
    # The correct answer has to be a name or a number: "Actually, it's Sydney", not "Actually, it is a large city".
    return re.search(r"(?<![.!?]\s)\b(?!I\b|It\b|The\b)[A-ZÀ-ÞЀ-Я]\w*|\d|[^\x00-\u024f]", rest) is not None


def _is_negated(text: str, negations: Sequence[tuple[int, int]], start: int, stop: int) -> bool:
    """Return True if a negation in the same sentence, at most five words before the mention, applies to it."""
    k = bisect_right(negations, stop, key=lambda negation: negation[1]) - 1
    if k < 0 or negations[k][0] < start:
        return False
    between = text[negations[k][1] : stop]
    if len(between) > _REACH or "," in between or _RESTORING.search(between):
        return False
    return len(re.findall(r"[\w'’-]+", between)) <= 5


def _is_rejected(after: str) -> bool:
    """Return True if the rest of the sentence rejects the mention."""
    rejection = _REJECTED_AFTER.match(after)
    return rejection is not None and not re.match(
        r"[^.!?;\n]*\bnot\s+(?:only|just)\b", rejection[0] + after[rejection.end() : rejection.end() + 6]
    )


def _is_attributed(before: str, after: str) -> bool:
    """Return True if a sentence attributes the mention to others, or calls it an error."""
    return bool(_MYTH.search(before) or (_REJECTED_BEFORE.search(before) and _CONTRAST.search(after)))


_ASSUMED = re.compile(
    r"\b(?:often|commonly|widely|sometimes) (?:assumed|thought|believed)\b[^.!?;\n]{0,30}$", re.IGNORECASE
)
_DENIED_NEXT = re.compile(r"[^.!?\n]{0,40}[.!?]\s+(?:in reality|in fact|actually)\b", re.IGNORECASE)


def _is_denied_next(before: str, text: str, stop: int) -> bool:
    """Return True if a text states that the mention is often assumed, and the next sentence states what is true."""
    return _ASSUMED.search(before) is not None and _DENIED_NEXT.match(text, stop) is not None


def _listed(text: str, mentions: Sequence[Mention]) -> set[int]:
    """Return the indices of the mentions that are alternatives ("either A or B", "A, B or C", "both A and B")."""
    listed: set[int] = set()
    chain: list[int] = []

    def close() -> None:
        if len(chain) > 1:
            joints = [text[mentions[i].stop : mentions[k].start] for i, k in pairwise(chain)]
            first = mentions[chain[0]]
            if any(_ALTERNATIVE.search(joint) for joint in joints) or _ENUMERATES.search(
                text[max(0, first.start - 80) : first.start]
            ):
                listed.update(chain)

    for number, mention in enumerate(mentions):
        words = {text[mentions[i].start : mentions[i].stop].casefold() for i in chain}
        is_new = text[mention.start : mention.stop].casefold() not in words
        if chain and is_new and _JOINT.fullmatch(text[mentions[chain[-1]].stop : mention.start]):
            chain.append(number)
            continue
        close()
        chain = [number]
    close()
    return listed
