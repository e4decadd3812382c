"""The map: one AUC per (layer, position) cell, with its interval and the answers that it rests on."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from probemap.activations import ActivationStore
from probemap.positions import DEFAULT_POSITIONS
from probemap.probe import MIN_PER_CLASS, assign_folds, out_of_fold_scores
from probemap.records import MapError
from probemap.stats import auc, interval

SCHEMA = 1
_VALUES = ("auc", "low", "high")
_COUNTS = ("n", "n_right")


@dataclass(frozen=True)
class Cell:
    """One cell of a map."""

    layer: int
    position: str
    auc: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class ProbeMap:
    """One AUC per cell, labelled by layer and position."""

    data: xr.Dataset
    """``auc``, ``low``, ``high`` over (layer, position), float64, NaN where there are too few answers to say;
    ``n``, ``n_right`` over (position), int64: the decided answers that have the position, and the right ones.
    ``attrs``: where it comes from (model, task, counts, options)."""

    @property
    def auc(self) -> xr.DataArray:
        return self.data["auc"]

    @property
    def layers(self) -> list[int]:
        return [int(layer) for layer in self.data["layer"].values]

    @property
    def positions(self) -> list[str]:
        return [str(position) for position in self.data["position"].values]

    def cell(self, layer: int, position: str) -> Cell:
        """One cell by its labels."""
        at = self.data.sel(layer=layer, position=position)
        return Cell(layer, position, float(at.auc), float(at.low), float(at.high), int(at.n))

    def best(self, count: int = 1) -> list[Cell]:
        """The cells with the highest AUC, highest first; ties by layer, then position.

        The highest of many cells is an optimum, not an estimate: chosen and measured on the same answers, it
        is too high by up to a few hundredths.
        """
        flat = self.auc.values.ravel()
        known = [i for i in np.argsort(-flat, kind="stable") if not np.isnan(flat[i])]
        width = len(self.positions)
        return [self.cell(self.layers[i // width], self.positions[i % width]) for i in known[:count]]

    def to_frame(self) -> Any:
        """A pandas.DataFrame with the columns layer, position, auc, low, high, n, n_right; one row per cell."""
        frame = self.data.to_dataframe(dim_order=["layer", "position"]).reset_index()
        return frame[["layer", "position", *_VALUES, *_COUNTS]]

    def to_json(self) -> str:
        """The map as JSON: ``xarray.Dataset.to_dict`` with null for NaN."""
        content = self.data.to_dict()
        for name in _VALUES:
            values = content["data_vars"][name]["data"]
            content["data_vars"][name]["data"] = [[None if np.isnan(v) else float(v) for v in row] for row in values]
        content["attrs"]["schema"] = SCHEMA
        return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    def save(self, path: str | Path) -> None:
        """Write `to_json` to a file."""
        Path(path).write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "ProbeMap":
        """Read a map that `save` wrote.

        Raises
        ------
        MapError: no such file, or not a map.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            if content["attrs"]["schema"] != SCHEMA:
                raise MapError(
                    f"{path} has schema {content['attrs']['schema']}, expected {SCHEMA}", "make the map again"
                )
            data = xr.Dataset.from_dict(content)
            for name in _VALUES:
                data[name] = data[name].astype(np.float64)
            return cls(data.transpose("layer", "position"))
        except FileNotFoundError:
            raise MapError(f"there is no map {path}", "`probemap map RUN` makes it") from None
        except (ValueError, KeyError, TypeError) as error:
            raise MapError(f"{path} is not a map ({error})", "`probemap map RUN` makes it again") from None


