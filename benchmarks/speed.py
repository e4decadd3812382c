"""How long do probes take, ours and scikit-learn's?  ``python benchmarks/speed.py [--repeats 5] [--widths 576,2048]``.

Same states (float32, memory-mapped), folds, penalty and cores; what is timed alternates in one process, and a ratio is
taken within a repetition.  scikit-learn runs as a careful user would run it: StandardScaler once per fold, cells spread
over warm joblib workers with one BLAS thread each.  Beside it the floor: the arithmetic and the memory traffic of our
solver's steps at the machine's measured rates.  Last, the peak memory of `fit_map`.
"""

import argparse
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from exactness import reference, standardised
from report import head, machine, row, spread, write
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from states import synthetic
from threadpoolctl import threadpool_limits
from torch.utils.flop_counter import FlopCounterMode

from probemap.maps.fit import _Cores, _shuffles, _together, fit_map
from probemap.probing.cell_scores import AUTO_STRENGTHS, _Designs
from probemap.probing.folds import assign_folds
from probemap.probing.logistic.space import Space

N, LAYERS, POSITIONS, FOLDS, SHUFFLES, TIMED = 1000, 1, 12, 5, 100, 20
DEFAULT = {"tol": 1e-4, "max_iter": 100}
TOLERANCES, SAME = (1e-5, 1e-6, 1e-7, 1e-8), 0.9999
"""scikit-learn is at the same optimum with the first tolerance whose scores correlate so well with the converged."""


@dataclass
class Problem:
    """One map's states, and what is asked of every cell."""

    states: np.ndarray
    correct: np.ndarray
    fold: np.ndarray
    labels: np.ndarray
    """(label sets, n)."""
    strengths: tuple[float, ...]

    @property
    def cells(self) -> list[tuple[int, int]]:
        return list(np.ndindex(*self.states.shape[1:3]))


def made_up(path: Path, d: int, decay: float, layers: int, positions: int) -> tuple[np.ndarray, np.ndarray]:
    """States as a memory-mapped file; every cell has its own, all share the verdicts of the first."""
    shape = (N, layers, positions, d)
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    for number, (layer, column) in enumerate(np.ndindex(layers, positions)):
        array[:, layer, column], labels = synthetic(N, d, number, decay, mean=0, loud=0)
        if not number:
            correct = labels
    array.flush()
    return np.load(path, mmap_mode="r"), correct


# Ours.


def ours_map(problem: Problem, permutations: int) -> None:
    fit_map(problem.states, problem.correct, nested=False, c=problem.strengths[0], permutations=permutations)


def ours_cells(problem: Problem, cells: list[tuple[int, int]], labels: np.ndarray) -> np.ndarray:
    """(cells, label sets, strengths, n): out-of-fold scores, as `score_cells` makes them."""
    training = np.stack([problem.fold != k for k in range(FOLDS)])
    states = np.stack([problem.states[:, layer, column] for layer, column in cells])
    design = _Designs(states, training, "cpu")
    label, k, strength = (i.ravel() for i in np.indices((len(labels), FOLDS, len(problem.strengths))))
    fits = design.fit(labels, label, k, np.tile(np.array(problem.strengths)[strength], (len(cells), 1)))
    scores = fits.scores.numpy().reshape(len(cells), len(labels), FOLDS, len(problem.strengths), N)
    return scores[:, :, problem.fold, :, np.arange(N)].transpose(1, 2, 3, 0)


def ours_grid(problem: Problem) -> None:
    """The plain grid, without choosing: all strengths of a cell at once, cells in company as in `fit_map`."""
    with _Cores("cpu") as cores:
        together = _together(np.ones((1, len(problem.cells)), bool), cores.workers)
        list(cores.map(lambda some: ours_cells(problem, [problem.cells[i] for i in some], problem.labels), together))


# Theirs.


