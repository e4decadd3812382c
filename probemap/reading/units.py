"""Read the units of numbers: percent, currencies, and the units of measurement that `pint` knows."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import cache

CURRENCY_BEFORE = re.compile(r"(US\$|[$€£])\s?$")
_UNIT_WORDS = {
    "percent": ("%", "\\%", "percent", "per cent", "pct", "prozent", "por ciento", "pour cent", "por cento"),
    "dollar": ("$", "dollars", "dollar", "usd", "us$", "us dollars", "american dollars", "us-dollar", "dólares"),
    "cent": ("cents", "cent", "¢"),
    "euro": ("€", "euros", "euro", "eur"),
    "pound": ("£", "pounds sterling", "gbp"),
    "degC": ("°c", "° c", "degrees celsius", "celsius", "degrees c"),
    "degF": ("°f", "° f", "degrees fahrenheit", "fahrenheit", "degrees f"),
}
_UNIT_OF = {word: unit for unit, words in _UNIT_WORDS.items() for word in words}
_UNIT_NAME = r"(?:(?:square|cubic)\s+)?[a-zA-Zµ]+(?:[²³]|\^\{?[23]\}?)?"
_UNIT = re.compile(
    rf"[\s-]?(?:(?P<fixed>\\?%|°\s?[CF]\b|(?:{'|'.join(w for w in _UNIT_OF if ' ' in w or '-' in w)})\b)"
    rf"|(?P<base>{_UNIT_NAME})(?P<rate>\s?/\s?{_UNIT_NAME}|\s(?:per|an?)\s{_UNIT_NAME})?)",
    re.IGNORECASE,
)


def unit_of(text: str, start: int, stop: int) -> str | None:
    """Return the unit of the number ``text[start:stop]``, as a name that `pint` knows or a currency, or None.

    Examples
    --------
    >>> from probemap.reading.units import unit_of
    >>> text = "12 kilometres for $5"
    >>> unit_of(text, 0, 2), unit_of(text, 19, 20)
    ('kilometer', 'dollar')
    """
    match = _UNIT.match(text, stop)
    if match and match["fixed"]:
        return _UNIT_OF[re.sub(r"°\s", "°", match["fixed"].lower())]
    if currency := CURRENCY_BEFORE.search(text[max(0, start - 4) : start]):
        return _UNIT_OF[currency[1].lower()]
    if match is None or match[0].lower() == "s":
        return None  # "1990s" is a decade
    base = _UNIT_OF.get(match["base"].lower()) or _pint_unit(_in_pint(match["base"]))
    if base is None or match["rate"] is None:
        return base
    return _pint_unit(_in_pint(match["base"] + re.sub(r"^\s?(?:/|per|an?)\s?", "/", match["rate"]))) or base


def _in_pint(unit: str) -> str:
    """Return a unit as pint writes it: ``kilometre**2`` for square kilometre, km² and km^2."""
    unit = re.sub(r"\bsquare\s+(\w+)", r"\1**2", unit, flags=re.IGNORECASE)
    unit = re.sub(r"\bcubic\s+(\w+)", r"\1**3", unit, flags=re.IGNORECASE)
    return re.sub(r"\^\{?([23])\}?", r"**\1", unit).replace("²", "**2").replace("³", "**3")


@cache
def _registry():  # type: ignore[no-untyped-def]
    import pint

    return pint.UnitRegistry()


@cache
def _pint_unit(word: str) -> str | None:
    """Return the name by which pint knows a unit, or None if the word is not a unit of length, mass, time, etc."""
    if len(word) > 40 or word.lower() in _NOT_UNITS:
        return None
    from tokenize import TokenError

    import pint

    for spelling in (word, word.lower()):
        try:
            unit = _registry().parse_units(spelling)
        except (pint.errors.PintError, ValueError, TypeError, AttributeError, TokenError):
            continue
        return str(unit)
    return None


_NOT_UNITS = frozenset("a an at in is of or to and the by as on are was am pm it he be bc ad st".split())


def convert(value: Fraction, unit: str, target: str) -> Fraction | None:
    """Return the value of a quantity in another unit, or None if it cannot be converted.

    The value is rounded to nine significant digits.
    """
    import pint

    try:
        converted = _registry().Quantity(float(value), unit).to(target).magnitude
    except (pint.errors.PintError, ValueError, TypeError):
        return None
    return Fraction(f"{converted:.9g}")
