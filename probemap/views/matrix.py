"""The picture of transfer: one run's probe on another's answers, as figure 3 of Orgad et al. 2024."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from probemap.tables import Table
from probemap.views.figures import escaped, new_figure, save_figure, style

_CELL = 0.62
"""Inches of a side of a cell."""
_LONGEST = 40
"""Characters of a name."""


def grid(table: Table, value: str) -> tuple[list[str], np.ndarray[Any, Any]]:
    """The names of the runs, and a value over (trained on, tested on), NaN where there is none."""
    at = {name: k for k, name in enumerate(table.columns)}
    names = list(dict.fromkeys(str(row[at["trained on"]]) for row in table.rows))
    made = np.full((len(names), len(names)), np.nan)
    for row in table.rows:
        number = row[at[value]]
        if isinstance(number, int | float):
            made[names.index(str(row[at["trained on"]])), names.index(str(row[at["tested on"]]))] = number
    return names, made


def draw_matrix(table: Table) -> Figure:
    """Two panels: max(AUC, 1 - AUC), as the paper, and the gain over the best of the logits; pale where the interval
    holds 0.5, or 0."""
    names = grid(table, "auc")[0]
    side = _CELL * len(names)
    with rc_context(style("column")):
        room = 0.055 * max(map(len, map(_label, names)))
        figure = new_figure(2 * side + 2.9 + room, side + 1.1 + room)
        left, right = figure.subplots(1, 2)
        _panel(left, table, ("folded", "folded low", "folded high"), "max(AUC, 1 − AUC)", (0.5, 1.0), "Blues")
        gains = grid(table, "gain")[1]
        most = max(0.05, float(np.nanmax(np.abs(gains)))) if not np.isnan(gains).all() else 0.05
        _panel(right, table, ("gain", "gain low", "gain high"), "AUC minus that of the logits", (-most, most), "PuOr")
        right.set_ylabel("")
        return figure


def save_matrix(table: Table, *paths: Path) -> None:
    """Draw it, and write it in the format of each name."""
    figure = draw_matrix(table)
    for path in paths:
        save_figure(figure, path)


def _label(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def _panel(
    ax: Axes, table: Table, values: tuple[str, str, str], label: str, limits: tuple[float, float], cmap: str
) -> None:
    names, shown = grid(table, values[0])
    low, high = grid(table, values[1])[1], grid(table, values[2])[1]
    nothing = limits[0] if limits[0] > 0 else 0.0
    image = ax.imshow(shown, cmap=cmap, vmin=limits[0], vmax=limits[1])
    image.set_alpha(np.where((low <= nothing) & (nothing <= high), 0.35, 1.0))
    for i, j in np.argwhere(~np.isnan(shown)).tolist():
        strong = abs(shown[i, j] - nothing) > 0.7 * (limits[1] - nothing) and not low[i, j] <= nothing <= high[i, j]
        ax.text(
            j,
            i,
            f"{shown[i, j]:.2f}\n[{low[i, j]:.2f}, {high[i, j]:.2f}]",
            ha="center",
            va="center",
            color="white" if strong else "black",
            fontsize="small",
        )
    labels = [escaped([_label(name)]) for name in names]
    ax.set_xticks(range(len(names)), labels, rotation=45, ha="right")
    ax.set_yticks(range(len(names)), labels)
    ax.set_xlabel("tested on")
    ax.set_ylabel("trained on")
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.8)
    bar.set_label(label)
