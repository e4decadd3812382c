"""Heatmaps: position on the x axis, layer on the y axis, the value of each cell as colour."""

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Self

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from probemap.probing.auc import Bools
from probemap.probing.cell_map import CellMap
from probemap.probing.difference import difference
from probemap.probing.metrics import CellValues, measure, shared_limits
from probemap.views.artists import draw_cells, draw_colour_bar, mark_best
from probemap.views.figures import DIGIT_WIDTH, MAP_WIDTH, SIZES, Display, SizeName, escaped, protocol_labels, style


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One map of a display, with everything that is drawn."""

    measured: CellValues
    title: tuple[str, ...]
    """Lines above the map, broken to its width."""
    best: tuple[tuple[int, int], ...] = ()
    """(row, column) of the cells that get an outline."""
    dots: Bools | None = None
    """Cells that get a dot, (n_layers, n_positions)."""


class MapDisplay(Display):
    """One or more maps on one colour scale.

    Created by `plot_map`, `plot_maps` and `plot_difference`, or without drawing by `from_map`, `from_maps` and
    `from_difference`.

    Attributes
    ----------
    panels : tuple of Panel
        The maps, from left to right.
    figure : matplotlib.figure.Figure
    axes : tuple of matplotlib.axes.Axes
        One per map.  ``axes[k].images[0]`` holds the drawn array.

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
        """Compute one map; parameters as for `plot_map`."""
        lines = _facts(probe_map, value) if SIZES[size].note else protocol_labels([probe_map])
        # The title starts at the left edge of the map and may extend above the colour bar.
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
        """Compute several maps on one scale; parameters as for `plot_maps`."""
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
        """Compute the difference of two maps; parameters as for `plot_difference`."""
        maps = [minuend, subtrahend]
        lines = _wrapped([title or " minus ".join(_differing(maps)), *protocol_labels(maps)], size)
        return cls([Panel(measured=difference(minuend, subtrahend), title=tuple(lines))], cmap=cmap, size=size)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw into a new pyplot figure, or into existing axes.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Axes for a display of a single map.

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
    """Draw a map: positions on the x axis, layers on the y axis (layer 0 on top), the value as colour.

    The number below each column is the number of answers that it is computed from.  Cells with too few answers are
    hatched grey.  In a map of AUCs the best cell is outlined, and dots mark the cells that are not distinguishable from
    it.  In a map of signed values, such as the gain over the baselines, cells whose interval contains 0 are pale, and
    cells below 0 have a minus sign, which also a grey print shows.

    Parameters
    ----------
    probe_map : ProbeMap
    ax : matplotlib.axes.Axes, optional
        Axes to draw into.  Default: a new figure, managed by pyplot.
    value : str
        The value that is drawn, a key of `probemap.probing.metrics.VALUES`: ``"auc"``, ``"accuracy"``, ``"gain"``, ….
    cmap : str, optional
        Name of a matplotlib colour map.  Default: ``"Blues"``, and ``"PuOr"`` for signed values.
    size : {"column", "page", "slide"}
        Size of a new figure and of the text.

    Returns
    -------
    MapDisplay
        Rendered as the last expression of a notebook cell, and with `matplotlib.pyplot.show` in a script.  It has
        ``figure``, ``axes`` and ``save(path)``.

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
    """Draw several maps in a row on one scale, with one colour bar, as in figure 2 of Orgad et al. 2024.

    Parameters
    ----------
    probe_maps : sequence of ProbeMap
    titles : sequence of str, optional
        One title per map.  Default: whichever of model, task and site differs between the maps.
    value, cmap, size
        As for `plot_map`.

    Returns
    -------
    MapDisplay
        As for `plot_map`, with one axes per map.

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
    """Draw the AUCs of one map minus those of another map, in the cells that both maps have.

    Cells whose 95 % interval of the difference contains 0 are pale.  Maps of the same answers with the same verdicts
    are compared pairwise.

    Parameters
    ----------
    minuend, subtrahend : ProbeMap
        The AUCs of the second map are subtracted from those of the first.
    ax
        As for `plot_map`.
    title : str, optional
        Default: whichever of model, task and site differs between the maps.
    cmap, size
        As for `plot_map`.

    Returns
    -------
    MapDisplay
        As for `plot_map`.

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
    """Return the panel of a map; a map of AUCs has its best cells marked."""
    if measured.kind.variable != "auc":
        return Panel(measured=measured, title=tuple(title))
    layers, positions = probe_map.layers, probe_map.positions
    best = tuple((layers.index(cell.layer), positions.index(cell.position)) for cell in probe_map.best())
    dots = probe_map.confidence_set().values if "scores" in probe_map.data else None
    return Panel(measured=measured, title=tuple(title), best=best, dots=dots)


def _wrapped(lines: Sequence[str], size: SizeName, fraction: float = MAP_WIDTH) -> list[str]:
    """Break lines of text to a fraction of the figure's width; a letter is half as wide as the font size on average."""
    n_letters = int(72 * fraction * SIZES[size].width / (0.5 * SIZES[size].font))
    return [piece for line in lines for piece in wrap(line, n_letters) or [""]]


def _differing(probe_maps: Sequence[CellMap]) -> list[str]:
    """Return a title per map: whichever of model, task and site differs between the maps; else the task."""
    facts = [{k: str(m.data.attrs.get(k, "")) for k in ("model", "task", "site")} for m in probe_maps]
    keys = [k for k in ("model", "task", "site") if len({fact[k] for fact in facts}) > 1] or ["task"]
    return [", ".join(fact[k] for k in keys) for fact in facts]


def _facts(probe_map: CellMap, value: str) -> list[str]:
    """Return the lines above a single map: model, task, number of answers; for AUCs the best cell; the protocol."""
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
