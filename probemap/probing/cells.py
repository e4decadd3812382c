"""From the scores that a map keeps: the AUC of every cell, and what choosing the best of them is worth."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr

from probemap.probing.auc import LEVEL, Aucs, Bools, Floats, aucs, by_group, choice_coupling, interval, spread


@dataclass(frozen=True)
class NestedBest:
    """The best cell, chosen inside, judged outside: each part of the answers by the cell that is best on the rest."""

    auc: float
    low: float
    high: float
    n: int
    """Answers that were judged."""
    chosen: tuple[tuple[int, str], ...]
    """(layer, position) that each part chose."""


def cell_aucs(data: xr.Dataset, usable: Bools | None = None) -> tuple[Floats, Floats]:
    """AUCs (cells,) and influences (answers, cells) of all cells, averaged over repeats.

    Parameters
    ----------
    data: of a `ProbeMap`.
    usable: (answer, layer, position): score only these.
    """
    scores, correct, fold = data["scores"].values, data["correct"].values, data["fold"].values
    n_repeats, n, n_layers, n_positions = scores.shape
    value, influence = np.full((n_layers, n_positions), np.nan), np.zeros((n, n_layers, n_positions))
    for column in range(n_positions):
        known = ~np.isnan(scores[:, :, :, column])
        if usable is not None:
            known &= usable[None, :, :, column]
        layers = known.any(axis=(0, 1))
        if not layers.any():
            continue
        rows = known[:, :, layers].any(axis=(0, 2))
        made = [aucs(scores[r][rows][:, layers, column], correct[rows], fold[r][rows]) for r in range(n_repeats)]
        value[layers, column] = np.mean([m.value for m in made], axis=0)
        influence[:, layers, column] = spread(np.mean([m.influence for m in made], axis=0), rows)
    influence[:, np.isnan(value)] = 0
    # Answers that judge one fold's probe train the others': see `probe.noise_share`.
    influence *= np.sqrt(1 + np.nan_to_num(data["variance_inflation"].values))
    return value.ravel(), influence.reshape(n, -1)


def judged_rows(scores: npt.NDArray[np.float32]) -> Bools:
    """(n, n_positions): which answers a column is judged on, from scores (n_repeats, n, n_layers, n_positions)."""
    return np.asarray(~np.isnan(scores).all(axis=(0, 2)), np.bool_)


@dataclass(frozen=True)
class NestedScores:
    """Each part of the answers scored by the cell that is best on the rest, best by folds inside them."""

    scores: Floats
    """(n_repeats, n): out of fold; NaN where the chosen cell's position is missing, or where an answer is not judged.
    Only scores of one fold are on one scale."""
    chosen: tuple[tuple[int, str], ...]
    """(layer, position) that each part chose, of each repeat."""
    inflation: float
    """What the variance of placement values is to be multiplied with: for the noise share of the chosen cells, and for
    the choosing."""


def nested(data: xr.Dataset, equals: Bools) -> NestedScores:
    """See `NestedScores`.

    Parameters
    ----------
    data: of a `ProbeMap` with ``inner``.
    equals: (cells,), those among which the choice may fall by luck.
    """
    scores, inner, fold = data["scores"].values, data["inner_auc"].values, data["fold"].values
    noise, layers, positions = data["variance_inflation"].values, data["layer"].values, data["position"].values
    chosen: list[tuple[int, str]] = []
    inflation: list[float] = []
    made = np.full(scores.shape[:2], np.nan)
    for repeat in range(len(scores)):
        for k, part in enumerate(data["outer_fold"].values):
            flat = np.nan_to_num(inner[repeat, k].ravel(), nan=-1)
            layer, column = divmod(int(flat.argmax()), len(positions))
            chosen.append((int(layers[layer]), str(positions[column])))
            inflation.append(1 + float(noise[layer, column]))
            rows = fold[repeat] == part
            made[repeat, rows] = scores[repeat, rows, layer, column]
    coupling = choice_coupling(*_by_part(data, equals), int(data.attrs["seed"]))
    return NestedScores(made, tuple(chosen), float(np.mean(inflation)) + coupling)


def nested_auc(made: NestedScores, data: xr.Dataset, rows: Bools) -> Aucs | None:
    """The AUC of nested scores on some answers, averaged over repeats, its influences over all answers and widened;
    None if no fold holds both right and wrong ones.

    Parameters
    ----------
    rows: (n,); those without a score are left out.
    """
    correct, fold = data["correct"].values, data["fold"].values
    several: list[Aucs] = []
    for repeat, scores in enumerate(made.scores):
        known = rows & ~np.isnan(scores)
        one = aucs(scores[known, None], correct[known], fold[repeat][known])
        if not np.isnan(one.value[0]):
            several.append(Aucs(one.value, spread(one.influence, known)))
    if not several:
        return None
    influence = np.mean([one.influence for one in several], axis=0) * np.sqrt(made.inflation)
    return Aucs(np.mean([one.value for one in several], axis=0), influence)


def nested_best(data: xr.Dataset, equals: Bools) -> NestedBest | None:
    """See `ProbeMap.nested_best`.

    Parameters
    ----------
    data: of a `ProbeMap`.
    equals: (cells,), those among which the choice may fall by luck.
    """
    made = nested(data, equals)
    correct, group = data["correct"].values, data["group"].values.astype(np.int64)
    found = nested_auc(made, data, np.ones(len(correct), bool))
    if found is None:
        return None
    value, variance = float(found.value[0]), float((by_group(found.influence, group) ** 2).sum())
    judged = ~np.isnan(made.scores).all(axis=0)
    low, high = interval(value, variance, int(correct[judged].sum()), int((~correct[judged]).sum()), LEVEL)
    return NestedBest(value, low, high, int(judged.sum()), made.chosen)


def _by_part(data: xr.Dataset, equals: Bools) -> tuple[list[Floats], list[float]]:
    """For each part of the first repeat, the influences of its answers on the cells `equals`, as groups, and its share
    of all pairs of right and wrong answers."""
    fold, correct = data["fold"].values[0], data["correct"].values
    influences, pairs = [], []
    for part in data["outer_fold"].values:
        rows = fold == part
        mine = data.isel(repeat=[0], answer=rows)
        influences.append(by_group(cell_aucs(mine)[1][:, equals], mine["group"].values.astype(np.int64)))
        pairs.append(float(correct[rows].sum() * (~correct[rows]).sum()))
    return influences, [share / max(sum(pairs), 1.0) for share in pairs]
