"""Compare a map with a published one that was read off its figure: ``python benchmarks/beside.py RUN CSV NAME``.

RUN is a run directory with a map.  CSV is a table of the published AUCs with one row per layer and one column per
position.  Writes ``benchmarks/results/NAME.md`` and draws both maps in ``benchmarks/results/NAME.png``.  The models
have different numbers of layers, so that depth is compared as a fraction of the layers.
"""

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib import rc_context
from report import RESULTS, machine, row, table_head, write

from probemap.maps.probe_map import ProbeMap
from probemap.runs.run import Run
from probemap.views.figures import new_figure, save_figure, style
from probemap.views.heatmap import MapDisplay

DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)

Floats = npt.NDArray[np.float64]


def at_depth(values: Floats, depth: float) -> Floats:
    """Return the row of the layer that is nearest to a fraction of the depth."""
    return np.asarray(values[round(depth * (len(values) - 1))])


def draw(probe_map: ProbeMap, published: pd.DataFrame, path: Path) -> None:
    """Draw the published map on the left and the measured one on the right."""
    with rc_context(style("column")):
        figure = new_figure(6.4, 3.9)
        left, right = figure.subplots(1, 2)
        left.imshow(published.values, vmin=0.5, vmax=1.0, cmap="Blues", aspect="auto", interpolation="nearest")
        left.set_xticks(range(len(published.columns)), list(published.columns), rotation=90)
        left.set_yticks(range(0, len(published), 2), [str(layer) for layer in published.index[::2]])
        left.set_xlabel("Token")
        left.set_ylabel("Layer")
        left.set_title("published, read off the figure", loc="left", fontsize=6)
        MapDisplay.from_map(probe_map).plot(right)
        save_figure(figure, path)


def compare(probe_map: ProbeMap, published: pd.DataFrame, name: str) -> list[str]:
    """Return the lines of the result file."""
    attrs, counts, positions = probe_map.data.attrs, probe_map.data["n"].values, probe_map.positions
    measured, expected = probe_map.auc.values, published.to_numpy(np.float64)
    measured_mean, published_mean = np.nanmean(measured, axis=0), expected.mean(axis=0)
    correlation = np.corrcoef(measured_mean, published_mean)[0, 1]
    return [
        f"# {attrs['model']} on {attrs['task']}, compared with a published map",
        "",
        f"{attrs['answers']} answers, {attrs['decided']} decided, {attrs['right']} of them correct; published: "
        f"`{name}`.  For each position the mean over layers, and the highest layer.",
        "",
        machine(),
        "",
        *table_head("position", "n", "mean", "highest (layer)", "published: mean", "published: highest (layer)"),
        *(
            row(
                position,
                int(counts[i]),
                f"{measured_mean[i]:.3f}",
                f"{np.nanmax(measured[:, i]):.3f} ({probe_map.layers[int(np.nanargmax(measured[:, i]))]})",
                f"{published_mean[i]:.3f}",
                f"{expected[:, i].max():.3f} ({published.index[int(expected[:, i].argmax())]})",
            )
            for i, position in enumerate(positions)
        ),
        "",
        f"Correlation of the {len(positions)} means over layers: {correlation:.2f}.",
        "",
        *table_head("depth", "mean over positions", "published"),
        *(
            row(
                f"{depth:.2f}",
                f"{np.nanmean(at_depth(measured, depth)):.3f}",
                f"{at_depth(expected, depth).mean():.3f}",
            )
            for depth in DEPTHS
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("csv", type=Path)
    parser.add_argument("name")
    options = parser.parse_args()
    probe_map = Run.open(options.run).map
    published = pd.read_csv(options.csv, index_col=0)
    positions = [str(p) for p in published.columns]
    if probe_map.positions != positions:
        raise SystemExit(
            f"the map has the positions {probe_map.positions}, the published map has {positions}; "
            "capture and map these positions with --positions"
        )
    draw(probe_map, published, RESULTS / f"{options.name}.png")
    write(options.name, compare(probe_map, published, options.csv.stem))


if __name__ == "__main__":
    main()
