"""From the scores that a map keeps: the AUC of every cell, and what choosing the best of them is worth."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr

from probemap.probes.stats import LEVEL, Aucs, Bools, Floats, aucs, by_group, choice_coupling, interval, spread


@dataclass(frozen=True)
class HonestBest:
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
    influence *= np.sqrt(1 + np.nan_to_num(data["noise"].values))
    return value.ravel(), influence.reshape(n, -1)


def judged_rows(scores: npt.NDArray[np.float32]) -> Bools:
    """(n, n_positions): which answers a column is judged on, from scores (n_repeats, n, n_layers, n_positions)."""
    return np.asarray(~np.isnan(scores).all(axis=(0, 2)), np.bool_)


def honest_best(data: xr.Dataset, equals: Bools) -> HonestBest | None:
    """See `ProbeMap.honest_best`.

    Parameters
    ----------
    data: of a `ProbeMap`.
    equals: (cells,), those among which the choice may fall by luck.
    """
    scores, inner = data["scores"].values, data["inner"].values
    fold, correct, group = data["fold"].values, data["correct"].values, data["group"].values.astype(np.int64)
    noise, layers, positions = data["noise"].values, data["layer"].values, data["position"].values
    made: list[Aucs] = []
    chosen: list[tuple[int, str]] = []
    inflation: list[float] = []
    judged = np.zeros(len(correct), bool)
    for repeat in range(len(scores)):
        mine = np.full((len(correct), 1), np.nan)
        for k, part in enumerate(data["part"].values):
            flat = np.nan_to_num(inner[repeat, k].ravel(), nan=-1)
            layer, column = divmod(int(flat.argmax()), len(positions))
            chosen.append((int(layers[layer]), str(positions[column])))
            inflation.append(1 + float(noise[layer, column]))
            rows = fold[repeat] == part
            mine[rows, 0] = scores[repeat, rows, layer, column]
        known = ~np.isnan(mine[:, 0])
        judged |= known
        one = aucs(mine[known], correct[known], fold[repeat][known])
        if not np.isnan(one.value[0]):
            made.append(Aucs(one.value, spread(one.influence, known)))
    if not made:
        return None
    value = float(np.mean([one.value[0] for one in made]))
    influence = by_group(np.mean([one.influence for one in made], axis=0), group)
    factor = float(np.mean(inflation)) + choice_coupling(*_by_part(data, equals), int(data.attrs["seed"]))
    low, high = interval(
        value,
        float((influence**2).sum()) * factor,
        int(correct[judged].sum()),
        int((~correct[judged]).sum()),
        LEVEL,
    )
    return HonestBest(value, low, high, int(judged.sum()), tuple(chosen))


def _by_part(data: xr.Dataset, equals: Bools) -> tuple[list[Floats], list[float]]:
    """For each part of the first repeat, the influences of its answers on the cells `equals`, as groups, and its share
    of all pairs of right and wrong answers."""
    fold, correct = data["fold"].values[0], data["correct"].values
    influences, pairs = [], []
    for part in data["part"].values:
        rows = fold == part
        mine = data.isel(repeat=[0], answer=rows)
        influences.append(by_group(cell_aucs(mine)[1][:, equals], mine["group"].values.astype(np.int64)))
        pairs.append(float(correct[rows].sum() * (~correct[rows]).sum()))
    return influences, [share / max(sum(pairs), 1.0) for share in pairs]
