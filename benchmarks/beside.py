"""A map beside a published one that was read off its figure: ``python benchmarks/beside.py RUN PUBLISHED.csv NAME``.

PUBLISHED.csv has a row per layer and a column per position, AUC.  Draws ``benchmarks/results/NAME.png`` in the
published columns and order, and writes what can be compared: depth is a share of the layers, since models differ.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import rc_context
from report import head, machine, row, write

from probemap.maps.probe_map import ProbeMap
from probemap.views.figures import new_figure, save_figure, style
from probemap.views.heatmap import MapDisplay

DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)


def at_depth(values: np.ndarray, depth: float) -> np.ndarray:
    """The layer nearest to a share of the depth."""
    return np.asarray(values[round(depth * (len(values) - 1))])


def draw(ours: ProbeMap, published: pd.DataFrame, out: Path) -> None:
    with rc_context(style("column")):
        figure = new_figure(6.4, 3.9)
        left, right = figure.subplots(1, 2)
        left.imshow(published.values, vmin=0.5, vmax=1.0, cmap="Blues", aspect="auto", interpolation="nearest")
        left.set_xticks(range(len(published.columns)), list(published.columns), rotation=90)
        left.set_yticks(range(0, len(published), 2), [str(layer) for layer in published.index[::2]])
        left.set_xlabel("Token")
        left.set_ylabel("Layer")
        left.set_title("published, read off the figure", loc="left", fontsize=6)
        MapDisplay.from_map(ours).plot(right)
        save_figure(figure, out)


def main() -> None:
    run, table, name = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    ours = ProbeMap.load(run / "map.nc")
    published = pd.read_csv(table, index_col=0)
    positions = [str(p) for p in published.columns]
    if ours.positions != positions:
        raise SystemExit(f"the map has {ours.positions}, the published one {positions}: capture with --positions")
    draw(ours, published, Path(__file__).parent / "results" / f"{name}.png")
    mine, theirs, counts = ours.auc.values, published.values, ours.data["n"].values
    attrs = ours.data.attrs
    means = np.nanmean(mine, 0), theirs.mean(0)
    lines = [
        f"# {attrs['model']} on {attrs['task']}, beside a published map",
        "",
        f"{attrs['answers']} answers, {attrs['decided']} decided, {attrs['right']} of them right; published: "
        f"`{table.stem}`.  Mean over layers, and the highest layer, of each column.",
        "",
        machine(),
        "",
        *head("position", "n", "ours: mean", "ours: highest (layer)", "published: mean", "published: highest (layer)"),
        *(
            row(
                position,
                int(counts[i]),
                f"{means[0][i]:.3f}",
                f"{np.nanmax(mine[:, i]):.3f} ({int(np.nanargmax(mine[:, i]))})",
                f"{means[1][i]:.3f}",
                f"{theirs[:, i].max():.3f} ({int(theirs[:, i].argmax())})",
            )
            for i, position in enumerate(positions)
        ),
        "",
        f"Correlation of the {len(positions)} column means: {np.corrcoef(*means)[0, 1]:.2f}.",
        "",
        *head("depth", "ours: mean over positions", "published"),
        *(
            row(f"{depth:.2f}", f"{np.nanmean(at_depth(mine, depth)):.3f}", f"{at_depth(theirs, depth).mean():.3f}")
            for depth in DEPTHS
        ),
    ]
    write(name, lines)


if __name__ == "__main__":
    main()
