"""The baselines step: rank all predictors of correctness on the same answers."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from probemap.runs.definitions import P_TRUE, P_TRUE_EXACT, RESAMPLE, Step
from probemap.runs.plan import Context, Plan
from probemap.runs.samples import each_question
from probemap.runs.study_files import write_table
from probemap.studies.semantics import meanings, semantic_entropy

if TYPE_CHECKING:  # torch takes seconds to import and is needed only for execution
    from probemap.runs.graded import GradedAnswers
    from probemap.runs.options import BaselinesOptions
    from probemap.runs.run import Run
    from probemap.studies.ranking import Predictor


def prerequisites(run: Run) -> tuple[Step[Any, Any], ...]:
    """Return the steps that have to be executed before the baselines step.

    They compute p(True) for the answers and, if any exact answers were found, for the exact answers.

    Raises
    ------
    RunError
        If there is no map, if verdicts or states have changed since it was computed, or if the exact answers were
        located by `paper_locator`.
    """
    run.refuse_paper_locator()
    run.read_current_map()  # fail before p(True) is computed, which can take hours
    return (P_TRUE, P_TRUE_EXACT) if any(run.spans) else (P_TRUE,)


def plan(run: Run, options: BaselinesOptions, context: Context) -> Plan[BaselinesOptions]:
    """Plan the baselines step, which writes ``baselines.json`` and ``baselines.csv``.

    Semantic entropy is included if there are samples.

    Raises
    ------
    RunError
        If there is no map, or if verdicts or states have changed since it was computed.
    """
    graded = run.graded
    run.read_current_map()
    sampled = run.is_done(RESAMPLE)
    files = ["map.nc", "p_true.jsonl"]
    files += ["p_true_exact.jsonl"] if any(graded.spans) else []
    files += ["resamples.jsonl"] if sampled else []
    return Plan(
        options=replace(options, sampled=sampled),
        inputs=run.input_hashes(*files),
        execute=partial(_execute, run, graded, sampled, context),
    )


def _execute(run: Run, graded: GradedAnswers, sampled: bool, context: Context) -> bool:
    from probemap.studies.ranking import Predictor, rank_predictors, rows_of_map

    predictors = _untrained_predictors(run, graded)
    if sampled:
        predictors |= _semantic_predictors(run, graded, context)
    else:
        context.logger.log("semantic entropy is omitted; `probemap resample` draws the samples that it requires")
    probe_map = run.read_current_map()
    rows = rows_of_map(probe_map, graded.ids)
    on_map_rows = {name: Predictor(item.meaning, item.values[rows]) for name, item in predictors.items()}
    write_table(run, "baselines", rank_predictors(probe_map, on_map_rows))
    return True


def _untrained_predictors(run: Run, graded: GradedAnswers) -> dict[str, Predictor]:
    """Return the predictors that need no training: the log-probabilities, the entropies and p(True)."""
    import numpy as np

    from probemap.probing.baselines import CONFIDENCES, compute_baselines
    from probemap.studies.ranking import Predictor

    p_true = run.p_true(graded.answers)
    assert p_true is not None, "a prerequisite"
    predictors = {
        item.name: Predictor(item.meaning, np.asarray(item.values, np.float64))
        for item in compute_baselines(graded.task, graded.answers, graded.judgements, np.array(p_true))
        if item.name in CONFIDENCES
    }
    if not any(graded.spans):
        return predictors
    exact = np.array(run.p_true_exact(graded.answers))
    return predictors | {"p_true_exact": Predictor("p(True) of the exact answer", exact)}


def _semantic_predictors(run: Run, graded: GradedAnswers, context: Context) -> dict[str, Predictor]:
    import numpy as np

    from probemap.studies.ranking import Predictor

    entropies, agreement = [], []
    questions = each_question(run, graded.task, context=context)
    for answer, judgement, samples in zip(graded.answers, graded.judgements, questions, strict=True):
        meaning, _ = meanings(
            graded.task, samples.example, [answer, *samples.answers], [judgement, *samples.judgements]
        )
        entropies.append(-semantic_entropy(meaning[1:]))
        agreement.append(meaning[1:].count(meaning[0]) / len(samples.answers))
    return {
        "semantic_entropy": Predictor("negative semantic entropy of the samples", np.array(entropies)),
        "agreement": Predictor("fraction of the samples with the same meaning as the answer", np.array(agreement)),
    }
