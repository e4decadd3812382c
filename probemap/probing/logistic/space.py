"""Preconditioned steps in a space that has one unknown per feature or one unknown per row.

A space defines, for its unknowns u:

- the scores;
- the form g in which the gradient is stored;
- the dual of a direction: the tensor whose product with g is the slope of J along the direction;
- a preconditioner M that approximates the Hessian.  Its weights V and penalty S² are averages over the problems that
  share it, but at high-leverage rows each problem uses its own weights (see `Space.precondition`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from probemap.probing.logistic.problems import Problems

Core = tuple[torch.Tensor, ...]
"""The inverse of a matrix that represents M, together with the vectors that the space needs to apply M⁻¹."""

_LEVERAGE_RATIO = 4.0
"""A row has high leverage if its squared norm, in the metric of the penalty, is above this many times the median."""

_MAX_LEVERAGE_ROWS = 64

_MIN_WEIGHT = 1e-3
"""Lower bound on a problem's weight at a high-leverage row, as a fraction of the row's weight in M.  Smaller weights
would be lost to rounding in M⁻¹."""


@dataclass(frozen=True, kw_only=True)
class Factor:
    """A preconditioner M with its inverse."""

    core: Core
    rows: torch.Tensor
    """Tensor of shape (k,): high-leverage rows of the design."""
    weight: torch.Tensor
    """Tensor of shape (k,): weights of these rows in M."""
    solution: torch.Tensor
    """Tensor of shape (k, unknowns): M⁻¹ applied to a unit residual at each of these rows."""
    solution_b: torch.Tensor
    """Tensor of shape (k, 1): intercepts of `solution`."""
    leverage: torch.Tensor
    """Tensor of shape (k, k), float64: scores of `solution` at these rows."""


@dataclass(frozen=True)
class Correction:
    """Replace the weights in a preconditioner with the problems' own weights at the high-leverage rows.

    M contains the weights W, which are the mean weights of its problems at the time of the factorisation.  A problem
    has a smaller weight V at a high-leverage row if it excludes the row from training, or if it now predicts the row
    with near certainty.  If W were used, this problem would hardly move along the row and would appear to have
    converged.

    If U denotes the high-leverage rows, the Hessian with weights V at these rows is M - Uᵀ (W - V) U.  Using the
    inverse of this Hessian instead of M⁻¹ adds M⁻¹ Uᵀ a to the result, where a solves
    (I - (W - V) G) a = (W - V) U M⁻¹ g with G = U M⁻¹ Uᵀ (Woodbury 1950).
    """

    excess: torch.Tensor
    """Tensor of shape (m, k), float64: W - V at the high-leverage rows."""
    lu: torch.Tensor
    """Tensor of shape (m, k, k), float64: LU factors of I - (W - V) G."""
    pivots: torch.Tensor
    """Tensor of shape (m, k), int32."""

    def apply(self, scores: torch.Tensor) -> torch.Tensor:
        """Return a as a tensor of shape (m, k), given U M⁻¹ g in the same shape."""
        sides = (self.excess * scores)[..., None]
        a: torch.Tensor = torch.linalg.lu_solve(self.lu, self.pivots, sides)
        return a.squeeze(-1).to(scores.dtype)


class Space:
    """Base class of `FeatureSpace` and `RowSpace`."""

    x: list[torch.Tensor]
    """Design matrices, each of shape (n, d)."""
    leverage_rows: list[torch.Tensor]
    """High-leverage rows of each design."""
    unknowns: int
    """Number of unknowns per problem."""
    refresh_every: int
    """Number of steps between refreshes of the scores."""

    def evaluate(self, problems: Problems, residual: torch.Tensor) -> None:
        """Update the gradients, given the residuals at the current scores as a tensor of shape (m, n)."""
        problems.g, problems.g_b = self.gradient(problems, residual), residual.sum(1, keepdim=True)

    def corrections(self, factors: list[Factor], problems: Problems) -> dict[int, Correction]:
        """Return the corrections that adapt the preconditioner of each group to the current weights of its problems."""
        return {k: self._correction(factors[k], problems, rows) for k, rows in problems.groups if len(factors[k].rows)}

    def precondition(
        self, factors: list[Factor], corrections: dict[int, Correction], problems: Problems
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Apply M⁻¹ to the gradient, and return the unknowns and the intercept of the result."""
        steps = []
        for k, rows in problems.groups:
            z, z_b = self.solve(factors[k].core, problems.g[rows], problems.g_b[rows])
            if k in corrections:
                scores = self.leverage_scores(int(problems.design[rows.start]), z) + z_b
                a = corrections[k].apply(scores)
                z, z_b = z + a @ factors[k].solution, z_b + a @ factors[k].solution_b
            steps.append((z, z_b))
        z, z_b = (torch.cat(parts) for parts in zip(*steps, strict=True))
        return self.without_dropped(problems, z), z_b

    def _correction(self, factor: Factor, problems: Problems, rows: slice) -> Correction:
        p = problems.f[rows][:, factor.rows].sigmoid()
        weight = problems.weight[rows][:, factor.rows] * (p * (1 - p))
        excess = (factor.weight - torch.maximum(weight, _MIN_WEIGHT * factor.weight)).double()
        identity = torch.eye(len(factor.rows), dtype=excess.dtype, device=excess.device)
        return Correction(excess, *torch.linalg.lu_factor(identity - excess[:, :, None] * factor.leverage))

    def make_factor(self, design: int, core: Core, weight: torch.Tensor) -> Factor:
        """Return the preconditioner, given its inverse and the weights of all n rows."""
        rows = self.leverage_rows[design]
        ones = torch.ones_like(weight[rows])[:, None]
        solution, solution_b = self.solve(core, self.unit_gradients(design, rows), ones)
        leverage = self.leverage_scores(design, solution) + solution_b
        return Factor(
            core=core,
            rows=rows,
            weight=weight[rows],
            solution=solution,
            solution_b=solution_b,
            leverage=(leverage + leverage.T).double() / 2,
        )

    def unit_gradients(self, design: int, rows: torch.Tensor) -> torch.Tensor:
        """Return g for a residual of 1 at each of the given rows, as a tensor of shape (k, unknowns)."""
        raise NotImplementedError

    def leverage_scores(self, design: int, u: torch.Tensor) -> torch.Tensor:
        """Return the scores of u at the high-leverage rows, without intercept, as a tensor of shape (m, k).

        They are computed with the same approximation as M.
        """
        raise NotImplementedError

    def gradient(self, problems: Problems, residual: torch.Tensor) -> torch.Tensor:
        """Return g as a tensor of shape (m, unknowns)."""
        raise NotImplementedError

    def penalty_gradient(self, problems: Problems, u: torch.Tensor) -> torch.Tensor:
        """Return the gradient of the penalty at u, in the same form as g."""
        raise NotImplementedError

    def dual(self, u: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return the dual of u: the tensor whose product with g is the slope of J along u."""
        raise NotImplementedError

    def without_dropped(self, problems: Problems, u: torch.Tensor) -> torch.Tensor:
        """Return u, with the unknowns of dropped features set to 0 if there is one unknown per feature."""
        return u

    def scores(self, problems: Problems, u: torch.Tensor) -> torch.Tensor:
        """Return the scores of u without intercept, as a tensor of shape (m, n)."""
        raise NotImplementedError

    def refresh(self, problems: Problems, tolerance: float, permanently: bool = False) -> torch.Tensor:
        """Replace approximate scores with exact scores; if `permanently` is True, use exact scores from now on.

        Returns
        -------
        Tensor of shape (m,), bool
            Whether the scores f of each problem changed by less than `tolerance` times 1 + |f|.
        """
        raise NotImplementedError

    def factor(self, design: int, weight: torch.Tensor) -> Factor:
        """Return the preconditioner, given the weights of all n rows."""
        raise NotImplementedError

    def uniform_factor(self, design: int, weight: torch.Tensor) -> Factor:
        """Return the preconditioner with the same weight for all rows."""
        return self.factor(design, weight.expand(len(self.x[design])))

    def solve(self, core: Core, g: torch.Tensor, g_b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the unknowns and the intercept of M⁻¹ (g, g_b)."""
        raise NotImplementedError


def high_leverage_rows(square: torch.Tensor) -> torch.Tensor:
    """Return the indices of the high-leverage rows in descending order of norm, given the squared norms of all rows."""
    largest = square.topk(min(_MAX_LEVERAGE_ROWS, len(square)))
    return largest.indices[largest.values > _LEVERAGE_RATIO * square.median()]
