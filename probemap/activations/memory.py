"""In-memory store of hidden states, which is written shard by shard like an `ActivationStore`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from probemap.activations.layout import Layout, States


class MemoryStore:
    """Store that keeps the hidden states of n answers in one array.

    Attributes
    ----------
    values : ndarray of shape (n, n_layers, n_positions, d), float32
        The hidden states.  They are NaN where an answer has no token at a position, and in shards that have not been
        written.
    skipped : list of str
        Ids of the answers that were not captured because they did not fit in memory.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.values: States = np.full(layout.shape, np.nan, np.float32)
        self.skipped: list[str] = []
        self._missing = set(range(layout.n_shards))
        self._input_embeddings: dict[int, States | None] = {}

    def missing_shards(self) -> list[int]:
        """Return the numbers of the shards that have not been written, in ascending order."""
        return sorted(self._missing)

    def write_shard(
        self, shard: int, states: States, skipped: Sequence[str] = (), input_embeddings: States | None = None
    ) -> None:
        """Write one shard; see `ActivationStore.write_shard`."""
        self.values[self.layout.rows(shard)] = states
        self.skipped.extend(skipped)
        self._input_embeddings[shard] = input_embeddings
        self._missing.discard(shard)

    def input_embeddings(self) -> States | None:
        """Return the mean input embeddings; see `ActivationStore.input_embeddings`."""
        by_shard = [self._input_embeddings.get(shard) for shard in range(self.layout.n_shards)]
        stored = [embeddings for embeddings in by_shard if embeddings is not None]
        return np.concatenate(stored) if len(stored) == len(by_shard) else None

    def read(self, layer: int, position: str) -> States:
        """Return the states of one cell as an array of shape (n, d)."""
        return self.read_layer(layer)[:, self.layout.positions.index(position)]

    def read_layer(self, layer: int) -> States:
        """Return a copy of the states of one layer as an array of shape (n, n_positions, d)."""
        return self.values[:, self.layout.layer_numbers.index(layer)].copy()
