"""Find the number that a text states as its answer: a fact, or the result of a calculation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

from probemap.reading.asserted import Asserted, own_length
from probemap.reading.clauses import CONCLUSION_WORDS, repeating_mention
from probemap.reading.dates import find_dates
from probemap.reading.folding import find_words
from probemap.reading.numbers import Number, find_all_numbers, find_numbers
from probemap.reading.sentences import sentence_at, sentences
from probemap.reading.stance import Stance, stances
from probemap.reading.units import unit_of

_STRONG = re.compile(
    r"(?:####|\\boxed\s*\{|\b(?:final\s+)?(?:answer|result|solution)\b\s*(?:is|=|:|would be|to (?:the"
    r"|this) (?:question|problem) is)|\b(?:respuesta|antwort|réponse|ответ|答案)\b\s*(?:es|ist|est|是|:|：|—)?)"
    r"[\s:*_$`(]*(?:(?:about|approximately|exactly|only|just|simply|Rs\.?|US\$|[$€£¥])\s?)*$",
    re.IGNORECASE,
)
_TOTAL_AFTER = re.compile(
    r"(?:\s+[a-z]+){0,3}\s+(?:in total|in all|altogether|all together|insgesamt|au total|en total|in totale)\b",
    re.IGNORECASE,
)
_RESULT_BEFORE = re.compile(
    r"(?:=|≈|\b(?:is|are|be|equals?|gives?|gets?|makes?|leaves|has|have|answer|result|total|sum)\b:?|\bequal to\b"
    r"|####|\\boxed\{)"
    r"(?:\s+(?:us|you|to|of|about|approximately|exactly|only|just|simply))*\s*(?:Rs\.?\s?)?[$€£*`_(]*$",
    re.IGNORECASE,
)
_OPERATOR_AFTER = re.compile(
    r"\s*(?:[+*/×÷=^−]\s*(?:[\d(]|$)|-\s*\d|x\s*\d|[+×÷=]|\*(?!\*)|\b(?:plus|minus|times|multiplied|divided|added"
    r"|subtracted|"
    r"more than|less than|out of|percent of|% of)\b|%\s*of\b)",
    re.IGNORECASE,
)
_WORKING = re.compile(r"\d\s*(?:[a-z]{0,12}\s*)?[+*×÷/−-]\s*[$€£]?\d[^=\n]{0,40}=|\\times|=\s*[$€£]?-?\d")
_ASKS_YEAR = re.compile(
    r"\b(?:(?:what|which)\s+(?:year|date)|in\s+(?:what|which)\s+year|when|año|cu[aá]ndo|jahr|wann|année|quand|ano"
    r"|quando|anno|año|jaar|wanneer)\b"
    r"|в каком году|когда|哪一年|哪年|何年|いつ|أي عام|متى|किस वर्ष|कब|hangi yıl",
    re.IGNORECASE,
)
_COUNTS = re.compile(r"\bhow\s+(?:many|much|old|tall|high|long|far|deep|heavy|fast|large|big)\b", re.IGNORECASE)
_COUNTED = re.compile(r"\bhow\s+many\s+(?:more\s+|total\s+|different\s+|other\s+)*([a-z]+)", re.IGNORECASE)
_NONE = re.compile(r"\W*(?:none|zero|nothing|no(?:ne)? (?:at all|left|remain))\W*", re.IGNORECASE)


def asserted_number(question: str, text: str) -> Asserted | None:
    """Return the number that a text states as its answer, or None.

    The answer is the first of the following that exists:

    1. the last announced result ("#### 18", ``\\boxed{18}``, "The answer is 18"),
    2. the year, if the question asks for a year or a date,
    3. in a text that contains a calculation ("16 - 7 = 9"), the last result, preferably one that counts what the
       question asks for,
    4. in any other text, the first number that is not negated, not an operand, and not in the question, unless a
       different number in its sentence fits the question better.

    Examples
    --------
    >>> from probemap.reading.results import asserted_number
    >>> text = "In 1969, Apollo 11 landed on the Moon."
    >>> int(asserted_number("In which year did people land on the Moon?", text).value)
    1969
    """
    text = text[: own_length(text)]
    text = _without_check(text)
    numbers = find_all_numbers(text)
    if not numbers:
        return (
            Asserted(*_span(text), Fraction(0), "none means zero")
            if _NONE.fullmatch(text) and re.search(r"\bhow many\b", question, re.IGNORECASE)
            else None
        )
    usable = _usable(text, numbers)
    if totals := [n for n in usable if _TOTAL_AFTER.match(text, n.stop)]:
        return _asserted(totals[-1], "announced result")
    if announced := [n for n in usable if _STRONG.search(text[max(0, n.start - 60) : n.start])]:
        return _asserted(announced[-1], "announced result")
    asks_year = _ASKS_YEAR.search(question) is not None and _COUNTS.search(question) is None
    if asks_year and (year := _stated_year(question, text, usable)):
        return year
    conclusion = _conclusion(text)
    in_question = {number.value for number in find_all_numbers(question)}
    if not asks_year:
        dates = [(date.start, date.stop) for date in find_dates(text)]
        usable = [n for n in usable if not any(start <= n.start < stop for start, stop in dates)] or usable
    new = [n for n in usable if n.value not in in_question and text[n.start : n.stop].lower() != "one"]
    if _WORKING.search(text):
        results = [n for n in usable if _RESULT_BEFORE.search(text[max(0, n.start - 60) : n.start])]
        counted = [n for n in results if _is_counted(question, text, n)]
        concluded = [n for n in results if n.start >= conclusion] if conclusion else []
        candidates = counted or concluded or results or new
        return _asserted(candidates[-1], "last result") if candidates else None
    stated = [
        n for n in new if not (_is_reference_year(text, n) or _PART_BEFORE.search(text, max(0, n.start - 40), n.start))
    ] or new
    if stated and _leads(text, stated):
        return _asserted(stated[0], "first number stated")
    stated = [n for n in stated if not n.is_ordinal] or stated
    stated = [n for n in stated if n.start >= conclusion] or stated
    if stated:
        stated = [n for n in stated if _is_counted(question, text, n)] or stated
        return _stated(question, text, stated, "first number stated")
    if len({n.value for n in numbers}) != 1 or not usable or _only_repeats(question, text, usable):
        return None
    return _asserted(usable[0], "only number")


def _only_repeats(question: str, text: str, numbers: Sequence[Number]) -> bool:
    """Return True if a question contains several numbers, and a text repeats one of them with the word after it."""
    if len(find_all_numbers(question)) < _SEVERAL or _leads(text, numbers):
        return False
    following = (_NEXT_WORD.match(text, number.stop) for number in numbers)
    return all(
        match is not None and find_words(question, text[number.start : match.end()]) is not None
        for number, match in zip(numbers, following, strict=True)
    )


_NEXT_WORD = re.compile(r"[\s-]+[^\W\d_]+")
_SEVERAL = 2
"""Minimum number of numbers in a word problem."""


_CHECK = re.compile(
    r"\b(?:check(?:ing)?|verif(?:y|ication)|proof)\s*:|\b(?:you can|let['’]s|we can|to)\s+(?:check|verify)\b"
    r"|,?\s+(?:because|(?-i:since))\b|✓",
    re.IGNORECASE,
)
_CONCLUSION = re.compile(
    rf"(?:^|[\s,;.(])(?:{CONCLUSION_WORDS}|in total|in all|altogether|that is,?|i\.e\.,?|but(?:\s+(?:now"
    r"|since))?|and (?:pays?|an? adults?)|"
    r"that leaves|donc|also|por lo tanto|daher)\b",
    re.IGNORECASE,
)
_REFERENCE = re.compile(
    r"\b(?:as of|according to an?|since|until|in|by|from|survey of|born in|when\b[^.!?\n]{0,20}\bin)\s+(?:\w+\s+)?$",
    re.IGNORECASE,
)


def _without_check(text: str) -> str:
    """Return the text before a check or a reason that follows a stated number ("x = 6. Check: 3 · 6 + 7 = 25")."""
    first = re.search(r"\d", text)
    check = _CHECK.search(text, first.end()) if first else None
    return text[: check.start()] if check else text


def _conclusion(text: str) -> int:
    """Return the index after the last word such as "so" that is followed by a number, or 0 if there is none."""
    last_digit = max((match.start() for match in re.finditer(r"\d", text)), default=-1)
    return max((match.end() for match in _CONCLUSION.finditer(text) if match.end() <= last_digit), default=0)


def _is_reference_year(text: str, number: Number) -> bool:
    """Return True if a number is the year of a source or of a circumstance ("As of 2023, …")."""
    is_year = re.fullmatch(r"\d{4}", text[number.start : number.stop]) is not None and 1000 <= number.value <= 2100
    return is_year and _REFERENCE.search(text[max(0, number.start - 40) : number.start]) is not None


def _span(text: str) -> tuple[int, int]:
    start = len(text) - len(text.lstrip())
    return start, max(start + 1, len(text.rstrip()))


def _usable(text: str, numbers: Sequence[Number]) -> list[Number]:
    """Return the numbers that are not negated, withdrawn, operands, or numbers of list items."""
    candidates = [n for n in numbers if not _OPERATOR_AFTER.match(text, n.stop) and not _is_item_number(text, n)]
    found = stances(text, candidates)
    return [n for n, stance in zip(candidates, found, strict=True) if stance not in (Stance.NEGATED, Stance.WITHDRAWN)]


def _is_item_number(text: str, number: Number) -> bool:
    """Return True if a number is the number of a list item ("1. …")."""
    line_start = text.rfind("\n", 0, number.start) + 1
    return (
        not text[line_start : number.start].strip(" *#-")
        and bool(re.match(r"[.)]\s+\S", text[number.stop : number.stop + 4]))
        and "\n" in text
    )


def _stated_year(question: str, text: str, numbers: Sequence[Number]) -> Asserted | None:
    years = {number.value for number in numbers if _is_year(text, number)}
    for date in find_dates(text):
        if date.year is not None and date.year_start is not None and (len(years) < 2 or date.start < 10):
            return Asserted(
                date.year_start, date.year_start + len(str(date.year)), Fraction(date.year), "year of a date"
            )
    return _stated(question, text, [number for number in numbers if _is_year(text, number)], "first year")


_CIRCUMSTANCE = re.compile(
    r"\b(?:in|of|for|with|per|after|before|by|at|within|over|under|every|from)\s+$", re.IGNORECASE
)


def _is_year(text: str, number: Number) -> bool:
    is_written_as_year = re.fullmatch(r"\d{4}", text[number.start : number.stop]) is not None
    return is_written_as_year or (number.value.denominator == 1 and 1000 <= number.value <= 2100)


def _stated(question: str, text: str, numbers: Sequence[Number], rule: str) -> Asserted | None:
    """Return the number that a text states, read from the first sentence that contains any of the given numbers.

    Numbers in brackets, in questions and after prepositions are ignored if there are others.  Of several numbers, the
    result is the one with which the text begins or, if there is none, the one whose clause repeats most of the question
    ("A newborn has 270 bones, an adult has 206.").  The result is None if none of the numbers is preferred.
    """
    ranges = sentences(text)
    numbers = [n for n in numbers if text[sentence_at(ranges, n.start)[1] - 1] != "?"] or list(numbers)
    if not numbers:
        return None
    start, stop = sentence_at(ranges, numbers[0].start)
    if _leads(text, numbers):
        return _asserted(numbers[0], rule)
    first = [n for n in numbers if start <= n.start < stop]
    first = [n for n in first if text.count("(", start, n.start) == text.count(")", start, n.start)] or first
    if len({n.value for n in first}) > 1 and (repeating := _repeating(question, text[:stop], first)):
        return _asserted(repeating, rule)
    first = [n for n in first if not _CIRCUMSTANCE.search(text[max(0, n.start - 12) : n.start])] or first
    return _asserted(first[0], rule) if len({n.value for n in first}) == 1 else None


_LEADING = re.compile(
    r"\W*(?:(?:it|that|there|they)(?:['’]s|\s+is|\s+are|\s+was|\s+were)\s+)?"
    r"(?:(?:about|approximately|around|exactly|roughly|only|just|number|in)\s+)*\W*",
    re.IGNORECASE,
)
_PART_BEFORE = re.compile(r"\b(?:of (?:whom|which|these|those)|including|among them)\W+(?:\w+\W+)?$", re.IGNORECASE)


def _leads(text: str, numbers: Sequence[Number]) -> bool:
    """Return True if a text begins with the first of the numbers, and its clause contains no other number."""
    first = numbers[0]
    if _LEADING.fullmatch(text[: first.start]) is None or re.search(r"[a-z]{3}", text[first.start : first.stop]):
        return False
    end = re.compile(r"[,;:.?!(\n]\s|[?!.(]|$").search(text, first.stop)
    return end is not None and not any(first.stop <= n.start < end.start() for n in find_numbers(text))


def _repeating(question: str, text: str, numbers: Sequence[Number]) -> Number | None:
    """Return the number whose clause repeats most words of the question.

    The result is None if several numbers repeat equally many words, have different units, or form a range.
    """
    if len({unit_of(text, number.start, number.stop) for number in numbers}) > 1 or any(
        _IN_RANGE.fullmatch(text[a.stop : b.start]) for a, b in pairwise(numbers)
    ):
        return None
    return repeating_mention(question, text, numbers)


_IN_RANGE = re.compile(r"\s*(?:–|-|—|to|until|and|or)\s*(?:\d+\s\w+\s)?")


def _is_counted(question: str, text: str, number: Number) -> bool:
    """Return True if the number counts what the question asks for ("How many eggs are left?", "9 eggs")."""
    counted = _COUNTED.search(question)
    following = re.match(r"\W{0,3}(?:\w+\s+)?([a-z]+)", text[number.stop : number.stop + 40], re.IGNORECASE)
    if counted is None or following is None:
        return False
    return (
        re.search(
            rf"\b{re.escape(counted[1][:-1] if len(counted[1]) > 3 else counted[1])}",
            text[number.stop : number.stop + 40],
            re.IGNORECASE,
        )
        is not None
    )


def _asserted(number: Number, rule: str) -> Asserted:
    return Asserted(number.start, number.stop, number.value, rule)


def announces_result(text: str) -> bool:
    """Return True if a text ends with words that announce a number ("which gives us", "46 + 92 =")."""
    return _RESULT_BEFORE.search(text.rstrip()[-60:]) is not None


def continues_steps(text: str) -> bool:
    """Return True if the part of a text after a number begins another step of a calculation.

    Examples
    --------
    >>> from probemap.reading.results import continues_steps
    >>> continues_steps("\\n\\nStep 3: Add the flowers."), continues_steps(" flowers in all.")
    (True, False)
    """
    return _NEXT_STEP.search(text) is not None


_NEXT_STEP = re.compile(r"\n\W*(?:step\s+\d|\d+[.)]\s+[A-Z])|\n\s*[-*]\s+\w+\s+\d+\s*:", re.IGNORECASE)
