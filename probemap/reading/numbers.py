"""Find numbers in a text: digits, fractions, powers and words, with signs and scales."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from probemap.reading.number_words import cardinal, find_number_words
from probemap.reading.units import CURRENCY_BEFORE

_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_WORD_VALUE = {word: i for i, word in enumerate(_UNITS)}
_WORD_VALUE |= {word: 10 * i for i, word in enumerate(_TENS, start=2)}
_SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_SHORT_SCALES = {"k": 1000, "mn": 10**6, "bn": 10**9}
_FOREIGN_SCALES = {
    word: 10**power
    for power, words in (
        (3, "tausend mille mila mil duizend тысяч тысячи тысяча тыс"),
        (
            6,
            "millionen mio millones millón millions milhões milhão milioni milione miljoen millioner миллион миллиона "
            "миллионов млн",
        ),
        (
            9,
            "milliarden milliarde mrd milliards milliard miliardi miliardo bilhões bilhão miljard миллиард миллиарда "
            "миллиардов млрд",
        ),
        (12, "billionen billones trilhões"),
    )
    for word in words.split()
}
_EAST_ASIAN_SCALES = {"千": 1000, "万": 10**4, "萬": 10**4, "만": 10**4, "億": 10**8, "亿": 10**8, "억": 10**8}
_ALL_SCALES = _SCALES | _SHORT_SCALES | _FOREIGN_SCALES | _EAST_ASIAN_SCALES
_WORD = "|".join([*_WORD_VALUE, *_SCALES])
_PARTS = {"half": 2, "third": 3, "quarter": 4, "fifth": 5, "tenth": 10}
_COLLECTIVE = {"a dozen": 12, "one dozen": 12, "a couple": 2, "a hundred": 100, "a thousand": 1000, "a million": 10**6}
_VULGAR = "".join(chr(c) for c in (*range(0xBC, 0xBF), *range(0x2150, 0x215F)))

_NUMBER = re.compile(
    r"(?P<latex>\\[dt]?frac\s*\{\s*(?P<over>-?\d+)\s*\}\s*\{\s*(?P<under>\d+)\s*\})"
    r"|(?<![\w.,])(?:(?P<whole>\d+)[ \u00a0-]?)?"
    rf"(?:(?P<vulgar>[{_VULGAR}])|(?P<fraction>(?<![\d/])\d+\s?[/⁄]\s?[1-9]\d*(?![\d/]|[.,]\d)))"
    r"|(?<![A-Za-zÀ-ɏ^])(?<!\d)(?<!\d[.,])(?P<digits>"
    r"\d{1,3}(?:(?:,|\{,\}|['’\u00a0\u202f])\d{2,3})*(?:,|\{,\}|['’\u00a0\u202f])\d{3}(?:\.\d+)?(?![\d])"
    r"|\d{1,3}(?:\.\d{3})+,\d+|\d{1,3}(?:\.\d{3}){2,}(?!\d)|[1-9]\d{0,2}(?:[ \u00a0\u202f]\d{3})+(?![\d,.]?\d)"
    r"|\d+(?:[.,]\d+)?(?![.,]?\d)|\d+|(?<!\w)\.\d+)"
    r"(?P<power>[eE][+-]?\d+(?!\w)|\s?(?:×|x|\*|\\times|·)\s?10"
    r"(?:(?P<superscript>[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)|\s?(?:\^\s?\{?|\*\*)(?P<exponent>[-+−]?\d+)\}?)"
    r"|\s?(?:\^\s?\{?|\*\*)(?P<raised>\d+)\}?)?"
    r"(?P<ordinal>(?:st|nd|rd|th)\b)?"
    rf"(?P<scale>\s?(?:{'|'.join([*_SCALES, *_FOREIGN_SCALES])})\b|(?<=\d)(?:k|mn|bn)\b"
    rf"|(?<=\d)(?:{'|'.join(_EAST_ASIAN_SCALES)}))?"
    rf"|\b(?P<part>(?:(?:one|two|three|a)[\s-]+)?(?:{'|'.join(_PARTS)})s?)\b(?!\s+(?:of\s+)?(?:the\s+)?[A-Z])"
    rf"|\b(?P<collective>{'|'.join(_COLLECTIVE)})\b"
    rf"|\b(?P<words>(?:{'|'.join(_WORD_VALUE)})(?:(?:[\s-]+(?:and\s+)?)(?:{_WORD}))*)\b",
    re.IGNORECASE,
)
_MILLIONS = re.compile(r"m\b", re.IGNORECASE)
_DIGIT = re.compile(rf"[\d{_VULGAR}]")
_LETTERS = re.compile(r"[a-z]+")
_NUMBER_WORDS = frozenset(
    [
        *_WORD_VALUE,
        *_PARTS,
        *(f"{part}s" for part in _PARTS),
        *(word for key in _COLLECTIVE for word in key.split()[1:]),
    ]
)
"""Every number without a digit contains at least one of these words."""
_SUPERSCRIPTS = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
_SIGN = re.compile(r"(?:[-−–]\s?|(?P<word>\b(?:minus|negative)\s+))(?:Rs\.?\s?|[$€£¥]\s?)?$", re.IGNORECASE)


_SIGN_WORD = re.compile(r"(?:minus|negative)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Number:
    """A number that is written in a text as ``text[start:stop]``."""

    start: int
    stop: int
    value: Fraction
    is_ordinal: bool = False


@lru_cache(maxsize=64)
def find_numbers(text: str) -> tuple[Number, ...]:
    """Return all numbers in a text.

    Numbers may be written in digits (1,200, 1.234,5, 12,34,567), as fractions (1/2, 3½, ``\\frac{1}{2}``), as powers
    (1e6, 10^6), in English words, with a scale (1.2 million) or as an ordinal (44th).

    Examples
    --------
    >>> from probemap.reading.numbers import find_numbers
    >>> [float(number.value) for number in find_numbers("3 1/2, minus five, 1.2 million and 1,200")]
    [3.5, -5.0, 1200000.0, 1200.0]
    """
    if _DIGIT.search(text) is None and _NUMBER_WORDS.isdisjoint(_LETTERS.findall(text.lower())):
        return ()
    numbers = []
    for match in _NUMBER.finditer(text):
        value = _value(match)
        if value is None:
            continue
        start = match.start()
        if sign := _SIGN.search(text[max(0, start - 20) : start]):
            sign_start = start - len(sign[0])
            if sign["word"] or _is_sign(text, sign_start):
                start, value = sign_start, -value
        stop = match.end()
        if CURRENCY_BEFORE.search(text[max(0, start - 4) : start]) and (millions := _MILLIONS.match(text, stop)):
            stop, value = millions.end(), value * 10**6
        numbers.append(Number(start, stop, value, bool(match["ordinal"])))
    return tuple(_with_durations(text, numbers))


_SMALLER = {"hour": ("minute", 60), "minute": ("second", 60), "foot": ("inch", 12), "feet": ("inch", 12)}
_DURATION = re.compile(r"\s*(hour|minute|foot|feet)s?\s*(?:,|and)?\s*", re.IGNORECASE)


def _with_durations(text: str, numbers: list[Number]) -> list[Number]:
    """Join two numbers that form one quantity, such as 3 hours and 20 minutes.  The result is in the larger unit."""
    joined: list[Number] = []
    i = 0
    while i < len(numbers):
        number = numbers[i]
        unit = _DURATION.fullmatch(text[number.stop : numbers[i + 1].start]) if i + 1 < len(numbers) else None
        if unit:
            smaller, ratio = _SMALLER[unit[1].lower()]
            if re.match(rf"\s*{smaller}", text[numbers[i + 1].stop :], re.IGNORECASE):
                number = Number(number.start, number.stop, number.value + numbers[i + 1].value / ratio)
                i += 1
        joined.append(number)
        i += 1
    return joined


def _is_sign(text: str, index: int) -> bool:
    """Return True if the minus at `index` is a sign, and not a hyphen ("F-16") or between two numbers ("1990-1995")."""
    if text[index] == "–":
        return False
    preceding = text[:index].rstrip()[-1:]
    return not (preceding.isdigit() or preceding == ")" or text[max(0, index - 1) : index].isalnum())


_MAX_LENGTH = 1000
"""Maximum number of characters of a number.  Python refuses to convert much longer ones."""


def _value(match: re.Match[str]) -> Fraction | None:
    if match.end() - match.start() > _MAX_LENGTH:
        return None
    if match["latex"]:
        return Fraction(int(match["over"]), int(match["under"])) if int(match["under"]) else None
    whole = int(match["whole"] or 0)
    if match["vulgar"]:
        return whole + Fraction(unicodedata.numeric(match["vulgar"])).limit_denominator(100)
    if match["fraction"]:
        over, under = (int(part) for part in re.split(r"\s?[/⁄]\s?", match["fraction"]))
        return whole + Fraction(over, under)
    if match["part"]:
        *count, part = re.split(r"[\s-]+", match["part"].lower())
        return Fraction(_WORD_VALUE.get(count[0], 1) if count else 1, _PARTS[part.removesuffix("s") or part])
    if match["collective"]:
        return Fraction(_COLLECTIVE[match["collective"].lower()])
    if match["words"]:
        return Fraction(_parse_words(match["words"]))
    value = _parse_digits(match["digits"])
    if power := match["power"]:
        if match["raised"]:
            if int(match["raised"]) > 400 or len(match["digits"]) > 20:
                return None
            value = value ** int(match["raised"])
        else:
            digits = match["exponent"] or (match["superscript"] or power[1:]).translate(_SUPERSCRIPTS)
            exponent = int(digits.replace("−", "-"))
            if abs(exponent) > 400:
                return None
            value *= Fraction(10) ** exponent
    if scale := (match["scale"] or "").strip().lower():
        value *= _ALL_SCALES[scale]
    return value


def _parse_digits(digits: str) -> Fraction:
    """Convert digits with separators to a number.

    If there are two kinds of separators, the last one is the decimal separator.  A single comma is a thousands
    separator if three digits follow, and a decimal separator otherwise.
    """
    digits = re.sub(r"\{,\}", ",", digits)
    digits = re.sub(r"['’\u00a0\u202f ]", "", digits)
    if "," in digits and "." in digits:
        decimal = max(digits.rfind(","), digits.rfind("."))
        digits = re.sub(r"[.,]", "", digits[:decimal]) + "." + digits[decimal + 1 :]
    elif digits.count(".") > 1:
        digits = digits.replace(".", "")
    elif re.fullmatch(r"\d+,\d+", digits) and not re.fullmatch(r"[1-9]\d{0,2},\d{3}", digits):
        digits = digits.replace(",", ".")
    return Fraction(digits.replace(",", ""))


def _parse_words(words: str) -> int:
    """Convert ``one hundred and twenty-five thousand`` to 125000, and ``nineteen sixty-nine`` to 1969."""
    pieces = re.findall(r"[a-z]+", words.lower())
    values = [_WORD_VALUE[piece] for piece in pieces if piece in _WORD_VALUE]
    if len(values) == len(pieces) and len(pieces) in (2, 3) and 10 <= values[0] <= 20 and values[1] >= 10:
        return 100 * values[0] + sum(values[1:])  # the number is a year
    total = current = 0
    for piece in pieces:
        if piece == "hundred":
            current *= 100
        elif piece in _SCALES:
            total, current = total + current * _SCALES[piece], 0
        else:
            current += _WORD_VALUE.get(piece, 0)
    return total + current


def find_all_numbers(text: str) -> tuple[Number, ...]:
    """Return the numbers that `find_numbers` finds or, if there are none, the numbers in words of other languages."""
    return find_numbers(text) or tuple(Number(*number[:2], Fraction(number[2])) for number in find_number_words(text))


def is_grouped(text: str, number: Number, value: Fraction) -> bool:
    """Return True if a number such as 8.849 equals `value` when its point separates thousands, as in some languages."""
    digits = text[number.start : number.stop]
    return re.fullmatch(r"\d{1,3}\.\d{3}", digits) is not None and int(digits.replace(".", "")) == value


def as_number(text: str) -> Fraction | None:
    """Convert a text that consists of a single number to that number, or return None.

    Examples
    --------
    >>> from probemap.reading.numbers import as_number
    >>> as_number("1,200"), as_number("½"), as_number("seis"), as_number("route 66")
    (Fraction(1200, 1), Fraction(1, 2), Fraction(6, 1), None)
    """
    text = text.strip()
    if text[:1].isalpha() and _DIGIT.search(text) and not _SIGN_WORD.match(text):
        return None  # a number with digits begins with a digit or a sign
    numbers = find_numbers(text)
    if len(numbers) == 1 and (numbers[0].start, numbers[0].stop) == (0, len(text)) and not numbers[0].is_ordinal:
        return numbers[0].value
    if len(text) < 3 or text.isupper():
        return None  # "UN" is not a number
    return cardinal(text) if re.fullmatch(r"[^\W\d_]+(?:[ -][^\W\d_]+)*", text) else None
