"""Ray's workers: the same bytes as one process makes, whoever dies on the way."""

import json
import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import ray
from typer.testing import CliRunner

from probemap import fit_map
from probemap.activations.store import ActivationStore
from probemap.cli.main import app
from probemap.logger import Logger
from probemap.models.loading import Loader
from probemap.records import MapError, ModelError, RunError
from probemap.runs.options import Answering, Capturing, Judging
from probemap.runs.pipeline import answer
from probemap.runs.run import Run
from probemap.runs.steps.capture import capture
from probemap.runs.steps.judge import judge
from probemap.workers import RayPool, _cpus_each, worker_pool

TWO = RayPool(workers=2)


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """Ray started once for all tests here; each test finds it running, and leaves it running."""
    here = {"env_vars": {"PYTHONPATH": str(Path(__file__).parent)}}  # for the workers that are written here
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, runtime_env=here)
    yield
    ray.shutdown()


@dataclass(frozen=True)
class Squares:
    """A worker that notes who did what, and may die or fail over a piece."""

    folder: Path
    dies: int = -1
    always: bool = False
    fails: int = -1

    def plan(self) -> int:
        return os.getpid()

    def each(self, pieces: Sequence[int]) -> Iterator[int]:
        for piece in pieces:
            if piece == self.dies and (self.always or not (self.folder / "died").exists()):
                (self.folder / "died").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if piece == self.fails:
                raise MapError("piece 3 is bad", "take another")
            time.sleep(0.05)
            (self.folder / f"{piece}-{os.getpid()}").touch()
            yield piece**2


def by_two(work: Squares, pieces: Sequence[int] = range(12)) -> list[int]:
    with worker_pool(lambda: work, TWO) as workers:
        assert workers.plan() != os.getpid()
        return list(workers.each(pieces))


def test_pieces_come_in_order_from_several_processes(tmp_path: Path) -> None:
    assert by_two(Squares(tmp_path)) == [k**2 for k in range(12)]
    done = [path.name.split("-") for path in tmp_path.iterdir()]
    assert sorted(int(piece) for piece, _ in done) == list(range(12)), "each piece once"
    assert len({process for _, process in done}) == 2
    assert by_two(Squares(tmp_path), []) == []


def test_a_worker_that_is_killed_costs_its_piece_alone(tmp_path: Path) -> None:
    assert by_two(Squares(tmp_path, dies=5)) == [k**2 for k in range(12)]
    assert sorted(int(path.name.split("-")[0]) for path in tmp_path.glob("*-*")) == list(range(12))


def test_a_piece_that_kills_every_worker_ends(tmp_path: Path) -> None:
    with pytest.raises(
        RunError, match=r"a worker died more than 3 times, or could not start: .*\nhint: it may be out of memory"
    ):
        by_two(Squares(tmp_path, dies=2, always=True))


def test_what_the_user_can_mend_comes_back_as_it_was_said(tmp_path: Path) -> None:
    with pytest.raises(MapError, match=r"^piece 3 is bad\nhint: take another$"):
        by_two(Squares(tmp_path, fails=3))


def test_a_crew_that_can_never_be_placed_is_refused_at_once(tmp_path: Path) -> None:
    for asked, message in (
        (RayPool(3), "3 workers with a CPU each, and Ray has room for 2\nhint: take fewer --workers"),
        (RayPool(1, 2), "1 workers with 2 GPUs each, and Ray has room for 0\nhint: take fewer --workers"),
        (RayPool(1, 1.5), "a worker cannot have 1.5 GPUs\nhint: give a whole number"),
    ):
        with pytest.raises(RunError, match=message), worker_pool(lambda: Squares(tmp_path), asked):
            raise AssertionError("nobody may be waited for")


def test_every_worker_finds_room_on_one_machine() -> None:
    eight, gpus = {"CPU": 8.0}, {"CPU": 16.0, "GPU": 8.0}
    assert _cpus_each([{"CPU": 16.0}], RayPool(3)) == 5
    assert _cpus_each([eight, eight], RayPool(1)) == 8
    assert _cpus_each([eight, eight], RayPool(3)) == 4
    assert _cpus_each([gpus, gpus], RayPool(4, 3)) == 1
    assert _cpus_each([{"CPU": 4.0, "GPU": 2.0}], RayPool(4, 0.5)) == 1
    with pytest.raises(RunError, match="5 workers with 3 GPUs each, and Ray has room for 4"):
        _cpus_each([gpus, gpus], RayPool(5, 3))


def test_without_ray_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(RunError, match=r"hint: pip install 'probemap\[ray\]'"),
        worker_pool(lambda: Squares(Path()), TWO),
    ):
        raise AssertionError("there is no Ray")


# --- the steps ---


