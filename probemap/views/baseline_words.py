"""State in words how the cells of a map compare with the baselines and with the control task."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from probemap.probing.metrics import FLAGGED
from probemap.views.observations import Observation, position_names

if TYPE_CHECKING:
    import xarray as xr

    from probemap.probing.auc import Bools
    from probemap.probing.cell_map import CellMap


def gain_observations(probe_map: CellMap, significant: Bools) -> list[Observation]:
    """Report the cells that are better than the best baseline of their column.

    Parameters
    ----------
    probe_map : CellMap
    significant : ndarray of shape (n_layers, n_positions), bool
        Whether the gain of each cell is significant.
    """
    data = probe_map.data
    if bool(data["gain"].isnull().all()):
        return []
    n_cells, above = int(data["gain"].notnull().sum()), significant
    if above.any():
        columns = np.array(probe_map.positions)[above.any(axis=0)]
        subject = (
            "cells is better than the best baseline of its"
            if above.sum() == 1
            else ("cells are better than the best baseline of their")
        )
        text = f"{above.sum()} of {n_cells} {subject} column, at {position_names(columns)}."
        return [Observation("baselines", text)]
    highest = float(data["baseline_auc"].max())
    number, column = np.unravel_index(int(np.nanargmax(data["baseline_auc"].values)), data["baseline_auc"].shape)
    return [
        Observation(
            "baselines",
            "No cell can be shown to be better than the best baseline of its column.  The best of all baselines is "
            f"{data['baseline'].values[number]}, AUC {highest:.2f} at {probe_map.positions[column]}.",
        )
    ]


def added_observations(probe_map: CellMap, significant: Bools) -> list[Observation]:
    """Report what the best cell adds to the baselines, and the positions at which some cell adds to them.

    Parameters
    ----------
    probe_map : CellMap
    significant : ndarray of shape (n_layers, n_positions), bool
        Whether each cell adds to the baselines significantly.
    """
    data = probe_map.data
    if bool(data["adds"].isnull().all()):
        return []
    (best,) = probe_map.best()
    cell = data.sel(layer=best.layer, position=best.position)
    observations = []
    if not np.isnan(float(cell["adds"])):
        reference, auc = str(cell["reference"].values), float(cell["reference_auc"])
        adds, low, high = (float(cell[name]) for name in ("adds", "adds_band_low", "adds_band_high"))
        text = (
            f"Compared with the baselines at {best.position} ({reference}, AUC {auc:.2f}), the cell with the highest "
            f"AUC adds {adds:+.3f} [{low:+.3f}, {high:+.3f}] (simultaneous 95 % band)"
        )
        if not np.isnan(float(cell["absorbed"])):
            text += f"; the baselines explain {_percent(cell, 'absorbed')} of its AUC above 0.5"
        text += f".  It catches {_percent(cell, 'catch')} of the incorrect answers that the baselines miss"
        observations.append(Observation("added", f"{text}, if each flags {100 * FLAGGED:.0f} % of all answers."))
    has_value = np.asarray(data["adds"].notnull().any("layer"))
    positions = np.array(probe_map.positions)
    adds_here = significant.any(axis=0)
    adding, not_adding = positions[adds_here], positions[~adds_here & has_value]
    sentences = [f"Cells add to the baselines at {position_names(adding)}."] if len(adding) else []
    if len(not_adding):
        sentences.append(f"At {position_names(not_adding)}, nothing beyond the baselines can be shown.")
    return [*observations, Observation("added", "  ".join(sentences))]


def control_observations(probe_map: CellMap, significant: Bools) -> list[Observation]:
    """Report how much of the best cell could be memorised identities, and the positions without selectivity.

    Parameters
    ----------
    probe_map : CellMap
    significant : ndarray of shape (n_layers, n_positions), bool
        Whether the selectivity of each cell is significant.
    """
    data = probe_map.data
    if bool(data["selectivity"].isnull().all()):
        return []
    (best,) = probe_map.best()
    cell = data.sel(layer=best.layer, position=best.position)
    value, low, high = (float(cell[f"selectivity{end}"]) for end in ("", "_band_low", "_band_high"))
    text = (
        f"In the control task, in which answers with the same exact answer have the same random label, the AUC of the "
        f"best cell is {float(cell['control_auc']):.2f}, so its selectivity is {value:+.3f} [{low:+.3f}, {high:+.3f}] "
        "(simultaneous 95 % band)."
    )
    above = np.asarray(probe_map.above_chance.any("layer")) & np.asarray(data["selectivity"].notnull().any("layer"))
    if len(memorised := np.array(probe_map.positions)[above & ~significant.any(axis=0)]):
        text += (
            f"  At {position_names(memorised)}, no cell can be shown to predict correctness better than these random "
            "labels, so the cells may only have memorised which exact answers are correct."
        )
    return [Observation("control", text)]


def _percent(cell: xr.Dataset, name: str) -> str:
    value, low, high = (100 * float(cell[key]) for key in (name, f"{name}_low", f"{name}_high"))
    return f"{value:.0f} % [{low:.0f}, {high:.0f}]"
