"""The transfer step: every run's probe on every run's answers."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from probemap.logger import SILENT, Logger
from probemap.records import RunError
from probemap.runs.checkpoint import Checkpoint
from probemap.runs.integrity import questions_asked, read_answers, read_scores, refuse_paper_locator, states_of
from probemap.runs.run import Run
from probemap.tables import Table

if TYPE_CHECKING:  # torch loads in seconds; only the steps that need it pay
    from probemap.studies.generalisation import RunData


def transfer(runs: Sequence[Run], *, redo: bool = False, logger: Logger = SILENT) -> Table:
    """Train on each run, test on all; writes ``transfer.json``, ``transfer.csv`` and the picture into the first run.

    Raises
    ------
    RunError: fewer than two runs, one of them twice, or runs whose states cannot be compared: other weights or sites.
    MapError: runs without cells in common.
    """
    if len(runs) < 2 or len({run.path.resolve() for run in runs}) < len(runs):
        raise RunError(f"{len(runs)} different runs are needed, two or more", "name each of several run folders once")
    check_same_states(runs)
    for run in runs:
        refuse_paper_locator(run)
        if not read_scores(run).has_nested:
            raise RunError(
                f"the map of {run.path} was made without folds inside folds",
                f"`probemap map {run.path} --folds 5 --redo`, and not by the paper's protocol",
            )
    home, names = runs[0], _names(runs)
    with home.locked():
        maps = {name: run.sha256("map.nc") for name, run in zip(names, runs, strict=True)}
        with home.making("transfer", options={"runs": names}, inputs=maps, redo=redo, log=logger.log) as needed:
            if needed:
                from probemap.detectors.fit import fit_probe
                from probemap.studies.generalisation import Pair, generalisation_table

                made = generalisation_table(
                    [_run_data(run, name) for run, name in zip(runs, names, strict=True)],
                    fit_probe,
                    progress=lambda done, total: logger.progress("pairs", done, total),
                    checkpoint=Checkpoint[Pair](home, "transfer.jsonl", "pair", Pair).once,
                )
                home.write("transfer.csv", made.to_csv())
                home.write("transfer.json", made.to_json())
        made = home.table("transfer")
        pictures = [home.path / "transfer.png", home.path / "transfer.svg"]
        if needed or not all(picture.exists() for picture in pictures):
            from probemap.studies.generalisation import matrix_of, pairs_of
            from probemap.views.matrix import save_matrix

            save_matrix(matrix_of(pairs_of(made)), *pictures)
        return made


def check_same_states(runs: Sequence[Run]) -> None:
    """Refuse runs of different weights or sites: a probe of one says nothing of the other's states."""
    first = _states_are(runs[0])
    for run in runs[1:]:
        if differing := [name for name, value in _states_are(run).items() if first[name] != value]:
            what = differing[0]
            raise RunError(
                f"{run.path} has other states than {runs[0].path}: {what} {_states_are(run)[what]!r}, not "
                f"{first[what]!r}",
                "compare runs of one model at one site",
            )


def _states_are(run: Run) -> Mapping[str, str]:
    facts = run.step("answer").get("facts", {})
    site = run.step("capture").get("options", {}).get("site", "resid")
    quantize = run.step("answer").get("options", {}).get("quantize")
    return {
        "model": str(facts.get("model")),
        "revision": str(facts.get("revision")),
        "quantisation": str(quantize or "none"),
        "site": str(site),
    }


def _names(runs: Sequence[Run]) -> list[str]:
    """What each run is called: its task, and its folder where two have the same; always different."""
    tasks = [run.task().name for run in runs]
    named = [t if tasks.count(t) == 1 else f"{t} ({run.path.name})" for t, run in zip(tasks, runs, strict=True)]
    return [n if named.count(n) == 1 else f"{n} ({run.path})" for n, run in zip(named, runs, strict=True)]


def _run_data(run: Run, name: str) -> "RunData":
    import numpy as np
    import numpy.typing as npt

    from probemap.probing.baselines import baselines
    from probemap.studies.generalisation import RunData
    from probemap.studies.ranking import rows_of_map

    probe_map = read_scores(run)
    task, answers, judgements = read_answers(run)
    store = states_of(run, answers, judgements)
    rows = rows_of_map(probe_map, [a.id for a in answers])
    asked = questions_asked(task)

    def states(layer: int, position: str) -> npt.NDArray[np.float32]:
        column = store.layout.positions.index(position)
        return np.asarray(store.read_layer(layer)[:, column][rows])

    logprobs = {
        one.name: np.asarray(one.values)[rows]
        for one in baselines(task, answers, judgements)
        if "logprob" in one.name and not isinstance(one.values, list)
    }
    return RunData(
        name=name,
        probe_map=probe_map,
        questions=[asked[row] for row in rows.tolist()],
        logprobs=logprobs,
        states=states,
    )
