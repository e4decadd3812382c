"""One AUC per (layer, position) cell, and the statistics computed from the scores of all cells."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import xarray as xr

from probemap.probing.auc import (
    LEVEL,
    Bools,
    Difference,
    Floats,
    by_group,
    confidence_set,
    difference,
    simultaneous_quantile,
)
from probemap.probing.cells import NestedBest, NestedScores, cell_aucs, nested, nested_best
from probemap.probing.inputs import Column, elements, parse_mask
from probemap.records import MapError

_VALUES = ("auc", "low", "high", "band_low", "band_high")
_COUNTS = ("n", "n_right")


@dataclass(frozen=True)
class Cell:
    """One cell of a map."""

    layer: int
    position: str
    auc: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class CellMap:
    """One AUC per cell, labelled by layer and position, with the scores from which it is computed.

    `maps.probe_map.ProbeMap` adds figures, the HTML report and files.
    """

    data: xr.Dataset
    """``auc``; ``low``, ``high`` (95 % interval of the cell); ``band_low``, ``band_high`` (95 % for all cells at once):
    over (layer, position), float64, NaN where there are too few answers to say.  ``n``, ``n_right`` over (position):
    the answers that are judged (of a column with too few: that have the position), and the right ones.  ``c``: the
    median strength chosen; ``converged``; ``noise``: by which part the variance of placement values is too small, see
    `probe.noise_share`.

    ``scores`` (repeat, answer, layer, position) float32, out of fold, NaN where missing; ``correct``, ``group``
    (answer); ``present`` (answer, position), also where an answer is not judged; ``fold`` (repeat, answer).  ``inner``
    (repeat, part, layer, position): the AUC inside the training rows of each part.  ``floor`` (shuffle): the highest
    AUC of the whole map under each shuffling of the labels.

    ``activation_norm``, ``activation_norm_low``, ``activation_norm_high`` (layer, position): the mean norm of the
    states, in their units, with its interval; ``activation_norm_difference`` and its interval: correct minus incorrect
    answers, in standard deviations.

    With baselines: ``baseline_auc``, ``baseline_low``, ``baseline_high`` (baseline, position); ``gain``, its interval
    and its band, as of the AUC (layer, position); ``best_baseline`` (position).  ``attrs``: where it comes from."""

    @property
    def auc(self) -> xr.DataArray:
        return self.data["auc"]

    @property
    def layers(self) -> list[int]:
        return [int(layer) for layer in self.data["layer"].values]

    @property
    def positions(self) -> list[str]:
        return [str(position) for position in self.data["position"].values]

    def only(self, positions: Column) -> Self:
        """The map with these columns alone, in this order.

        Raises
        ------
        MapError: it has no such column, or no value in any of them.
        """
        positions = elements(positions, "positions")
        if lacking := [p for p in positions if p not in self.positions]:
            raise MapError(f"the map has no column {', '.join(lacking)}", f"it has {', '.join(self.positions)}")
        part = type(self)(self.data.sel(position=list(positions)))
        if bool(part.auc.isnull().all()):
            raise MapError(f"too few answers to say anything at {', '.join(positions)}", "choose other columns as well")
        return part

    def cell(self, layer: int, position: str) -> Cell:
        """One cell by its labels."""
        at = self.data.sel(layer=layer, position=position)
        return Cell(layer, position, float(at.auc), float(at.low), float(at.high), int(at.n))

    def best(self, count: int = 1) -> list[Cell]:
        """The cells with the highest AUC, highest first; ties by layer, then position.

        The highest of many cells is an optimum, not an estimate: chosen and measured on the same answers, it
        is too high by up to a few hundredths.  `nested_best` is the estimate.
        """
        flat = self.auc.values.ravel()
        known = [i for i in np.argsort(-flat, kind="stable") if not np.isnan(flat[i])]
        width = len(self.positions)
        return [self.cell(self.layers[i // width], self.positions[i % width]) for i in known[:count]]

    def nested_best(self) -> NestedBest | None:
        """What the best cell is worth on answers that did not choose it; None if the map was made without.

        Each part of the answers (a fold, or those held out) is judged by the cell that was best on all others, best by
        folds inside them (nested cross-validation; Varma & Simon 2006, BMC Bioinformatics 7:91).  Only answers of one
        part are compared with each other.  The interval's variance is DeLong's, and more: for the noise share of the
        chosen cells, and for the choosing (`stats.choice_coupling`), as if all cells of `confidence_set` were equal.
        """
        return self._honest

    def nested_scores(self) -> NestedScores | None:
        """The scores that `nested_best` judges; None if the map was made without.

        Of a map of some columns (`only`), the best cell among these.
        """
        return nested(self.data, self._stays) if self.has_nested else None

    @property
    def has_nested(self) -> bool:
        """Whether the map was made with folds inside folds."""
        return "inner_auc" in self.data and not bool(self.data["inner_auc"].isnull().all())

    def confidence_set(self, level: float = LEVEL) -> xr.DataArray:
        """Which cells may be the best, (layer, position) bool: holds the truly best one with probability `level`."""
        stays = self._stays if level == LEVEL else self._which_stay(level)
        return self.auc.copy(data=stays.reshape(self.auc.shape)).astype(bool)

    def compare(self, one: tuple[int, str], other: tuple[int, str]) -> Difference:
        """AUC of cell `one` minus that of `other`, (layer, position) each.

        Each on the answers of its own column, which largely are the same: ``common_rows`` makes them so.
        """
        value, influence = self._joint
        a, b = (self._number(*cell) for cell in (one, other))
        return difference(float(value[a] - value[b]), influence[:, a] - influence[:, b])

    def compare_columns(self, one: Sequence[str], other: Sequence[str]) -> Difference:
        """Mean AUC of the columns `one` minus that of the columns `other`, over all layers."""
        columns = np.array(self.positions)
        masks = [np.broadcast_to(np.isin(columns, list(names)), self.auc.shape) for names in (one, other)]
        return self.compare_groups(*masks)

    def compare_groups(self, one: Bools, other: Bools) -> Difference:
        """Mean AUC of the cells `one` minus that of the cells `other`, (n_layers, n_positions) bool each.

        Cells with too few answers to say count in neither; NaN if a group has no others.
        """
        value, influence = self._joint
        known = ~np.isnan(value)
        weight = np.zeros(len(value))
        for mask, sign in ((one, 1.0), (other, -1.0)):
            cells = parse_mask(mask, self.auc.shape, "a group of cells").ravel() & known
            if not cells.any():
                return Difference(*[float("nan")] * 4)
            weight[cells] += sign / cells.sum()
        return difference(float(np.nansum(value * weight)), influence @ weight)

    def difference(self, other: "CellMap") -> xr.Dataset:
        """This map minus another of the same answers, cell by cell, on the answers that both have.

        Returns
        -------
        ``difference``, ``low``, ``high``, ``p`` over the (layer, position) that both have; ``band_low``, ``band_high``
        hold all cells at once; ``n`` over (position).

        Raises
        ------
        MapError: no answers, or no cells, in common; or the answers carry other verdicts.
        """
        ids, mine, theirs = np.intersect1d(self.data["answer"].values, other.data["answer"].values, return_indices=True)
        layers = [layer for layer in self.layers if layer in other.layers]
        positions = [p for p in self.positions if p in other.positions]
        if not len(ids) or not layers or not positions:
            raise MapError("the maps have no answers or no cells in common", "compare maps of the same questions")
        one = self.data.isel(answer=mine).sel(layer=layers, position=positions)
        two = other.data.isel(answer=theirs).sel(layer=layers, position=positions)
        if not np.array_equal(one["correct"].values, two["correct"].values):
            raise MapError(
                "the same answers carry other verdicts in the two maps",
                "compare maps of one run's answers and verdicts",
            )
        both = ~(one["scores"].isnull().any("repeat") | two["scores"].isnull().any("repeat")).values
        (a, infl_a), (b, infl_b) = (cell_aucs(part, both) for part in (one, two))
        groups = one["group"].values
        value, influence = a - b, by_group(infl_a - infl_b, groups)
        rows = [difference(v, i) for v, i in zip(value, influence.T, strict=True)]
        half = simultaneous_quantile(influence, LEVEL, int(self.data.attrs["seed"])) * np.sqrt((influence**2).sum(0))
        shape = (len(layers), len(positions))
        columns = {
            "difference": value,
            "low": np.array([r.low for r in rows]),
            "high": np.array([r.high for r in rows]),
            "p": np.array([r.p for r in rows]),
            "band_low": value - half,
            "band_high": value + half,
        }
        data = {name: (("layer", "position"), values.reshape(shape)) for name, values in columns.items()}
        counts = both.any(axis=1).sum(axis=0)
        return xr.Dataset(data | {"n": (("position",), counts)}, coords={"layer": layers, "position": positions})

    def to_frame(self) -> Any:
        """A pandas.DataFrame, one row per cell: layer, position, auc, its interval and band, n, n_right, and the gain
        over the best baseline where there are baselines."""
        names = [*_VALUES, *(name for name in ("gain", "gain_low", "gain_high") if name in self.data), *_COUNTS]
        frame = self.data[names].to_dataframe(dim_order=["layer", "position"]).reset_index()
        return frame[["layer", "position", *names]]

    @property
    def above_chance(self) -> "xr.DataArray":
        """(layer, position) bool: better than chance, all cells considered at once (the band lies above 0.5)."""
        return self.data["band_low"] > 0.5

    @cached_property
    def _groups(self) -> npt.NDArray[np.int64]:
        return self.data["group"].values.astype(np.int64)

    @cached_property
    def _joint(self) -> tuple[Floats, Floats]:
        """AUCs (cells,) and influences (groups, cells), cells in the order of ``auc.ravel()``."""
        value, influence = cell_aucs(self.data)
        return value, by_group(influence, self._groups)

    @cached_property
    def _honest(self) -> NestedBest | None:
        return nested_best(self.data, self._stays) if self.has_nested else None

    @cached_property
    def _stays(self) -> Bools:
        """(cells,) of `confidence_set` at `LEVEL`: seconds of work that picture and terminal share."""
        return self._which_stay(LEVEL)

    def _which_stay(self, level: float) -> Bools:
        return confidence_set(*self._joint, level, int(self.data.attrs["seed"]))

    def _number(self, layer: int, position: str) -> int:
        return self.layers.index(layer) * len(self.positions) + self.positions.index(position)
