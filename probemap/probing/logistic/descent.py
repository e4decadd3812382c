"""Joint descent on many logistic regressions; the package docstring describes the problems and the algorithm."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from probemap.probing.logistic.problems import Problems
    from probemap.probing.logistic.space import Factor, Space

TOLERANCE = 1e-3
"""A problem has converged if neither its last step nor the Newton step predicted by the preconditioner changes the
score f of any row by more than this times 1 + |f|."""

MAX_STEPS = 100
"""Problems that have not converged after this many steps are solved by Newton's method."""

_FACTOR_STEPS = (5, 17, 49)  # steps at which the preconditioners are recomputed
_EXACT_FROM = 49  # step from which scores are exact; most problems have converged by then
# After this many steps, the tolerance decreases: a problem that needs more steps moves slowly, so it is farther from
# its optimum than a fast problem whose last step had the same length.
_FAST_STEPS = 40
# Recomputing a preconditioner takes about as long as this many steps of one problem.  A group therefore keeps its
# preconditioner until its problems have taken this many steps in total.
_FACTOR_PROBLEM_STEPS = 100
_FACTOR_ABOVE = 0.03  # a group also keeps its preconditioner if no score changes by more than this
_LINE_SEARCH_STEPS = 9
_SLOPE_REDUCTION = 0.1  # the line search ends when the slope has fallen to this fraction of the initial slope


def descend(space: Space, problems: Problems) -> tuple[torch.Tensor, torch.Tensor]:
    """Solve the problems jointly.

    Returns
    -------
    scores : Tensor of shape (m, n)
        The last scores of each problem, or 0 after an overflow.
    converged : Tensor of shape (m,), bool
        Whether each problem has converged.
    """
    space.evaluate(problems, problems.residual())
    scores = torch.zeros_like(problems.f)
    converged = torch.zeros(len(problems.f), dtype=torch.bool, device=problems.f.device)
    curvature = problems.curvature()
    factors = [
        space.uniform_factor(int(problems.design[rows.start]), curvature[rows].mean()) for _, rows in problems.groups
    ]
    change = torch.ones_like(problems.b)
    corrections = space.corrections(factors, problems)
    for number in range(MAX_STEPS):
        if number in _FACTOR_STEPS:
            moving = change[:, 0] > _FACTOR_ABOVE
            if number == _EXACT_FROM:
                space.refresh(problems, TOLERANCE, permanently=True)
            _update_factors(space, problems, factors, moving, number)
            corrections = space.corrections(factors, problems)
        z, z_b = space.precondition(factors, corrections, problems)
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
            corrections = space.corrections(factors, problems)
    scores[problems.number] = problems.f
    return scores, converged


def _update_factors(space: Space, problems: Problems, factors: list[Factor], moving: torch.Tensor, number: int) -> None:
    """Recompute the preconditioners of the groups in which a problem is still moving, and restart these groups.

    Groups whose problems have taken few steps in total, of which each has taken `number`, keep their preconditioners.
    """
    curvature = problems.curvature()
    for k, rows in problems.groups:
        if number * (rows.stop - rows.start) >= _FACTOR_PROBLEM_STEPS and bool(moving[rows].any()):
            factors[k] = space.factor(int(problems.design[rows.start]), curvature[rows].mean(0))
            problems.norm[rows] = torch.inf


def _update_direction(space: Space, problems: Problems, z: torch.Tensor, z_b: torch.Tensor, z_f: torch.Tensor) -> None:
    """Set the next search direction to -M⁻¹ g plus β times the previous direction.

    β is given by the formula of Polak and Ribière, but is at least 0.  Here, z and z_b are the unknowns and the
    intercept of M⁻¹ g, and z_f contains the scores of z without intercept.
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
    """Move along the search direction until the slope has fallen to `_SLOPE_REDUCTION` times the initial slope.

    The step length is found by Newton's method with bracketing.  Because the scores are linear in the step length, no
    product with X is needed.

    Returns
    -------
    Tensor of shape (m, n)
        Changes in the scores.
    """
    dual = space.dual(problems.direction, problems.direction_f)
    penalty_curvature, penalty_slope = (
        _dot(dual, space.penalty_gradient(problems, u)) for u in (problems.direction, problems.u)
    )
    first_slope = _dot(dual, problems.g) + problems.direction_b * problems.g_b
    length, low = torch.ones_like(first_slope), torch.zeros_like(first_slope)
    high = torch.full_like(first_slope, torch.inf)
    start, direction_f = problems.f, problems.direction_f + problems.direction_b
    slope_weight = problems.weight * direction_f
    curvature_weight = slope_weight * direction_f
    for trial in range(_LINE_SEARCH_STEPS):
        problems.f = torch.addcmul(start, length, direction_f)
        p = problems.f.sigmoid()
        error = p - problems.y
        slope = _dot(error, slope_weight) + penalty_slope + length * penalty_curvature
        done = slope.abs() <= _SLOPE_REDUCTION * first_slope.abs()
        if trial == _LINE_SEARCH_STEPS - 1 or bool(done.all()):
            break
        curvature = _dot(torch.addcmul(p, p, p, value=-1), curvature_weight) + penalty_curvature
        low, high = torch.where(slope < 0, length, low), torch.where(slope < 0, high, length)
        newton = length - slope / curvature.clamp(min=torch.finfo(curvature.dtype).tiny)
        middle = torch.where(high.isinf(), 4 * length, (low + high) / 2)
        # Each problem stops independently, so that its path does not depend on the other problems in the batch.
        length = torch.where(done, length, torch.where((newton > low) & (newton < high), newton, middle))
    problems.u = torch.addcmul(problems.u, length, problems.direction)
    problems.b = problems.b + length * problems.direction_b
    space.evaluate(problems, problems.weight * error)
    return length * direction_f


def _dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the inner products of the rows of a and b, as a tensor of shape (m, 1)."""
    return (a * b).sum(1, keepdim=True)
