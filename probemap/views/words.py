"""Summary of a map in sentences: a table of its values, and observations that a test supports.

A map in which no cell is better than chance, by a band over all cells, gets a single sentence.  In other maps the
comparisons of groups of cells are tested together (Holm 1979, Scand. J. Statist. 6:65): with probability 95 %, no
reported comparison has the wrong sign.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt

from probemap.probing.auc import LEVEL, Bools
from probemap.probing.cell_map import CellMap
from probemap.probing.cell_scores import MIN_PER_CLASS
from probemap.probing.inference import Difference

FEW = 50
"""A column with fewer correct or incorrect answers is reported as small."""

_GROUPS = {
    "the end of the question": ("last_q",),
    "the exact answer's tokens": ("exact_answer_first", "exact_answer_last"),
    "the token before the exact answer": ("exact_answer_before_first",),
    "the token after the exact answer": ("exact_answer_after_last",),
}
"""Name of a group of positions -> its positions.  "the trailing tokens" are all positions ``-1``, ``-2``, …."""

_NOT_COMPARED = Difference(*[float("nan")] * 4)

_TRAILING = re.compile(r"-\d+")

_PAIRS = (
    ("the exact answer's tokens", "the end of the question"),
    ("the exact answer's tokens", "the trailing tokens"),
    ("the token after the exact answer", "the token before the exact answer"),
)
"""Groups of positions that are compared with each other."""


@dataclass(frozen=True)
class Observation:
    """One sentence and its topic."""

    about: str
    """``protocol``, ``nothing``, ``chance``, ``onset``, ``peak``, ``positions``, ``layers``, ``few``, ``baselines``."""
    text: str


@dataclass(frozen=True)
class Description:
    """Summary of a map."""

    layers: list[int]
    """Every second layer of the map."""
    rows: list[tuple[str, int, list[float]]]
    """(position, n, AUC at each of `layers`); NaN where there are too few answers."""
    observations: list[Observation]


def describe(probe_map: CellMap) -> Description:
    """Summarise a map.

    Parameters
    ----------
    probe_map : CellMap

    Returns
    -------
    Description
        The AUCs of all positions at every second layer, and the observations.
    """
    rows = [
        (position, int(n), [float(v) for v in column])
        for position, n, column in zip(
            probe_map.positions, probe_map.data["n"].values, probe_map.auc.values[::2].T, strict=True
        )
    ]
    return Description(probe_map.layers[::2], rows, observe(probe_map))


def observe(probe_map: CellMap) -> list[Observation]:
    """Return the observations about a map, each with its numbers.

    Parameters
    ----------
    probe_map : CellMap

    Returns
    -------
    list of Observation
    """
    small = _small_columns(probe_map)
    label = str(probe_map.data.attrs.get("protocol", ""))
    protocol = [Observation("protocol", f"{label[0].upper()}{label[1:]}.")] if label else []
    if not probe_map.best():
        return [*protocol, *small]
    above = probe_map.above_chance.values
    if not above.any():
        return [*protocol, _no_signal(probe_map), *small]
    return [
        *protocol,
        *_better_than_chance(probe_map, above),
        _best_cell(probe_map),
        *_comparisons(probe_map, above),
        *_gain(probe_map),
        *small,
    ]


def _no_signal(probe_map: CellMap) -> Observation:
    n_cells = int(probe_map.auc.notnull().sum())
    (best,) = probe_map.best()
    cell = probe_map.data.sel(layer=best.layer, position=best.position)
    return Observation(
        "nothing",
        f"None of {n_cells} cells is better than chance, all cells considered at once.  The highest AUC, at layer "
        f"{best.layer}, {best.position}, is {best.auc:.2f}, but its simultaneous 95 % band is "
        f"[{float(cell['band_low']):.2f}, {float(cell['band_high']):.2f}].",
    )


def _better_than_chance(probe_map: CellMap, above: Bools) -> list[Observation]:
    """Return where the map is better than chance, and the first layer at which each position is."""
    has_auc = probe_map.auc.notnull().values
    layers, positions = np.array(probe_map.layers), np.array(probe_map.positions)
    n_above, n_cells = int(above.sum()), int(has_auc.sum())
    verb = "cell is" if n_above == 1 == n_cells else "cells is" if n_above == 1 else "cells are"
    text = f"{n_above} of {n_cells} {verb} better than chance, all cells considered at once"
    with_signal = above.any(axis=0)
    if with_signal.all():
        text += "; every position has such cells."
    else:
        without = positions[~with_signal & has_auc.any(axis=0)]
        text += f": at {_names(positions[with_signal])}" + (f"; none at {_names(without)}." if len(without) else ".")
    first_layer = layers[above.argmax(axis=0)]
    onsets = []
    for k, layer in enumerate(np.unique(first_layer[with_signal])):
        start = "The signal first appears in layer" if k == 0 else "in layer"
        onsets.append(f"{start} {layer} at {_names(positions[with_signal & (first_layer == layer)])}")
    return [Observation("chance", text), Observation("onset", "; ".join(onsets) + ".")]


def _best_cell(probe_map: CellMap) -> Observation:
    (best,) = probe_map.best()
    confidence_set = probe_map.confidence_set()
    count = int(confidence_set.sum())
    text = (
        f"The highest AUC is {best.auc:.2f} [{best.low:.2f}, {best.high:.2f}], at layer {best.layer}, "
        f"{best.position}; as the maximum over many cells it is biased upwards"
    )
    if nested := probe_map.nested_best():
        text += f".  The nested-CV estimate of the best cell is {nested.auc:.2f} [{nested.low:.2f}, {nested.high:.2f}]"
    if count == 1:
        n_cells = int(probe_map.auc.notnull().sum())
        return Observation("peak", text + (".  All other cells are distinguishable from it." if n_cells > 1 else "."))
    in_set = confidence_set.any("layer").values
    columns = [position for position, is_in_set in zip(probe_map.positions, in_set, strict=True) if is_in_set]
    return Observation(
        "peak",
        f"{text}.  {count} cells are not distinguishable from the best, in "
        f"{_layer_range(probe_map, confidence_set.values)}, at {_names(columns)}.",
    )


@dataclass(frozen=True)
class _Comparison:
    """Difference of the mean AUCs of two groups of cells."""

    first: str
    second: str
    difference: Difference

    @property
    def numbers(self) -> str:
        """The difference with its interval, as the larger mean minus the smaller."""
        value, low, high = self.difference.value, self.difference.low, self.difference.high
        return f"{value:+.3f} [{low:+.3f}, {high:+.3f}]" if value > 0 else f"{-value:+.3f} [{-high:+.3f}, {-low:+.3f}]"

    @property
    def text(self) -> str:
        """The sentence for two groups of positions."""
        high, low = (self.first, self.second) if self.difference.value > 0 else (self.second, self.first)
        return (
            f"The AUC is higher at {high} than at {low}: {self.numbers}, mean over the layers, on answers with both "
            "positions."
        )


def _comparisons(probe_map: CellMap, above: Bools) -> list[Observation]:
    """Compare groups of positions and thirds of the layers; the error rate holds for all tests together."""
    positions = [_Comparison(first, second, _compare_positions(probe_map, first, second)) for first, second in _PAIRS]
    # Thirds of the layers are compared at the positions with a signal: others would only dilute the difference.
    with_signal = above.any(axis=0)
    thirds = [
        np.isin(np.arange(len(above)), layers)[:, None] & with_signal for layers in np.array_split(range(len(above)), 3)
    ]
    early, middle, late = thirds
    layers = [
        _Comparison("", "", probe_map.compare_groups(first, second))
        for first, second in ((late, early), (middle, early), (middle, late))
    ]
    significant = _holm([comparison.difference.p for comparison in positions + layers])
    observations = [
        Observation("positions", comparison.text)
        for comparison, is_significant in zip(positions, significant, strict=False)
        if is_significant
    ]
    shape = _shape_over_layers(
        layers, significant[len(positions) :], [_layer_range(probe_map, third) for third in thirds]
    )
    return observations + ([Observation("layers", shape)] if shape else [])


def _compare_positions(probe_map: CellMap, first: str, second: str) -> Difference:
    """Compare two groups of positions on the answers that have all of them; other answers may be easier."""
    trailing = [p for p in probe_map.positions if _TRAILING.fullmatch(p)]
    with_auc = {p for p in probe_map.positions if bool(probe_map.auc.sel(position=p).notnull().any())}
    groups = [[p for p in _GROUPS.get(name, trailing) if p in with_auc] for name in (first, second)]
    if not all(groups):
        return _NOT_COMPARED
    data = probe_map.data.sel(position=[*groups[0], *groups[1]])
    has_score = ~np.isnan(data["scores"].values).any(axis=0)  # (answer, layer, position)
    rows = (has_score | np.isnan(data["auc"].values)).all(axis=(1, 2))
    correct = rows & data["correct"].values.astype(bool)
    if min(correct.sum(), rows.sum() - correct.sum()) < MIN_PER_CLASS:
        return _NOT_COMPARED
    return CellMap(data.isel(answer=rows)).compare_columns(*groups)


def _shape_over_layers(comparisons: Sequence[_Comparison], significant: Sequence[bool], ranges: Sequence[str]) -> str:
    """Return a sentence about how the AUC changes over the layers; empty if no difference is significant.

    Parameters
    ----------
    comparisons : late against early, middle against early, middle against late.
    significant : for each comparison.
    ranges : the early, middle and late layers.
    """
    late_early, middle_early, middle_late = comparisons
    up = [s and c.difference.value > 0 for s, c in zip(significant, comparisons, strict=True)]
    down = [s and c.difference.value < 0 for s, c in zip(significant, comparisons, strict=True)]
    early, middle, late = ranges
    if up[1] and up[2]:
        return (
            f"Over the layers, the AUC is highest in the middle, {middle}: {middle_early.numbers} above {early}, "
            f"{middle_late.numbers} above {late}."
        )
    if down[1] and down[2]:
        return (
            f"Over the layers, the AUC is U-shaped, lowest in {middle}: {middle_early.numbers} below {early}, "
            f"{middle_late.numbers} below {late}."
        )
    if up[0] and up[1] and not significant[2]:
        return (
            f"The AUC rises over the layers up to {middle}, {middle_early.numbers} above {early}; between {middle} and "
            f"{late} no difference is significant."
        )
    if down[0] and up[2] and not significant[1]:
        return (
            f"The AUC falls over the layers after {middle}, {middle_late.numbers} above {late}; between {early} and "
            f"{middle} no difference is significant."
        )
    if up[0]:
        return f"The AUC rises over the layers: it is higher in {late} than in {early}, {late_early.numbers}."
    if down[0]:
        return f"The AUC falls over the layers: it is higher in {early} than in {late}, {late_early.numbers}."
    for k, neighbour, comparison in ((1, early, middle_early), (2, late, middle_late)):
        if significant[k]:
            high, low = (middle, neighbour) if up[k] else (neighbour, middle)
            return f"The AUC is higher in {high} than in {low}: {comparison.numbers}."
    return ""


def _holm(p: Sequence[float]) -> list[bool]:
    """Return which tests are rejected with family-wise error rate 1 - `LEVEL`; NaN p-values are ignored."""
    tests = [k for k in np.argsort(p) if p[k] == p[k]]
    rejected = [False] * len(p)
    for rank, k in enumerate(tests):
        if p[k] > (1 - LEVEL) / (len(tests) - rank):
            break
        rejected[k] = True
    return rejected


def _gain(probe_map: CellMap) -> list[Observation]:
    """Return whether any cell is better than the best baseline of its column, all cells considered at once."""
    data = probe_map.data
    if "gain" not in data or bool(data["gain"].isnull().all()):
        return []
    n_cells, above = int(data["gain"].notnull().sum()), np.asarray(data["gain_band_low"] > 0)
    if above.any():
        columns = np.array(probe_map.positions)[above.any(axis=0)]
        subject = (
            "cells is better than the best baseline of its"
            if above.sum() == 1
            else ("cells are better than the best baseline of their")
        )
        text = f"{above.sum()} of {n_cells} {subject} column, all cells "
        return [Observation("baselines", f"{text}considered at once: at {_names(columns)}.")]
    highest = float(data["baseline_auc"].max())
    number, column = np.unravel_index(int(np.nanargmax(data["baseline_auc"].values)), data["baseline_auc"].shape)
    return [
        Observation(
            "baselines",
            "No cell is better than the best baseline of its column, all cells considered at once; the best baseline "
            f"is {data['baseline'].values[number]}, AUC {highest:.2f} at {probe_map.positions[column]}.",
        )
    ]


def _small_columns(probe_map: CellMap) -> list[Observation]:
    """Return the columns with few answers, and those with too few for an estimate."""
    data, observations = probe_map.data, []
    n, n_correct = data["n"].values, data["n_right"].values
    empty = np.isnan(probe_map.auc.values).all(axis=0)
    few = ~empty & (np.minimum(n_correct, n - n_correct) < FEW)
    positions = np.array(probe_map.positions)
    if few.any():
        counts = list(zip(n_correct[few].tolist(), (n - n_correct)[few].tolist(), strict=True))
        by_count: dict[tuple[int, int], list[str]] = {}
        for position, count in zip(positions[few], counts, strict=True):
            by_count.setdefault(count, []).append(position)
        columns = ", ".join(
            f"{_names(names)} ({correct} correct, {incorrect} incorrect)"
            for (correct, incorrect), names in by_count.items()
        )
        observations.append(Observation("few", f"Fewer than {FEW} correct or incorrect answers: {columns}."))
    if empty.any():
        observations.append(Observation("few", f"Too few answers for an estimate: {_names(positions[empty])}."))
    return observations


def _layer_range(probe_map: CellMap, cells: Bools) -> str:
    """Return ``layer 3`` or ``layers 3 to 7``, from the first layer with such a cell to the last."""
    layers = np.array(probe_map.layers)[cells.any(axis=1)]
    if not len(layers):
        return ""
    return f"layer {layers[0]}" if len(layers) == 1 else f"layers {layers[0]} to {layers[-1]}"


def _names(positions: Sequence[str] | npt.NDArray[np.str_]) -> str:
    """Return ``a, b and c``; runs of trailing tokens as ``-8 to -5``."""
    names: list[str] = []
    for _, run in groupby(enumerate(positions), key=lambda pair: _run_key(str(pair[1]), pair[0])):
        members = [str(name) for _, name in run]
        names += [f"{members[0]} to {members[-1]}"] if len(members) > 2 else members
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _run_key(name: str, index: int) -> int | str:
    """Return the same key for neighbours in one run of trailing tokens; for other positions the name."""
    return int(name) - index if _TRAILING.fullmatch(name) else name
