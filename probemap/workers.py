"""Work in numbered pieces, done here or by a crew: Ray's workers, on this machine or on a cluster.

What a piece is and what is made of it is the worker's affair.  Nothing is kept here: what was made lies in a run folder
or a store, so whoever starts again asks for the missing pieces alone, with as many workers as there are then.
"""

import logging
import os
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from probemap.logger import SILENT, Logger
from probemap.records import ProbemapError, RunError

_Plan = TypeVar("_Plan", covariant=True)
_Made = TypeVar("_Made", covariant=True)

_LIVES = 3
"""How often a worker, and a piece, is started anew after a worker died: what kills it every time must end."""


@dataclass(frozen=True)
class RayPool:
    """Workers that share the work, on this machine or on the cluster that RAY_ADDRESS names."""

    workers: int = 1
    gpus_per_worker: float = 0.0


class Worker(Protocol[_Plan, _Made]):
    """Does pieces of one work; made once by each process, with whatever it has to load."""

    def plan(self) -> _Plan:
        """What it knows before the first piece, e.g. which model it has loaded."""

    def each(self, pieces: Sequence[int]) -> Iterator[_Made]:
        """What comes of the pieces, in their order."""


def at_work(ray: RayPool | None, models: dict[Any, Any] | None, logger: Logger) -> tuple[dict[Any, Any], Logger]:
    """The models and the talk that a worker is made with: elsewhere it loads its own, and has nobody to talk to."""
    return ({}, SILENT) if ray else ({} if models is None else models, logger)


@contextmanager
def worker_pool(make: Callable[[], Worker[_Plan, _Made]], ray: RayPool | None) -> Iterator[Worker[_Plan, _Made]]:
    """One worker here, or with `ray` many that look like one.

    Parameters
    ----------
    make: makes a worker; under Ray it is sent to other processes, with all that it holds.

    Raises
    ------
    RunError: Ray is not installed, or has no room for so many workers; a worker dies again and again.
    """
    if ray is None:
        yield make()
        return
    library = _ray()
    started = not library.is_initialized()
    if started:
        # Who reaches the dashboard can run code; and nothing is reported to anyone.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        address = os.environ.get("RAY_ADDRESS") or "local"
        local = {"include_dashboard": False} if address == "local" else {}
        try:
            library.init(address, log_to_driver=False, logging_level=logging.ERROR, **local)
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = str(error).strip().split("\n")[0][:200]
            raise RunError(f"Ray at {address} cannot be reached: {reason}", "is RAY_ADDRESS right?") from None
    hired = None
    try:
        hired = _Crew(library, make, ray)
        yield hired
    finally:
        if hired:
            hired.dismiss()
        if started:
            library.shutdown()


class _Crew:
    """Workers in Ray's actors."""

    def __init__(self, library: Any, make: Callable[[], Worker[Any, Any]], ray: RayPool) -> None:
        from torch import get_num_threads

        self._ray = library
        # How many threads add up a sum decides its last bits: so many here and there make the same bytes.
        threads = {"env_vars": {"OMP_NUM_THREADS": str(get_num_threads())}}
        actor = library.remote(
            num_cpus=_cpus_each([node["Resources"] for node in library.nodes() if node["Alive"]], ray),
            num_gpus=ray.gpus_per_worker,
            max_restarts=_LIVES,
            max_task_retries=_LIVES,
            runtime_env=threads,
        )(_Member)
        # In a list it is sent as a reference: who has made a worker already need not read it again.
        self._make = [library.put(make)]
        self._members = [actor.remote(str(Path.cwd())) for _ in range(ray.workers)]

    def plan(self) -> Any:
        return self._got(self._members[0].plan.remote(self._make))

    def each(self, pieces: Sequence[int]) -> Iterator[Any]:
        waiting, free = deque(pieces), list(self._members)
        running: dict[Any, tuple[Any, int]] = {}
        made: dict[int, Any] = {}
        for piece in pieces:
            while piece not in made:
                while free and waiting:
                    member, number = free.pop(), waiting.popleft()
                    running[member.piece.remote(self._make, number)] = (member, number)
                (ended,), _ = self._ray.wait(list(running), num_returns=1)
                member, number = running.pop(ended)
                made[number] = self._got(ended)
                free.append(member)
            yield made.pop(piece)

    def dismiss(self) -> None:
        for member in self._members:
            self._ray.kill(member)

    def _got(self, promised: Any) -> Any:
        try:
            return self._ray.get(promised)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, ProbemapError):
                raise error.cause from None
            if isinstance(error.cause, OSError):
                raise RunError(
                    f"a worker could not go on: {error.cause}", "mend that; the same command goes on"
                ) from None
            raise
        except self._ray.exceptions.RayError as error:
            reason = str(error).strip().split("\n")[0][:200]
            raise RunError(
                f"a worker died more than {_LIVES} times, or could not start: {reason}",
                "it may be out of memory: take fewer --workers or smaller batches; the same command goes on",
            ) from None


