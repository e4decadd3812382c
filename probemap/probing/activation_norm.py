"""Norms of the hidden states, and how they differ between correct and incorrect answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from probemap.probing.inference import Estimate, means, standardised_differences

if TYPE_CHECKING:
    from probemap.probing.auc import Bools, Floats, Ints

NORM_VARIABLES = tuple(
    f"{name}{end}" for name in ("activation_norm", "activation_norm_difference") for end in ("", "_low", "_high")
)
"""The variables that `activation_norms` computes for a map, each with one value per cell."""


def activation_norms(states: npt.NDArray[np.float32], correct: Bools, groups: Ints) -> Floats:
    """Return the `NORM_VARIABLES` for one layer.

    Parameters
    ----------
    states : ndarray of shape (n, n_positions, d), float32
        Hidden states, with NaN where a position is missing.
    correct : ndarray of shape (n,), bool
    groups : ndarray of shape (n,), int
        Group of each answer.  Answers in the same group are treated as one observation.

    Returns
    -------
    ndarray of shape (6, n_positions), float64
        The first three rows contain the mean Euclidean norm and the ends of its 95 % confidence interval.  The last
        three rows contain the difference between the mean norm for correct answers and that for incorrect answers, in
        standard deviations, and the ends of its 95 % confidence interval.
    """
    norms = np.linalg.norm(states, axis=2).astype(np.float64)

    def with_interval(estimate: Estimate) -> list[Floats]:
        return [estimate.value, *estimate.interval(groups)]

    return np.stack(with_interval(means(norms)) + with_interval(standardised_differences(norms, correct)))
