"""ActivationSource from anywhere, one layer at a time: the store, numpy, memory-mapped files, torch, zarr."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from probemap.activations.store import ActivationStore
from probemap.positions import DEFAULT_POSITIONS
from probemap.records import MapError

Layer = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ActivationSource:
    """ActivationSource, one layer at a time."""

    n: int
    layers: list[int]
    positions: list[str]
    d: int
    read: Callable[[int], Layer]
    """layer -> a fresh float32 array (n, n_positions, d)."""


def as_source(activations: Any, layers: Sequence[int] | None, positions: Sequence[str] | None) -> ActivationSource:
    """A store of captured states, or an array (n, n_layers, n_positions, d) of any kind, as `fit.fit_map` takes it.

    Raises
    ------
    MapError: another shape, or names that do not fit it.
    """
    if isinstance(activations, ActivationStore):
        return _stored(activations, layers, positions)
    array = activations if hasattr(activations, "shape") else np.asarray(activations)
    if len(array.shape) != 4:
        raise MapError(f"states of shape {tuple(array.shape)}", "the shape is (n, n_layers, n_positions, d)")
    n, n_layers, n_positions, d = map(int, array.shape)
    if not n or not n_layers or not n_positions or not d:
        raise MapError(f"states of shape {tuple(array.shape)} are empty", "the shape is (n, n_layers, n_positions, d)")
    default = DEFAULT_POSITIONS if n_positions == len(DEFAULT_POSITIONS) else range(n_positions)
    names = [str(p) for p in (default if positions is None else positions)]
    if len(names) != n_positions:
        raise MapError(f"{len(names)} position names for {n_positions} positions")
    numbers = list(range(n_layers)) if layers is None else [int(layer) for layer in layers]
    if len(numbers) != n_layers:
        raise MapError(f"{len(numbers)} layer numbers for {n_layers} layers")
    for what, labels in (("layer", numbers), ("position", names)):
        if len(set(labels)) != len(labels):
            raise MapError(f"a {what} is named twice: {labels}", f"name each {what} once")

    def read(layer: int) -> Layer:
        part = array[:, numbers.index(layer)]
        if isinstance(part, torch.Tensor):
            part = part.detach().float().cpu().numpy()
        return np.array(part, np.float32)

    return ActivationSource(n, numbers, names, d, read)


def _stored(store: ActivationStore, layers: Sequence[int] | None, positions: Sequence[str] | None) -> ActivationSource:
    layout = store.layout
    numbers = layout.layer_numbers if layers is None else [int(layer) for layer in layers]
    names = list(layout.positions) if positions is None else [str(p) for p in positions]
    if strange := [k for k in numbers if k not in layout.layer_numbers]:
        there = f"0 to {layout.n_layers - 1}" if not layout.layers else ", ".join(map(str, layout.layers))
        raise MapError(f"there is no layer {strange[0]}", f"the store holds layers {there}")
    if unknown := [p for p in names if p not in layout.positions]:
        raise MapError(f"there is no position {unknown[0]!r}", f"the store holds {', '.join(layout.positions)}")
    columns = [layout.positions.index(p) for p in names]
    return ActivationSource(layout.n, numbers, names, layout.d, lambda layer: store.read_layer(layer)[:, columns])
