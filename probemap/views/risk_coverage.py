"""Compute risk-coverage curves of the cells of a map and of the best baseline of each column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from probemap.probing.fold_ranking import FoldRanking
from probemap.probing.resampling import question_copies

if TYPE_CHECKING:
    from probemap.probing.auc import Floats, Ints
    from probemap.probing.cell_map import CellMap
    from probemap.tables import Interval

COVERAGES = np.arange(1, 21) / 20
"""Shares of accepted answers at which risk-coverage curves are evaluated."""

RESAMPLES = 200
"""Number of bootstrap resamples of the questions."""


@dataclass(frozen=True, kw_only=True)
class RiskCoverage:
    """The errors among the answers with the highest out-of-fold scores, and metrics of this ranking."""

    risk: Floats
    """ndarray of shape (3, 20), float64: the share of incorrect answers among the accepted ones at each of `COVERAGES`,
    and the lower and upper ends of its pointwise 95 % confidence interval."""
    aurc: Interval
    excess_aurc: Interval
    prr: Interval


def cell_risks(probe_map: CellMap) -> list[list[RiskCoverage | None]]:
    """Return the risk-coverage curve of every cell, indexed by layer, then by position.

    It is None for cells with too few answers.
    """
    data, copies = probe_map.data, _copies(probe_map)
    scores, has_auc = data["scores"].values, data["auc"].notnull().values
    factor = 1 + np.nan_to_num(data["variance_inflation"].values)
    n_layers, n_positions = has_auc.shape

    def risk(i: int, j: int) -> RiskCoverage | None:
        return _risk_coverage(probe_map, scores[:, :, i, j], copies, float(factor[i, j])) if has_auc[i, j] else None

    return [[risk(i, j) for j in range(n_positions)] for i in range(n_layers)]


def baseline_risks(probe_map: CellMap) -> list[RiskCoverage | None]:
    """Return the risk-coverage curve of the best baseline of each column.

    It is None for columns without baselines, and for all columns of a map without the scores of its baselines.
    """
    data = probe_map.data
    if "best_baseline_scores" not in data:
        return [None] * len(probe_map.positions)
    copies = _copies(probe_map)
    scores, factor = data["best_baseline_scores"].values, 1 + data["best_baseline_inflation"].values
    return [
        _risk_coverage(probe_map, scores[..., j], copies, float(factor[j])) if str(name) else None
        for j, name in enumerate(data["best_baseline"].values)
    ]


def _copies(probe_map: CellMap) -> Ints:
    data = probe_map.data
    numbers = np.unique(data["group"].values, return_inverse=True)[1]
    correct = data["correct"].values.astype(bool)
    return question_copies(numbers, correct, resamples=RESAMPLES, seed=int(data.attrs["seed"]))


def _risk_coverage(probe_map: CellMap, scores: Floats, copies: Ints, factor: float) -> RiskCoverage:
    """Return the curve for scores of shape (n_repeats, n), with NaN for answers that are not evaluated."""
    data, rows = probe_map.data, ~np.isnan(scores).any(axis=0)
    correct, fold = data["correct"].values.astype(bool)[rows], data["fold"].values[:, rows]
    ranking = FoldRanking.of_scores(scores[:, rows], correct, fold, copies[rows], variance_factor=factor)
    return RiskCoverage(
        risk=ranking.risk_at(COVERAGES),
        aurc=ranking.aurc,
        excess_aurc=ranking.excess_aurc,
        prr=ranking.prr,
    )
