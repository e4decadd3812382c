"""Compare a map with the map of permuted verdicts: ``python benchmarks/noise_picture.py RUN``.

RUN is a run directory with a map.  Draws both maps in ``docs/noise.png`` and prints the numbers that
``docs/reading.md`` quotes.  The verdicts are permuted once between questions, with the seed of the map; everything else
is as in the map of RUN.
"""

import argparse
from pathlib import Path

import numpy as np

from probemap.maps.fit import fit_map
from probemap.maps.probe_map import ProbeMap
from probemap.probing.auc import auc_interval
from probemap.probing.random_labels import permuted_labels
from probemap.runs.run import Run
from probemap.tables import Interval
from probemap.views.heatmap import MapDisplay

PICTURE = Path(__file__).parent.parent / "docs" / "noise.png"


def permuted_map(run: Run, probe_map: ProbeMap) -> ProbeMap:
    """Return the map of the same states with permuted verdicts."""
    data, attrs = probe_map.data, probe_map.data.attrs
    decided_ids = [str(name) for name in data["answer"].values]
    group = data["group"].values.astype(np.int64)
    (labels,) = permuted_labels(data["correct"].values, group, 1, int(attrs["seed"]))
    label_of = dict(zip(decided_ids, labels.tolist(), strict=True))
    group_of = dict(zip(decided_ids, group.tolist(), strict=True))
    ids = run.graded.ids
    return fit_map(
        run.states,
        [label_of.get(name) for name in ids],  # None for undecided answers
        groups=[group_of.get(name, name) for name in ids],
        folds=int(attrs["folds"]),
        repeats=int(attrs["repeats"]),
        c=attrs["c"],
        common_rows=bool(attrs["common_rows"]),
        seed=int(attrs["seed"]),
        ids=ids,
        attrs={key: attrs[key] for key in ("model", "task")},
    )


def describe(title: str, probe_map: ProbeMap) -> str:
    auc, (best,), nested = probe_map.auc.values, probe_map.best(), probe_map.nested_best()
    assert nested is not None
    cell = probe_map.data.sel(layer=best.layer, position=best.position)
    n_correct = int(cell["n_right"])
    # The interval without variance inflation is that of DeLong.
    _, influence = probe_map._joint
    variance = float((influence[:, probe_map._number(best.layer, best.position)] ** 2).sum())
    inflation = float(cell["variance_inflation"])
    low, high = auc_interval(best.auc, variance / (1 + inflation), n_correct, best.n - n_correct)
    facts = {
        "lowest, mean, highest cell": f"{np.nanmin(auc):.3f}, {np.nanmean(auc):.3f}, {np.nanmax(auc):.3f}",
        "highest cell": f"layer {best.layer}, {best.position}, n = {best.n}, {n_correct} correct",
        "its 95 % interval": f"{best.low:.3f} to {best.high:.3f}",
        "the same without variance inflation": f"{low:.3f} to {high:.3f}",
        "its simultaneous 95 % band": f"{float(cell['band_low']):.3f} to {float(cell['band_high']):.3f}",
        "its variance inflation": f"{inflation:.2f}",
        "variance inflation, mean of all cells": f"{float(probe_map.data['variance_inflation'].mean()):.2f}",
        "nested-CV estimate of the best cell": Interval(nested.auc, nested.low, nested.high).text,
        "cells with an interval above 0.5": f"{int((probe_map.data['low'] > 0.5).sum())} of {auc.size}",
        "cells above chance in the band": f"{int(probe_map.above_chance.sum())} of {auc.size}",
        "cells not distinguishable from the best": f"{int(probe_map.confidence_set().sum())} of {auc.size}",
    }
    return "\n".join([title, *(f"  {name + ':':<42}{value}" for name, value in facts.items())])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    run = Run.open(parser.parse_args().run)
    probe_map = run.map
    maps = {"a real map": probe_map, "the same states, verdicts shuffled": permuted_map(run, probe_map)}
    for title, each in maps.items():
        print(describe(title, each))
    MapDisplay.from_maps(list(maps.values()), titles=list(maps)).save(PICTURE)


if __name__ == "__main__":
    main()
