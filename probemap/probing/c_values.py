"""C values: inverse strengths of the L2 penalty, as in scikit-learn."""

from collections.abc import Sequence

import numpy as np

from probemap.records import MapError

AUTO_C_VALUES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
"""The C values that ``c="auto"`` stands for."""


def parse_c(c: float | str | Sequence[float]) -> tuple[float, ...]:
    """Parse the argument `c` of `fit_map`, and return its C values in ascending order.

    Parameters
    ----------
    c : float, str or sequence of float
        A number, several numbers (as a sequence or a comma-separated string), or ``"auto"`` for `AUTO_C_VALUES`.

    Raises
    ------
    MapError
        If `c` cannot be parsed, or if a C value is not a finite number greater than 0.
    """
    if c == "auto":
        return AUTO_C_VALUES
    try:
        items = c.split(",") if isinstance(c, str) else [c] if isinstance(c, float | int) else c
        values = tuple(sorted(float(item) for item in items))
    except (ValueError, TypeError):
        raise MapError(
            f"invalid value for c: {c!r}", "pass a number, several numbers separated by commas, or auto"
        ) from None
    if not values or not all(0 < value < np.inf for value in values):
        raise MapError(f"invalid value for c: {c!r}", "C values must be finite and greater than 0")
    return values
