"""Read answers to yes/no questions: a label, or a sentence that restates the question."""

from __future__ import annotations

import re
from collections.abc import Sequence

from probemap.reading.asserted import Asserted
from probemap.reading.folding import FUNCTION_WORDS, content_words, words_of
from probemap.reading.sentences import correction_before, is_aside, sentences

_YES = "yes oui sí ja sim да 是的 はい نعم हाँ हां evet kyllä".split()
_NO = "no non nein não нет 不是 いいえ لا नहीं hayır nej".split()
_YES_OR_NO_AT_START = "si nee ei".split()
"""Words that are read as yes or no only at the start of a text, because they have other meanings ("si" is "if")."""
_POSITIVE = frozenset("".join(content_words(word)) for word in (*_YES, "true", "da", "是"))
_NEGATIVE = frozenset("".join(content_words(word)) for word in (*_NO, "false"))
_POLAR = re.compile(
    rf"(?<!\w)(?:(?P<yes>{'|'.join(_YES)}|yeah|yep|yup|true|correct|right|affirmative|(?<!\w\s)indeed"
    r"|certainly(?!\s*!\s*\S)|absolutely|definitely|of\s+course(?!\s*!\s*\S)|sure(?!\s*!\s*\S)"
    r"|vrai|verdadero|cierto|richtig|wahr|stimmt|verdadeiro|vero)"
    rf"|(?P<no>(?!non-)(?:{'|'.join(_NO)})|nope|nah|false|incorrect|wrong|untrue|negative|faux|falso|falsch))(?!\w)",
    re.IGNORECASE,
)
_AT_START = re.compile(rf"\W*({'|'.join((*_YES, *_NO, *_YES_OR_NO_AT_START))})(?![\w'’-])", re.IGNORECASE)
_NO_DOUBT = re.compile(
    r"\b(?:no|without)\s+(?:a\s+)?(?:doubt|question|problem|wonder)\b|\bno\s+(?=\w+\s+(?:is|are|was|were|has|have)\b)",
    re.IGNORECASE,
)
_BOTH = re.compile(r"\byes\s+and\s+no\b", re.IGNORECASE)
_DENIAL = re.compile(
    r"\W*((?:definitely|certainly|absolutely|of course|clearly|obviously|surely|probably|unfortunately)\s+not"
    r"|not\s+(?:at all|really|anymore|"
    r"necessarily))\b",
    re.IGNORECASE,
)
_ANNOUNCED = re.compile(r"\b(?:answer|verdict|conclusion)\s*(?:is|:|would be)\s*", re.IGNORECASE)
_AFTER_CONCESSION = re.compile(r"\b(?:but|however|:)\b[^.!?\n]{0,40}?\b(yes|no|true|false)\b", re.IGNORECASE)
_FLIP = re.compile(r"\b(?:not|n['’]t|never|hardly)\s+(?:at all\s+|entirely\s+|quite\s+|exactly\s+)?$", re.IGNORECASE)


def polarity_groups(groups: Sequence[Sequence[str]]) -> tuple[int, int] | None:
    """Return the indices of the positive and the negative label, or None if the groups are not such a pair."""
    if len(groups) != 2:
        return None
    signs = [
        next(
            (
                sign
                for name in names
                for sign, labels in ((1, _POSITIVE), (-1, _NEGATIVE))
                if "".join(content_words(name)) in labels
            ),
            0,
        )
        for names in groups
    ]
    return (signs.index(1), signs.index(-1)) if sorted(signs) == [-1, 1] else None


def asks_yes_no(groups: Sequence[Sequence[str]]) -> bool:
    """Return True if all possible answers are yes or no."""
    return bool(groups) and all(name.casefold() in ("yes", "no") for names in groups for name in names)


def leading_label(text: str) -> tuple[int, int] | None:
    """Return the character range of the word for yes or no with which a text begins, or None.

    Examples
    --------
    >>> from probemap.reading.yes_no import leading_label
    >>> leading_label("**Yes**, it is.")
    (2, 5)
    """
    match = _AT_START.match(text)
    return None if match is None else match.span(1)


