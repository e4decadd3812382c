"""From states to map: reading them layer by layer, fitting all cells, on as many cores as there are."""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from probemap.activations import ActivationStore
from probemap.map import ProbeMap, map_from_scores
from probemap.positions import DEFAULT_POSITIONS
from probemap.probe import AUTO_STRENGTHS, HELD_OUT, MIN_PER_CLASS, CellScores, Plan, assign_folds, score_cell
from probemap.records import MapError

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
States = npt.NDArray[np.float32]


def fit_map(
    activations: Any,
    correct: Sequence[bool | None] | Bools,
    *,
    groups: Sequence[Any] | npt.NDArray[Any] | None = None,
    present: npt.ArrayLike | None = None,
    layers: Sequence[int] | None = None,
    positions: Sequence[str] | None = None,
    folds: int = 5,
    repeats: int = 1,
    c: float | str | Sequence[float] = 1.0,
    held_out: float | npt.ArrayLike | None = None,
    probe: Any = None,
    permutations: int = 0,
    common_rows: bool = False,
    nested: bool = True,
    device: str = "auto",
    seed: int = 0,
    ids: Sequence[str] | None = None,
    attrs: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ProbeMap:
    """Fit one probe per (layer, position) cell and judge it on answers that it was not fitted on.

    Parameters
    ----------
    activations: a store of captured states, or an array (n, n_layers, n_positions, d): numpy, memory-mapped, torch,
        zarr, or anything that ``array[:, layer]`` works on.  Read one layer at a time.
    correct: (n,) True, False or None; None (undecided) is left out.
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
    nested: also judge inside each training part, which `ProbeMap.honest_best` needs.
    device: ``auto`` takes CUDA where there is one, else all cores of the CPU.
    seed: of folds, shuffles and draws.
    ids: (n,) names of the answers; None numbers them.
    attrs: where it all comes from; kept in the map's ``attrs``.
    progress: called with (layers done, layers).

    Raises
    ------
    MapError: labels of another length, one class only, fewer of a class than folds, states that are not finite.
    """
    source = _source(activations, layers, positions)
    kept, labels = _decided(correct, source.n)
    group = np.arange(len(kept))
    if groups is not None:
        if len(groups) != source.n:
            raise MapError(f"{len(groups)} groups for {source.n} answers", "one group per answer")
        group = np.unique([str(groups[i]) for i in kept.tolist()], return_inverse=True)[1]
    apart = _held_out(held_out, kept, source.n, group, seed)
    strengths = _strengths(c)
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
            _device(device),
        )
        for repeat in range(repeats)
    ]
    shuffles = _shuffles(labels, group, permutations, seed)
    has = _presence(present, source, kept)
    n_layers, n_positions = len(source.layers), len(source.positions)
    n_parts = len(plans[0].parts)
    seen = np.zeros((len(kept), n_positions), bool)
    scores = np.full((repeats, len(kept), n_layers, n_positions), np.nan, np.float32)
    inner = np.full((repeats, n_parts, n_layers, n_positions), np.nan, np.float32)
    strength = np.full((n_layers, n_positions), np.nan)
    converged = np.ones((n_layers, n_positions), bool)
    noise = np.full((n_layers, n_positions), np.nan)
    floor = np.full((permutations, n_layers, n_positions), np.nan)
    with _Cores(plans[0].device) as cores:
        for row, layer in enumerate(source.layers):
            states = source.read(layer)[kept]
            if has is not None:
                states[~has] = np.nan
            if common_rows:
                states[np.isnan(states[:, :, 0]).any(axis=1)] = np.nan

            seen |= ~np.isnan(states[:, :, 0])

            def judge(column: int, states: States = states, layer: int = layer) -> list[CellScores | None]:
                return [_cell(source, states, column, layer, labels, kept, plan, shuffles) for plan in plans]

            for column, cells in enumerate(cores.map(judge, range(n_positions))):
                made = [cell for cell in cells if cell is not None]
                if len(made) < repeats:
                    continue
                scores[:, :, row, column] = [cell.scores for cell in made]
                inner[:, :, row, column] = [cell.inner for cell in made]
                noise[row, column] = np.mean([cell.noise for cell in made])
                strength[row, column] = np.median([cell.strength for cell in made])
                converged[row, column] = all(cell.converged for cell in made)
                floor[:, row, column] = np.mean([cell.shuffled for cell in made], axis=0)
            progress(row + 1, n_layers)
    if np.isnan(scores).all():
        raise MapError(
            f"no column has {MIN_PER_CLASS} right and {MIN_PER_CLASS} wrong answers: too few to say anything",
            "ask more questions",
        )
    extra: dict[str, Any] = {
        "strength": (("layer", "position"), strength),
        "converged": (("layer", "position"), converged),
    }
    if plans[0].inner:
        extra |= {
            "inner": (("repeat", "part", "layer", "position"), inner),
            "part": (("part",), np.array(plans[0].parts, np.int32)),
        }
    if permutations:
        extra["floor"] = (("shuffle",), np.nanmax(floor, axis=(1, 2)))
    return map_from_scores(
        scores,
        labels,
        np.stack([plan.fold for plan in plans]),
        group,
        noise,
        answers=[str(ids[i]) if ids is not None else str(i) for i in kept.tolist()],
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
        present=seen,
        extra=extra,
    )


