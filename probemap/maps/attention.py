"""Attention weights that the probed tokens receive, as values of a map."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from probemap.maps.probe_map import ProbeMap
from probemap.probing.dataset import CELL_DIMS
from probemap.probing.inference import means
from probemap.probing.inputs import Column, elements

_VARIABLES = tuple(f"{name}{end}" for name in ("attention", "attention_exact") for end in ("", "_low", "_high"))


def with_attention(probe_map: ProbeMap, read_layer: Callable[[int], npt.NDArray[np.float32]], ids: Column) -> ProbeMap:
    """Return the map with the mean attention weight that each cell receives.

    Parameters
    ----------
    probe_map : ProbeMap
    read_layer : callable
        Layer number -> ndarray of shape (n, n_positions, 2): the attention weight that each of the map's positions
        receives from the last token and from the exact answer, NaN where a position is missing.
    ids : array-like of shape (n,)
        Ids of the answers in the arrays.

    Returns
    -------
    ProbeMap
        With ``attention`` and ``attention_exact`` and their 95 % confidence intervals: means over the decided answers
        that have the position.
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
