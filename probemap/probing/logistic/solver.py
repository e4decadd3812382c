"""Fit many logistic regressions on standardised design matrices at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from probemap.probing.logistic.descent import descend
from probemap.probing.logistic.feature_space import FeatureSpace
from probemap.probing.logistic.newton import solve_by_newton
from probemap.probing.logistic.problems import Problems
from probemap.probing.logistic.row_space import RowSpace

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

_BATCH_NUMBERS = 2e7
"""Maximum value of cells × problems × (rows + features) in a batch, chosen so that the arrays take about 1 GB."""

_RARELY_VARIES = 0.01
"""If the standard deviation of a feature in a training set is below this fraction of its standard deviation over all
rows, the problems are solved in float64."""

_FEW_ROWS, _FEW_FEATURES, _FEW_PROBLEMS = 160, 32, 64
"""With at most this number of rows or of features, and of problems per cell, Newton's method is faster than the
descent, whose many short operations leave the processor idle."""

_MAX_RIDGE_RATIO = 4.0  # problems share a preconditioner only if their penalties differ by at most this factor
_MIN_SIMILAR = 0.9  # smallest ratio of the numbers of training rows in one call of Newton's method
_NEWTON_BYTES = 2e8  # maximum size of the copies of X and of the kernels in one call of Newton's method


@dataclass(frozen=True)
class Fits:
    """Solutions of m problems."""

    scores: torch.Tensor
    """Tensor of shape (m, n), with the dtype of x: score f of every row, including rows outside the training set.  With
    several cells, the shape is (n_cells, m, n)."""
    converged: torch.Tensor
    """Tensor of shape (m,), bool: whether each problem has converged.  With several cells, the shape is
    (n_cells, m)."""


def fit_logistic(
    x: torch.Tensor, targets: torch.Tensor, training: torch.Tensor, scale: torch.Tensor, c: torch.Tensor
) -> Fits:
    """Solve m logistic regressions in each of several cells.

    The m problems are usually all combinations of training sets, C values and label sets.  The cells are independent of
    each other, but solving them together is faster, because it requires fewer but larger operations.

    Parameters
    ----------
    x : Tensor of shape (n_cells, n, d), float32 or float64
        Design matrices.  The features should be centred and of the order of 1.  Centring does not change the solution,
        because the intercept is not penalised, but it reduces rounding errors.  All computations run on the device of
        x.
    targets : Tensor of shape (m, n), bool
        Labels y of each problem.
    training : Tensor of shape (m, n), bool
        Mask t that selects the training rows of each problem.  Every problem must have at least one training
        row of each class.
    scale : Tensor of shape (n_cells, m, d)
        Scale s of the penalty on each feature.  A scale of 0 drops the feature; it is required for constant features.
    c : Tensor of shape (n_cells, m)
        Inverse strength of the penalty for each problem.

    Returns
    -------
    Fits
        Solutions with scores of shape (n_cells, m, n).  The scores agree with those of a fully converged scikit-learn
        fit to within about `descent.TOLERANCE` times the largest score.

    Examples
    --------
    >>> import torch
    >>> from probemap import fit_logistic
    >>> x = torch.tensor([[[-1.0], [1.0], [2.0]]])
    >>> targets = torch.tensor([[False, True, True]])
    >>> training = torch.tensor([[True, True, False]])
    >>> fits = fit_logistic(x, targets, training, scale=torch.ones(1, 1, 1), c=torch.tensor([[3.0]]))
    >>> [round(score, 1) for score in fits.scores[0, 0].tolist()]
    [-1.3, 1.3, 2.6]
    """
    n_cells, m = c.shape
    if (x.shape[1] <= _FEW_ROWS or x.shape[2] <= _FEW_FEATURES) and m <= _FEW_PROBLEMS:
        shape = (n_cells, m, x.shape[1])
        fits = Fits(x.new_zeros(shape), torch.zeros(shape[:2], dtype=torch.bool, device=x.device))
        _finish_by_newton(fits, x, targets, training, scale=scale, c=c)
        return fits
    ridge = scale.to(x.dtype) ** 2
    weight = training.to(x.dtype)
    c_values, c_number = torch.unique(c, return_inverse=True)
    cell = torch.arange(n_cells, device=x.device).repeat_interleave(m)
    penalty_group = torch.stack([_penalty_groups(cell_ridge) for cell_ridge in ridge]).flatten()
    design = torch.unique(cell * m + penalty_group, return_inverse=True)[1]
    # Problems are sorted so that those that share a preconditioner, and those that share a design, are adjacent.
    group, order = torch.sort(design * len(c_values) + c_number.flatten(), stable=True)
    cell, problem, design = cell[order], order % m, design[order]
    group = torch.unique_consecutive(group, return_inverse=True)[1]
    sorted_ridge = ridge.flatten(0, 1)[order]
    firsts = [int(torch.nonzero(design == k)[0]) for k in range(int(design.max()) + 1)]
    space = (RowSpace if x.shape[1] <= x.shape[2] else FeatureSpace)(
        [x[int(cell[first])] for first in firsts], [sorted_ridge[design == k] for k in range(len(firsts))]
    )
    problems = Problems.start(
        space.unknowns,
        group=group,
        design=design,
        y=targets[problem].to(x.dtype),
        weight=weight[problem] * c.flatten()[order, None].to(x.dtype),
        ridge=sorted_ridge,
    )
    sorted_scores, sorted_converged = descend(space, problems)
    scores, converged = torch.empty_like(sorted_scores), torch.empty_like(sorted_converged)
    scores[order], converged[order] = sorted_scores, sorted_converged
    fits = Fits(scores.view(n_cells, m, -1), converged.view(n_cells, m))
    _finish_by_newton(fits, x, targets, training, scale=scale, c=c)
    return fits


def _finish_by_newton(
    fits: Fits, x: torch.Tensor, targets: torch.Tensor, training: torch.Tensor, *, scale: torch.Tensor, c: torch.Tensor
) -> None:
    """Solve the problems that have not converged by Newton's method, and update `fits` in place.

    Newton's method starts from the scores in `fits`.
    """
    sizes = training.sum(1)
    # In the few cases in which rounding in float32 prevents convergence, float64 is used.
    for dtype in dict.fromkeys((x.dtype, torch.float64)):
        # Problems with similar numbers of training rows are solved together, because the largest number sets the time.
        cells, problems = torch.nonzero(~fits.converged, as_tuple=True)
        order = sizes[problems].argsort(stable=True, descending=True)
        cells, problems = cells[order], problems[order]
        while len(cells):
            largest = int(sizes[problems[0]])
            similar = int((sizes[problems] >= _MIN_SIMILAR * largest).sum())
            n = min(similar, _newton_batch_size(x[0], largest))
            k, i, cells, problems = cells[:n], problems[:n], cells[n:], problems[n:]
            # Problems of a cell with the same scales have the same design.
            key, design = torch.unique(
                torch.cat([k[:, None].to(scale.dtype), scale[k, i]], 1), dim=0, return_inverse=True
            )
            scores, converged = solve_by_newton(
                x[key[:, 0].long()].to(dtype),
                targets[i],
                training[i],
                scale=key[:, 1:].to(dtype),
                design=design,
                c=c[k, i].to(dtype),
                start=fits.scores[k, i],
            )
            fits.scores[k, i], fits.converged[k, i] = scores.to(x.dtype), converged


def _penalty_groups(ridge: torch.Tensor) -> torch.Tensor:
    """Assign problems with similar penalties to the same group, given the penalties as a tensor of shape (m, d).

    The penalties of all problems in a group are similar to those of its first member.  If the mean penalty of a group
    were far larger than a problem's own penalty on some feature, the preconditioner would suppress that feature: the
    predicted step would look short, and the descent would stop too early.
    """
    groups = torch.full((len(ridge),), -1, device=ridge.device)
    number = 0
    while bool((groups < 0).any()):
        first = ridge[int(torch.nonzero(groups < 0)[0])]
        similar = ((ridge <= _MAX_RIDGE_RATIO * first) & (first <= _MAX_RIDGE_RATIO * ridge)).all(1)
        groups[similar & (groups < 0)] = number
        number += 1
    return groups


def _newton_batch_size(x: torch.Tensor, rows: int) -> int:
    """Return the maximum number of problems per call of Newton's method, given the limit `_NEWTON_BYTES`."""
    numbers = x.shape[0] * x.shape[1] * 3 + min(rows, x.shape[1]) ** 2 * 3
    return max(1, int(_NEWTON_BYTES / (numbers * 8)))


