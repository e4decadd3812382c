"""Made-up hidden states for the other benchmarks; ``python benchmarks/states.py`` prints what they look like.

What makes real states hard for a solver is here, and can be turned off: a power-law spectrum in a random basis, means
far larger than the spread, and a few features far larger than all others.
"""

import numpy as np
import numpy.typing as npt
from scipy.fft import dct

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]


def synthetic(
    n: int, d: int, seed: int, decay: float = 1.0, mean: float = 1e3, loud: int = 5, noise: float = 1.0
) -> tuple[Floats, Bools]:
    """States (n, d) float32, and verdicts (n,).

    Parameters
    ----------
    decay: the i-th principal component has a variance of (i + 1)^-decay.
    mean: of every feature, whose own deviation is about 1; 0 turns it off.
    loud: how many features are 1000 times larger, mean and all; 0 turns it off.
    noise: of the label, in deviations of the linear direction that it follows.

    The basis is made by random signs and a cosine transform, three times over: orthogonal, dense, and O(n d log d)
    where a random rotation costs O(d³).
    """
    draw = np.random.default_rng([seed, n, d])
    spectrum = np.arange(1, d + 1) ** -(decay / 2)
    x = draw.standard_normal((n, d)) * spectrum * np.sqrt(d / (spectrum**2).sum())
    for _ in range(3):
        x = dct(x * draw.choice([-1.0, 1.0], d), norm="ortho", axis=1)
    way = x @ draw.standard_normal(d)
    correct = way / way.std() + noise * draw.standard_normal(n) > 0
    x += mean
    x[:, draw.permutation(d)[:loud]] *= 1e3
    return x.astype(np.float32), correct


def main() -> None:
    for d in (576, 2048):
        for decay in (1.0, 2.0):
            x, correct = synthetic(1000, d, 0, decay)
            spread = x.std(0, dtype=np.float64)
            values = np.linalg.svd((x - x.mean(0, dtype=np.float64)) / spread, compute_uv=False) ** 2
            print(
                f"d {d}, decay {decay}: deviations {np.quantile(spread, 0.05):.2f} to {np.quantile(spread, 0.95):.2f}, "
                f"largest {spread.max():.0f}; first 10 components hold {values[:10].sum() / values.sum():.0%} "
                f"of the standardised variance; {correct.mean():.0%} right"
            )


if __name__ == "__main__":
    main()
