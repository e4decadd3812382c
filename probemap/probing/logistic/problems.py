"""The state of the problems during the descent."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields

import torch

Slices = list[tuple[int, slice]]
"""Runs of equal numbers in a sorted tensor: (number, rows)."""


@dataclass(kw_only=True)
class Problems:
    """The problems that have not converged.  The rows of every tensor are problems, sorted by group.

    m is the number of problems, n that of rows of a design matrix.
    """

    number: torch.Tensor
    """Tensor of shape (m,): number of the problem."""
    group: torch.Tensor
    """Tensor of shape (m,): problems of one design and C value share a preconditioner."""
    design: torch.Tensor
    """Tensor of shape (m,): problems of one design have the same matrix X and nearly the same penalty."""
    y: torch.Tensor
    """Tensor of shape (m, n): targets, 0 or 1."""
    weight: torch.Tensor
    """Tensor of shape (m, n): c t."""
    ridge: torch.Tensor
    """Tensor of shape (m, d): s²; 0 for a dropped feature."""
    u: torch.Tensor
    """Tensor of shape (m, unknowns)."""
    b: torch.Tensor
    """Tensor of shape (m, 1): intercepts."""
    f: torch.Tensor
    """Tensor of shape (m, n): scores of u and b."""
    g: torch.Tensor
    """Tensor of shape (m, unknowns): gradient, in the form of the space."""
    g_b: torch.Tensor
    """Tensor of shape (m, 1): gradient of the intercept."""
    direction: torch.Tensor
    """Tensor of shape (m, unknowns): last search direction."""
    direction_b: torch.Tensor
    """Tensor of shape (m, 1): its intercept."""
    direction_f: torch.Tensor
    """Tensor of shape (m, n): its scores without intercept."""
    norm: torch.Tensor
    """Tensor of shape (m, 1): gᵀ M⁻¹ g where the last direction was chosen; infinite if the next step restarts."""
    previous_g: torch.Tensor
    """Tensor of shape (m, unknowns): g where the last direction was chosen."""
    previous_g_b: torch.Tensor
    """Tensor of shape (m, 1): g_b where the last direction was chosen."""
    groups: Slices = field(init=False)
    """The rows of each group."""
    designs: Slices = field(init=False)
    """The rows of each design."""

    def __post_init__(self) -> None:
        self.groups, self.designs = _slices(self.group), _slices(self.design)

    def take(self, rows: torch.Tensor) -> "Problems":
        """Return some of the problems."""
        return Problems(**{f.name: getattr(self, f.name)[rows] for f in fields(self) if f.init})

    def curvature(self) -> torch.Tensor:
        """Return the second derivative of the loss with respect to f, of shape (m, n)."""
        p = self.f.sigmoid()
        return self.weight * (p * (1 - p))

    def residual(self) -> torch.Tensor:
        """Return the first derivative of the loss with respect to f, of shape (m, n)."""
        return self.weight * (self.f.sigmoid() - self.y)


def concatenate(slices: Slices, product: Callable[[int, slice], torch.Tensor]) -> torch.Tensor:
    """Return the rows of all slices, each computed by one call of `product`."""
    products = [product(number, rows) for number, rows in slices]
    return products[0] if len(products) == 1 else torch.cat(products)


def _slices(sorted_numbers: torch.Tensor) -> Slices:
    numbers, counts = torch.unique_consecutive(sorted_numbers, return_counts=True)
    ends = counts.cumsum(0)
    return [
        (number, slice(start, end))
        for number, start, end in zip(numbers.tolist(), (ends - counts).tolist(), ends.tolist(), strict=True)
    ]
