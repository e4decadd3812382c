"""Random labels: the permutation null distribution, and the control task.

Probes are fitted and evaluated on random labels in the same way as on the actual labels.  The labels of the control
task (Hewitt & Liang 2019, arXiv 1909.03368) are the same for all answers with the same identity, so a probe can predict
them only by memorising identities.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from probemap.probing.auc import Bools, Floats, Ints, auc_values

if TYPE_CHECKING:
    from probemap.probing.logistic.solver import DesignMatrices
    from probemap.probing.plan import ProbePlan


def permuted_labels(labels: Bools, group: Ints, count: int, seed: int) -> Bools:
    """Return label sets, each of which is a random permutation of the labels.

    The labels are exchanged between groups of the same size.  The labels of a group stay together, which preserves the
    dependence within groups.

    Parameters
    ----------
    labels : ndarray of shape (n,), bool
    group : ndarray of shape (n,), int
    count : int
        Number of label sets.
    seed : int

    Returns
    -------
    ndarray of shape (count, n), bool
    """
    draw = np.random.default_rng([seed, 1])
    order = np.argsort(group, kind="stable")
    sizes = np.bincount(group)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    label_sets = np.empty((count, len(labels)), bool)
    for permuted in label_sets:
        for size in np.unique(sizes[sizes > 0]).tolist():
            blocks = order[starts[sizes == size][:, None] + np.arange(size)]
            permuted[blocks] = labels[blocks[draw.permutation(len(blocks))]]
    return label_sets


def control_labels(labels: Bools, identities: Sequence[str | None], count: int, seed: int) -> Bools:
    """Return label sets for the control task: one random label per distinct identity.

    Parameters
    ----------
    labels : ndarray of shape (n,), bool
        The actual labels.  The same share of the identities gets a positive label, but at least one identity and not
        all of them.
    identities : sequence of str or None
        Identity of each answer, e.g. its exact answer.  An answer without identity (None) gets a label of its own.
    count : int
        Number of label sets.
    seed : int

    Returns
    -------
    ndarray of shape (count, n), bool
    """
    names = [f"answer {row}" if name is None else f"identity {name}" for row, name in enumerate(identities)]
    distinct, number = np.unique(np.array(names, object), return_inverse=True)
    n_positive = min(max(round(len(distinct) * float(labels.mean())), 1), len(distinct) - 1)
    draw = np.random.default_rng([seed, 2])
    ranks = np.stack([draw.permutation(len(distinct)) for _ in range(count)])
    return np.asarray(ranks < n_positive)[:, number]


def label_set_aucs(designs: DesignMatrices, label_sets: Bools, plan: ProbePlan, *, fold: Ints, c: Floats) -> Floats:
    """Return the AUC for each set of random labels, computed in the same way as the AUC for the actual labels.

    Parameters
    ----------
    designs : DesignMatrices
        Design matrices of the cells, created with the training sets of `plan`.
    label_sets : ndarray of shape (n_label_sets, n), bool
    plan : ProbePlan
    fold : ndarray of shape (n,), int
    c : ndarray of shape (n_cells,), float64
        C value of each cell.

    Returns
    -------
    ndarray of shape (n_cells, n_label_sets), float64
        The AUCs.  If a label set lacks a class in one of the training sets, its AUC is NaN, because no probe can be
        fitted to that training set.
    """
    outer_folds = plan.outer_folds
    n_folds = len(outer_folds)
    training = designs.training[:n_folds].cpu().numpy()
    valid = np.array([bool(((training & y).any(1) & (training & ~y).any(1)).all()) for y in label_sets], bool)
    aucs = np.full((len(designs.x), len(label_sets)), np.nan)
    if not valid.any():
        return aucs
    labels = label_sets[valid]
    label_set, training_set = np.divmod(np.arange(len(labels) * n_folds), n_folds)
    fits = designs.fit(labels, label_set, training_set, np.repeat(c[:, None], len(label_set), axis=1))
    scores = fits.scores.cpu().numpy().reshape(len(designs.x), len(labels), n_folds, -1)
    evaluated = np.isin(fold, outer_folds)
    row = np.searchsorted(outer_folds, fold[evaluated])
    for cell, out_of_fold in zip(aucs, scores[:, :, row, np.flatnonzero(evaluated)], strict=True):
        cell[valid] = auc_values(out_of_fold.T, labels[:, evaluated].T, fold[evaluated])
    return aucs
