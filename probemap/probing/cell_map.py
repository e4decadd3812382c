"""One AUC per (layer, position) cell, and the statistics that are computed from the scores of all cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import xarray as xr

from probemap.probing.auc import LEVEL, Bools, Floats
from probemap.probing.cells import CELL_DIMS, cell_aucs
from probemap.probing.dataset import AUC_VARIABLES
from probemap.probing.inference import (
    Difference,
    confidence_set,
    estimate_difference,
    simultaneous_quantile,
    sum_by_group,
)
from probemap.probing.inputs import Column, elements, parse_mask
from probemap.probing.nested import NestedBest, NestedScores, nested_best, nested_scores
from probemap.records import MapError

_COMPARISONS = tuple(
    f"{name}{end}" for name in ("gain", "adds", "absorbed", "catch", "selectivity") for end in ("", "_low", "_high")
)
"""Variables of the comparisons with the baselines and the control task that `CellMap.to_frame` includes."""
_WITHIN_VARIABLES = ("auc_within", "auc_within_low", "auc_within_high")
_COUNT_VARIABLES = ("n", "n_right")


@dataclass(frozen=True)
class Cell:
    """One cell of a map."""

    layer: int
    position: str
    auc: float
    low: float
    """Lower end of the 95 % confidence interval."""
    high: float
    """Upper end of the 95 % confidence interval."""
    n: int
    """Number of evaluated answers."""


@dataclass(frozen=True)
class CellMap:
    """A map with one AUC per (layer, position) cell, and the scores from which the AUCs are computed.

    The subclass `maps.probe_map.ProbeMap` adds plotting, an HTML report, and saving and loading.
    """

    data: xr.Dataset
    """The values in the map and the scores from which they are computed.

    Variables with the dimensions (layer, position), float64, with NaN where there are too few answers:

    - ``auc``: the AUC;
    - ``low``, ``high``: the 95 % confidence interval of the AUC;
    - ``band_low``, ``band_high``: the 95 % confidence band of the AUCs, which is simultaneous over all cells;
    - ``c``: the median of the C values that were selected for the outer folds;
    - ``converged``, bool: whether all probes of the cell converged;
    - ``variance_inflation``: see `variance.variance_inflation`;
    - ``activation_norm``: the mean norm of the states;
    - ``activation_norm_low``, ``activation_norm_high``: the 95 % confidence interval of this mean;
    - ``activation_norm_difference``: the mean norm for correct answers minus that for incorrect answers, in standard
      deviations;
    - ``activation_norm_difference_low``, ``activation_norm_difference_high``: the 95 % confidence interval of this
      difference.

    Variables with the dimension (position):

    - ``n``: the number of evaluated answers or, in a column without AUCs, of the answers with a token at the position;
    - ``n_right``: the number of correct answers among them.

    Scores, labels and folds:

    - ``scores`` (repeat, answer, layer, position), float32: out-of-fold scores, with NaN where a score is missing;
    - ``correct`` and ``group`` (answer): the label and the group of each answer;
    - ``present`` (answer, position): whether the answer has a token at the position, even if it is not evaluated;
    - ``fold`` (repeat, answer): the fold of each answer;
    - ``inner_auc`` (repeat, outer_fold, layer, position): the AUC over the inner folds of each outer fold;
    - ``fold_scores`` (repeat, outer_fold, answer, layer, position), float32: for each outer fold, the score of each
      answer from the probe that was fitted without this fold and without the answer's own fold;
    - ``permutation_null`` (permutation): the highest AUC in the whole map for each permutation of the labels.

    If the map was fitted with identities:

    - ``control_auc`` (layer, position): the mean AUC for the label sets of the control task;
    - ``selectivity`` (layer, position): ``auc`` minus ``control_auc``, with an interval, a band and p-values, named
      like those of the gain below.

    If the map has baselines:

    - ``baseline_auc`` (baseline, position): the AUC of each baseline;
    - ``baseline_low``, ``baseline_high`` (baseline, position): the 95 % confidence interval of this AUC;
    - ``best_baseline`` (position): the name of the best baseline;
    - ``best_baseline_scores`` (repeat, answer, position), float32: its out-of-fold scores, with NaN where a score is
      missing;
    - ``best_baseline_inflation`` (position): its variance inflation;
    - ``gain`` (layer, position): the gain over the best baseline;
    - ``gain_low``, ``gain_high`` (layer, position): the 95 % confidence interval of the gain;
    - ``gain_band_low``, ``gain_band_high`` (layer, position): the 95 % confidence band of the gains;
    - ``gain_p`` (layer, position): the p-value of the hypothesis that the gain is not above 0, corrected for the number
      of cells.

    If the map has baselines and inner folds:

    - ``reference`` (position): the name of the best baseline, or ``all baselines together``;
    - ``reference_auc`` (position): the AUC of the reference;
    - ``adds``, ``absorbed`` and ``catch`` (layer, position): the comparisons with the reference (see
      `maps.added_value`), with intervals, bands and p-values named like those of the gain.

    If the map has covariates (see `maps.strata.with_strata`):

    - ``auc_within`` (covariate, layer, position): the AUC within strata of the covariate;
    - ``auc_within_low``, ``auc_within_high`` (covariate, layer, position): its 95 % confidence interval;
    - ``auc_within_band_low``, ``auc_within_band_high`` (covariate, layer, position): the 95 % confidence band over all
      cells, for one covariate;
    - ``n_strata`` (covariate): the number of strata.

    The dictionary ``attrs`` contains the options that were passed to `fit_map` and the origin of the answers."""

    @property
    def auc(self) -> xr.DataArray:
        """AUC of each cell, with the dimensions (layer, position)."""
        return self.data["auc"]

    @property
    def layers(self) -> list[int]:
        """Numbers of the layers."""
        return [int(layer) for layer in self.data["layer"].values]

    @property
    def positions(self) -> list[str]:
        """Names of the positions."""
        return [str(position) for position in self.data["position"].values]

    def only(self, positions: Column) -> Self:
        """Return the map restricted to some of its columns.

        Parameters
        ----------
        positions : sequence of str
            Names of the positions to keep, in the order of the columns of the new map.

        Raises
        ------
        MapError
            If the map lacks one of the positions, or if none of these columns contains an AUC.
        """
        names = [str(name) for name in elements(positions, "positions")]
        if missing := [name for name in names if name not in self.positions]:
            raise MapError(
                f"the map has no column {', '.join(missing)}", f"its columns are {', '.join(self.positions)}"
            )
        selection = replace(self, data=self.data.sel(position=names))
        if bool(selection.auc.isnull().all()):
            raise MapError(
                f"the columns {', '.join(names)} have too few answers to compute an AUC", "choose other columns"
            )
        return selection

    def cell(self, layer: int, position: str) -> Cell:
        """Return one cell."""
        data = self.data.sel(layer=layer, position=position)
        return Cell(
            layer=layer,
            position=position,
            auc=float(data.auc),
            low=float(data.low),
            high=float(data.high),
            n=int(data.n),
        )

    def best(self, count: int = 1) -> list[Cell]:
        """Return the cells with the highest AUCs in descending order; ties are ordered by layer, then by position.

        The highest of many AUCs is biased upwards by up to a few hundredths, because the cell is selected and evaluated
        on the same answers.  `nested_best` gives an estimate without this bias.

        Parameters
        ----------
        count : int, default=1
            Number of cells to return.
        """
        flat = self.auc.values.ravel()
        ranked = [i for i in np.argsort(-flat, kind="stable") if not np.isnan(flat[i])]
        n_positions = len(self.positions)
        return [self.cell(self.layers[i // n_positions], self.positions[i % n_positions]) for i in ranked[:count]]

    def nested_best(self) -> NestedBest | None:
        """Return the AUC of the best cell, evaluated on answers that were not used to select it.

        The estimate is obtained by nested cross-validation (Varma & Simon 2006, BMC Bioinformatics 7:91).  For each
        outer fold, the cell with the highest AUC on all other answers is selected, and the answers of the fold are
        scored by this cell.  The AUCs used for selection are computed over inner folds.  Held-out answers are
        treated as a single outer fold.  Only answers in the same outer fold are compared with each other.

        The confidence interval is based on DeLong's variance, which is increased to account for the variance inflation
        of the selected cells and for the selection itself (see `inference.selection_coupling`).  The increase for the
        selection is computed under the assumption that all cells in the `confidence_set` are equally good.

        Returns
        -------
        NestedBest or None
            The estimate, or None if the map was fitted with ``nested=False`` or if no outer fold contains both classes.
        """
        return self._nested_best

    def nested_scores(self) -> NestedScores | None:
        """Return the scores that `nested_best` evaluates, or None if the map was fitted with ``nested=False``.

        If the map is restricted to some columns (see `only`), the best cell is selected from these columns.
        """
        return nested_scores(self.data, self._confidence_set) if self.has_nested else None

    @property
    def has_nested(self) -> bool:
        """Whether the map was fitted with inner folds."""
        return "inner_auc" in self.data and not bool(self.data["inner_auc"].isnull().all())

    @property
    def above_chance(self) -> xr.DataArray:
        """Boolean mask of the cells whose 95 % simultaneous band lies entirely above 0.5."""
        return self.data["band_low"] > 0.5

    def confidence_set(self, level: float = LEVEL) -> xr.DataArray:
        """Return a boolean mask of the cells that may be the best, with the dimensions (layer, position).

        With probability `level`, the set contains the cell that is truly the best; see `inference.confidence_set`.
        """
        cells = self._confidence_set if level == LEVEL else self._confidence_set_at(level)
        return self.auc.copy(data=cells.reshape(self.auc.shape)).astype(bool)

    def compare(self, cell: tuple[int, str], reference: tuple[int, str]) -> Difference:
        """Return the AUC of a cell minus that of a reference cell; both cells are given as (layer, position).

        Each cell is evaluated on the answers that have a token at its position.  These answers are largely the same in
        all columns, and exactly the same if the map was fitted with ``common_rows=True``.
        """
        value, influence = self._joint
        a, b = (self._number(*labels) for labels in (cell, reference))
        return estimate_difference(float(value[a] - value[b]), influence[:, a] - influence[:, b])

    def compare_columns(self, columns: Sequence[str], reference: Sequence[str]) -> Difference:
        """Return the mean AUC of some columns minus that of reference columns, averaged over all layers."""
        names = np.array(self.positions)
        masks = [np.broadcast_to(np.isin(names, list(group)), self.auc.shape) for group in (columns, reference)]
        return self.compare_groups(*masks)

    def compare_groups(self, cells: npt.ArrayLike, reference: npt.ArrayLike) -> Difference:
        """Return the mean AUC of some cells minus the mean AUC of reference cells.

        Parameters
        ----------
        cells, reference : array-like of shape (n_layers, n_positions), bool
            Masks of the two groups of cells.  Cells without an AUC are ignored.

        Returns
        -------
        Difference
            The difference.  All values are NaN if one of the groups contains no cell with an AUC.
        """
        value, influence = self._joint
        has_value = ~np.isnan(value)
        weight = np.zeros(len(value))
        for mask, sign in ((cells, 1.0), (reference, -1.0)):
            group = parse_mask(mask, self.auc.shape, "a group of cells").ravel() & has_value
            if not group.any():
                return Difference(*[float("nan")] * 4)
            weight[group] += sign / group.sum()
        return estimate_difference(float(np.nansum(value * weight)), influence @ weight)

    def difference(self, subtrahend: CellMap) -> xr.Dataset:
        """Return the AUCs of this map minus those of another map of the same answers.

        Only the answers that both maps contain are used.  For maps of different answers or labels, see
        `difference.difference`.

        Returns
        -------
        xarray.Dataset
            For the (layer, position) cells that both maps contain: ``difference``, its 95 % confidence interval
            (``low``, ``high``), its p-value (``p``), and its 95 % simultaneous band over all cells (``band_low``,
            ``band_high``).  For each position: the number of answers (``n``).

        Raises
        ------
        MapError
            If the maps have no answers or no cells in common, or if an answer has different labels in the two maps.
        """
        _, rows_a, rows_b = np.intersect1d(
            self.data["answer"].values, subtrahend.data["answer"].values, return_indices=True
        )
        layers = [layer for layer in self.layers if layer in subtrahend.layers]
        positions = [position for position in self.positions if position in subtrahend.positions]
        if not len(rows_a) or not layers or not positions:
            raise MapError("the maps have no answers or no cells in common", "compare maps of the same questions")
        data_a = self.data.isel(answer=rows_a).sel(layer=layers, position=positions)
        data_b = subtrahend.data.isel(answer=rows_b).sel(layer=layers, position=positions)
        if not np.array_equal(data_a["correct"].values, data_b["correct"].values):
            raise MapError(
                "the same answers have different labels in the two maps",
                "compare maps of the same answers and verdicts, or use probemap.difference",
            )
        usable = ~(data_a["scores"].isnull().any("repeat") | data_b["scores"].isnull().any("repeat")).values
        (auc_a, influence_a), (auc_b, influence_b) = (cell_aucs(data, usable) for data in (data_a, data_b))
        value, influence = auc_a - auc_b, sum_by_group(influence_a - influence_b, data_a["group"].values)
        cells = [estimate_difference(v, i) for v, i in zip(value, influence.T, strict=True)]
        half = simultaneous_quantile(influence, LEVEL, int(self.data.attrs["seed"])) * np.sqrt((influence**2).sum(0))
        columns = {
            "difference": value,
            "low": np.array([cell.low for cell in cells]),
            "high": np.array([cell.high for cell in cells]),
            "p": np.array([cell.p for cell in cells]),
            "band_low": value - half,
            "band_high": value + half,
        }
        shape = (len(layers), len(positions))
        variables = {name: (CELL_DIMS, values.reshape(shape)) for name, values in columns.items()}
        counts = usable.any(axis=1).sum(axis=0)
        return xr.Dataset(variables | {"n": (("position",), counts)}, coords={"layer": layers, "position": positions})

    def to_frame(self) -> Any:
        """Return a `pandas.DataFrame` with one row per cell.

        The columns are layer, position, auc, low, high, band_low, band_high, n and n_right.  If the map contains
        comparisons with baselines (gain, adds, absorbed and catch) or with the control task (selectivity), these values
        and their 95 % confidence intervals are inserted before n.  For each covariate, the AUC within strata and its
        interval follow at the end.
        """
        names = [*AUC_VARIABLES, *(name for name in _COMPARISONS if name in self.data), *_COUNT_VARIABLES]
        frame = self.data[names].to_dataframe(dim_order=["layer", "position"]).reset_index()
        for covariate in self.data["covariate"].values if "auc_within" in self.data else ():
            for name in _WITHIN_VARIABLES:
                frame[f"{name}_{covariate}"] = self.data[name].sel(covariate=covariate).values.ravel()
                names.append(f"{name}_{covariate}")
        return frame[["layer", "position", *names]]

    @cached_property
    def _joint(self) -> tuple[Floats, Floats]:
        """AUCs of shape (n_cells,) and influences of shape (n_groups, n_cells), with the cells in row-major order."""
        value, influence = cell_aucs(self.data)
        return value, sum_by_group(influence, self.data["group"].values.astype(np.int64))

    @cached_property
    def _nested_best(self) -> NestedBest | None:
        return nested_best(self.data, self._confidence_set) if self.has_nested else None

    @cached_property
    def _confidence_set(self) -> Bools:
        """Confidence set of the best cell at the default level, as an array of shape (n_cells,).

        It is cached because computing it takes seconds.
        """
        return self._confidence_set_at(LEVEL)

    def _confidence_set_at(self, level: float) -> Bools:
        return confidence_set(*self._joint, level, int(self.data.attrs["seed"]))

    def _number(self, layer: int, position: str) -> int:
        return self.layers.index(layer) * len(self.positions) + self.positions.index(position)
