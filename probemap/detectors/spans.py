"""Locate the exact answers in new texts, using the locator that the detector was fitted with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from probemap.detectors.provenance import FORMER_LOCATORS
from probemap.grading.llm import locating_task, model_judge, response_locator
from probemap.grading.locate import RULE_LOCATORS, Locator, locate_answer
from probemap.records import Answer, DataError, Example, Span

if TYPE_CHECKING:
    from probemap.detectors.provenance import Provenance
    from probemap.models.engine import Engine

LocatedSpan = tuple[Span | None, str]
"""A pair: the span of an exact answer and an empty string, or None and the reason why there is no exact answer."""


def locate_spans(
    provenance: Provenance,
    engine: Engine,
    examples: Sequence[Example],
    answers: Sequence[Answer],
    locator: Locator | None = None,
) -> list[LocatedSpan]:
    """Locate the exact answer in each answer.

    Parameters
    ----------
    provenance : Provenance
        The detector's provenance, which contains the task and the name of the locator.
    engine : Engine
        The engine that runs the model, which locates the exact answers if the locator is ``model``.
    examples : sequence of Example
    answers : sequence of Answer
        One answer per example.  The ids do not have to be unique.
    locator : callable, optional
        The user-defined locator, if the detector was fitted with one.
    """
    task = provenance.task
    if provenance.locator in FORMER_LOCATORS:
        task = replace(task, kind=FORMER_LOCATORS[provenance.locator])
    if locator is None:
        locator = _named_locator(provenance, engine, examples, answers)
    return [locate_answer(task, example, answer, locator) for example, answer in zip(examples, answers, strict=True)]


def _named_locator(
    provenance: Provenance, engine: Engine, examples: Sequence[Example], answers: Sequence[Answer]
) -> Locator | None:
    """Return the locator that the provenance names, or None for the rules."""
    if provenance.locator != "model":
        return RULE_LOCATORS["rules" if provenance.locator in FORMER_LOCATORS else provenance.locator]
    # Answers for different clients of a server may have the same id.
    numbered = [replace(answer, id=str(i)) for i, answer in enumerate(answers)]
    judge = model_judge(engine)
    batches = judge.respond(locating_task(judge, examples, numbered))
    responses = {id_: response for batch in batches for id_, response in batch}
    pairs = zip(examples, numbered, strict=True)
    return response_locator(judge, {(example.question, a.final.text): responses[a.id] for example, a in pairs})


def check_spans(spans: Sequence[LocatedSpan], answers: Sequence[Answer]) -> None:
    """Check that there is one span per answer and that each span lies within its answer.

    Raises
    ------
    DataError
        If there is not one span per answer, or if a span lies outside its answer.
    """
    if len(spans) != len(answers):
        raise DataError(
            f"got {len(spans)} spans for {len(answers)} answers",
            "pass one pair (span, reason) per answer, with None for a missing span",
        )
    for (span, _), answer in zip(spans, answers, strict=True):
        if span and not answer.answer_start <= span.start < span.stop <= len(answer.token_ids):
            raise DataError(
                f"the span of the exact answer in {answer.id!r} is {span.start} to {span.stop}, but the tokens of the "
                f"answer are {answer.answer_start} to {len(answer.token_ids)}",
                "count the indices of a span from the first token of the prompt",
            )
