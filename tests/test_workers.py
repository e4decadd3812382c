"""Worker pools: Ray workers give the same bytes as one process, even if workers die; shards."""

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
from hypothesis import given
from hypothesis import strategies as st
from running import execute
from typer.testing import CliRunner

from probemap import fit_map
from probemap.activations.store import ActivationStore
from probemap.cli.main import app
from probemap.logger import Logger
from probemap.records import MapError, ModelError, RunError
from probemap.runs.definitions import ANSWER, CAPTURE, JUDGE
from probemap.runs.plan import Context
from probemap.runs.run import Run
from probemap.workers import RayPool, Shard, _cpus_per_worker, map_in, parse_shard, worker_pool

TWO = RayPool(workers=2)


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """Ray, started once for all tests of this module; worker pools use it and do not shut it down."""
    runtime_env = {"env_vars": {"PYTHONPATH": str(Path(__file__).parent)}}  # for the workers of this module
    ray.init(
        num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, runtime_env=runtime_env
    )
    yield
    ray.shutdown()


@dataclass(frozen=True)
class Squares:
    """A worker that records its process id per piece, and can be killed or fail at a piece."""

    directory: Path
    killed_at: int = -1
    always: bool = False
    fails_at: int = -1

    def plan(self) -> int:
        return os.getpid()

    def each(self, pieces: Sequence[int]) -> Iterator[int]:
        for piece in pieces:
            if piece == self.killed_at and (self.always or not (self.directory / "died").exists()):
                (self.directory / "died").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if piece == self.fails_at:
                raise MapError("piece 3 is bad", "take another")
            time.sleep(0.05)
            (self.directory / f"{piece}-{os.getpid()}").touch()
            yield piece**2


def by_two(work: Squares, pieces: Sequence[int] = range(12)) -> list[int]:
    with worker_pool(lambda: work, TWO) as workers:
        assert workers.plan() != os.getpid()
        return list(workers.each(pieces))


def test_worker_pool_yields_pieces_in_order_from_several_processes(tmp_path: Path) -> None:
    assert by_two(Squares(tmp_path)) == [k**2 for k in range(12)]
    files = [path.name.split("-") for path in tmp_path.iterdir()]
    assert sorted(int(piece) for piece, _ in files) == list(range(12)), "each piece once"
    assert len({process for _, process in files}) == 2
    assert by_two(Squares(tmp_path), []) == []


def test_worker_pool_repeats_only_the_piece_of_a_killed_worker(tmp_path: Path) -> None:
    assert by_two(Squares(tmp_path, killed_at=5)) == [k**2 for k in range(12)]
    assert sorted(int(path.name.split("-")[0]) for path in tmp_path.glob("*-*")) == list(range(12))


def test_worker_pool_ends_at_a_piece_that_kills_every_worker(tmp_path: Path) -> None:
    with pytest.raises(
        RunError, match=r"a worker died more than 3 times, or could not start: .*\nhint: the memory may be exhausted"
    ):
        by_two(Squares(tmp_path, killed_at=2, always=True))


def test_worker_pool_raises_error_of_worker(tmp_path: Path) -> None:
    with pytest.raises(MapError, match=r"^piece 3 is bad\nhint: take another$"):
        by_two(Squares(tmp_path, fails_at=3))


def test_worker_pool_rejects_workers_that_cannot_be_placed(tmp_path: Path) -> None:
    for pool, message in (
        (
            RayPool(3),
            "3 workers with one CPU each were requested, but Ray has resources for 2\nhint: use fewer --workers",
        ),
        (RayPool(1, 2), "1 workers with 2 GPUs each were requested, but Ray has resources for 0\nhint: use fewer"),
        (RayPool(1, 1.5), "a worker cannot have 1.5 GPUs\nhint: use a whole number"),
    ):
        with pytest.raises(RunError, match=message), worker_pool(lambda: Squares(tmp_path), pool):
            raise AssertionError("the pool must not wait for resources")


def test_cpus_per_worker_places_each_worker_on_one_machine() -> None:
    cpus, gpus = {"CPU": 8.0}, {"CPU": 16.0, "GPU": 8.0}
    assert _cpus_per_worker([{"CPU": 16.0}], RayPool(3)) == 5
    assert _cpus_per_worker([cpus, cpus], RayPool(1)) == 8
    assert _cpus_per_worker([cpus, cpus], RayPool(3)) == 4
    assert _cpus_per_worker([gpus, gpus], RayPool(4, 3)) == 1
    assert _cpus_per_worker([{"CPU": 4.0, "GPU": 2.0}], RayPool(4, 0.5)) == 1
    with pytest.raises(RunError, match="5 workers with 3 GPUs each were requested, but Ray has resources for 4"):
        _cpus_per_worker([gpus, gpus], RayPool(5, 3))