def _cell(
    source: "_Source",
    states: States,
    column: int,
    layer: int,
    labels: Bools,
    kept: Ints,
    plan: Plan,
    shuffles: Bools,
) -> CellScores | None:
    """`score_cell`, with the cell's name in what it complains of."""
    mine = np.ascontiguousarray(states[:, column])
    broken = ~np.isfinite(mine).all(axis=1) & ~np.isnan(mine[:, 0])
    if broken.any():
        row = int(kept[np.flatnonzero(broken)[0]])
        raise MapError(
            f"the state of answer {row} at layer {layer}, {source.positions[column]}, holds values that are not finite",
            "a missing position is NaN in all of its values; float16 holds no more than 65504: capture float32",
        )
    return score_cell(mine, labels, plan, shuffles)


@dataclass(frozen=True)
class _Source:
    """States, one layer at a time."""

    n: int
    layers: list[int]
    positions: list[str]
    read: Callable[[int], States]
    """layer -> a fresh float32 array (n, n_positions, d)."""


def _source(activations: Any, layers: Sequence[int] | None, positions: Sequence[str] | None) -> _Source:
    if isinstance(activations, ActivationStore):
        return _stored(activations, layers, positions)
    array = activations if hasattr(activations, "shape") else np.asarray(activations)
    if len(array.shape) != 4:
        raise MapError(f"states of shape {tuple(array.shape)}", "the shape is (n, n_layers, n_positions, d)")
    n, n_layers, n_positions, d = map(int, array.shape)
    if not n or not n_layers or not n_positions or not d:
        raise MapError(f"states of shape {tuple(array.shape)} are empty", "the shape is (n, n_layers, n_positions, d)")
    default = DEFAULT_POSITIONS if n_positions == len(DEFAULT_POSITIONS) else range(n_positions)
    names = [str(p) for p in (default if positions is None else positions)]
    if len(names) != n_positions:
        raise MapError(f"{len(names)} position names for {n_positions} positions")
    numbers = list(range(n_layers)) if layers is None else [int(layer) for layer in layers]
    if len(numbers) != n_layers:
        raise MapError(f"{len(numbers)} layer numbers for {n_layers} layers")
    for what, labels in (("layer", numbers), ("position", names)):
        if len(set(labels)) != len(labels):
            raise MapError(f"a {what} is named twice: {labels}", f"name each {what} once")

    def read(layer: int) -> States:
        part = array[:, numbers.index(layer)]
        if isinstance(part, torch.Tensor):
            part = part.detach().float().cpu().numpy()
        return np.array(part, np.float32)

    return _Source(n, numbers, names, read)


