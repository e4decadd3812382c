"""Symmetric products and inverses."""

import torch

_SMALL = 256
"""A symmetric product with fewer rows than this is computed in full."""

_MAX_ATTEMPTS = 12


def symmetric_product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the product a b, which must be symmetric.

    Blocks above the diagonal are not computed, but copied from the blocks below the diagonal.
    """
    k, half = len(a), len(a) // 2
    if k < _SMALL:
        return a @ b
    product = a.new_empty(k, k)
    product[:half, :half] = symmetric_product(a[:half], b[:, :half])
    product[half:, half:] = symmetric_product(a[half:], b[:, half:])
    product[half:, :half] = a[half:] @ b[:, :half]
    product[:half, half:] = product[half:, :half].T
    return product


def inverse(matrix: torch.Tensor) -> torch.Tensor:
    """Return the inverse of a preconditioner.  The input matrix is modified in place.

    The inverse is applied in every step, and a product with it takes a fraction of the time that two triangular solves
    take for a few problems.  It need not be exact.

    Rounding may have made the matrix indefinite.  Because a preconditioner need not be exact, a small multiple of the
    identity is added, and the multiple is increased until the factorisation succeeds.
    """
    jitter = matrix.diagonal().mean() * torch.finfo(matrix.dtype).eps * 8
    for _ in range(_MAX_ATTEMPTS):
        matrix.diagonal().add_(jitter)
        lower: torch.Tensor
        lower, failed = torch.linalg.cholesky_ex(matrix)
        if int(failed) == 0:
            return torch.cholesky_inverse(lower)
        jitter = jitter * 10
    raise torch.linalg.LinAlgError("the matrix has no Cholesky factor: the features are not finite")  # type: ignore[attr-defined]


def inverse_or_zero(ridge: torch.Tensor) -> torch.Tensor:
    """Return 1 / ridge, or 0 where the ridge is 0 because the feature is dropped."""
    return torch.where(ridge > 0, 1 / ridge, 0)