def test_worker_pool_without_ray_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(RunError, match=r"hint: pip install 'probemap\[ray\]'"),
        worker_pool(lambda: Squares(Path()), TWO),
    ):
        raise AssertionError("Ray is not installed")


# --- the steps ---


def write_questions(directory: Path, n: int = 24) -> Path:
    rows = [{"id": f"q{i}", "question": f"What is {i} + 5?", "answers": [str(i + 5)]} for i in range(n)]
    (directory / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return directory / "q.jsonl"


SIX_SHARDS: dict[str, Any] = {"shard_bytes": 4 * 15 * 32 * 4 * 4}
"""Five of the tiny model's answers to a shard."""


@pytest.fixture(scope="module")
def alone(chat_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that one process made."""
    folder = tmp_path_factory.mktemp("alone")
    options: dict[str, Any] = {"max_new_tokens": 6, "batch_size": 5, "temperature": 1.0}
    run = execute(ANSWER, folder / "run", data=write_questions(folder), model=chat_folder, **options)
    execute(JUDGE, run, locator="none")
    execute(CAPTURE, run, **SIX_SHARDS)
    return run


def contents(run: Run) -> str:
    return ActivationStore.open(run.path / "activations").content_hash()


def test_ray_answers_and_states_equal_those_of_one_process(alone: Run, chat_folder: Path, tmp_path: Path) -> None:
    told: list[str] = []
    counted: list[tuple[str, int, int]] = []
    logger = Logger(told.append, lambda *row: counted.append(row))
    options: dict[str, Any] = {"max_new_tokens": 6, "batch_size": 5, "temperature": 1.0}
    run = execute(
        ANSWER,
        tmp_path / "run",
        Context(pool=TWO, logger=logger),
        data=write_questions(tmp_path),
        model=chat_folder,
        **options,
    )
    assert (run.path / "answers.jsonl").read_bytes() == (alone.path / "answers.jsonl").read_bytes()
    execute(JUDGE, run, locator="none")
    execute(CAPTURE, run, Context(pool=TWO, logger=logger), **SIX_SHARDS)
    assert run.is_done(CAPTURE)
    assert contents(run) == contents(alone)
    assert counted[:5] == [("answers", done, 24) for done in (5, 10, 15, 20, 24)]
    assert counted[5:] == [("hidden states", done, 24) for done in (4, 8, 12, 16, 20, 24)]
    assert told == []


@pytest.fixture
def judged(alone: Run, tmp_path: Path) -> Run:
    """A copy that has no states yet."""
    without = shutil.ignore_patterns("activations")
    return Run(shutil.copytree(alone.path, tmp_path / "judged", ignore=without))


def test_ray_capture_unchanged_by_killed_worker(judged: Run, tmp_path: Path) -> None:
    one_by_one: dict[str, Any] = {"shard_bytes": 1}
    expected = Run(shutil.copytree(judged.path, tmp_path / "expected"))
    execute(CAPTURE, expected, **one_by_one)
    killed: list[int] = []

    def kill(what: str, done: int, total: int) -> None:
        actors = [p for p in psutil.process_iter(["cmdline"]) if "ray::_Actor" in " ".join(p.info["cmdline"] or [])]
        if done >= 3 and not killed and actors:
            actors[0].kill()
            killed.append(actors[0].pid)

    execute(CAPTURE, judged, Context(pool=TWO, logger=Logger(progress=kill)), **one_by_one)
    assert len(killed) == 1
    assert judged.is_done(CAPTURE)
    assert contents(judged) == contents(expected)


def test_capture_stopped_under_ray_resumes_with_missing_shards(judged: Run, alone: Run) -> None:
    def stop(what: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(CAPTURE, judged, Context(pool=TWO, logger=Logger(progress=stop)), **SIX_SHARDS)
    assert not judged.is_done(CAPTURE)
    ActivationStore.open(judged.path / "activations").set_aside(3)
    told: list[str] = []
    execute(CAPTURE, judged, Context(logger=Logger(told.append)), **SIX_SHARDS)
    (told_once,) = told
    assert told_once.endswith("of 6 shards of states already exist")
    assert contents(judged) == contents(alone)


def test_ray_answer_raises_model_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="hint:"):
        execute(ANSWER, tmp_path / "run", Context(pool=TWO), data=write_questions(tmp_path), model=tmp_path / "nothing")


def test_ray_fit_map_equals_one_process() -> None:
    draw = np.random.default_rng(0)
    correct = draw.random(80) < 0.5
    states = draw.normal(size=(80, 3, 2, 6)).astype(np.float32)
    states[:, 1, 1, 0] += 2 * correct
    one, other = (
        fit_map(
            states, list(correct), layers=range(3), positions=["a", "-1"], permutations=3, map_layers=map_in(engine)
        )
        for engine in (None, TWO)
    )
    assert one.to_bytes() == other.to_bytes()


def test_cli_workers_option_requires_ray(alone: Run) -> None:
    made = CliRunner().invoke(app, ["map", str(alone.path), "--workers", "2"])
    assert isinstance(made.exception, RunError)
    assert str(made.exception) == "--workers and --gpus-per-worker apply to Ray only\nhint: add --engine ray"
    shared: list[Any] = ["capture", str(alone.path), "--engine", "ray", "--shard", "1/2"]
    made = CliRunner().invoke(app, shared)
    assert str(made.exception) == "--shard and --engine ray both split the work\nhint: use only one of them"


# --- shards ---


@given(st.text(st.sampled_from("0123456789/ au to-"), max_size=8) | st.text(max_size=8))
def test_parse_shard_any_text_gives_shard_or_error(text: str) -> None:
    try:
        shard = parse_shard(text, {})
    except RunError as error:
        assert "hint:" in str(error)
    else:
        assert 1 <= shard.number <= shard.count
        assert parse_shard(f"{shard.number}/{shard.count}") == shard


_VALUES = st.integers(-2, 9).map(str) | st.sampled_from(["", "x", "1.5"])
_NAMES = [f"SLURM_ARRAY_TASK_{name}" for name in ("ID", "MIN", "MAX", "STEP", "COUNT")]


def array(tasks: list[int], step: int = 1) -> list[dict[str, str]]:
    """The environment variables of each task of a SLURM array."""
    values = {"MIN": min(tasks), "MAX": max(tasks), "STEP": step, "COUNT": len(tasks)}
    return [{f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in (values | {"ID": t}).items()} for t in tasks]


@pytest.mark.parametrize(("tasks", "step"), [([7], 1), ([0, 1, 2], 1), ([3, 4, 5], 1), ([1, 4, 7], 3)])
def test_parse_shard_of_an_array_without_gaps(tasks: list[int], step: int) -> None:
    shards = [parse_shard("auto", environment) for environment in array(tasks, step)]
    assert shards == [Shard(number, len(tasks)) for number in range(1, len(tasks) + 1)]


@pytest.mark.parametrize("tasks", [[3, 5], [1, 2, 3, 7], [0, 2, 4]])
def test_parse_shard_refuses_every_task_of_an_array_with_gaps(tasks: list[int]) -> None:
    for environment in array(tasks):
        with pytest.raises(RunError, match=r"the SLURM array has gaps: \d tasks from(.|\n)*hint: .*--array=1-8"):
            parse_shard("auto", environment)


def test_processes_of_torchrun_in_an_array_divide_the_shard() -> None:
    tasks = array([4, 5, 6])
    processes = [{**task, "RANK": str(rank), "WORLD_SIZE": "2"} for task in tasks for rank in range(2)]
    assert [parse_shard("auto", process) for process in processes] == [Shard(number, 6) for number in range(1, 7)]
    with pytest.raises(RunError, match="the environment variables specify shard 3 of 2, which does not exist"):
        parse_shard("auto", {"RANK": "2", "WORLD_SIZE": "2"})


@given(st.dictionaries(st.sampled_from([*_NAMES, "RANK", "WORLD_SIZE"]), _VALUES))
def test_parse_shard_any_environment_gives_shard_or_error(environment: dict[str, str]) -> None:
    try:
        shard = parse_shard("auto", environment)
    except RunError as error:
        assert "hint:" in str(error)
    else:
        assert 1 <= shard.number <= shard.count


@given(st.integers(1, 6), st.lists(st.integers(0, 99), unique=True))
def test_shards_are_a_partition(count: int, pieces: list[int]) -> None:
    shards = [Shard(number, count).of(pieces) for number in range(1, count + 1)]
    assert sorted(piece for shard in shards for piece in shard) == sorted(pieces)
