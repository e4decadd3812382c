"""Pictures from finished numbers.  Nothing is computed here; nobody imports this but the steps that draw."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from probemap.map import ProbeMap

COLUMN_WIDTH = 3.3
"""Inches: one column of a two-column paper."""

STYLE: dict[Any, Any] = {
    "font.size": 6.5,
    "axes.linewidth": 0.5,
    "xtick.major.width": 0.4,
    "ytick.major.width": 0.4,
    "xtick.major.size": 1.5,
    "ytick.major.size": 1.5,
    "hatch.linewidth": 0.4,
    "svg.fonttype": "none",  # real text
    "svg.hashsalt": "probemap",  # the same map gives the same bytes
}
_TOO_FEW = "#e8e8e8"


def plot_map(probe_map: ProbeMap, *, ax: Axes | None = None, cmap: str = "Blues") -> Axes:
    """Draw a map: positions on x, layers on y (0 on top, as in the paper), colour = AUC from 0.5 to 1.0.

    Under each column stands the number of answers that it rests on.  The highest cell is outlined; cells with
    too few answers to say are hatched grey.

    Parameters
    ----------
    ax: where to draw; None makes a figure one paper column wide.
    cmap: a matplotlib colour map, light for 0.5.

    Returns
    -------
    The axes; its first image holds the drawn array.
    """
    with rc_context(STYLE):
        return _draw(probe_map, ax, cmap)


def _draw(probe_map: ProbeMap, ax: Axes | None, cmap: str) -> Axes:
    positions, layers = probe_map.positions, probe_map.layers
    if ax is None:
        height = 1.75 + 0.085 * len(layers)
        figure = Figure(figsize=(COLUMN_WIDTH, height), layout="constrained")
        FigureCanvasAgg(figure)
        ax = figure.add_subplot()
    image = ax.imshow(
        np.ma.masked_invalid(probe_map.auc.values),
        vmin=0.5,
        vmax=1.0,
        cmap=cmap,
        aspect="auto",
        interpolation="nearest",
    )
    for row, column in np.argwhere(np.isnan(probe_map.auc.values)):
        ax.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fc=_TOO_FEW, ec="#999999", hatch="////", lw=0))
    for best in probe_map.best():
        at = (positions.index(best.position) - 0.5, layers.index(best.layer) - 0.5)
        ax.add_patch(Rectangle(at, 1, 1, fill=False, ec="black", lw=1.1, gid="best-cell"))
    counts = [int(n) for n in probe_map.data["n"].values]
    ax.set_xticks(range(len(positions)), positions, rotation=90)
    ax.set_yticks(range(0, len(layers), 2), [str(layer) for layer in layers[::2]])
    ax.tick_params(axis="x", pad=9)
    for column, count in enumerate(counts):
        ax.annotate(
            str(count),
            (column, 0),
            xycoords=ax.get_xaxis_transform(),
            xytext=(0, -4),
            textcoords="offset points",
            ha="center",
            va="top",
            fontsize=4.6 if count < 1000 else 3.8,
            color="#444444",
        )
    ax.annotate(
        "n",
        (0, 0),
        xycoords="axes fraction",
        xytext=(-4, -4),
        textcoords="offset points",
        ha="right",
        va="top",
        fontsize=4.6,
        color="#444444",
        fontstyle="italic",
    )
    ax.set_xlabel("Token")
    ax.set_ylabel("Layer")
    if caption := _caption(probe_map):
        ax.set_title(caption, loc="left", fontsize=6)
    bar = ax.figure.colorbar(image, ax=ax, ticks=[0.5, 0.6, 0.7, 0.8, 0.9, 1.0], fraction=0.05, pad=0.02)
    bar.set_label("AUC")
    bar.outline.set_linewidth(0.5)
    return ax


def _caption(probe_map: ProbeMap) -> str:
    """Model and task; answers used and accuracy; the best cell; the label of a protocol that is for comparison only."""
    attrs = probe_map.data.attrs
    lines = []
    if "model" in attrs:
        lines.append(", ".join(str(attrs[k]) for k in ("model", "task") if k in attrs))
    decided, right = attrs["decided"], attrs["right"]
    lines.append(f"{decided} of {attrs['answers']} answers decided, {100 * right / decided:.0f} % right")
    for best in probe_map.best():
        lines.append(f"highest: layer {best.layer}, {best.position}, {best.auc:.2f} [{best.low:.2f}, {best.high:.2f}]")
    if honest := probe_map.honest_best():
        lines.append(f"best cell, judged apart: {honest.auc:.2f} [{honest.low:.2f}, {honest.high:.2f}]")
    if label := attrs.get("protocol"):
        lines.append(str(label))
    # A dollar sign would start mathematics.
    return "\n".join(line.replace("$", r"\$") for line in lines)


def save_picture(axes: Axes, path: str | Path) -> None:
    """Save the axes' figure as PNG, SVG or PDF by the file's ending, without date, so that bytes repeat."""
    path = Path(path)
    metadata: dict[str, Any] = {
        ".svg": {"Date": None},
        ".pdf": {"CreationDate": None},
    }.get(path.suffix, {})
    figure = axes.figure
    assert isinstance(figure, Figure)
    with rc_context(STYLE):
        figure.savefig(path, dpi=300, metadata=metadata)
