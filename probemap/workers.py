"""Process numbered pieces of work, with one worker in this process or with a pool of Ray workers.

The worker defines what a piece is and what its result is.  Several commands can share the work if each of them
processes one shard of the pieces.  This module stores nothing.  The caller keeps the results in a run directory or a
store, so a restarted command requests only the missing pieces, even with a different number of workers.
"""

import logging
import os
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from probemap.records import ProbemapError, RunError

_Plan = TypeVar("_Plan", covariant=True)
_Result = TypeVar("_Result", covariant=True)

_MAX_RESTARTS = 3
"""Maximum number of times that an actor is restarted and a piece is retried after a process has died.  The limit
prevents endless restarts if a piece kills every process, e.g. because it does not fit in memory."""


@dataclass(frozen=True)
class RayPool:
    """Number and resources of the Ray workers, which run on this machine or on the cluster at RAY_ADDRESS."""

    workers: int = 1
    gpus_per_worker: float = 0.0


class Worker(Protocol[_Plan, _Result]):
    """Interface of a worker, which processes pieces of work.

    A worker is constructed once per process.  Its constructor loads everything that the worker needs.
    """

    def plan(self) -> _Plan:
        """Return the information that is available before the first piece is processed, e.g. which model is loaded."""

    def each(self, pieces: Sequence[int]) -> Iterator[_Result]:
        """Yield the results of the pieces, in the given order."""


@contextmanager
def worker_pool(make: Callable[[], Worker[_Plan, _Result]], ray: RayPool | None) -> Iterator[Worker[_Plan, _Result]]:
    """Start a single worker in this process, or a pool of Ray workers that has the same interface.

    Ray is started if it is not running yet.  At the end, it is shut down only if this function started it.

    Parameters
    ----------
    make : callable
        Callable that constructs a worker.  With Ray, it is serialised and sent to other processes, together with all
        objects that it refers to.
    ray : RayPool or None
        Number and resources of the Ray workers.  If None, one worker runs in this process.

    Yields
    ------
    Worker

    Raises
    ------
    RunError
        If Ray is not installed or cannot be reached, if its resources are insufficient, or if a worker dies repeatedly.
    """
    if ray is None:
        yield make()
        return
    library = _import_ray()
    is_ours = not library.is_initialized()
    if is_ours:
        # The dashboard would let anyone who can reach it run code.  Usage statistics would be sent to Ray's developers.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        address = os.environ.get("RAY_ADDRESS") or "local"
        local = {"include_dashboard": False} if address == "local" else {}
        try:
            library.init(address, log_to_driver=False, logging_level=logging.ERROR, **local)
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = str(error).strip().split("\n")[0][:200]
            raise RunError(f"Ray at {address} cannot be reached: {reason}", "check RAY_ADDRESS") from None
    actors = None
    try:
        actors = _RayActors(library, make, ray)
        yield actors
    finally:
        if actors:
            actors.shutdown()
        if is_ours:
            library.shutdown()


@dataclass(frozen=True)
class _FunctionWorker(Generic[_Result]):
    """A worker that calls a function with the number of each piece."""

    function: Callable[[int], _Result]

    def plan(self) -> None:
        """Return None, because there is nothing to report."""

    def each(self, pieces: Sequence[int]) -> Iterator[_Result]:
        return map(self.function, pieces)


def map_in(
    ray: RayPool | None,
) -> Callable[[Callable[[int], _Result], Sequence[int]], Iterator[_Result]]:
    """Return a function that works like the built-in ``map`` but makes its calls in a worker pool.

    Parameters
    ----------
    ray : RayPool or None
        Number and resources of the Ray workers.  If None, the calls are made in this process.
    """

    def pool_map(function: Callable[[int], _Result], pieces: Sequence[int]) -> Iterator[_Result]:
        with worker_pool(partial(_FunctionWorker, function), ray) as worker:
            yield from worker.each(pieces)

    return pool_map


