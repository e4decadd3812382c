"""Compute the AUCs of all cells in a map jointly from the out-of-fold scores."""

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.stats import norm

from probemap.probing.auc import LEVEL, Bools, Floats, aucs, expand_rows
from probemap.probing.inference import adjusted_p, simultaneous_quantile

CELL_DIMS = ("layer", "position")
"""Dimensions of a variable that has one value per cell."""


def cell_aucs(data: xr.Dataset, usable: Bools | None = None) -> tuple[Floats, Floats]:
    """Return the AUCs of all cells, averaged over repeats, and the influence of each answer.

    Parameters
    ----------
    data : xarray.Dataset
        The data set of a map; see `cell_map.CellMap`.
    usable : ndarray of shape (n, n_layers, n_positions), bool, optional
        Mask of the answers that may be used in each cell.  By default, all answers are used.

    Returns
    -------
    value : ndarray of shape (n_cells,), float64
        The AUCs, with the cells in the order of ``data["auc"].values.ravel()`` and NaN for cells without scores.
    influence : ndarray of shape (n, n_cells), float64
        The influences, with 0 for cells without scores.
    """
    scores, correct, fold = data["scores"].values, data["correct"].values, data["fold"].values
    n_repeats, n, n_layers, n_positions = scores.shape
    value, influence = np.full((n_layers, n_positions), np.nan), np.zeros((n, n_layers, n_positions))
    for column in range(n_positions):
        scored = ~np.isnan(scores[:, :, :, column])
        if usable is not None:
            scored &= usable[None, :, :, column]
        layers = scored.any(axis=(0, 1))
        if not layers.any():
            continue
        rows = scored[:, :, layers].any(axis=(0, 2))
        repeats = [aucs(scores[r][rows][:, layers, column], correct[rows], fold[r][rows]) for r in range(n_repeats)]
        value[layers, column] = np.mean([repeat.value for repeat in repeats], axis=0)
        influence[:, layers, column] = expand_rows(np.mean([repeat.influence for repeat in repeats], axis=0), rows)
    influence[:, np.isnan(value)] = 0
    # The answers on which one probe is evaluated are used to train the others; see `variance.variance_inflation`.
    influence *= np.sqrt(1 + np.nan_to_num(data["variance_inflation"].values))
    return value.ravel(), influence.reshape(n, -1)


def evaluated_rows(scores: npt.NDArray[np.float32]) -> Bools:
    """Return a mask of the answers that are evaluated in each column, as an array of shape (n, n_positions).

    Parameters
    ----------
    scores : ndarray of shape (n_repeats, n, n_layers, n_positions), float32
    """
    return np.asarray(~np.isnan(scores).all(axis=(0, 2)), np.bool_)


def cell_variables(name: str, value: Floats, influence: Floats, seed: int) -> dict[str, Any]:
    """Return a value of every cell with its 95 % confidence interval and its simultaneous 95 % band over all cells.

    Parameters
    ----------
    name : str
        Name of the variable.
    value : ndarray of shape (n_layers, n_positions), float64
        The values, which may be NaN.
    influence : ndarray of shape (n_groups, n_layers, n_positions), float64
        Influences summed by group, with 0 where `value` is NaN; see `inference.sum_by_group`.
    seed : int
        Random seed for the bootstrap of the band.

    Returns
    -------
    dict
        The variables ``name``, ``name_low``, ``name_high``, ``name_band_low`` and ``name_band_high``, and ``name_p``:
        the p-value of the hypothesis that the value is not above 0, corrected for the number of cells (see
        `inference.adjusted_p`).  They have the format that `xarray.Dataset.assign` accepts.  The errors are assumed to
        be normally distributed.
    """
    error = np.sqrt((influence**2).sum(axis=0))
    flat = influence.reshape(len(influence), -1)
    quantile = simultaneous_quantile(flat, LEVEL, seed)
    grids = {name: value, f"{name}_p": adjusted_p(value.ravel(), flat, seed).reshape(value.shape)}
    for ends, width in ((name, float(norm.ppf(0.5 + LEVEL / 2))), (f"{name}_band", quantile)):
        grids |= {f"{ends}_low": value - width * error, f"{ends}_high": value + width * error}
    return {key: (CELL_DIMS, grid) for key, grid in grids.items()}
