"""Norms of the hidden states, and whether those of correct and incorrect answers differ."""

import numpy as np
import numpy.typing as npt

from probemap.probing.auc import Bools, Floats, Ints
from probemap.probing.inference import Estimate, means, standardised_differences

NORM_VARIABLES = tuple(
    f"{name}{end}" for name in ("activation_norm", "activation_norm_difference") for end in ("", "_low", "_high")
)
"""Variables of a map computed by `activation_norms`, over (layer, position)."""


def activation_norms(states: npt.NDArray[np.float32], correct: Bools, groups: Ints) -> Floats:
    """Return the `NORM_VARIABLES` of one layer.

    Parameters
    ----------
    states : ndarray of shape (n, n_positions, d), float32
        NaN where a position is missing.
    correct : ndarray of shape (n,), bool
    groups : ndarray of shape (n,), int
        Answers of one group count as one draw.

    Returns
    -------
    ndarray of shape (6, n_positions), float64
        Mean Euclidean norm with its 95 % confidence interval, in the unit of the states; then mean norm of correct
        minus incorrect answers with its interval, in standard deviations.
    """
    norms = np.linalg.norm(states, axis=2).astype(np.float64)

    def with_interval(estimate: Estimate) -> list[Floats]:
        return [estimate.value, *estimate.interval(groups)]

    return np.stack(with_interval(means(norms)) + with_interval(standardised_differences(norms, correct)))
