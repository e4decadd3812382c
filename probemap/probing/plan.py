"""Which probes are fitted in a cell: training sets, C values, classifier."""

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from probemap.probing.auc import Ints
from probemap.probing.folds import HELD_OUT


@dataclass(frozen=True)
class ProbePlan:
    """The probes that are fitted in every cell."""

    fold: Ints
    """ndarray of shape (n,): fold of each answer.  If some answers are in fold `HELD_OUT`, probes are evaluated on
    these only."""
    c_values: tuple[float, ...] = (1.0,)
    """C values in ascending order.  With several, each outer fold selects its own by the AUC of its inner folds."""
    nested: bool = True
    """Whether inner folds are fitted, which the selection of a C value or of the best cell needs."""
    probe: Any = None
    """A scikit-learn classifier that is fitted on the unscaled states instead; `c_values` are then ignored."""
    device: str = "cpu"

    @property
    def outer_folds(self) -> list[int]:
        """The folds on which probes are evaluated: all folds, or `HELD_OUT` alone."""
        numbers: list[int] = np.unique(self.fold).tolist()
        return [HELD_OUT] if HELD_OUT in numbers else numbers

    def excluded_folds(self) -> list[frozenset[int]]:
        """Return the folds that each training set excludes: first one set per outer fold, then one per inner fold."""
        excluded = [frozenset({k}) for k in self.outer_folds]
        if self.nested:
            pairs = combinations(np.unique(self.fold).tolist(), 2)
            excluded += [frozenset(pair) for pair in pairs if set(pair) & set(self.outer_folds)]
        return excluded
