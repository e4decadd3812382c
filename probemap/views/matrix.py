"""Draw the generalisation matrix as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from probemap.views.figures import escaped, new_figure, save_figure, style

if TYPE_CHECKING:
    from probemap.tables import PairMatrix

_CELL = 0.62
"""Side length of a cell in inches."""
_MAX_NAME = 40
"""Maximum length of a run's name, in characters; longer names are truncated."""


def draw_matrix(matrix: PairMatrix) -> Figure:
    """Draw the generalisation matrix, similar to figure 3 of Orgad et al. 2024.

    The left panel shows max(AUC, 1 - AUC), as in the paper, and the right panel shows the gain over the best
    log-probability.  Cells are pale if their confidence interval contains 0.5 (left panel) or 0 (right panel).

    Parameters
    ----------
    matrix : PairMatrix

    Returns
    -------
    matplotlib.figure.Figure
    """
    side = _CELL * len(matrix.names)
    with rc_context(style("column")):
        label_width = 0.055 * max(map(len, map(_label, matrix.names)))
        figure = new_figure(2 * side + 2.9 + label_width, side + 1.1 + label_width)
        auc_panel, gain_panel = figure.subplots(1, 2)
        _draw_panel(auc_panel, matrix.names, matrix.folded, label="max(AUC, 1 − AUC)", limits=(0.5, 1.0), cmap="Blues")
        gains = matrix.gain[0]
        limit = max(0.05, float(np.nanmax(np.abs(gains)))) if not np.isnan(gains).all() else 0.05
        label = "AUC minus AUC of the best log-probability"
        _draw_panel(gain_panel, matrix.names, matrix.gain, label=label, limits=(-limit, limit), cmap="PuOr")
        gain_panel.set_ylabel("")
        return figure


def save_matrix(matrix: PairMatrix, *paths: Path) -> None:
    """Draw the generalisation matrix and save it to each path, in the format given by the file extension."""
    figure = draw_matrix(matrix)
    for path in paths:
        save_figure(figure, path)


def _label(name: str) -> str:
    return name if len(name) <= _MAX_NAME else f"{name[: _MAX_NAME - 1]}…"


def _draw_panel(
    ax: Axes,
    names: Sequence[str],
    estimates: npt.NDArray[np.float64],
    *,
    label: str,
    limits: tuple[float, float],
    cmap: str,
) -> None:
    values, low, high = estimates
    null = limits[0] if limits[0] > 0 else 0.0
    pale = (low <= null) & (null <= high)
    image = ax.imshow(values, cmap=cmap, vmin=limits[0], vmax=limits[1])
    image.set_alpha(np.where(pale, 0.35, 1.0))
    for i, j in np.argwhere(~np.isnan(values)).tolist():
        dark = abs(values[i, j] - null) > 0.7 * (limits[1] - null) and not pale[i, j]
        ax.text(
            j,
            i,
            f"{values[i, j]:.2f}\n[{low[i, j]:.2f}, {high[i, j]:.2f}]",
            ha="center",
            va="center",
            color="white" if dark else "black",
            fontsize="small",
        )
    labels = [escaped([_label(name)]) for name in names]
    ax.set_xticks(range(len(names)), labels, rotation=45, ha="right")
    ax.set_yticks(range(len(names)), labels)
    ax.set_xlabel("tested on")
    ax.set_ylabel("trained on")
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.8)
    bar.set_label(label)
