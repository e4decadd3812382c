"""The picture shows the map's numbers: read back from the artists and from the SVG."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from PIL import Image

from probemap.figure import COLUMN_WIDTH, plot_map, save_picture
from probemap.map import ProbeMap
from probemap.positions import DEFAULT_POSITIONS


def a_map(n_layers: int = 6, positions: tuple[str, ...] = DEFAULT_POSITIONS) -> ProbeMap:
    draw = np.random.default_rng(0)
    auc = 0.55 + 0.3 * draw.random((n_layers, len(positions)))
    auc[3, 5] = 0.93
    auc[:, 7] = np.nan
    grid = ("layer", "position")
    n = np.arange(len(positions)) + 400
    return ProbeMap(
        xr.Dataset(
            {
                "auc": (grid, auc),
                "low": (grid, auc - 0.05),
                "high": (grid, auc + 0.04),
                "n": (("position",), n),
                "n_right": (("position",), n // 3),
            },
            coords={"layer": np.arange(n_layers), "position": list(positions)},
            attrs={"model": "tiny $model$", "task": "cities", "answers": 500, "decided": 414, "right": 138},
        )
    )


def test_the_drawn_array_scale_and_labels_are_the_map_s() -> None:
    made = a_map()
    ax = plot_map(made)
    (image,) = [child for child in ax.get_children() if isinstance(child, AxesImage)]
    drawn = image.get_array()
    assert isinstance(drawn, np.ma.MaskedArray)
    np.testing.assert_array_equal(drawn.filled(np.nan), made.auc.values)
    assert image.get_clim() == (0.5, 1.0)
    assert image.get_cmap().name == "Blues"
    assert [t.get_text() for t in ax.get_xticklabels()] == list(DEFAULT_POSITIONS)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["0", "2", "4"]
    assert list(ax.get_yticks()) == [0, 2, 4]
    assert ax.get_ylim() == (5.5, -0.5), "layer 0 on top"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Token", "Layer")
    bar = image.colorbar
    assert bar is not None
    assert bar.ax.get_ylim() == (0.5, 1.0)
    assert bar.ax.get_ylabel() == "AUC"


def test_counts_best_cell_and_empty_cells_are_marked_where_they_are() -> None:
    made = a_map()
    ax = plot_map(made)
    counts = {t.get_text(): t.xy[0] for t in ax.texts if t.get_text().isdigit()}  # type: ignore[attr-defined]
    assert counts == {str(400 + column): column for column in range(15)}
    (best,) = [p for p in ax.patches if p.get_gid() == "best-cell"]
    assert isinstance(best, Rectangle)
    assert best.get_xy() == (4.5, 2.5)
    empty = [p.get_xy() for p in ax.patches if isinstance(p, Rectangle) and p.get_hatch()]
    assert empty == [(6.5, row - 0.5) for row in range(6)]
    assert ax.get_title(loc="left").split("\n") == [
        r"tiny \$model\$, cities",
        "414 of 500 answers decided, 33 % right",
        r"highest: layer 3, exact_answer_last, 0.93 [0.88, 0.97]",
    ]


def test_files_have_real_text_the_width_of_a_column_and_repeatable_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for ending in ("png", "svg", "pdf"):
            save_picture(plot_map(a_map()), tmp_path / f"{name}.{ending}")
    for ending in ("png", "svg", "pdf"):
        assert (tmp_path / f"a.{ending}").read_bytes() == (tmp_path / f"b.{ending}").read_bytes()
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width == pytest.approx(COLUMN_WIDTH * 300, abs=1)
    texts = [t.text for t in ElementTree.parse(tmp_path / "a.svg").iter("{http://www.w3.org/2000/svg}text")]
    assert {*DEFAULT_POSITIONS, "Layer", "Token", "AUC", "407", "0.5", "1.0"} <= {str(t).strip() for t in texts}


def test_it_draws_into_axes_that_are_given_and_with_another_colour_map() -> None:
    figure = Figure()
    ax = figure.add_subplot(1, 2, 1)
    assert plot_map(a_map(), ax=ax, cmap="cividis") is ax
    assert ax.images[0].get_cmap().name == "cividis"
