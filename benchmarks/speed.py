"""Compare the time to fit probes with scikit-learn: ``python benchmarks/speed.py [--repeats 5] [--widths 576,2048]``.

Writes ``benchmarks/results/speed.md``.

Both use the same states (float32, memory-mapped), folds, penalty and cores.  They are timed in alternation in one
process, and a ratio is taken within a repetition.  scikit-learn runs as a careful user would run it: StandardScaler
once per fold, cells spread over warm joblib workers with one BLAS thread each.  For comparison, the table contains a
lower bound: the arithmetic and the memory traffic of the solver's steps at the measured rates of the machine.  A second
table contains the peak memory of `fit_map`.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import numpy.typing as npt
from exactness import reference_scores, standardised
from report import machine, row, spread, table_head, write
from speed_bound import Rates, measure_cost, measure_rates, timed
from speed_problem import (
    FOLDS,
    Bools,
    Floats,
    Options,
    Problem,
    fit_grid_with_probemap,
    fit_with_probemap,
    fit_with_sklearn,
    probemap_scores,
    sklearn_scores,
    synthetic_states,
)
from threadpoolctl import threadpool_limits

from probemap.probing.c_values import AUTO_C_VALUES
from probemap.probing.folds import assign_folds
from probemap.probing.random_labels import permuted_labels

N, LAYERS, POSITIONS = 1000, 1, 12
PERMUTATIONS, TIMED_PERMUTATIONS = 100, 20
"""Label sets, and how many of them scikit-learn is timed on."""
DEFAULT = {"tol": 1e-4, "max_iter": 100}
TOLERANCES, MIN_CORRELATION = (1e-5, 1e-6, 1e-7, 1e-8), 0.9999
"""scikit-learn counts as converged with the first tolerance whose scores have this correlation with the optimum."""


# Convergence


@dataclass(frozen=True, kw_only=True)
class Convergence:
    """The lowest correlation with the optimum within a fold; on the first cell, with at most three label sets."""

    probemap: float
    default: float
    """scikit-learn with its default options."""
    converged: float
    """scikit-learn with `options`."""
    options: Options


def measure_convergence(problem: Problem) -> Convergence:
    label_sets, cell = problem.label_sets[:3], (0, 0)
    optimum = np.empty((len(label_sets), len(problem.c_values), len(problem.correct)))
    test_rows = [problem.fold == k for k in range(FOLDS)]

    def lowest_correlation(scores: Floats) -> float:
        pairs = ((scores[i][rows], optimum[i][rows]) for i in np.ndindex(*optimum.shape[:2]) for rows in test_rows)
        return min(float(np.corrcoef(*pair)[0, 1]) for pair in pairs)

    with threadpool_limits(1):
        for rows in test_rows:
            train, test = standardised(problem.states[:, 0, 0], ~rows)
            for i, y in enumerate(label_sets):
                for j, (scores, _) in enumerate(reference_scores(train, y[~rows], test, problem.c_values)):
                    optimum[i, j, rows] = scores
        # All label sets are fitted together, as in the measurement of time, because they share a factorisation.
        scores = probemap_scores(problem, [cell], problem.label_sets)[0, : len(label_sets)]
        default = lowest_correlation(sklearn_scores(problem, cell, label_sets, DEFAULT))
        for tol in TOLERANCES:
            options = {"tol": tol, "max_iter": 10_000}
            converged = lowest_correlation(sklearn_scores(problem, cell, label_sets, options))
            if converged > MIN_CORRELATION:
                break
    return Convergence(probemap=lowest_correlation(scores), default=default, converged=converged, options=options)


# Tables


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One row of the table."""

    name: str
    problem: Problem
    fit: Callable[[Problem], None]
    """Fits the problem with probemap."""
    sklearn_factor: float = 1.0
    """Factor for the time of scikit-learn, if it is timed on a part of the label sets."""


