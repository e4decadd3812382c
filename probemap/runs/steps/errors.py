"""The errors step: classify errors according to the taxonomy of Orgad et al. 2024, and fit probes that predict the
error types."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from probemap.runs.checkpoint import Checkpoint
from probemap.runs.graded import graded_as_mapped
from probemap.runs.plan import Context, Plan
from probemap.runs.samples import each_question, note_on_verdicts, samples_per_question
from probemap.runs.study_files import study_inputs, write_table
from probemap.studies.error_types import SampledQuestion, classify

if TYPE_CHECKING:  # torch takes seconds to import and is needed only for execution
    from probemap.activations.store import ActivationStore
    from probemap.runs.graded import GradedAnswers
    from probemap.runs.options import ErrorsOptions
    from probemap.runs.run import Run


def plan(run: Run, options: ErrorsOptions, context: Context) -> Plan[ErrorsOptions]:
    """Plan the errors step, which writes ``errors.json``, ``errors.csv`` and ``kinds.jsonl``.

    Raises
    ------
    RunError
        If there are no samples, or if the answers, verdicts and states are inconsistent with each other.
    """
    graded = graded_as_mapped(run)
    options = replace(options, group_by=graded.group_by)
    store = run.states_of(graded)
    samples_per_question(run)
    return Plan(
        options=options,
        inputs=study_inputs(run, store),
        execute=partial(_execute, run, graded, store, options, context),
    )


def _execute(run: Run, graded: GradedAnswers, store: ActivationStore, options: ErrorsOptions, context: Context) -> bool:
    from probemap.probing.baselines import compute_baselines
    from probemap.studies.errors import ErrorTypeProbe, ProbeOptions, predict_error_types

    task = graded.task
    samples = [question.summary(task) for question in each_question(run, task, context=context)]
    error_types = [classify(sampled) for sampled in samples]
    table = predict_error_types(
        store,
        error_types,
        samples,
        graded.correct,
        baselines=compute_baselines(task, graded.answers, graded.judgements),
        groups=graded.groups,
        options=ProbeOptions(folds=options.folds, c=options.c, seed=options.seed),
        progress=lambda done, total: context.logger.progress("error types", done, total),
        checkpoint=Checkpoint[ErrorTypeProbe](run, "errors.jsonl", "found", ErrorTypeProbe).get_or_compute,
    )
    rows = zip(samples, error_types, strict=True)
    run.write("kinds.jsonl", "".join(json.dumps(_row(*row), ensure_ascii=False) + "\n" for row in rows))
    write_table(run, "errors", table, note_on_verdicts(run, graded))
    return True


def _row(sampled: SampledQuestion, error_types: str) -> dict[str, str | int]:
    return {
        "id": sampled.id,
        "kinds": error_types,
        "samples": len(sampled.verdicts),
        "right": sampled.n_correct,
        "same_wrong": sampled.n_same_incorrect,
        "refuses": sampled.n_refused,
        "different": sampled.n_distinct,
    }
