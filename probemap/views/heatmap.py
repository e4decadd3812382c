"""Draw heatmaps with positions on the x axis, layers on the y axis, and the value of each cell as its colour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING, Self

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from probemap.probing.difference import difference
from probemap.probing.metrics import CellValues, measure, shared_limits
from probemap.views.artists import draw_cells, draw_colour_bar, mark_best
from probemap.views.figures import DIGIT_WIDTH, MAP_WIDTH, SIZES, Display, SizeName, escaped, protocol_labels, style

if TYPE_CHECKING:
    from probemap.probing.auc import Bools
    from probemap.probing.cell_map import CellMap


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One map of a display, with its values, title and marks."""

    measured: CellValues
    title: tuple[str, ...]
    """Lines of the title, wrapped to the map's width."""
    best: tuple[tuple[int, int], ...] = ()
    """The cells to outline, as (row, column) pairs."""
    dots: Bools | None = None
    """Mask of shape (n_layers, n_positions) that selects the cells to mark with a dot."""


class MapDisplay(Display):
    """Display of one or more maps with a common colour scale.

    A display is created by `plot_map`, `plot_maps` or `plot_difference`, which also draw it, or by `from_map`,
    `from_maps` or `from_difference`, which do not.

    Attributes
    ----------
    panels : tuple of Panel
        The maps, from left to right.
    figure : matplotlib.figure.Figure
    axes : tuple of matplotlib.axes.Axes
        One ``Axes`` per map.  ``axes[k].images[0]`` contains the array that is drawn.

    Examples
    --------
    >>> import numpy as np
    >>> from probemap import MapDisplay, fit_map
    >>> states = np.random.default_rng(0).normal(size=(200, 3, 2, 8))
    >>> display = MapDisplay.from_map(fit_map(states, states[:, 1, 0, 0] > 0, positions=["last_q", "-1"]))
    >>> display.panels[0].measured.cells["value"].shape
    (3, 2)
    >>> display.axes[0].images[0].get_array().shape
    (3, 2)
    """

    def __init__(
        self,
        panels: Sequence[Panel],
        *,
        cmap: str | None = None,
        size: SizeName = "column",
        left_title: bool = False,
    ) -> None:
        super().__init__()
        self.panels, self.cmap, self.size, self.left_title = tuple(panels), cmap, size, left_title

    @classmethod
    def from_map(
        cls, probe_map: CellMap, *, value: str = "auc", cmap: str | None = None, size: SizeName = "column"
    ) -> Self:
        """Create the display for one map without drawing it; see `plot_map` for the parameters."""
        lines = _facts(probe_map, value) if SIZES[size].note else protocol_labels([probe_map])
        # The title is aligned with the left edge of the map and may extend over the colour bar.
        title = _wrapped(lines, size, 0.88)
        return cls([_panel(probe_map, measure(probe_map, value), title)], cmap=cmap, size=size, left_title=True)

    @classmethod
    def from_maps(
        cls,
        probe_maps: Sequence[CellMap],
        *,
        titles: Sequence[str] | None = None,
        value: str = "auc",
        cmap: str | None = None,
        size: SizeName = "page",
    ) -> Self:
        """Create the display for several maps without drawing it; see `plot_maps` for the parameters."""
        scaled = shared_limits([measure(m, value) for m in probe_maps])
        panels = []
        for probe_map, measured, title in zip(probe_maps, scaled, titles or _differing(probe_maps), strict=True):
            lines = _wrapped([title, *protocol_labels([probe_map])], size, MAP_WIDTH / len(scaled))
            panels.append(_panel(probe_map, measured, lines))
        return cls(panels, cmap=cmap, size=size)

    @classmethod
    def from_difference(
        cls,
        minuend: CellMap,
        subtrahend: CellMap,
        *,
        title: str | None = None,
        cmap: str | None = None,
        size: SizeName = "column",
    ) -> Self:
        """Create the display for a difference without drawing it; see `plot_difference` for the parameters."""
        maps = [minuend, subtrahend]
        lines = _wrapped([title or " minus ".join(_differing(maps)), *protocol_labels(maps)], size)
        return cls([Panel(measured=difference(minuend, subtrahend), title=tuple(lines))], cmap=cmap, size=size)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the display into a new pyplot figure or into existing axes.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Axes to draw into, if the display has a single map.  By default, a new pyplot figure is created.

        Returns
        -------
        MapDisplay
            The display itself.
        """
        if ax is None:
            return super().plot()
        with rc_context(style(self.size)):
            self._axes = self._draw_into([ax])
        return self

    def _inches(self) -> tuple[float, float]:
        size = SIZES[self.size]
        lines = max(len(panel.title) for panel in self.panels)
        heights = []
        for panel in self.panels:
            cells = panel.measured.cells
            longest_name = max(len(str(p)) for p in cells["position"].values)
            text = size.font / 72 * (1.2 * lines + DIGIT_WIDTH * longest_name + 5)
            heights.append(size.row * cells.sizes["layer"] + text)
        return size.width, max(heights)

    def _draw(self, figure: Figure) -> tuple[Axes, ...]:
        n = len(self.panels)
        return self._draw_into([figure.add_subplot(1, n, k + 1) for k in range(n)])

    def _draw_into(self, axes: Sequence[Axes]) -> tuple[Axes, ...]:
        same_layers = len({tuple(panel.measured.cells["layer"].values.tolist()) for panel in self.panels}) == 1
        font = SIZES[self.size].font
        for k, (ax, panel) in enumerate(zip(axes, self.panels, strict=True)):
            image = draw_cells(ax, panel.measured, self.cmap, self.size, len(axes))
            mark_best(ax, image, panel.best, panel.dots, self.size)
            if self.left_title:
                ax.set_title(escaped(panel.title), loc="left", fontsize=0.92 * font)
            else:
                ax.set_title(escaped(panel.title), fontsize=font)
            if same_layers and k > 0:
                ax.set_ylabel("")
        draw_colour_bar(axes[-1].images[0], axes, [panel.measured for panel in self.panels])
        return tuple(axes)


def plot_map(
    probe_map: CellMap,
    *,
    ax: Axes | None = None,
    value: str = "auc",
    cmap: str | None = None,
    size: SizeName = "column",
) -> MapDisplay:
    """Plot a map with positions on the x axis, layers on the y axis (layer 0 at the top), and values as colours.

    The number below each column is the number of answers from which the column is computed.  Cells with too few answers
    are hatched in grey.  In a map of AUCs, the cell with the highest AUC is outlined, and the cells that are not
    distinguishable from it are marked with dots.  In a map of signed values, such as the gain over the baselines, cells
    whose confidence interval contains 0 are pale.  All other cells with negative values are marked with a minus sign,
    which remains visible in greyscale.

    Parameters
    ----------
    probe_map : ProbeMap
    ax : matplotlib.axes.Axes, optional
        Axes to draw into.  By default, a new pyplot figure is created.
    value : str
        The value to plot: a key of `probemap.probing.metrics.VALUES`, such as ``"auc"``, ``"accuracy"`` or ``"gain"``.
    cmap : str, optional
        Name of a matplotlib colour map.  Default: ``"PuOr"`` for signed values, ``"Blues"`` for all others.
    size : {"column", "page", "slide"}
        Size of the text, and of the figure if a new one is created.  The sizes are intended for one column of a paper,
        its full text width, and a slide, respectively.

    Returns
    -------
    MapDisplay
        The display.  A notebook renders it if it is the last expression in a cell; in a script, call
        `matplotlib.pyplot.show`.  Its attributes ``figure`` and ``axes`` contain the matplotlib objects, and its method
        ``save(path)`` saves the figure to a file.

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
    >>> display = probemap.plot_map(probe_map)
    >>> [label.get_text() for label in display.axes[0].get_xticklabels()]
    ['last_q', '-1']
    >>> display.axes[0].images[0].get_array().shape
    (3, 2)
    """
    return MapDisplay.from_map(probe_map, value=value, cmap=cmap, size=size).plot(ax)


def plot_maps(
    probe_maps: Sequence[CellMap],
    *,
    titles: Sequence[str] | None = None,
    value: str = "auc",
    cmap: str | None = None,
    size: SizeName = "page",
) -> MapDisplay:
    """Plot several maps side by side with a common colour bar, as in figure 2 of Orgad et al. 2024.

    Parameters
    ----------
    probe_maps : sequence of ProbeMap
    titles : sequence of str, optional
        One title per map.  By default, each title gives the model, the task and the site, omitting those that are the
        same for all maps.  If all three are the same, it gives the task.
    value, cmap, size
        See `plot_map`.

    Returns
    -------
    MapDisplay
        The display; see `plot_map`.  Its attribute ``axes`` has one element per map.

    Raises
    ------
    MapError
        If a map does not contain the value.

    Examples
    --------
    >>> import numpy as np
    >>> import probemap
    >>> rng = np.random.default_rng(0)
    >>> correct = rng.random(100) < 0.5
    >>> states = rng.normal(size=(100, 3, 2, 4)).astype(np.float32)
    >>> noise = probemap.fit_map(states, correct, positions=["last_q", "-1"])
    >>> states[:, 1, 1, 0] += 2 * correct
    >>> signal = probemap.fit_map(states, correct, positions=["last_q", "-1"])
    >>> display = probemap.plot_maps([noise, signal], titles=["noise", "signal"])
    >>> [ax.get_title() for ax in display.axes]
    ['noise', 'signal']
    """
    return MapDisplay.from_maps(probe_maps, titles=titles, value=value, cmap=cmap, size=size).plot()


def plot_difference(
    minuend: CellMap,
    subtrahend: CellMap,
    *,
    ax: Axes | None = None,
    title: str | None = None,
    cmap: str | None = None,
    size: SizeName = "column",
) -> MapDisplay:
    """Plot the AUCs of one map minus those of another map, for all cells that both maps contain.

    Cells are pale if the 95 % confidence interval of their difference contains 0.  If both maps contain the same
    answers with the same verdicts, the comparison is paired.

    Parameters
    ----------
    minuend, subtrahend : ProbeMap
        The AUCs of `subtrahend` are subtracted from those of `minuend`.
    ax
        See `plot_map`.
    title : str, optional
        Title of the figure.  By default, it consists of the default titles of the two maps (see `plot_maps`), joined by
        "minus".
    cmap, size
        See `plot_map`.

    Returns
    -------
    MapDisplay
        The display; see `plot_map`.

    Raises
    ------
    MapError
        If the maps have no cells in common.

    Examples
    --------
    >>> import numpy as np
    >>> import probemap
    >>> rng = np.random.default_rng(0)
    >>> correct = rng.random(100) < 0.5
    >>> states = rng.normal(size=(100, 3, 2, 4)).astype(np.float32)
    >>> noise = probemap.fit_map(states, correct, positions=["last_q", "-1"])
    >>> states[:, 1, 1, 0] += 2 * correct
    >>> signal = probemap.fit_map(states, correct, positions=["last_q", "-1"])
    >>> display = probemap.plot_difference(signal, noise, title="signal minus noise")
    >>> bool(display.axes[0].images[0].get_array()[1, 1] > 0)
    True
    """
    return MapDisplay.from_difference(minuend, subtrahend, title=title, cmap=cmap, size=size).plot(ax)


def _panel(probe_map: CellMap, measured: CellValues, title: Sequence[str]) -> Panel:
    """Return the panel for a map.  If the values are AUCs, the best cells are marked."""
    if measured.kind.variable != "auc":
        return Panel(measured=measured, title=tuple(title))
    layers, positions = probe_map.layers, probe_map.positions
    best = tuple((layers.index(cell.layer), positions.index(cell.position)) for cell in probe_map.best())
    dots = probe_map.confidence_set().values if "scores" in probe_map.data else None
    return Panel(measured=measured, title=tuple(title), best=best, dots=dots)


def _wrapped(lines: Sequence[str], size: SizeName, fraction: float = MAP_WIDTH) -> list[str]:
    """Wrap lines to a fraction of the figure's width, assuming that the width of a letter is half the font size."""
    n_letters = int(72 * fraction * SIZES[size].width / (0.5 * SIZES[size].font))
    return [piece for line in lines for piece in wrap(line, n_letters) or [""]]


