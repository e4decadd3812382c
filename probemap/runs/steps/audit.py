"""The audit step: draw answers that a person labels, and estimate from the labels how often the verdicts are wrong."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

from probemap.records import RunError, StoreError
from probemap.runs.audit_files import DRAW, LABELS, draw_answers
from probemap.runs.definitions import MAP
from probemap.runs.folder import step_command
from probemap.runs.plan import Context, Plan
from probemap.runs.study_files import write_table
from probemap.studies.audit import AuditedAnswers, audit_table

if TYPE_CHECKING:  # torch takes seconds to import and is needed only for execution
    from collections.abc import Sequence

    from probemap.maps.probe_map import ProbeMap
    from probemap.records import AuditRow
    from probemap.runs.audit_files import RecordedDraw
    from probemap.runs.graded import GradedAnswers
    from probemap.runs.options import AuditOptions
    from probemap.runs.run import Run


def plan(run: Run, options: AuditOptions, context: Context) -> Plan[AuditOptions]:
    """Plan the audit step, which writes ``audit.json`` and ``audit.csv``.

    The answers are drawn here and not in the execution of the step, because the drawn answers and their labels are
    inputs of the step.  The answers are written to ``audit.jsonl``, and the record of the draw to ``audit_draw.json``.
    The step is done once at least one answer is labelled.

    Raises
    ------
    RunError
        If the verdicts do not match the answers, or if the files of the audit are damaged or belong to other answers.
    DataError
        If no answer is decided, or if too few answers are requested.
    """
    graded = run.graded
    draw, rows = draw_answers(run, graded, options, context.logger.log)
    probe_map = _current_map(run, context)
    return Plan(
        options=options,
        inputs=run.input_hashes(LABELS, DRAW, "verdicts.jsonl", *(["map.nc"] if probe_map else [])),
        execute=partial(_execute, run, graded, draw, rows, probe_map, context),
    )


def _current_map(run: Run, context: Context) -> ProbeMap | None:
    """Return the map, or None if there is no map that was computed from the current verdicts."""
    if not run.is_done(MAP):
        return None
    try:
        return run.read_current_map()
    except (RunError, StoreError) as error:
        context.logger.log(f"the audit does not use the map: {error}")
        return None


def _execute(
    run: Run,
    graded: GradedAnswers,
    draw: RecordedDraw,
    rows: Sequence[AuditRow],
    probe_map: ProbeMap | None,
    context: Context,
) -> bool:
    label_of = {row.id: row.correct for row in rows}
    n_labelled = sum(label is not None for label in label_of.values())
    if n_labelled < len(rows):
        context.logger.log(
            f"{len(rows) - n_labelled} of {len(rows)} answers have no label yet\nhint: label them with "
            f"`probemap audit {run.path} --ask`, on the page that `probemap audit {run.path} --page` writes, or in the "
            f"field `correct` of {run.path / LABELS}; then {step_command('audit', run.path, redo=False)} reports"
        )
    if not n_labelled:
        return False
    weight_of = dict(zip(draw.ids, draw.weights, strict=True))
    stratum_of = dict(zip(draw.ids, draw.stratum, strict=True))
    answers = AuditedAnswers(
        ids=graded.ids,
        verdicts=[judgement.verdict for judgement in graded.judgements],
        labels=[label_of.get(name) for name in graded.ids],
        weights=[weight_of.get(name, math.nan) for name in graded.ids],
        strata=[stratum_of.get(name, -1) for name in graded.ids],
        groups=graded.groups,
    )
    write_table(run, "audit", audit_table(answers, probe_map))
    return True
