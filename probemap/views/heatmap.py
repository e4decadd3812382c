"""Heatmaps: position on the x axis, layer on the y axis, the value of each cell as colour."""

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any, Self

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from probemap.probing.auc import Bools
from probemap.probing.cell_map import CellMap
from probemap.probing.metrics import Measured, measure, shared_limits, subtract
from probemap.views.figures import SIZES, Display, SizeName, escaped, protocol_labels, style

_TOO_FEW_COLOUR = "#e8e8e8"
_DIGIT_WIDTH = 0.6
"""Width of a digit or letter as a fraction of the font size, at most."""
_MAP_WIDTH = 0.75
"""Approximate fraction of the figure's width that the maps take; labels and colour bar take the rest."""
_PALE = 0.25
"""Opacity of a cell of a signed value whose interval contains 0."""
_EXTENDS = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
"""(values below the scale, values above the scale) -> pointed ends of the colour bar."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One map of a display, with everything that is drawn."""

    measured: Measured
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
            lines = _wrapped([title, *protocol_labels([probe_map])], size, _MAP_WIDTH / len(scaled))
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
        return cls([Panel(measured=subtract(minuend, subtrahend), title=tuple(lines))], cmap=cmap, size=size)

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
            text = size.font / 72 * (1.2 * lines + _DIGIT_WIDTH * longest_name + 5)
            heights.append(size.row * cells.sizes["layer"] + text)
        return size.width, max(heights)

    def _draw(self, figure: Figure) -> tuple[Axes, ...]:
        n = len(self.panels)
        return self._draw_into([figure.add_subplot(1, n, k + 1) for k in range(n)])

    def _draw_into(self, axes: Sequence[Axes]) -> tuple[Axes, ...]:
        same_layers = len({tuple(panel.measured.cells["layer"].values.tolist()) for panel in self.panels}) == 1
        font = SIZES[self.size].font
        for k, (ax, panel) in enumerate(zip(axes, self.panels, strict=True)):
            image = _draw_cells(ax, panel.measured, self.cmap, self.size, len(axes))
            _mark_best(ax, panel, image, self.size)
            if self.left_title:
                ax.set_title(escaped(panel.title), loc="left", fontsize=0.92 * font)
            else:
                ax.set_title(escaped(panel.title), fontsize=font)
            if same_layers and k > 0:
                ax.set_ylabel("")
        _draw_colour_bar(axes[-1].images[0], axes, [panel.measured for panel in self.panels])
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
        Shows itself as the last expression of a notebook cell, and with `matplotlib.pyplot.show` in a script.  It has
        ``figure``, ``axes`` and ``save(path)``.

    Raises
    ------
    MapError
        The map does not contain the value.

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
        A map does not contain the value.

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
        The map that is subtracted from, and the map that is subtracted.
    ax, cmap, size
        As for `plot_map`.
    title : str, optional
        Default: whichever of model, task and site differs between the maps.

    Returns
    -------
    MapDisplay
        As for `plot_map`.

    Raises
    ------
    MapError
        The maps have no cells in common.

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


def _panel(probe_map: CellMap, measured: Measured, title: Sequence[str]) -> Panel:
    """Return the panel of a map; a map of AUCs has its best cells marked."""
    if measured.kind.name != "auc":
        return Panel(measured=measured, title=tuple(title))
    layers, positions = probe_map.layers, probe_map.positions
    best = tuple((layers.index(cell.layer), positions.index(cell.position)) for cell in probe_map.best())
    dots = probe_map.indistinguishable().values if "scores" in probe_map.data else None
    return Panel(measured=measured, title=tuple(title), best=best, dots=dots)


def _wrapped(lines: Sequence[str], size: SizeName, fraction: float = _MAP_WIDTH) -> list[str]:
    """Break lines of text to a fraction of the figure's width; a letter is half as wide as the font size on average."""
    n_letters = int(72 * fraction * SIZES[size].width / (0.5 * SIZES[size].font))
    return [piece for line in lines for piece in wrap(line, n_letters) or [""]]


