"""Summarise maps in a table of AUCs and in observations supported by statistical tests.

If no cell is better than chance according to the simultaneous band over all cells, no further tests are reported.
Otherwise, groups of cells are compared with each other, and cells with the baselines.  All of these tests together are
corrected for multiple testing (Holm 1979, Scand. J. Statist. 6:65) so that, with a probability of at least 95 %, no
reported comparison has the wrong sign.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from probemap.probing.auc import LEVEL, MIN_PER_CLASS, Bools
from probemap.probing.inference import Difference, holm
from probemap.views.baseline_words import added_observations, control_observations, gain_observations
from probemap.views.observations import TRAILING, Observation, position_names

if TYPE_CHECKING:
    from probemap.probing.cell_map import CellMap

FEW = 50
"""Columns with fewer than this many correct or incorrect answers are listed in the summary."""

_GROUPS = {
    "the end of the prompt": ("last_q",),
    "the exact answer's tokens": ("exact_answer_first", "exact_answer_last"),
    "the token before the exact answer": ("exact_answer_before_first",),
    "the token after the exact answer": ("exact_answer_after_last",),
}
"""Mapping from the name of each group of positions to its positions.  A further group, "the trailing tokens", contains
all positions ``-1``, ``-2``, …."""

_NOT_COMPARED = Difference(*[float("nan")] * 4)

_PAIRS = (
    ("the exact answer's tokens", "the end of the prompt"),
    ("the exact answer's tokens", "the trailing tokens"),
    ("the token after the exact answer", "the token before the exact answer"),
)
"""Pairs of groups of positions to compare."""


@dataclass(frozen=True)
class Description:
    """Summary of a map."""

    layers: list[int]
    """Every other layer in the map."""
    rows: list[tuple[str, int, list[float]]]
    """Rows of the table, as tuples of a position, its `n`, and its AUCs at `layers`.  The AUC is NaN for cells with too
    few answers."""
    observations: list[Observation]


def describe(probe_map: CellMap) -> Description:
    """Summarise a map.

    Parameters
    ----------
    probe_map : CellMap

    Returns
    -------
    Description
        The AUCs for all positions at every other layer, and the observations.
    """
    rows = [
        (position, int(n), [float(v) for v in column])
        for position, n, column in zip(
            probe_map.positions, probe_map.data["n"].values, probe_map.auc.values[::2].T, strict=True
        )
    ]
    return Description(probe_map.layers[::2], rows, observe(probe_map))


def observe(probe_map: CellMap) -> list[Observation]:
    """Return the observations about a map, each with the numbers on which it is based.

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
        *_tested(probe_map, above),
        *small,
    ]


def _no_signal(probe_map: CellMap) -> Observation:
    n_cells = int(probe_map.auc.notnull().sum())
    (best,) = probe_map.best()
    cell = probe_map.data.sel(layer=best.layer, position=best.position)
    return Observation(
        "nothing",
        f"None of {n_cells} cells is better than chance (simultaneous 95 % band).  The highest AUC, at layer "
        f"{best.layer}, {best.position}, is {best.auc:.2f}, but its simultaneous 95 % band is "
        f"[{float(cell['band_low']):.2f}, {float(cell['band_high']):.2f}].",
    )


def _better_than_chance(probe_map: CellMap, above: Bools) -> list[Observation]:
    """Report the cells that are better than chance and, for each position, the first layer that contains such a
    cell."""
    has_auc = probe_map.auc.notnull().values
    layers, positions = np.array(probe_map.layers), np.array(probe_map.positions)
    n_above, n_cells = int(above.sum()), int(has_auc.sum())
    verb = "cell is" if n_above == 1 == n_cells else "cells is" if n_above == 1 else "cells are"
    text = f"{n_above} of {n_cells} {verb} better than chance (simultaneous 95 % band)"
    with_signal = above.any(axis=0)
    if with_signal.all():
        text += ".  Every position has such cells."
    else:
        without = positions[~with_signal & has_auc.any(axis=0)]
        text += f", at {position_names(positions[with_signal])}" + (
            f"; none at {position_names(without)}." if len(without) else "."
        )
    first_layer = layers[above.argmax(axis=0)]
    onsets = []
    for k, layer in enumerate(np.unique(first_layer[with_signal])):
        start = "The signal first appears in layer" if k == 0 else "in layer"
        onsets.append(f"{start} {layer} at {position_names(positions[with_signal & (first_layer == layer)])}")
    return [Observation("chance", text), Observation("onset", "; ".join(onsets) + ".")]


