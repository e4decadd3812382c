"""Check the exact answers to open questions with a second locator.

The rules and a model that chooses among parts of the text seldom make the same mistake.  If they often find different
exact answers, many of those that the rules find are probably wrong.  In this case, none of them is used.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from probemap.grading.locate import locate_answer
from probemap.runs.agreement import MIN_SPAN_AGREEMENT, MIN_SPANS, SpanAgreement
from probemap.runs.llm_judge import run_judge
from probemap.runs.options import JudgeOptions

if TYPE_CHECKING:
    from probemap.records import Answer, Judgement, Task
    from probemap.runs.plan import Context
    from probemap.runs.run import Run

_SAMPLE = 100
"""Number of answers in which the model that generated them also locates the exact answer, for comparison."""


def check_open_answers(
    run: Run, task: Task, answers: Sequence[Answer], judgements: Sequence[Judgement], context: Context
) -> list[Judgement]:
    """Return the judgements, and remove the exact answers to open questions if many of them are probably wrong.

    The model that generated the answers chooses the exact answers in a random sample of 100 answers.  Its choices are
    stored in ``opinions.jsonl``.  There is no check if the rules have found fewer than 20 exact answers.
    """
    is_checked = [
        task.kind_of(example) == "open" and answer.exact_answer is None  # otherwise it was supplied
        for example, answer in zip(task.examples, answers, strict=True)
    ]
    located = [i for i, judgement in enumerate(judgements) if is_checked[i] and judgement.span is not None]
    if len(located) < MIN_SPANS:
        return list(judgements)
    rows = sorted(random.Random(0).sample(located, min(_SAMPLE, len(located))))
    sample = replace(task, examples=tuple(task.examples[i] for i in rows))
    model = run_judge(run, JudgeOptions(), context)
    locator = model.locator(sample, [answers[i] for i in rows])
    chosen = [
        locate_answer(task, example, answers[i], locator)[0] for i, example in zip(rows, sample.examples, strict=True)
    ]
    same = SpanAgreement.of([judgements[i].span for i in rows], chosen)
    remedy = "--locator rules to use them nevertheless, or --locator model with --endpoint"
    if not often_differ(same, remedy, context.logger.log):
        return list(judgements)
    return [without_span(j) if is_checked[i] else j for i, j in enumerate(judgements)]


def often_differ(same: SpanAgreement, remedy: str, log: Callable[[str], None]) -> bool:
    """Report how often the rules and the model find the same exact answer, and return True if this is too rarely."""
    log(f"the rules and the model find the same exact answer in {same.n_same} of {same.n_both} answers")
    if same.is_low:
        log(
            f"this is less than {MIN_SPAN_AGREEMENT:.0%}, so many exact answers are probably wrong, and none is used"
            f"\nhint: use {remedy}"
        )
    return same.is_low


def without_span(judgement: Judgement) -> Judgement:
    """Return a judgement without its exact answer, because the rules and the model often find different ones."""
    return replace(judgement, span=None, no_span="the rules and the model disagree too often")
