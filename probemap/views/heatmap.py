"""Pictures from finished numbers: heatmaps.  Nothing is computed here; nobody imports this but what shows pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any, Literal

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from probemap.probing.metrics import Measured, measure, shared_limits, subtract
from probemap.probing.probe_map import ProbeMap

SizeName = Literal["column", "page", "slide"]


@dataclass(frozen=True)
class Size:
    """What a picture is printed on."""

    width: float
    """Inches."""
    font: float
    """Points, of labels; what stands in a map is smaller."""
    row: float
    """Inches for one layer of a map."""
    note: bool = True
    """Whether the facts stand above a map; on a slide the speaker has them."""


SIZES: dict[str, Size] = {
    "column": Size(3.3, 6.5, 0.085),
    "page": Size(6.9, 7.5, 0.1),
    "slide": Size(10.0, 12.0, 0.08, note=False),
}
"""One column and the whole width of a two-column paper, and a slide."""

_TOO_FEW = "#e8e8e8"
_WIDE = 0.6
"""How wide a letter or a figure is at most, of its height."""
_MAP_SHARE = 0.75
"""Of a picture's width, the maps' own, about; the rest is labels and bar."""
_MUTED = 0.25
"""How strongly a cell of a signed value is drawn whose interval holds 0."""


def style(size: SizeName) -> dict[Any, Any]:
    """What matplotlib is told for pictures of a size."""
    scale = SIZES[size].font / SIZES["column"].font
    return {
        "font.size": SIZES[size].font,
        "axes.linewidth": 0.5 * scale,
        "xtick.major.width": 0.4 * scale,
        "ytick.major.width": 0.4 * scale,
        "xtick.major.size": 1.5 * scale,
        "ytick.major.size": 1.5 * scale,
        "hatch.linewidth": 0.4 * scale,
        "svg.fonttype": "none",  # real text
        "pdf.fonttype": 42,
        "svg.hashsalt": "probemap",  # the same map gives the same bytes
    }


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, that no window manager knows of."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def plot_map(
    probe_map: ProbeMap,
    *,
    ax: Axes | None = None,
    value: str = "auc",
    cmap: str | None = None,
    size: SizeName = "column",
) -> Axes:
    """Draw a map: positions on x, layers on y (0 on top, as in the paper), colour = the value.

    Under each column stands the number of answers that it rests on.  Cells with too few answers to say are hatched
    grey.  Of AUCs the highest cell is outlined, and dots mark the cells that may be the best as well
    (`ProbeMap.indistinguishable`).  Of signed values, e.g. the gain, cells whose interval holds 0 are pale, and those
    below 0 have a minus sign, for who prints in grey.

    Parameters
    ----------
    ax: where to draw; None makes a figure.
    value: a name of `values.VALUES`.
    cmap: a matplotlib colour map, light for low values; None: Blues, or a diverging one for signed values.
    size: of the figure and its letters.

    Returns
    -------
    The axes; its first image holds the drawn array, its colour bar the scale.

    Raises
    ------
    MapError: the map does not hold that value.
    """
    measured = measure(probe_map, value)
    with rc_context(style(size)):
        facts = _facts(probe_map, value) if SIZES[size].note else protocol_of([probe_map])
        # They begin above the map and may end above the bar.
        facts = _fitted(facts, size, 0.88)
        ax = new_figure(SIZES[size].width, _height(measured, size, len(facts))).add_subplot() if ax is None else ax
        image = _heat(ax, measured, cmap, size)
        if value == "auc":
            _mark_best(ax, probe_map, image, size)
        ax.set_title(escaped(facts), loc="left", fontsize=0.92 * SIZES[size].font)
        _bar(image, [ax], [measured])
    return ax


def plot_maps(
    probe_maps: Sequence[ProbeMap],
    *,
    titles: Sequence[str] | None = None,
    value: str = "auc",
    cmap: str | None = None,
    size: SizeName = "page",
) -> list[Axes]:
    """Draw maps in a row on one scale with one bar, as figure 2 of the paper.

    Parameters
    ----------
    titles: one per map; None: what tells them apart among model, task and site.

    Returns
    -------
    Their axes.
    """
    several = shared_limits([measure(m, value) for m in probe_maps])
    same = len({tuple(m.layers) for m in probe_maps}) == 1
    named = zip(titles or _told_apart(probe_maps), probe_maps, strict=True)
    above = [_fitted([title, *protocol_of([one])], size, _MAP_SHARE / len(several)) for title, one in named]
    with rc_context(style(size)):
        figure = new_figure(SIZES[size].width, max(_height(m, size, max(map(len, above))) for m in several))
        axes = [figure.add_subplot(1, len(several), k + 1) for k in range(len(several))]
        for ax, one, measured, lines in zip(axes, probe_maps, several, above, strict=True):
            image = _heat(ax, measured, cmap, size, len(axes))
            if value == "auc":
                _mark_best(ax, one, image, size)
            ax.set_title(escaped(lines), fontsize=SIZES[size].font)
            if same and ax is not axes[0]:
                ax.set_ylabel("")
        _bar(axes[-1].images[0], axes, several)
    return axes


def plot_difference(
    one: ProbeMap,
    other: ProbeMap,
    *,
    ax: Axes | None = None,
    title: str | None = None,
    cmap: str | None = None,
    size: SizeName = "column",
) -> Axes:
    """Draw AUC of `one` minus AUC of `other` (`values.subtract`), drawn as other signed values are.

    Parameters
    ----------
    title: None: what tells the maps apart.
    """
    measured = subtract(one, other)
    lines = _fitted([title or " minus ".join(_told_apart([one, other])), *protocol_of([one, other])], size)
    with rc_context(style(size)):
        ax = new_figure(SIZES[size].width, _height(measured, size, len(lines))).add_subplot() if ax is None else ax
        image = _heat(ax, measured, cmap, size)
        ax.set_title(escaped(lines), fontsize=SIZES[size].font)
        _bar(image, [ax], [measured])
    return ax


def _height(measured: Measured, size: SizeName, lines: int) -> float:
    """Inches: the rows, what stands above them and below."""
    letter = SIZES[size].font / 72
    names = max(len(str(p)) for p in measured.cells["position"].values)
    return SIZES[size].row * measured.cells.sizes["layer"] + letter * (1.2 * lines + _WIDE * names + 5)


def _fitted(lines: Sequence[str], size: SizeName, share: float = _MAP_SHARE) -> list[str]:
    """Lines broken where they would run out of their share of the picture's width; running text is narrow."""
    letters = int(72 * share * SIZES[size].width / (0.5 * SIZES[size].font))
    return [part for line in lines for part in wrap(line, letters) or [""]]


