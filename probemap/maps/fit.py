"""From states to map: reading them layer by layer, fitting all cells, on as many cores as there are."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from probemap.activations.source import ActivationSource, as_source
from probemap.maps.probe_map import ProbeMap, map_from_scores
from probemap.probing.c_values import STRENGTHS, strengths
from probemap.probing.cell_scores import AUTO_STRENGTHS, MIN_PER_CLASS, CellScores, Plan, score_cells
from probemap.probing.folds import HELD_OUT, assign_folds, group_numbers, hold_out
from probemap.probing.inputs import Column, Labels, elements, parse_labels, parse_mask, parse_names
from probemap.records import MapError, TooFewError
from probemap.workers import RayPool, worker_pool

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

_Judged = Sequence[Sequence[CellScores | None]]
"""For each position the cell under each plan, None where there are too few answers to say."""
_Layer = tuple[_Judged, npt.NDArray[np.float64], Bools]
"""What one layer gives: its cells; `STRENGTHS`, (6, n_positions); which answers have which position."""

_COMPANY = 4
"""Cells that are solved together: their operations are fewer and larger; more would only take memory."""


def fit_map(
    activations: Any,
    correct: Labels,
    *,
    groups: Column | None = None,
    present: npt.ArrayLike | None = None,
    layers: Column | None = None,
    positions: Column | None = None,
    folds: int = 5,
    repeats: int = 1,
    c: float | str | Sequence[float] = 1.0,
    held_out: float | npt.ArrayLike | None = None,
    probe: Any = None,
    permutations: int = 0,
    common_rows: bool = False,
    nested: bool = True,
    device: str = "auto",
    ray: RayPool | None = None,
    seed: int = 0,
    ids: Column | None = None,
    attrs: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ProbeMap:
    """Fit one probe per (layer, position) cell and judge it on answers that it was not fitted on.

    Parameters
    ----------
    activations: a store of captured states, or an array (n, n_layers, n_positions, d): numpy, memory-mapped, torch,
        zarr, or anything that ``array[:, layer]`` works on.  Read one layer at a time.
    correct: (n,) one label per answer, in their order: True or False (or 1 or 0); None, NaN or ``pandas.NA`` if the
        answer is undecided, which leaves it out.  A list, an array, a column of a table (whose index is ignored), or a
        list of `Verdict`.
    groups: (n,) what must not be split between folds, e.g. the question; None puts each answer on its own.
    present: (n, n_positions) bool, which answers have which position; None: where the state is not NaN.
    layers: of an array, the numbers of its layers; of a store, which layers to fit.
    positions: of an array, the names of its positions; of a store, which positions to fit.
    folds: number of folds, stratified by `correct` and grouped.
    repeats: how often to do it all again with other folds; the values are averaged.
    c: inverse strength of the L2 penalty, as scikit-learn's ``C``; of several (``"auto"``: 1e-4 to 100) each fold
        chooses its own in each cell, by folds inside its training rows.
    held_out: judge on these answers alone, (n,) bool or a share of the groups drawn by `seed`; the folds then
        lie inside the others.  None: every answer is judged once per repeat, by the probe fitted without its fold.
    probe: a scikit-learn classifier with ``decision_function``, given the states unscaled, the slow way; None is a
        logistic regression on standardised states.
    permutations: how often to shuffle the labels for the floor of the map's maximum.
    common_rows: score every column on the answers that have all positions.
    nested: also judge inside each training part, which `ProbeMap.nested_best` needs.
    device: ``auto`` takes CUDA where there is one, else all cores of the CPU.
    ray: the workers that share the layers; None: all is done here.
    seed: of folds, shuffles and draws.
    ids: (n,) names of the answers; None numbers them.
    attrs: where it all comes from; kept in the map's ``attrs``.
    progress: called with (layers done, layers).

    Raises
    ------
    MapError: labels of another length, one class only, fewer of a class than folds, states that are not finite.
    """
    source = as_source(
        activations,
        None if layers is None else elements(layers, "layers"),
        None if positions is None else elements(positions, "positions"),
    )
    kept, labels = _decided(parse_labels(correct, source.n))
    names = [str(i) for i in range(source.n)] if ids is None else parse_names(ids, source.n, "ids")
    group_of = group_numbers(groups, source.n)
    group = np.unique(group_of[kept], return_inverse=True)[1].astype(np.int64)
    apart = hold_out(held_out, group_of, seed)[kept]
    strengths = parse_strengths(c)
    # Leaving out both of two folds leaves nothing to learn from.
    can_nest = folds > 2 or bool(apart.any())
    if len(strengths) > 1 and not can_nest:
        raise MapError("choosing among strengths needs folds inside folds, and there are 2", "give 3 folds or more")
    plans = [
        Plan(
            _folds(labels, group, folds, seed + repeat, apart),
            strengths,
            can_nest and (nested or len(strengths) > 1),
            probe,
            device,
        )
        for repeat in range(repeats)
    ]
    shuffles = _shuffles(labels, group, permutations, seed)
    has = _presence(present, source, kept)
    grid = _Grid.empty(source, plans, len(kept), permutations)
    layer_by_layer = partial(_Layers, source, kept, has, common_rows, labels, group, plans, shuffles)
    with worker_pool(layer_by_layer, ray) as workers:
        for row, made in enumerate(workers.each(range(len(source.layers)))):
            grid.put(row, *made)
            progress(row + 1, len(source.layers))
    if np.isnan(grid.scores).all():
        raise TooFewError(
            f"no column has {MIN_PER_CLASS} right and {MIN_PER_CLASS} wrong answers: too few to say anything",
            "ask more questions",
        )
    return map_from_scores(
        grid.scores,
        labels,
        np.stack([plan.fold for plan in plans]),
        group,
        grid.noise,
        answers=[names[i] for i in kept.tolist()],
        layers=source.layers,
        positions=source.positions,
        attrs={
            **(attrs or {}),
            "answers": source.n,
            "decided": len(labels),
            "right": int(labels.sum()),
            "folds": folds,
            "repeats": repeats,
            "c": "auto" if c == "auto" else ", ".join(f"{value:g}" for value in strengths),
            "probe": "" if probe is None else " ".join(repr(probe).split()),
            "held_out": int(apart.sum()),
            "common_rows": int(common_rows),
            "seed": seed,
        },
        present=grid.seen,
        extra=grid.variables(plans[0]),
    )


@dataclass(frozen=True)
class _Grid:
    """What the cells gave, over (…, layer, position)."""

    scores: npt.NDArray[np.float32]
    inner: npt.NDArray[np.float32]
    c: npt.NDArray[np.float64]
    converged: Bools
    noise: npt.NDArray[np.float64]
    floor: npt.NDArray[np.float64]
    strength: npt.NDArray[np.float64]
    """(len(STRENGTHS), n_layers, n_positions)."""
    seen: Bools
    """(n, n_positions): which answers have which position."""

    @classmethod
    def empty(cls, source: ActivationSource, plans: Sequence[Plan], n: int, permutations: int) -> "_Grid":
        cells = (len(source.layers), len(source.positions))
        return cls(
            np.full((len(plans), n, *cells), np.nan, np.float32),
            np.full((len(plans), len(plans[0].parts), *cells), np.nan, np.float32),
            np.full(cells, np.nan),
            np.ones(cells, np.bool_),
            np.full(cells, np.nan),
            np.full((permutations, *cells), np.nan),
            np.full((len(STRENGTHS), *cells), np.nan),
            np.zeros((n, cells[1]), np.bool_),
        )

    def put(self, row: int, columns: _Judged, strength: npt.NDArray[np.float64], seen: Bools) -> None:
        """One layer of the map."""
        self.seen[:] |= seen
        self.strength[:, row] = strength
        for column, cells in enumerate(columns):
            made = [cell for cell in cells if cell is not None]
            if len(made) < len(cells):
                continue
            self.scores[:, :, row, column] = [cell.scores for cell in made]
            self.inner[:, :, row, column] = [cell.inner for cell in made]
            self.c[row, column] = np.median([cell.strength for cell in made])
            self.converged[row, column] = all(cell.converged for cell in made)
            self.noise[row, column] = np.mean([cell.noise for cell in made])
            self.floor[:, row, column] = np.mean([cell.shuffled for cell in made], axis=0)

    def variables(self, plan: Plan) -> dict[str, Any]:
        """What a map holds besides scores and noise."""
        made: dict[str, Any] = {
            "c": (("layer", "position"), self.c),
            "converged": (("layer", "position"), self.converged),
            **{name: (("layer", "position"), made) for name, made in zip(STRENGTHS, self.strength, strict=True)},
        }
        if plan.inner:
            made["inner_auc"] = (("repeat", "outer_fold", "layer", "position"), self.inner)
            made["outer_fold"] = (("outer_fold",), np.array(plan.parts, np.int32))
        if len(self.floor):
            made["permutation_null"] = (("permutation",), np.nanmax(self.floor, axis=(1, 2)))
        return made


@dataclass(frozen=True)
class _Layers:
    """Fits the cells of a layer at a time; a `worker_pool.Worker` whose pieces are the rows of the map."""

    source: ActivationSource
    kept: Ints
    has: Bools | None
    common_rows: bool
    labels: Bools
    group: Ints
    plans: Sequence[Plan]
    shuffles: Bools

    def plan(self) -> None:
        pass

    def each(self, rows: Sequence[int]) -> Iterator[_Layer]:
        plans = [replace(plan, device=_device(plan.device)) for plan in self.plans]
        with _Cores(plans[0].device) as cores:
            for row in rows:
                # The layer's states live inside this call alone: the next layer is read when they are gone.
                yield self._judge(self.source.layers[row], plans, cores)

    def _judge(self, layer: int, plans: Sequence[Plan], cores: "_Cores") -> _Layer:
        states = self.source.read(layer)
        states = states if len(self.kept) == self.source.n else states[self.kept]
        if self.has is not None:
            states[~self.has] = np.nan
        if self.common_rows:
            states[np.isnan(states[:, :, 0]).any(axis=1)] = np.nan

        seen = ~np.isnan(states[:, :, 0])

        def judge(columns: list[int]) -> list[list[CellScores] | None]:
            mine = np.ascontiguousarray(states[:, columns].swapaxes(0, 1))
            broken = np.argwhere(~np.isfinite(mine).all(axis=2) & ~np.isnan(mine).all(axis=2))
            if len(broken):
                i, row = broken[0].tolist()
                raise MapError(
                    f"the state of answer {int(self.kept[row])} at layer {layer}, {self.source.positions[columns[i]]}, "
                    "holds values that are not finite",
                    "a missing position is NaN in all of its values; float16 holds no more than 65504: capture float32",
                )
            return [score_cells(mine, self.labels, plan, self.shuffles) for plan in plans]

        judged: dict[int, list[CellScores | None]] = {}
        together = _together(seen, cores.workers)
        for several, by_plan in zip(together, cores.map(judge, together), strict=True):
            for i, column in enumerate(several):
                judged[column] = [None if made is None else made[i] for made in by_plan]
        columns = [judged[column] for column in range(len(self.source.positions))]
        return columns, strengths(states, self.labels, self.group), seen


def _together(seen: Bools, workers: int) -> list[list[int]]:
    """Columns to solve in company: of the same answers, at most `_COMPANY`, and as much for each worker."""
    same: dict[bytes, list[int]] = {}
    for column in range(seen.shape[1]):
        same.setdefault(seen[:, column].tobytes(), []).append(column)
    made = []
    for columns in same.values():
        parts = ceil(len(columns) / (_COMPANY * workers)) * workers
        made += [part.tolist() for part in np.array_split(columns, min(parts, len(columns)))]
    return sorted(made, key=len, reverse=True)  # the longest first, so that no worker waits long at the end


def _decided(correct: Sequence[bool | None]) -> tuple[Ints, Bools]:
    """Return the rows of the decided answers, and their labels."""
    kept = np.flatnonzero([verdict is not None for verdict in correct]).astype(np.int64)
    labels = np.array([bool(correct[i]) for i in kept.tolist()], np.bool_)
    if labels.all() or not labels.any():
        which = (
            "no answer is decided"
            if not len(labels)
            else f"all {len(labels)} decided answers are {'right' if labels.all() else 'wrong'}"
        )
        raise TooFewError(
            f"{which}: a map needs right and wrong answers",
            "take questions that this model answers right between 20 % and 80 % of the time",
        )
    return kept, labels


def _folds(labels: Bools, group: Ints, folds: int, seed: int, apart: Bools) -> Ints:
    fold = np.full(len(labels), HELD_OUT, np.int64)
    inside = ~apart
    if apart.any() and (labels[apart].all() or not labels[apart].any()):
        raise MapError("all held-out answers are of one class", "hold out more answers")
    fold[inside] = assign_folds(labels[inside], group[inside], folds, seed)
    return fold


def parse_strengths(c: float | str | Sequence[float]) -> tuple[float, ...]:
    """The strengths that `c` of `fit_map` names, rising.

    Raises
    ------
    MapError: they are no numbers above 0.
    """
    if c == "auto":
        return AUTO_STRENGTHS
    try:
        several = c.split(",") if isinstance(c, str) else [c] if isinstance(c, float | int) else c
        values = tuple(sorted(float(v) for v in several))
    except ValueError:
        raise MapError(f"c is {c!r}", "give a number, several numbers with commas, or auto") from None
    if not values or not all(0 < v < np.inf for v in values):
        raise MapError(f"c is {c!r}", "strengths are numbers above 0")
    return values


def _shuffles(labels: Bools, group: Ints, count: int, seed: int) -> Bools:
    """(count, n): labels shuffled between groups of the same size, so that what belongs together stays together."""
    draw = np.random.default_rng([seed, 1])
    order = np.argsort(group, kind="stable")
    sizes = np.bincount(group)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    made = np.empty((count, len(labels)), bool)
    for row in made:
        for size in np.unique(sizes[sizes > 0]).tolist():
            blocks = order[starts[sizes == size][:, None] + np.arange(size)]
            row[blocks] = labels[blocks[draw.permutation(len(blocks))]]
    return made


def _presence(present: npt.ArrayLike | None, source: ActivationSource, kept: Ints) -> Bools | None:
    if present is None:
        return None
    return parse_mask(present, (source.n, len(source.positions)), "present")[kept]


def _device(device: str) -> str:
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise MapError(f"device {device!r} cannot be used: {str(error).splitlines()[0]}", "cpu always works") from None
    return device


class _Cores:
    """Cells side by side, one thread of torch each: small products gain more from that than from sharing the cores."""

    def __init__(self, device: str) -> None:
        self.workers = 1 if device != "cpu" else min(len(os.sched_getaffinity(0)), torch.get_num_threads())
        self.threads = torch.get_num_threads()

    def __enter__(self) -> "_Cores":
        if self.workers > 1:
            torch.set_num_threads(1)
            self.pool = ThreadPoolExecutor(self.workers, initializer=torch.set_num_threads, initargs=(1,))
        return self

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Any:
        return self.pool.map(function, items) if self.workers > 1 else map(function, items)

    def __exit__(self, *error: object) -> None:
        if self.workers > 1:
            self.pool.shutdown(cancel_futures=True)
            torch.set_num_threads(self.threads)