def restated(question: str, text: str) -> bool | None:
    """Return True if the first sentence of a text restates a yes/no question, and False if it negates the question.

    The content words of the question must occur in the same order.  If the question begins with "did", "does" or "do",
    one of its words may have a different form with the same first letter ("began" for "begin").  The result is None if
    the text does not restate the question.  A pronoun may replace the subject ("Both are American.").

    Examples
    --------
    >>> from probemap.reading.yes_no import restated
    >>> restated("Is gold lighter than water?", "Gold is not lighter than water.")
    False
    >>> restated("Are both films American?", "Both are American.")
    True
    >>> restated("Did the war begin in 1939?", "The war began in 1939.")
    True
    """
    first = next(iter(sentences(text)), None)
    if first is None:
        return None
    sentence = text[slice(*first)]
    asked = [word for word in words_of(question) if word.text not in FUNCTION_WORDS]
    if (subject := _PRONOUN.match(sentence)) is not None and _ENDS.search(sentence):
        repeated = [
            word.text for word in words_of(sentence) if word.start >= subject.end() and word.text not in FUNCTION_WORDS
        ]
        if (
            repeated
            and repeated == [word.text for word in asked[-len(repeated) :]]
            and not _NOT.search(sentence, subject.end())
        ):
            return subject["neither"] is None and subject["not"] is None
    may_differ = bool(_DID.match(question)) and len(asked) > _MIN_NAMED
    position, words = 0, words_of(sentence)
    for word in asked:
        matches = (i for i, other in enumerate(words[position:], position) if _stem(other.text) == _stem(word.text))
        match = next(matches, None)
        if match is not None:
            position = match + 1
        elif may_differ and question[word.start].islower():
            forms = (i for i, other in enumerate(words[position:], position) if other.text[0] == word.text[0])
            if (form := next(forms, None)) is None:
                return None
            may_differ, position = False, form + 1
        else:
            return None
    if not position or not (_ENDS.search(sentence) or position < len(words)):
        return None  # a text that was cut off directly after the last word may have continued with a different word
    # A negation in a later part of the sentence denies something else ("…, not in France").
    comma = sentence.find(",", words[position - 1].stop)
    return _NOT.search(sentence[: comma if comma >= 0 else len(sentence)]) is None


_PRONOUN = re.compile(
    r"\W*(?:both|they|he|she|it|(?P<neither>neither))\s+(?:of\s+(?:them|these)\s+)?(?:are|were|is|was)\b(?P<not>\s+not\b|n['’]t\b)?",
    re.IGNORECASE,
)
_DID = re.compile(r"\W*(?:did|does|do)\b", re.IGNORECASE)
_ENDS = re.compile(r"[.!。]\W*$")
_MIN_NAMED = 2
"""Minimum number of content words that a statement must repeat if its verb has another form."""


def _stem(word: str) -> str:
    return word.removesuffix("s") if len(word) > 3 else word


_NOT = re.compile(
    r"\b(?:not|never|no|hardly|cannot|unable|incapable|fails?|failed|myth|misconception|incorrect(?:ly)?"
    r"|false(?:ly)?|wrong(?:ly)?|"
    r"far\s+from)\b|n['’]t\b",
    re.IGNORECASE,
)


def asserted_polarity(text: str, groups: tuple[int, int]) -> Asserted | None:
    """Return whether a text asserts yes or no (or true or false), or None if it asserts neither or both.

    Parameters
    ----------
    text : str
    groups : tuple of (int, int)
        Indices of the positive and the negative label, as returned by `polarity_groups`.
    """
    masked = _NO_DOUBT.sub(lambda match: " " * len(match[0]), text)
    if _BOTH.search(masked):
        return None
    if denial := _DENIAL.match(masked):
        return Asserted(denial.start(1), denial.end(1), groups[1], "emphatic no")
    announced = _ANNOUNCED.search(masked)
    matches = _POLAR.finditer(masked, announced.end() if announced else 0)
    match = next((found for found in matches if not is_aside(masked, found.start())), None)
    if match is None:
        return _short_statement(text, groups)
    corrected = _POLAR.search(masked, match.end())
    if corrected and correction_before(masked[match.end() :], corrected.start() - match.end()):
        match = corrected
    elif match.start() > 0 and (later := _AFTER_CONCESSION.search(masked, match.end())):
        match = _POLAR.search(masked, later.start(1)) or match
    is_positive = bool(match["yes"])
    label = match[0].lower()
    # "yes" and "no" answer by themselves; "true", "correct", … may be negated.
    if label not in ("yes", "no", "nope", "yeah", "yep", "nah", "non", "nein", "oui", "ja") and _FLIP.search(
        masked[max(0, match.start() - 40) : match.start()]
    ):
        is_positive = not is_positive
    return Asserted(match.start(), match.end(), groups[0] if is_positive else groups[1], "first yes or no")


_SHORT_STATEMENT = re.compile(
    r"\W*(?:it|he|she|they|this|that|we|you|i|there)\s+(?:certainly\s+|indeed\s+)?(?:is|are|was|were|do|does|did|can"
    r"|could|will|would|has|have)(?P<no>\s+not|n['’]t|not)?(?:\s+indeed)?\W*",
    re.IGNORECASE,
)


def _short_statement(text: str, groups: tuple[int, int]) -> Asserted | None:
    """Return what a short statement such as "They cannot." asserts, or None if the text is not such a statement."""
    match = _SHORT_STATEMENT.fullmatch(text.strip())
    if match is None:
        return None
    start = len(text) - len(text.lstrip())
    return Asserted(start, len(text.rstrip()), groups[1 if match["no"] else 0], "short statement")
