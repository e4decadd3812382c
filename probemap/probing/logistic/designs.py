"""Standardised design matrices for fitting many logistic regressions."""

import numpy as np
import numpy.typing as npt
import torch

from probemap.probing.logistic.solver import Fits, fit_logistic

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

_BATCH_NUMBERS = 2e7
"""Maximum of cells × problems × (rows + features) per batch, so that the dozen arrays of the solver take about 1 GB."""

_RARELY_VARIES = 0.01
"""If the standard deviation of a feature in a training set is below this fraction of the standard deviation over all
rows, the problems are solved in float64."""


class DesignMatrices:
    """Features of several cells, standardised over all rows, with their standard deviations over each training set.

    `fit` penalises the coefficients as if the features were standardised over each training set, but does not copy the
    features for each set.

    Parameters
    ----------
    x : ndarray of shape (n_cells, n, d), float32
        Features of each cell.
    training : ndarray of shape (n_sets, n), bool
        Training rows of each training set.
    device : str
        Torch device.
    """

    def __init__(self, x: npt.NDArray[np.float32], training: Bools, device: str) -> None:
        # All computations use torch, because NumPy's matrix products start threads that compete with those of torch.
        features = torch.from_numpy(x).to(device)
        self.x, self.training = torch.empty_like(features), torch.from_numpy(training).to(device)
        self.scale = features.new_empty(len(features), len(training), features.shape[2])
        for cell, z, scale in zip(features, self.x, self.scale, strict=True):
            # float32 is exact enough: differences between numbers near the mean are exact, the remainder of the mean is
            # removed by the second subtraction, and dividing by a power of two near the largest value prevents overflow
            # of the squares.
            largest = cell.abs().amax(0)
            exponent = torch.frexp(largest).exponent.clamp(-126, 126)
            torch.mul(cell, torch.ldexp(torch.ones_like(largest), -exponent), out=z)
            z -= z.mean(0)
            z -= z.mean(0)
            deviation = z.square().mean(0).sqrt()
            z /= torch.where(deviation > 0, deviation, 1)
            scale[:] = _deviations(z, self.training)
        if bool(((self.scale > 0) & (self.scale < _RARELY_VARIES)).any()):
            # A feature that hardly varies in a training set may be far from its overall mean there, so that its
            # contribution to the scores is a small difference of large numbers.
            self.x = self.x.double()

    def fit(self, labels: Bools, label_set: Ints, training_set: Ints, c: npt.ArrayLike) -> Fits:
        """Fit m logistic regressions in every cell.

        Parameters
        ----------
        labels : ndarray of shape (n_label_sets, n), bool
        label_set, training_set : ndarray of shape (m,), int
            Label set and training set of each problem.
        c : array-like of shape (n_cells, m)
            C value of each problem in each cell.

        Returns
        -------
        Fits
            Solutions with scores of shape (n_cells, m, n).
        """
        y = torch.from_numpy(labels).to(self.x.device)
        c_values = torch.as_tensor(np.asarray(c, np.float32), device=self.x.device)
        n_cells, n, d = self.x.shape
        size = max(1, int(_BATCH_NUMBERS / (n_cells * (n + d))))
        batches = []
        for start in range(0, len(label_set), size):
            problems = slice(start, start + size)
            rows = training_set[problems]
            batches.append(
                fit_logistic(
                    self.x, y[label_set[problems]], self.training[rows], self.scale[:, rows], c_values[:, problems]
                )
            )
        return Fits(torch.cat([b.scores for b in batches], 1), torch.cat([b.converged for b in batches], 1))


def _deviations(x: torch.Tensor, training: torch.Tensor) -> torch.Tensor:
    """Return the standard deviations over the rows of each training set, as a tensor of shape (n_sets, d).

    They equal those that scikit-learn's ``StandardScaler`` computes; a constant feature has 0.
    """

    def variances(z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        weight = training.to(z.dtype) / training.sum(1, keepdim=True)
        mean, square = weight @ z, weight @ z.square()
        return square - mean**2, square

    variance, square = variances(x)
    # If a feature is almost constant in the training rows, the difference must be computed in float64.
    if len(cancelling := torch.nonzero((variance < 0.01 * square).any(0)).squeeze(1)):
        variance[:, cancelling] = variances(x[:, cancelling].double())[0].to(x.dtype)
    return torch.where(variance > 1e-12, variance, 0).sqrt()