def questions(folder: Path, n: int = 24) -> Path:
    rows = [{"id": f"q{i}", "question": f"What is {i} + 5?", "answers": [str(i + 5)]} for i in range(n)]
    (folder / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "q.jsonl"


SIX_SHARDS = Capturing(shard_bytes=4 * 15 * 32 * 4 * 4)
"""Five of the tiny model's answers to a shard."""


@pytest.fixture(scope="module")
def alone(chat_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that one process made."""
    folder = tmp_path_factory.mktemp("alone")
    options = Answering(max_new_tokens=6, batch_size=5, temperature=1.0)
    run = answer(questions(folder), Loader(str(chat_folder)), folder / "run", options)
    judge(run, Judging("none"))
    capture(run, SIX_SHARDS)
    return run


def contents(run: Run) -> str:
    return ActivationStore.open(run.path / "activations").content_hash()


def test_workers_give_the_answers_and_the_states_of_one_process(alone: Run, chat_folder: Path, tmp_path: Path) -> None:
    told: list[str] = []
    counted: list[tuple[str, int, int]] = []
    logger = Logger(told.append, lambda *row: counted.append(row))
    options = Answering(max_new_tokens=6, batch_size=5, temperature=1.0)
    run = answer(questions(tmp_path), Loader(str(chat_folder)), tmp_path / "run", options, ray=TWO, logger=logger)
    assert (run.path / "answers.jsonl").read_bytes() == (alone.path / "answers.jsonl").read_bytes()
    judge(run, Judging("none"))
    capture(run, SIX_SHARDS, ray=TWO, logger=logger)
    assert run.is_done("capture")
    assert contents(run) == contents(alone)
    assert counted[:5] == [("answers", done, 24) for done in (5, 10, 15, 20, 24)]
    assert counted[5:] == [("hidden states", done, 24) for done in (4, 8, 12, 16, 20, 24)]
    assert told == []


@pytest.fixture
def judged(alone: Run, tmp_path: Path) -> Run:
    """A copy that has no states yet."""
    without = shutil.ignore_patterns("activations")
    return Run(shutil.copytree(alone.path, tmp_path / "judged", ignore=without))


def test_a_worker_killed_while_it_captures_changes_nothing(judged: Run, tmp_path: Path) -> None:
    one_by_one = Capturing(shard_bytes=1)
    expected = Run(shutil.copytree(judged.path, tmp_path / "expected"))
    capture(expected, one_by_one)
    killed: list[int] = []

    def kill(what: str, done: int, total: int) -> None:
        members = [p for p in psutil.process_iter(["cmdline"]) if "ray::_Member" in " ".join(p.info["cmdline"] or [])]
        if done >= 3 and not killed and members:
            members[0].kill()
            killed.append(members[0].pid)

    capture(judged, one_by_one, ray=TWO, logger=Logger(progress=kill))
    assert len(killed) == 1
    assert judged.is_done("capture")
    assert contents(judged) == contents(expected)


def test_a_capture_stopped_under_ray_goes_on_with_the_missing_shards(judged: Run, alone: Run) -> None:
    def stop(what: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        capture(judged, SIX_SHARDS, ray=TWO, logger=Logger(progress=stop))
    assert not judged.is_done("capture")
    ActivationStore.open(judged.path / "activations").set_aside(3)
    told: list[str] = []
    capture(judged, SIX_SHARDS, logger=Logger(told.append))
    (told_once,) = told
    assert told_once.endswith("of 6 shards of states are there already")
    assert contents(judged) == contents(alone)


def test_what_is_wrong_with_a_model_is_told_as_without_ray(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="hint:"):
        answer(questions(tmp_path), Loader(str(tmp_path / "nothing")), tmp_path / "run", ray=TWO)


def test_workers_fit_the_map_of_one_process() -> None:
    draw = np.random.default_rng(0)
    correct = draw.random(80) < 0.5
    states = draw.normal(size=(80, 3, 2, 6)).astype(np.float32)
    states[:, 1, 1, 0] += 2 * correct
    one, other = (
        fit_map(states, list(correct), layers=range(3), positions=["a", "-1"], permutations=3, ray=engine)
        for engine in (None, TWO)
    )
    assert one.to_bytes() == other.to_bytes()


def test_the_command_line_hires_only_for_ray(alone: Run) -> None:
    made = CliRunner().invoke(app, ["map", str(alone.path), "--workers", "2"])
    assert isinstance(made.exception, RunError)
    assert str(made.exception) == "--workers and --gpus-per-worker are Ray's\nhint: add --engine ray"
    shared: list[Any] = ["capture", str(alone.path), "--engine", "ray", "--shard", "1/2"]
    made = CliRunner().invoke(app, shared)
    assert str(made.exception) == "--shard splits the work, and so does --engine ray\nhint: give one of them"
