"""Read the verdict or the exact answer from the reply of a language model that acts as a judge.

A reply is either a JSON object or a few words.  Words that it quotes have to occur in the answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from probemap.reading.folding import words_of
from probemap.records import Verdict

if TYPE_CHECKING:
    from probemap.grading.locate import Locator

CORRECT = Verdict(True, "the judge says correct")
INCORRECT = Verdict(False, "the judge says incorrect")
NOT_ATTEMPTED = Verdict(None, "the judge says not attempted")
UNCLEAR = Verdict(None, "the judge's reply is not a verdict")
NO_REPLY = Verdict(None, "the judge gives no reply")
NOT_QUOTED = Verdict(None, "the judge quotes words that the answer does not contain")

_VERDICTS = {
    "correct": CORRECT,
    "yes": CORRECT,
    "incorrect": INCORRECT,
    "no": INCORRECT,
    "not attempted": NOT_ATTEMPTED,
}
_GRADE = r"(not[ _]attempted|incorrect|correct|yes|no)"
_FIRST = re.compile(
    rf"\W*(?:the\s+)?(?:(?:final\s+)?(?:grade|verdict|reply|answer|response)\s*(?:is\b|[:=])?)?\W*{_GRADE}\b"
    r"(?=\W*$|\s*[.,:;!*\"'\n)–—-])",
    re.IGNORECASE,
)
_YES_NO = re.compile(r"\W*(yes|no)\b", re.IGNORECASE)
_LAST = re.compile(rf"(?<!\bnot )(?<!n't )(?<!\bnever )\b{_GRADE}\W*$", re.IGNORECASE)

_NOTHING = ("", "none", "null", "no answer", "n a")
_MINUS = "-−–"


def parse_verdict(response: str, text: str = "") -> Verdict:
    """Return the verdict that a reply expresses.

    Parameters
    ----------
    response : str
        A JSON object with the fields ``grade`` and ``quote``, or words that begin or end with a grade, yes or no.
    text : str, default ""
        The text that was graded.

    Returns
    -------
    Verdict
        The verdict, with the quoted words as evidence.  It is undecided if the reply expresses no verdict, or if it
        quotes words that do not occur in the text.

    Examples
    --------
    >>> from probemap.grading.llm_replies import parse_verdict
    >>> verdict = parse_verdict('{"quote": "Austen", "grade": "CORRECT"}', "It was Austen.")
    >>> verdict.correct, verdict.evidence
    (True, (7, 13))
    >>> parse_verdict('{"quote": "Brontë", "grade": "CORRECT"}', "It was Austen.").reason
    'the judge quotes words that the answer does not contain'
    """
    if not response.strip():
        return NO_REPLY
    reply = _json_object(response)
    grade = _stated_grade(response) if reply is None else reply.get("grade")
    verdict = _VERDICTS.get(_words(grade) if isinstance(grade, str) else "", UNCLEAR)
    quote = None if reply is None else reply.get("quote")
    if verdict is UNCLEAR or not isinstance(quote, str) or not quote.strip():
        return verdict
    ranges = find_quotes(text, quote)
    if not ranges:
        return verdict if verdict.correct is None else NOT_QUOTED
    return replace(verdict, rule="quoted by the judge", evidence=ranges[0])


def parse_exact_answer(response: str, text: str) -> tuple[int, int] | None:
    """Return the character range of the exact answer that a reply quotes, or None if the text does not contain it.

    Parameters
    ----------
    response : str
        A JSON object with the fields ``sentence`` and ``exact_answer``, or the exact answer alone.  If the exact answer
        occurs several times in the text, the sentence determines which of these places is meant.
    text : str
        The text in which the exact answer is to be found.

    Examples
    --------
    >>> from probemap.grading.llm_replies import parse_exact_answer
    >>> text = "Is it Rome or Bari? It is Rome."
    >>> parse_exact_answer('{"sentence": "It is Rome.", "exact_answer": "Rome"}', text)
    (26, 30)
    """
    reply = _json_object(response)
    if reply is None:
        reply = {"exact_answer": response}
    exact, sentence = reply.get("exact_answer"), reply.get("sentence")
    if not isinstance(exact, str) or _words(exact) in _NOTHING:
        return None
    ranges = find_quotes(text, exact)
    if isinstance(sentence, str) and sentence.strip() and len(ranges) > 1:
        sentences = find_quotes(text, sentence)
        ranges = [(start, stop) for first, last in sentences for start, stop in ranges if first <= start < stop <= last]
    return ranges[0] if ranges else None


def reply_locator(replies: Mapping[tuple[str, str], str]) -> Locator:
    """Return a locator that finds the exact answers that a judge has quoted.

    Parameters
    ----------
    replies : mapping of (str, str) to str
        Mapping from (question, text) to the judge's reply.  Nothing is located in other texts.
    """
    return lambda question, text: parse_exact_answer(replies.get((question, text), ""), text)


def find_quotes(text: str, quote: str) -> list[tuple[int, int]]:
    """Return the character ranges of the places where the words of a quotation occur in a text, in order.

    White space, punctuation, case, accents and markup are ignored.  A minus sign before the first word is kept.

    Examples
    --------
    >>> from probemap.grading.llm_replies import find_quotes
    >>> find_quotes("It was **New\\nYork**.", "new York")
    [(9, 17)]
    """
    needle, haystack = words_of(quote), words_of(text)
    if not needle:
        mark = quote.strip()
        return [(match.start(), match.end()) for match in re.finditer(re.escape(mark), text)] if mark else []
    first, n = needle[0].text, len(needle)
    is_negative = needle[0].start > 0 and quote[needle[0].start - 1] in _MINUS
    ranges = []
    for i, word in enumerate(haystack[: len(haystack) - n + 1]):
        if word.text != first or any(a.text != b.text for a, b in zip(haystack[i : i + n], needle, strict=True)):
            continue
        start = word.start
        if is_negative and start > 0 and text[start - 1] in _MINUS:
            start -= 1
        ranges.append((start, haystack[i + n - 1].stop))
    return ranges


def _json_object(response: str) -> Mapping[str, Any] | None:
    """Return the first JSON object in a reply, which may be surrounded by words, or None if there is none."""
    decoder = json.JSONDecoder(strict=False)
    for match in list(re.finditer(r"\{", response))[:8]:
        try:
            value, _ = decoder.raw_decode(response, match.start())
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            return value
    return None


def _stated_grade(response: str) -> str:
    """Return the grade at the start or at the end of a reply in words, or an empty string if there is none."""
    first = _FIRST.match(response) or _YES_NO.match(response)
    last = _LAST.search(response)
    grades = {_words(match[1]) for match in (first, last) if match}
    if len({_VERDICTS[grade].correct for grade in grades}) != 1:
        return ""
    return grades.pop()


def _words(grade: str) -> str:
    return re.sub(r"[\W_]+", " ", grade).strip().casefold()
