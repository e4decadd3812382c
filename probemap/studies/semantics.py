"""Which answers to one question mean the same, by what they assert and not by their letters.

Knows neither accepted answers nor verdicts, so that semantic entropy (Kuhn et al. 2023, arXiv 2302.09664; Farquhar et
al. 2024, Nature 630:625), which is a baseline, cannot see whether an answer is right.  There a model decides who
entails whom; here rules do: the same member of a closed set, the same number, the same date, the same words, or words
that contain the others' ("Shakespeare" in "William Shakespeare").
"""

import re
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from math import log
from typing import Literal

from probemap.grading.rules import possible_answers
from probemap.mentions import (
    as_number,
    asserted_choice,
    asserted_name,
    asserted_number,
    date_spellings,
    find_numbers,
    fold,
    is_refusal,
)
from probemap.records import Answer, Example, Judgement, Task

Gives = Literal["answer", "refusal", "nothing"]
"""What a text gives: it may refuse to answer, or hold no words at all."""

_REFUSAL, _NOTHING = "\N{NULL}refusal", "\N{NULL}nothing"


def meanings(
    task: Task, example: Example, answers: Sequence[Answer], judgements: Sequence[Judgement]
) -> tuple[list[int], list[Gives]]:
    """The meaning of each answer to one question.

    Parameters
    ----------
    judgements: for the exact answers alone, which are located without the gold answer; verdicts are not looked at.

    Returns
    -------
    For each answer the number of its meaning, numbered as they first come; and what it gives.
    """
    said = [_said(task, example, a, j) for a, j in zip(answers, judgements, strict=True)]
    if task.kind == "open":
        said = _merged(said)
    numbers: dict[str | Decimal, int] = {}
    gives: dict[str | Decimal, Gives] = {_REFUSAL: "refusal", _NOTHING: "nothing"}
    return [numbers.setdefault(one, len(numbers)) for one in said], [gives.get(one, "answer") for one in said]


def entropy(meaning: Sequence[int]) -> float:
    """Semantic entropy in nats: of the shares that the meanings have among the answers.  0: all mean the same."""
    shares = [count / len(meaning) for count in Counter(meaning).values()]
    return -sum(share * log(share) for share in shares) + 0.0


def _said(task: Task, example: Example, answer: Answer, judgement: Judgement) -> str | Decimal:
    """What an answer asserts, in a form in which equal means equal; numbers are, however they are written."""
    text = answer.final.text
    if not text.strip():
        return _NOTHING
    groups = possible_answers(task, example)
    mention = None
    if task.kind == "names":
        mention = asserted_name(text, groups)
    elif task.kind == "choices":
        mention = asserted_choice(text, groups)
    elif task.kind == "numbers":
        mention = asserted_number(example.question, text)
    if mention is not None:
        return mention.value if isinstance(mention.value, Decimal) else f"={mention.value}"
    exact = judgement.span.text if judgement.span else None
    if exact is None:
        return _REFUSAL if is_refusal(text) else _plain(text)
    number = as_number(exact)
    if number is None and len(found := find_numbers(exact)) == 1 and (found[0].start, found[0].stop) == (0, len(exact)):
        number = Decimal(found[0].value)
    if number is not None:
        return number
    spellings = date_spellings(exact)
    return f"={min(spellings)}" if spellings else _plain(exact)


def _plain(text: str) -> str:
    """The words alone: case, accents, punctuation and leading articles aside."""
    words = re.findall(r"\w+", fold(text)[0])
    return (
        " ".join(words[1:] if len(words) > 1 and words[0] in {"the", "a", "an"} else words) or text.strip() or _NOTHING
    )


def _merged(said: list[str | Decimal]) -> list[str | Decimal]:
    """Words that are contained in the words of exactly one longer answer mean what that one means."""
    words = {one for one in said if isinstance(one, str) and one[0] not in "=\N{NULL}"}
    goes_to: dict[str | Decimal, str] = {}
    for one in words:
        longer = [other for other in words if other != one and f" {one} " in f" {other} "]
        # Of several longer ones, each of which contains the next, the longest; otherwise nobody knows which is meant.
        longest = max(longer, key=lambda other: (len(other), other), default=None)
        if longest is not None and all(f" {other} " in f" {longest} " for other in longer):
            goes_to[one] = longest
    return [goes_to.get(one, one) for one in said]
