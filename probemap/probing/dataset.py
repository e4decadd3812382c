"""The data set of a map: out-of-fold scores, and the AUCs, intervals and bands that are computed from them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from probemap.probing.auc import LEVEL, Bools, Floats, Ints, auc_interval
from probemap.probing.cells import CELL_DIMS, cell_aucs, cell_variables, evaluated_rows
from probemap.probing.inference import simultaneous_quantile, sum_by_group

SCHEMA = 4
"""Format version of the data set, stored in its ``attrs``."""

SCORE_DIMS = ("repeat", "answer", "layer", "position")

AUC_VARIABLES = ("auc", "low", "high", "band_low", "band_high")
"""Variables with one value per cell: the AUC, its 95 % confidence interval, and the 95 % band over all cells."""


@dataclass(frozen=True, kw_only=True)
class MapScores:
    """Out-of-fold scores of all cells, together with the answers that were scored."""

    scores: npt.NDArray[np.float32]
    """ndarray of shape (n_repeats, n, n_layers, n_positions), with NaN where a position is missing or an answer is not
    evaluated.  All layers have NaN in the same rows."""
    correct: Bools
    """ndarray of shape (n,): whether each answer is correct."""
    group: Ints
    """ndarray of shape (n,): group of each answer.  Answers in the same group are treated as one observation."""
    fold: Ints
    """ndarray of shape (n_repeats, n): fold of each answer in each repeat."""
    variance_inflation: Floats
    """ndarray of shape (n_layers, n_positions); see `variance.variance_inflation`."""
    present: Bools
    """ndarray of shape (n, n_positions): whether each answer has a token at each position."""
    answers: Sequence[str]
    """Ids of the answers."""
    layers: Sequence[int]
    positions: Sequence[str]


def map_dataset(scores: MapScores, attrs: Mapping[str, Any], variables: Mapping[str, Any] | None = None) -> xr.Dataset:
    """Return the data set of a map.

    Parameters
    ----------
    scores : MapScores
    attrs : mapping
        Attributes of the data set; ``seed`` is required.
    variables : mapping, optional
        Additional variables, in the format that `xarray.Dataset` accepts.

    Returns
    -------
    xarray.Dataset
        The data set described in `cell_map.CellMap`.
    """
    data = xr.Dataset(
        {
            "scores": (SCORE_DIMS, scores.scores),
            "correct": (("answer",), scores.correct),
            "group": (("answer",), scores.group.astype(np.int32)),
            "fold": (("repeat", "answer"), scores.fold.astype(np.int32)),
            "variance_inflation": (CELL_DIMS, scores.variance_inflation),
            "present": (("answer", "position"), scores.present),
            **(variables or {}),
        },
        coords={
            "answer": np.array(list(scores.answers), object),
            "layer": np.array(list(scores.layers), np.int32),
            "position": np.array(list(scores.positions), object),
        },
        attrs={**attrs, "schema": SCHEMA, "level": LEVEL},
    )
    evaluated = evaluated_rows(scores.scores)
    # A column with too few answers to compute an AUC still reports how many answers have the position.
    empty = ~evaluated.any(axis=0)
    evaluated[:, empty] = scores.present[:, empty]
    n, n_correct = evaluated.sum(0), (evaluated & scores.correct[:, None]).sum(0)
    value, influence = cell_aucs(data)
    summed = sum_by_group(influence, data["group"].values.astype(np.int64))
    table = auc_table(value, summed, n, n_correct, int(data.attrs["seed"]))
    shape = scores.variance_inflation.shape
    for k, name in enumerate(AUC_VARIABLES):
        data[name] = (CELL_DIMS, table[:, k].reshape(shape))
    data["n"], data["n_right"] = (("position",), n.astype(np.int32)), (("position",), n_correct.astype(np.int32))
    return data


def selectivity(data: xr.Dataset, control_auc: Floats) -> dict[str, Any]:
    """Return the selectivity of each cell: its AUC minus its mean AUC for the label sets of the control task.

    Parameters
    ----------
    data : xarray.Dataset
        The data set of a map.
    control_auc : ndarray of shape (n_label_sets, n_layers, n_positions), float64
        AUC for each label set of the control task; see `random_labels.control_labels`.

    Returns
    -------
    dict
        The variables ``control_auc`` and ``selectivity``, with an interval and a band (see `cells.cell_variables`), or
        an empty dictionary if there is no label set.  The intervals account for the sampling of the answers and of the
        random labels.
    """
    n_sets = len(control_auc)
    if not n_sets:
        return {}
    auc, influence = cell_aucs(data)
    influence = sum_by_group(influence, data["group"].values.astype(np.int64)).reshape(-1, *data["auc"].shape)
    mean = control_auc.mean(axis=0)
    # Each label set is an independent observation of the mean, whose error is added to that of the AUC.
    error = (mean - control_auc) / np.sqrt(n_sets * max(n_sets - 1, 1))
    value = auc.reshape(mean.shape) - mean
    joint = np.where(np.isnan(value), 0, np.concatenate([influence, np.nan_to_num(error)]))
    return {
        "control_auc": (CELL_DIMS, mean),
        **cell_variables("selectivity", value, joint, int(data.attrs["seed"])),
    }


def auc_table(value: Floats, influence: Floats, n: Ints, n_correct: Ints, seed: int) -> Floats:
    """Return the AUC of every cell with its interval and its band over all cells.

    Parameters
    ----------
    value : ndarray of shape (n_cells,), float64
    influence : ndarray of shape (n_groups, n_cells), float64
        Influences summed by group.
    n, n_correct : ndarray of shape (n_positions,), int
        Number of answers, and of correct answers, in each column.
    seed : int
        Random seed for the bootstrap of the band.

    Returns
    -------
    ndarray of shape (n_cells, 5), float64
        The `AUC_VARIABLES` of every cell.
    """
    quantile = simultaneous_quantile(influence, LEVEL, seed)
    table = np.full((len(value), len(AUC_VARIABLES)), np.nan)
    for k, (auc, variance) in enumerate(zip(value, (influence**2).sum(0), strict=True)):
        column = k % len(n)
        counts = int(n_correct[column]), int(n[column] - n_correct[column])
        interval = auc_interval(auc, variance, *counts, LEVEL)
        table[k] = (auc, *interval, *auc_interval(auc, variance, *counts, LEVEL, quantile=quantile))
    return table
