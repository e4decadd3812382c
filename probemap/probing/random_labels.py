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
    import numpy.typing as npt

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


def have_both_classes(label_sets: Bools, training: Bools) -> Bools:
    """Return whether each label set has both classes in every training set, so that probes can be fitted to it.

    Parameters
    ----------
    label_sets : ndarray of shape (n_label_sets, n), bool
    training : ndarray of shape (n_sets, n), bool

    Returns
    -------
    ndarray of shape (n_label_sets,), bool
    """
    n_positive = label_sets.astype(np.int64) @ training.T.astype(np.int64)
    return np.asarray(((n_positive > 0) & (n_positive < training.sum(1))).all(1))


def label_set_aucs(scores: npt.NDArray[np.floating], label_sets: Bools, plan: ProbePlan, fold: Ints) -> Floats:
    """Return the AUC for each set of random labels, computed in the same way as the AUC for the actual labels.

    Parameters
    ----------
    scores : ndarray of shape (n_cells, n_label_sets * n_outer_folds, n)
        Scores of all answers by the probes for each label set and each outer fold, in this order.
    label_sets : ndarray of shape (n_label_sets, n), bool
    plan : ProbePlan
    fold : ndarray of shape (n,), int
        Fold of each answer.

    Returns
    -------
    ndarray of shape (n_cells, n_label_sets), float64
    """
    outer_folds, evaluated = plan.outer_folds, np.isin(fold, plan.outer_folds)
    by_fold = scores.reshape(len(scores), len(label_sets), len(outer_folds), scores.shape[2])
    out_of_fold = by_fold[:, :, np.searchsorted(outer_folds, fold[evaluated]), np.flatnonzero(evaluated)]
    columns = out_of_fold.reshape(-1, int(evaluated.sum())).T
    labels = np.tile(label_sets[:, evaluated].T, len(scores))
    return auc_values(columns, labels, fold[evaluated]).reshape(len(scores), len(label_sets))
