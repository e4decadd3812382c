"""Code shared by all figures: sizes, styles, and the base class for displays.

Like the displays of scikit-learn, a display computes its values when it is created and draws them later.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from matplotlib import get_backend, rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from probemap.records import DataError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from probemap.probing.cell_map import CellMap

SizeName = Literal["column", "page", "slide"]
FILE_ENDINGS = (".png", ".svg", ".pdf")


@dataclass(frozen=True, kw_only=True)
class Size:
    """Size of a figure and its text."""

    width: float
    """Width of the figure in inches."""
    font: float
    """Font size of the labels in points; some of the text in a map is smaller."""
    row: float
    """Height of one row (layer) of a map in inches."""
    note: bool = True
    """Whether the title of a map shows the number of answers and the best cell; slides omit both."""


SIZES: dict[str, Size] = {
    "column": Size(width=3.3, font=6.5, row=0.085),
    "page": Size(width=6.9, font=7.5, row=0.1),
    "slide": Size(width=10.0, font=12.0, row=0.08, note=False),
}
"""The available sizes, keyed by name: ``column`` is for one column of a two-column paper, ``page`` for its full text
width, and ``slide`` for a slide."""

DIGIT_WIDTH = 0.6
"""Upper bound on the width of a digit or letter, as a fraction of the font size."""
MAP_WIDTH = 0.75
"""Approximate fraction of a figure's width that its maps occupy; the rest is for the labels and the colour bar."""

_NOTEBOOK_DPI = 144


def style(size: SizeName) -> dict[Any, Any]:
    """Return the matplotlib ``rcParams`` for figures of a given size."""
    scale = SIZES[size].font / SIZES["column"].font
    return {
        "font.size": SIZES[size].font,
        "axes.linewidth": 0.5 * scale,
        "xtick.major.width": 0.4 * scale,
        "ytick.major.width": 0.4 * scale,
        "xtick.major.size": 1.5 * scale,
        "ytick.major.size": 1.5 * scale,
        "hatch.linewidth": 0.4 * scale,
        "svg.fonttype": "none",  # keep text as text
        "pdf.fonttype": 42,
        "svg.hashsalt": "probemap",  # the same map always gives the same bytes
    }


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure that is not managed by pyplot; `width` and `height` are in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: str | Path) -> None:
    """Save a figure as PNG, SVG or PDF, depending on the file extension.

    The file contains no date, so that identical figures result in identical files.
    """
    path = Path(path)
    metadata: dict[str, Any] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(path.suffix, {})
    unfinished = path.with_name(f".{path.name}.part")
    with rc_context(style("column")):
        figure.savefig(unfinished, dpi=300, metadata=metadata, format=path.suffix.removeprefix("."))
    unfinished.replace(path)


def escaped(lines: Sequence[str]) -> str:
    """Join lines of text and escape dollar signs, which matplotlib would interpret as math delimiters."""
    return "\n".join(line.replace("$", r"\$") for line in lines)


def protocol_labels(probe_maps: Sequence[CellMap]) -> list[str]:
    """Return the labels of maps fitted with a protocol that is intended only for comparison.  Every figure must show
    these labels."""
    return list(dict.fromkeys(str(m.data.attrs["protocol"]) for m in probe_maps if m.data.attrs.get("protocol")))


class Display(ABC):
    """Base class of all displays, which consist of computed values and a figure that shows them.

    Notebooks render a display if it is the last expression in a cell.  In a script, call `plot` and then
    `matplotlib.pyplot.show`.
    """

    size: SizeName

    def __init__(self) -> None:
        self._axes: tuple[Axes, ...] = ()

    @property
    def axes(self) -> tuple[Axes, ...]:
        """The panels' axes, in order, without those of the colour bar."""
        if not self._axes:
            with rc_context(style(self.size)):
                self._axes = self._draw(new_figure(*self._inches()))
        return self._axes

    @property
    def figure(self) -> Figure:
        """The matplotlib figure.  If `plot` was not called, the figure is drawn on first access and is not managed by
        pyplot."""
        figure = self.axes[0].get_figure(root=True)
        assert figure is not None
        return figure

    def plot(self) -> Self:
        """Draw the display into a new pyplot figure.

        Returns
        -------
        Self
            The display itself.
        """
        import matplotlib.pyplot as plt

        with rc_context(style(self.size)):
            self._axes = self._draw(plt.figure(figsize=self._inches(), layout="constrained"))
        return self

    def save(self, path: str | Path) -> None:
        """Save the figure to a file.

        Parameters
        ----------
        path : str or Path
            Path of the file, with the extension ``.png``, ``.svg`` or ``.pdf``.

        Raises
        ------
        DataError
            If the path has a different extension.
        """
        check_ending(path)
        save_figure(self.figure, path)

    def _repr_png_(self) -> bytes:
        """Return the figure as a PNG image for notebooks."""
        content = BytesIO()
        with rc_context(style(self.size)):
            self.figure.savefig(content, format="png", dpi=_NOTEBOOK_DPI)
        if get_backend().lower() in ("inline", "module://matplotlib_inline.backend_inline"):
            import matplotlib.pyplot as plt

            plt.close(self.figure)  # otherwise the inline backend shows the figure a second time at the end of the cell
        return content.getvalue()

    @abstractmethod
    def _inches(self) -> tuple[float, float]:
        """Return the width and height of the figure in inches."""

    @abstractmethod
    def _draw(self, figure: Figure) -> tuple[Axes, ...]:
        """Draw the display into an empty figure and return the axes of the panels."""


def check_ending(path: str | Path) -> None:
    """Raise `DataError` if the file extension is not one of `FILE_ENDINGS`."""
    if Path(path).suffix not in FILE_ENDINGS:
        raise DataError(f"{path} is not a .png, .svg or .pdf file", "use one of these file extensions")
