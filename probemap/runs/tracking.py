"""Log the metrics, figures and report of a run to MLflow, Weights & Biases or Trackio.

`accelerate.tracking` wraps the same libraries but is not used here.  It has no common function for logging files, so
the API of each library would still be needed.  It also initialises torch's distributed state, which is not needed for
logging.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from probemap.records import RunError
from probemap.redact import redacted_message
from probemap.runs.steps.report import report

if TYPE_CHECKING:
    from probemap.maps.probe_map import ProbeMap
    from probemap.runs.run import Run

PROJECT = "probemap"


def track(run: Run, tracker: str) -> None:
    """Log a run to an experiment tracker.

    This function writes ``report.html`` and then logs it together with the options, the map's metrics, ``map.csv`` and
    the figures.  Trackio does not store files, so it receives only the options, the metrics and the map figure.  The
    destination is determined by the tracker's configuration (``MLFLOW_TRACKING_URI``, ``WANDB_MODE`` etc.).

    Parameters
    ----------
    run : Run
        A run that has a map.
    tracker : str
        ``mlflow``, ``wandb`` or ``trackio``.

    Raises
    ------
    RunError
        If the tracker is not installed, or if logging fails.  The run directory is not affected.
    """
    check_tracker(tracker)
    report([run])
    probe_map = run.read_map()
    files = [name for name in ("map.csv", "map.png", "map.svg", "report.html") if (run.path / name).is_file()]
    try:
        _LOGGERS[tracker](run, _parameters(run, probe_map), _numbers(probe_map), files)
    except Exception as error:  # trackers raise errors of many types, e.g. for network, key and disk problems
        raise RunError(
            f"{tracker} failed: {type(error).__name__} {redacted_message(error) if str(error) else ''}",
            f"the run in {run.path} is complete; to log it, correct the problem and repeat `probemap run`",
        ) from None


def check_tracker(tracker: str) -> None:
    """Raise RunError if the tracker is not installed.

    Call this function before a computation that may take hours, so that a missing tracker is reported early.
    """
    if find_spec(tracker) is None:
        raise RunError(f"{tracker} is not installed", f"run `pip install {tracker}`, or omit --log")


def _parameters(run: Run, probe_map: ProbeMap) -> dict[str, str]:
    """Return the options of all steps and the map's provenance as a flat dictionary."""
    options = {
        f"{step}.{name}": str(value)
        for step, entry in run.run_json()["steps"].items()
        for name, value in entry["options"].items()
    }
    attrs = probe_map.data.attrs
    names = ("model", "revision", "task", "site", "locator")
    return options | {name: str(attrs[name]) for name in names if name in attrs}


def _numbers(probe_map: ProbeMap) -> dict[str, float]:
    attrs = probe_map.data.attrs
    (best,) = probe_map.best()
    numbers = {
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
        numbers |= {
            "auc.best_judged_apart": honest.auc,
            "auc.best_judged_apart.low": honest.low,
            "auc.best_judged_apart.high": honest.high,
        }
    return {name: float(value) for name, value in numbers.items()}


def _to_mlflow(run: Run, parameters: Mapping[str, str], numbers: Mapping[str, float], files: list[str]) -> None:
    import mlflow

    mlflow.set_experiment(PROJECT)
    with mlflow.start_run(run_name=run.path.name):
        mlflow.log_params(parameters)
        mlflow.log_metrics(numbers)
        for name in files:
            mlflow.log_artifact(str(run.path / name))


def _to_wandb(run: Run, parameters: Mapping[str, str], numbers: Mapping[str, float], files: list[str]) -> None:
    import wandb

    with wandb.init(project=PROJECT, name=run.path.name, config=dict(parameters)) as session:
        session.log({**numbers, "map": wandb.Image(str(run.path / "map.png"))})
        artifact = wandb.Artifact("map", type="map")
        for name in files:
            artifact.add_file(str(run.path / name))
        session.log_artifact(artifact)


def _to_trackio(run: Run, parameters: Mapping[str, str], numbers: Mapping[str, float], files: list[str]) -> None:
    import trackio

    trackio.init(project=PROJECT, name=run.path.name, config=dict(parameters))
    trackio.log({**numbers, "map": trackio.Image(str(run.path / "map.png"))})
    trackio.finish()


_LOGGERS: dict[str, Callable[[Run, Mapping[str, str], Mapping[str, float], list[str]], Any]] = {
    "mlflow": _to_mlflow,
    "wandb": _to_wandb,
    "trackio": _to_trackio,
}
