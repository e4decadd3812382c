"""Time the fits of `fit_map` on a GPU: ``python benchmarks/gpu_fits.py FOLDER``.

They are compared with the fits on all cores of the CPU, and with those of scikit-learn on all cores.  The states are
written to FOLDER.  Writes ``benchmarks/results/gpu_fits.md``.
"""

import argparse
import time
from pathlib import Path

import joblib
import numpy as np
import torch
from report import machine, row, spread, table_head, write
from speed_problem import FOLDS, Problem, fit_with_sklearn, synthetic_states

from probemap.maps.fit import fit_map


def measure_fits(folder: Path, repeats: int) -> list[str]:
    n_layers, n_positions = 2, 12
    head = ("n", "d", "cells", "GPU", "CPU", "scikit-learn", "CPU / GPU", "scikit-learn / GPU")
    lines = table_head(*head)
    for n, d in ((100, 576), (1000, 576), (1000, 4096)):
        states, correct = synthetic_states(
            folder / f"{n}-{d}.npy", n=n, d=d, decay=1.0, n_layers=n_layers, n_positions=n_positions
        )
        problem = Problem(
            states=states, correct=correct, fold=np.arange(n) % FOLDS, label_sets=correct[None], c_values=(1.0,)
        )
        times: dict[str, list[float]] = {"cuda": [], "cpu": [], "scikit-learn": []}
        with joblib.Parallel(n_jobs=-1) as parallel:
            for repeat in range(repeats + 1):
                for way, values in times.items():
                    started = time.perf_counter()
                    if way == "scikit-learn":
                        fit_with_sklearn(parallel, problem, correct[None], {"max_iter": 100})
                    else:
                        fit_map(states, correct, nested=False, device=way)
                    if repeat:  # the first repetition starts workers and loads libraries
                        values.append(time.perf_counter() - started)
        ratios = [
            spread([a / b for a, b in zip(times[way], times["cuda"], strict=True)], ".1f")
            for way in ("cpu", "scikit-learn")
        ]
        lines.append(row(n, d, len(problem.cells), *(spread(values) for values in times.values()), *ratios))
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    lines = [
        "# Fits on a GPU",
        "",
        f"Seconds of `fit_map(nested=False)`, C = 1: median (minimum to maximum) of {options.repeats} alternating "
        "repetitions; ratios are taken within a repetition.  scikit-learn: StandardScaler once per fold, "
        "LogisticRegression with default tolerance, one task per cell, warm joblib workers; no intervals or bands.",
        "",
        f"{torch.cuda.get_device_name()}.  {machine()}",
        "",
        *measure_fits(options.folder, options.repeats),
    ]
    write("gpu_fits", lines)


if __name__ == "__main__":
    main()
