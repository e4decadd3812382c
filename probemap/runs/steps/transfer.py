"""The transfer step: evaluate each run's probe on the answers in every run (generalisation matrix)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from probemap.records import RunError
from probemap.runs.checkpoint import Checkpoint
from probemap.runs.definitions import ANSWER, CAPTURE
from probemap.runs.graded import normalized
from probemap.runs.plan import Context, Plan
from probemap.runs.run import Run
from probemap.runs.study_files import read_nested_map

if TYPE_CHECKING:  # torch takes seconds to import and is needed only for execution
    from probemap.runs.options import TransferOptions
    from probemap.studies.generalisation import RunData
    from probemap.tables import Table


def plan(run: Run, options: TransferOptions, context: Context) -> Plan[TransferOptions]:
    """Plan the transfer step.

    The step writes ``transfer.json``, ``transfer.csv`` and the figure to the first run directory.

    Raises
    ------
    RunError
        If fewer than two different runs are given, if their states are not comparable because the weights or the sites
        differ, or if a map was fitted without nested cross-validation.
    MapError
        If the runs have no cells in common.
    """
    runs = [run, *(Run.open(path) for path in options.others)]
    if len(runs) < 2 or len({item.path.resolve() for item in runs}) < len(runs):
        raise RunError(
            f"{len(runs)} runs were given, some of them more than once" if len(runs) > 1 else "only one run was given",
            "pass at least two different run directories",
        )
    check_same_states(runs)
    for item in runs:
        read_nested_map(item)
    names = _names(runs)
    return Plan(
        options=replace(options, runs=tuple(names)),
        inputs={name: item.sha256("map.nc") for name, item in zip(names, runs, strict=True)},
        execute=partial(_execute, runs, names, context),
    )


def _execute(runs: Sequence[Run], names: Sequence[str], context: Context) -> bool:
    from probemap.detectors.head_fit import fit_probe
    from probemap.studies.generalisation import Pair, generalisation_table

    first = runs[0]
    table = generalisation_table(
        [_run_data(run, name) for run, name in zip(runs, names, strict=True)],
        fit_probe,
        progress=lambda done, total: context.logger.progress("pairs", done, total),
        checkpoint=Checkpoint[Pair](first, "transfer.jsonl", "pair", Pair).get_or_compute,
    )
    first.write("transfer.csv", table.to_csv())
    first.write("transfer.json", table.to_json())
    draw(first, table)
    return True


def draw(run: Run, table: Table) -> None:
    """Write ``transfer.png`` and ``transfer.svg``."""
    from probemap.studies.generalisation import matrix_of, pairs_of
    from probemap.views.matrix import save_matrix

    save_matrix(matrix_of(pairs_of(table)), *figure_paths(run))


def figure_paths(run: Run) -> list[Path]:
    """Return the paths of the figure's two image files."""
    return [run.path / "transfer.png", run.path / "transfer.svg"]


def check_same_states(runs: Sequence[Run]) -> None:
    """Raise RunError if the runs' states are not comparable because the weights or the sites differ."""
    first = _identity(runs[0])
    for run in runs[1:]:
        identity = _identity(run)
        if differing := [name for name, value in identity.items() if first[name] != value]:
            name = differing[0]
            raise RunError(
                f"the states of {run.path} and {runs[0].path} differ: {name} {identity[name]!r}, not {first[name]!r}",
                "compare runs of the same model at the same site",
            )


def _identity(run: Run) -> Mapping[str, str]:
    answer = run.record(ANSWER)
    return {
        "model": answer.facts.model,
        "revision": answer.facts.revision,
        "quantisation": answer.options.quantize or "none",
        "site": run.record(CAPTURE).options.site,
    }


def _names(runs: Sequence[Run]) -> list[str]:
    """Return a unique name for each run: its task, followed by the directory if several runs have the same task."""
    tasks = [run.task.name for run in runs]
    names = [
        task if tasks.count(task) == 1 else f"{task} ({run.path.name})" for task, run in zip(tasks, runs, strict=True)
    ]
    return [name if names.count(name) == 1 else f"{name} ({run.path})" for name, run in zip(names, runs, strict=True)]


def _run_data(run: Run, name: str) -> RunData:
    import numpy as np
    import numpy.typing as npt

    from probemap.probing.baselines import compute_baselines
    from probemap.studies.generalisation import RunData
    from probemap.studies.ranking import rows_of_map

    probe_map, graded = run.read_current_map(), run.graded
    store = run.states_of(graded)
    rows = rows_of_map(probe_map, graded.ids)
    questions = [(normalized(e.question), normalized(e.context)) for e in graded.task.examples]

    def states(layer: int, position: str) -> npt.NDArray[np.float32]:
        column = store.layout.positions.index(position)
        return np.asarray(store.read_layer(layer)[:, column][rows])

    logprobs = {
        item.name: np.asarray(item.values, np.float64)[rows]
        for item in compute_baselines(graded.task, graded.answers, graded.judgements)
        if "logprob" in item.name
    }
    return RunData(
        name=name,
        probe_map=probe_map,
        questions=[questions[row] for row in rows.tolist()],
        logprobs=logprobs,
        states=states,
    )