def settings(states: npt.NDArray[np.float32], correct: Bools) -> Iterable[Setting]:
    groups = np.arange(len(correct))
    fold = assign_folds(correct, groups, FOLDS, 0)
    one_c, grid = (
        Problem(states=states, correct=correct, fold=fold, label_sets=correct[None], c_values=c_values)
        for c_values in ((1.0,), AUTO_C_VALUES)
    )
    permuted = Problem(
        states=states[:, :1, :2],  # two cells, so that two cores have one each
        correct=correct,
        fold=fold,
        label_sets=permuted_labels(correct, groups, PERMUTATIONS, 0),
        c_values=(1.0,),
    )
    yield Setting(
        name=f"{len(one_c.cells)} cells × {FOLDS} folds", problem=one_c, fit=lambda p: fit_with_probemap(p, 0)
    )
    yield Setting(
        name=f"{len(grid.cells)} cells × {FOLDS} folds × {len(grid.c_values)} C values",
        problem=grid,
        fit=fit_grid_with_probemap,
    )
    yield Setting(
        name=f"{len(permuted.cells)} cells × {FOLDS} folds × {PERMUTATIONS} label sets",
        problem=permuted,
        fit=lambda p: fit_with_probemap(p, PERMUTATIONS),
        sklearn_factor=PERMUTATIONS / TIMED_PERMUTATIONS,
    )


def measure_times(setting: Setting, sklearn_options: Sequence[Options], n_repeats: int) -> Floats:
    """Return the seconds of probemap and of scikit-learn with each of the options, one row per repetition."""
    problem, factor = setting.problem, setting.sklearn_factor
    timed_labels = problem.label_sets[:TIMED_PERMUTATIONS]
    n_jobs = joblib.effective_n_jobs(-1)
    with joblib.parallel_config(backend="loky", inner_max_num_threads=1), joblib.Parallel(n_jobs=n_jobs) as parallel:
        # Warm-up: workers are started, modules imported, and the states are in the page cache.
        labels = problem.label_sets[:1]
        parallel(joblib.delayed(sklearn_scores)(problem, (0, 0), labels, DEFAULT) for _ in range(n_jobs))
        probemap_scores(problem, [(0, 0)], labels)
        return np.array(
            [
                [
                    timed(lambda: setting.fit(problem)),
                    *(
                        factor * timed(partial(fit_with_sklearn, parallel, problem, timed_labels, options))
                        for options in sklearn_options
                    ),
                ]
                for _ in range(n_repeats)
            ]
        )


def time_rows(folder: Path, *, d: int, decay: float, n_repeats: int, rates: Rates) -> list[str]:
    """Return the rows of one width and one decay."""
    states, correct = synthetic_states(
        folder / f"{d}-{decay}.npy", n=N, d=d, decay=decay, n_layers=LAYERS, n_positions=POSITIONS
    )
    lines = []
    for setting in settings(states, correct):
        convergence = measure_convergence(setting.problem)
        times = measure_times(setting, [DEFAULT, convergence.options], n_repeats)
        cost, n_cells = measure_cost(setting.problem), len(setting.problem.cells)
        lines.append(
            row(
                *(d, decay, setting.name, *(spread(times[:, i]) for i in range(3))),
                *(spread(times[:, i] / times[:, 0], ".1f") for i in (1, 2)),
                *(f"1 - {1 - r:.0e}" for r in (convergence.probemap, convergence.default)),
                f"1 - {1 - convergence.converged:.0e} (tol {convergence.options['tol']:.0e})",
                f"{n_cells * cost.flop / rates.flops:.2f}",
                f"{n_cells * cost.n_bytes / rates.bandwidth:.2f}",
                cost.n_steps,
            )
        )
        print(lines[-1], flush=True)
    return lines


# ru_maxrss cannot be used: a process inherits the maximum of its parent.
MEASURE_MEMORY = """
import sys, threading
import numpy as np
import probemap, probemap.maps.fit, sklearn.linear_model, xarray
peak = 0
def kilobytes(name="RssAnon"):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name))
def watch():
    global peak
    while not stop.wait(0.01):
        peak = max(peak, kilobytes())
stop = threading.Event()
thread = threading.Thread(target=watch)
thread.start()
if sys.argv[2] != "0":
    states = np.load(sys.argv[1], mmap_mode="r")[:, : int(sys.argv[2])]
    probemap.fit_map(states, np.load(sys.argv[3]))
stop.set()
thread.join()
print(max(peak, kilobytes()) / 1024, kilobytes("VmHWM") / 1024)
"""