class DesignMatrices:
    """Features of several cells, standardised over all rows, with their standard deviations over each training set.

    `fit` penalises the coefficients as if the features were standardised over each training set, but does not copy the
    features for each set.

    Parameters
    ----------
    x : ndarray of shape (n_cells, n, d), float32
        Features of each cell.
    training : ndarray of shape (n_sets, n), bool
        Mask of the rows in each training set.
    device : str
        Torch device.
    """

    def __init__(self, x: npt.NDArray[np.float32], training: Bools, device: str) -> None:
        # All computations use torch, because NumPy's matrix products start threads that compete with those of torch.
        features = torch.from_numpy(x).to(device)
        self.x, self.training = torch.empty_like(features), torch.from_numpy(training).to(device)
        self.scale = features.new_empty(len(features), len(training), features.shape[2])
        for cell, z, scale in zip(features, self.x, self.scale, strict=True):
            # float32 is precise enough: differences between numbers near the mean are exact, the second subtraction
            # removes the remainder of the mean, and dividing by a power of two near the largest value keeps the squares
            # from overflowing.
            largest = cell.abs().amax(0)
            exponent = torch.frexp(largest).exponent.clamp(-126, 126)
            torch.mul(cell, torch.ldexp(torch.ones_like(largest), -exponent), out=z)
            z -= z.mean(0)
            z -= z.mean(0)
            deviation = z.square().mean(0).sqrt()
            z /= torch.where(deviation > 0, deviation, 1)
            scale[:] = _deviations(z, self.training)
        if bool(((self.scale > 0) & (self.scale < _RARELY_VARIES)).any()):
            # A feature that hardly varies in a training set may be far from its overall mean there.  Its contribution
            # to the scores is then a small difference of large numbers.
            self.x = self.x.double()

    def fit(self, labels: Bools, label_set: Ints, training_set: Ints, c: npt.ArrayLike) -> Fits:
        """Fit m logistic regressions in every cell.

        Parameters
        ----------
        labels : ndarray of shape (n_label_sets, n), bool
        label_set, training_set : ndarray of shape (m,), int
            Indices of the label set and the training set for each problem.
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

    They are the same as those of scikit-learn's ``StandardScaler``, except that they are 0 for constant features.
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
