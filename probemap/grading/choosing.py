"""Let a loaded model choose the exact answer of an open question from the parts of the text that could be the answer.

The model generates no text, so it can choose only words that occur in the answer.  It sees neither the accepted answers
nor the verdict.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from probemap.models.prompts import fill_template
from probemap.records import Answer, Example, Task

if TYPE_CHECKING:
    from probemap.grading.locate import Locator

ScoreFunction = Callable[[Sequence[tuple[str, str, str]]], Sequence[float]]
"""Callable that takes a sequence of (id, prompt, continuation) and returns one score for each continuation."""

CHOICE = Task("exact answers", (), "open", prompt="Question: {question}\nText: {context}\nShort answer:")
"""Task whose prompt the candidates continue."""

NOTHING = "NO ANSWER"
_CHOSEN = re.compile(r"(\d+):(\d+) ", re.ASCII)


def choice_task(examples: Sequence[Example], answers: Sequence[Answer]) -> Task:
    """Return a task that lets a model choose the exact answer in each text."""
    pairs = zip(examples, answers, strict=True)
    prompts = tuple(Example(answer.id, example.question, ("",), context=answer.final.text) for example, answer in pairs)
    return Task(CHOICE.name, prompts, CHOICE.kind, prompt=CHOICE.prompt)


def choose_answers(
    examples: Sequence[Example], candidates: Sequence[Sequence[tuple[int, int]]], score: ScoreFunction
) -> list[str]:
    """Choose the exact answer in each text, and return the choices in a form that can be stored.

    The candidates of a text are scored as continuations of `CHOICE`, and the one with the highest score is chosen.  A
    single candidate is chosen without a score.

    Parameters
    ----------
    examples : sequence of Example
        The examples of `choice_task`, each with a question and, as its context, the text that answers it.
    candidates : sequence of sequences of (int, int)
        For each example, the character ranges of the parts that could be the answer; see `open_candidates`.
    score : callable
        Function that takes all (id, prompt, continuation) at once and returns their scores.

    Returns
    -------
    list of str
        For each example, a string ``start:stop words``, where ``words`` is ``text[start:stop]``, or `NOTHING` if no
        part of the text could be the answer.
    """
    spans = [sorted(set(ranges)) for ranges in candidates]
    rows = [(i, span) for i, ranges in enumerate(spans) if len(ranges) > 1 for span in ranges]
    continuations = [
        (examples[i].id, _prompt(examples[i]), f" {' '.join(examples[i].context[start:stop].split())}")
        for i, (start, stop) in rows
    ]
    scores = score(continuations) if rows else ()
    best: dict[int, tuple[float, tuple[int, int]]] = {i: (0.0, ranges[0]) for i, ranges in enumerate(spans) if ranges}
    for (i, span), value in zip(rows, scores, strict=True):
        if len(spans[i]) > 1 and (span == spans[i][0] or value > best[i][0]):  # the first of equal scores wins
            best[i] = (value, span)
    return [_stored(example, best.get(i)) for i, example in enumerate(examples)]


def _prompt(example: Example) -> str:
    return fill_template(CHOICE.prompt, Example("", example.question, ("",), (), " ".join(example.context.split())))


def _stored(example: Example, chosen: tuple[float, tuple[int, int]] | None) -> str:
    if chosen is None:
        return NOTHING
    start, stop = chosen[1]
    return f"{start}:{stop} {example.context[start:stop]}"


def choice_locator(choices: Mapping[tuple[str, str], str]) -> Locator:
    """Return a locator that finds the chosen parts.

    Parameters
    ----------
    choices : mapping of (str, str) to str
        Mapping from (question, text) to the result of `choose_answers`.  Nothing is located in texts without a choice.

    Examples
    --------
    >>> from probemap.grading.choosing import choice_locator
    >>> locate = choice_locator({("Who wrote Emma?", "Austen did."): "0:6 Austen"})
    >>> locate("Who wrote Emma?", "Austen did.")
    (0, 6)
    """

    def locate_choice(question: str, text: str) -> tuple[int, int] | None:
        choice = choices.get((question, text), NOTHING)
        match = _CHOSEN.match(choice)
        if match is None:
            return None
        start, stop = int(match[1]), int(match[2])
        return (start, stop) if text[start:stop] == choice[match.end() :] != "" else None

    return locate_choice