def _draw_cells(ax: Axes, measured: Measured, cmap: str | None, size: SizeName, n_maps: int) -> AxesImage:
    """Draw the cells, the axis labels and the numbers of answers of one of `n_maps` maps."""
    cells, signed = measured.cells, measured.kind.signed
    values = cells["value"].values
    positions, layers = [str(p) for p in cells["position"].values], [str(layer) for layer in cells["layer"].values]
    image = ax.imshow(
        np.ma.masked_invalid(values),
        vmin=measured.limits[0],
        vmax=measured.limits[1],
        cmap=cmap or ("PuOr" if signed else "Blues"),
        alpha=np.where(measured.apart | np.isnan(values), 1.0, _PALE) if signed else None,
        aspect="auto",
        interpolation="nearest",
    )
    for row, column in np.argwhere(np.isnan(values)):
        corner = (column - 0.5, row - 0.5)
        ax.add_patch(Rectangle(corner, 1, 1, fc=_TOO_FEW_COLOUR, ec="#999999", hatch="////", lw=0))
    font = SIZES[size].font
    if signed:
        rows, columns = np.nonzero(measured.apart & (values < 0))
        ink = _contrasting(image, rows, columns)
        ax.scatter(columns, rows, marker="_", s=font, linewidths=font / 10, c=ink, gid="minus")
    ax.set_xticks(range(len(positions)), positions, rotation=90)
    ax.set_yticks(range(0, len(layers), 2), layers[::2])
    _draw_counts(ax, [int(n) for n in cells["n"].values], size, n_maps)
    ax.set_xlabel("Token")
    ax.set_ylabel("Layer")
    return image


def _draw_counts(ax: Axes, counts: Sequence[int], size: SizeName, n_maps: int) -> None:
    """Write the number of answers below each column, upright where the columns are narrow."""
    font = SIZES[size].font
    small = 0.7 * font
    length = _DIGIT_WIDTH * small * len(str(max(counts)))
    upright = length > 72 * _MAP_WIDTH * SIZES[size].width / n_maps / len(counts)
    text: dict[str, Any] = {"textcoords": "offset points", "va": "top", "fontsize": small, "color": "#444444"}
    for column, count in enumerate(counts):
        ax.annotate(
            str(count),
            (column, 0),
            xycoords=ax.get_xaxis_transform(),
            xytext=(0, -0.6 * font),
            ha="center",
            rotation=90 if upright else 0,
            fontstyle="normal",
            **text,
        )
    ax.annotate(
        "n",
        (0, 0),
        xycoords="axes fraction",
        xytext=(-0.6 * font, -0.6 * font),
        ha="right",
        rotation=0,
        fontstyle="italic",
        **text,
    )
    ax.tick_params(axis="x", pad=0.7 * font + (1.1 * length if upright else small))


def _mark_best(ax: Axes, panel: Panel, image: AxesImage, size: SizeName) -> None:
    """Outline the best cell and put dots on the cells that are not distinguishable from it."""
    font = SIZES[size].font
    for row, column in panel.best:
        corner = (column - 0.5, row - 0.5)
        ax.add_patch(Rectangle(corner, 1, 1, fill=False, ec="black", lw=font / 6, gid="best-cell"))
    if panel.dots is not None:
        rows, columns = np.nonzero(panel.dots)
        ink = _contrasting(image, rows, columns)
        ax.scatter(columns, rows, marker="o", s=font / 6, linewidths=0, c=ink, gid="may-be-best")


def _contrasting(image: AxesImage, rows: Any, columns: Any) -> list[str]:
    """Return black for light cells and white for dark cells."""
    values = np.ma.getdata(np.ma.asarray(image.get_array()))[rows, columns]
    red, green, blue = np.asarray(image.get_cmap()(image.norm(values))).reshape(-1, 4).T[:3]
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return ["black" if cell > 0.45 else "white" for cell in luminance]


def _draw_colour_bar(image: AxesImage, axes: Sequence[Axes], maps: Sequence[Measured]) -> None:
    """Draw the colour bar of the scale that all maps share."""
    (low, high), kind = maps[0].limits, maps[0].kind
    below = any(bool((m.cells["value"] < low).any()) for m in maps)
    above = any(bool((m.cells["value"] > high).any()) for m in maps)
    extend = "neither" if kind.limits else _EXTENDS[below, above]
    fraction, pad = (0.05, 0.02) if len(axes) == 1 else (0.03, 0.01)
    ticks = [0.5, 0.6, 0.7, 0.8, 0.9, 1.0] if kind.limits == (0.5, 1.0) else None
    bar = axes[0].figure.colorbar(image, ax=list(axes), ticks=ticks, extend=extend, fraction=fraction, pad=pad)
    bar.set_label(kind.label)
    bar.outline.set_linewidth(0.5)
    if bar.solids is not None:
        bar.solids.set_alpha(1.0)


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
        if nested := probe_map.honest_best():
            lines.append(f"best cell, nested CV: {nested.auc:.2f} [{nested.low:.2f}, {nested.high:.2f}]")
        if "scores" in probe_map.data:
            lines.append(f"dots: {int(probe_map.indistinguishable().sum())} cells not distinguishable from the best")
    return lines + protocol_labels([probe_map])
