"""Find the names and numbers in a text, and determine which of them the text asserts as its answer.

Both grading and locating use these functions, so that the verdict and the exact answer refer to the same words.  The
functions receive neither the accepted answers nor the verdicts.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from itertools import pairwise

Groups = Sequence[Sequence[str]]
"""Possible answers, each as a group of spellings."""


@dataclass(frozen=True)
class Mention:
    """A possible answer or a number that is mentioned in a text as ``text[start:stop]``."""

    start: int
    stop: int
    value: int | Decimal
    """Index of the group of spellings as an int, or the number as a Decimal."""
    is_adjective: bool = False
    """True if the mention is an adjective, as in "the Malaysian state"; see `ADJECTIVE`."""


def fold(text: str) -> tuple[str, list[int]]:
    """Convert a text to lower case, without accents and asterisks.

    Asterisks are removed because they mark bold words and may occur within a name ("**Mark** Twain").

    Returns
    -------
    folded : str
    origin : list of int
        For each character of `folded`, the index of the character in `text` from which it was derived.
    """
    folded: list[str] = []
    origin: list[int] = []
    for index, char in enumerate(text):
        for piece in unicodedata.normalize("NFKD", char).casefold():
            if not unicodedata.combining(piece) and piece != "*":
                folded.append("'" if piece in "’‘`" else piece)
                origin.append(index)
    return "".join(folded), origin


def same_name(a: str, b: str) -> bool:
    """Return True if two names consist of the same words, ignoring case, accents, initial articles and punctuation."""
    return _words(a) == _words(b)


def _words(name: str) -> str:
    words = re.findall(r"\w+|[^\w\s.,'\-]", fold(name)[0])
    return " ".join(words[1:] if len(words) > 1 and words[0] in {"the", "a", "an"} else words)


ADJECTIVE = " …"
"""Suffix that marks a spelling as an adjective.  Adjectives are found only before words such as "state" or "city", e.g.
"Malaysian …" in "the Malaysian state"."""

_PLACE = (
    r"(?=\s+(?:state|province|region|city|town|island|territory|department|prefecture|county|district|capital|"
    r"municipality|oblast|governorate|mainland|republic)s?\b)"
)


def _pattern(name: str) -> str:
    """Return a regular expression that matches a spelling in folded text, up to the end of its last word."""
    if name.endswith(ADJECTIVE):
        return _pattern(name.removesuffix(ADJECTIVE)) + _PLACE
    name = re.sub(r"^(?:the|an?)\s+(?=\w)", "", fold(name.strip())[0])
    pieces = []
    for piece in re.findall(r"\w+|[\s\-]+|[.,']|[^\w\s.,'\-]", name.strip(" .,'")):
        if re.fullmatch(r"[\s\-]+", piece):
            pieces.append(r"[\s\-]+")
        elif piece in ".,'":
            pieces.append(r"[.,']?")
        else:
            pieces.append(re.escape(piece))
    return "".join(pieces) + (r"(?!\w)" if re.search(r"\w[ .,']*$", name) else "")


@lru_cache(maxsize=4096)
def _matcher(groups: tuple[tuple[str, ...], ...]) -> tuple[re.Pattern[str], list[tuple[int, str]]]:
    spellings = [(g, name) for g, names in enumerate(groups) for name in names if _words(name)]
    spellings.sort(key=lambda entry: -len(entry[1]))  # "Guinea-Bissau" must precede "Guinea"
    names = "|".join(f"({_pattern(name)})" for _, name in spellings)
    return re.compile(rf"(?<!\w)(?:{names})" if names else r"(?!)"), spellings


def find_names(text: str, groups: Groups) -> list[Mention]:
    """Return all mentions of names, in the order of the text.

    Of several overlapping spellings, only the longest is found.  A spelling of at most four capital letters ("US") is
    found only in capitals.

    Parameters
    ----------
    text : str
    groups : sequence of sequences of str
        The spellings of each name.
    """
    folded, origin = fold(text)
    pattern, spellings = _matcher(tuple(tuple(g) for g in groups))
    mentions = []
    for match in pattern.finditer(folded):
        if match.lastindex is None or match.start() == match.end():
            continue
        group, name = spellings[match.lastindex - 1]
        start, stop = origin[match.start()], origin[match.end() - 1] + 1
        if name.isupper() and len(name) <= 4 and not text[start:stop].isupper():
            continue
        mentions.append(Mention(start, stop, group, name.endswith(ADJECTIVE)))
    return mentions


_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
_DATE = re.compile(
    rf"(?P<m1>{'|'.join(_MONTHS)})\s+(?P<d1>\d{{1,2}})(?:st|nd|rd|th)?,?\s+(?P<y1>\d{{4}})"
    rf"|(?:the\s+)?(?P<d2>\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?(?P<m2>{'|'.join(_MONTHS)}),?\s+(?P<y2>\d{{4}})"
    r"|(?P<y3>\d{4})-(?P<m3>\d{2})-(?P<d3>\d{2})",
    re.IGNORECASE,
)


def date_spellings(text: str) -> tuple[str, ...]:
    """Return the spellings of a date, e.g. "4 July 1776" and "1776-07-04", or an empty tuple if it is not a date."""
    match = _DATE.fullmatch(text.strip())
    if match is None:
        return ()
    year, month, day = (match[field + "1"] or match[field + "2"] or match[field + "3"] for field in "ymd")
    number = int(month) if month.isdigit() else [m.casefold() for m in _MONTHS].index(month.casefold()) + 1
    if not 1 <= number <= 12:
        return ()
    name, day = _MONTHS[number - 1], int(day)
    ordinal = f"{day}{'th' if 10 < day < 14 else {1: 'st', 2: 'nd', 3: 'rd'}.get(day % 10, 'th')}"
    return (
        *(f"{name} {d}, {year}" for d in (day, ordinal)),
        *(f"{name} {d} {year}" for d in (day, ordinal)),
        *(f"{d} {of}{name} {year}" for d in (day, ordinal) for of in ("", "of ")),
        *(f"{d} {of}{name}, {year}" for d in (day, ordinal) for of in ("", "of ")),
        f"{year}-{number:02d}-{day:02d}",
    )


_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_WORD_VALUE = {word: i for i, word in enumerate(_UNITS)}
_WORD_VALUE |= {word: 10 * i for i, word in enumerate(_TENS, start=2)}
_SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_WORD = "|".join([*_WORD_VALUE, *_SCALES])
_NUMBER = re.compile(
    r"(?<![\w.,])(?P<digits>"
    r"(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?:[\u00a0\u202f]\d{3})+|\d{1,3}(?: \d{3}){2,}|\d+)(?:\.\d+)?|\.\d+)"
    r"(?!\d|st\b|nd\b|rd\b|th\b)(?:\s+(?P<scale>hundred|thousand|million|billion|trillion)\b)?"
    rf"|\b(?P<words>(?:{'|'.join(_WORD_VALUE)})(?:(?:[\s-]+(?:and\s+)?)(?:{_WORD}))*)\b",
    re.IGNORECASE,
)


def find_numbers(text: str) -> list[Mention]:
    """Return all numbers in a text, whether written in digits (1,200, 3.5, -2, 1.2 million) or in words."""
    mentions = []
    for match in _NUMBER.finditer(text):
        start = match.start()
        if match["words"]:
            value = Decimal(_parse_words(match["words"]))
        else:
            value = Decimal(re.sub(r"[^\d.]", "", match["digits"]))
            if match["scale"]:  # the product is rounded to 28 digits by Decimal
                value *= _SCALES[match["scale"].lower()]
            preceding = text[: start - 1].rstrip()[-1:]
            # A minus is a sign unless it is between operands ("1990-1995") or within a word ("F-16").
            has_minus = text[max(0, start - 1) : start] in ("-", "−")
            if has_minus and not (
                preceding.isdigit() or preceding == ")" or text[max(0, start - 2) : start - 1].isalnum()
            ):
                start, value = start - 1, value.copy_negate()
        mentions.append(Mention(start, match.end(), value))
    return mentions


def _parse_words(words: str) -> int:
    """Convert ``one hundred and twenty-five thousand`` to 125000."""
    total = current = 0
    for word in re.findall(r"[a-z]+", words.lower()):
        if word == "hundred":
            current *= 100
        elif word in _SCALES:
            total, current = total + current * _SCALES[word], 0
        else:
            current += _WORD_VALUE.get(word, 0)
    return total + current


def as_number(text: str) -> Decimal | None:
    """Convert a text such as ``"1,200"`` to a number, or return None if it is not a finite number."""
    try:
        value = Decimal(text.replace(",", "").replace("−", "-").strip())
    except InvalidOperation:
        return None
    return value if value.is_finite() else None


_NEGATION = re.compile(
    r"(?:\b(?:not(?! only)|never|neither|nor|no longer|without|except|rather than|instead of|other than|"
    r"unlike|outside|cannot)|n['’]t)\b(?:[^\S\n]+[\w'’-]+){0,4}[^\S\n]*[\"'“(*]*$",
    re.IGNORECASE,
)


def is_negated(text: str, mention: Mention) -> bool:
    """Return True if a negation ("not", "n't", "rather than", …) precedes a mention by at most four words."""
    return _NEGATION.search(text[max(0, mention.start - 120) : mention.start]) is not None


_ENUMERATION = re.compile(r"\W*(?:or|and|nor|&|/|and/or)\W*(?:the\s+)?", re.IGNORECASE)
_ENUMERATES = re.compile(r"\b(?:either|both|between|neither|whether)\W+(?:the\s+)?$", re.IGNORECASE)


def _enumerated(text: str, mentions: list[Mention]) -> set[Mention]:
    """Return the mentions that are alternatives in an enumeration ("either A or B", "A or B", "both A and B")."""
    listed: set[Mention] = set()
    for first, second in pairwise(mentions):
        joint = text[first.stop : second.start]
        enumerates = re.search(r"\bor\b|/", joint) or _ENUMERATES.search(text[: first.start])
        if first.value != second.value and enumerates and _ENUMERATION.fullmatch(joint):
            listed |= {first, second}
    return listed


_COMPARED = re.compile(r"\b(?:than|compared (?:to|with)|versus|vs\.?|unlike)\s+(?:the\s+|that of\s+)*$", re.IGNORECASE)


def is_compared(text: str, mention: Mention) -> bool:
    """Return True if a mention is the standard of a comparison ("more people than Libya")."""
    return _COMPARED.search(text[max(0, mention.start - 40) : mention.start]) is not None


def asserted_name(text: str, groups: Groups) -> Mention | None:
    """Return the first possible answer that a text asserts, or None.

    Mentions that are negated, part of an enumeration, or the standard of a comparison are ignored.  If the answer is
    mentioned first as an adjective and later by its name ("the Canadian province of Quebec, Canada"), the name is
    returned.
    """
    mentions = find_names(text, groups)
    listed = _enumerated(text, mentions)
    asserted = [m for m in mentions if not (m in listed or is_negated(text, m) or is_compared(text, m))]
    if not asserted:
        return None
    first = asserted[0]
    return next((m for m in asserted if m.value == first.value and not m.is_adjective), first)


_LETTER = re.compile(
    r"(?:^|\b(?i:answer|option|choice|letter)\b(?:\s+(?:is|would be))?:?)[\s(\[*\"'`]*([A-Z])"
    r"(?=[)\].:,*\"'`]|\s*(?:$|[-–—]))|\b(?i:option|choice|letter)\s+([A-Z])\b",
    re.MULTILINE,
)
_LETTER_BEFORE = re.compile(r"\b([A-Z])\s?[)\].:*\"'`–—-]{1,4}\s*$")
_ANNOUNCED = re.compile(r"\banswer\b[^.\n]{0,40}(?:\n\W*)?$", re.IGNORECASE)


def asserted_choice(text: str, groups: Groups) -> Mention | None:
    """Return the first choice that a text asserts, or None.

    A choice can be asserted by its letter ("B", "(B)", "The answer is B.") or by its words.  A letter that is followed
    by the words of the same choice forms one mention with them.  A letter that is followed by the words of a different
    choice is ignored.  An announced choice ("The answer is …") has priority, because a model may first repeat all
    choices.
    """
    names = find_names(text, groups)
    listed = _enumerated(text, names)
    mentions = []
    for match in _LETTER.finditer(text):
        group = 1 if match[1] else 2
        if (number := ord(match[group]) - ord("A")) < len(groups):
            mentions.append(Mention(match.start(group), match.end(group), number))
    for name in names:
        letter = _LETTER_BEFORE.search(text[: name.start])
        if letter is None or (number := ord(letter[1]) - ord("A")) >= len(groups):
            mentions.append(name)
            continue
        mentions = [m for m in mentions if m.start != letter.start(1)]
        if number == name.value:
            mentions.append(Mention(letter.start(1), name.stop, name.value))
            listed |= {mentions[-1]} if name in listed else set()
    asserted = [m for m in mentions if not (m in listed or is_negated(text, m) or is_compared(text, m))]
    announced = [m for m in asserted if _ANNOUNCED.search(text[: m.start])]
    return min(announced or asserted, key=lambda m: m.start, default=None)


_RESULT_BEFORE = re.compile(
    r"(?:=|≈|\b(?:is|are|be|equals?|gives?|gets?|makes?|leaves|answer|result)\b:?|"
    r"\bequal to\b|####|\\boxed\{)(?:\s+(?:us|you|to|about|approximately|exactly|only|just|simply))?\s*[$*`]*$",
    re.IGNORECASE,
)
_OPERATOR_AFTER = re.compile(
    r"\s*(?:[+*/×÷=^−-]\s*(?:\d|$)|x\s*\d|[+×÷=]|\*(?!\*)|\b(?:plus|minus|times|multiplied|divided|added|subtracted|"
    r"more than|less than)\b)",
    re.IGNORECASE,
)


def asserted_number(question: str, text: str) -> Mention | None:
    """Return the number that a text states as its result, or None.

    The result is the first of the following that exists:

    1. the last number after "=", "is", "equals", "####", … that is not an operand,
    2. the last number that is neither an operand nor in the question,
    3. the only number in the text.
    """
    in_question = {m.value for m in find_numbers(question)}
    numbers = [m for m in find_numbers(text) if not is_negated(text, m) and not _OPERATOR_AFTER.match(text, m.stop)]
    results = [m for m in numbers if _RESULT_BEFORE.search(text[max(0, m.start - 60) : m.start])]
    if results:
        return results[-1]
    new = [m for m in numbers if m.value not in in_question and text[m.start : m.stop].lower() != "one"]
    if new:
        return new[-1]
    return numbers[0] if len({m.value for m in find_numbers(text)}) == 1 and numbers else None


def announces_result(text: str) -> bool:
    """Return True if a text ends with words that announce a number ("which gives us", "46 + 92 =")."""
    return _RESULT_BEFORE.search(text.rstrip()[-60:]) is not None


_REFUSAL = re.compile(
    r"\b(?:I\s+(?:do\s?n['’o]t|don['’]t|cannot|can['’]t|could\s?n['’]t)\s+"
    r"(?:know|answer|determine|provide|find|say|tell|have (?:any |enough |the )?information)|"
    r"I['’]?\s?a?m\s+(?:not\s+(?:sure|aware|able|certain)|unable|sorry|afraid)|"
    r"(?:it\s+is|it['’]s)\s+(?:impossible|not\s+possible)\s+to\s+(?:say|know|determine|answer|tell)|"
    r"as\s+an\s+AI|there\s+is\s+no\s+(?:answer|information)|no\s+one\s+knows|unknown)\b",
    re.IGNORECASE,
)


def is_refusal(text: str) -> bool:
    """Return True if a text declines to answer ("I don't know", "I'm sorry, but I cannot …")."""
    return _REFUSAL.search(text) is not None
