"""Extend a map with the attention weights that the probed tokens receive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from probemap.probing.cells import CELL_DIMS
from probemap.probing.inference import means
from probemap.probing.inputs import Column, elements

if TYPE_CHECKING:
    from probemap.maps.probe_map import ProbeMap

_VARIABLES = tuple(f"{name}{end}" for name in ("attention", "attention_exact") for end in ("", "_low", "_high"))


def with_attention(probe_map: ProbeMap, read_layer: Callable[[int], npt.NDArray[np.float32]], ids: Column) -> ProbeMap:
    """Extend a map with the mean attention weight that the token at each position receives in each layer.

    Parameters
    ----------
    probe_map : ProbeMap
    read_layer : callable
        Callable ``(layer) -> ndarray`` that returns an array of shape (n, n_positions, 2).  The two values on the last
        axis are the attention weights that the token at the position receives from the last token and from the exact
        answer.  They are NaN if the answer lacks the position.
    ids : array-like of shape (n,)
        Ids of the answers, in the same order as the rows of the arrays that `read_layer` returns.

    Returns
    -------
    ProbeMap
        The map with the additional variables ``attention`` and ``attention_exact`` and their 95 % confidence intervals.
        Each value is the mean over the decided answers that have the position.
    """
    data = probe_map.data
    row_of = {str(name): row for row, name in enumerate(elements(ids, "ids"))}
    rows = [row_of[str(name)] for name in data["answer"].values]
    groups = data["group"].values.astype(np.int64)
    grids = np.full((2, 3, len(probe_map.layers), len(probe_map.positions)), np.nan)
    for number, layer in enumerate(probe_map.layers):
        weights = read_layer(layer)[rows].astype(np.float64)
        for source in range(2):
            mean = means(weights[:, :, source])
            grids[source, :, number] = mean.value, *mean.interval(groups)
    flat = grids.reshape(len(_VARIABLES), *grids.shape[2:])
    variables = {name: (CELL_DIMS, grid) for name, grid in zip(_VARIABLES, flat, strict=True)}
    return replace(probe_map, data=data.assign(variables))