def _heat(ax: Axes, measured: Measured, cmap: str | None, size: SizeName, beside: int = 1) -> AxesImage:
    """The cells and both axes, of one map among `beside`."""
    cells, signed = measured.cells, measured.kind.signed
    values = cells["value"].values
    positions, layers = [str(p) for p in cells["position"].values], [str(layer) for layer in cells["layer"].values]
    image = ax.imshow(
        np.ma.masked_invalid(values),
        vmin=measured.limits[0],
        vmax=measured.limits[1],
        cmap=cmap or ("PuOr" if signed else "Blues"),
        alpha=np.where(measured.apart | np.isnan(values), 1.0, _MUTED) if signed else None,
        aspect="auto",
        interpolation="nearest",
    )
    for row, column in np.argwhere(np.isnan(values)):
        ax.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fc=_TOO_FEW, ec="#999999", hatch="////", lw=0))
    letter = SIZES[size].font
    if signed:
        rows, columns = np.nonzero(measured.apart & (values < 0))
        ax.scatter(
            columns, rows, marker="_", s=letter, linewidths=letter / 10, c=_ink(image, rows, columns), gid="minus"
        )
    ax.set_xticks(range(len(positions)), positions, rotation=90)
    ax.set_yticks(range(0, len(layers), 2), layers[::2])
    counts = [int(n) for n in cells["n"].values]
    small = 0.7 * letter
    long = _WIDE * small * len(str(max(counts)))
    upright = long > 72 * _MAP_SHARE * SIZES[size].width / beside / len(positions)
    for column, count in enumerate(counts):
        turn = 90 if upright else 0
        _under(ax, str(count), column, ax.get_xaxis_transform(), (0, -0.6 * letter), "center", small, turn)
    _under(ax, "n", 0, "axes fraction", (-0.6 * letter, -0.6 * letter), "right", small)
    ax.tick_params(axis="x", pad=0.7 * letter + (1.1 * long if upright else small))
    ax.set_xlabel("Token")
    ax.set_ylabel("Layer")
    return image


def _under(
    ax: Axes, text: str, x: float, at: Any, offset: tuple[float, float], align: str, letter: float, turn: float = 0
) -> None:
    ax.annotate(
        text,
        (x, 0),
        xycoords=at,
        xytext=offset,
        textcoords="offset points",
        ha=align,
        va="top",
        fontsize=letter,
        rotation=turn,
        color="#444444",
        fontstyle="normal" if text.isdigit() else "italic",
    )


