"""State what remains of the AUCs of several runs after the controls: ``python benchmarks/controls.py RUN...``.

Each RUN is a run directory with a map.  Writes ``benchmarks/results/controls.md``.  For each position, the table shows
the layer with the highest AUC, and what this cell has beyond the baselines and beyond the control task.
"""

import argparse
from collections.abc import Sequence

import numpy as np
import xarray as xr
from report import machine, row, table_head, write

from probemap.maps.probe_map import ProbeMap
from probemap.runs.run import Run
from probemap.tables import Interval
from probemap.views.words import describe


def estimate(cell: xr.Dataset, name: str) -> str:
    """Return a value of a cell with its simultaneous band, or ``–`` if it is missing."""
    if name not in cell:  # without exact answers, there is no control task
        return "–"
    value, low, high = (float(cell[key]) for key in (name, f"{name}_band_low", f"{name}_band_high"))
    if not np.isfinite(value):
        return "–"
    interval = Interval(value, low, high)
    return interval.text if name in ("absorbed", "catch") else interval.signed_text


def describe_run(run: Run) -> list[str]:
    probe_map = run.read_current_map()
    attrs = probe_map.data.attrs
    lines = [
        f"## {attrs['model']}, {attrs['task']}",
        "",
        f"{attrs['decided']} decided answers, {attrs['right']} of them correct.  "
        f"Baselines: {', '.join(probe_map.data['baseline'].values.tolist())}.",
        "",
        *table_head(
            "position",
            "layer",
            "AUC",
            "best baseline",
            "gain",
            "all baselines",
            "adds",
            "explained by the baselines",
            "caught by the cell only",
            "selectivity",
        ),
    ]
    for position in probe_map.positions:
        column = probe_map.data.sel(position=position)
        if bool(column["auc"].isnull().all()):
            continue
        cell = column.isel(layer=int(np.nanargmax(column["auc"].values)))
        baseline = str(cell["best_baseline"].values)
        lines.append(
            row(
                f"`{position}`",
                int(cell["layer"]),
                f"{float(cell['auc']):.3f}",
                f"{baseline}, {float(cell['baseline_auc'].max()):.3f}",
                estimate(cell, "gain"),
                f"{float(cell['reference_auc']):.3f}",
                estimate(cell, "adds"),
                estimate(cell, "absorbed"),
                estimate(cell, "catch"),
                estimate(cell, "selectivity"),
            )
        )
    topics = ("baselines", "added", "control")
    lines += ["", *(f"- {item.text}" for item in describe(probe_map).observations if item.about in topics)]
    return [*lines, *describe_covariates(probe_map), ""]


def describe_covariates(probe_map: ProbeMap) -> list[str]:
    """Return, for each covariate, its own AUC and that of the best cell among answers in the same stratum."""
    data = probe_map.data
    (highest,) = probe_map.best()
    best = data.sel(layer=highest.layer, position=highest.position)
    return [
        f"- AUC of {name} at {highest.position}: {float(best['baseline_auc'].sel(baseline=name)):.2f}.  AUC of the "
        f"best cell, comparing only answers in the same stratum of {name}: "
        f"{float(best['auc_within'].sel(covariate=name)):.2f}; without strata: {highest.auc:.2f}."
        for name in (data["covariate"].values.tolist() if "auc_within" in data else [])
    ]


def main(runs: Sequence[Run]) -> None:
    lines = [
        "# What remains after the controls",
        "",
        "For each position, the cell with the highest AUC.  In brackets: simultaneous 95 % bands over all cells of the "
        "map.  All baselines: the AUC of all baselines together, or of the best one if it is higher.  The columns are "
        "explained in [Reading a map](../../docs/reading.md#what-a-cell-adds-to-the-baselines).",
        "",
        machine(),
        "",
    ]
    for run in runs:
        lines += describe_run(run)
    write("controls", lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN")
    main([Run.open(path) for path in parser.parse_args().runs])
