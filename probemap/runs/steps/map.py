"""The map step: compute the map from states and verdicts, without the language model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from probemap.runs.definitions import ANSWER, JUDGE
from probemap.runs.folder import step_command
from probemap.runs.graded import normalized
from probemap.runs.plan import Context, Plan
from probemap.tasks.leaks import HINT, find_leaks
from probemap.workers import map_in

if TYPE_CHECKING:  # torch takes seconds to import and is needed only for execution
    from probemap.activations.store import ActivationStore
    from probemap.maps.probe_map import ProbeMap
    from probemap.probing.baselines import Vectors
    from probemap.probing.inputs import Column
    from probemap.runs.graded import GradedAnswers
    from probemap.runs.options import MapOptions
    from probemap.runs.run import Run


def plan(run: Run, options: MapOptions, context: Context) -> Plan[MapOptions]:
    """Plan the map step, which writes ``map.nc`` and ``map.csv``.

    Raises
    ------
    RunError
        If the states do not match the current answers or exact answers.
    DataError
        If the questions lack a field by which they are grouped, or that is a covariate.
    TooFewError
        If there are fewer groups than folds.
    """
    graded = run.graded.grouped_by(options.group_by)
    if options.protocol != "paper":
        graded.check_groups(options.folds)
    for name in options.covariates:
        graded.field(name)  # raises an error before the map is fitted
    store = run.states_of(graded)
    if context.device not in ("auto", "spread"):
        options = replace(options, device=context.device)
    return Plan(
        options=options,
        inputs=run.map_inputs(options.baselines),
        execute=partial(_execute, run, graded, store, options, context),
    )


def _execute(run: Run, graded: GradedAnswers, store: ActivationStore, options: MapOptions, context: Context) -> bool:
    from probemap.maps.strata import with_strata

    probe_map = _fit(run, graded, store, options, context)
    covariates = {name: graded.field(name) for name in options.covariates}
    if options.baselines:
        probe_map = _with_baselines(run, graded, probe_map, covariates, store.input_embeddings(), context)
    for name, values in covariates.items():
        probe_map = with_strata(probe_map, name, values, graded.ids)
        if n_missing := sum(value is None for value in values):
            context.logger.log(
                f"the covariate {name} has no value in {n_missing} of {len(values)} questions: their answers are not "
                "compared within its strata, and it is no baseline in columns that contain them"
            )
    run.write("map.csv", probe_map.to_frame().to_csv(index=False, lineterminator="\n"))
    run.write("map.nc", probe_map.to_bytes())
    return True


def _fit(run: Run, graded: GradedAnswers, store: ActivationStore, options: MapOptions, context: Context) -> ProbeMap:
    from probemap.maps.fit import fit_map
    from probemap.maps.paper import fit_paper_map

    leaks = find_leaks(graded.task)
    if leaks.is_leak:
        context.logger.log(f"{leaks.warning}\nhint: {HINT}")
    facts = run.record(ANSWER).facts
    attrs: dict[str, Any] = {
        "model": facts.model,
        "revision": facts.revision,
        "task": graded.task.name,
        "site": store.layout.site,
        "locator": run.record(JUDGE).options.rules_or_model,
        **leaks.to_attrs(),
    }

    def progress(done: int, total: int) -> None:
        context.logger.progress("layers", done, total)

    if options.protocol == "paper":
        has_span = [span is not None for span in graded.spans]
        return fit_paper_map(
            store, graded.correct, has_span, seed=options.seed, ids=graded.ids, attrs=attrs, progress=progress
        )
    if graded.group_by is not None:
        attrs |= {"group_by": graded.group_by, "groups": graded.n_groups}
    return fit_map(
        store,
        graded.correct,
        groups=graded.groups,
        folds=options.folds,
        repeats=options.repeats,
        c=options.c,
        permutations=options.permutations,
        identities=_identities(graded) if options.control else None,
        common_rows=options.common_rows,
        device=options.device,
        map_layers=map_in(context.pool),
        seed=options.seed,
        ids=graded.ids,
        attrs=attrs,
        progress=progress,
    )


def _identities(graded: GradedAnswers) -> list[str | None] | None:
    """Return the normalised exact answer of each answer, or None if no exact answer was located.

    Without exact answers, every answer would have a random label of its own, so the control task would show nothing
    about memorised identities.
    """
    if not any(graded.spans):
        return None
    return [None if span is None else normalized(span.text) for span in graded.spans]


def _with_baselines(
    run: Run,
    graded: GradedAnswers,
    probe_map: ProbeMap,
    covariates: Mapping[str, Column],
    input_embeddings: Vectors | None,
    context: Context,
) -> ProbeMap:
    import numpy as np

    from probemap.maps.gain import with_baselines
    from probemap.probing.baselines import compute_baselines, covariate_baseline

    p_true = run.p_true(graded.answers)
    if p_true is None:
        command = step_command("p-true", run.path, redo=False)
        context.logger.log(f"p(True) is not among the baselines; {command} computes it")
    values = compute_baselines(
        graded.task,
        graded.answers,
        graded.judgements,
        None if p_true is None else np.array(p_true),
        input_embeddings=input_embeddings,
    )
    names = {baseline.name for baseline in values}
    for name, meaning in (("entropy_mean", "the entropies"), ("input_embeddings", "the input embeddings")):
        if name not in names:
            context.logger.log(
                f"{meaning} are not among the baselines, because they were not recorded (vLLM and earlier versions do "
                "not record them)"
            )
    values += [covariate_baseline(name, column) for name, column in covariates.items()]
    return with_baselines(probe_map, values, graded.ids)