def their_cell(problem: Problem, layer: int, column: int, labels: np.ndarray, options: dict[str, Any]) -> np.ndarray:
    """(label sets, strengths, n): out-of-fold scores of one cell."""
    states = problem.states[:, layer, column]
    scores = np.empty((len(labels), len(problem.strengths), N))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for k in range(FOLDS):
            training = problem.fold != k
            scaler = StandardScaler().fit(states[training])
            train, test = scaler.transform(states[training]), scaler.transform(states[~training])
            for i, y in enumerate(labels):
                for j, c in enumerate(problem.strengths):
                    model = LogisticRegression(C=c, **options).fit(train, y[training])
                    scores[i, j, ~training] = model.decision_function(test)
    return scores


def theirs(parallel: joblib.Parallel, problem: Problem, options: dict[str, Any]) -> None:
    labels = problem.labels[:TIMED]
    parallel(joblib.delayed(their_cell)(problem, *cell, labels, options) for cell in problem.cells)


# How near to the optimum, and what the machine could do at best.


def correlations(problem: Problem) -> tuple[list[float], dict[str, Any]]:
    """The lowest correlation with the optimum within a fold, of ours, of scikit-learn's default, and of scikit-learn
    with the options that are returned; on the first cell, at most three label sets."""
    labels = problem.labels[:3]
    best = np.empty((len(labels), len(problem.strengths), N))
    rows = [problem.fold == k for k in range(FOLDS)]

    def lowest(scores: np.ndarray) -> float:
        pairs = ((scores[i][r], best[i][r]) for i in np.ndindex(*best.shape[:2]) for r in rows)
        return min(float(np.corrcoef(*pair)[0, 1]) for pair in pairs)

    with threadpool_limits(1):
        for out in rows:
            train, test = standardised(problem.states[:, 0, 0], ~out)
            for i, y in enumerate(labels):
                for j, (f, _) in enumerate(reference(train, y[~out], test, problem.strengths)):
                    best[i, j, out] = f
        # Ours in the company that it is timed in: all label sets share a factor.
        ours = lowest(ours_cells(problem, [(0, 0)], problem.labels)[0, : len(labels)])
        default = lowest(their_cell(problem, 0, 0, labels, DEFAULT))
        for tol in TOLERANCES:
            options = {"tol": tol, "max_iter": 10_000}
            if (near := lowest(their_cell(problem, 0, 0, labels, options))) > SAME:
                break
    return [ours, default, near], options


def on_all_cores(work: Callable[[], object]) -> float:
    """Seconds that one round takes with one round per core at once, the best of three."""
    with _Cores("cpu") as cores:
        taken = []
        for _ in range(3):
            begun = time.perf_counter()
            list(cores.map(lambda _: work(), range(cores.workers)))
            taken.append(time.perf_counter() - begun)
    return min(taken) / cores.workers


def rates() -> tuple[float, float]:
    """FLOP/s of float32 products, and bytes/s of copies (read and written), of all cores together."""
    a = torch.randn(2048, 2048)
    source = torch.empty(2**26).fill_(1.0)
    flops = on_all_cores(lambda: a @ a)
    copied = on_all_cores(lambda: source.clone())
    return 2 * 2048**3 / flops, 2 * 4 * 2**26 / copied


