"""The problems of ``speed.py``: states and labels, and their probes fitted with probemap and with scikit-learn."""

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import numpy.typing as npt
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from states import synthetic

from probemap.maps.fit import fit_map
from probemap.probing.logistic.solver import DesignMatrices

FOLDS = 5
CELLS_PER_BATCH = 4
"""As in `fit_map`."""

Options = Mapping[str, Any]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Cell = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """The states of a map and the probes to fit in every cell."""

    states: npt.NDArray[np.float32]
    """ndarray of shape (n, n_layers, n_positions, d)."""
    correct: Bools
    fold: npt.NDArray[np.int64]
    label_sets: Bools
    """ndarray of shape (n_label_sets, n)."""
    c_values: tuple[float, ...]

    @property
    def cells(self) -> list[Cell]:
        """Indices of layer and position."""
        return list(np.ndindex(self.states.shape[1], self.states.shape[2]))


def synthetic_states(
    path: Path, *, n: int, d: int, decay: float, n_layers: int, n_positions: int
) -> tuple[npt.NDArray[np.float32], Bools]:
    """Write states to a file and return them memory-mapped, with the labels of the first cell.

    Every cell has different states.
    """
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n, n_layers, n_positions, d))
    for number, (layer, column) in enumerate(np.ndindex(n_layers, n_positions)):
        array[:, layer, column], labels = synthetic(n, d, number, decay, mean=0, n_outliers=0)
        if not number:
            correct = labels
    array.flush()
    return np.load(path, mmap_mode="r"), correct


@contextmanager
def all_cores() -> Iterator[ThreadPoolExecutor]:
    """Yield one thread per core; torch gets one thread in each."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(
            len(os.sched_getaffinity(0)), initializer=torch.set_num_threads, initargs=(1,)
        ) as threads:
            yield threads
    finally:
        torch.set_num_threads(n_threads)


# probemap


def fit_with_probemap(problem: Problem, permutations: int) -> None:
    fit_map(problem.states, problem.correct, nested=False, c=problem.c_values[0], permutations=permutations)


def probemap_scores(problem: Problem, cells: Sequence[Cell], label_sets: Bools) -> Floats:
    """Return out-of-fold scores as `score_cells` computes them, of shape (cells, label sets, C values, n)."""
    training = np.stack([problem.fold != k for k in range(FOLDS)])
    states = np.stack([problem.states[:, layer, column] for layer, column in cells])
    shape = (len(label_sets), FOLDS, len(problem.c_values))
    label_set, fold, c = (index.ravel() for index in np.indices(shape))
    c_values = np.tile(np.array(problem.c_values)[c], (len(cells), 1))
    fits = DesignMatrices(states, training, "cpu").fit(label_sets, label_set, fold, c_values)
    scores = fits.scores.numpy().reshape(len(cells), *shape, len(problem.fold))
    return np.asarray(scores[:, :, problem.fold, :, np.arange(len(problem.fold))].transpose(1, 2, 3, 0))


def fit_grid_with_probemap(problem: Problem) -> None:
    """Fit all C values without selecting one; cells are batched as in `fit_map`."""
    with all_cores() as threads:
        n_threads = len(os.sched_getaffinity(0))
        n_batches = -(-len(problem.cells) // (CELLS_PER_BATCH * n_threads)) * n_threads
        batches = np.array_split(np.arange(len(problem.cells)), min(n_batches, len(problem.cells)))
        list(
            threads.map(
                lambda batch: probemap_scores(problem, [problem.cells[i] for i in batch], problem.label_sets), batches
            )
        )


# scikit-learn


def sklearn_scores(problem: Problem, cell: Cell, label_sets: Bools, options: Options) -> Floats:
    """Return out-of-fold scores of one cell, of shape (label sets, C values, n)."""
    states = problem.states[:, cell[0], cell[1]]
    scores = np.empty((len(label_sets), len(problem.c_values), len(problem.correct)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for k in range(FOLDS):
            training = problem.fold != k
            scaler = StandardScaler().fit(states[training])
            train, test = scaler.transform(states[training]), scaler.transform(states[~training])
            for i, y in enumerate(label_sets):
                for j, c in enumerate(problem.c_values):
                    model = LogisticRegression(C=c, **options).fit(train, y[training])
                    scores[i, j, ~training] = model.decision_function(test)
    return scores


def fit_with_sklearn(parallel: joblib.Parallel, problem: Problem, label_sets: Bools, options: Options) -> None:
    parallel(joblib.delayed(sklearn_scores)(problem, cell, label_sets, options) for cell in problem.cells)