class _RayActors:
    """A pool of Ray actors with the same interface as a single worker."""

    def __init__(self, library: Any, make: Callable[[], Worker[Any, Any]], ray: RayPool) -> None:
        from torch import get_num_threads

        self._ray = library
        # The order of floating-point additions depends on the number of threads: the same number gives the same bytes.
        threads = {"env_vars": {"OMP_NUM_THREADS": str(get_num_threads())}}
        actor = library.remote(
            num_cpus=_cpus_per_worker([node["Resources"] for node in library.nodes() if node["Alive"]], ray),
            num_gpus=ray.gpus_per_worker,
            max_restarts=_MAX_RESTARTS,
            max_task_retries=_MAX_RESTARTS,
            runtime_env=threads,
        )(_Actor)
        # Inside a list, the reference itself is sent, so an actor that has its worker need not fetch the object again.
        self._make = [library.put(make)]
        self._actors = [actor.remote(str(Path.cwd())) for _ in range(ray.workers)]

    def plan(self) -> Any:
        return self._get(self._actors[0].plan.remote(self._make))

    def each(self, pieces: Sequence[int]) -> Iterator[Any]:
        # `ray.util.ActorPool.map` is not used, because it gives an actor its next piece only when the result of its
        # last piece is returned.  As results are returned in order, all actors would wait for the slowest piece.
        waiting, idle = deque(pieces), list(self._actors)
        running: dict[Any, tuple[Any, int]] = {}
        results: dict[int, Any] = {}
        for piece in pieces:
            while piece not in results:
                while idle and waiting:
                    actor, number = idle.pop(), waiting.popleft()
                    running[actor.piece.remote(self._make, number)] = (actor, number)
                (finished,), _ = self._ray.wait(list(running), num_returns=1)
                actor, number = running.pop(finished)
                results[number] = self._get(finished)
                idle.append(actor)
            yield results.pop(piece)

    def shutdown(self) -> None:
        for actor in self._actors:
            self._ray.kill(actor)

    def _get(self, reference: Any) -> Any:
        """Return the object behind a Ray reference.  A ProbemapError from the worker is raised unchanged."""
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, ProbemapError):
                raise error.cause from None
            if isinstance(error.cause, OSError):
                raise RunError(
                    f"a worker failed: {error.cause}", "fix the cause, then repeat the command to resume"
                ) from None
            raise
        except self._ray.exceptions.RayError as error:
            reason = str(error).strip().split("\n")[0][:200]
            raise RunError(
                f"a worker died more than {_MAX_RESTARTS} times, or could not start: {reason}",
                "the memory may be exhausted: use fewer --workers or smaller batches, then repeat the command to "
                "resume",
            ) from None


class _Actor:
    """Ray actor that runs one worker in its own process."""

    def __init__(self, directory: str) -> None:
        with suppress(OSError):  # the directory may not exist on another machine
            os.chdir(directory)
        self._worker: Worker[Any, Any] | None = None

    def _get_worker(self, make: list[Any]) -> Worker[Any, Any]:
        # The worker is not made in __init__, because an error there is reported as the death of the actor, without its
        # message.
        if self._worker is None:
            self._worker = _import_ray().get(make[0])()
        return self._worker

    def plan(self, make: list[Any]) -> Any:
        return self._get_worker(make).plan()

    def piece(self, make: list[Any], number: int) -> Any:
        return next(iter(self._get_worker(make).each([number])))


def _import_ray() -> Any:
    try:
        import ray
    except ImportError:
        raise RunError("--engine ray requires Ray, which is not installed", "pip install 'probemap[ray]'") from None
    return ray


