"""Dates, numbers and quantities that could be an answer."""

from __future__ import annotations

import regex

from probemap.reading.asked import Kind
from probemap.reading.candidates import Candidate
from probemap.reading.dates import find_dates
from probemap.reading.folding import fold
from probemap.reading.grammar import FUNCTION
from probemap.reading.numbers import find_numbers


def find_values(text: str, kind: Kind) -> list[Candidate]:
    """Return the dates, years, numbers or quantities in a text, depending on the kind.

    Parameters
    ----------
    text : str
    kind : Kind
        Kind of the value that a question asks for.

    Returns
    -------
    list of Candidate
        Character ranges in `text`, of the kind ``date`` or ``number``.

    Examples
    --------
    >>> from probemap.reading.asked import Kind
    >>> from probemap.reading.values import find_values
    >>> find_values("It opened in 1889.", Kind.YEAR)
    [Candidate(start=13, stop=17, kind='date')]
    """
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
