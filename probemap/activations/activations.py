"""Activations: the hidden states of a set of answers, in memory or in a store."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from probemap.activations.memory import MemoryStore

if TYPE_CHECKING:
    from probemap.activations.layout import Layout, States
    from probemap.activations.store import ActivationStore


@dataclass(frozen=True, kw_only=True)
class Activations:
    """Hidden states of answers at the probed tokens, with a description of the model that computed them.

    `fit_map` and `fit_detector` accept an instance in place of an array.

    Examples
    --------
    >>> import numpy as np
    >>> from probemap import Activations
    >>> from probemap.activations.layout import Layout
    >>> from probemap.activations.memory import MemoryStore
    >>> layout = Layout(n=2, n_layers=1, positions=("last_q", "-1"), d=4, site="resid", dtype="float32", shard_rows=2,
    ...                 made_from="")
    >>> store = MemoryStore(layout)
    >>> store.write_shard(0, np.ones((2, 1, 2, 4), np.float32))
    >>> activations = Activations(ids=("q1", "q2"), store=store, model="m", revision="1", dtype="float32")
    >>> activations
    Activations(n=2, layers=[0], positions=('last_q', '-1'), d=4, site='resid', model='m')
    >>> activations.values.shape
    (2, 1, 2, 4)
    >>> activations.read(0, "-1").shape
    (2, 4)
    """

    ids: tuple[str, ...]
    """Ids of the answers."""
    store: ActivationStore | MemoryStore
    """The store that contains the states."""
    model: str
    """The model's label; see `Model.label`."""
    revision: str
    """The model's commit on the Hugging Face Hub, or the SHA-256 of its local files."""
    dtype: str
    """Data type of the weights, such as ``bfloat16``."""
    quantize: str = ""
    """``4bit`` or ``8bit`` if the weights were quantised when they were loaded, otherwise an empty string."""
    template: str = ""
    """SHA-256 of the tokenizer's chat template, or an empty string if the tokenizer has none."""

    @property
    def layout(self) -> Layout:
        return self.store.layout

    @property
    def positions(self) -> tuple[str, ...]:
        """Names of the positions along the third axis of `values`."""
        return self.layout.positions

    @property
    def layers(self) -> list[int]:
        """Layer numbers along the second axis of `values`."""
        return self.layout.layer_numbers

    @property
    def site(self) -> str:
        """Name of the site at which the states were recorded, e.g. ``resid``."""
        return self.layout.site

    @property
    def attrs(self) -> dict[str, str]:
        """Model, revision and site, as in the ``attrs`` of a `ProbeMap`."""
        return {"model": self.model, "revision": self.revision, "site": self.site}

    @cached_property
    def values(self) -> States:
        """All states, as an ndarray of shape (n, n_layers, n_positions, d), float32.

        The states are NaN where an answer has no token at a position.  If they are in an `ActivationStore`, all of them
        are loaded when this attribute is first used, whereas `read` and `read_layer` load only the states that they
        return.
        """
        if isinstance(self.store, MemoryStore):
            return self.store.values
        return np.stack([self.store.read_layer(layer) for layer in self.layers], axis=1)

    @cached_property
    def input_embeddings(self) -> States | None:
        """The mean input embedding of each answer's tokens, which `compute_baselines` uses.

        An ndarray of shape (n, width of the embeddings), float32, or None if it was not stored with the states.
        """
        return self.store.input_embeddings()

    def read(self, layer: int, position: str) -> States:
        """Return the states of one cell as an ndarray of shape (n, d), float32."""
        return self.store.read(layer, position)

    def read_layer(self, layer: int) -> States:
        """Return the states of one layer as an ndarray of shape (n, n_positions, d), float32."""
        return self.store.read_layer(layer)

    def __repr__(self) -> str:
        return (
            f"Activations(n={self.layout.n}, layers={self.layers}, positions={self.positions}, d={self.layout.d}, "
            f"site={self.site!r}, model={self.model!r})"
        )