def memory_rows(folder: Path) -> list[str]:
    """Return the peak memory minus that of a process that only imports the packages, by the number of layers."""
    states, correct = synthetic_states(folder / "memory.npy", n=N, d=576, decay=1.0, n_layers=30, n_positions=15)
    np.save(folder / "correct.npy", correct)

    def peak(n_layers: int) -> Floats:
        files = str(folder / "memory.npy"), str(n_layers), str(folder / "correct.npy")
        command = [sys.executable, "-c", MEASURE_MEMORY, *files]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603
        return np.array([float(value) for value in output.split()])

    imports_only = np.median([peak(0) for _ in range(3)], axis=0)
    lines = []
    for n_layers in (2, 8, 30):
        peaks = np.array([peak(n_layers) - imports_only for _ in range(3)])
        layer_megabytes = states.nbytes / states.shape[1] / 2**20
        lines.append(row(n_layers, f"{layer_megabytes:.0f}", spread(peaks[:, 0], ".0f"), spread(peaks[:, 1], ".0f")))
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--widths", default="576,2048")
    parser.add_argument("--decays", default="1,2")
    options = parser.parse_args()
    rates = measure_rates()
    lines = [
        "# Speed",
        "",
        f"Seconds for n = {N} answers, C = 1 unless the row names C values.  Median (minimum to maximum) of "
        f"{options.repeats} alternating repetitions; ratios are taken within a repetition.  The states have a spectrum "
        "of (i + 1)^-decay, are float32 and memory-mapped.  probemap: `fit_map(nested=False)` with everything that it "
        "returns (intervals, bands); with several C values, the probes alone, without the selection of one.  "
        "scikit-learn: StandardScaler once per fold, LogisticRegression (lbfgs) on float32, one task per cell, warm "
        f"joblib workers, one BLAS thread each; {TIMED_PERMUTATIONS} of the {PERMUTATIONS} label sets are timed, and "
        'the time is scaled.  "Default": tol 1e-4 and at most 100 iterations.  "Converged": at most 10000 iterations '
        "and the tol in brackets, the first of "
        f"{', '.join(f'{t:.0e}' for t in TOLERANCES)} with a correlation above {MIN_CORRELATION}.  Correlation: the "
        "lowest within a fold with the scores of a fit in float64 run to convergence, on the first cell, with at most "
        "three label sets.  Lower bound: the arithmetic of the solver's steps, or the memory that they read and write, "
        "at the measured rates.",
        "",
        f"{machine()}  Float32 products: {rates.flops / 1e9:.0f} GFLOP/s; copies: {rates.bandwidth / 1e9:.1f} GB/s "
        "read and written, all cores.",
        "",
        *table_head(
            *("d", "decay", "work", "probemap", "default", "converged"),
            *("default / probemap", "converged / probemap", "correlation: probemap", "default", "converged"),
            *("lower bound: arithmetic", "lower bound: memory", "steps per cell"),
        ),
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for d in map(int, options.widths.split(",")):
            for decay in map(float, options.decays.split(",")):
                lines += time_rows(folder, d=d, decay=decay, n_repeats=options.repeats, rates=rates)
        lines += [
            "",
            f"Peak memory of `fit_map` with default options in MB, minus that of a process that only imports the "
            f"packages; {N} answers, 15 positions, d = 576, from a memory-mapped file; median (minimum to maximum) of "
            "3.  The resident set also counts pages of the mapped file, which the system can reclaim.",
            "",
            *table_head("layers", "states of one layer", "anonymous memory", "resident set"),
            *memory_rows(folder),
        ]
    write("speed", lines)


if __name__ == "__main__":
    main()
