"""Joint descent on many logistic regressions; the package docstring describes the problems and the algorithm."""

from dataclasses import dataclass

import torch

from probemap.probing.logistic.feature_space import FeatureSpace
from probemap.probing.logistic.newton import solve_by_newton
from probemap.probing.logistic.problems import Problems
from probemap.probing.logistic.row_space import RowSpace
from probemap.probing.logistic.space import Factor, Space

TOLERANCE = 1e-3
"""A problem has converged if neither its last step nor the Newton step predicted by the preconditioner changes the
score f of any row by more than this times 1 + |f|."""

MAX_STEPS = 200
"""Problems that have not converged after this many steps are solved by Newton's method."""

_FACTOR_STEPS = (5, 17, 49, 97, 145)  # steps at which the preconditioners are recomputed
_EXACT_FROM = 49  # step from which scores are exact; most problems have converged by then
_MAX_RIDGE_RATIO = 4.0  # problems share a preconditioner only if their penalties differ by at most this factor
# After this many steps, the tolerance decreases: a problem that takes more steps moves slowly, and is farther from its
# optimum after a step of the same length.
_FAST_STEPS = 40
_FACTOR_ABOVE = 0.03  # a group keeps its preconditioner if none of its scores changes by more than this
_LINE_SEARCH_STEPS = 9
_SLOPE_REDUCTION = 0.25  # the line search ends when the slope has fallen to this fraction of the initial slope
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
    each other, but solving them together is faster, because it takes fewer and larger operations.

    Parameters
    ----------
    x : Tensor of shape (n_cells, n, d), float32 or float64
        Design matrices, with centred features of order 1.  Centring does not change the solution, because the intercept
        is not penalised, but it reduces rounding errors.  All computations run on the device of x.
    targets : Tensor of shape (m, n), bool
        Labels y of each problem.
    training : Tensor of shape (m, n), bool
        Training rows t of each problem, with at least one row of each class.
    scale : Tensor of shape (n_cells, m, d)
        Scale s of the penalty of each feature.  A scale of 0 drops the feature; constant features must be dropped.
    c : Tensor of shape (n_cells, m)
        Inverse strength of the penalty for each problem.

    Returns
    -------
    Fits
        Solutions with scores of shape (n_cells, m, n).  The scores agree with those of scikit-learn at convergence, up
        to about `TOLERANCE` times the largest score.

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
    problems = space.start(
        group,
        design,
        targets[problem].to(x.dtype),
        weight[problem] * c.flatten()[order, None].to(x.dtype),
        sorted_ridge,
    )
    sorted_scores, sorted_converged = _descend(space, problems)
    scores, converged = torch.empty_like(sorted_scores), torch.empty_like(sorted_converged)
    scores[order], converged[order] = sorted_scores, sorted_converged
    fits = Fits(scores.view(n_cells, m, -1), converged.view(n_cells, m))
    _finish_by_newton(fits, x, targets, training, scale=scale, c=c)
    return fits


def _finish_by_newton(
    fits: Fits, x: torch.Tensor, targets: torch.Tensor, training: torch.Tensor, *, scale: torch.Tensor, c: torch.Tensor
) -> None:
    """Solve the problems that have not converged by Newton's method, and update `fits` in place."""
    for k in range(len(x)):
        if bool(fits.converged[k].all()):
            continue
        remaining = torch.nonzero(~fits.converged[k]).squeeze(1)
        batch_size = _newton_batch_size(x[k], int(training[remaining].sum(1).max()))
        for i in torch.split(remaining, batch_size):
            # float64 is used because rounding in float32 may have prevented convergence.
            scores, converged = solve_by_newton(
                x[k].double(), targets[i], training[i], scale[k, i].double(), c[k, i].double()
            )
            fits.scores[k, i], fits.converged[k, i] = scores.to(x.dtype), converged


def _penalty_groups(ridge: torch.Tensor) -> torch.Tensor:
    """Return the group of each problem, given the penalties of shape (m, d).

    Within a group, the penalties are similar to those of its first member.  Otherwise, if the mean penalty of a group
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


def _descend(space: Space, problems: Problems) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the scores of shape (m, n), and whether each problem has converged, of shape (m,)."""
    scores = torch.empty_like(problems.f)
    converged = torch.zeros(len(problems.f), dtype=torch.bool, device=problems.f.device)
    curvature = problems.curvature()
    factors = [
        space.uniform_factor(int(problems.design[rows.start]), curvature[rows].mean()) for _, rows in problems.groups
    ]
    change = torch.ones_like(problems.b)
    for number in range(MAX_STEPS):
        if number in _FACTOR_STEPS:
            moving = change[:, 0] > _FACTOR_ABOVE
            if number == _EXACT_FROM:
                space.refresh(problems, TOLERANCE, permanently=True)
            _update_factors(space, problems, factors, moving)
        z, z_b = space.precondition(factors, problems)
        z_f = space.scores(problems, z)
        _update_direction(space, problems, z, z_b, z_f)
        step = _line_search(space, problems)
        # The criterion includes all rows, not only training rows: the score of a high-leverage row outside the training
        # set can still change long after the training rows have converged.
        change = (torch.maximum(step.abs(), (z_f + z_b).abs()) / (1 + problems.f.abs())).amax(1, keepdim=True)
        small = change[:, 0] < TOLERANCE * min(1.0, _FAST_STEPS / (number + 1))
        if number % space.refresh_every == 0 or bool(small.all()):
            finished = space.refresh(problems, TOLERANCE) & small
            numbers = problems.number[finished]
            scores[numbers], converged[numbers] = problems.f[finished], True
            continuing = ~finished & change[:, 0].isfinite()  # after an overflow, Newton's method starts from scratch
            if not bool(continuing.any()):
                return scores, converged
            if not bool(continuing.all()):
                problems, change = problems.take(continuing), change[continuing]
    scores[problems.number] = problems.f
    return scores, converged


