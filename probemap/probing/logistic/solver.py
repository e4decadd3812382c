"""Many L2-regularised logistic regressions on a few design matrices, solved together with matrix products.

Problem k minimises, over coefficients w and a free intercept b,

    J = c_k Σ_i t_ik [log(1 + exp f_i) - y_ik f_i] + ½ Σ_j (s_kj w_j)²,      f = X w + b,

where t_ik is 1 for a training row and 0 for one that is left out or missing, and s_k scales the penalty of each
feature: with s_k the standard deviations over the training rows this is logistic regression on standardised features,
as ``StandardScaler`` and ``LogisticRegression(C=c_k)`` would fit it, without a copy of X per problem.

All problems, of several design matrices, descend together by nonlinear conjugate gradients (Polak & Ribière 1969,
restarted where they ascend): a step costs a few matrix products.  What makes the steps few is the preconditioner:
problems of the same strength c differ in folds and labels, but share, nearly, one Hessian.  So one Cholesky factor per
cell and strength, of the Hessian at their mean weights, serves them all.  The unknowns are the coefficients, or, with
fewer rows than features, one number per row; `space` has both.  Problems that have arrived leave the batch; the few
that have not after `MAX_STEPS` go to `newton`.
"""

from dataclasses import dataclass

import torch

from probemap.probing.logistic.newton import solve_by_newton
from probemap.probing.logistic.space import FeatureSpace, Problems, RowSpace, Space

TOLERANCE = 1e-3
"""A problem has arrived when its last step, and the Newton step that the preconditioner foretells, move no row's
score by more than this (relative to scores above 1)."""

MAX_STEPS = 200
_REFRESH = (5, 17, 49, 97, 145)
_EXACT_FROM = 49  # most have arrived by then
_ALIKE = 4.0  # up to this ratio of penalties problems share a preconditioner
_BRIEF = 40  # steps; who takes longer goes slowly, and has as much farther to go behind a step of the same length
_REFRESH_ABOVE = 0.03  # a problem that moves less than this is nearly there with the factor that it has


@dataclass(frozen=True)
class Fits:
    """Solutions of m problems."""

    scores: torch.Tensor
    """(m, n), dtype of x: f of every row, left-out rows included."""
    converged: torch.Tensor
    """(m,) bool."""


def fit_logistic(
    x: torch.Tensor, targets: torch.Tensor, training: torch.Tensor, scale: torch.Tensor, c: torch.Tensor
) -> Fits:
    """Solve m problems in each of a few cells: m = folds × strengths × label sets, or whatever is asked.

    Parameters
    ----------
    x: (cells, n, d) float32 or float64, each centred and of order one (the intercept is not penalised, but rounding is
        relative); the device of x is where all is computed.  Cells do not touch each other: they are solved in company
        because that takes fewer, larger operations.
    targets: (m, n) bool, y.
    training: (m, n) bool, t; at least one row of each class per problem.
    scale: (cells, m, d), s; 0 drops a feature (a constant has no spread).
    c: (cells, m), inverse strength of the penalty.

    Against scikit-learn run to convergence, scores agree to about `TOLERANCE` relative to the largest.
    """
    cells, m = c.shape
    ridge = scale.to(x.dtype) ** 2
    weight = training.to(x.dtype)
    strengths, strength = torch.unique(c, return_inverse=True)
    cell = torch.arange(cells, device=x.device).repeat_interleave(m)
    alike = torch.stack([_alike(each) for each in ridge]).flatten()
    design = torch.unique(cell * m + alike, return_inverse=True)[1]
    # Sorted, so that problems with one factor, and those with one design, stand together.
    group, order = torch.sort(design * len(strengths) + strength.flatten(), stable=True)
    cell, problem, design = cell[order], order % m, design[order]
    group = torch.unique_consecutive(group, return_inverse=True)[1]
    sorted_ridge = ridge.flatten(0, 1)[order]
    firsts = [int(torch.nonzero(design == k)[0]) for k in range(int(design.max()) + 1)]
    space = (RowSpace if x.shape[1] <= x.shape[2] else FeatureSpace)(
        [x[int(cell[first])] for first in firsts], [sorted_ridge[design == k] for k in range(len(firsts))]
    )
    here = space.start(
        group,
        design,
        targets[problem].to(x.dtype),
        weight[problem] * c.flatten()[order, None].to(x.dtype),
        sorted_ridge,
    )
    made, arrived = _descend(space, here)
    scores, converged = torch.empty_like(made), torch.empty_like(arrived)
    scores[order], converged[order] = made, arrived
    scores, converged = scores.view(cells, m, -1), converged.view(cells, m)
    for k in range(cells):
        if bool(converged[k].all()):
            continue
        left = torch.nonzero(~converged[k]).squeeze(1)
        for i in torch.split(left, _newton_batch(x[k], int(training[left].sum(1).max()))):
            # In float64: what float32 rounds away may be why they have not arrived.
            found, sure = solve_by_newton(
                x[k].double(), targets[i], training[i], scale[k, i].double(), c[k, i].double()
            )
            scores[k, i], converged[k, i] = found.to(x.dtype), sure
    return Fits(scores, converged)


