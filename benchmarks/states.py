"""Synthetic hidden states for the other benchmarks; ``python benchmarks/states.py`` prints their statistics.

They have the properties of real states that are hard for a solver: a power-law spectrum in a random basis, means far
larger than the standard deviations, and a few features far larger than all others.  Each property can be turned off.
"""

import numpy as np
import numpy.typing as npt
from scipy.fft import dct

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

OUTLIER_SCALE = 1e3


def synthetic(
    n: int, d: int, seed: int, decay: float = 1.0, mean: float = 1e3, n_outliers: int = 5, noise: float = 1.0
) -> tuple[Floats, Bools]:
    """Return random states and labels.

    Parameters
    ----------
    n, d : int
        Answers and hidden size.
    seed : int
    decay : float
        The variance of principal component i is proportional to (i + 1)^-decay.
    mean : float
        Mean of every feature, whose standard deviation is about 1.
    n_outliers : int
        Number of features that are multiplied by 1000, mean and deviation alike.
    noise : float
        Noise of the label, in standard deviations of the linear direction that the label follows.

    Returns
    -------
    states : ndarray of shape (n, d), float32
    correct : ndarray of shape (n,), bool
    """
    rng = np.random.default_rng([seed, n, d])
    spectrum = np.arange(1, d + 1) ** -(decay / 2)
    x = rng.standard_normal((n, d)) * spectrum * np.sqrt(d / (spectrum**2).sum())
    # Random signs and a cosine transform, three times, give a dense orthogonal basis in O(n d log d); a random rotation
    # costs O(d³).
    for _ in range(3):
        x = dct(x * rng.choice([-1.0, 1.0], d), norm="ortho", axis=1)
    projection = x @ rng.standard_normal(d)
    correct = projection / projection.std() + noise * rng.standard_normal(n) > 0
    x += mean
    x[:, rng.permutation(d)[:n_outliers]] *= OUTLIER_SCALE
    return x.astype(np.float32), correct


def main() -> None:
    for d in (576, 2048):
        for decay in (1.0, 2.0):
            x, correct = synthetic(1000, d, 0, decay)
            deviation = x.std(0, dtype=np.float64)
            variances = np.linalg.svd((x - x.mean(0, dtype=np.float64)) / deviation, compute_uv=False) ** 2
            low, high = np.quantile(deviation, (0.05, 0.95))
            print(
                f"d {d}, decay {decay}: standard deviations {low:.2f} to {high:.2f} (5 % and 95 % quantile), largest "
                f"{deviation.max():.0f}; the first 10 components have {variances[:10].sum() / variances.sum():.0%} of "
                f"the standardised variance; {correct.mean():.0%} correct"
            )


if __name__ == "__main__":
    main()
