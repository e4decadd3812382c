"""Evaluate baselines on the answers of one column of a map, with the folds of its cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import xarray as xr

from probemap.probing.auc import Aucs, Bools, Floats, Ints, aucs, expand_rows
from probemap.probing.baselines import Baseline, baseline_scores
from probemap.probing.plan import ProbePlan, scores_without_fold
from probemap.probing.stacking import stacked_scores
from probemap.probing.variance import variance_inflation

ALL_BASELINES = "all baselines together"
"""Name of the regression on the scores of all baselines."""


@dataclass(frozen=True)
class ColumnBaseline:
    """The scores of a baseline, or of several baselines together, for the answers of one column."""

    name: str
    scores: Floats
    """ndarray of shape (n_repeats, n), float64: out-of-fold scores, with NaN for answers that are not evaluated."""
    features: Floats
    """ndarray of shape (n_repeats, n_outer_folds, n, p), float64: the scores that are combined with those of a cell;
    see `stacking.stacked_scores`.  NaN for answers without the position.  Empty if the map has no inner folds."""
    variance_inflation: float
    """See `variance.variance_inflation`."""
    correct: Bools
    """ndarray of shape (n,)."""
    fold: Ints
    """ndarray of shape (n_repeats, n)."""

    @cached_property
    def auc(self) -> Aucs:
        """The AUC, averaged over repeats, and the influence of each answer, without variance inflation."""
        return mean_aucs(self.scores[:, :, None], self.correct, self.fold)

    @property
    def value(self) -> float:
        """The AUC, averaged over repeats."""
        return float(self.auc.value[0])


def mean_aucs(scores: Floats, correct: Bools, strata: Ints) -> Aucs:
    """Return the AUCs of m scores, averaged over repeats, and the influence of each answer.

    Parameters
    ----------
    scores : ndarray of shape (n_repeats, n, m), float64
        Scores, with NaN for answers that are not evaluated.
    correct : ndarray of shape (n,), bool
    strata : ndarray of shape (n_repeats, n), int
        Only answers in the same stratum are compared.
    """
    rows = ~np.isnan(scores[0, :, 0])
    repeats = [aucs(score[rows], correct[rows], stratum[rows]) for score, stratum in zip(scores, strata, strict=True)]
    influences = [expand_rows(repeat.influence, rows) for repeat in repeats]
    return Aucs(np.mean([repeat.value for repeat in repeats], axis=0), np.mean(influences, axis=0))


def fit_baseline(
    data: xr.Dataset, baseline: Baseline, rows: Ints, present: Bools, evaluated: Bools
) -> ColumnBaseline | None:
    """Fit a baseline to the answers of a column, for the training sets of its cells.

    Parameters
    ----------
    data : xarray.Dataset
        The data set of a map.
    baseline : Baseline
    rows : ndarray of shape (n,), int
        For each answer in the map, the index of its value in ``baseline.values``.
    present, evaluated : ndarray of shape (n,), bool
        Two masks: the answers that have the column's position, and the answers on which the column is evaluated.

    Returns
    -------
    ColumnBaseline or None
        The scores, or None if an evaluated answer has no value, if a training set contains too few answers of one
        class, or if no fold contains both classes.
    """
    has_value = baseline.present[rows]
    if (evaluated & ~has_value).any():
        return None
    usable = np.flatnonzero(present & has_value)
    column_baseline = baseline.at(rows[usable])
    correct, folds = data["correct"].values.astype(bool), data["fold"].values.astype(np.int64)
    nested, labels = "inner_auc" in data, correct[usable]
    scores, features, inflations = np.full(folds.shape, np.nan), [], []
    for repeat, fold in enumerate(folds[:, usable]):
        plan = ProbePlan(fold, nested=nested)
        training = np.stack([~np.isin(fold, list(excluded)) for excluded in plan.excluded_folds])
        by_set = baseline_scores(column_baseline, labels, training)
        if np.isnan(by_set).any():
            return None
        outer_folds = plan.outer_folds
        no_choice = np.zeros(len(outer_folds), np.int64)
        inflations.append(variance_inflation(by_set[:, None], plan, fold=fold, correct=labels, choice=no_choice))
        in_outer = np.isin(fold, outer_folds)
        scores[repeat, usable[in_outer]] = by_set[
            np.searchsorted(outer_folds, fold[in_outer]), np.flatnonzero(in_outer)
        ]
        feature = np.full((len(outer_folds), len(rows)), np.nan)
        for k, outer_fold in enumerate(outer_folds if nested else ()):
            feature[k, usable] = scores_without_fold(by_set, plan, fold, outer_fold)
        features.append(feature)
    if not (scores == scores).any():
        return None
    fitted = ColumnBaseline(
        name=baseline.name,
        scores=scores,
        features=np.stack(features)[..., None] if nested else np.empty(0),
        variance_inflation=float(np.mean(inflations)),
        correct=correct,
        fold=folds,
    )
    return None if np.isnan(fitted.value) else fitted


def combine_baselines(baselines: Sequence[ColumnBaseline], outer_folds: Sequence[int]) -> ColumnBaseline:
    """Return a regression on the scores of several baselines in the same column."""
    first = baselines[0]
    features = np.concatenate([baseline.features for baseline in baselines], axis=-1)
    rows = ~np.isnan(features).any(axis=(0, 1, 3))
    scores = np.full(first.scores.shape, np.nan)
    for repeat, fold in enumerate(first.fold):
        stacked = stacked_scores(features[None, repeat][:, :, rows], first.correct[rows], fold[rows], outer_folds)
        scores[repeat, rows] = stacked[0]
    return replace(
        first,
        name=ALL_BASELINES,
        scores=scores,
        features=features,
        variance_inflation=max(baseline.variance_inflation for baseline in baselines),
    )
