"""Find which of the lettered choices a text asserts, by its letter or by its words."""

from __future__ import annotations

import re

from probemap.reading.asserted import Asserted
from probemap.reading.clauses import chosen_mention
from probemap.reading.names import Groups, Name, find_names
from probemap.reading.stance import asserted_mentions
from probemap.reading.yes_no import asserted_polarity, polarity_groups

_BOXED = re.compile(
    r"\\(?:boxed|text|textbf|mathbf|mathrm)\s*\{\s*(?:\\(?:text|textbf|mathrm|mathbf)\s*\{\s*)?\(?([A-Za-z])\)?\.?\s*\}"
)
_LETTER = re.compile(
    r"(?:^|\b(?i:answer|option|choice|letter|it['’]?s|it is|is|be|choose|select|pick|go with)\b(?:\s+(?i:is"
    r"|would be|should be|must be|choice|option|letter))*\s*[:=]?)"
    r"[\s(\[*\"'`_$]*(?P<capital>[A-Z])(?=[)\].:,;!?*\"'`_$]|\s*(?:$|\n|[-–—])|\s+(?i:is|because|since)\b)"
    r"|(?i:\b(?:option|choice|letter|answer)\b(?:\s+is)?\s*:?\s*)[(\[*\"'`]*(?P<named>[A-Za-z])\b(?!['’]|\s+[a-z]{2,})"
    r"|(?P<subject>\b[A-Z])\)?\s+(?i:is|would be)\s+(?:the\s+)?(?i:correct|right|best|answer|true)\b"
    r"|[(\[](?P<bracketed>[A-Za-z])[)\]]",
    re.MULTILINE,
)
_RIGHT = re.compile(r"(?<![A-Za-z0-9])([A-Z])\)?\s+(?:is|would be)\s+(?:the\s+)?(?:correct|right|best)\b(?! answer\?)")
_LOWER_LETTER = re.compile(
    r"(?:\b(?:it['’]?s|it is|answer(?: is)?:?|think(?: it'?s)?|choose|antwort:"
    r"|choice\"?:)\s*\"?)([a-z])\b(?=[\s).\"}]*$)",
    re.IGNORECASE,
)
_ONLY_LETTER = re.compile(r"[\s(\[*\"'`_$]*([A-Za-z])[\s)\].:,!*\"'`_$]*")
_LETTER_BEFORE = re.compile(r"(?:^|(?<=[\s(\[*\"'`]))([A-Za-z])[^\S\n]?[)\].:*\"'`–—-]{1,4}[^\S\n]*$")
_ANNOUNCED = re.compile(
    r"\b(?:answer|correct (?:choice|option))\b(?:(?!options|choices)[^.\n]){0,40}(?:\n\W*)?$", re.IGNORECASE
)


def asserted_choice(text: str, groups: Groups, question: str = "") -> Asserted | None:
    """Return the choice that a text asserts, or None.

    A choice can be asserted by its letter ("B", "(b)", "The answer is B.", ``\\boxed{B}``) or by its words.  If the
    words of the same choice follow its letter, the two form one mention.  If the words of a different choice follow a
    letter, both are ignored.  An announced choice ("The answer is …") has priority over the first choice in the text,
    because a model may first repeat all choices.

    Examples
    --------
    >>> from probemap.reading.choices import asserted_choice
    >>> asserted_choice("It's (b).", [["Rome"], ["Paris"]]).value
    1
    """
    if polarity := polarity_groups(groups):
        if match := _ONLY_LETTER.fullmatch(text):
            return _letter(match.start(1), match[1], len(groups), "letter")
        return asserted_polarity(text, polarity)
    if only := _ONLY_LETTER.fullmatch(text):
        return _letter(only.start(1), only[1], len(groups), "letter")
    right = [
        letter
        for match in _RIGHT.finditer(text)
        if (letter := _letter(match.start(1), match[1], len(groups), "letter called right")) is not None
    ]
    if len({letter.value for letter in right}) == 1:
        return right[0]
    if lower := _LOWER_LETTER.search(text):
        return _letter(lower.start(1), lower[1], len(groups), "announced letter")
    letters: dict[int, Name] = {}
    boxed = None
    for match in _BOXED.finditer(text):
        boxed = _letter(match.start(1), match[1], len(groups), "boxed letter") or boxed
    if boxed:
        return boxed
    for match in _LETTER.finditer(text):
        group = match.lastgroup or "capital"
        number = ord(match[group].upper()) - ord("A")
        if number < len(groups):
            letters.setdefault(match.start(group), Name(match.start(group), match.end(group), number))
    mentions: list[Name] = []
    contradicts = False
    for name in find_names(text, _in_both_numbers(groups)):
        before = _LETTER_BEFORE.search(text, max(0, name.start - 12), name.start)
        if before is None or (number := ord(before[1].upper()) - ord("A")) >= len(groups):
            mentions.append(name)
            continue
        letters.pop(before.start(1), None)
        contradicts |= number != name.group
        if number == name.group:
            mentions.append(Name(before.start(1), name.stop, name.group))
    mentions = sorted([*mentions, *letters.values()], key=lambda mention: mention.start)
    asserted = asserted_mentions(text, mentions)
    announced = [m for m in asserted if _ANNOUNCED.search(text[max(0, m.start - 80) : m.start])]
    if not asserted:
        return None if contradicts else _single_letter(text, len(groups)) or _position(text, len(groups))
    first = announced[0] if announced else chosen_mention(question, text, asserted)
    if not announced and len({m.group for m in asserted}) == len(groups) > 2:
        return None  # a text that only repeats all choices asserts none
    return Asserted(first.start, first.stop, first.group, "announced choice" if announced else "first choice asserted")


