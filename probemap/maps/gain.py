"""Add baselines to a map, and compute the gain of each cell over them.

In each column, the baselines are evaluated on the same answers as the cells.  The gain of a cell is its AUC minus the
AUC of the best baseline in its column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from probemap.maps.added_value import added_value
from probemap.maps.column_baselines import ColumnBaseline, combine_baselines, fit_baseline
from probemap.probing.auc import LEVEL, Bools, Floats, Ints, auc_interval
from probemap.probing.cells import cell_aucs, cell_variables, evaluated_rows
from probemap.probing.inference import sum_by_group
from probemap.probing.inputs import Column, elements
from probemap.records import MapError

if TYPE_CHECKING:
    from probemap.maps.probe_map import ProbeMap
    from probemap.probing.baselines import Baseline

_BASELINE_VARIABLES = ("baseline_auc", "baseline_low", "baseline_high")


def with_baselines(probe_map: ProbeMap, baselines: Sequence[Baseline], ids: Column) -> ProbeMap:
    """Add baselines to a map, and compute the gain of each cell over the best baseline in its column.

    In each column, a separate probe is fitted to each baseline.  It uses the same answers and folds as the cells of the
    column.  A baseline that has no value for one of the evaluated answers is skipped in that column.  The best baseline
    of a column is the one with the highest AUC.  Because it is selected and evaluated on the same answers, its AUC is
    biased upwards, and the gain is therefore biased downwards.

    Parameters
    ----------
    probe_map : ProbeMap
    baselines : sequence of Baseline
    ids : array-like of shape (n,)
        Ids of the answers, in the same order as the values of the baselines.  This order may differ from the order in
        the map.

    Returns
    -------
    ProbeMap
        The map with the additional variables ``baseline_auc``, ``best_baseline`` and ``gain``, with confidence
        intervals for the AUCs and gains, and with the scores of the best baselines; see ``ProbeMap.data``.

    Raises
    ------
    MapError
        If an answer in the map is not in `ids`, or if a baseline does not have one value per id.

    Examples
    --------
    >>> import numpy as np
    >>> import probemap
    >>> from probemap.probing.baselines import Baseline
    >>> rng = np.random.default_rng(0)
    >>> correct = rng.random(200) < 0.5
    >>> states = rng.normal(size=(200, 2, 1, 8)).astype(np.float32)
    >>> states[:, 1, 0, 0] += 2 * correct
    >>> ids = [f"q{i}" for i in range(200)]
    >>> probe_map = probemap.fit_map(states, correct, positions=["last_q"], ids=ids)
    >>> length = Baseline("answer_length", "number of tokens", rng.integers(1, 20, size=200))
    >>> probe_map = probemap.with_baselines(probe_map, [length], ids)
    >>> bool(probe_map.data["gain"].sel(layer=1, position="last_q") > 0.3)
    True
    """
    data = probe_map.data.drop_dims("baseline", errors="ignore")
    rows = _rows_of_answers(data, baselines, ids)
    columns = _fit_columns(data, baselines, rows)
    variables = {**_best_baselines(data, columns), **_baseline_table(data, columns, len(baselines))}
    variables |= cell_variables("gain", *_gain(data, columns), int(data.attrs["seed"]))
    references = {k: column.reference for k, column in enumerate(columns) if column and column.reference}
    if references:
        names, aucs = np.full(len(columns), "", object), np.full(len(columns), np.nan)
        for k, reference in references.items():
            names[k], aucs[k] = reference.name, reference.value
        variables |= {"reference": (("position",), names), "reference_auc": (("position",), aucs)}
        variables |= added_value(data, references)
    names_of_baselines = np.array([baseline.name for baseline in baselines], object)
    return replace(probe_map, data=data.assign(variables).assign_coords(baseline=names_of_baselines))


@dataclass(frozen=True)
class _Column:
    """The baselines of one column."""

    fitted: Sequence[ColumnBaseline | None]
    """One entry per baseline, which is None if the baseline cannot be evaluated in the column."""
    reference: ColumnBaseline | None
    """The best baseline, or all baselines together if their regression has a higher AUC.  None if the map has no inner
    folds, which are required to combine scores."""

    @property
    def best(self) -> ColumnBaseline:
        """The baseline with the highest AUC."""
        return max((item for item in self.fitted if item), key=lambda item: item.value)


def _fit_columns(data: xr.Dataset, baselines: Sequence[Baseline], rows: Ints) -> list[_Column | None]:
    """Return the baselines of each column, or None for a column without any."""
    evaluated = evaluated_rows(data["scores"].values)
    columns: list[_Column | None] = []
    cache: dict[bytes, _Column | None] = {}  # columns with the same answers share their baselines
    for k in range(evaluated.shape[1]):
        present = data["present"].values[:, k]
        key = present.tobytes() + evaluated[:, k].tobytes()
        if key not in cache:
            cache[key] = _fit_column(data, baselines, rows, present, evaluated[:, k])
        columns.append(cache[key])
    return columns


def _fit_column(
    data: xr.Dataset, baselines: Sequence[Baseline], rows: Ints, present: Bools, evaluated: Bools
) -> _Column | None:
    if not evaluated.any():
        return None
    fitted = [fit_baseline(data, baseline, rows, present, evaluated) for baseline in baselines]
    usable = [item for item in fitted if item is not None]
    if not usable:
        return None
    column = _Column(fitted, None)
    if "fold_scores" not in data:
        return column
    candidates = [column.best]
    if len(usable) > 1:
        candidates.append(combine_baselines(usable, data["outer_fold"].values.tolist()))
    return replace(column, reference=max(candidates, key=lambda item: item.value))


def _best_baselines(data: xr.Dataset, columns: Sequence[_Column | None]) -> dict[str, Any]:
    """Return the name, the scores and the variance inflation of the best baseline in each column."""
    names, inflation = np.full(len(columns), "", object), np.full(len(columns), np.nan)
    scores = np.full((*data["fold"].shape, len(columns)), np.nan, np.float32)
    for k, column in enumerate(columns):
        if column is not None:
            names[k], inflation[k] = column.best.name, column.best.variance_inflation
            scores[..., k] = column.best.scores
    return {
        "best_baseline": (("position",), names),
        "best_baseline_scores": (("repeat", "answer", "position"), scores),
        "best_baseline_inflation": (("position",), inflation),
    }


def _baseline_table(data: xr.Dataset, columns: Sequence[_Column | None], n_baselines: int) -> dict[str, Any]:
    """Return the AUC of each baseline in each column, with its confidence interval."""
    groups, correct = data["group"].values.astype(np.int64), data["correct"].values.astype(bool)
    table = np.full((3, n_baselines, len(columns)), np.nan)
    for k, column in enumerate(columns):
        for row, item in enumerate(column.fitted if column else ()):
            if item is not None:
                rows = ~np.isnan(item.scores[0])
                n_correct = int(correct[rows].sum())
                variance = (1 + item.variance_inflation) * float((sum_by_group(item.auc.influence, groups) ** 2).sum())
                interval = auc_interval(item.value, variance, n_correct, int(rows.sum()) - n_correct, LEVEL)
                table[:, row, k] = item.value, *interval
    return {name: (("baseline", "position"), table[k]) for k, name in enumerate(_BASELINE_VARIABLES)}


def _gain(data: xr.Dataset, columns: Sequence[_Column | None]) -> tuple[Floats, Floats]:
    """Return the gain of each cell over the best baseline of its column, and its influences summed by group."""
    auc, influence = cell_aucs(data)
    shape = data["auc"].shape
    gain, influence = auc.reshape(shape), influence.reshape(-1, *shape)
    for k, column in enumerate(columns):
        if column is None:
            gain[:, k], influence[:, :, k] = np.nan, 0
            continue
        best = column.best
        gain[:, k] -= best.value
        has_auc = ~np.isnan(gain[:, k])
        influence[:, has_auc, k] -= best.auc.influence * np.sqrt(1 + best.variance_inflation)
    summed = sum_by_group(influence.reshape(len(influence), -1), data["group"].values.astype(np.int64))
    return gain, summed.reshape(-1, *shape)


def _rows_of_answers(data: xr.Dataset, baselines: Sequence[Baseline], ids: Column) -> Ints:
    """For each answer in the map, return its index in `ids`, which is also the index of its value in each baseline."""
    names = [str(name) for name in elements(ids, "ids")]
    for baseline in baselines:
        if len(baseline.values) != len(names):
            raise MapError(
                f"{baseline.name} has {len(baseline.values)} values for {len(names)} ids", "give one value per id"
            )
    row_of = {name: row for row, name in enumerate(names)}
    answers = [str(name) for name in data["answer"].values]
    if missing := [name for name in answers if name not in row_of]:
        raise MapError(
            f"the baselines have no value for the answer {missing[0]!r}", "give one value per answer in the map"
        )
    return np.array([row_of[name] for name in answers])