def _differing(probe_maps: Sequence[CellMap]) -> list[str]:
    """Return one title per map: the model, the task and the site, omitting those that are the same for all maps, or
    only the task if all three are the same."""
    facts = [{k: str(m.data.attrs.get(k, "")) for k in ("model", "task", "site")} for m in probe_maps]
    keys = [k for k in ("model", "task", "site") if len({fact[k] for fact in facts}) > 1] or ["task"]
    return [", ".join(fact[k] for k in keys) for fact in facts]


def _facts(probe_map: CellMap, value: str) -> list[str]:
    """Return the title of a single map as lines of text: model and task, number of answers, best cell (for AUCs), and
    protocol."""
    attrs = probe_map.data.attrs
    lines = []
    if "model" in attrs:
        lines.append(", ".join(str(attrs[k]) for k in ("model", "task") if k in attrs))
    decided, correct = attrs["decided"], attrs["right"]
    lines.append(f"{decided} of {attrs['answers']} answers decided, {100 * correct / decided:.0f} % correct")
    if value == "auc":
        for best in probe_map.best():
            estimate = f"{best.auc:.2f} [{best.low:.2f}, {best.high:.2f}]"
            lines.append(f"highest AUC: layer {best.layer}, {best.position}, {estimate}")
        if nested := probe_map.nested_best():
            lines.append(f"best cell, nested CV: {nested.auc:.2f} [{nested.low:.2f}, {nested.high:.2f}]")
        if "scores" in probe_map.data:
            lines.append(f"dots: {int(probe_map.confidence_set().sum())} cells not distinguishable from the best")
    return lines + protocol_labels([probe_map])
