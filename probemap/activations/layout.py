"""Layout of an array of captured states: its axes and site, and identifiers of the answers and the model weights."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

States = npt.NDArray[np.float32]
"""Array of hidden states, with NaN where an answer has no token at a position."""

SHARD_BYTES = 64 * 2**20
"""Target size of a shard in bytes: large enough to limit the number of files, and small enough to fit in memory."""

MAX_PADDING = 0.01
"""Maximum number of empty rows in the last shard, as a fraction of the number of answers."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Axes, storage format and origin of captured states."""

    n: int
    """Number of answers."""
    n_layers: int
    positions: tuple[str, ...]
    d: int
    """Width of a state."""
    site: str
    """Name of the site at which the states were recorded, e.g. ``resid``."""
    dtype: str
    """Data type of the stored states: ``float32`` or ``float16``."""
    shard_rows: int
    """Number of answers per shard."""
    made_from: str
    """SHA-256 of the token ids and of the indices of the probed tokens."""
    layers: tuple[int, ...] = ()
    """Layer numbers, or an empty tuple for layers 0 to n_layers - 1."""
    weights: str = ""
    """Identifier of the model's weights; see `Model.weights`.  Empty if unknown."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the array of states: (n, n_layers, n_positions, d)."""
        return self.n, self.n_layers, len(self.positions), self.d

    @property
    def layer_numbers(self) -> list[int]:
        """Layer number of each entry along the layer axis."""
        return list(self.layers or range(self.n_layers))

    @property
    def n_shards(self) -> int:
        """Number of shards.  The last one may be partly empty."""
        return -(-self.n // self.shard_rows)

    def rows(self, shard: int) -> slice:
        """Return the indices of the answers in a shard as a slice."""
        return slice(shard * self.shard_rows, min((shard + 1) * self.shard_rows, self.n))

    def size(self, shard: int) -> int:
        """Return the number of answers in a shard."""
        return min(self.shard_rows, self.n - shard * self.shard_rows)


def shard_rows_for(n: int, row_bytes: int, shard_bytes: int | None = None) -> int:
    """Return the number of answers per shard.

    The last shard takes up as much space as a full one, even if some of its rows are empty.  The number returned is the
    largest one for which a shard takes up at most `shard_bytes` bytes (unless a single answer is larger) and the number
    of empty rows is at most `MAX_PADDING` times the number of answers.

    Parameters
    ----------
    n : int
        Number of answers.
    row_bytes : int
        Size in bytes of the states for one answer.
    shard_bytes : int, optional
        Target size of a shard in bytes.  Default: `SHARD_BYTES`.
    """
    most = max(1, min(n, (shard_bytes or SHARD_BYTES) // row_bytes))
    return next(rows for rows in range(most, 0, -1) if -n % rows <= MAX_PADDING * n)


def states_at(tokens: States, offsets: npt.NDArray[np.int32]) -> States:
    """Return the states at some tokens of a sequence, with NaN for tokens without a state.

    Parameters
    ----------
    tokens : ndarray of shape (n_layers, n_tokens, d), float32
    offsets : ndarray of shape (n_positions,), int32
        Indices of the tokens, which may be negative, or larger than the last index.

    Returns
    -------
    ndarray of shape (n_layers, n_positions, d), float32
    """
    present = (offsets >= 0) & (offsets < tokens.shape[1])
    states = np.full((tokens.shape[0], len(offsets), tokens.shape[2]), np.nan, np.float32)
    states[:, present] = tokens[:, offsets[present]]
    return states
