"""Permuted labels for the null distribution of the maximum AUC of a map."""

import numpy as np

from probemap.probing.auc import Bools, Ints


def permuted_labels(labels: Bools, group: Ints, count: int, seed: int) -> Bools:
    """Return label sets in which the labels are permuted between groups of the same size.

    The labels of a group stay together, so that the dependence within groups is kept.

    Parameters
    ----------
    labels : ndarray of shape (n,), bool
    group : ndarray of shape (n,), int
    count : int
        Number of permutations.
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