def _cholesky_flop(a: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    return a[-1] ** 3 // 3


def _solve_flop(lower: Any, b: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    return lower[-1] ** 2 * b[-1]


@dataclass
class Floor:
    """What the solver asks of the machine in one cell."""

    flop: float
    bytes: float
    steps: int


def floor(problem: Problem) -> Floor:
    """Counted on the first cell: all products, factors and solves; and bytes as if every step read X twice (or the
    kernel once), its factors once, and read or wrote each of its tensors once (eight with a row per problem and a
    column per unknown, six with one per row)."""
    steps, moved = 0, 0.0
    plain = Space.precondition

    def counted(space: Any, factors: Any, here: Any) -> Any:
        nonlocal steps, moved
        (n, d), m = space.x[0].shape, len(here.g)
        k = min(n, d)
        # Unknowns are features, with two products with X, or rows, with one product with the kernel.
        read = 2 * n * d if n > d else n * n
        steps, moved = steps + 1, moved + 4 * (read + len(here.groups) * k**2 + 8 * m * k + 6 * m * n)
        return plain(space, factors, here)

    aten = torch.ops.aten
    custom = {aten.linalg_cholesky_ex.default: _cholesky_flop, aten.linalg_solve_triangular.default: _solve_flop}
    Space.precondition = counted
    try:
        # The counter knows packets of operators, not their overloads.
        with FlopCounterMode(display=False, custom_mapping={k.overloadpacket: f for k, f in custom.items()}) as counter:
            ours_cells(problem, [(0, 0)], problem.labels)
    finally:
        Space.precondition = plain
    return Floor(counter.get_total_flops(), moved, steps)


# The tables.


def settings(states: np.ndarray, correct: np.ndarray) -> list[tuple[str, Problem, Callable[[Problem], None], float]]:
    """(name, problem, ours, by how much scikit-learn's time is scaled up)."""
    fold = assign_folds(correct, np.arange(N), FOLDS, 0)
    shuffled = _shuffles(correct, np.arange(N), SHUFFLES, 0)
    one, grid = (Problem(states, correct, fold, correct[None], c) for c in ((1.0,), AUTO_STRENGTHS))
    # Two cells, so that both cores have one.
    floor_ = Problem(states[:, :1, :2], correct, fold, shuffled, (1.0,))
    return [
        (f"{len(one.cells)} cells × {FOLDS} folds", one, lambda p: ours_map(p, 0), 1.0),
        (f"{len(grid.cells)} cells × {FOLDS} folds × {len(AUTO_STRENGTHS)} strengths", grid, ours_grid, 1.0),
        (
            f"{len(floor_.cells)} cells × {FOLDS} folds × {SHUFFLES} label sets",
            floor_,
            lambda p: ours_map(p, SHUFFLES),
            SHUFFLES / TIMED,
        ),
    ]


def timed(work: Callable[[], None]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def table(folder: Path, d: int, decay: float, repeats: int, rate: tuple[float, float]) -> list[str]:
    states, correct = made_up(folder / f"{d}-{decay}.npy", d, decay, LAYERS, POSITIONS)
    lines = []
    for name, problem, ours, scale in settings(states, correct):
        near, optimum = correlations(problem)
        cores = joblib.effective_n_jobs(-1)
        with (
            joblib.parallel_config(backend="loky", inner_max_num_threads=1),
            joblib.Parallel(n_jobs=cores) as parallel,
        ):
            # Warm: workers started, modules imported, states in the page cache.
            parallel(joblib.delayed(their_cell)(problem, 0, 0, problem.labels[:1], DEFAULT) for _ in range(cores))
            ours_cells(problem, [(0, 0)], problem.labels[:1])
            times = np.array(
                [
                    [
                        timed(lambda: ours(problem)),  # noqa: B023
                        scale * timed(lambda: theirs(parallel, problem, DEFAULT)),  # noqa: B023
                        scale * timed(lambda: theirs(parallel, problem, optimum)),  # noqa: B023
                    ]
                    for _ in range(repeats)
                ]
            )
        least = floor(problem)
        cells = len(problem.cells)
        lines.append(
            row(
                *(d, decay, name, spread(times[:, 0]), spread(times[:, 1]), spread(times[:, 2])),
                *(spread(times[:, 1] / times[:, 0], ".1f"), spread(times[:, 2] / times[:, 0], ".1f")),
                *(f"1 - {1 - r:.0e}" for r in near[:2]),
                f"1 - {1 - near[2]:.0e} (tol {optimum['tol']:.0e})",
                *(f"{cells * least.flop / rate[0]:.2f}", f"{cells * least.bytes / rate[1]:.2f}", least.steps),
            )
        )
        print(lines[-1], flush=True)
    return lines


MEMORY = """
import sys, threading
import numpy as np
import probemap, probemap.maps.fit, sklearn.linear_model, xarray
peak = 0
def own(name="RssAnon"):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name))
def watch():
    global peak
    while not stop.wait(0.01):
        peak = max(peak, own())
stop = threading.Event()
thread = threading.Thread(target=watch)
thread.start()
if sys.argv[2] != "0":
    states = np.load(sys.argv[1], mmap_mode="r")[:, : int(sys.argv[2])]
    probemap.fit_map(states, np.load(sys.argv[3]))
stop.set()
thread.join()
# Not ru_maxrss: a child inherits its parent's.
print(max(peak, own()) / 1024, own("VmHWM") / 1024)
"""


def memory(folder: Path) -> list[str]:
    """Peak memory over that of a process that only imports, by the number of layers."""
    states, correct = made_up(folder / "memory.npy", 576, 1.0, 30, 15)
    np.save(folder / "correct.npy", correct)

    def peak(layers: int) -> np.ndarray:
        command = [sys.executable, "-c", MEMORY, str(folder / "memory.npy"), str(layers), str(folder / "correct.npy")]
        made = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
        return np.array([float(value) for value in made.stdout.split()])

    bare = np.median([peak(0) for _ in range(3)], axis=0)
    lines = []
    for layers in (2, 8, 30):
        runs = np.array([peak(layers) - bare for _ in range(3)])
        size = states.nbytes / states.shape[1] / 2**20
        lines.append(row(layers, f"{size:.0f}", spread(runs[:, 0], ".0f"), spread(runs[:, 1], ".0f")))
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--widths", default="576,2048")
    parser.add_argument("--decays", default="1,2")
    given = parser.parse_args()
    rate = rates()
    lines = [
        f"Seconds for n = {N} answers, C = 1 unless strengths are named.  Median (lowest to highest) of "
        f"{given.repeats} alternating repetitions; ratios are taken within a repetition.  States with a spectrum of "
        "(i + 1)^-decay, float32, memory-mapped.  Ours: `fit_map(nested=False)` with all that it returns (intervals, "
        "bands); the grid of strengths: the probes alone, without choosing one.  scikit-learn: StandardScaler once "
        "per fold, LogisticRegression (lbfgs) on float32, one task per cell, warm joblib workers, one BLAS thread "
        f'each; of the label sets {TIMED} are timed and scaled up to {SHUFFLES}.  "Default" is tol 1e-4 and at most '
        'max_iter 100; "optimum" at most 10000 steps and the tol that is named in brackets, the first of '
        f"{', '.join(f'{t:.0e}' for t in TOLERANCES)} with a correlation above {SAME}.  "
        "Correlation: the lowest within a fold with the "
        "decision values of a fit in float64 run to convergence, first cell, at most three label sets.  Floor: the "
        "arithmetic of our solver's steps, or the memory that they touch, at the measured rates.",
        "",
        machine() + f"  Float32 products: {rate[0] / 1e9:.0f} GFLOP/s; copies: {rate[1] / 1e9:.1f} GB/s read and "
        "written, all cores.",
        "",
        *head(
            *("d", "decay", "work", "ours", "default", "optimum", "default / ours", "optimum / ours"),
            *("correlation: ours", "default", "optimum", "floor: arithmetic", "floor: memory", "steps per cell"),
        ),
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for d in (int(d) for d in given.widths.split(",")):
            for decay in (float(decay) for decay in given.decays.split(",")):
                lines += table(folder, d, decay, given.repeats, rate)
        lines += [
            "",
            f"Peak memory of `fit_map` (all its defaults) in MB over that of a process that only imports; {N} answers, "
            "15 positions, d = 576, from a memory-mapped file; median (lowest to highest) of 3.  The resident set also "
            "counts pages of the mapped file, which the system takes back when it wants them.",
            "",
            *head("layers", "one layer's states", "own memory", "resident set"),
            *memory(folder),
        ]
    write("speed", lines)


if __name__ == "__main__":
    main()
