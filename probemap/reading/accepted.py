"""Read accepted answers as names, numbers with units, and dates, and find where a text mentions them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from probemap.reading.dates import Date, find_dates
from probemap.reading.folding import words_of
from probemap.reading.names import find_names
from probemap.reading.numbers import Number, as_number, find_all_numbers, find_numbers, is_grouped
from probemap.reading.persons import find_persons
from probemap.reading.units import convert, unit_of


@dataclass(frozen=True)
class AcceptedMention:
    """A mention of an accepted answer, ``text[start:stop]``."""

    start: int
    stop: int


@dataclass(frozen=True)
class Quantity:
    """An accepted answer that is a number, possibly with a unit."""

    answer: str
    number: Number
    unit: str | None

    def is_stated(self, text: str, number: Number) -> bool:
        """Return True if a number in a text equals the quantity.

        If the text states no unit, the unit of the quantity is assumed.
        """
        stated = unit_of(text, number.start, number.stop) if self.unit else None
        if self.unit and stated and self.unit != stated:
            return convert(number.value, stated, self.unit) == self.number.value
        if number.value != self.number.value and not is_grouped(text, number, self.number.value):
            return False
        return number.is_ordinal or not self.number.is_ordinal or _is_whole(text, number)


@dataclass(frozen=True)
class AcceptedValues:
    """The accepted answers of a question, as names, quantities and dates.

    Examples
    --------
    >>> from probemap.reading.accepted import AcceptedValues
    >>> text = "It is 12 kilometres long."
    >>> [text[m.start:m.stop] for m in AcceptedValues.of(("12 km",)).find(text)]
    ['12']
    """

    names: tuple[str, ...]
    quantities: tuple[Quantity, ...]
    """Accepted answers that are a number, possibly with a unit."""
    dates: tuple[Date, ...]

    @staticmethod
    @lru_cache(maxsize=4096)
    def of(answers: tuple[str, ...]) -> AcceptedValues:
        """Return the values of accepted answers."""
        dates = tuple(date for answer in answers for date in find_dates(answer) if _is_whole(answer, date))
        quantities = tuple(
            Quantity(answer, number, unit_of(answer, number.start, number.stop))
            for answer in answers
            if (number := _quantity(answer)) is not None
        )
        numeric = {
            q.answer
            for q in quantities
            if find_numbers(q.answer) and _is_whole(q.answer, q.number) and not q.number.is_ordinal
        }
        return AcceptedValues(tuple(answer for answer in answers if answer not in numeric), quantities, dates)

    def find(self, text: str) -> list[AcceptedMention]:
        """Return the mentions of the accepted answers in a text, in order."""
        mentions = [AcceptedMention(name.start, name.stop) for name in find_names(text, [self.names])]
        mentions = mentions or [AcceptedMention(*span) for span in find_persons(text, self.names)]
        if self.quantities:
            mentions += [
                AcceptedMention(n.start, n.stop)
                for n in find_all_numbers(text)
                if any(quantity.is_stated(text, n) for quantity in self.quantities)
            ]
            if not mentions and (whole := as_number(text.strip(" .!"))) is not None:
                start = len(text) - len(text.lstrip())
                if any(whole == quantity.number.value for quantity in self.quantities):
                    mentions.append(AcceptedMention(start, len(text.rstrip())))
        if self.dates:
            mentions += [
                AcceptedMention(date.start, date.stop)
                for date in find_dates(text)
                if any(date.includes(accepted) for accepted in self.dates)
            ]
        return sorted(mentions, key=lambda mention: mention.start)

    def is_less_precise(self, text: str) -> bool:
        """Return True if a text states a date or a year that agrees with an accepted date but lacks parts of it."""
        if not self.dates:
            return False
        stated = find_dates(text)
        years = {int(n.value) for n in find_numbers(text) if n.value.denominator == 1}
        return any(
            any(accepted.includes(date) for date in stated) or (not stated and accepted.year in years)
            for accepted in self.dates
        )


def _is_whole(text: str, part: Date | Number) -> bool:
    rest = text[: part.start] + text[part.stop :]
    return not re.search(r"\w", rest)


def _quantity(answer: str) -> Number | None:
    """Return the number if an accepted answer is a number, with or without a unit, and None otherwise."""
    numbers = find_numbers(answer)
    if len(numbers) != 1:
        value = as_number(answer)
        return None if value is None else Number(0, len(answer), value)
    (number,) = numbers
    rest = re.sub(
        r"^(?:about|approximately|around|roughly|~|≈)\s*", "", answer[: number.start].strip(), flags=re.IGNORECASE
    )
    following = answer[number.stop :].strip()
    if not re.search(r"\w", rest + following):
        return number
    is_currency = rest.lower() in ("$", "us$", "€", "£", "rs.", "rs", "¥")
    has_place = (not rest or is_currency) and len(words_of(following)) <= 2
    return number if has_place and unit_of(answer, number.start, number.stop) else None
