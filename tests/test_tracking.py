"""What trackers are handed, read back from the real ones."""

import json
import shutil
import sys
import time
import types
from pathlib import Path
from typing import Any

import pytest

from probemap.maps.probe_map import ProbeMap
from probemap.records import RunError
from probemap.runs.run import Run
from probemap.runs.steps.plot import plot
from probemap.runs.tracking import track


@pytest.fixture
def run(mapped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    run = Run.open(shutil.copytree(mapped, tmp_path / "RUN"))
    plot([run])
    return run


def test_mlflow_has_the_numbers_the_facts_and_the_files(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((run.path.parent / "mlruns").as_uri())
    track(run, "mlflow")
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("probemap")
    assert experiment is not None
    (made,) = client.search_runs([experiment.experiment_id])
    probe_map = ProbeMap.load(run.path / "map.nc")
    best = probe_map.best()[0]
    assert made.info.run_name == "RUN"
    assert made.data.metrics["auc.highest"] == pytest.approx(best.auc)
    assert made.data.metrics["auc.highest.layer"] == best.layer
    assert made.data.metrics["decided"] == 80
    assert made.data.params["model"] == "tiny-chat"
    assert made.data.params["map.folds"] == "5"
    names = {artifact.path for artifact in client.list_artifacts(made.info.run_id)}
    assert names == {"map.csv", "map.png", "map.svg", "report.html"}


def test_weights_and_biases_has_them_too_without_a_network(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_DIR", str(run.path.parent))
    track(run, "wandb")
    (folder,) = (run.path.parent / "wandb").glob("offline-run-*")
    (log,) = folder.glob("*.wandb")
    expected = b"auc.best_judged_apart", b"cells.above_chance", b"tiny-chat", b"report.html"
    # Its own process writes the file, on a busy machine after the run is over.
    deadline = time.monotonic() + 60
    while not all(words in log.read_bytes() for words in expected):
        assert time.monotonic() < deadline, log.read_bytes()[:2000]
        time.sleep(0.1)
    assert list((folder / "files" / "media" / "images").glob("map*.png"))


def test_trackio_is_told_in_its_own_words(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against what it documents, since it would bring a web framework into every test environment."""
    said: list[tuple[str, Any]] = []
    made = types.ModuleType("trackio")
    made.__spec__ = types.SimpleNamespace()  # type: ignore[assignment]
    vars(made).update(
        init=lambda **words: said.append(("init", words)),
        log=lambda numbers: said.append(("log", numbers)),
        finish=lambda: said.append(("finish", None)),
        Image=lambda path: ("image", Path(path).name),
    )
    monkeypatch.setitem(sys.modules, "trackio", made)
    track(run, "trackio")
    assert [name for name, _ in said] == ["init", "log", "finish"]
    assert (said[0][1]["project"], said[0][1]["name"]) == ("probemap", "RUN")
    json.dumps(said[0][1]["config"])
    assert said[1][1]["map"] == ("image", "map.png")
    assert 0 < said[1][1]["auc.highest"] <= 1


def test_a_tracker_that_is_not_there_or_refuses_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RunError, match="nothing_like_it is not installed\nhint: run `pip install nothing_like_it`"):
        track(run, "nothing_like_it")
    import mlflow

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri("http://127.0.0.1:9")  # nobody listens there
    try:
        with pytest.raises(RunError, match=r"mlflow failed: .*\nhint: the run in"):
            track(run, "mlflow")
    finally:
        mlflow.set_tracking_uri(before)
    assert (run.path / "report.html").exists()
