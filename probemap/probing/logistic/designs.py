"""Standardised design matrices on which many logistic regressions are fitted."""

import numpy as np
import numpy.typing as npt
import torch

from probemap.probing.logistic.solver import Fits, fit_logistic

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

_BATCH_NUMBERS = 2e7
"""Limit of cells × problems × (rows + features) in a batch, so that the dozen arrays of the solver take about 1 GB."""

_RARELY_VARIES = 0.01
"""A feature with a smaller standard deviation in a training set, relative to all rows, is solved in float64."""


class DesignMatrices:
    """Features of a few cells, standardised over all rows, with the standard deviations over each training set.

    `fit` penalises the weights as if the features were standardised over the training set, without a copy per set.

    Parameters
    ----------
    x : ndarray of shape (n_cells, n, d), float32
        Features of each cell.
    training : ndarray of shape (n_sets, n), bool
        Training rows of each training set.
    device : str
        Device of torch.
    """

    def __init__(self, x: npt.NDArray[np.float32], training: Bools, device: str) -> None:
        # Everything is computed in torch: NumPy's matrix products start threads that compete with torch's.
        features = torch.from_numpy(x).to(device)
        self.x, self.training = torch.empty_like(features), torch.from_numpy(training).to(device)
        self.scale = features.new_empty(len(features), len(training), features.shape[2])
        for cell, z, scale in zip(features, self.x, self.scale, strict=True):
            # float32 is exact enough: differences of numbers near the mean are exact, the rest of the mean is
            # subtracted a second time, and after division by a power of two near the largest value no square overflows.
            largest = cell.abs().amax(0)
            exponent = torch.frexp(largest).exponent.clamp(-126, 126)
            torch.mul(cell, torch.ldexp(torch.ones_like(largest), -exponent), out=z)
            z -= z.mean(0)
            z -= z.mean(0)
            deviation = z.square().mean(0).sqrt()
            z /= torch.where(deviation > 0, deviation, 1)
            scale[:] = _deviations(z, self.training)
        if bool(((self.scale > 0) & (self.scale < _RARELY_VARIES)).any()):
            # A feature that hardly varies in a training set is far from its overall mean there, and its contribution
            # is a small difference of large numbers.
            self.x = self.x.double()

    def fit(self, labels: Bools, label_set: Ints, training_set: Ints, c: npt.ArrayLike) -> Fits:
        """Fit m logistic regressions in every cell.

        Parameters
        ----------
        labels : ndarray of shape (n_label_sets, n), bool
        label_set, training_set : ndarray of shape (m,), int
            Label set and training set of each problem.
        c : array-like of shape (n_cells, m)
            C value of each problem.

        Returns
        -------
        Fits
            Scores of shape (n_cells, m, n).
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
    """Return the standard deviation over the rows of each training set, of shape (n_sets, d); 0 for a constant.

    These are the deviations that scikit-learn's ``StandardScaler`` computes.
    """

    def variances(z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        weight = training.to(z.dtype) / training.sum(1, keepdim=True)
        mean, square = weight @ z, weight @ z.square()
        return square - mean**2, square

    variance, square = variances(x)
    # A feature may be constant in all rows except excluded ones.  Near that case the difference needs float64.
    if len(cancelling := torch.nonzero((variance < 0.01 * square).any(0)).squeeze(1)):
        variance[:, cancelling] = variances(x[:, cancelling].double())[0].to(x.dtype)
    return torch.where(variance > 1e-12, variance, 0).sqrt()
