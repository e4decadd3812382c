"""Fit the probes of several cells, and compute their out-of-fold scores.

The default probe is an L2-regularised logistic regression on standardised states, with the scaling learned from the
training rows.  The probes for all folds, C values and label sets of a cell are fitted together.  Alternatively, any
scikit-learn classifier with a ``decision_function`` method can be used; it is fitted once per training set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sklearn.base import clone
from threadpoolctl import threadpool_limits

from probemap.probing.auc import MIN_PER_CLASS, Bools, Floats, Ints, auc_values
from probemap.probing.logistic.solver import DesignMatrices
from probemap.probing.plan import scores_without_fold
from probemap.probing.random_labels import have_both_classes, label_set_aucs
from probemap.probing.variance import variance_inflation

if TYPE_CHECKING:
    from probemap.probing.plan import ProbePlan


@dataclass(frozen=True, kw_only=True)
class CellScores:
    """Results of one cell."""

    scores: npt.NDArray[np.float32]
    """ndarray of shape (n,): decision value of each answer, from the probe that was fitted without the answer's fold.
    A higher value indicates that the answer is more likely to be correct.  NaN where the position is missing or the
    answer is not evaluated."""
    fold_scores: npt.NDArray[np.float32]
    """ndarray of shape (n_outer_folds, n): for each outer fold, the score of each answer from the probe that was fitted
    without this fold and without the answer's own fold; see `plan.scores_without_fold`.  NaN where the position is
    missing, and everywhere if there are no inner folds."""
    inner_auc: Floats
    """ndarray of shape (n_outer_folds,): AUC over the inner folds of each outer fold, or NaN if there are no
    inner folds."""
    c: Floats
    """ndarray of shape (n_outer_folds,): C value selected for each outer fold."""
    variance_inflation: float
    """Share of the variance in the scores that is due to errors in the probe; see `variance.variance_inflation`."""
    converged: bool
    label_set_auc: Floats
    """ndarray of shape (n_label_sets,): AUC for each set of random labels."""


def score_cells(
    states: npt.NDArray[np.float32], correct: Bools, plan: ProbePlan, label_sets: Bools
) -> list[CellScores] | None:
    """Fit and evaluate the probes of several cells whose positions are present in the same answers.

    Parameters
    ----------
    states : ndarray of shape (n_cells, n, d), float32
        Hidden states.  For answers that lack the positions, all values are NaN; these are the same answers in all
        cells.  All other values are finite.
    correct : ndarray of shape (n,), bool
    plan : ProbePlan
    label_sets : ndarray of shape (n_label_sets, n), bool
        Random labels for the permutation null distribution or the control task.  The array may be empty.

    Returns
    -------
    list of CellScores, or None
        The results of each cell, or None if a class has fewer than `MIN_PER_CLASS` answers or if a training set lacks a
        class.
    """
    present = ~np.isnan(states[0, :, 0])
    labels, fold = correct[present], plan.fold[present]
    excluded = plan.excluded_folds
    training = np.stack([~np.isin(fold, list(folds)) for folds in excluded])
    if min(labels.sum(), (~labels).sum()) < MIN_PER_CLASS:
        return None
    if not ((training & labels).any(1) & (training & ~labels).any(1)).all():
        return None
    x = states if present.all() else np.ascontiguousarray(states[:, present])
    if plan.probe is not None:
        values, ok = zip(*(_fit_classifier(cell, labels, training, plan.probe) for cell in x), strict=True)
        cells = _cell_scores(np.stack(values)[:, :, None], ok, plan, present, labels)
        return [replace(cell, label_set_auc=np.full(len(label_sets), np.nan)) for cell in cells]
    designs = DesignMatrices(x, training, plan.device)
    return _fit_logistic_probes(designs, plan, present, labels, label_sets[:, present])


def _fit_logistic_probes(
    designs: DesignMatrices, plan: ProbePlan, present: Bools, labels: Bools, label_sets: Bools
) -> list[CellScores]:
    """Fit the default probe to the actual and the random labels, which are those of the rows that are present."""
    fold, n_cells, n_sets = plan.fold[present], len(designs.x), len(plan.excluded_folds)
    n_c, n_folds = len(plan.c_values), len(plan.outer_folds)
    usable = np.flatnonzero(have_both_classes(label_sets, designs.training[:n_folds].cpu().numpy()))
    all_labels = np.concatenate([labels[None], label_sets[usable]])
    # The problems: the number of the label set, where 0 stands for the actual labels, and that of the training set.
    actual = np.stack([np.zeros(n_sets * n_c, np.int64), np.repeat(np.arange(n_sets), n_c)])
    random = np.stack([1 + np.repeat(np.arange(len(usable)), n_folds), np.tile(np.arange(n_folds), len(usable))])
    if n_c == 1:  # In the same batch as the actual labels, random labels take about half the time.
        actual = np.hstack([actual, random])
    fits = designs.fit(all_labels, actual[0], actual[1], np.tile(plan.c_values, (n_cells, actual.shape[1] // n_c)))
    scores = fits.scores[:, : n_sets * n_c].reshape(n_cells, n_sets, n_c, -1).cpu().numpy()
    cells = _cell_scores(scores, fits.converged[:, : n_sets * n_c].all(1).tolist(), plan, present, labels)
    if n_c > 1 and random.size:  # The C value for the random labels is known only now.
        median_c = np.array([np.median(cell.c) for cell in cells])
        fits = designs.fit(all_labels, random[0], random[1], np.tile(median_c[:, None], random.shape[1]))
    random_scores = fits.scores[:, fits.scores.shape[1] - random.shape[1] :].cpu().numpy()
    aucs = np.full((n_cells, len(label_sets)), np.nan)
    aucs[:, usable] = label_set_aucs(random_scores, label_sets[usable], plan, fold)
    return [replace(cell, label_set_auc=auc) for cell, auc in zip(cells, aucs, strict=True)]


def _cell_scores(
    scores: npt.NDArray[np.floating],
    converged: Sequence[bool],
    plan: ProbePlan,
    present: Bools,
    labels: Bools,
) -> list[CellScores]:
    """Return the results of several cells for the actual labels, given scores of shape (n_cells, n_sets, n_c_values,
    n_present)."""
    fold, outer_folds = plan.fold[present], plan.outer_folds
    inner_aucs = _inner_aucs(scores, plan, fold, labels)
    choices = np.nan_to_num(inner_aucs, nan=-1).argmax(2)  # in case of ties, the smallest C value is selected
    evaluated = np.flatnonzero(np.isin(fold, outer_folds))
    outer = np.searchsorted(outer_folds, fold[evaluated])
    cells = []
    for values, choice, inner_auc, ok in zip(scores, choices, inner_aucs, converged, strict=True):
        out_of_fold = np.full(len(present), np.nan, np.float32)
        out_of_fold[np.flatnonzero(present)[evaluated]] = values[outer, choice[outer], evaluated]
        fold_scores = np.full((len(outer_folds), len(present)), np.nan, np.float32)
        for k, outer_fold in enumerate(outer_folds if plan.nested else ()):
            fold_scores[k, present] = scores_without_fold(values[:, choice[k]], plan, fold, outer_fold)
        cells.append(
            CellScores(
                scores=out_of_fold,
                fold_scores=fold_scores,
                inner_auc=np.take_along_axis(inner_auc, choice[:, None], axis=1)[:, 0],
                c=np.array(plan.c_values if plan.probe is None else (1.0,))[choice],
                variance_inflation=variance_inflation(values, plan, fold=fold, correct=labels, choice=choice),
                converged=ok,
                label_set_auc=np.empty(0),
            )
        )
    return cells


def _inner_aucs(scores: npt.NDArray[np.floating], plan: ProbePlan, fold: Ints, labels: Bools) -> Floats:
    """Return the AUC of each C value over the inner folds of each outer fold.

    The answers of inner fold j of outer fold k are scored by the probe that was fitted without folds j and k.  The
    AUCs of all cells and C values are computed together, because each call has a cost that does not depend on the
    number of columns.

    Parameters
    ----------
    scores : ndarray of shape (n_cells, n_sets, n_c_values, n)
    plan : ProbePlan
    fold : ndarray of shape (n,), int
    labels : ndarray of shape (n,), bool

    Returns
    -------
    ndarray of shape (n_cells, n_outer_folds, n_c_values), float64
        The AUCs, which are NaN if there are no inner folds.
    """
    n_cells, _, n_c, _ = scores.shape
    aucs = np.full((n_cells, len(plan.outer_folds), n_c), np.nan)
    for row, k in enumerate(plan.outer_folds if plan.nested else ()):
        rows = fold != k
        columns = np.empty((int(rows.sum()), n_cells * n_c))
        for j in np.unique(fold[rows]).tolist():
            values = scores[:, plan.excluded_folds.index(frozenset({k, j}))][:, :, fold == j]
            columns[fold[rows] == j] = values.reshape(n_cells * n_c, -1).T
        many_labels = np.repeat(labels[rows, None], columns.shape[1], axis=1)
        aucs[:, row] = auc_values(columns, many_labels, fold[rows]).reshape(n_cells, n_c)
    return aucs


def _fit_classifier(x: npt.NDArray[np.float32], labels: Bools, training: Bools, probe: Any) -> tuple[Floats, bool]:
    """Fit a scikit-learn classifier to each training set.

    Returns
    -------
    scores : ndarray of shape (n_sets, n), float64
    converged : bool
        Whether all fits converged.
    """
    with threadpool_limits(1):  # cells are fitted in parallel, and many small fits are slower with several threads each
        classifiers = [clone(probe).fit(x[rows], labels[rows]) for rows in training]
        scores = np.stack([c.decision_function(x) for c in classifiers]).astype(np.float64)
    return scores, all(_has_converged(classifier) for classifier in classifiers)


def _has_converged(classifier: Any) -> bool:
    """Return whether a fitted classifier used fewer iterations than its limit."""
    limit = getattr(classifier, "max_iter", getattr(classifier, "max_iter_", None))
    steps: int | Sequence[int] = getattr(classifier, "n_iter_", 0)
    return limit is None or int(np.max(steps)) < limit
