"""The map step, which needs no model: from states and verdicts to the map."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from probemap.logger import SILENT, Logger
from probemap.records import Answer, Judgement, Task
from probemap.runs.folder import again
from probemap.runs.integrity import map_inputs, question_groups, read_answers, read_p_true, states_of
from probemap.runs.options import Probing
from probemap.runs.run import Run
from probemap.workers import RayPool

if TYPE_CHECKING:  # torch loads in seconds; only the steps that need it pay
    from probemap.activations.store import ActivationStore
    from probemap.maps.probe_map import ProbeMap


def make_map(
    run: Run, options: Probing = Probing(), *, ray: RayPool | None = None, redo: bool = False, logger: Logger = SILENT
) -> None:
    """One probe per cell, and its baselines; writes ``map.nc`` and ``map.csv``.

    Parameters
    ----------
    ray: the workers that share the layers; None: all is done here.

    Raises
    ------
    RunError: the states were captured for other answers or exact answers than the folder now holds.
    MapError: the verdicts allow no map.
    """
    with run.locked():
        task, answers, judgements = read_answers(run)
        store = states_of(run, answers, judgements)
        recorded = asdict(options)
        del recorded["device"]  # where it is computed decides nothing
        with run.making(
            "map",
            options=recorded,
            inputs=map_inputs(run, options.baselines),
            redo=redo,
            log=logger.log,
        ) as needed:
            if needed:
                made = _map(run, task, answers, judgements, store, options, ray, logger)
                run.write("map.csv", made.to_frame().to_csv(index=False, lineterminator="\n"))
                run.write("map.nc", made.to_bytes())


def _map(
    run: Run,
    task: Task,
    answers: Sequence[Answer],
    judgements: list[Judgement],
    store: "ActivationStore",
    options: Probing,
    ray: RayPool | None,
    logger: Logger,
) -> "ProbeMap":
    from probemap.maps.fit import fit_map
    from probemap.maps.gain import with_baselines
    from probemap.maps.paper import fit_paper_map
    from probemap.probing.baselines import baselines

    facts, ids = run.step("answer")["facts"], [a.id for a in answers]
    correct = [j.verdict.correct for j in judgements]
    attrs = {
        "model": facts["model"],
        "revision": facts["revision"],
        "task": task.name,
        "site": store.layout.site,
        "locator": run.step("judge")["options"]["locator"],
    }

    def progress(done: int, total: int) -> None:
        logger.progress("layers", done, total)

    if options.protocol == "paper":
        located = [j.span is not None for j in judgements]
        made = fit_paper_map(store, correct, located, seed=options.seed, ids=ids, attrs=attrs, progress=progress)
    else:
        made = fit_map(
            store,
            correct,
            groups=question_groups(task),
            folds=options.folds,
            repeats=options.repeats,
            c=options.c,
            permutations=options.permutations,
            common_rows=options.common_rows,
            device=options.device,
            ray=ray,
            seed=options.seed,
            ids=ids,
            attrs=attrs,
            progress=progress,
        )
    if not options.baselines:
        return made
    p_true = read_p_true(run, answers)
    if p_true is None:
        logger.log(f"p(True) is not among the baselines: {again('p-true', run.path, redo=False)} asks the model")
    known = baselines(task, answers, judgements, None if p_true is None else np.array(p_true))
    return with_baselines(made, known, ids)
