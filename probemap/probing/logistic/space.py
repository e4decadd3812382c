"""Preconditioned steps in a space of unknowns: one per feature or, with fewer rows than features, one per row.

A space defines, for its unknowns u: the scores; the gradient in a form g, and the dual of a direction, whose product
with g is the slope of J along it; and a preconditioner M near the Hessian, whose weights V and penalty S² are the means
of the problems that share it.  At high-leverage rows each problem uses its own weights (`Space.precondition`).
"""

from dataclasses import dataclass

import torch

from probemap.probing.logistic.problems import Problems

Core = tuple[torch.Tensor, ...]
"""A Cholesky factor of M, and the vectors that its space needs to solve with it."""

_LEVERAGE_RATIO = 4.0
"""A row has high leverage if its squared norm, in the metric of the penalty, is more than this times the median."""

_MAX_LEVERAGE_ROWS = 64

_MIN_WEIGHT = 1e-3
"""Smallest weight of a high-leverage row, relative to that in M: a smaller one is lost in the rounding of M⁻¹."""


@dataclass(frozen=True, kw_only=True)
class Factor:
    """A preconditioner M with its Cholesky factor."""

    core: Core
    rows: torch.Tensor
    """Tensor of shape (k,): the high-leverage rows of the design."""
    weight: torch.Tensor
    """Tensor of shape (k,): their weights in M."""
    solution: torch.Tensor
    """Tensor of shape (k, unknowns): M⁻¹ of a unit residual at each of these rows."""
    solution_b: torch.Tensor
    """Tensor of shape (k, 1): its intercept."""
    leverage: torch.Tensor
    """Tensor of shape (k, k), float64: the scores of `solution` at these rows."""


