"""The space with one unknown per feature: its coefficient w.

In the notation of `space`, g is the gradient Xᵀ residual + s² w, every direction is its own dual, and M = Xᵀ V X + S².
"""

import torch

from probemap.probing.logistic.linalg import inverse, symmetric_product
from probemap.probing.logistic.problems import Problems, concatenate
from probemap.probing.logistic.space import Core, Factor, Space, high_leverage_rows


class FeatureSpace(Space):
    """Space in which the unknowns are the coefficients w, of shape (m, d).

    Parameters
    ----------
    x : list of Tensor of shape (n, d)
        Design matrices.
    ridge : list of Tensor of shape (m_k, d)
        For each design, the penalties s² of its problems.
    """

    refresh_every = 1  # scores are always exact

    def __init__(self, x: list[torch.Tensor], ridge: list[torch.Tensor]) -> None:
        self.x, self.unknowns = x, x[0].shape[1]
        self.drops_features = any(bool((r == 0).any()) for r in ridge)
        self.ridge = [torch.where((mean := r.mean(0)) > 0, mean, 1) for r in ridge]
        self.leverage_rows = [high_leverage_rows((z.square() / r).sum(1)) for z, r in zip(x, self.ridge, strict=True)]
        self._leverage_x = [z[rows] for z, rows in zip(x, self.leverage_rows, strict=True)]
        self.gram = [symmetric_product(z.T, z) for z in x]

    def gradient(self, problems: Problems, residual: torch.Tensor) -> torch.Tensor:
        g = concatenate(problems.designs, lambda k, rows: residual[rows] @ self.x[k])
        return self.without_dropped(problems, torch.addcmul(g, problems.ridge, problems.u))

    def penalty_gradient(self, problems: Problems, u: torch.Tensor) -> torch.Tensor:
        return problems.ridge * u

    def dual(self, u: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return u

    def without_dropped(self, problems: Problems, u: torch.Tensor) -> torch.Tensor:
        return u * (problems.ridge > 0) if self.drops_features else u

    def scores(self, problems: Problems, u: torch.Tensor) -> torch.Tensor:
        return concatenate(problems.designs, lambda k, rows: u[rows] @ self.x[k].T)

    def refresh(self, problems: Problems, tolerance: float, permanently: bool = False) -> torch.Tensor:
        return torch.ones_like(problems.b[:, 0], dtype=torch.bool)

    def factor(self, design: int, weight: torch.Tensor) -> Factor:
        x = self.x[design]
        return self._centred(design, symmetric_product(x.T * weight, x), (weight @ x) / weight.sum(), weight)

    def uniform_factor(self, design: int, weight: torch.Tensor) -> Factor:
        x = self.x[design]
        return self._centred(design, self.gram[design] * weight, x.mean(0), weight.expand(len(x)))

    def _centred(self, design: int, gram: torch.Tensor, mean: torch.Tensor, weight: torch.Tensor) -> Factor:
        # Eliminating the intercept centres the features by their weighted means.
        total = weight.sum()
        gram.addr_(mean, mean * total, alpha=-1)
        gram.diagonal().add_(self.ridge[design])
        return self.make_factor(design, (inverse(gram), mean, total), weight)

    def solve(self, core: Core, g: torch.Tensor, g_b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        inverse_gram, mean, total = core
        z = (g - g_b * mean) @ inverse_gram
        return z, g_b / total - (z @ mean)[:, None]

    def unit_gradients(self, design: int, rows: torch.Tensor) -> torch.Tensor:
        return self.x[design][rows]

    def leverage_scores(self, design: int, u: torch.Tensor) -> torch.Tensor:
        return u @ self._leverage_x[design].T
