"""Plot a value against layer (one panel per position) or against position (one panel for every other layer)."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from probemap.probing.metrics import CellValues, measure
from probemap.views.figures import SIZES, Display, SizeName, escaped, protocol_labels
from probemap.views.printable import printable

if TYPE_CHECKING:
    from probemap.probing.cell_map import CellMap

Over = Literal["layers", "positions"]

_PANELS_PER_ROW = {("column", "layers"): 3, ("column", "positions"): 2, ("page", "layers"): 5, ("slide", "layers"): 5}
"""Number of panels per row for some combinations of size and x axis.  All other combinations have 3 panels per row."""
_LINE, _BAND, _OTHER_LINES = "#08519c", "#9ecae1", "#d0d0d0"


class CurvesDisplay(Display):
    """Display of a map's curves with their 95 % confidence intervals.

    A display is created by `plot_curves`, which also draws it, or by `from_map`, which does not.

    Attributes
    ----------
    figure : matplotlib.figure.Figure
    axes : tuple of matplotlib.axes.Axes
        One ``Axes`` per panel.  The line of the panel's own curve has the gid ``curve``.
    """

    def __init__(self, measured: CellValues, over: Over, *, size: SizeName = "page", title: str = "") -> None:
        super().__init__()
        self.measured, self.over, self.size, self.title = measured, over, size, title
        self._layers = [int(layer) for layer in measured.cells["layer"].values]
        self._positions = [str(p) for p in measured.cells["position"].values]
        n_panels = len(self._positions) if over == "layers" else len(self._layers[::2])
        self._columns = min(_PANELS_PER_ROW.get((size, over), 3), n_panels)
        self._rows = ceil(n_panels / self._columns)

    @classmethod
    def from_map(
        cls, probe_map: CellMap, over: Over = "layers", *, value: str = "auc", size: SizeName = "page"
    ) -> CurvesDisplay:
        """Compute the curves without drawing them; see `plot_curves` for the parameters."""
        title = next(iter(protocol_labels([probe_map])), "")
        return cls(measure(probe_map, value), over, size=size, title=title)

    def _inches(self) -> tuple[float, float]:
        width, font = SIZES[self.size].width, SIZES[self.size].font
        if self.over == "layers":
            return width, 0.35 + self._rows * 0.8 * width / self._columns
        # The names of the positions are written vertically below the bottom panels.
        names = 0.075 * max(map(len, self._positions)) * font / 6.5
        return width, names + self._rows * 0.5 * width / self._columns

    def _draw(self, figure: Figure) -> tuple[Axes, ...]:
        grids = [self.measured.cells[name].values for name in ("value", "low", "high")]
        is_auc, font = self.measured.kind.variable == "auc", SIZES[self.size].font
        x: list[int]
        if self.over == "layers":
            curves, low, high = (grid.T for grid in grids)
            x, names = self._layers, self._positions
        else:
            curves, low, high = (grid[::2] for grid in grids)
            x, names = list(range(len(self._positions))), [f"layer {layer}" for layer in self._layers[::2]]
        subplots = figure.subplots(self._rows, self._columns, sharex=True, sharey=True, squeeze=False)
        panels = list(subplots.ravel())
        for unused in panels[len(names) :]:
            unused.set_visible(False)
        for k, (ax, name) in enumerate(zip(panels, names, strict=False)):
            for other_curve in np.delete(curves, k, axis=0):
                ax.plot(x, other_curve, color=_OTHER_LINES, lw=0.4)
            ax.fill_between(x, low[k], high[k], color=_BAND, alpha=0.7, lw=0)
            ax.plot(x, curves[k], color=_LINE, lw=font / 6, marker=".", ms=font / 2, gid="curve")
            ax.set_title(name, fontsize=0.9 * font, pad=2)
            if is_auc:
                ax.axhline(0.5, color="#555555", lw=0.5, ls=":")
            if self.over == "positions":
                ax.set_xticks(x, self._positions, rotation=90)
            # The lowest used panel of each column keeps its tick labels, even if there is an unused panel below it.
            ax.tick_params(labelbottom=k + self._columns >= len(names))
        if is_auc:
            lowest = np.nanmin(low) if np.isfinite(low).any() else 0.5
            panels[0].set_ylim(min(0.45, float(lowest) - 0.01), 1.0)
        if self.title:
            figure.suptitle(self.title, fontsize=font)
        figure.supxlabel("Layer" if self.over == "layers" else "Token", fontsize=font)
        figure.supylabel(escaped([printable(self.measured.kind.label)]), fontsize=font)
        return tuple(panels[: len(names)])


def plot_curves(
    probe_map: CellMap, over: Over = "layers", *, value: str = "auc", size: SizeName = "page"
) -> CurvesDisplay:
    """Plot a value against layer, with one panel per position, or against position, with one panel for every other
    layer.

    All panels have the same axis limits.  Each panel shows its own curve, with the 95 % confidence interval of each
    cell, and, for comparison, the curves of all other panels in grey.

    Parameters
    ----------
    probe_map : ProbeMap
    over : {"layers", "positions"}
        Quantity on the x axis.
    value : str
        The value to plot: a key of `probemap.probing.metrics.VALUES`, such as ``"auc"``, ``"accuracy"`` or ``"gain"``.
    size : {"column", "page", "slide"}
        Size of the figure and its text.  The sizes are intended for one column of a paper, its full text width, and a
        slide, respectively.

    Returns
    -------
    CurvesDisplay
        The display.  A notebook renders it if it is the last expression in a cell; in a script, call
        `matplotlib.pyplot.show`.  Its attribute ``axes`` has one element per panel, and its method ``save(path)`` saves
        the figure to a file.

    Raises
    ------
    MapError
        If the map does not contain the value.

    Examples
    --------
    >>> import numpy as np
    >>> import probemap
    >>> rng = np.random.default_rng(0)
    >>> correct = rng.random(100) < 0.5
    >>> states = rng.normal(size=(100, 3, 2, 4)).astype(np.float32)
    >>> states[:, 1, 1, 0] += 2 * correct
    >>> probe_map = probemap.fit_map(states, correct, positions=["last_q", "-1"])
    >>> display = probemap.plot_curves(probe_map)
    >>> [ax.get_title() for ax in display.axes]
    ['last_q', '-1']
    """
    display = CurvesDisplay.from_map(probe_map, over, value=value, size=size)
    display.plot()
    return display