def _update_factors(space: Space, problems: Problems, factors: list[Factor], moving: torch.Tensor) -> None:
    """Recompute the preconditioners of groups that contain moving problems, and restart these groups."""
    curvature = problems.curvature()
    for k, rows in problems.groups:
        if bool(moving[rows].any()):
            factors[k] = space.factor(int(problems.design[rows.start]), curvature[rows].mean(0))
            problems.norm[rows] = torch.inf


def _update_direction(space: Space, problems: Problems, z: torch.Tensor, z_b: torch.Tensor, z_f: torch.Tensor) -> None:
    """Set the next search direction to -M⁻¹ g + β × the last direction, with Polak and Ribière's β, at least 0.

    z, z_b and z_f are the unknowns, the intercept and the scores without intercept of M⁻¹ g.
    """
    dual = space.dual(z, z_f)
    norm = _dot(dual, problems.g) + z_b * problems.g_b
    beta = ((norm - _dot(dual, problems.previous_g) - z_b * problems.previous_g_b) / problems.norm).clamp(min=0)
    direction = beta * problems.direction - z
    direction_b = beta * problems.direction_b - z_b
    direction_f = beta * problems.direction_f - z_f
    ascends = _dot(space.dual(direction, direction_f), problems.g) + direction_b * problems.g_b >= 0
    if bool(ascends.any()):
        direction = torch.where(ascends, -z, direction)
        direction_b = torch.where(ascends, -z_b, direction_b)
        direction_f = torch.where(ascends, -z_f, direction_f)
    problems.direction, problems.direction_b, problems.direction_f = direction, direction_b, direction_f
    problems.norm = norm.clamp(min=torch.finfo(norm.dtype).tiny)
    problems.previous_g, problems.previous_g_b = problems.g, problems.g_b


def _line_search(space: Space, problems: Problems) -> torch.Tensor:
    """Move along the search direction until the slope has fallen to `_SLOPE_REDUCTION` of the initial slope.

    The step length is found by Newton's method with bracketing.  Because the scores are linear in the step length, no
    product with X is needed.

    Returns
    -------
    Tensor of shape (m, n)
        Changes of the scores.
    """
    dual = space.dual(problems.direction, problems.direction_f)
    penalty_curvature, penalty_slope = (
        _dot(dual, space.penalty_gradient(problems, u)) for u in (problems.direction, problems.u)
    )
    first_slope = _dot(dual, problems.g) + problems.direction_b * problems.g_b
    length, low = torch.ones_like(first_slope), torch.zeros_like(first_slope)
    high = torch.full_like(first_slope, torch.inf)
    start, direction_f = problems.f, problems.direction_f + problems.direction_b
    for trial in range(_LINE_SEARCH_STEPS):
        problems.f = torch.addcmul(start, length, direction_f)
        p = problems.f.sigmoid()
        residual = problems.weight * (p - problems.y)
        slope = _dot(residual, direction_f) + penalty_slope + length * penalty_curvature
        done = slope.abs() <= _SLOPE_REDUCTION * first_slope.abs()
        if trial == _LINE_SEARCH_STEPS - 1 or bool(done.all()):
            break
        curvature = _dot(problems.weight * (p * (1 - p)), direction_f * direction_f) + penalty_curvature
        low, high = torch.where(slope < 0, length, low), torch.where(slope < 0, high, length)
        newton = length - slope / curvature.clamp(min=torch.finfo(curvature.dtype).tiny)
        middle = torch.where(high.isinf(), 4 * length, (low + high) / 2)
        # Each problem stops independently, so that its path does not depend on the other problems of the batch.
        length = torch.where(done, length, torch.where((newton > low) & (newton < high), newton, middle))
    problems.u = torch.addcmul(problems.u, length, problems.direction)
    problems.b = problems.b + length * problems.direction_b
    space.evaluate(problems, residual)
    return length * direction_f


def _dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the inner products of the rows of a and b, as a tensor of shape (m, 1)."""
    return (a * b).sum(1, keepdim=True)
