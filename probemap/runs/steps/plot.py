"""The plot step: draw figures for one or several runs.  Figures are not recorded but redrawn every time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from probemap.logger import SILENT, Logger
from probemap.records import DataError
from probemap.runs.options import PlotOptions

if TYPE_CHECKING:  # matplotlib takes a second to import
    from probemap.maps.probe_map import ProbeMap
    from probemap.runs.run import Run
    from probemap.views.figures import Display


def plot(
    runs: Sequence[Run], options: PlotOptions = PlotOptions(), *, out: Path | None = None, logger: Logger = SILENT
) -> list[Path]:
    """Draw a figure for one or several runs.

    Parameters
    ----------
    runs : sequence of Run
        The runs to draw.  The maps of several runs are drawn side by side.  A difference requires two runs.
    options : PlotOptions
        Kind of figure, value, columns, size and colour map.
    out : Path, optional
        File to write.  Default: ``NAME.png`` and ``NAME.svg`` in the run directory.  NAME is ``map`` for a
        map of the AUC, and otherwise ``KIND-VALUE``, for example ``map-gain`` or ``layers-auc``.

    Returns
    -------
    list of Path
        The files that were written.

    Raises
    ------
    DataError
        If the suffix of `out` is not .png, .svg or .pdf, if the colour map does not exist, or if the kind of figure
        does not support the value or the number of runs.
    RunError, MapError
        If a run has no map, or if a map does not contain the value or one of the positions.
    """
    from matplotlib import colormaps

    _check(runs, options, out)
    if options.cmap is not None and options.cmap not in colormaps:
        raise DataError(
            f"unknown colour map {options.cmap!r}",
            "use the name of a matplotlib colour map, such as Blues (the default) or cividis",
        )
    name = "map" if (options.kind, options.value) == ("map", "auc") else _file_name(f"{options.kind}-{options.value}")
    paths = [runs[0].path / f"{name}{suffix}" for suffix in (".png", ".svg")] if out is None else [out]
    display = _display([_map_of(run, options, logger) for run in runs], options)
    for path in paths:
        display.save(path)
    return paths


def _file_name(name: str) -> str:
    """Return a name without characters that are not allowed in file names, e.g. map-auc-within-popularity."""
    return re.sub(r"[^\w.-]+", "-", name)


def _check(runs: Sequence[Run], options: PlotOptions, out: Path | None) -> None:
    from probemap.views.figures import check_ending

    if out is not None:
        check_ending(out)
    if options.kind == "difference" and (len(runs) != 2 or options.value != "auc"):
        raise DataError(
            f"cannot draw a difference of {options.value} between {len(runs)} runs",
            "a difference requires exactly two runs and the value auc",
        )
    if options.kind in ("layers", "positions") and len(runs) > 1:
        raise DataError(f"cannot draw curves of {len(runs)} runs in one figure", "draw one run at a time")
    if len(runs) > 1 and out is None:
        raise DataError("a figure of several runs requires a file name", "pass one, for example --out maps.png")


def _map_of(run: Run, options: PlotOptions, logger: Logger) -> ProbeMap:
    from probemap.positions import parse_positions

    probe_map = run.read_map(logger.log)
    if options.positions is not None:
        probe_map = probe_map.only(parse_positions(options.positions))
    return run.with_attention(probe_map) if options.value.startswith("attention") else probe_map


def _display(maps: Sequence[ProbeMap], options: PlotOptions) -> Display:
    from probemap.views.curves import CurvesDisplay
    from probemap.views.heatmap import MapDisplay

    value, cmap = options.value, options.cmap
    if options.kind == "difference":
        return MapDisplay.from_difference(maps[0], maps[1], cmap=cmap, size=options.size or "column")
    if options.kind != "map":
        return CurvesDisplay.from_map(maps[0], options.kind, value=value, size=options.size or "page")
    if len(maps) > 1:
        return MapDisplay.from_maps(maps, value=value, cmap=cmap, size=options.size or "page")
    return MapDisplay.from_map(maps[0], value=value, cmap=cmap, size=options.size or "column")