def _in_both_numbers(groups: Groups) -> Groups:
    """Return the choices, adding the singular or plural of each that is one English word ("Root" for "Roots")."""
    listed = {name.casefold() for names in groups for name in names}

    def other(name: str) -> str:
        return name[:-1] if name.endswith("s") else f"{name}s"

    return [
        [*names, *(other(name) for name in names if _COMMON.fullmatch(name) and other(name).casefold() not in listed)]
        for names in groups
    ]


_COMMON = re.compile(r"[A-Za-z]?[a-z]{2,}[a-rt-z]s?")
_ANY_LETTER = re.compile(r"(?<![A-Za-z0-9_'’])([A-Z])(?![A-Za-z0-9_'’])(?!\.\s?[A-Z])")


def lists_choices(text: str) -> bool:
    """Return True if a text lists choices by their letters, one per line.

    Examples
    --------
    >>> from probemap.reading.choices import lists_choices
    >>> lists_choices("Let us look at each option:\\n\\nA) Copper is a metal.")
    True
    """
    return _LISTED.search(text) is not None


_LISTED = re.compile(r"\S\s*\n\W*[A-Z][).:]")


def find_letters(text: str, n: int) -> list[Name]:
    """Return the places where the letters of the first `n` choices occur alone in a text, as capitals.

    "A" and "I" are counted only if they cannot be words.
    """
    letters = []
    for match in _ANY_LETTER.finditer(text):
        number = ord(match[1]) - ord("A")
        is_word = (
            match[1] in "AI"
            and re.match(r"\s+(?:[a-z]|[A-Z][a-z])", text[match.end() :])
            and not re.match(r"\s+(?:or|and|is)\b", text[match.end() :])
        )
        if number < n and not is_word:
            letters.append(Name(match.start(), match.end(), number))
    return letters


def _single_letter(text: str, n: int) -> Asserted | None:
    """Return the only letter that a text asserts, or None if there are none or several."""
    asserted = asserted_mentions(text, find_letters(text, n))
    if len({m.group for m in asserted}) != 1:
        return None
    return Asserted(asserted[0].start, asserted[0].stop, asserted[0].group, "only letter asserted")


_POSITION = re.compile(
    r"\W*(?:(?:it is|it's|i (?:choose|pick|think it is)|the answer is)\s+)?(?:the\s+)?"
    r"(?:option|choice|answer|number)?\s*(?P<position>first|second|third|fourth|fifth|last|[1-9]|one|two|three|four|five)\b"
    r"\s*(?:option|choice|answer|one)?\W*",
    re.IGNORECASE,
)
_POSITIONS = {
    word: i // 3 for i, word in enumerate("first one 1 second two 2 third three 3 fourth four 4 fifth five 5".split())
}


def _position(text: str, n: int) -> Asserted | None:
    """Return the choice that a text names by its position ("The third option."), or None."""
    match = _POSITION.fullmatch(text)
    if match is None:
        return None
    number = n - 1 if match["position"].lower() == "last" else _POSITIONS.get(match["position"].lower(), n)
    return Asserted(match.start("position"), match.end("position"), number, "position") if number < n else None


def _letter(start: int, letter: str, n: int, rule: str) -> Asserted | None:
    number = ord(letter.upper()) - ord("A")
    return Asserted(start, start + 1, number, rule) if number < n else None
