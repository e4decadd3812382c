"""Group the answers to a question by meaning, and compute semantic entropy.

Meanings are determined from what the answers assert; the accepted answers and the verdicts are not used.  Semantic
entropy (Kuhn et al. 2023, arXiv 2302.09664; Farquhar et al. 2024, Nature 630:625) is a baseline, so it must not depend
on whether an answer is correct.

In those papers, a model decides which answers entail each other.  Here, fixed rules make this decision: two answers
have the same meaning if they assert the same member of a closed set, the same number, the same date or the same words,
or if the words of one answer contain the words of the other ("Shakespeare" in "William Shakespeare").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from math import log
from typing import TYPE_CHECKING, Literal

from probemap.grading.locate import asserted_answer
from probemap.reading.dates import find_dates
from probemap.reading.folding import content_words
from probemap.reading.numbers import as_number
from probemap.reading.refusal import is_refusal

if TYPE_CHECKING:
    from probemap.records import Answer, Example, Judgement, Task

Content = Literal["answer", "refusal", "nothing"]
"""Content of a model's answer: an actual answer, a refusal to answer, or no words at all."""

_REFUSAL, _NOTHING = "\N{NULL}refusal", "\N{NULL}nothing"


def meanings(
    task: Task, example: Example, answers: Sequence[Answer], judgements: Sequence[Judgement]
) -> tuple[list[int], list[Content]]:
    """Group the answers to one question by meaning.

    Parameters
    ----------
    task : Task
    example : Example
    answers : sequence of Answer
        The model's answers to the example's question.
    judgements : sequence of Judgement
        One judgement per answer.  Only the spans are used, because they are located without the accepted answers; the
        verdicts are ignored.

    Returns
    -------
    meanings : list of int
        The meaning of each answer; meanings are numbered in order of first occurrence.
    contents : list of {"answer", "refusal", "nothing"}
        Content of each answer.
    """
    assertions = [_assertion(task, example, a, j) for a, j in zip(answers, judgements, strict=True)]
    if task.kind_of(example) == "open":
        assertions = _merge_contained(assertions)
    numbers: dict[str | Fraction, int] = {}
    contents: dict[str | Fraction, Content] = {_REFUSAL: "refusal", _NOTHING: "nothing"}
    return (
        [numbers.setdefault(assertion, len(numbers)) for assertion in assertions],
        [contents.get(assertion, "answer") for assertion in assertions],
    )


def semantic_entropy(meanings: Sequence[int]) -> float:
    """Return the entropy, in nats, of the distribution of meanings among the answers.

    The entropy is 0 if all answers have the same meaning.
    """
    probabilities = [count / len(meanings) for count in Counter(meanings).values()]
    return -sum(p * log(p) for p in probabilities) + 0.0


def _assertion(task: Task, example: Example, answer: Answer, judgement: Judgement) -> str | Fraction:
    """Return what an answer asserts, in a normalised form that is the same for all answers with the same meaning.

    Numbers are returned as `Fraction`.
    """
    text = answer.final.text
    if not text.strip():
        return _NOTHING
    asserted = None if task.kind_of(example) == "open" else asserted_answer(task, example, text)
    if asserted is not None:
        return asserted.value if isinstance(asserted.value, Fraction) else f"={asserted.value}"
    exact = judgement.span.text if judgement.span else None
    if exact is None:
        return _REFUSAL if is_refusal(text) else _normalised_words(text)
    number = as_number(exact)
    if number is not None:
        return number
    if len(dates := find_dates(exact)) == 1 and dates[0].swapped is None:
        return f"={dates[0].year}-{dates[0].month}-{dates[0].day}"
    return _normalised_words(exact)


def _normalised_words(text: str) -> str:
    """Return the words of a text in lower case, without accents, punctuation or a leading article."""
    words = content_words(text)
    return " ".join(words) or text.strip() or _NOTHING


def _merge_contained(assertions: list[str | Fraction]) -> list[str | Fraction]:
    """Replace each answer whose words are contained in a longer answer by that longer answer."""
    texts = {text for text in assertions if isinstance(text, str) and text[0] not in "=\N{NULL}"}
    replacement: dict[str | Fraction, str] = {}
    for text in texts:
        containing = [longer for longer in texts if longer != text and f" {text} " in f" {longer} "]
        # If several longer answers contain the text, the longest is chosen, provided that it contains all the others.
        longest = max(containing, key=lambda longer: (len(longer), longer), default=None)
        if longest is not None and all(f" {longer} " in f" {longest} " for longer in containing):
            replacement[text] = longest
    return [replacement.get(assertion, assertion) for assertion in assertions]
