"""Many L2-regularised logistic regressions that share one design matrix, solved together with matrix products.

Problem k minimises, over coefficients w and a free intercept b,

    J = c_k Σ_i t_ik [log(1 + exp f_i) - y_ik f_i] + ½ Σ_j (s_kj w_j)²,      f = X w + b,

where t_ik is 1 for a training row and 0 for one that is left out or missing, and s_k scales the penalty of each
feature: with s_k the standard deviations over the training rows this is logistic regression on standardised features,
as ``StandardScaler`` and ``LogisticRegression(C=c_k)`` would fit it, without a copy of X per problem.

All problems descend together by nonlinear conjugate gradients (Polak & Ribière 1969, restarted where they ascend),
whose step costs two products with X for all problems at once.  What makes the steps few is the preconditioner: problems
of the same strength c differ in folds and labels, but share, nearly, one Hessian.  So one Cholesky factor per strength,
of the Hessian at their mean weights, serves them all; with fewer rows than features it is taken in the space of the
rows (Woodbury).  Problems that have arrived leave the batch; the few that have not after `MAX_STEPS` go to `newton`.
"""

from dataclasses import dataclass, fields, replace

import torch

from probemap.newton import solve_by_newton

TOLERANCE = 1e-3
"""A problem has arrived when its last step, and the Newton step that the preconditioner foretells, move no row's
score by more than this (relative to scores above 1)."""

MAX_STEPS = 150
_REFRESH = (5, 16, 48, 96)
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
    """Solve m problems on one design matrix: m = folds × strengths × label sets, or whatever is asked.

    Parameters
    ----------
    x: (n, d) float32 or float64, centred and of order one (the intercept is not penalised, but rounding is relative);
        the device of x is where all is computed.
    targets: (m, n) bool, y.
    training: (m, n) bool, t; at least one row of each class per problem.
    scale: (m, d), s; 0 drops a feature (a constant has no spread).
    c: (m,), inverse strength of the penalty.

    Against scikit-learn run to convergence, scores agree to about `TOLERANCE` relative to the largest.
    """
    ridge = scale.to(x.dtype) ** 2
    strengths, group = torch.unique(c, return_inverse=True)
    weight = training.to(x.dtype) * c.to(x.dtype)[:, None]
    problems = _start(x, targets.to(x.dtype), weight, ridge, group)
    space = (_Rows if x.shape[0] <= x.shape[1] else _Features)(x, ridge.mean(0))
    scores, converged = _descend(x, space, problems, len(strengths))
    if not bool(converged.all()):
        left = torch.nonzero(~converged).squeeze(1)
        for k in torch.split(left, _newton_batch(x, int(training[left].sum(1).max()))):
            scores[k], converged[k] = solve_by_newton(x, targets[k], training[k], scale[k], c[k])
    return Fits(scores, converged)


def _newton_batch(x: torch.Tensor, rows: int) -> int:
    """Problems per call of Newton's method, so that its copies of X and of the kernels stay near 200 MB."""
    numbers = x.shape[0] * x.shape[1] * 3 + min(rows, x.shape[1]) ** 2 * 3
    return max(1, int(2e8 / (numbers * x.element_size())))


@dataclass
class _Problems:
    """The problems that are still on their way: the rows of every tensor are problems."""

    number: torch.Tensor
    """(m,): which problem this is."""
    group: torch.Tensor
    """(m,): which strength it has."""
    y: torch.Tensor
    weight: torch.Tensor
    """(m, n): c t."""
    ridge: torch.Tensor
    """(m, d): s²; 0 where a feature is dropped."""
    w: torch.Tensor
    b: torch.Tensor
    """(m, 1)."""
    f: torch.Tensor
    g: torch.Tensor
    """(m, d): the gradient with respect to w."""
    level: torch.Tensor
    """(m, 1): the gradient with respect to b."""
    way: torch.Tensor
    """(m, d): the last direction, with `way_b` and its scores `way_f`."""
    way_b: torch.Tensor
    way_f: torch.Tensor
    size: torch.Tensor
    """(m, 1): gᵀ M⁻¹ g where the last direction was chosen; infinite before the first."""
    before: torch.Tensor
    """(m, d): g there, with `before_b`."""
    before_b: torch.Tensor

    def take(self, rows: torch.Tensor) -> "_Problems":
        return _Problems(**{part.name: getattr(self, part.name)[rows] for part in fields(self)})


