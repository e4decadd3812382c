"""Apply manual labels, and list the answers on which a language model and the rules disagree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from probemap.grading.locate import token_span
from probemap.reading.folding import find_words
from probemap.records import Answer, DataError, Judgement, Span, Task

if TYPE_CHECKING:
    from probemap.tasks.supplied import ManualLabel


def apply_labels(
    answers: Sequence[Answer], judgements: Sequence[Judgement], labels: Mapping[str, ManualLabel]
) -> list[Judgement]:
    """Return the judgements after replacing verdicts and exact answers with those in the manual labels.

    Raises
    ------
    DataError
        If the exact answer in a label does not occur in the answer.
    """
    return [
        _apply(answer, judgement, labels[answer.id]) if answer.id in labels else judgement
        for answer, judgement in zip(answers, judgements, strict=True)
    ]


def _apply(answer: Answer, judgement: Judgement, label: ManualLabel) -> Judgement:
    span, reason = judgement.span, judgement.no_span
    if label.exact_answer is not None and label.exact_answer != (span.text if span else ""):
        span, reason = span_of_words(answer, label.exact_answer), "" if label.exact_answer else "none, by manual label"
    return Judgement(judgement.id, label.verdict, span, reason)


def span_of_words(answer: Answer, words: str) -> Span | None:
    """Return the span of the given words in an answer, or None if `words` is empty.

    Raises
    ------
    DataError
        If the words do not occur in the answer.
    """
    if not words:
        return None
    final = answer.final
    characters = find_words(final.text, words)
    if characters is None:
        raise DataError(
            f"the exact answer {words[:60]!r} does not occur in the answer to {answer.id!r}",
            "copy it verbatim from the answer, or set it to null",
        )
    return token_span(final, *characters)


def disagreements(
    task: Task,
    answers: Sequence[Answer],
    by_rules: Sequence[Judgement],
    by_model: Sequence[Judgement],
    judgements: Sequence[Judgement],
    *,
    verdicts: bool,
    spans: bool,
) -> list[dict[str, Any]]:
    """Return one row for each answer on which the rules and the model disagree.

    The rows are written to a file that can be edited by hand.

    Parameters
    ----------
    by_rules, by_model : sequence of Judgement
        Judgements made by the rules and by the model, respectively.
    judgements : sequence of Judgement
        Final judgements, with manual labels applied.
    verdicts, spans : bool
        Whether to compare the verdicts and the exact answers, respectively.  Compare only those that the model has
        determined.
    """
    return [
        {
            "id": answer.id,
            "question": example.question,
            "accepted": list(example.answers),
            "answer": answer.final.text,
            "rules": {**_label(rules), "reason": rules.verdict.reason},
            "model": {**_label(model), "reason": model.verdict.reason, "quote": _quote(answer, model)},
            **_label(judgement),
        }
        for example, answer, rules, model, judgement in zip(
            task.examples, answers, by_rules, by_model, judgements, strict=True
        )
        if (verdicts and rules.verdict.correct != model.verdict.correct) or (spans and _range(rules) != _range(model))
    ]


def _label(judgement: Judgement) -> dict[str, Any]:
    return {
        "correct": judgement.verdict.correct,
        "exact_answer": judgement.span.text if judgement.span else None,
    }


def _quote(answer: Answer, judgement: Judgement) -> str | None:
    """Return the words of an answer that decided its verdict, or None if there are none."""
    evidence = judgement.verdict.evidence
    return None if evidence is None else answer.final.text[slice(*evidence)]


def _range(judgement: Judgement) -> tuple[int, int] | None:
    return (judgement.span.start, judgement.span.stop) if judgement.span else None