def _best_cell(probe_map: CellMap) -> Observation:
    (best,) = probe_map.best()
    confidence_set = probe_map.confidence_set()
    count = int(confidence_set.sum())
    text = (
        f"The highest AUC is {best.auc:.2f} [{best.low:.2f}, {best.high:.2f}], at layer {best.layer}, "
        f"{best.position}; as the maximum over many cells, it is biased upwards"
    )
    if nested := probe_map.nested_best():
        text += f".  The nested-CV estimate of the best cell is {nested.auc:.2f} [{nested.low:.2f}, {nested.high:.2f}]"
    if count == 1:
        n_cells = int(probe_map.auc.notnull().sum())
        return Observation(
            "peak", text + (".  All other cells are distinguishable from the best cell." if n_cells > 1 else ".")
        )
    in_set = confidence_set.any("layer").values
    columns = [position for position, is_in_set in zip(probe_map.positions, in_set, strict=True) if is_in_set]
    return Observation(
        "peak",
        f"{text}.  {count} cells are not distinguishable from the best cell, in "
        f"{_layer_range(probe_map, confidence_set.values)}, at {position_names(columns)}.",
    )


@dataclass(frozen=True)
class _Comparison:
    """Difference between the mean AUCs of two groups of cells."""

    first: str
    second: str
    difference: Difference

    @property
    def numbers(self) -> str:
        """The larger mean minus the smaller mean, with the interval of this difference."""
        value, low, high = self.difference.value, self.difference.low, self.difference.high
        return f"{value:+.3f} [{low:+.3f}, {high:+.3f}]" if value > 0 else f"{-value:+.3f} [{-high:+.3f}, {-low:+.3f}]"

    @property
    def text(self) -> str:
        """A sentence that states which group of positions has the higher AUC."""
        high, low = (self.first, self.second) if self.difference.value > 0 else (self.second, self.first)
        return (
            f"The AUC is higher at {high} than at {low}: {self.numbers}, averaged over the layers, on answers that "
            "have both."
        )


def _tested(probe_map: CellMap, above: Bools) -> list[Observation]:
    """Compare groups of positions, thirds of the layers, and cells with baselines.

    The family-wise error rate is controlled over all of these tests.
    """
    positions = [_Comparison(first, second, _compare_positions(probe_map, first, second)) for first, second in _PAIRS]
    # Thirds of the layers are compared only at positions with a signal; other positions would dilute the differences.
    with_signal = above.any(axis=0)
    thirds = [
        np.isin(np.arange(len(above)), layers)[:, None] & with_signal for layers in np.array_split(range(len(above)), 3)
    ]
    early, middle, late = thirds
    layers = [
        _Comparison("", "", probe_map.compare_groups(first, second))
        for first, second in ((late, early), (middle, early), (middle, late))
    ]
    p = [comparison.difference.p for comparison in positions + layers]
    # The p-values of cells are already corrected for the number of cells, so each map of p-values is one more test.
    tested = [name for name in ("gain", "adds", "selectivity") if f"{name}_p" in probe_map.data]
    grids = [probe_map.data[f"{name}_p"].values for name in tested]
    p += [float(np.nanmin(grid, initial=1.0)) for grid in grids]
    significant = [value <= 1 - LEVEL for value in holm(p)]
    n_positions, n_cells = len(positions), len(p) - len(grids)
    of_cells = {}
    for name, grid, smallest, is_significant in zip(tested, grids, p[n_cells:], significant[n_cells:], strict=True):
        # Holm's limit for the smallest p-value of the map applies to all of its cells.
        n_remaining = sum(value >= smallest for value in p)
        of_cells[name] = is_significant & (grid * n_remaining <= 1 - LEVEL)
    observations = [
        Observation("positions", comparison.text)
        for comparison, is_significant in zip(positions, significant[:n_positions], strict=True)
        if is_significant
    ]
    ranges = [_layer_range(probe_map, third) for third in thirds]
    shape = _shape_over_layers(layers, significant[n_positions:n_cells], ranges)
    if shape:
        observations.append(Observation("layers", shape))
    describers = {"gain": gain_observations, "adds": added_observations, "selectivity": control_observations}
    for name in tested:
        observations += describers[name](probe_map, of_cells[name])
    return observations


