"""Read hidden states one layer at a time, from a store or from any array (NumPy, memmap, torch, zarr)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from probemap.positions import DEFAULT_POSITIONS
from probemap.records import MapError

if TYPE_CHECKING:
    from probemap.activations.layout import Layout, States

_SHAPE_HINT = "the expected shape is (n, n_layers, n_positions, d)"


@runtime_checkable
class CapturedStates(Protocol):
    """Interface for reading captured states, implemented by `ActivationStore`, `MemoryStore` and `Activations`."""

    @property
    def layout(self) -> Layout: ...
    def read_layer(self, layer: int) -> States: ...


@dataclass(frozen=True, kw_only=True)
class ActivationSource:
    """Hidden states that are read one layer at a time."""

    n: int
    """Number of answers."""
    layers: list[int]
    positions: list[str]
    d: int
    read: Callable[[int], States]
    """Callable that takes a layer number and returns an ndarray of shape (n, n_positions, d), float32.  The caller may
    modify the array."""
    ids: tuple[str, ...] | None = None
    """Ids of the answers, or None if they are unknown."""
    attrs: Mapping[str, str] = field(default_factory=dict)
    """Model, revision and site, as in the ``attrs`` of a `ProbeMap`.  Empty if they are unknown."""


def as_source(
    activations: Any, layers: Sequence[int] | None = None, positions: Sequence[str] | None = None
) -> ActivationSource:
    """Create a source from captured states or from any array.

    Parameters
    ----------
    activations : Activations, ActivationStore, or array of shape (n, n_layers, n_positions, d)
        An array may be of any type that supports ``array[:, layer]``.
    layers : sequence of int, optional
        For captured states, the layers to read.  For an array, the numbers of its layers (default: 0, 1, …).
    positions : sequence of str, optional
        For captured states, the positions to read.  For an array, the names of its positions.  By default, the names
        are ``probemap.positions.DEFAULT_POSITIONS`` if the array has that many positions, and ``"0"``, ``"1"``, …
        otherwise.

    Raises
    ------
    MapError
        If the shape of the array is invalid, if the layer numbers or position names do not match the array, or if a
        layer or position was not captured.
    """
    if isinstance(activations, CapturedStates):
        return _from_captured(activations, layers, positions)
    array = activations if hasattr(activations, "shape") else np.asarray(activations)
    if len(array.shape) != 4:
        raise MapError(f"the states have shape {tuple(array.shape)}, expected 4 dimensions", _SHAPE_HINT)
    n, n_layers, n_positions, d = map(int, array.shape)
    if not n or not n_layers or not n_positions or not d:
        raise MapError(f"the states of shape {tuple(array.shape)} are empty", _SHAPE_HINT)
    default = DEFAULT_POSITIONS if n_positions == len(DEFAULT_POSITIONS) else range(n_positions)
    names = [str(p) for p in (default if positions is None else positions)]
    if len(names) != n_positions:
        raise MapError(f"got {len(names)} position names for {n_positions} positions")
    numbers = list(range(n_layers)) if layers is None else [int(layer) for layer in layers]
    if len(numbers) != n_layers:
        raise MapError(f"got {len(numbers)} layer numbers for {n_layers} layers")
    for axis, labels in (("layer", numbers), ("position", names)):
        if len(set(labels)) != len(labels):
            raise MapError(f"duplicate {axis} in {labels}", f"name each {axis} once")

    def read(layer: int) -> States:
        states = array[:, numbers.index(layer)]
        if hasattr(states, "detach"):  # a torch tensor, possibly on a GPU, in bfloat16, or with a gradient
            states = states.detach().float().cpu().numpy()
        return np.array(states, np.float32)

    return ActivationSource(n=n, layers=numbers, positions=names, d=d, read=read)


def _from_captured(
    states: CapturedStates, layers: Sequence[int] | None, positions: Sequence[str] | None
) -> ActivationSource:
    layout = states.layout
    numbers = layout.layer_numbers if layers is None else [int(layer) for layer in layers]
    names = list(layout.positions) if positions is None else [str(p) for p in positions]
    if unknown_layers := [k for k in numbers if k not in layout.layer_numbers]:
        available = f"0 to {layout.n_layers - 1}" if not layout.layers else ", ".join(map(str, layout.layers))
        raise MapError(f"no states were captured at layer {unknown_layers[0]}", f"the captured layers are {available}")
    if unknown_positions := [p for p in names if p not in layout.positions]:
        raise MapError(
            f"no states were captured at position {unknown_positions[0]!r}",
            f"the captured positions are {', '.join(layout.positions)}",
        )
    columns = [layout.positions.index(p) for p in names]
    return ActivationSource(
        n=layout.n,
        layers=numbers,
        positions=names,
        d=layout.d,
        read=lambda layer: states.read_layer(layer)[:, columns],
        ids=getattr(states, "ids", None),  # `Activations` has ids and attrs, a store does not
        attrs=getattr(states, "attrs", {}),
    )