def _alike(ridge: torch.Tensor) -> torch.Tensor:
    """(m,): the number of each problem's company, given their penalties (m, d).

    A preconditioner with the mean penalty of a company hides a feature that it penalises far more than the problem
    does: the descent would take a long way for a short one, and stop.  Within a company penalties are near those of its
    first member.
    """
    made = torch.full((len(ridge),), -1, device=ridge.device)
    number = 0
    while bool((made < 0).any()):
        first = ridge[int(torch.nonzero(made < 0)[0])]
        near = ((ridge <= _ALIKE * first) & (first <= _ALIKE * ridge)).all(1)
        made[near & (made < 0)] = number
        number += 1
    return made


def _newton_batch(x: torch.Tensor, rows: int) -> int:
    """Problems per call of Newton's method, so that its copies of X and of the kernels stay near 200 MB."""
    numbers = x.shape[0] * x.shape[1] * 3 + min(rows, x.shape[1]) ** 2 * 3
    return max(1, int(2e8 / (numbers * 8)))


def _descend(space: Space, here: Problems) -> tuple[torch.Tensor, torch.Tensor]:
    """(scores (m, n), converged (m,))."""
    scores, converged = torch.empty_like(here.f), torch.zeros(len(here.f), dtype=torch.bool, device=here.f.device)
    curvature = here.curvature()
    factors = [space.even_factor(int(here.design[rows.start]), curvature[rows].mean()) for _, rows in here.groups]
    moved = torch.ones_like(here.b)
    for number in range(MAX_STEPS):
        if number in _REFRESH:
            moving = moved[:, 0] > _REFRESH_ABOVE
            if number == _EXACT_FROM:
                space.settle(here, TOLERANCE, for_good=True)
            curvature = here.curvature()
            for k, rows in here.groups:
                if bool(moving[rows].any()):
                    factors[k] = space.factor(int(here.design[rows.start]), curvature[rows].mean(0))
                    here.size[rows] = torch.inf
        z, z_b = space.precondition(factors, here)
        z_f = space.scores(here, z)
        _turn(space, here, z, z_b, z_f)
        step = _line_search(space, here)
        # All rows, left-out ones too: a row unlike those that were trained on can move long after they stand still.
        moved = (torch.maximum(step.abs(), (z_f + z_b).abs()) / (1 + here.f.abs())).amax(1, keepdim=True)
        still = moved[:, 0] < TOLERANCE * min(1.0, _BRIEF / (number + 1))
        if number % space.settle_every == 0 or bool(still.all()):
            arrived = space.settle(here, TOLERANCE) & still
            done = here.number[arrived]
            scores[done], converged[done] = here.f[arrived], True
            goes_on = ~arrived & moved[:, 0].isfinite()  # a step out of all numbers: left to Newton's method
            if not bool(goes_on.any()):
                return scores, converged
            if not bool(goes_on.all()):
                here, moved = here.take(goes_on), moved[goes_on]
    scores[here.number] = here.f
    return scores, converged


def _turn(space: Space, here: Problems, z: torch.Tensor, z_b: torch.Tensor, z_f: torch.Tensor) -> None:
    """The next direction, -M⁻¹ g + β × the last one (β of Polak and Ribière, not below 0)."""
    partner = space.partner(z, z_f)
    size = _dot(partner, here.g) + z_b * here.level
    beta = ((size - _dot(partner, here.before) - z_b * here.before_level) / here.size).clamp(min=0)
    way, way_b, way_f = beta * here.way - z, beta * here.way_b - z_b, beta * here.way_f - z_f
    ascends = _dot(space.partner(way, way_f), here.g) + way_b * here.level >= 0
    if bool(ascends.any()):
        way, way_b, way_f = (torch.where(ascends, -new, old) for new, old in ((z, way), (z_b, way_b), (z_f, way_f)))
    here.way, here.way_b, here.way_f = way, way_b, way_f
    here.size = size.clamp(min=torch.finfo(size.dtype).tiny)
    here.before, here.before_level = here.g, here.level


def _line_search(space: Space, here: Problems) -> torch.Tensor:
    """Go along the direction until its slope is a quarter of what it was: Newton's method in one dimension, bracketed.

    Scores are linear in the length, so this needs no product with X.

    Returns
    -------
    How far that moved the scores, (m, n).
    """
    partner = space.partner(here.way, here.way_f)
    bend, tilt = (_dot(partner, space.penalised(here, u)) for u in (here.way, here.u))
    slope = _dot(partner, here.g) + here.way_b * here.level
    length, low, high = torch.ones_like(slope), torch.zeros_like(slope), torch.full_like(slope, torch.inf)
    start, along = here.f, here.way_f + here.way_b
    for trial in range(9):
        here.f = torch.addcmul(start, length, along)
        p = here.f.sigmoid()
        pull = here.weight * (p - here.y)
        now = _dot(pull, along) + tilt + length * bend
        enough = now.abs() <= 0.25 * slope.abs()
        if trial == 8 or bool(enough.all()):
            break
        second = _dot(here.weight * (p * (1 - p)), along * along) + bend
        low, high = torch.where(now < 0, length, low), torch.where(now < 0, high, length)
        newton = length - now / second.clamp(min=torch.finfo(second.dtype).tiny)
        middle = torch.where(high.isinf(), 4 * length, (low + high) / 2)
        # Each stops for itself: a problem's way does not depend on the company that it is solved in.
        length = torch.where(enough, length, torch.where((newton > low) & (newton < high), newton, middle))
    here.u, here.b = torch.addcmul(here.u, length, here.way), here.b + length * here.way_b
    space.look(here, pull)
    return length * along


def _dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """(m, 1): of each row."""
    return (a * b).sum(1, keepdim=True)
