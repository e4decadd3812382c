"""The plot step: which picture of which run folders."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from probemap.logger import SILENT, Logger
from probemap.positions import parse_positions
from probemap.records import DataError
from probemap.runs.integrity import read_attention, read_map
from probemap.runs.run import Run

if TYPE_CHECKING:
    from probemap.maps.probe_map import ProbeMap
    from probemap.views.figures import Display


@dataclass(frozen=True)
class Drawing:
    """What is drawn, and how."""

    kind: Literal["map", "difference", "layers", "positions"] = "map"
    """Maps, one minus another, or curves over the layers or over the positions."""
    value: str = "auc"
    """A name of `values.VALUES`."""
    positions: str | None = None
    """The columns, in this order (`positions.parse_positions`); None: all that the map has."""
    size: Literal["column", "page", "slide"] | None = None
    """None: a page for several maps and for curves, else a column."""
    cmap: str | None = None


def plot(
    runs: Sequence[Run], drawing: Drawing = Drawing(), *, out: Path | None = None, logger: Logger = SILENT
) -> list[Path]:
    """Draw what runs hold; writes `out` alone, or in the folder of the one run NAME.png and NAME.svg.

    NAME is ``map``, and for other values and kinds ``map-strength``, ``layers-auc`` and so on.

    Raises
    ------
    DataError: `out` is no .png, .svg or .pdf; there is no such colour map; too few or too many runs for the kind;
        several runs and no `out`.
    RunError, MapError: a run has no map, or not the value or the positions that are asked for.
    """
    from matplotlib import colormaps

    _check(runs, drawing, out)
    if drawing.cmap is not None and drawing.cmap not in colormaps:
        raise DataError(f"there is no colour map {drawing.cmap!r}", "Blues is the default, cividis another")
    name = "map" if (drawing.kind, drawing.value) == ("map", "auc") else f"{drawing.kind}-{drawing.value}"
    paths = [runs[0].path / f"{name}{ending}" for ending in (".png", ".svg")] if out is None else [out]
    display = _display([_the_map(run, drawing, logger) for run in runs], drawing)
    for path in paths:
        display.save(path)
    return paths


def _check(runs: Sequence[Run], drawing: Drawing, out: Path | None) -> None:
    from probemap.views.figures import check_ending

    if out is not None:
        check_ending(out)
    if drawing.kind == "difference" and (len(runs) != 2 or drawing.value != "auc"):
        raise DataError(
            f"a difference of {drawing.value} of {len(runs)} runs was asked for",
            "give two runs, and no other value than auc",
        )
    if drawing.kind in ("layers", "positions") and len(runs) > 1:
        raise DataError(f"curves of {len(runs)} runs were asked for", "draw one run at a time")
    if len(runs) > 1 and out is None:
        raise DataError("a picture of several runs belongs to none of their folders", "name its file: --out maps.png")


def _the_map(run: Run, drawing: Drawing, logger: Logger) -> "ProbeMap":
    probe_map = read_map(run, logger.log)
    if drawing.positions is not None:
        probe_map = probe_map.only(parse_positions(drawing.positions))
    return read_attention(run, probe_map) if drawing.value.startswith("attention") else probe_map


def _display(maps: Sequence["ProbeMap"], drawing: Drawing) -> "Display":
    from probemap.views.curves import CurvesDisplay
    from probemap.views.heatmap import MapDisplay

    value, cmap = drawing.value, drawing.cmap
    if drawing.kind == "difference":
        return MapDisplay.from_difference(maps[0], maps[1], cmap=cmap, size=drawing.size or "column")
    if drawing.kind != "map":
        return CurvesDisplay.from_map(maps[0], drawing.kind, value=value, size=drawing.size or "page")
    if len(maps) > 1:
        return MapDisplay.from_maps(maps, value=value, cmap=cmap, size=drawing.size or "page")
    return MapDisplay.from_map(maps[0], value=value, cmap=cmap, size=drawing.size or "column")
