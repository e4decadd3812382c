"""The lower bound of ``speed.py``: operations of the solver, and the rates of the machine."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from speed_problem import Problem, all_cores, probemap_scores
from torch.utils.flop_counter import FlopCounterMode

from probemap.probing.logistic.problems import Problems
from probemap.probing.logistic.space import Correction, Factor, Space


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Rates of the machine with all cores."""

    flops: float
    """Floating-point operations per second of float32 products."""
    bandwidth: float
    """Bytes per second of copies, read and written."""


def measure_rates() -> Rates:
    a = torch.randn(2048, 2048)
    source = torch.empty(2**26).fill_(1.0)
    return Rates(
        flops=2 * 2048**3 / seconds_on_all_cores(lambda: a @ a),
        bandwidth=2 * 4 * 2**26 / seconds_on_all_cores(lambda: source.clone()),
    )


def seconds_on_all_cores(work: Callable[[], object]) -> float:
    """Return the seconds per call when every core makes one call at a time: the best of three measurements."""
    n_cores = len(os.sched_getaffinity(0))
    with all_cores() as threads:
        return min(timed(lambda: list(threads.map(lambda _: work(), range(n_cores)))) for _ in range(3)) / n_cores


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Operations of the solver in one cell."""

    flop: int
    n_bytes: float
    n_steps: int


def measure_cost(problem: Problem) -> Cost:
    """Count the operations of the solver in the first cell.

    The floating-point operations are those of all products, factorisations and solves.  The bytes assume that every
    step reads X twice (or the kernel once) and its factors once, and reads or writes each of its tensors once: eight
    with a row per problem and a column per unknown, six with a column per answer.
    """
    n_steps, n_bytes = 0, 0.0
    precondition = Space.precondition

    def counting_precondition(
        space: Space, factors: list[Factor], corrections: dict[int, Correction], problems: Problems
    ) -> tuple[torch.Tensor, torch.Tensor]:
        nonlocal n_steps, n_bytes
        (n, d), m = space.x[0].shape, len(problems.g)
        n_unknowns = min(n, d)
        # The unknowns are weights of features, with two products with X, or of rows, with one product with the kernel.
        n_read = 2 * n * d if n > d else n * n
        n_steps += 1
        n_bytes += 4 * (n_read + len(problems.groups) * n_unknowns**2 + 8 * m * n_unknowns + 6 * m * n)
        return precondition(space, factors, corrections, problems)

    aten = torch.ops.aten
    # The counter takes operators without their overloads.
    formulas = {
        aten.linalg_cholesky_ex.default.overloadpacket: _cholesky_flop,
        aten.linalg_solve_triangular.default.overloadpacket: _solve_flop,
    }
    counter = FlopCounterMode(display=False, custom_mapping=formulas)
    with patch.object(Space, "precondition", counting_precondition), counter:
        probemap_scores(problem, [(0, 0)], problem.label_sets)
    return Cost(flop=counter.get_total_flops(), n_bytes=n_bytes, n_steps=n_steps)


def _cholesky_flop(shape: Sequence[int], *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    return int(shape[-1] ** 3 // 3)


def _solve_flop(lower: Sequence[int], b: Sequence[int], *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    return int(lower[-1] ** 2 * b[-1])
