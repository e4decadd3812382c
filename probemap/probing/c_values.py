"""How strong the states of a layer are: their norms, and whether those of right answers differ."""

import numpy as np
import numpy.typing as npt

from probemap.probing.auc import Bools, Estimate, Floats, Ints, means, standardised_differences

STRENGTHS = tuple(
    f"{name}{end}" for name in ("activation_norm", "activation_norm_difference") for end in ("", "_low", "_high")
)
"""What a map holds of it, over (layer, position)."""


def strengths(states: npt.NDArray[np.float32], correct: Bools, groups: Ints) -> Floats:
    """`STRENGTHS` of one layer, (6, n_positions): the mean norm, and right minus wrong in standard deviations.

    Parameters
    ----------
    states: (n, n_positions, d), NaN where a position is missing.
    correct, groups: (n,).
    """
    norms = np.linalg.norm(states, axis=2).astype(np.float64)

    def rows(made: Estimate) -> list[Floats]:
        return [made.value, *made.interval(groups)]

    return np.stack(rows(means(norms)) + rows(standardised_differences(norms, correct)))