def _compare_positions(probe_map: CellMap, first: str, second: str) -> Difference:
    """Compare two groups of positions, using only the answers that have all positions in both groups.

    Answers that lack some of the positions may be easier or harder to classify, which would bias the comparison.
    """
    trailing = [p for p in probe_map.positions if TRAILING.fullmatch(p)]
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
    return replace(probe_map, data=data.isel(answer=rows)).compare_columns(*groups)


def _shape_over_layers(comparisons: Sequence[_Comparison], significant: Sequence[bool], ranges: Sequence[str]) -> str:
    """Return a sentence that describes how the AUC changes over the layers, or "" if no difference is significant.

    Parameters
    ----------
    comparisons : sequence of _Comparison
        The differences late minus early, middle minus early, and middle minus late, in this order.
    significant : sequence of bool
        Whether each comparison is significant.
    ranges : sequence of str
        Names of the early, middle and late layers.
    """
    late_early, middle_early, middle_late = comparisons
    up = [s and c.difference.value > 0 for s, c in zip(significant, comparisons, strict=True)]
    down = [s and c.difference.value < 0 for s, c in zip(significant, comparisons, strict=True)]
    early, middle, late = ranges
    if up[1] and up[2]:
        return (
            f"Over the layers, the AUC is highest in the middle, {middle}: {middle_early.numbers} compared with "
            f"{early} and {middle_late.numbers} compared with {late}."
        )
    if down[1] and down[2]:
        return (
            f"Over the layers, the AUC is U-shaped, lowest in {middle}: it is higher in {early}, "
            f"{middle_early.numbers}, and in {late}, {middle_late.numbers}."
        )
    if up[0] and up[1] and not significant[2]:
        return (
            f"The AUC rises over the layers up to {middle}: it is higher there than in {early}, "
            f"{middle_early.numbers}.  The difference between {middle} and {late} is not significant."
        )
    if down[0] and up[2] and not significant[1]:
        return (
            f"The AUC falls over the layers after {middle}: it is higher there than in {late}, "
            f"{middle_late.numbers}.  The difference between {early} and {middle} is not significant."
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


def _small_columns(probe_map: CellMap) -> list[Observation]:
    """Report the columns with few answers, and the columns with too few answers for an estimate."""
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
            f"{position_names(names)} ({correct} correct, {incorrect} incorrect)"
            for (correct, incorrect), names in by_count.items()
        )
        observations.append(
            Observation("few", f"Positions with fewer than {FEW} correct or incorrect answers: {columns}.")
        )
    if empty.any():
        observations.append(
            Observation("few", f"Positions with too few answers for an estimate: {position_names(positions[empty])}.")
        )
    return observations


def _layer_range(probe_map: CellMap, cells: Bools) -> str:
    """Return the range of layers that contain a selected cell, for example ``layer 3`` or ``layers 3 to 7``."""
    layers = np.array(probe_map.layers)[cells.any(axis=1)]
    if not len(layers):
        return ""
    return f"layer {layers[0]}" if len(layers) == 1 else f"layers {layers[0]} to {layers[-1]}"