def _mark_best(ax: Axes, probe_map: ProbeMap, image: AxesImage, size: SizeName) -> None:
    for best in probe_map.best():
        at = (probe_map.positions.index(best.position) - 0.5, probe_map.layers.index(best.layer) - 0.5)
        ax.add_patch(Rectangle(at, 1, 1, fill=False, ec="black", lw=SIZES[size].font / 6, gid="best-cell"))
    if "scores" in probe_map.data:
        rows, columns = np.nonzero(probe_map.indistinguishable().values)
        ink = _ink(image, rows, columns)
        ax.scatter(columns, rows, marker="o", s=SIZES[size].font / 6, linewidths=0, c=ink, gid="may-be-best")


def _ink(image: AxesImage, rows: Any, columns: Any) -> list[str]:
    """Black on light cells, white on dark ones."""
    values = np.ma.getdata(np.ma.asarray(image.get_array()))[rows, columns]
    red, green, blue = np.asarray(image.get_cmap()(image.norm(values))).reshape(-1, 4).T[:3]
    light = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return ["black" if one > 0.45 else "white" for one in light]


def _bar(image: AxesImage, axes: Sequence[Axes], several: Sequence[Measured]) -> None:
    """The scale that all of these maps share."""
    (low, high), kind = several[0].limits, several[0].kind
    below = any(bool((m.cells["value"] < low).any()) for m in several)
    above = any(bool((m.cells["value"] > high).any()) for m in several)
    beyond = "neither" if kind.limits else _EXTENDS[below, above]
    figure = axes[0].figure
    fraction, pad = (0.05, 0.02) if len(axes) == 1 else (0.03, 0.01)
    ticks = [0.5, 0.6, 0.7, 0.8, 0.9, 1.0] if kind.limits == (0.5, 1.0) else None
    bar = figure.colorbar(image, ax=list(axes), ticks=ticks, extend=beyond, fraction=fraction, pad=pad)
    bar.set_label(kind.label)
    bar.outline.set_linewidth(0.5)
    if bar.solids is not None:
        bar.solids.set_alpha(1.0)


_EXTENDS = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}


def _told_apart(probe_maps: Sequence[ProbeMap]) -> list[str]:
    """What differs among model, task and site; the task if nothing does."""
    facts = [{k: str(m.data.attrs.get(k, "")) for k in ("model", "task", "site")} for m in probe_maps]
    differ = [k for k in ("model", "task", "site") if len({one[k] for one in facts}) > 1] or ["task"]
    return [", ".join(one[k] for k in differ) for one in facts]


def _facts(probe_map: ProbeMap, value: str) -> list[str]:
    """Model and task; answers used and accuracy; of AUCs the best cell; a protocol that is for comparison only."""
    attrs = probe_map.data.attrs
    lines = []
    if "model" in attrs:
        lines.append(", ".join(str(attrs[k]) for k in ("model", "task") if k in attrs))
    decided, right = attrs["decided"], attrs["right"]
    lines.append(f"{decided} of {attrs['answers']} answers decided, {100 * right / decided:.0f} % right")
    for best in probe_map.best() if value == "auc" else []:
        lines.append(f"highest: layer {best.layer}, {best.position}, {best.auc:.2f} [{best.low:.2f}, {best.high:.2f}]")
    if value == "auc" and (honest := probe_map.honest_best()):
        lines.append(f"best cell, judged apart: {honest.auc:.2f} [{honest.low:.2f}, {honest.high:.2f}]")
    if value == "auc" and "scores" in probe_map.data:
        lines.append(f"dots: {int(probe_map.indistinguishable().sum())} cells of which each may be the best")
    return lines + protocol_of([probe_map])


def protocol_of(probe_maps: Sequence[ProbeMap]) -> list[str]:
    """The labels of protocols that are for comparison only; they stand on every picture."""
    return list(dict.fromkeys(str(m.data.attrs["protocol"]) for m in probe_maps if m.data.attrs.get("protocol")))


def escaped(lines: Sequence[str]) -> str:
    """Lines for matplotlib, to which a dollar sign would start mathematics."""
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
    part = path.with_name(f".{path.name}.part")
    with rc_context(style("column")):
        figure.savefig(part, dpi=300, metadata=metadata, format=path.suffix.removeprefix("."))
    part.replace(path)
