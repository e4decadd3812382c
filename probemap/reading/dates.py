"""Find dates in a text: July 4, 1776; the fourth of July, 1776; 1776-07-04; 4.7.1776; 4 de julio de 1776."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
_MONTH = "|".join(f"{month[:3]}(?:{month[3:]}|t)?\\.?" if len(month) > 3 else month for month in _MONTHS)
_ORDINALS = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth "
    "sixteenth seventeenth eighteenth nineteenth twentieth twenty-first twenty-second twenty-third twenty-fourth "
    "twenty-fifth twenty-sixth twenty-seventh twenty-eighth twenty-ninth thirtieth thirty-first"
).split()
_DAY = rf"(?:\d{{1,2}}(?:st|nd|rd|th|\.(?=\s))?|{'|'.join(reversed(_ORDINALS))})"
_YEAR = r"(?:\d{4}|\d{3}(?=\s*(?:AD|BC|CE)))"
_DATE = re.compile(
    rf"\b(?P<m1>{_MONTH})\s+(?:the\s+)?(?P<d1>{_DAY})\b(?:(?:,|\s+of|\s+in)?\s+(?P<y1>{_YEAR})\b)?"
    rf"|\b(?:the\s+)?(?P<d2>{_DAY})\s+(?:day\s+)?(?:of\s+)?(?P<m2>{_MONTH})\b(?:(?:,|\s+of"
    rf"|\s+in)?\s+(?P<y2>{_YEAR})\b)?"
    rf"|\b(?P<m3>{_MONTH})(?:\s+of|\s+in|,)?\s+(?P<y3>{_YEAR})\b"
    r"|(?<![\d./-])(?P<y4>\d{4})(?P<s4>[-/.])(?P<m4>\d{1,2})(?P=s4)(?P<d4>\d{1,2})(?![\d/-]|\.\d)"
    r"|(?<![\d./-])(?P<a5>\d{1,2})(?P<s5>[-/.])(?P<b5>\d{1,2})(?P=s5)(?P<y5>\d{4})(?![\d/-]|\.\d)"
    r"|(?<!\d)(?P<y6>\d{4})年(?P<m6>\d{1,2})月(?:(?P<d6>\d{1,2})[日号])?",
    re.IGNORECASE,
)
_DAY_OR_YEAR = re.compile(r"\d|first|second|third|(?:th|thirty-first)\b", re.IGNORECASE)
"""Every date contains a match: a digit, or part of an ordinal in words."""
_MONTH_OR_SEPARATORS = re.compile(
    rf"{'|'.join(month[:3] for month in _MONTHS)}|\d[-/.]\d{{1,2}}[-/.]\d|年", re.IGNORECASE
)
"""Every date in English or in digits contains a match: the beginning of the name of a month, or two separators."""
_FOREIGN = re.compile(
    r"(?<![\w.,])\d{1,2}(?:\.|er|\u00ba)?\s+(?:de\s+|d')?[^\W\d_]{3,12}\.?,?\s+(?:de\s+|del\s+)?\d{4}(?!\w)"
)


@dataclass(frozen=True)
class Date:
    """A date that is written in a text as ``text[start:stop]``.  Parts that are not stated are None."""

    start: int
    stop: int
    year: int | None
    month: int | None
    day: int | None
    year_start: int | None = None
    """Index of the year in the text."""
    swapped: tuple[int, int] | None = None
    """The second possible (month, day) of a date such as 4/7/1776, in which the order is unknown."""

    def includes(self, other: Date) -> bool:
        """Return True if every part that `other` states is stated here with the same value.

        If the order of day and month is unknown, it is sufficient that the dates agree in one possible order.
        """
        if other.year is not None and self.year != other.year:
            return False
        wanted = {(other.month, other.day), other.swapped or (other.month, other.day)}
        stated = {(self.month, self.day), self.swapped or (self.month, self.day)}
        return any(
            (month is None or month == own_month) and (day is None or day == own_day)
            for month, day in wanted
            for own_month, own_day in stated
        )


def find_dates(text: str) -> list[Date]:
    """Return the dates in a text that state at least two of year, month and day.

    Examples
    --------
    >>> from probemap.reading.dates import find_dates
    >>> [(d.year, d.month, d.day) for d in find_dates("From Jul 4, 1776 to the third of September 1783.")]
    [(1776, 7, 4), (1783, 9, 3)]
    """
    if _DAY_OR_YEAR.search(text) is None:
        return []
    dates = []
    for match in _DATE.finditer(text) if _MONTH_OR_SEPARATORS.search(text) else ():
        if match["a5"]:
            first, second = int(match["a5"]), int(match["b5"])
            readings = [(m, d) for m, d in ((first, second), (second, first)) if 1 <= m <= 12 and 1 <= d <= 31]
            if readings:
                other = readings[1] if len(readings) == 2 and first != second else None
                dates.append(
                    Date(
                        start=match.start(),
                        stop=match.end(),
                        year=int(match["y5"]),
                        month=readings[0][0],
                        day=readings[0][1],
                        year_start=match.start("y5"),
                        swapped=other,
                    )
                )
            continue
        parts = {part: _group(match, part) for part in "ymd"}
        month = None if parts["m"] is None else _month_number(match[parts["m"]])
        day = None if parts["d"] is None else _day_number(match[parts["d"]])
        if month is None or (day is not None and not 1 <= day <= 31):
            continue
        dates.append(
            Date(
                start=match.start(),
                stop=match.end(),
                year=None if parts["y"] is None else int(match[parts["y"]]),
                month=month,
                day=day,
                year_start=None if parts["y"] is None else match.start(parts["y"]),
            )
        )
    if not dates and not text.isspace():
        dates = [date for match in _FOREIGN.finditer(text) if (date := _foreign_date(match[0], match.start()))]
    return dates


def _group(match: re.Match[str], part: str) -> str | None:
    """Return the name of the group that holds a part of a date (``y``, ``m`` or ``d``), or None."""
    return next((name for name in match.re.groupindex if name[0] == part and match[name] is not None), None)


def _month_number(month: str) -> int | None:
    if month.isdigit():
        return int(month) if 1 <= int(month) <= 12 else None
    prefix = month[:3].casefold()
    return next(number for number, name in enumerate(_MONTHS, start=1) if name[:3].casefold() == prefix)


def _day_number(day: str) -> int:
    digits = re.match(r"\d+", day)
    return int(digits[0]) if digits else _ORDINALS.index(day.casefold()) + 1


@lru_cache(maxsize=4096)
def _foreign_date(text: str, start: int) -> Date | None:
    """Read a date with the name of a month in another language."""
    import dateparser

    parsed = dateparser.parse(text, settings={"REQUIRE_PARTS": ["day", "month", "year"]})
    if parsed is None:
        return None
    return Date(
        start=start,
        stop=start + len(text),
        year=parsed.year,
        month=parsed.month,
        day=parsed.day,
        year_start=start + len(text) - 4,
    )
