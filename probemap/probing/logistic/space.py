"""The unknowns of many logistic regressions on a few design matrices: one per feature, or, if fewer, one per row.

A space says what the descent in `solver` has to know of its unknowns u: the scores that they give, the gradient in a
form g and what to pair with g (a pairing is a slope of J), and a preconditioner M near the Hessian, whose weights V and
penalty S² are the means of the problems that share it.  Rows unlike all others, which nothing else holds, each problem
gets with its own weights (`Space.precondition`).

- `FeatureSpace`: u is w, g the gradient Xᵀ pull + s² w, paired with w; M = Xᵀ V X + S².
- `RowSpace`: u is α of w = s⁻² Xᵀ α, exact for an L2 penalty, with scores X s⁻² Xᵀ α.  All problems of a design share
  one kernel K = X S⁻² Xᵀ: their scores change by K Δα at each step, and by how much K_k α differs is added now and then
  (`settle`).  g is α + pull, paired with the scores of a direction; M = I + V K.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields

import torch

Core = tuple[torch.Tensor, ...]
"""A Cholesky factor of M, and what goes with it."""

_UNLIKE = 4.0  # a row is unlike the others if its square, in the metric of the penalty, is so many times the median
_MOST_UNLIKE = 64  # rows
_OWN_WEIGHT = 1e-3  # of an unlike row, relative to that in M: below it is lost in the rounding of M⁻¹
_LEAST_WEIGHT = 1e-3  # of a row in M, relative to their mean: in the space of the rows M⁻¹ divides by its root


@dataclass(frozen=True)
class Factor:
    """A preconditioner M, ready to be solved with."""

    core: Core
    rows: torch.Tensor
    """(k,): the design's rows that are unlike all others, with their weights in M, `weight`, (k,)."""
    weight: torch.Tensor
    answer: torch.Tensor
    """(k, unknowns): M⁻¹ of a pull at each of these rows, with its intercept, `lift`, (k, 1)."""
    lift: torch.Tensor
    leverage: torch.Tensor
    """(k, k): the scores of `answer` at these rows, float64."""


@dataclass
class Problems:
    """The problems that are still on their way: the rows of every tensor are problems, sorted by group."""

    number: torch.Tensor
    """(m,): which problem this is."""
    group: torch.Tensor
    """(m,): which preconditioner it shares: that of its design and its strength."""
    design: torch.Tensor
    """(m,): which design it has: a matrix, and nearly a penalty."""
    y: torch.Tensor
    weight: torch.Tensor
    """(m, n): c t."""
    ridge: torch.Tensor
    """(m, d): s²; 0 where a feature is dropped."""
    u: torch.Tensor
    """(m, unknowns), with the intercepts `b`, (m, 1), and the scores of both `f`, (m, n)."""
    b: torch.Tensor
    f: torch.Tensor
    g: torch.Tensor
    """(m, unknowns): the gradient in the space's form, with that of the intercept, `level`, (m, 1)."""
    level: torch.Tensor
    way: torch.Tensor
    """(m, unknowns): the last direction, with its scores, `way_f`, and its intercept, `way_b`."""
    way_b: torch.Tensor
    way_f: torch.Tensor
    size: torch.Tensor
    """(m, 1): gᵀ M⁻¹ g where the last direction was chosen; infinite where there is none to go on from."""
    before: torch.Tensor
    """(m, unknowns): g there, with `before_level`."""
    before_level: torch.Tensor
    groups: list[tuple[int, slice]] = field(init=False)
    """The rows of each group."""
    designs: list[tuple[int, slice]] = field(init=False)
    """The rows of each design."""

    def __post_init__(self) -> None:
        self.groups, self.designs = _runs(self.group), _runs(self.design)

    def take(self, rows: torch.Tensor) -> "Problems":
        return Problems(**{part.name: getattr(self, part.name)[rows] for part in fields(self) if part.init})

    def curvature(self) -> torch.Tensor:
        """(m, n): the second derivative of the loss with respect to f."""
        p = self.f.sigmoid()
        return self.weight * (p * (1 - p))

    def pull(self) -> torch.Tensor:
        """(m, n): the first derivative of the loss with respect to f."""
        return self.weight * (self.f.sigmoid() - self.y)


def _runs(sorted_numbers: torch.Tensor) -> list[tuple[int, slice]]:
    numbers, counts = torch.unique_consecutive(sorted_numbers, return_counts=True)
    ends = counts.cumsum(0)
    return [
        (number, slice(start, end))
        for number, start, end in zip(numbers.tolist(), (ends - counts).tolist(), ends.tolist(), strict=True)
    ]


