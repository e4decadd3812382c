"""The space with one unknown α per row.

The coefficients are w = s⁻² Xᵀ α, and the scores without intercept are therefore X s⁻² Xᵀ α.  With an L2 penalty, the
optimal coefficients always have this form.  In the notation of `space`, g is α + residual, the dual of a direction is
the vector of its scores, and M = I + V K.
"""

import torch

from probemap.probing.logistic.linalg import inverse, inverse_or_zero, symmetric_product
from probemap.probing.logistic.problems import Problems, concatenate
from probemap.probing.logistic.space import Core, Factor, Space, high_leverage_rows

_MIN_FACTOR_WEIGHT = 1e-3
"""Lower bound on the weight of a row in M, as a fraction of the mean weight.  It is needed because applying M⁻¹
requires division by the square root of the weight."""


class RowSpace(Space):
    """Space in which the unknowns are the row coefficients α, of shape (m, n).

    All problems with the same design share one kernel K = X S⁻² Xᵀ, and a step changes their scores by K Δα.  Because
    the exact kernel of problem k is K_k, these scores are approximate.  Every few steps, `refresh` replaces them with
    exact scores, and a problem has converged only if this correction is small.  Using the shared kernel is cheaper than
    computing exact scores for every direction, because it takes one product with K instead of two with X.

    Each refresh multiplies the error of the scores by about (K - K_k) (V⁻¹ + K)⁻¹, which stays below 1 because K uses
    the midpoint between the largest and the smallest s⁻² of the problems.  A refresh also disturbs the conjugacy of the
    directions, on which difficult problems depend.  These problems therefore need exact scores in the final phase.

    Parameters
    ----------
    x : list of Tensor of shape (n, d)
        Design matrices.
    ridge : list of Tensor of shape (m_k, d)
        For each design, the penalties s² of its problems.
    """

    refresh_every = 4

    def __init__(self, x: list[torch.Tensor], ridge: list[torch.Tensor]) -> None:
        self.x, self.unknowns, self.exact = x, len(x[0]), False
        inverse = [inverse_or_zero(r) for r in ridge]
        middle = [(r.amax(0) + r.amin(0)) / 2 for r in inverse]
        self.kernel = [symmetric_product(z * scale, z.T) for z, scale in zip(x, middle, strict=True)]
        self.leverage_rows = [high_leverage_rows(kernel.diagonal()) for kernel in self.kernel]
        self._leverage_kernel = [kernel[:, rows] for kernel, rows in zip(self.kernel, self.leverage_rows, strict=True)]

    def gradient(self, problems: Problems, residual: torch.Tensor) -> torch.Tensor:
        return residual + problems.u

    def penalty_gradient(self, problems: Problems, u: torch.Tensor) -> torch.Tensor:
        return u

    def dual(self, u: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return scores

    def scores(self, problems: Problems, u: torch.Tensor) -> torch.Tensor:
        if self.exact:
            return self._exact_scores(problems, u)
        return concatenate(problems.designs, lambda k, rows: u[rows] @ self.kernel[k])

    def refresh(self, problems: Problems, tolerance: float, permanently: bool = False) -> torch.Tensor:
        if self.exact:
            return torch.ones_like(problems.b[:, 0], dtype=torch.bool)
        self.exact = permanently
        f = self._exact_scores(problems, problems.u) + problems.b
        change = ((f - problems.f).abs() / (1 + f.abs())).amax(1)
        problems.f = f
        self.evaluate(problems, problems.residual())
        if permanently:  # restart, because the scores of the last direction were computed with the shared kernel
            problems.norm = torch.full_like(problems.norm, torch.inf)
        return change < tolerance

    def _exact_scores(self, problems: Problems, u: torch.Tensor) -> torch.Tensor:
        inverse = inverse_or_zero(problems.ridge)
        return concatenate(problems.designs, lambda k, rows: (u[rows] @ self.x[k] * inverse[rows]) @ self.x[k].T)

    def factor(self, design: int, weight: torch.Tensor) -> Factor:
        # M⁻¹ = (I + V K)⁻¹ = V½ (I + V½ K V½)⁻¹ V⁻½ computes small results without subtracting large numbers.
        root = weight.clamp(min=_MIN_FACTOR_WEIGHT * float(weight.mean())).sqrt()
        inner = root[:, None] * self.kernel[design] * root
        inner.diagonal().add_(1)
        scaled = root[:, None] * inverse(inner) / root
        ones = scaled @ root.square()
        return self.make_factor(design, (scaled.T.contiguous(), ones, ones.sum()), root.square())

    def solve(self, core: Core, g: torch.Tensor, g_b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        inverse_m, ones, total = core
        z = g @ inverse_m
        # At the optimum, the unknowns sum to zero, because the gradient of the intercept is 0.  X is centred, so the
        # same condition can be imposed during the descent.
        z_b = z.sum(1, keepdim=True) / total
        return z - z_b * ones, z_b

    def unit_gradients(self, design: int, rows: torch.Tensor) -> torch.Tensor:
        gradients = self.x[design].new_zeros(len(rows), self.unknowns)
        gradients[torch.arange(len(rows), device=rows.device), rows] = 1
        return gradients

    def leverage_scores(self, design: int, u: torch.Tensor) -> torch.Tensor:
        return u @ self._leverage_kernel[design]
