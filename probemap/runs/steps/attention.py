"""The attention step: capture the attention that each probed token receives."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from probemap.runs.plan import Context, Plan

if TYPE_CHECKING:
    from probemap.runs.graded import GradedAnswers
    from probemap.runs.options import AttentionOptions
    from probemap.runs.run import Run


def plan(run: Run, options: AttentionOptions, context: Context) -> Plan[AttentionOptions]:
    """Plan the attention step, which writes ``attention/``.

    The directory has the same format as the store for hidden states, but the last axis of the arrays corresponds to
    `attention.QUERY_TOKENS`.

    Raises
    ------
    DataError, RunError
        If a position is unknown, or if there are no verdicts.
    """
    from probemap.positions import parse_positions

    graded = run.graded
    options = replace(options, positions=",".join(parse_positions(options.positions)))
    return Plan(
        options=options,
        inputs=run.input_hashes("answers.jsonl", "verdicts.jsonl"),
        execute=partial(_execute, run, graded, options, context),
    )


def _execute(run: Run, graded: GradedAnswers, options: AttentionOptions, context: Context) -> bool:
    from probemap.activations.attention import AttentionReader, attention_layout
    from probemap.activations.reader import fill_store
    from probemap.activations.store import ActivationStore
    from probemap.positions import parse_positions

    names = parse_positions(options.positions)
    indices = graded.token_indices(names)
    # Only transformers returns attention weights.
    context = replace(context, engine="transformers")
    engine = context.open_engine(run.loader(context.device, max_memory=context.max_memory))
    run.check_weights(engine.model, ("revision",))
    layout = attention_layout(engine.model, graded.answers, indices, graded.spans, names)
    store = ActivationStore.create(run.path / "attention", layout)
    reader = AttentionReader(
        engine=engine,
        answers=graded.answers,
        indices=indices,
        layout=layout,
        batch_size=options.batch_size,
        batch_tokens=options.batch_tokens,
        log=context.logger.log,
        spans=graded.spans,
    )
    for _ in fill_store(store, reader, progress=lambda done, total: context.logger.progress("attention", done, total)):
        pass
    return True
