"""ProbeMap: a map of AUCs that can be drawn, saved and loaded."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import xarray as xr

from probemap.probing.cell_map import CellMap
from probemap.probing.cells import CELL_DIMS
from probemap.probing.dataset import SCHEMA, SCORE_DIMS
from probemap.records import MapError

if TYPE_CHECKING:
    from probemap.views.heatmap import MapDisplay


@dataclass(frozen=True)
class ProbeMap(CellMap):
    """A map that contains the AUC of each (layer, position) cell and its uncertainty.

    Maps are created by `fit_map`, and read from files by `ProbeMap.load`.  A map that is the last expression in a
    notebook cell is rendered automatically.

    Parameters
    ----------
    data : xarray.Dataset
        The values in the map and the scores from which they are computed; see `probing.cell_map.CellMap`.

    Examples
    --------
    >>> import numpy as np
    >>> import probemap
    >>> rng = np.random.default_rng(0)
    >>> correct = rng.random(200) < 0.5
    >>> states = rng.normal(size=(200, 3, 2, 8)).astype(np.float32)
    >>> states[:, 1, 1, 0] += 2 * correct
    >>> probe_map = probemap.fit_map(states, correct, positions=["last_q", "-1"])
    >>> probe_map.positions
    ['last_q', '-1']
    >>> probe_map.confidence_set().values.tolist()
    [[False, False], [False, True], [False, False]]
    >>> probe_map.to_frame().shape
    (6, 9)
    >>> display = probe_map.plot()
    """

    def plot(self, *, value: str = "auc", **options: Any) -> MapDisplay:
        """Draw the map as a heatmap, with positions on the x axis and layers on the y axis.

        Parameters
        ----------
        value : str, default="auc"
            The kind of value to draw (a key of `probing.metrics.VALUES`).
        **options
            Keyword arguments that are passed to `plot_map`: ``ax``, ``cmap`` and ``size``.

        Returns
        -------
        MapDisplay
            The display.  A notebook renders it automatically; in a script, call ``matplotlib.pyplot.show()``.  Its
            ``save(path)`` method writes it to a file.

        Raises
        ------
        MapError
            If the map does not contain the value.
        """
        from probemap.views.heatmap import plot_map

        return plot_map(self, value=value, **options)

    def report(self, path: str | Path = "report.html") -> Path:
        """Write an interactive report as one self-contained HTML file.

        Parameters
        ----------
        path : str or Path, default="report.html"

        Returns
        -------
        Path
            Path of the written file.
        """
        from probemap.views.report import RunView, render

        attrs = self.data.attrs
        title = f"{attrs['model']} on {attrs.get('task', 'answers')}" if "model" in attrs else "map"
        Path(path).write_text(render([RunView(probe_map=self, title=title)]), encoding="utf-8")
        return Path(path)

    def to_bytes(self) -> bytes:
        """Return the map in netCDF 3 format, which xarray and any other netCDF reader can open.

        Equal maps result in identical bytes.
        """
        return bytes(self.data.to_netcdf(engine="scipy"))

    def save(self, path: str | Path) -> None:
        """Write the map to a netCDF file."""
        Path(path).write_bytes(self.to_bytes())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a map from a file that was written by `save`.

        Raises
        ------
        MapError
            If the file does not exist or is not a map.
        """
        try:
            data = xr.load_dataset(io.BytesIO(Path(path).read_bytes()), engine="scipy")
            if int(data.attrs["schema"]) != SCHEMA:
                raise MapError(f"{path} has schema {data.attrs['schema']}, expected {SCHEMA}", "fit the map again")
            data.attrs = {k: v.item() if isinstance(v, np.generic) else v for k, v in data.attrs.items()}
            if data["scores"].dims != SCORE_DIMS or data["auc"].dims != CELL_DIMS:
                raise MapError(f"the arrays of {path} have unexpected dimensions", "fit the map again")
            return cls(data)
        except FileNotFoundError:
            raise MapError(f"the map {path} does not exist", "fit it with `probemap map RUN`") from None
        except (ValueError, KeyError, TypeError, IndexError, OverflowError) as error:
            raise MapError(
                f"{path} is not a map ({str(error).splitlines()[0]})", "fit it again with `probemap map RUN`"
            ) from None

    def _repr_html_(self) -> str:
        png = io.BytesIO()
        self.plot().figure.savefig(png, format="png", dpi=160)
        attrs = self.data.attrs
        (best,) = self.best()
        summary = (
            f"{len(self.layers)} layers × {len(self.positions)} positions; {attrs['answers']} answers, "
            f"{attrs['decided']} decided, {attrs['right']} correct; highest AUC: layer {best.layer}, {best.position}, "
            f"{best.auc:.2f} [{best.low:.2f}, {best.high:.2f}]"
        )
        encoded = base64.b64encode(png.getvalue()).decode()
        return f'<img alt="Map" src="data:image/png;base64,{encoded}" width="500"><p>{escape(summary)}</p>'
