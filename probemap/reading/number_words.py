"""Read numbers in words of languages other than English: vier, veintiuno, четыре, 三十八."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

_FUNCTION_WORDS = {
    language: frozenset(words.split())
    for language, words in {
        "en": "the of is and are has have it in that was were there with from for not to at by",
        "es": "el la los las de es en tiene tienen son hay y del fue que con por",
        "fr": "le la les de est il elle a des dans et sont ont du que y avec pour",
        "de": "der die das ist und hat es im in sind den gibt von mit auf haben",
        "pt": "o os a as é tem têm são de do da há em e que com por",
        "it": "il lo la gli le è di ha ci che sono e del della con per in",
        "nl": "de het een is en heeft er zijn van in op met voor",
    }.items()
}
_AMBIGUOUS = frozenset(
    "once due cent elf mil men sei sept tres dix un une uno una um uma ein eine een den tien".split()
)
"""Words that are numbers in one language, and other words or articles in another."""
_RUSSIAN = {
    word: value
    for value, words in enumerate(
        "ноль;один одна одно;два две;три;четыре;пять;шесть;семь;восемь;девять;десять;одиннадцать;двенадцать".split(";")
    )
    for word in words.split()
} | {"двадцать": 20, "тридцать": 30, "сорок": 40, "пятьдесят": 50, "сто": 100, "тысяча": 1000}
_HAN_DIGITS = {char: value for value, char in enumerate("〇一二三四五六七八九")} | {"零": 0, "两": 2, "兩": 2}
_HAN_UNITS = {"十": 10, "百": 100, "千": 1000, "万": 10**4, "萬": 10**4, "億": 10**8, "亿": 10**8}
_HAN = re.compile(rf"[{''.join([*_HAN_DIGITS, *_HAN_UNITS])}]+")
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")


def find_number_words(text: str) -> list[tuple[int, int, int]]:
    """Return the numbers in words in a text as (start, stop, value), for any language other than English.

    The text is read in the language that has the most function words in it.  If several languages have equally many, it
    is read in all of them, but words that have another meaning in one of them are ignored.

    Examples
    --------
    >>> from probemap.reading.number_words import find_number_words
    >>> find_number_words("Ein Cello hat vier Saiten."), find_number_words("There are four.")
    ([(14, 18, 4)], [])
    """
    found = [(m.start(), m.end(), _han_value(m[0])) for m in _HAN.finditer(text)]
    words = list(_WORD.finditer(text))
    languages = _languages({match[0].lower() for match in words})
    if languages == ["en"]:
        return found
    i = 0
    while i < len(words):
        for j in range(min(len(words), i + 5), i, -1):
            phrase = text[words[i].start() : words[j - 1].end()]
            value = None if len(languages) > 1 and phrase.lower() in _AMBIGUOUS else cardinal(phrase, tuple(languages))
            if value is not None and (value != 1 or len(words) == 1):  # "un" is an article more often than a number
                found.append((words[i].start(), words[j - 1].end(), int(value)))
                i = j - 1
                break
        i += 1
    return sorted(found)


def _languages(words: set[str]) -> list[str]:
    counts = {language: len(words & known) for language, known in _FUNCTION_WORDS.items()}
    best = max(counts.values())
    languages = [language for language, count in counts.items() if count == best]
    return ["en"] if best > 0 and "en" in languages else [language for language in languages if language != "en"]


@lru_cache(maxsize=8192)
def cardinal(text: str, languages: tuple[str, ...] = ("es", "fr", "de", "pt", "it", "nl")) -> Fraction | None:
    """Return the value of a number in words, in one of the languages or in Russian, or None if it is not a number.

    Examples
    --------
    >>> from probemap.reading.number_words import cardinal
    >>> cardinal("vingt et un"), cardinal("zebra")
    (Fraction(21, 1), None)
    """
    if text.lower() in _RUSSIAN:
        return Fraction(_RUSSIAN[text.lower()])
    if not text.isalpha() and len(text) > 60:
        return None
    from text_to_num import text2num

    for language in languages:
        try:
            return Fraction(text2num(text.lower(), language))
        except (ValueError, KeyError):
            continue
    return None


def _han_value(text: str) -> int:
    """Convert a number in Chinese characters, such as 三十八, 二〇一九 or 十二万."""
    if not any(char in _HAN_UNITS for char in text):
        return int("".join(str(_HAN_DIGITS[char]) for char in text))
    total = section = digit = 0
    for char in text:
        if char in _HAN_DIGITS:
            digit = _HAN_DIGITS[char]
        elif (unit := _HAN_UNITS[char]) < 10**4:
            section, digit = section + (digit or 1) * unit, 0
        else:
            total, section, digit = total + (section + digit or 1) * unit, 0, 0
    return total + section + digit
