"""Fit the cells of one layer in parallel threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from probemap.probing.activation_norm import activation_norms
from probemap.probing.cell_scores import CellScores, score_cells
from probemap.records import MapError

if TYPE_CHECKING:
    from probemap.activations.source import ActivationSource
    from probemap.probing.auc import Bools, Floats, Ints
    from probemap.probing.plan import ProbePlan

_MAX_BATCH = 4
"""Maximum number of cells that are solved together.  Larger batches require more memory and are not faster."""


@dataclass(frozen=True, kw_only=True)
class LayerFit:
    """Results for one layer."""

    cells: Sequence[Sequence[CellScores | None]]
    """Results for the cells, indexed by position and then by plan.  The entry is None for a cell with
    too few answers."""
    activation_norms: Floats
    """ndarray of shape (6, n_positions); see `activation_norm.activation_norms`."""
    present: Bools
    """ndarray of shape (n, n_positions): whether each answer has each position."""


@dataclass(frozen=True, kw_only=True)
class LayerFitter:
    """Callable that fits the cells in one row of the map.  It can be serialised and sent to another process."""

    source: ActivationSource
    rows: Ints
    """Rows of the decided answers in `source`."""
    present: Bools | None
    """ndarray of shape (n, n_positions): whether each decided answer has each position.  If None, an answer is
    assumed to have a position unless the state there is NaN."""
    common_rows: bool
    labels: Bools
    """ndarray of shape (n,): labels of the decided answers."""
    group: Ints
    """ndarray of shape (n,)."""
    plans: Sequence[ProbePlan]
    """One plan per repeat."""
    label_sets: Bools
    """ndarray of shape (n_label_sets, n): permuted labels."""

    def __call__(self, row: int) -> LayerFit:
        """Fit the cells in row `row` of the map."""
        layer = self.source.layers[row]
        states = self._read(layer)
        present = ~np.isnan(states[:, :, 0])
        # The device is resolved here because the layer may be fitted on another machine.
        plans = [replace(plan, device=resolve_device(plan.device)) for plan in self.plans]

        def fit(columns: list[int]) -> list[list[CellScores] | None]:
            batch = np.ascontiguousarray(states[:, columns].swapaxes(0, 1))
            self._check_finite(batch, layer, columns)
            return [score_cells(batch, self.labels, plan, self.label_sets) for plan in plans]

        by_column: dict[int, list[CellScores | None]] = {}
        with _cell_threads(plans[0].device) as (parallel_map, n_threads):
            batches = _batches(present, n_threads)
            for columns, by_plan in zip(batches, parallel_map(fit, batches), strict=True):
                for i, column in enumerate(columns):
                    by_column[column] = [None if cells is None else cells[i] for cells in by_plan]
            norms = activation_norms(states, self.labels, self.group)
        cells = [by_column[column] for column in range(len(self.source.positions))]
        return LayerFit(cells=cells, activation_norms=norms, present=present)

    def _read(self, layer: int) -> npt.NDArray[np.float32]:
        """Return the states of the decided answers as an array of shape (n, n_positions, d), with NaN where an answer
        lacks a position."""
        states = self.source.read(layer)
        states = states if len(self.rows) == self.source.n else states[self.rows]
        if self.present is not None:
            states[~self.present] = np.nan
        if self.common_rows:
            states[np.isnan(states[:, :, 0]).any(axis=1)] = np.nan
        return states

    def _check_finite(self, batch: npt.NDArray[np.float32], layer: int, columns: list[int]) -> None:
        """Raise `MapError` if a state contains non-finite values, unless all of its values are NaN."""
        invalid = np.argwhere(~np.isfinite(batch).all(axis=2) & ~np.isnan(batch).all(axis=2))
        if len(invalid):
            i, row = invalid[0].tolist()
            raise MapError(
                f"the state of answer {int(self.rows[row])} at layer {layer}, {self.source.positions[columns[i]]}, "
                "contains values that are not finite",
                "set all values of a missing position to NaN; if states exceed the maximum of float16 (65504), capture "
                "them in float32",
            )


def fit_cell(states: npt.NDArray[np.float32], correct: Bools, plan: ProbePlan) -> CellScores | None:
    """Fit and evaluate the probes of a single cell.

    The results are identical to those for the same cell in a map.

    Parameters
    ----------
    states : ndarray of shape (n, d), float32
        Hidden states.  If an answer lacks the position, all values of its state are NaN.
    correct : ndarray of shape (n,), bool
    plan : ProbePlan

    Returns
    -------
    CellScores or None
        The results, or None if there are too few answers; see `score_cells`.
    """
    plan = replace(plan, device=resolve_device(plan.device))
    no_label_sets = np.empty((0, len(correct)), bool)

    def fit(batch: npt.NDArray[np.float32]) -> list[CellScores] | None:
        return score_cells(batch, correct, plan, no_label_sets)

    # The cell is fitted in a thread, as in a map, because the last digits depend on the number of torch threads.
    with _cell_threads(plan.device) as (parallel_map, _):
        (cells,) = parallel_map(fit, [np.ascontiguousarray(states[None])])
    return None if cells is None else cells[0]


def _batches(present: Bools, n_threads: int) -> list[list[int]]:
    """Divide the columns into batches that are solved together.

    Within a batch, all positions are present in the same answers.  A batch contains at most `_MAX_BATCH`
    columns, and all threads process about the same number of columns.
    """
    same_rows: dict[bytes, list[int]] = {}
    for column in range(present.shape[1]):
        same_rows.setdefault(present[:, column].tobytes(), []).append(column)
    batches = []
    for columns in same_rows.values():
        n_batches = ceil(len(columns) / (_MAX_BATCH * n_threads)) * n_threads
        batches += [batch.tolist() for batch in np.array_split(columns, min(n_batches, len(columns)))]
    return sorted(batches, key=len, reverse=True)  # largest first, so that all threads finish at about the same time


def resolve_device(device: str) -> str:
    """Return the torch device that ``auto`` stands for, or the given device after checking that it can be used.

    Raises
    ------
    MapError
        If the device cannot be used.
    """
    if not isinstance(device, str):
        raise MapError(f"device must be a string, got {device!r:.60}", "use auto, cpu, cuda or cuda:1")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise MapError(
            f"device {device!r} cannot be used: {str(error).splitlines()[0]}",
            "use another device; cpu is always available",
        ) from None
    return device


@contextmanager
def _cell_threads(device: str) -> Iterator[tuple[Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]], int]]:
    """Yield a ``map`` function that processes batches of cells in parallel, and the number of threads that it uses.

    On the CPU, solving one batch per thread is faster than solving a single batch on all cores, because the matrices
    are small.  Within each batch, torch uses a single thread.
    """
    n_torch_threads = torch.get_num_threads()
    n_threads = 1 if device != "cpu" else min(len(os.sched_getaffinity(0)), n_torch_threads)
    if n_threads == 1:
        yield map, 1
        return
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(n_threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield pool.map, n_threads
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(n_torch_threads)
