"""ProbeMap: a map of AUCs that draws, saves and loads itself."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
import xarray as xr

from probemap.probing.auc import LEVEL, by_group, interval, simultaneous_quantile
from probemap.probing.cell_map import CellMap
from probemap.probing.cells import cell_aucs, judged_rows
from probemap.records import MapError

if TYPE_CHECKING:
    from probemap.views.heatmap import MapDisplay

SCHEMA = 4
SCORES = ("repeat", "answer", "layer", "position")
_VALUES = ("auc", "low", "high", "band_low", "band_high")


@dataclass(frozen=True)
class ProbeMap(CellMap):
    """One AUC per (layer, position) cell with its uncertainty.

    `fit_map` returns it; `ProbeMap.load` reads it from a file.  As the last expression of a notebook cell it shows
    itself.
    """

    def plot(self, *, value: str = "auc", **options: Any) -> "MapDisplay":
        """Draw the map as a heatmap: positions on the x axis, layers on the y axis.

        Parameters
        ----------
        value : str, default="auc"
            The value that is drawn, a name of `probing.metrics.VALUES`.
        **options
            Passed to `plot_map`: ``ax``, ``cmap``, ``size``.

        Returns
        -------
        MapDisplay
            Shows itself in a notebook, and with ``matplotlib.pyplot.show()`` in a script; ``save(path)`` writes a file.
        """
        from probemap.views.heatmap import plot_map

        return plot_map(self, value=value, **options)

    def report(self, path: str | Path = "report.html") -> Path:
        """Write an interactive report as one self-contained HTML file.

        Returns
        -------
        Path
            The file.
        """
        from probemap.views.notebook import write_report

        return write_report(self, path)

    def _repr_html_(self) -> str:
        from probemap.views.notebook import map_html

        return map_html(self)

    def to_bytes(self) -> bytes:
        """The map as netCDF 3, which xarray, and any netCDF reader, opens; the same map gives the same bytes."""
        return bytes(self.data.to_netcdf(engine="scipy"))

    def save(self, path: str | Path) -> None:
        """Write `to_bytes` to a file."""
        Path(path).write_bytes(self.to_bytes())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a map that `save` wrote.

        Raises
        ------
        MapError: no such file, or not a map.
        """
        try:
            data = xr.load_dataset(io.BytesIO(Path(path).read_bytes()), engine="scipy")
            if int(data.attrs["schema"]) != SCHEMA:
                raise MapError(f"{path} has schema {data.attrs['schema']}, expected {SCHEMA}", "make the map again")
            data.attrs = {k: v.item() if isinstance(v, np.generic) else v for k, v in data.attrs.items()}
            if data["scores"].dims != SCORES or data["auc"].dims != SCORES[2:]:
                raise MapError(f"{path} holds arrays of other dimensions", "make the map again")
            return cls(data)
        except FileNotFoundError:
            raise MapError(f"there is no map {path}", "`probemap map RUN` makes it") from None
        except (ValueError, KeyError, TypeError, IndexError, OverflowError) as error:
            raise MapError(
                f"{path} is not a map ({str(error).splitlines()[0]})", "`probemap map RUN` makes it again"
            ) from None


def map_from_scores(
    scores: npt.NDArray[np.float32],
    correct: npt.NDArray[np.bool_],
    fold: npt.NDArray[np.int64],
    group: npt.NDArray[np.int64],
    noise: npt.NDArray[np.float64],
    *,
    answers: Sequence[str],
    layers: Sequence[int],
    positions: Sequence[str],
    attrs: Mapping[str, Any],
    present: npt.NDArray[np.bool_],
    extra: Mapping[str, Any] | None = None,
) -> ProbeMap:
    """A map from out-of-fold scores, whoever made them.

    Parameters
    ----------
    scores: (n_repeats, n, n_layers, n_positions), NaN where missing or not judged; the same rows in every layer.
    correct, group: (n,); fold: (n_repeats, n).
    noise: (n_layers, n_positions), see `probe.noise_share`.
    present: (n, n_positions), which answers have which position.
    extra: more variables for the map's data set.
    """
    data = xr.Dataset(
        {
            "scores": (SCORES, scores),
            "correct": (("answer",), correct),
            "group": (("answer",), group.astype(np.int32)),
            "fold": (("repeat", "answer"), fold.astype(np.int32)),
            "variance_inflation": (SCORES[2:], noise),
            "present": (("answer", "position"), present),
            **(extra or {}),
        },
        coords={
            "answer": np.array(list(answers), object),
            "layer": np.array(list(layers), np.int32),
            "position": np.array(list(positions), object),
        },
        attrs={**attrs, "schema": SCHEMA, "level": LEVEL},
    )
    value, influence = cell_aucs(data)
    influence = by_group(influence, group)
    quantile = simultaneous_quantile(influence, LEVEL, int(attrs["seed"]))
    judged = judged_rows(scores)
    # A column with too few answers still says how few.
    judged[:, ~judged.any(axis=0)] = present[:, ~judged.any(axis=0)]
    n, n_right = judged.sum(0), (judged & correct[:, None]).sum(0)
    found = np.full((len(value), 5), np.nan)
    for k, (v, variance) in enumerate(zip(value, (influence**2).sum(0), strict=True)):
        column = k % len(positions)
        counts = int(n_right[column]), int(n[column] - n_right[column])
        found[k] = (
            v,
            *interval(v, variance, *counts, LEVEL),
            *interval(v, variance, *counts, LEVEL, quantile=quantile),
        )
    shape = (len(layers), len(positions))
    for k, name in enumerate(_VALUES):
        data[name] = (("layer", "position"), found[:, k].reshape(shape))
    data["n"], data["n_right"] = (("position",), n.astype(np.int32)), (("position",), n_right.astype(np.int32))
    return ProbeMap(data)
