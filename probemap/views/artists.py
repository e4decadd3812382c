"""Draw the parts of a heatmap with matplotlib: cells, answer counts, marks, and the colour bar."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from probemap.views.figures import DIGIT_WIDTH, MAP_WIDTH, SIZES, SizeName, escaped
from probemap.views.printable import printable

if TYPE_CHECKING:
    from probemap.probing.auc import Bools
    from probemap.probing.metrics import CellValues

_TOO_FEW_COLOUR = "#e8e8e8"
_PALE = 0.25
"""Opacity of cells whose signed value does not differ significantly from 0."""
_EXTENDS = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
"""The ``extend`` argument of the colour bar, keyed by (whether any value is below the scale, whether any value is above
it)."""


def draw_cells(ax: Axes, measured: CellValues, cmap: str | None, size: SizeName, n_maps: int) -> AxesImage:
    """Draw the cells, the axis labels and the answer counts of one map.  The figure shows `n_maps` maps side by
    side."""
    cells, signed = measured.cells, measured.kind.signed
    values = cells["value"].values
    positions, layers = [str(p) for p in cells["position"].values], [str(layer) for layer in cells["layer"].values]
    image = ax.imshow(
        np.ma.masked_invalid(values),
        vmin=measured.limits[0],
        vmax=measured.limits[1],
        cmap=cmap or ("PuOr" if signed else "Blues"),
        alpha=np.where(measured.differs_from_zero | np.isnan(values), 1.0, _PALE) if signed else None,
        aspect="auto",
        interpolation="nearest",
    )
    for row, column in np.argwhere(np.isnan(values)):
        corner = (column - 0.5, row - 0.5)
        ax.add_patch(Rectangle(corner, 1, 1, fc=_TOO_FEW_COLOUR, ec="#999999", hatch="////", lw=0))
    font = SIZES[size].font
    if signed:
        rows, columns = np.nonzero(measured.differs_from_zero & (values < 0))
        ink = _contrasting(image, rows, columns)
        ax.scatter(columns, rows, marker="_", s=font, linewidths=font / 10, c=ink, gid="minus")
    ax.set_xticks(range(len(positions)), positions, rotation=90)
    ax.set_yticks(range(0, len(layers), 2), layers[::2])
    _draw_counts(ax, [int(n) for n in cells["n"].values], size, n_maps)
    ax.set_xlabel("Token")
    ax.set_ylabel("Layer")
    return image


def _draw_counts(ax: Axes, counts: Sequence[int], size: SizeName, n_maps: int) -> None:
    """Write the number of answers below each column, rotated by 90 degrees if the columns are narrow."""
    font = SIZES[size].font
    small = 0.7 * font
    length = DIGIT_WIDTH * small * len(str(max(counts)))
    upright = length > 72 * MAP_WIDTH * SIZES[size].width / n_maps / len(counts)
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


def mark_best(ax: Axes, image: AxesImage, best: Sequence[tuple[int, int]], dots: Bools | None, size: SizeName) -> None:
    """Outline the `best` cells, given as (row, column) pairs, and draw a dot on each cell selected by the mask
    `dots`."""
    font = SIZES[size].font
    for row, column in best:
        corner = (column - 0.5, row - 0.5)
        ax.add_patch(Rectangle(corner, 1, 1, fill=False, ec="black", lw=font / 6, gid="best-cell"))
    if dots is not None:
        rows, columns = np.nonzero(dots)
        ink = _contrasting(image, rows, columns)
        ax.scatter(columns, rows, marker="o", s=font / 6, linewidths=0, c=ink, gid="may-be-best")


def _contrasting(image: AxesImage, rows: Any, columns: Any) -> list[str]:
    """Return a legible colour for a mark on each cell: black on light cells, white on dark cells."""
    values = np.ma.getdata(np.ma.asarray(image.get_array()))[rows, columns]
    red, green, blue = np.asarray(image.get_cmap()(image.norm(values))).reshape(-1, 4).T[:3]
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return ["black" if cell > 0.45 else "white" for cell in luminance]


def draw_colour_bar(image: AxesImage, axes: Sequence[Axes], maps: Sequence[CellValues]) -> None:
    """Draw one colour bar for the colour scale that all maps share."""
    (low, high), kind = maps[0].limits, maps[0].kind
    below = any(bool((m.cells["value"] < low).any()) for m in maps)
    above = any(bool((m.cells["value"] > high).any()) for m in maps)
    extend = "neither" if kind.limits else _EXTENDS[below, above]
    fraction, pad = (0.05, 0.02) if len(axes) == 1 else (0.03, 0.01)
    ticks = [0.5, 0.6, 0.7, 0.8, 0.9, 1.0] if kind.limits == (0.5, 1.0) else None
    bar = axes[0].figure.colorbar(image, ax=list(axes), ticks=ticks, extend=extend, fraction=fraction, pad=pad)
    bar.set_label(escaped([printable(kind.label)]))
    bar.outline.set_linewidth(0.5)
    if bar.solids is not None:
        bar.solids.set_alpha(1.0)
