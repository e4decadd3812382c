"""Pictures from finished numbers: one small panel per position over the layers, or per layer over the positions."""

from math import ceil
from typing import Literal

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes

from probemap.probing.metrics import measure
from probemap.probing.probe_map import ProbeMap
from probemap.views.heatmap import SIZES, SizeName, new_figure, protocol_of, style

_ACROSS = {("column", "layers"): 3, ("column", "positions"): 2, ("page", "layers"): 5, ("slide", "layers"): 5}
"""Panels beside each other, where it is not 3."""
_LINE, _BAND, _OTHERS = "#08519c", "#9ecae1", "#d0d0d0"


def plot_curves(
    probe_map: ProbeMap,
    over: Literal["layers", "positions"] = "layers",
    *,
    value: str = "auc",
    size: SizeName = "page",
) -> list[Axes]:
    """Draw the value over the layers, a panel for each position; or over the positions, a panel for every second layer.

    Every panel has the same axes, its own curve with the 95 % interval of each cell, and all other panels' curves in
    grey behind it.

    Parameters
    ----------
    value: a name of `values.VALUES`.

    Returns
    -------
    The panels' axes, in order; the line of each one's curve has the gid ``curve``.

    Raises
    ------
    MapError: the map does not hold that value.
    """
    measured = measure(probe_map, value)
    layers, positions = probe_map.layers, probe_map.positions
    grids = [measured.cells[name].values for name in ("value", "low", "high")]
    if over == "layers":
        curves, low, high = (grid.T for grid in grids)
        x, labels, names = layers, None, positions
    else:
        curves, low, high = (grid[::2] for grid in grids)
        x, labels, names = list(range(len(positions))), positions, [f"layer {layer}" for layer in layers[::2]]
    across = min(_ACROSS.get((size, over), 3), len(names))
    down = ceil(len(names) / across)
    width, letter = SIZES[size].width, SIZES[size].font
    with rc_context(style(size)):
        # The names of positions stand upright below the lowest panels, and take room.
        room = 0.35 if labels is None else 0.075 * max(map(len, labels)) * letter / 6.5
        figure = new_figure(width, room + down * (0.8 if labels is None else 0.5) * width / across)
        grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
        panels = list(grid.ravel())
        for spare in panels[len(names) :]:
            spare.set_visible(False)
        for k, (ax, name) in enumerate(zip(panels, names, strict=False)):
            for other in np.delete(curves, k, axis=0):
                ax.plot(x, other, color=_OTHERS, lw=0.4)
            ax.fill_between(x, low[k], high[k], color=_BAND, alpha=0.7, lw=0)
            ax.plot(x, curves[k], color=_LINE, lw=letter / 6, marker=".", ms=letter / 2, gid="curve")
            ax.set_title(name, fontsize=0.9 * letter, pad=2)
            if value == "auc":
                ax.axhline(0.5, color="#555555", lw=0.5, ls=":")
            if labels is not None:
                ax.set_xticks(x, labels, rotation=90)
            # The lowest panel of each column keeps its labels, also where a spare one is below it.
            ax.tick_params(labelbottom=k + across >= len(names))
        if value == "auc":
            lowest = np.nanmin(low) if np.isfinite(low).any() else 0.5
            panels[0].set_ylim(min(0.45, float(lowest) - 0.01), 1.0)
        if label := protocol_of([probe_map]):
            figure.suptitle(label[0], fontsize=letter)
        figure.supxlabel("Layer" if labels is None else "Token", fontsize=letter)
        figure.supylabel(measured.kind.label, fontsize=letter)
    return panels[: len(names)]
