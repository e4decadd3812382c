"""Plan of the probes to fit in every cell: their training sets, C values and classifier."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

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