def _cpus_per_worker(nodes: Sequence[Mapping[str, float]], ray: RayPool) -> int:
    """Return the number of CPUs per worker.

    A worker with GPUs gets one CPU.  Otherwise, each worker gets the largest number of CPUs that still allows all
    workers to be placed.

    Parameters
    ----------
    nodes : sequence of mappings
        The ``CPU`` and ``GPU`` resources of each machine.  Each worker is placed on a single machine.

    Raises
    ------
    RunError
        If the number of GPUs per worker is invalid, or if Ray does not have enough resources for all workers.
    """
    gpus = ray.gpus_per_worker
    if gpus > 1 and gpus != int(gpus):
        raise RunError(f"a worker cannot have {gpus:g} GPUs", "use a whole number, or a fraction of one GPU")

    def capacity(cpus: int) -> int:
        """Return how many workers with `cpus` CPUs each can be placed."""
        return sum(
            int(min(node.get("CPU", 0) // cpus, node.get("GPU", 0) // gpus if gpus else node.get("CPU", 0)))
            for node in nodes
        )

    if capacity(1) < ray.workers:
        each = f"{gpus:g} GPUs" if gpus else "one CPU"
        raise RunError(
            f"{ray.workers} workers with {each} each were requested, but Ray has resources for {capacity(1)}",
            "use fewer --workers or a smaller --gpus-per-worker, or add machines",
        )
    largest = 1 if gpus else int(max(node.get("CPU", 0) for node in nodes))
    return next(cpus for cpus in range(largest, 0, -1) if capacity(cpus) >= ray.workers)


@dataclass(frozen=True)
class Shard:
    """Shard `number` of `count`.  Numbers start at 1."""

    number: int
    count: int

    def of(self, pieces: Sequence[int]) -> list[int]:
        """Return the pieces in this shard.  Consecutive pieces are assigned to the shards in turn, so all shards have
        similar sizes."""
        return [piece for piece in pieces if piece % self.count == self.number - 1]


def parse_shard(text: str, environment: Mapping[str, str] = os.environ) -> Shard:
    """Parse the text that specifies a shard.

    Parameters
    ----------
    text : str
        ``2/8`` for shard 2 of 8, or ``auto`` to read the environment variables of a SLURM array or of torchrun.
    environment : mapping of str to str
        Environment variables.

    Returns
    -------
    Shard

    Raises
    ------
    RunError
        If the text cannot be parsed, if the environment variables do not specify a shard, or if the shard number is out
        of range.
    """
    if text == "auto":
        return _shard_of_launcher(environment)
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text.strip())
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise RunError(f"cannot parse the shard {text!r}", "write i/n with i from 1 to n, such as 2/8, or auto")
    return Shard(int(match[1]), int(match[2]))


def _shard_of_launcher(environment: Mapping[str, str]) -> Shard:
    is_array = "SLURM_ARRAY_TASK_ID" in environment
    is_ranked = "RANK" in environment and "WORLD_SIZE" in environment
    if not (is_array or is_ranked):
        raise RunError(
            "the environment variables that specify the shard are not set",
            "start the command from a SLURM array or with torchrun, or write i/n",
        )
    shard = _shard_of_array(environment) if is_array else Shard(1, 1)
    if is_ranked:  # each task of an array can start several processes with torchrun
        rank, n_processes = _integer(environment, "RANK"), _integer(environment, "WORLD_SIZE")
        _check_range(rank + 1, n_processes)
        shard = Shard((shard.number - 1) * n_processes + rank + 1, shard.count * n_processes)
    return shard


def _shard_of_array(environment: Mapping[str, str]) -> Shard:
    """Return the shard of a task of a SLURM array, which must have no gaps.

    SLURM reports the number of tasks of an array, but not their list.
    """
    task = _integer(environment, "SLURM_ARRAY_TASK_ID")
    first, step = _integer(environment, "SLURM_ARRAY_TASK_MIN", 0), _integer(environment, "SLURM_ARRAY_TASK_STEP", 1)
    step = max(step, 1)
    count = _integer(environment, "SLURM_ARRAY_TASK_COUNT", 1)
    last = _integer(environment, "SLURM_ARRAY_TASK_MAX", first + step * (count - 1))
    if last - first != step * (count - 1) or (task - first) % step:
        raise RunError(
            f"the SLURM array has gaps: {count} tasks from {first} to {last} with step {step}, of which this is {task}",
            "submit the tasks as one range, such as --array=1-8, or write the shard as i/n; finished work is skipped",
        )
    shard = Shard((task - first) // step + 1, count)
    _check_range(shard.number, shard.count)
    return shard


def _check_range(number: int, count: int) -> None:
    if not 1 <= number <= count:
        raise RunError(
            f"the environment variables specify shard {number} of {count}, which does not exist",
            "check SLURM_ARRAY_TASK_* or RANK and WORLD_SIZE, or write i/n",
        )


def _integer(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    value = environment.get(name, default)
    try:
        return int(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise RunError(
            f"the environment variable {name} is {value!r:.60}, expected an integer",
            "correct it, or write i/n for the shard",
        ) from None
