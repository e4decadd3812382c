"""What an array of captured states contains: its axes, its site, and the answers and weights it was computed from."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

States = npt.NDArray[np.float32]
"""Hidden states.  NaN: the answer has no token at that position."""

SHARD_BYTES = 64 * 2**20
"""Target size of a shard: large enough for few files, small enough that a shard fits into memory."""

MAX_PADDING = 0.01
"""Largest allowed ratio of the empty rows of the last shard to the rows of the store."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Axes and origin of captured states.  Stores with equal layouts and contents are interchangeable."""

    n: int
    """Answers."""
    n_layers: int
    positions: tuple[str, ...]
    d: int
    """Width of a state."""
    site: str
    """Where in each block the states were recorded, e.g. ``resid``."""
    dtype: str
    """``float32`` or ``float16``, as stored."""
    shard_rows: int
    """Answers per shard."""
    made_from: str
    """SHA-256 of the token ids and probed indices."""
    layers: tuple[int, ...] = ()
    """Layer numbers, if they are not 0 to n_layers - 1."""
    weights: str = ""
    """`Model.weights` of the model, empty if unknown."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(n, n_layers, n_positions, d)."""
        return self.n, self.n_layers, len(self.positions), self.d

    @property
    def layer_numbers(self) -> list[int]:
        """The layer number of each entry of the layer axis."""
        return list(self.layers or range(self.n_layers))

    @property
    def n_shards(self) -> int:
        """Number of shards, the last of which may be partly empty."""
        return -(-self.n // self.shard_rows)

    def rows(self, shard: int) -> slice:
        """Return the answers of a shard."""
        return slice(shard * self.shard_rows, min((shard + 1) * self.shard_rows, self.n))

    def size(self, shard: int) -> int:
        """Return the number of answers in a shard."""
        return min(self.shard_rows, self.n - shard * self.shard_rows)


def shard_rows_for(n: int, row_bytes: int, shard_bytes: int | None = None) -> int:
    """Return the number of answers per shard.

    The last shard takes as much space as a full one.  The result is the largest number for which a shard has at most
    about `shard_bytes` and at most `MAX_PADDING` of the store is empty.

    Parameters
    ----------
    n : int
        Answers.
    row_bytes : int
        Bytes of the states of one answer.
    shard_bytes : int, optional
        Default: `SHARD_BYTES`.
    """
    most = max(1, min(n, (shard_bytes or SHARD_BYTES) // row_bytes))
    return next(rows for rows in range(most, 0, -1) if -n % rows <= MAX_PADDING * n)
