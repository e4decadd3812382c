"""A real map beside the same states with shuffled verdicts: ``python benchmarks/noise_picture.py RUN``.

Draws ``docs/noise.png`` and prints the numbers that ``docs/reading.md`` quotes.  The verdicts are shuffled between
whole questions, once, with the map's seed; all else is as in the map of RUN.
"""

import sys
from pathlib import Path

import numpy as np
from probemap.runs.integrity import read_answers

from probemap.activations.store import ActivationStore
from probemap.maps.fit import _shuffles, fit_map
from probemap.maps.probe_map import ProbeMap
from probemap.probing.auc import interval
from probemap.runs.run import Run
from probemap.views.heatmap import MapDisplay

PICTURE = Path(__file__).parent.parent / "docs" / "noise.png"


def shuffled_map(run: Path, real: ProbeMap) -> ProbeMap:
    """The map of the same states, verdicts shuffled by question."""
    data, attrs = real.data, real.data.attrs
    _, answers, _ = read_answers(Run(run))
    names = [str(name) for name in data["answer"].values]
    group = data["group"].values.astype(np.int64)
    (verdicts,) = _shuffles(data["correct"].values, group, 1, int(attrs["seed"]))
    verdict_of = dict(zip(names, verdicts.tolist(), strict=True))
    group_of = dict(zip(names, group.tolist(), strict=True))
    ids = [answer.id for answer in answers]
    return fit_map(
        ActivationStore.open(run / "activations"),
        [verdict_of.get(name) for name in ids],  # undecided answers have none
        groups=[group_of.get(name, name) for name in ids],
        folds=int(attrs["folds"]),
        repeats=int(attrs["repeats"]),
        c=attrs["c"],
        common_rows=bool(attrs["common_rows"]),
        seed=int(attrs["seed"]),
        ids=ids,
        attrs={key: attrs[key] for key in ("model", "task")},
    )


def report(title: str, probe_map: ProbeMap) -> None:
    auc, best, honest = probe_map.auc.values, probe_map.best()[0], probe_map.nested_best()
    assert honest is not None
    data = probe_map.data.sel(layer=best.layer, position=best.position)
    column = probe_map.positions.index(best.position)
    right = int(probe_map.data["n_right"].values[column])
    # The interval without the coupling of folds: plain DeLong.
    _, influence = probe_map._joint
    variance = float((influence[:, probe_map._number(best.layer, best.position)] ** 2).sum())
    low, high = interval(best.auc, variance / (1 + float(data["variance_inflation"])), right, best.n - right)
    print(
        f"{title}\n"
        f"  lowest, mean, highest cell:        {np.nanmin(auc):.3f}, {np.nanmean(auc):.3f}, {np.nanmax(auc):.3f}\n"
        f"  highest cell:                      layer {best.layer}, {best.position}, n = {best.n}, {right} right\n"
        f"  its own 95 % interval:             {best.low:.3f} to {best.high:.3f}\n"
        f"  the same by plain DeLong:          {low:.3f} to {high:.3f}\n"
        f"  its band, over the whole map:      {float(data['band_low']):.3f} to {float(data['band_high']):.3f}\n"
        f"  its noise share:                   {float(data['variance_inflation']):.2f}\n"
        f"  noise share of all cells, mean:    {float(probe_map.data['variance_inflation'].mean()):.2f}\n"
        f"  honest best:                       {honest.auc:.3f} [{honest.low:.3f}, {honest.high:.3f}]\n"
        f"  cells whose own interval > 0.5:    {int((probe_map.data['low'] > 0.5).sum())} of {auc.size}\n"
        f"  cells better than chance (band):   {int(probe_map.above_chance.sum())} of {auc.size}\n"
        f"  not distinguishable from the best: {int(probe_map.confidence_set().sum())} of {auc.size}"
    )


def main(run: Path) -> None:
    real = ProbeMap.load(run / "map.nc")
    maps = {"a real map": real, "the same states, verdicts shuffled": shuffled_map(run, real)}
    for title, probe_map in maps.items():
        report(title, probe_map)
    MapDisplay.from_maps(list(maps.values()), titles=list(maps)).save(PICTURE)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
