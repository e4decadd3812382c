"""Plan of the probes to fit in every cell: their training sets, C values and classifier."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from probemap.probing.auc import Ints

HELD_OUT = -1
"""Fold number of held-out answers, which are used to evaluate probes but never to fit them."""


@dataclass(frozen=True)
class ProbePlan:
    """The probes to fit in every cell."""

    fold: Ints
    """ndarray of shape (n,): fold of each answer.  If some answers are in fold `HELD_OUT`, probes are evaluated only on
    these answers."""
    c_values: tuple[float, ...] = (1.0,)
    """C values in ascending order.  If there are several, the one with the highest AUC over the inner folds is selected
    for each outer fold."""
    nested: bool = True
    """Whether to fit probes for inner folds.  These probes are needed to select a C value or the best cell."""
    probe: Any = None
    """A scikit-learn classifier that replaces the default probe.  It is fitted to the unscaled states, and `c_values`
    is ignored."""
    device: str = "cpu"

    @cached_property
    def outer_folds(self) -> list[int]:
        """The folds on which probes are evaluated: all folds, or only `HELD_OUT` if there are held-out answers."""
        numbers: list[int] = np.unique(self.fold).tolist()
        return [HELD_OUT] if HELD_OUT in numbers else numbers

    @cached_property
    def excluded_folds(self) -> list[frozenset[int]]:
        """The folds that each training set excludes.

        The training sets for the outer folds come first, followed by those for the inner folds.
        """
        excluded = [frozenset({k}) for k in self.outer_folds]
        if self.nested:
            pairs = combinations(np.unique(self.fold).tolist(), 2)
            excluded += [frozenset(pair) for pair in pairs if set(pair) & set(self.outer_folds)]
        return excluded


def scores_without_fold(
    scores: npt.NDArray[np.floating], plan: ProbePlan, fold: Ints, outer_fold: int
) -> npt.NDArray[np.floating]:
    """Return the score of each answer from a probe that was fitted without an outer fold and without the answer's own
    fold.

    The scores of the answers outside the outer fold can be used to fit a second model, which is then evaluated on the
    outer fold: no label of the outer fold affects them, and no answer is scored by a probe that was fitted to it.

    Parameters
    ----------
    scores : ndarray of shape (n_sets, n)
        Scores of all answers, computed with the probe of each training set.
    plan : ProbePlan
        A plan with inner folds.
    fold : ndarray of shape (n,), int
        Fold of each answer.
    outer_fold : int

    Returns
    -------
    ndarray of shape (n,)
    """
    selected: npt.NDArray[np.floating] = scores[plan.outer_folds.index(outer_fold)].copy()
    for inner_fold in np.unique(fold[fold != outer_fold]).tolist():
        rows = fold == inner_fold
        selected[rows] = scores[plan.excluded_folds.index(frozenset({outer_fold, inner_fold}))][rows]
    return selected
