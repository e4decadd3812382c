"""Standardised states of a few cells, and the logistic regressions fitted on them."""

import numpy as np
import numpy.typing as npt
import torch

from probemap.probing.auc import Bools, Floats, Ints, auc_values
from probemap.probing.logistic.solver import Fits, fit_logistic
from probemap.probing.plan import ProbePlan

_BATCH_NUMBERS = 2e7
"""Limit of cells × problems × (rows + features) in a batch, so that the dozen arrays of the solver take about 1 GB."""

_RARELY_VARIES = 0.01
"""A feature with a smaller standard deviation in a training set, relative to all rows, is solved in float64."""


class Designs:
    """States of a few cells, standardised over all rows, with the standard deviations over each training set.

    The solver penalises the weights as if the states were standardised over the training set, without a copy per set.

    Parameters
    ----------
    states : ndarray of shape (n_cells, n, d), float32
    training : ndarray of shape (n_sets, n), bool
        Training rows of each training set.
    device : str
        Device of torch.
    """

    def __init__(self, states: npt.NDArray[np.float32], training: Bools, device: str) -> None:
        # Everything is computed in torch: NumPy's matrix products start threads that compete with torch's.
        x = torch.from_numpy(states).to(device)
        self.x, self.training = torch.empty_like(x), torch.from_numpy(training).to(device)
        self.scale = x.new_empty(len(x), len(training), x.shape[2])
        for cell, z, scale in zip(x, self.x, self.scale, strict=True):
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

    def permutation_aucs(self, labels: Bools, plan: ProbePlan, fold: Ints, c: Floats) -> Floats:
        """Return the AUC of each permuted label set, evaluated like the labels themselves.

        Parameters
        ----------
        labels : ndarray of shape (n_label_sets, n), bool
        plan : ProbePlan
        fold : ndarray of shape (n,), int
        c : ndarray of shape (n_cells,), float64
            C value of each cell.

        Returns
        -------
        ndarray of shape (n_cells, n_label_sets), float64
            NaN for a label set that lacks a class in some training set: it is not a draw of the null distribution.
        """
        outer_folds = plan.outer_folds
        n_folds = len(outer_folds)
        training = self.training[:n_folds].cpu().numpy()
        valid = np.array([bool(((training & y).any(1) & (training & ~y).any(1)).all()) for y in labels], bool)
        aucs = np.full((len(self.x), len(labels)), np.nan)
        if not valid.any():
            return aucs
        labels = labels[valid]
        label_set, training_set = np.divmod(np.arange(len(labels) * n_folds), n_folds)
        fits = self.fit(labels, label_set, training_set, np.repeat(c[:, None], len(label_set), axis=1))
        scores = fits.scores.cpu().numpy().reshape(len(self.x), len(labels), n_folds, -1)
        evaluated = np.isin(fold, outer_folds)
        row = np.searchsorted(outer_folds, fold[evaluated])
        for cell, out_of_fold in zip(aucs, scores[:, :, row, np.flatnonzero(evaluated)], strict=True):
            cell[valid] = auc_values(out_of_fold.T, labels[:, evaluated].T, fold[evaluated])
        return aucs


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
