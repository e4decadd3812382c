"""What a reader of the map would write down: its values as a table, and observations that a test supports.

Nothing is said of a map in which no cell is better than chance, all cells considered at once.  In others the
comparisons of groups of cells are tested together (Holm 1979, Scand. J. Statist. 6:65), so that with probability 95 %
none of those that are stated has the wrong sign.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt

from probemap.probing.auc import LEVEL, Bools, Difference
from probemap.probing.cell_map import CellMap
from probemap.probing.cell_scores import MIN_PER_CLASS

FEW = 50
"""Right or wrong answers below which a column is said to rest on few."""

_GROUPS = {
    "the end of the question": ("last_q",),
    "the exact answer's tokens": ("exact_answer_first", "exact_answer_last"),
    "the token before the exact answer": ("exact_answer_before_first",),
    "the token after the exact answer": ("exact_answer_after_last",),
}
"""Groups of positions that are compared; one that is not among them is that of the trailing tokens."""

_NOT_COMPARED = Difference(*[float("nan")] * 4)

_TRAILING = re.compile(r"-\d+")

_PAIRS = (
    ("the exact answer's tokens", "the end of the question"),
    ("the exact answer's tokens", "the trailing tokens"),
    ("the token after the exact answer", "the token before the exact answer"),
)


@dataclass(frozen=True)
class Observation:
    """One sentence, and what it is about."""

    about: str
    """``protocol``, ``nothing``, ``chance``, ``onset``, ``peak``, ``positions``, ``layers``, ``few``, ``baselines``."""
    text: str


@dataclass(frozen=True)
class Description:
    """A map in words."""

    layers: list[int]
    """Every second layer of the map."""
    rows: list[tuple[str, int, list[float]]]
    """(position, n, AUC at each of `layers`); NaN where there are too few answers to say."""
    observations: list[Observation]


def describe(probe_map: CellMap) -> Description:
    """The values of every position at every second layer, and what can be said of them."""
    rows = [
        (position, int(n), [float(v) for v in column])
        for position, n, column in zip(
            probe_map.positions, probe_map.data["n"].values, probe_map.auc.values[::2].T, strict=True
        )
    ]
    return Description(probe_map.layers[::2], rows, observe(probe_map))


def observe(probe_map: CellMap) -> list[Observation]:
    """What can be said of a map, each sentence with its numbers."""
    few = _few(probe_map)
    label = str(probe_map.data.attrs.get("protocol", ""))
    first = [Observation("protocol", f"{label[0].upper()}{label[1:]}.")] if label else []
    if not probe_map.best():
        return [*first, *few]
    above = probe_map.above_chance.values
    if not above.any():
        return [*first, _nothing(probe_map), *few]
    return [
        *first,
        *_chance(probe_map, above),
        _peak(probe_map),
        *_comparisons(probe_map, above),
        *_baselines(probe_map),
        *few,
    ]


def _nothing(probe_map: CellMap) -> Observation:
    known = int(probe_map.auc.notnull().sum())
    (best,) = probe_map.best()
    at = probe_map.data.sel(layer=best.layer, position=best.position)
    return Observation(
        "nothing",
        f"There is nothing to see: of {known} cells none is better than chance once all are considered.  The highest, "
        f"layer {best.layer} at {best.position}, has {best.auc:.2f}, but a band that holds all cells at once goes "
        f"there from {float(at['band_low']):.2f} to {float(at['band_high']):.2f}.",
    )


def _chance(probe_map: CellMap, above: Bools) -> list[Observation]:
    known = probe_map.auc.notnull().values
    layers, positions = np.array(probe_map.layers), np.array(probe_map.positions)
    columns = positions[above.any(0)]
    are = "cell is" if above.sum() == 1 == known.sum() else "cells is" if above.sum() == 1 else "cells are"
    text = f"{above.sum()} of {known.sum()} {are} better than chance, all cells considered at once"
    if above.any(0).all():
        text += "; every position has such cells."
    else:
        without = positions[~above.any(0) & known.any(0)]
        text += f": at {_names(columns)}" + (f"; none at {_names(without)}." if len(without) else ".")
    first = layers[above.argmax(0)]
    earliest = first[above.any(0)].min()
    there = positions[above.any(0) & (first == earliest)]
    onset = f"The signal is first found in layer {earliest}, at {_names(there)}"
    for layer in np.unique(first[above.any(0)])[1:]:
        onset += f"; in layer {layer} at {_names(positions[above.any(0) & (first == layer)])}"
    return [Observation("chance", text), Observation("onset", onset + ".")]


def _peak(probe_map: CellMap) -> Observation:
    (best,) = probe_map.best()
    equal = probe_map.confidence_set()
    count = int(equal.sum())
    text = (
        f"The highest cell is layer {best.layer} at {best.position}, {best.auc:.2f} [{best.low:.2f}, {best.high:.2f}], "
        "an optimum"
    )
    if honest := probe_map.nested_best():
        text += (
            f"; the best cell, chosen on some answers and judged on others, is worth {honest.auc:.2f} "
            f"[{honest.low:.2f}, {honest.high:.2f}]"
        )
    if count == 1:
        known = int(probe_map.auc.notnull().sum())
        return Observation("peak", text + (".  No other cell may be the best." if known > 1 else "."))
    columns = [p for p, any_ in zip(probe_map.positions, equal.any("layer").values, strict=True) if any_]
    return Observation(
        "peak",
        f"{text}.  {count} cells may be the best, the first and the last of them in {_span(probe_map, equal.values)}; "
        f"some of them at {_names(columns)}.",
    )


@dataclass(frozen=True)
class _Comparison:
    """One group of cells against another."""

    one: str
    other: str
    made: Difference

    @property
    def numbers(self) -> str:
        """The size of the difference, and its interval, as a distance of the larger from the smaller."""
        value, low, high = self.made.value, self.made.low, self.made.high
        return f"{value:+.3f} [{low:+.3f}, {high:+.3f}]" if value > 0 else f"{-value:+.3f} [{-high:+.3f}, {-low:+.3f}]"

    @property
    def text(self) -> str:
        one, other = (self.one, self.other) if self.made.value > 0 else (self.other, self.one)
        return f"More is known at {one} than at {other}: {self.numbers} over the layers, on answers that have both."


def _comparisons(probe_map: CellMap, above: Bools) -> list[Observation]:
    columns = [_Comparison(one, other, _of_columns(probe_map, one, other)) for one, other in _PAIRS]
    # Which positions hold a signal says nothing about which of their layers hold more.
    there = above.any(axis=0)
    thirds = [np.isin(np.arange(len(above)), part)[:, None] & there for part in np.array_split(range(len(above)), 3)]
    early, middle, late = thirds
    rows = [
        _Comparison("", "", probe_map.compare_groups(one, other))
        for one, other in ((late, early), (middle, early), (middle, late))
    ]
    sure = _holm([c.made.p for c in columns + rows])
    said = [Observation("positions", c.text) for c, s in zip(columns, sure, strict=False) if s]
    shape = _shape(rows, sure[len(columns) :], [_span(probe_map, third) for third in thirds])
    return said + ([Observation("layers", shape)] if shape else [])


def _of_columns(probe_map: CellMap, one: str, other: str) -> Difference:
    """On the answers that have all of these positions: other answers may be easier ones."""
    trailing = [p for p in probe_map.positions if _TRAILING.fullmatch(p)]
    has = {p for p in probe_map.positions if bool(probe_map.auc.sel(position=p).notnull().any())}
    groups = [[p for p in _GROUPS.get(name, trailing) if p in has] for name in (one, other)]
    if not all(groups):
        return _NOT_COMPARED
    data = probe_map.data.sel(position=[*groups[0], *groups[1]])
    there = ~np.isnan(data["scores"].values).any(axis=0)  # (answer, layer, position)
    rows = (there | np.isnan(data["auc"].values)).all(axis=(1, 2))
    right = rows & data["correct"].values.astype(bool)
    if min(right.sum(), rows.sum() - right.sum()) < MIN_PER_CLASS:
        return _NOT_COMPARED
    return CellMap(data.isel(answer=rows)).compare_columns(*groups)


def _shape(rows: Sequence[_Comparison], sure: Sequence[bool], spans: Sequence[str]) -> str:
    """How the signal goes along the layers; empty if nothing is sure."""
    late, middle, fall = rows
    up = [s and c.made.value > 0 for s, c in zip(sure, rows, strict=True)]
    down = [s and c.made.value < 0 for s, c in zip(sure, rows, strict=True)]
    if up[1] and up[2]:
        return (
            f"Along the layers the signal is strongest in the middle, {spans[1]}: {middle.numbers} above {spans[0]}, "
            f"{fall.numbers} above {spans[2]}."
        )
    if down[1] and down[2]:
        return (
            f"Along the layers the signal is U-shaped, weakest in {spans[1]}: {middle.numbers} below {spans[0]}, "
            f"{fall.numbers} below {spans[2]}."
        )
    if up[0] and up[1] and not sure[2]:
        return (
            f"The signal grows along the layers up to {spans[1]}, {middle.numbers} above {spans[0]}; from there to "
            f"{spans[2]} no difference is sure."
        )
    if down[0] and up[2] and not sure[1]:
        return (
            f"The signal fades along the layers from {spans[1]} on, where it is {fall.numbers} above {spans[2]}; from "
            f"{spans[0]} to there no difference is sure."
        )
    if up[0]:
        return f"The signal grows along the layers: more is known in {spans[2]} than in {spans[0]}, {late.numbers}."
    if down[0]:
        return f"The signal fades along the layers: more is known in {spans[0]} than in {spans[2]}, {late.numbers}."
    for k, other, comparison in ((1, 0, middle), (2, 2, fall)):
        if sure[k]:
            more, less = (1, other) if up[k] else (other, 1)
            return f"More is known in {spans[more]} than in {spans[less]}: {comparison.numbers}."
    return ""


def _holm(p: Sequence[float]) -> list[bool]:
    """Which tests are rejected so that with probability `LEVEL` none is wrongly; NaN is no test."""
    known = [k for k in np.argsort(p) if p[k] == p[k]]
    rejected = [False] * len(p)
    for rank, k in enumerate(known):
        if p[k] > (1 - LEVEL) / (len(known) - rank):
            break
        rejected[k] = True
    return rejected


def _baselines(probe_map: CellMap) -> list[Observation]:
    """Whether the map beats what needs no hidden states, all cells considered at once."""
    data = probe_map.data
    if "gain" not in data or bool(data["gain"].isnull().all()):
        return []
    known, above = data["gain"].notnull().values, np.asarray(data["gain_band_low"] > 0)
    if above.any():
        columns = np.array(probe_map.positions)[above.any(axis=0)]
        know = "knows" if above.sum() == 1 else "know"
        text = f"{above.sum()} of {known.sum()} cells {know} more than the best baseline of their column, all cells "
        return [Observation("baselines", f"{text}considered at once: at {_names(columns)}.")]
    best = float(data["baseline_auc"].max())
    which, column = np.unravel_index(int(np.nanargmax(data["baseline_auc"].values)), data["baseline_auc"].shape)
    return [
        Observation(
            "baselines",
            "No cell is sure to know more than the best baseline of its column, all cells considered at once; the best "
            f"baseline is {data['baseline'].values[which]}, {best:.2f} at {probe_map.positions[column]}.",
        )
    ]


def _few(probe_map: CellMap) -> list[Observation]:
    """Columns that rest on few answers, or on too few for a map."""
    data, made = probe_map.data, []
    n, right = data["n"].values, data["n_right"].values
    empty = np.isnan(probe_map.auc.values).all(axis=0)
    few = ~empty & (np.minimum(right, n - right) < FEW)
    positions = np.array(probe_map.positions)
    if few.any():
        counts = list(zip(right[few].tolist(), (n - right)[few].tolist(), strict=True))
        same = {c: [p for p, d in zip(positions[few], counts, strict=True) if c == d] for c in counts}
        parts = ", ".join(f"{_names(names)} ({r} right, {w} wrong)" for (r, w), names in same.items())
        made.append(Observation("few", f"Fewer than {FEW} answers of one kind stand behind {parts}."))
    if empty.any():
        made.append(Observation("few", f"Too few answers to say anything at {_names(positions[empty])}."))
    return made


def _span(probe_map: CellMap, cells: Bools) -> str:
    layers = np.array(probe_map.layers)[cells.any(axis=1)]
    if not len(layers):
        return ""
    return f"layer {layers[0]}" if len(layers) == 1 else f"layers {layers[0]} to {layers[-1]}"


def _names(positions: Sequence[str] | npt.NDArray[np.str_]) -> str:
    """``a, b and c``; runs of trailing tokens as ``-8 to -5``."""
    names: list[str] = []
    for _, part in groupby(enumerate(positions), key=lambda pair: _trailing(str(pair[1]), pair[0])):
        run = [str(name) for _, name in part]
        names += [f"{run[0]} to {run[-1]}"] if len(run) > 2 else run
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _trailing(name: str, at: int) -> int | str:
    """The same for neighbours of one run of trailing tokens; else the name."""
    return int(name) - at if _TRAILING.fullmatch(name) else name