class Space:
    """Base class of both spaces."""

    x: list[torch.Tensor]
    """The matrix of each design, of shape (n, d)."""
    leverage_rows: list[torch.Tensor]
    """The high-leverage rows of each design."""
    unknowns: int
    """Number of unknowns of a problem."""
    refresh_every: int
    """Number of steps between refreshes of the scores."""

    def start(
        self, group: torch.Tensor, design: torch.Tensor, y: torch.Tensor, weight: torch.Tensor, ridge: torch.Tensor
    ) -> Problems:
        """Return the problems at w = 0 and the intercept that fits the class sizes."""
        b = ((weight * y).sum(1, keepdim=True) / weight.sum(1, keepdim=True)).logit()
        f, zero_b = b.expand(y.shape).clone(), torch.zeros_like(b)
        u = y.new_zeros(len(y), self.unknowns)
        problems = Problems(
            number=torch.arange(len(y), device=y.device),
            group=group,
            design=design,
            y=y,
            weight=weight,
            ridge=ridge,
            u=u,
            b=b,
            f=f,
            g=u,
            g_b=zero_b,
            direction=u,
            direction_b=zero_b,
            direction_f=torch.zeros_like(y),
            norm=torch.full_like(b, torch.inf),
            previous_g=u,
            previous_g_b=zero_b,
        )
        self.evaluate(problems, problems.residual())
        return problems

    def evaluate(self, problems: Problems, residual: torch.Tensor) -> None:
        """Update the gradients from the residuals at the current scores, of shape (m, n)."""
        problems.g, problems.g_b = self.gradient(problems, residual), residual.sum(1, keepdim=True)

    def precondition(self, factors: list[Factor], problems: Problems) -> tuple[torch.Tensor, torch.Tensor]:
        """Return M⁻¹ of the gradient: its unknowns and its intercept."""
        steps = [self._solve_with_problem_weights(factors[k], problems, rows) for k, rows in problems.groups]
        if len(steps) == 1:
            return self.without_dropped(problems, steps[0][0]), steps[0][1]
        z, z_b = torch.cat([step for step, _ in steps]), torch.cat([step_b for _, step_b in steps])
        return self.without_dropped(problems, z), z_b

    def _solve_with_problem_weights(
        self, factor: Factor, problems: Problems, rows: slice
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return M⁻¹ of the gradient, with the weights of each problem at the high-leverage rows.

        M has the mean weights W of its problems at the time of its factorisation.  A problem that excludes a
        high-leverage row, or has since become certain of it, has a smaller weight V there.  Preconditioned with W, it
        would hardly move along that row and appear to have converged.  The Hessian with V at these rows U is
        M - Uᵀ (W - V) U, whose inverse adds M⁻¹ Uᵀ a with (I - (W - V) G) a = (W - V) U M⁻¹ g and G = U M⁻¹ Uᵀ
        (Woodbury 1950).
        """
        z, z_b = self.solve(factor.core, problems.g[rows], problems.g_b[rows])
        if not len(factor.rows):
            return z, z_b
        p = problems.f[rows][:, factor.rows].sigmoid()
        weight = problems.weight[rows][:, factor.rows] * (p * (1 - p))
        excess = (factor.weight - torch.maximum(weight, _MIN_WEIGHT * factor.weight)).double()
        scores = self.scores_at(int(problems.design[rows.start]), z, factor.rows) + z_b
        identity = torch.eye(len(factor.rows), dtype=excess.dtype, device=excess.device)
        a = torch.linalg.solve(identity - excess[:, :, None] * factor.leverage, excess * scores)
        a = a.to(z.dtype)
        return z + a @ factor.solution, z_b + a @ factor.solution_b

    def make_factor(self, design: int, core: Core, weight: torch.Tensor) -> Factor:
        """Return the preconditioner of a Cholesky factor with weights of shape (n,)."""
        rows = self.leverage_rows[design]
        ones = torch.ones_like(weight[rows])[:, None]
        solution, solution_b = self.solve(core, self.unit_gradients(design, rows), ones)
        leverage = self.scores_at(design, solution, rows) + solution_b
        return Factor(
            core=core,
            rows=rows,
            weight=weight[rows],
            solution=solution,
            solution_b=solution_b,
            leverage=(leverage + leverage.T).double() / 2,
        )

    def unit_gradients(self, design: int, rows: torch.Tensor) -> torch.Tensor:
        """Return g of a residual of 1 at each of these rows, of shape (k, unknowns)."""
        raise NotImplementedError

    def scores_at(self, design: int, u: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Return the scores of u at some rows without intercept, as M approximates them, of shape (m, k)."""
        raise NotImplementedError

    def gradient(self, problems: Problems, residual: torch.Tensor) -> torch.Tensor:
        """Return g, of shape (m, unknowns)."""
        raise NotImplementedError

    def penalty_gradient(self, problems: Problems, u: torch.Tensor) -> torch.Tensor:
        """Return the gradient of the penalty at u, in the form of g."""
        raise NotImplementedError

    def dual(self, u: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return the tensor whose product with g is the slope along u."""
        raise NotImplementedError

    def without_dropped(self, problems: Problems, u: torch.Tensor) -> torch.Tensor:
        """Return u with 0 for dropped features, if the unknowns are features."""
        return u

    def scores(self, problems: Problems, u: torch.Tensor) -> torch.Tensor:
        """Return the scores of u without intercept, of shape (m, n)."""
        raise NotImplementedError

    def refresh(self, problems: Problems, tolerance: float, permanently: bool = False) -> torch.Tensor:
        """Replace approximate scores by exact ones, and use exact scores from now on if `permanently`.

        Returns
        -------
        Tensor of shape (m,), bool
            The problems whose scores changed by less than `tolerance`, relative to scores above 1.
        """
        raise NotImplementedError

    def factor(self, design: int, weight: torch.Tensor) -> Factor:
        """Return the preconditioner with weights of shape (n,)."""
        raise NotImplementedError

    def uniform_factor(self, design: int, weight: torch.Tensor) -> Factor:
        """Return the preconditioner with one weight for all rows."""
        return self.factor(design, weight.expand(len(self.x[design])))

    def solve(self, core: Core, g: torch.Tensor, g_b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the unknowns and the intercept of M⁻¹ (g, g_b)."""
        raise NotImplementedError


def high_leverage_rows(square: torch.Tensor) -> torch.Tensor:
    """Return the rows whose squared norm exceeds the others', the largest first."""
    largest = square.topk(min(_MAX_LEVERAGE_ROWS, len(square)))
    return largest.indices[largest.values > _LEVERAGE_RATIO * square.median()]