class _Member:
    """What runs in an actor."""

    def __init__(self, folder: str) -> None:
        with suppress(OSError):  # another machine need not have it
            os.chdir(folder)
        self._worker: Worker[Any, Any] | None = None

    def _made(self, make: list[Any]) -> Worker[Any, Any]:
        # Not when the actor starts: what goes wrong then is told as an actor's death.
        if self._worker is None:
            self._worker = _ray().get(make[0])()
        return self._worker

    def plan(self, make: list[Any]) -> Any:
        return self._made(make).plan()

    def piece(self, make: list[Any], number: int) -> Any:
        return next(iter(self._made(make).each([number])))


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise RunError("--engine ray needs Ray, which is not installed", "pip install 'probemap[ray]'") from None
    return ray


def _cpus_each(machines: Sequence[dict[str, float]], ray: RayPool) -> int:
    """CPUs for each worker: as many as let all be placed, each on one machine; one beside a GPU.

    Raises
    ------
    RunError: so many workers will never be placed; Ray would wait for ever.
    """
    gpus = ray.gpus_per_worker
    if gpus > 1 and gpus != int(gpus):
        raise RunError(f"a worker cannot have {gpus:g} GPUs", "give a whole number, or a share of one")

    def places(cpus: int) -> int:
        """Workers with so many CPUs that find room."""
        return sum(
            int(min(there.get("CPU", 0) // cpus, there.get("GPU", 0) // gpus if gpus else there.get("CPU", 0)))
            for there in machines
        )

    if places(1) < ray.workers:
        each = f"{gpus:g} GPUs" if gpus else "a CPU"
        raise RunError(
            f"{ray.workers} workers with {each} each, and Ray has room for {places(1)}",
            "take fewer --workers or another --gpus-per-worker, or add machines first",
        )
    most = 1 if gpus else int(max(there.get("CPU", 0) for there in machines))
    return next(cpus for cpus in range(most, 0, -1) if places(cpus) >= ray.workers)


@dataclass(frozen=True)
class Shard:
    """Share `number` of `count`, counted from 1."""

    number: int
    count: int

    def of(self, shards: list[int]) -> list[int]:
        """This share's shards: every `count`-th, so that shares differ by one shard at most."""
        return [k for k in shards if k % self.count == self.number - 1]


def parse_shard(text: str, environment: Mapping[str, str] = os.environ) -> Shard:
    """Read ``2/8``; ``auto`` asks the launcher: a SLURM array's or torchrun's variables.

    Raises
    ------
    RunError: neither, or a number that is out of range.
    """
    if text == "auto":
        return _launched(environment)
    match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise RunError(f"the shard {text!r} is none", "write i/n with i from 1 to n, as 2/8, or auto")
    return Shard(int(match[1]), int(match[2]))


def _launched(environment: Mapping[str, str]) -> Shard:
    def number(name: str, default: int = 0) -> int:
        return int(environment.get(name, default))

    if "SLURM_ARRAY_TASK_ID" in environment:
        step = number("SLURM_ARRAY_TASK_STEP", 1)
        first = number("SLURM_ARRAY_TASK_MIN")
        return Shard((number("SLURM_ARRAY_TASK_ID") - first) // step + 1, number("SLURM_ARRAY_TASK_COUNT", 1))
    if "RANK" in environment and "WORLD_SIZE" in environment:
        return Shard(number("RANK") + 1, number("WORLD_SIZE"))
    raise RunError("no launcher says which shard this is", "start it from a SLURM array or torchrun, or write i/n")
