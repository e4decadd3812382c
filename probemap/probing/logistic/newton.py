"""Newton's method for the logistic regressions that `solver` leaves: slower per step, sure of its end.

Problems as in `solver`.  With at most as many training rows as features the unknowns are one number α_i per training
row, w = S⁻² Xᵀ α (exact for an L2 penalty), so that a step costs one Cholesky factor of B = I + c W½ K W½ with
K = X S⁻² Xᵀ, well conditioned however much the classes separate (Rasmussen & Williams 2006, Algorithm 3.1, here with an
intercept).  With more rows than features the same step is taken in the space of the features.  Steps are computed as
corrections of the gradient, so rounding in a factor costs a step, not accuracy.
"""

import torch

MAX_STEPS = 60
TOLERANCE = 1e-4
"""A problem stands still when its last step moved no training row's score by more than this (relative to scores above
1).  Newton's method converges quadratically: the error that is left is of the order of its square."""


def solve_by_newton(
    x: torch.Tensor, targets: torch.Tensor, training: torch.Tensor, scale: torch.Tensor, c: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(scores (m, n), converged (m,)) of m problems; parameters as for `solver.fit_logistic`."""
    inverse = torch.where(scale > 0, 1 / scale.clamp(min=torch.finfo(x.dtype).tiny), 0).to(x.dtype)
    # Training rows first, the same number in each problem: what is left over are left-out rows with weight 0.
    order = torch.argsort(training.to(torch.uint8), dim=1, descending=True, stable=True)
    kept = order[:, : int(training.sum(1).max())]
    y, t = targets.gather(1, kept).to(x.dtype), training.gather(1, kept).to(x.dtype)
    z = x * inverse[:, None, :]
    z_kept = z.gather(1, kept[..., None].expand(-1, -1, x.shape[1]))
    space = _RowSpace if kept.shape[1] <= x.shape[1] else _FeatureSpace
    unknown, intercept, converged = _newton(space(z_kept, y, t, c.to(x.dtype)[:, None]))
    w = z_kept.mT @ unknown[..., None] if space is _RowSpace else unknown[..., None]
    return (z @ w).squeeze(-1) + intercept[:, None], converged


class _Space:
    """m problems on scaled training rows z (m, n, d); y and t are (m, n), c is (m, 1)."""

    def __init__(self, z: torch.Tensor, y: torch.Tensor, t: torch.Tensor, c: torch.Tensor) -> None:
        self.z, self.y, self.t, self.c = z, y, t, c
        self.prepare()

    def weights(self, f: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Minus the gradient of c Σ t log(…) with respect to f, and its second derivative."""
        p = f.sigmoid()
        return self.c * (self.y - p) * self.t, self.c * p * (1 - p) * self.t

    def prepare(self) -> None:
        raise NotImplementedError

    def times(self, unknown: torch.Tensor) -> torch.Tensor:
        """(m, n): the scores without intercept."""
        raise NotImplementedError

    def step(self, unknown: torch.Tensor, f: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The Newton step of the unknowns and of the intercept (m,)."""
        raise NotImplementedError

    def penalty(self, unknown: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


class _RowSpace(_Space):
    """Unknowns α (m, n)."""

    def prepare(self) -> None:
        self.kernel = self.z @ self.z.mT
        self.start = torch.zeros_like(self.y)

    def times(self, unknown: torch.Tensor) -> torch.Tensor:
        return (self.kernel @ unknown[..., None]).squeeze(-1)

    def step(self, unknown: torch.Tensor, f: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        pull, weight = self.weights(f)
        root = weight.sqrt()
        b = root[:, :, None] * self.kernel * root[:, None, :]
        b.diagonal(dim1=1, dim2=2).add_(1)
        # (I + cWK) Δα + cw Δb = pull - α, with Σ(α + Δα) = 0; (I + cWK)⁻¹ v = v - √(cW) B⁻¹ √(cW) K v
        sides = torch.stack([pull - unknown, weight], dim=-1)
        inner = torch.cholesky_solve(root[..., None] * (self.kernel @ sides), torch.linalg.cholesky(b))
        solved = sides - root[..., None] * inner
        totals = solved.sum(dim=1)
        intercept = (totals[:, 0] + unknown.sum(1)) / totals[:, 1]
        return solved[..., 0] - intercept[:, None] * solved[..., 1], intercept

    def penalty(self, unknown: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return (unknown * scores).sum(1) / 2


class _FeatureSpace(_Space):
    """Unknowns w (m, d)."""

    def prepare(self) -> None:
        self.start = self.z.new_zeros(self.z.shape[0], self.z.shape[2])

    def times(self, unknown: torch.Tensor) -> torch.Tensor:
        return (self.z @ unknown[..., None]).squeeze(-1)

    def step(self, unknown: torch.Tensor, f: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        pull, weight = self.weights(f)
        total = weight.sum(1, keepdim=True)
        # Eliminating the intercept centres the features by their weighted means.
        means = (weight[:, None, :] @ self.z).squeeze(1) / total
        hessian = self.z.mT @ (weight[..., None] * self.z) - total[..., None] * means[:, :, None] * means[:, None, :]
        hessian.diagonal(dim1=1, dim2=2).add_(1)
        level = pull.sum(1, keepdim=True)
        side = (self.z.mT @ pull[..., None]).squeeze(-1) - unknown - level * means
        move = torch.cholesky_solve(side[..., None], torch.linalg.cholesky(hessian)).squeeze(-1)
        return move, (level / total - (means * move).sum(1, keepdim=True)).squeeze(1)

    def penalty(self, unknown: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return (unknown * unknown).sum(1) / 2


def _newton(space: _RowSpace | _FeatureSpace) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(unknowns, intercepts, converged): Newton steps, each halved until it does not raise J."""
    unknown, scores = space.start, torch.zeros_like(space.y)
    share = (space.y * space.t).sum(1) / space.t.sum(1)
    intercept = share.logit()
    value = _objective(space, unknown, scores, intercept)
    converged = torch.zeros_like(share, dtype=torch.bool)
    for _ in range(MAX_STEPS):
        f = scores + intercept[:, None]
        move, lift = space.step(unknown, f)
        shift = space.times(move)
        moved = ((shift + lift[:, None]).abs() * space.t / (1 + f.abs())).amax(1)
        length = torch.ones_like(value)
        while True:
            new = unknown + length[:, None] * move, scores + length[:, None] * shift, intercept + length * lift
            new_value = _objective(space, *new)
            # Rounding alone can raise J near the minimum, where a step is taken whole.
            worse = (new_value > value * (1 + 1e-5)) & (length > 1e-6)
            if not worse.any():
                break
            length = torch.where(worse, length / 2, length)
        (unknown, scores, intercept), value = new, new_value
        converged = moved < TOLERANCE
        if converged.all():
            break
    return unknown, intercept, converged


def _objective(
    space: _RowSpace | _FeatureSpace, unknown: torch.Tensor, scores: torch.Tensor, intercept: torch.Tensor
) -> torch.Tensor:
    f = scores + intercept[:, None]
    loss = torch.nn.functional.softplus(f) - space.y * f
    return space.c[:, 0] * (loss * space.t).sum(1) + space.penalty(unknown, scores)