def _each(runs: list[tuple[int, slice]], product: Callable[[int, slice], torch.Tensor]) -> torch.Tensor:
    """The rows of all runs, each made by its own product."""
    made = [product(number, rows) for number, rows in runs]
    return made[0] if len(made) == 1 else torch.cat(made)


class Space:
    """What both spaces have."""

    x: list[torch.Tensor]
    """Per design (n, d)."""
    unlike: list[torch.Tensor]
    """Per design the numbers of the rows that are unlike all others."""
    unknowns: int
    settle_every: int
    """Steps; how often it pays to settle."""

    def start(
        self,
        group: torch.Tensor,
        design: torch.Tensor,
        y: torch.Tensor,
        weight: torch.Tensor,
        ridge: torch.Tensor,
    ) -> Problems:
        """At w = 0 and the intercept that fits the class sizes."""
        number = torch.arange(len(y), device=y.device)
        b = ((weight * y).sum(1, keepdim=True) / weight.sum(1, keepdim=True)).logit()
        f, zero_f, zero_b = b.expand(y.shape).clone(), torch.zeros_like(y), torch.zeros_like(b)
        u, infinite = y.new_zeros(len(y), self.unknowns), torch.full_like(b, torch.inf)
        state = (u, b, f, u, zero_b, u, zero_b, zero_f, infinite, u, zero_b)
        here = Problems(number, group, design, y, weight, ridge, *state)
        self.look(here, here.pull())
        return here

    def look(self, here: Problems, pull: torch.Tensor) -> None:
        """Take the gradient where the problems are now; pull is that of the loss with respect to f, (m, n)."""
        here.g, here.level = self.gradient(here, pull), pull.sum(1, keepdim=True)

    def precondition(self, factors: list[Factor], here: Problems) -> tuple[torch.Tensor, torch.Tensor]:
        """M⁻¹ of the gradient: its unknowns and its intercept."""
        made = [self._solve_with_own_weights(factors[k], here, rows) for k, rows in here.groups]
        if len(made) == 1:
            return self.allowed(here, made[0][0]), made[0][1]
        return self.allowed(here, torch.cat([z for z, _ in made])), torch.cat([lift for _, lift in made])

    def _solve_with_own_weights(self, factor: Factor, here: Problems, rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """M⁻¹ of the gradient, with each problem's own weights at the unlike rows.

        M has the mean weights W of its problems at the time it was made.  A problem that leaves an unlike row out, or
        has since become sure of it, holds it with less, V, and a descent by M alone would hardly move along that row:
        it would look like arrived.  The Hessian with V at these rows U is M - Uᵀ (W - V) U, whose inverse adds
        M⁻¹ Uᵀ a, (I - (W - V) G) a = (W - V) U M⁻¹ g, G = U M⁻¹ Uᵀ (Woodbury 1950).
        """
        z, lift = self.solve(factor.core, here.g[rows], here.level[rows])
        if not len(factor.rows):
            return z, lift
        p = here.f[rows][:, factor.rows].sigmoid()
        own = torch.maximum(here.weight[rows][:, factor.rows] * (p * (1 - p)), _OWN_WEIGHT * factor.weight)
        less = (factor.weight - own).double()
        scores = self.scores_at(int(here.design[rows.start]), z, factor.rows) + lift
        one = torch.eye(len(factor.rows), dtype=less.dtype, device=less.device)
        a = torch.linalg.solve(one - less[:, :, None] * factor.leverage, less * scores)
        a = a.to(z.dtype)
        return z + a @ factor.answer, lift + a @ factor.lift

    def _factor(self, design: int, core: Core, weight: torch.Tensor) -> Factor:
        rows = self.unlike[design]
        answer, lift = self.solve(core, self.pulls(design, rows), torch.ones_like(weight[rows])[:, None])
        leverage = self.scores_at(design, answer, rows) + lift
        return Factor(core, rows, weight[rows], answer, lift, (leverage + leverage.T).double() / 2)

    def pulls(self, design: int, rows: torch.Tensor) -> torch.Tensor:
        """(k, unknowns): g of a pull of 1 at each of these rows."""
        raise NotImplementedError

    def scores_at(self, design: int, u: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """(m, k): the scores of unknowns (m, unknowns) at these rows, as M knows them, without intercept."""
        raise NotImplementedError

    def gradient(self, here: Problems, pull: torch.Tensor) -> torch.Tensor:
        """(m, unknowns): g."""
        raise NotImplementedError

    def penalised(self, here: Problems, u: torch.Tensor) -> torch.Tensor:
        """(m, unknowns): what the penalty adds to g at u."""
        raise NotImplementedError

    def partner(self, u: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """(m, unknowns): what to pair with g for the slope along u."""
        raise NotImplementedError

    def allowed(self, here: Problems, u: torch.Tensor) -> torch.Tensor:
        """(m, unknowns): without those of dropped features, if the unknowns are features."""
        return u

    def scores(self, here: Problems, u: torch.Tensor) -> torch.Tensor:
        """(m, n): of unknowns (m, unknowns), without intercept."""
        raise NotImplementedError

    def settle(self, here: Problems, tolerance: float, for_good: bool = False) -> torch.Tensor:
        """Give the problems their exact scores, from now on if it is for good; whose moved by less, (m,) bool."""
        raise NotImplementedError

    def factor(self, design: int, weight: torch.Tensor) -> Factor:
        """Of the preconditioner with a weight per row, (n,)."""
        raise NotImplementedError

    def even_factor(self, design: int, weight: torch.Tensor) -> Factor:
        """Of the preconditioner with one weight for all rows."""
        return self.factor(design, weight.expand(len(self.x[design])))

    def solve(self, core: Core, g: torch.Tensor, level: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Unknowns and intercept of M⁻¹ (g, level)."""
        raise NotImplementedError


class FeatureSpace(Space):
    """Unknowns w, (m, d).  ridge is s² per design, (its problems, d)."""

    settle_every = 1

    def __init__(self, x: list[torch.Tensor], ridge: list[torch.Tensor]) -> None:
        self.x, self.unknowns = x, x[0].shape[1]
        self.dropping = any(bool((one == 0).any()) for one in ridge)
        self.ridge = [torch.where((mean := one.mean(0)) > 0, mean, 1) for one in ridge]
        self.unlike = [_unlike((one.square() / scale).sum(1)) for one, scale in zip(x, self.ridge, strict=True)]
        self.gram = [_symmetric_product(one.T, one) for one in x]

    def gradient(self, here: Problems, pull: torch.Tensor) -> torch.Tensor:
        g = _each(here.designs, lambda k, rows: pull[rows] @ self.x[k])
        return self.allowed(here, torch.addcmul(g, here.ridge, here.u))

    def penalised(self, here: Problems, u: torch.Tensor) -> torch.Tensor:
        return here.ridge * u

    def partner(self, u: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return u

    def allowed(self, here: Problems, u: torch.Tensor) -> torch.Tensor:
        return u * (here.ridge > 0) if self.dropping else u

    def scores(self, here: Problems, u: torch.Tensor) -> torch.Tensor:
        return _each(here.designs, lambda k, rows: u[rows] @ self.x[k].T)

    def settle(self, here: Problems, tolerance: float, for_good: bool = False) -> torch.Tensor:
        return torch.ones_like(here.b[:, 0], dtype=torch.bool)  # they are exact

    def factor(self, design: int, weight: torch.Tensor) -> Factor:
        x = self.x[design]
        return self._centred(design, _symmetric_product(x.T * weight, x), (weight @ x) / weight.sum(), weight)

    def even_factor(self, design: int, weight: torch.Tensor) -> Factor:
        x = self.x[design]
        return self._centred(design, self.gram[design] * weight, x.mean(0), weight.expand(len(x)))

    def _centred(self, design: int, gram: torch.Tensor, mean: torch.Tensor, weight: torch.Tensor) -> Factor:
        # Eliminating the intercept centres the features by their weighted means.
        total = weight.sum()
        gram.addr_(mean, mean * total, alpha=-1)
        gram.diagonal().add_(self.ridge[design])
        return self._factor(design, (_cholesky(gram), mean, total), weight)

    def solve(self, core: Core, g: torch.Tensor, level: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        lower, mean, total = core
        z = _solve(lower, g - level * mean)
        return z, level / total - (z @ mean)[:, None]

    def pulls(self, design: int, rows: torch.Tensor) -> torch.Tensor:
        return self.x[design][rows]

    def scores_at(self, design: int, u: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return u @ self.x[design][rows].T


class RowSpace(Space):
    """Unknowns α, (m, n).  ridge is s² per design, (its problems, d).

    Settling now and then, without stopping for it, costs less than exact scores of every direction: a product with K
    against two with X.  Each time the error of the scores is multiplied by about (K - K_k) (V⁻¹ + K)⁻¹, which stays
    below 1 because K takes the middle between the largest and the smallest s⁻² of the problems.  But it disturbs the
    conjugacy of the directions, on which hard problems live: these need exact scores in the end.
    """

    settle_every = 4

    def __init__(self, x: list[torch.Tensor], ridge: list[torch.Tensor]) -> None:
        self.x, self.unknowns, self.exact = x, len(x[0]), False
        inverse = [_inverse(one) for one in ridge]
        middle = [(one.amax(0) + one.amin(0)) / 2 for one in inverse]
        self.kernel = [_symmetric_product(one * scale, one.T) for one, scale in zip(x, middle, strict=True)]
        self.unlike = [_unlike(one.diagonal()) for one in self.kernel]

    def gradient(self, here: Problems, pull: torch.Tensor) -> torch.Tensor:
        return pull + here.u

    def penalised(self, here: Problems, u: torch.Tensor) -> torch.Tensor:
        return u

    def partner(self, u: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return scores

    def scores(self, here: Problems, u: torch.Tensor) -> torch.Tensor:
        if self.exact:
            return self._exact_scores(here, u)
        return _each(here.designs, lambda k, rows: u[rows] @ self.kernel[k])

    def settle(self, here: Problems, tolerance: float, for_good: bool = False) -> torch.Tensor:
        if self.exact:
            return torch.ones_like(here.b[:, 0], dtype=torch.bool)
        self.exact = for_good
        f = self._exact_scores(here, here.u) + here.b
        moved = ((f - here.f).abs() / (1 + f.abs())).amax(1)
        here.f = f
        self.look(here, here.pull())
        if for_good:  # a direction's scores so far were those of the shared kernel
            here.size = torch.full_like(here.size, torch.inf)
        return moved < tolerance

    def _exact_scores(self, here: Problems, u: torch.Tensor) -> torch.Tensor:
        inverse = _inverse(here.ridge)
        return _each(here.designs, lambda k, rows: (u[rows] @ self.x[k] * inverse[rows]) @ self.x[k].T)

    def factor(self, design: int, weight: torch.Tensor) -> Factor:
        # (I + V K)⁻¹ = V½ (I + V½ K V½)⁻¹ V⁻½: small results of large numbers without a difference of large numbers.
        root = weight.clamp(min=_LEAST_WEIGHT * float(weight.mean())).sqrt()
        inner = root[:, None] * self.kernel[design] * root
        inner.diagonal().add_(1)
        lower = _cholesky(inner)
        ones = root * _solve(lower, root[None])[0]
        return self._factor(design, (lower, root, ones, ones.sum()), root.square())

    def solve(self, core: Core, g: torch.Tensor, level: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        lower, root, ones, total = core
        z = _solve(lower, g / root) * root
        # The unknowns add up to zero at the optimum (no pull on the intercept), and may on the way: X is centred.
        lift = z.sum(1, keepdim=True) / total
        return z - lift * ones, lift

    def pulls(self, design: int, rows: torch.Tensor) -> torch.Tensor:
        made = self.x[design].new_zeros(len(rows), self.unknowns)
        made[torch.arange(len(rows), device=rows.device), rows] = 1
        return made

    def scores_at(self, design: int, u: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return u @ self.kernel[design][:, rows]


def _unlike(square: torch.Tensor) -> torch.Tensor:
    """The rows whose square stands out, the most unlike first."""
    most = square.topk(min(_MOST_UNLIKE, len(square)))
    return most.indices[most.values > _UNLIKE * square.median()]


def _inverse(ridge: torch.Tensor) -> torch.Tensor:
    return torch.where(ridge > 0, 1 / ridge, 0)


def _symmetric_product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The product a b, known to be symmetric: blocks above the diagonal are mirrored, not computed."""
    k, half = len(a), len(a) // 2
    if k < 256:
        return a @ b
    whole = a.new_empty(k, k)
    whole[:half, :half] = _symmetric_product(a[:half], b[:, :half])
    whole[half:, half:] = _symmetric_product(a[half:], b[:, half:])
    whole[half:, :half] = a[half:] @ b[:, :half]
    whole[:half, half:] = whole[half:, :half].T
    return whole


def _solve(lower: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """(L Lᵀ)⁻¹ of each row; cholesky_solve would copy L every time."""
    half = torch.linalg.solve_triangular(lower, rows.T, upper=False)
    solved: torch.Tensor = torch.linalg.solve_triangular(lower.T, half, upper=True).T
    return solved


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