def _start(
    x: torch.Tensor, y: torch.Tensor, weight: torch.Tensor, ridge: torch.Tensor, group: torch.Tensor
) -> _Problems:
    """At w = 0 and the intercept that fits the class sizes."""
    m = len(y)
    b = ((weight * y).sum(1, keepdim=True) / weight.sum(1, keepdim=True)).logit()
    f = b.expand(y.shape).clone()
    pull = weight * (f.sigmoid() - y)
    g = (pull @ x) * (ridge > 0)
    zero, one = torch.zeros_like(g), torch.zeros_like(b)
    level, infinite = pull.sum(1, keepdim=True), torch.full_like(b, torch.inf)
    number = torch.arange(m, device=x.device)
    return _Problems(
        number, group, y, weight, ridge, zero, b, f, g, level, zero, one, torch.zeros_like(f), infinite, g, level
    )


def _descend(
    x: torch.Tensor, space: "_Features | _Rows", all_: _Problems, n_groups: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """(scores (m, n), converged (m,))."""
    scores, converged = torch.empty_like(all_.f), torch.zeros(len(all_.f), dtype=torch.bool, device=x.device)
    here = all_
    curvature = here.weight * (here.f.sigmoid() * (1 - here.f.sigmoid()))
    factors = [space.even_factor(curvature[here.group == k].mean()) for k in range(n_groups)]
    moved = torch.ones_like(here.b)
    for step in range(MAX_STEPS):
        if step in _REFRESH:
            curvature = here.weight * (here.f.sigmoid() * (1 - here.f.sigmoid()))
            for k in sorted(set(here.group[moved[:, 0] > _REFRESH_ABOVE].tolist())):
                factors[k] = space.factor(curvature[here.group == k].mean(0))
                here.size[here.group == k] = torch.inf
        z, z_b, z_f = _precondition(space, factors, here)
        here = _turn(here, z, z_b, z_f)
        here, length, pull = _line_search(here)
        here.g, here.before = (pull @ x) * (here.ridge > 0) + here.ridge * here.w, here.g
        # All rows, left-out ones too: a row unlike those that were trained on can move long after they stand still.
        moved = (torch.maximum((length * here.way_f).abs(), z_f.abs()) / (1 + here.f.abs())).amax(1, keepdim=True)
        arrived = moved[:, 0] < TOLERANCE
        if bool(arrived.any()):
            done = here.number[arrived]
            scores[done], converged[done] = here.f[arrived], True
            if bool(arrived.all()):
                return scores, converged
            here, moved = here.take(~arrived), moved[~arrived]
    scores[here.number] = here.f
    return scores, converged


def _precondition(
    space: "_Features | _Rows", factors: "list[_Factor]", here: _Problems
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """M⁻¹ g: its coefficients, its intercept, and its scores."""
    groups = sorted(set(here.group.tolist()))
    if len(groups) == 1:
        z, lift = space.solve(factors[groups[0]], here.g, here.level)
    else:
        z, lift = torch.empty_like(here.g), torch.empty_like(here.level)
        for k in groups:
            rows = torch.nonzero(here.group == k).squeeze(1)
            z[rows], lift[rows] = space.solve(factors[k], here.g[rows], here.level[rows])
    z *= here.ridge > 0
    return z, lift, z @ space.transposed + lift


def _turn(here: _Problems, z: torch.Tensor, z_b: torch.Tensor, z_f: torch.Tensor) -> _Problems:
    """The next direction, -M⁻¹ g + β × the last one (β of Polak and Ribière, not below 0)."""
    size = _dot(z, here.g) + z_b * here.level
    beta = ((size - _dot(z, here.before) - z_b * here.before_b) / here.size).clamp(min=0)
    way, way_b, way_f = beta * here.way - z, beta * here.way_b - z_b, beta * here.way_f - z_f
    ascends = _dot(way, here.g) + way_b * here.level >= 0
    if bool(ascends.any()):
        way, way_b, way_f = (torch.where(ascends, -new, old) for new, old in ((z, way), (z_b, way_b), (z_f, way_f)))
    tiny = torch.finfo(size.dtype).tiny
    return replace(here, way=way, way_b=way_b, way_f=way_f, size=size.clamp(min=tiny), before_b=here.level)


def _line_search(here: _Problems) -> tuple[_Problems, torch.Tensor, torch.Tensor]:
    """Go along the direction until its slope is a quarter of what it was: Newton's method in one dimension, bracketed.

    Scores are linear in the length, so this needs no product with X.

    Returns
    -------
    The problems there, the lengths (m, 1), and the gradient with respect to f there (m, n).
    """
    bend, tilt = _dot(here.ridge * here.way, here.way), _dot(here.ridge * here.way, here.w)
    slope = _dot(here.way, here.g) + here.way_b * here.level
    length, low, high = torch.ones_like(slope), torch.zeros_like(slope), torch.full_like(slope, torch.inf)
    for _ in range(8):
        f = torch.addcmul(here.f, length, here.way_f)
        p = f.sigmoid()
        pull = here.weight * (p - here.y)
        now = _dot(pull, here.way_f) + tilt + length * bend
        if bool((now.abs() <= 0.25 * slope.abs()).all()):
            break
        second = _dot(here.weight * (p * (1 - p)), here.way_f * here.way_f) + bend
        low, high = torch.where(now < 0, length, low), torch.where(now < 0, high, length)
        newton = length - now / second.clamp(min=torch.finfo(second.dtype).tiny)
        middle = torch.where(high.isinf(), 4 * length, (low + high) / 2)
        length = torch.where((newton > low) & (newton < high), newton, middle)
    else:
        f = torch.addcmul(here.f, length, here.way_f)
        pull = here.weight * (f.sigmoid() - here.y)
    w, b = torch.addcmul(here.w, length, here.way), here.b + length * here.way_b
    return replace(here, w=w, b=b, f=f, level=pull.sum(1, keepdim=True)), length, pull


def _dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a * b).sum(1, keepdim=True)


_Factor = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class _Features:
    """The preconditioner Xᵀ V X + S² (with its intercept), by a Cholesky factor in the space of the features."""

    def __init__(self, x: torch.Tensor, ridge: torch.Tensor) -> None:
        self.x, self.transposed = x, x.T.contiguous()
        self.ridge = torch.where(ridge > 0, ridge, 1)
        self.gram = self.transposed @ x

    def even_factor(self, weight: torch.Tensor) -> _Factor:
        """With the same weight for every row."""
        return self._factor(self.gram * weight, self.x.mean(0), weight * len(self.x))

    def factor(self, weight: torch.Tensor) -> _Factor:
        """With a weight per row, (n,)."""
        total = weight.sum()
        return self._factor(self.transposed @ (weight[:, None] * self.x), (weight @ self.x) / total, total)

    def _factor(self, gram: torch.Tensor, mean: torch.Tensor, total: torch.Tensor) -> _Factor:
        # Eliminating the intercept centres the features by their weighted means.
        gram -= total * torch.outer(mean, mean)
        gram.diagonal().add_(self.ridge)
        return _cholesky(gram), mean, total

    def solve(self, factor: _Factor, g: torch.Tensor, level: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Coefficients and intercept of M⁻¹ (g, level)."""
        lower, mean, total = factor
        z = torch.cholesky_solve((g - level * mean).T, lower).T
        return z, level / total - (z @ mean)[:, None]


class _Rows:
    """The same preconditioner in the space of the rows: S⁻² - S⁻² Xᵀ (V⁻¹ + K)⁻¹ X S⁻², with K = X S⁻² Xᵀ."""

    def __init__(self, x: torch.Tensor, ridge: torch.Tensor) -> None:
        self.x, self.transposed = x, x.T.contiguous()
        self.inverse = torch.where(ridge > 0, 1 / ridge, 0)
        self.kernel = (x * self.inverse) @ self.transposed

    def even_factor(self, weight: torch.Tensor) -> _Factor:
        return self.factor(weight.expand(len(self.x)))

    def factor(self, weight: torch.Tensor) -> _Factor:
        # (V⁻¹ + K)⁻¹ = V½ (I + V½ K V½)⁻¹ V½
        root = weight.sqrt()
        inner = root[:, None] * self.kernel * root
        inner.diagonal().add_(1)
        lower = _cholesky(inner)
        ones = root * torch.cholesky_solve(root[:, None], lower)[:, 0]
        return lower, root, ones

    def solve(self, factor: _Factor, g: torch.Tensor, level: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        lower, root, ones = factor
        scaled = g * self.inverse
        inner = (scaled @ self.transposed) * root
        q = torch.cholesky_solve(inner.T, lower).T * root
        lift = (level - q.sum(1, keepdim=True)) / ones.sum()
        return scaled - ((q + lift * ones) @ self.x) * self.inverse, lift


def _cholesky(matrix: torch.Tensor) -> torch.Tensor:
    """The lower factor of a matrix that rounding may have made indefinite: it only steers, so a little is added."""
    extra = matrix.diagonal().mean() * torch.finfo(matrix.dtype).eps * 8
    for _ in range(12):
        matrix.diagonal().add_(extra)
        lower: torch.Tensor
        lower, failed = torch.linalg.cholesky_ex(matrix)
        if int(failed) == 0:
            return lower
        extra = extra * 10
    raise torch.linalg.LinAlgError("no Cholesky factor: the states are not finite")  # type: ignore[attr-defined]