def fit_map(
    activations: ActivationStore | npt.ArrayLike,
    correct: Sequence[bool | None] | npt.NDArray[np.bool_],
    *,
    groups: Sequence[Any] | None = None,
    positions: Sequence[str] | None = None,
    folds: int = 5,
    c: float = 1.0,
    probe: Any = None,
    seed: int = 0,
    attrs: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ProbeMap:
    """Fit one probe per (layer, position) cell and judge it out of fold.

    Parameters
    ----------
    activations: a store of captured states, or an array (n, n_layers, n_positions, d), NaN where an answer lacks
        the position.
    correct: (n,) True, False or None; None (undecided) is left out.
    groups: (n,) what must not be split between folds, e.g. the question; None puts each answer on its own.
    positions: names of the third axis of an array; a store brings its own.
    folds: number of folds, stratified by `correct` and grouped.
    c: inverse strength of the L2 penalty, as scikit-learn's ``C``.
    probe: a scikit-learn classifier with ``decision_function``, given the states unscaled; None is a logistic
        regression on standardised states.
    seed: of the folds.
    attrs: where it all comes from; kept in the map's ``attrs``.
    progress: called with (layers done, layers).

    Raises
    ------
    MapError: labels of another length, one class only, or fewer of a class than folds.
    """
    read, n, n_layers, names = _reader(activations, positions)
    if len(correct) != n:
        raise MapError(f"{len(correct)} verdicts for {n} answers", "one verdict per answer, None if undecided")
    if strange := [v for v in correct if v is not None and v not in (True, False)]:
        raise MapError(f"a verdict is {strange[0]!r}", "verdicts are True, False, or None if undecided")
    decided = np.array([verdict is not None for verdict in correct], dtype=bool)
    labels = np.array([bool(verdict) for verdict in correct])[decided]
    if labels.all() or not labels.any():
        which = (
            "no answer is decided"
            if not len(labels)
            else (f"all {len(labels)} decided answers are {'right' if labels.all() else 'wrong'}")
        )
        raise MapError(
            f"{which}: a map needs right and wrong answers",
            "take questions that this model answers right between 20 % and 80 % of the time",
        )
    kept = np.flatnonzero(decided)
    group = np.arange(len(kept))
    if groups is not None:
        group = np.unique([str(groups[i]) for i in kept.tolist()], return_inverse=True)[1]
    fold = assign_folds(labels, group, folds, seed)

    results = np.full((n_layers, len(names), len(_VALUES)), np.nan)
    counts = np.zeros((len(names), len(_COUNTS)), dtype=np.int64)
    for layer in range(n_layers):
        states = read(layer)[decided]
        for column in range(len(names)):
            results[layer, column] = _fit_cell(states[:, column], labels, fold, group, c, probe)
        if layer == 0:
            present = ~np.isnan(states[:, :, 0])
            counts[:] = np.stack([present.sum(0), (present & labels[:, None]).sum(0)], axis=1)
        progress(layer + 1, n_layers)
    if np.isnan(results).all():
        raise MapError(
            f"no column has {MIN_PER_CLASS} right and {MIN_PER_CLASS} wrong answers: too few to say anything",
            "ask more questions",
        )
    data = xr.Dataset(
        {name: (("layer", "position"), results[:, :, k]) for k, name in enumerate(_VALUES)}
        | {name: (("position",), counts[:, k]) for k, name in enumerate(_COUNTS)},
        coords={"layer": np.arange(n_layers), "position": list(names)},
        attrs={
            **(attrs or {}),
            "answers": n,
            "decided": len(labels),
            "right": int(labels.sum()),
            "folds": folds,
            "c": c,
            "seed": seed,
            "level": 0.95,
        },
    )
    return ProbeMap(data)


def _reader(
    activations: ActivationStore | npt.ArrayLike, positions: Sequence[str] | None
) -> tuple[Callable[[int], npt.NDArray[np.float32]], int, int, tuple[str, ...]]:
    if isinstance(activations, ActivationStore):
        layout = activations.layout
        return activations.read_layer, layout.n, layout.n_layers, layout.positions
    array = np.asarray(activations)
    if array.ndim != 4:
        raise MapError(f"states of shape {array.shape}", "the shape is (n, n_layers, n_positions, d)")
    default = DEFAULT_POSITIONS if array.shape[2] == len(DEFAULT_POSITIONS) else range(array.shape[2])
    names = tuple(str(p) for p in (default if positions is None else positions))
    if len(names) != array.shape[2]:
        raise MapError(f"{len(names)} position names for {array.shape[2]} positions")
    return lambda layer: np.asarray(array[:, layer], np.float32), array.shape[0], array.shape[1], names


def _fit_cell(
    states: npt.NDArray[np.float32],
    correct: npt.NDArray[np.bool_],
    fold: npt.NDArray[np.int64],
    group: npt.NDArray[np.int64],
    c: float,
    probe: Any,
) -> tuple[float, float, float]:
    """(auc, low, high) of one cell, NaN if there are too few answers to say."""
    scores = out_of_fold_scores(states, correct, fold, c=c, probe=probe)
    if scores is None:
        return float("nan"), float("nan"), float("nan")
    scored = ~np.isnan(scores)
    right = correct[scored]
    estimate = auc(scores[scored], right)
    low, high = interval(estimate.value, estimate.variance(group[scored]), int(right.sum()), int((~right).sum()))
    return estimate.value, low, high
