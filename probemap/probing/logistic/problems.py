"""State of the logistic regression problems during the joint descent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields

import torch

Slices = list[tuple[int, slice]]
"""Runs of equal numbers in a sorted tensor, as pairs (number, rows)."""


@dataclass(kw_only=True)
class Problems:
    """The problems that have not converged yet.

    Each row of every tensor belongs to one problem, and the problems are sorted by group.  There are m problems, and
    each design matrix has n rows.
    """

    number: torch.Tensor
    """Tensor of shape (m,): number of each problem."""
    group: torch.Tensor
    """Tensor of shape (m,): group of each problem.  Problems with the same design and C value form a group and share a
    preconditioner."""
    design: torch.Tensor
    """Tensor of shape (m,): design of each problem.  Problems with the same design have the same matrix X and similar
    penalties."""
    y: torch.Tensor
    """Tensor of shape (m, n): targets, 0 or 1."""
    weight: torch.Tensor
    """Tensor of shape (m, n): weights c t of the rows in the loss."""
    ridge: torch.Tensor
    """Tensor of shape (m, d): penalties s², with 0 for dropped features."""
    u: torch.Tensor
    """Tensor of shape (m, unknowns): current values of the unknowns."""
    b: torch.Tensor
    """Tensor of shape (m, 1): intercepts."""
    f: torch.Tensor
    """Tensor of shape (m, n): current scores, including the intercept."""
    g: torch.Tensor
    """Tensor of shape (m, unknowns): gradient with respect to u, in the form that the space defines."""
    g_b: torch.Tensor
    """Tensor of shape (m, 1): gradient with respect to the intercept."""
    direction: torch.Tensor
    """Tensor of shape (m, unknowns): unknowns of the last search direction."""
    direction_b: torch.Tensor
    """Tensor of shape (m, 1): intercept of the last search direction."""
    direction_f: torch.Tensor
    """Tensor of shape (m, n): scores of the last search direction, without intercept."""
    norm: torch.Tensor
    """Tensor of shape (m, 1): gᵀ M⁻¹ g at the point where the last direction was chosen, or infinity if the next step
    is a restart."""
    previous_g: torch.Tensor
    """Tensor of shape (m, unknowns): g at the point where the last direction was chosen."""
    previous_g_b: torch.Tensor
    """Tensor of shape (m, 1): g_b at the point where the last direction was chosen."""
    groups: Slices = field(init=False)
    """The rows of each group."""
    designs: Slices = field(init=False)
    """The rows of each design."""

    def __post_init__(self) -> None:
        self.groups, self.designs = _slices(self.group), _slices(self.design)

    @classmethod
    def start(
        cls,
        unknowns: int,
        *,
        group: torch.Tensor,
        design: torch.Tensor,
        y: torch.Tensor,
        weight: torch.Tensor,
        ridge: torch.Tensor,
    ) -> Problems:
        """Return the problems at the starting point, where w = 0 and the intercept matches the class frequencies.

        The gradients are not computed yet.
        """
        b = ((weight * y).sum(1, keepdim=True) / weight.sum(1, keepdim=True)).logit()
        f, zero_b = b.expand(y.shape).clone(), torch.zeros_like(b)
        u = y.new_zeros(len(y), unknowns)
        return cls(
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

    def take(self, rows: torch.Tensor) -> Problems:
        """Return a subset of the problems."""
        return Problems(**{f.name: getattr(self, f.name)[rows] for f in fields(self) if f.init})

    def curvature(self) -> torch.Tensor:
        """Return the second derivative of the loss with respect to f, as a tensor of shape (m, n)."""
        p = self.f.sigmoid()
        return self.weight * (p * (1 - p))

    def residual(self) -> torch.Tensor:
        """Return the first derivative of the loss with respect to f, as a tensor of shape (m, n)."""
        return self.weight * (self.f.sigmoid() - self.y)


def concatenate(slices: Slices, product: Callable[[int, slice], torch.Tensor]) -> torch.Tensor:
    """Call `product` once per slice, and concatenate the rows that it returns."""
    products = [product(number, rows) for number, rows in slices]
    return products[0] if len(products) == 1 else torch.cat(products)


def _slices(sorted_numbers: torch.Tensor) -> Slices:
    numbers, counts = torch.unique_consecutive(sorted_numbers, return_counts=True)
    ends = counts.cumsum(0)
    return [
        (number, slice(start, end))
        for number, start, end in zip(numbers.tolist(), (ends - counts).tolist(), ends.tolist(), strict=True)
    ]
