"""Assign answers to cross-validation folds, keeping all answers to a question in the same fold."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from probemap.probing.inputs import Column, elements, parse_groups, parse_mask
from probemap.records import MapError, TooFewError

if TYPE_CHECKING:
    from probemap.probing.auc import Bools, Ints


def group_numbers(groups: Column | None, n: int) -> Ints:
    """Return the group number of each answer.

    Parameters
    ----------
    groups : array-like of shape (n,), or None
        Group of each answer, e.g. the id of its question.  If None, each answer forms its own group.
    n : int
        Number of answers.

    Returns
    -------
    ndarray of shape (n,), int64

    Raises
    ------
    MapError
        If there is not one group per answer, or if an answer has no group.
    """
    if groups is None:
        return np.arange(n)
    return np.unique(parse_groups(groups, n), return_inverse=True)[1].astype(np.int64)


def connected_groups(*groupings: Column) -> Ints:
    """Return groups in which all answers that share a group in any of several groupings are together.

    Parameters
    ----------
    *groupings : array-like of shape (n,)
        Group of each answer, e.g. the text of its question, and its relation.

    Returns
    -------
    ndarray of shape (n,), int64
        Number of the connected component of each answer.

    Raises
    ------
    MapError
        If the groupings do not have one group per answer.

    Examples
    --------
    >>> from probemap.probing.folds import connected_groups
    >>> connected_groups(["a", "b", "c", "d"], ["x", "x", "y", "z"], [1, 2, 2, 3]).tolist()
    [0, 0, 0, 1]
    """
    n = len(elements(groupings[0], "groups"))
    numbers = [group_numbers(grouping, n) for grouping in groupings]
    # A graph with one node per answer and one per group; its edges connect each answer with its groups.
    offsets = n + np.cumsum([0, *(int(number.max(initial=-1)) + 1 for number in numbers)])
    nodes = np.concatenate([number + offset for number, offset in zip(numbers, offsets, strict=False)])
    edges = (np.ones(len(nodes)), (np.tile(np.arange(n), len(numbers)), nodes))
    graph = coo_array(edges, shape=(int(offsets[-1]), int(offsets[-1])))
    component = connected_components(graph, directed=False)[1][:n]
    return np.unique(component, return_inverse=True)[1].astype(np.int64)


def hold_out(held_out: float | npt.ArrayLike | None, group: Ints, seed: int) -> Bools:
    """Return a mask of the held-out answers.

    Parameters
    ----------
    held_out : float, array-like of shape (n,), or None
        The fraction of groups to hold out at random, a mask of the held-out answers, or None to hold out no answers.
    group : ndarray of shape (n,), int
        Group number of each answer; see `group_numbers`.
    seed : int

    Returns
    -------
    ndarray of shape (n,), bool

    Raises
    ------
    MapError
        If the fraction is not between 0 and 1, if the mask has the wrong length or type, or if it holds out only some
        of the answers in a group.
    """
    if held_out is None:
        return np.zeros(len(group), bool)
    if isinstance(held_out, float | int | np.floating) and not isinstance(held_out, bool):
        if not 0 < held_out < 1:
            raise MapError(
                f"held_out must be between 0 and 1, got {held_out}",
                "pass a fraction between 0 and 1, or one True or False per answer",
            )
        shuffled = np.random.default_rng(seed).permutation(int(group.max()) + 1)
        return np.isin(group, shuffled[: round(held_out * len(shuffled))])
    mask = parse_mask(held_out, group.shape, "held_out")
    if n_split := np.intersect1d(group[mask], group[~mask]).size:
        raise MapError(
            f"{n_split} groups contain both held-out and other answers",
            "hold out either all answers of a group or none of them",
        )
    return mask


def assign_folds(correct: Bools, groups: Ints, folds: int, seed: int) -> Ints:
    """Assign answers to folds that are stratified by label, keeping all answers in a group in the same fold.

    Parameters
    ----------
    correct : ndarray of shape (n,), bool
    groups : ndarray of shape (n,), int
    folds : int
        Number of folds.
    seed : int

    Returns
    -------
    ndarray of shape (n,), int64

    Raises
    ------
    TooFewError
        If the number of correct answers, of incorrect answers or of groups is smaller than the number of folds.
    """
    n_correct, n_incorrect = int(correct.sum()), int((~correct).sum())
    if min(n_correct, n_incorrect) < folds:
        raise TooFewError(
            f"{folds} folds require {folds} answers of each class, got {n_correct} correct and {n_incorrect} incorrect",
            "ask more questions, or choose a task with a more even mix of correct and incorrect answers",
        )
    if len(np.unique(groups)) < folds:
        raise TooFewError(
            f"{len(np.unique(groups))} different questions cannot be split into {folds} folds", "ask more questions"
        )
    fold = np.empty(len(correct), dtype=np.int64)
    # If every group has a single answer, the plain splitter gives valid folds a thousand times faster.
    ungrouped = len(np.unique(groups)) == len(groups)
    splitter = (StratifiedKFold if ungrouped else StratifiedGroupKFold)(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # scikit-learn warns if a class has fewer groups than folds, but `cell_scores` checks every training set itself.
        warnings.simplefilter("ignore", UserWarning)
        for number, (_, test) in enumerate(splitter.split(correct, correct, groups)):
            fold[test] = number
    return fold