def _stored(store: ActivationStore, layers: Sequence[int] | None, positions: Sequence[str] | None) -> _Source:
    layout = store.layout
    numbers = list(range(layout.n_layers)) if layers is None else [int(layer) for layer in layers]
    names = list(layout.positions) if positions is None else [str(p) for p in positions]
    if strange := [k for k in numbers if not 0 <= k < layout.n_layers]:
        raise MapError(f"there is no layer {strange[0]}", f"the store holds layers 0 to {layout.n_layers - 1}")
    if unknown := [p for p in names if p not in layout.positions]:
        raise MapError(f"there is no position {unknown[0]!r}", f"the store holds {', '.join(layout.positions)}")
    columns = [layout.positions.index(p) for p in names]
    return _Source(layout.n, numbers, names, lambda layer: store.read_layer(layer)[:, columns])


def _decided(correct: Sequence[bool | None] | Bools, n: int) -> tuple[Ints, Bools]:
    """The rows with a verdict, and their verdicts."""
    if len(correct) != n:
        raise MapError(f"{len(correct)} verdicts for {n} answers", "one verdict per answer, None if undecided")
    if strange := [v for v in correct if v is not None and v not in (True, False)]:
        raise MapError(f"a verdict is {strange[0]!r}", "verdicts are True, False, or None if undecided")
    kept = np.flatnonzero([verdict is not None for verdict in correct]).astype(np.int64)
    labels = np.array([bool(correct[i]) for i in kept.tolist()], np.bool_)
    if labels.all() or not labels.any():
        which = (
            "no answer is decided"
            if not len(labels)
            else f"all {len(labels)} decided answers are {'right' if labels.all() else 'wrong'}"
        )
        raise MapError(
            f"{which}: a map needs right and wrong answers",
            "take questions that this model answers right between 20 % and 80 % of the time",
        )
    return kept, labels


def _held_out(held_out: float | npt.ArrayLike | None, kept: Ints, n: int, group: Ints, seed: int) -> Bools:
    """(decided,): which answers are judged only."""
    if held_out is None:
        return np.zeros(len(kept), bool)
    if isinstance(held_out, float | int) and not isinstance(held_out, bool):
        if not 0 < held_out < 1:
            raise MapError(f"held_out is {held_out}", "give a share between 0 and 1, or one True or False per answer")
        groups = np.random.default_rng(seed).permutation(int(group.max()) + 1)
        return np.isin(group, groups[: round(held_out * len(groups))])
    apart = np.asarray(held_out)
    if apart.shape != (n,) or apart.dtype != bool:
        raise MapError(
            f"held_out has shape {apart.shape} and type {apart.dtype}",
            f"give a share, or True or False for {n} answers",
        )
    apart = apart[kept]
    if shared := np.intersect1d(group[apart], group[~apart]).size:
        raise MapError(
            f"{shared} groups have answers both in and out of the held-out part", "keep answers of one group together"
        )
    return apart


def _folds(labels: Bools, group: Ints, folds: int, seed: int, apart: Bools) -> Ints:
    fold = np.full(len(labels), HELD_OUT, np.int64)
    inside = ~apart
    if apart.any() and (labels[apart].all() or not labels[apart].any()):
        raise MapError("all held-out answers are of one class", "hold out more answers")
    fold[inside] = assign_folds(labels[inside], group[inside], folds, seed)
    return fold


def _strengths(c: float | str | Sequence[float]) -> tuple[float, ...]:
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


def _presence(present: npt.ArrayLike | None, source: _Source, kept: Ints) -> Bools | None:
    if present is None:
        return None
    has = np.asarray(present)
    if has.shape != (source.n, len(source.positions)) or has.dtype != bool:
        raise MapError(
            f"present has shape {has.shape} and type {has.dtype}",
            f"one True or False per answer and position: {(source.n, len(source.positions))}",
        )
    return np.asarray(has[kept], bool)


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

    def map(self, function: Callable[[int], Any], cells: range) -> Any:
        return self.pool.map(function, cells) if self.workers > 1 else map(function, cells)

    def __exit__(self, *error: object) -> None:
        if self.workers > 1:
            self.pool.shutdown(cancel_futures=True)
            torch.set_num_threads(self.threads)
