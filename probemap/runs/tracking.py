"""A run's numbers, pictures and page handed to whatever keeps experiments: MLflow, Weights & Biases, or Trackio."""

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

from probemap.maps.probe_map import ProbeMap
from probemap.records import RunError
from probemap.redact import redacted_message
from probemap.runs.run import Run
from probemap.runs.steps.report import report

PROJECT = "probemap"

TRACKERS = ("mlflow", "wandb", "trackio")


def track(run: Run, tracker: str) -> None:
    """Hand over the run's numbers and facts, ``map.csv``, the pictures, and ``report.html``, which is made for it;
    Trackio, which keeps no files, is handed the numbers and the map's picture.

    Where it goes is the tracker's own business (``MLFLOW_TRACKING_URI``, ``WANDB_MODE``, …).

    Parameters
    ----------
    tracker: one of `TRACKERS`.

    Raises
    ------
    RunError: it is not installed, or refuses; the run folder stays as it is.
    """
    check_tracker(tracker)
    report([run])
    probe_map = run.read_map()
    files = [name for name in ("map.csv", "map.png", "map.svg", "report.html") if (run.path / name).is_file()]
    try:
        _HAND_OVER[tracker](run, _facts(run, probe_map), _numbers(probe_map), files)
    except Exception as error:  # each raises kinds of its own, of networks, keys and disks
        raise RunError(
            f"{tracker} refused: {type(error).__name__} {redacted_message(error) if str(error) else ''}",
            f"the run is whole in {run.path}; mend it and `probemap run` hands it over again",
        ) from None


def check_tracker(tracker: str) -> None:
    """Refuse a tracker that is not there, before hours of work.

    Raises
    ------
    RunError: not installed.
    """
    if find_spec(tracker) is None:
        raise RunError(f"{tracker} is not installed", f"`pip install {tracker}`, or leave --log out")


def _facts(run: Run, probe_map: ProbeMap) -> dict[str, str]:
    """What made the map, as flat names."""
    made = {
        f"{step}.{name}": str(value)
        for step, entry in run.run_json()["steps"].items()
        for name, value in entry["options"].items()
    }
    attrs = probe_map.data.attrs
    return {
        **made,
        **{name: str(attrs[name]) for name in ("model", "revision", "task", "site", "locator") if name in attrs},
    }


def _numbers(probe_map: ProbeMap) -> dict[str, float]:
    attrs = probe_map.data.attrs
    (best,) = probe_map.best()
    made = {
        "answers": attrs["answers"],
        "decided": attrs["decided"],
        "right": attrs["right"],
        "auc.mean": float(probe_map.auc.mean()),
        "auc.highest": best.auc,
        "auc.highest.low": best.low,
        "auc.highest.high": best.high,
        "auc.highest.layer": best.layer,
        "cells.above_chance": int(probe_map.above_chance.sum()),
        "cells.may_be_best": int(probe_map.confidence_set().sum()),
    }
    if honest := probe_map.nested_best():
        made |= {
            "auc.best_judged_apart": honest.auc,
            "auc.best_judged_apart.low": honest.low,
            "auc.best_judged_apart.high": honest.high,
        }
    return {name: float(value) for name, value in made.items()}


def _to_mlflow(run: Run, facts: Mapping[str, str], numbers: Mapping[str, float], files: list[str]) -> None:
    import mlflow

    mlflow.set_experiment(PROJECT)
    with mlflow.start_run(run_name=run.path.name):
        mlflow.log_params(facts)
        mlflow.log_metrics(numbers)
        for name in files:
            mlflow.log_artifact(str(run.path / name))


def _to_wandb(run: Run, facts: Mapping[str, str], numbers: Mapping[str, float], files: list[str]) -> None:
    import wandb

    with wandb.init(project=PROJECT, name=run.path.name, config=dict(facts)) as made:
        made.log({**numbers, "map": wandb.Image(str(run.path / "map.png"))})
        artifact = wandb.Artifact("map", type="map")
        for name in files:
            artifact.add_file(str(run.path / name))
        made.log_artifact(artifact)


def _to_trackio(run: Run, facts: Mapping[str, str], numbers: Mapping[str, float], files: list[str]) -> None:
    import trackio

    trackio.init(project=PROJECT, name=run.path.name, config=dict(facts))
    trackio.log({**numbers, "map": trackio.Image(str(run.path / "map.png"))})
    trackio.finish()


_HAND_OVER: dict[str, Callable[[Run, Mapping[str, str], Mapping[str, float], list[str]], Any]] = {
    "mlflow": _to_mlflow,
    "wandb": _to_wandb,
    "trackio": _to_trackio,
}
