"""The p-true step for exact answers: ask the model whether its exact answers are true."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probemap.records import RunError
from probemap.runs.steps.p_true import plan_for

if TYPE_CHECKING:
    from probemap.runs.options import PTrueOptions
    from probemap.runs.plan import Context, Plan
    from probemap.runs.run import Run


def plan(run: Run, options: PTrueOptions, context: Context) -> Plan[PTrueOptions]:
    """Plan the p-true step for exact answers, which writes ``p_true_exact.jsonl``.

    Raises
    ------
    RunError
        If no exact answer was located in any answer.
    """
    graded = run.graded
    statements = [
        (example, span.text) for example, span in zip(graded.task.examples, graded.spans, strict=True) if span
    ]
    if not statements:
        raise RunError("no exact answer was located in any answer", "locate them first; see `probemap judge --locator`")
    inputs = run.input_hashes("task.json", "answers.jsonl", "verdicts.jsonl")
    return plan_for(run, statements, inputs, options, context, exact=True)
