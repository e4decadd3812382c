"""The p-true step: ask the model whether its own answers are true, as a baseline for the map."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from probemap.records import Example, PTrueScore
from probemap.runs.folder import p_true_file
from probemap.runs.plan import Context, Plan

if TYPE_CHECKING:
    from probemap.runs.options import PTrueOptions
    from probemap.runs.run import Run

_CHECKPOINT_INTERVAL = 128
"""Number of answers after which the results are written to disk."""

Statement = tuple[Example, str]
"""A question and an answer, which the model has to judge as true or false."""


def plan(run: Run, options: PTrueOptions, context: Context) -> Plan[PTrueOptions]:
    """Plan the p-true step, which writes ``p_true.jsonl``.

    Raises
    ------
    RunError
        If there are no answers.
    """
    statements = [(example, answer.final.text) for example, answer in zip(run.task.examples, run.answers, strict=True)]
    return plan_for(run, statements, run.input_hashes("task.json", "answers.jsonl"), options, context, exact=False)


def plan_for(
    run: Run,
    statements: Sequence[Statement],
    inputs: dict[str, str],
    options: PTrueOptions,
    context: Context,
    *,
    exact: bool,
) -> Plan[PTrueOptions]:
    """Plan a step that asks the model whether each statement is true.

    If `exact` is True, the statements are exact answers, and ``p_true_exact.jsonl`` is written.
    """
    return Plan(
        options=options,
        inputs=inputs,
        execute=partial(_execute, run, statements, options.batch_size, context, exact),
    )


def _execute(run: Run, statements: Sequence[Statement], batch_size: int, context: Context, exact: bool) -> bool:
    from probemap.models.p_true import score_p_true

    engine = context.open_engine(run.loader(context.device, max_memory=context.max_memory))
    run.check_weights(engine.model, ("revision",))
    n_done = len(run.complete_lines(p_true_file(exact)))
    if n_done:
        context.logger.log(f"{n_done} of {len(statements)} answers already have a p(True)")
    for start in range(n_done, len(statements), _CHECKPOINT_INTERVAL):
        block = statements[start : start + _CHECKPOINT_INTERVAL]
        probabilities = score_p_true(engine, block, batch_size=batch_size, log=context.logger.log)
        context.logger.progress("p(True)", start + len(block), len(statements))
        scores = [PTrueScore(example.id, float(p)) for (example, _), p in zip(block, probabilities, strict=True)]
        run.append_p_true(scores, exact)
    return True
