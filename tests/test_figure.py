"""The picture shows the map's numbers: read back from the artists and from the SVG."""

import base64
import io
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from PIL import Image
from test_values import from_scores, some

from probemap.positions import DEFAULT_POSITIONS
from probemap.probing.metrics import measure, subtract
from probemap.probing.probe_map import ProbeMap
from probemap.views.curves import plot_curves
from probemap.views.heatmap import SIZES, plot_difference, plot_map, plot_maps, save_picture


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
        assert picture.width == pytest.approx(SIZES["column"].width * 300, abs=1)
    texts = [t.text for t in ElementTree.parse(tmp_path / "a.svg").iter("{http://www.w3.org/2000/svg}text")]
    assert {*DEFAULT_POSITIONS, "Layer", "Token", "AUC", "407", "0.5", "1.0"} <= {str(t).strip() for t in texts}


def test_it_draws_into_axes_that_are_given_and_with_another_colour_map() -> None:
    figure = Figure()
    ax = figure.add_subplot(1, 2, 1)
    assert plot_map(a_map(), ax=ax, cmap="cividis") is ax
    assert ax.images[0].get_cmap().name == "cividis"


def scored(seed: int = 0, names: tuple[str, ...] = ("last_q", "-1"), **attrs: str) -> ProbeMap:
    made = from_scores(*some(seed=seed), names=names)
    made.data.attrs.update(attrs)
    grid, gain = ("layer", "position"), np.array([[-0.2, 0.01], [0.1, np.nan], [0.3, -0.02]])
    return ProbeMap(made.data.assign(gain=(grid, gain), gain_low=(grid, gain - 0.05), gain_high=(grid, gain + 0.05)))


def offsets(ax: object, gid: str) -> list[list[float]]:
    (dots,) = [c for c in ax.collections if c.get_gid() == gid]  # type: ignore[attr-defined]
    return [[float(x), float(y)] for x, y in dots.get_offsets()]


def test_the_svg_shows_the_map_s_colours_cell_by_cell(tmp_path: Path) -> None:
    made = a_map()
    ax = plot_map(made)
    save_picture(ax, tmp_path / "map.svg")
    (drawn, bar) = ElementTree.parse(tmp_path / "map.svg").iter("{http://www.w3.org/2000/svg}image")
    assert bar is not None
    (link,) = [value for name, value in drawn.attrib.items() if name.endswith("href")]
    with Image.open(io.BytesIO(base64.b64decode(link.partition(",")[2]))) as picture:
        pixels = np.asarray(picture.convert("RGBA")).astype(int)
    if "scale(1 -1)" in drawn.attrib.get("transform", ""):
        pixels = pixels[::-1]
    height, width = pixels.shape[:2]
    image = ax.images[0]
    for row in range(6):
        for column in range(15):
            at = pixels[int((row + 0.25) * height / 6), int((column + 0.25) * width / 15)]
            value = float(made.auc.values[row, column])
            if np.isnan(value):
                assert at[3] == 0, "nothing is drawn there but the hatching"
            else:
                expected = image.get_cmap()(image.norm(np.array([value])))[0] * 255
                np.testing.assert_allclose(at, expected, atol=1.5)


def test_dots_mark_the_cells_that_may_be_the_best() -> None:
    made = scored()
    expected = [[column, row] for row, column in np.argwhere(made.indistinguishable().values)]
    assert 0 < len(expected) < 6
    ax = plot_map(made)
    assert offsets(ax, "may-be-best") == expected
    assert f"dots: {len(expected)} cells of which each may be the best" in ax.get_title(loc="left")


def test_of_signed_values_what_is_not_sure_is_pale_and_what_is_below_0_has_a_minus() -> None:
    ax = plot_map(scored(), value="gain")
    image = ax.images[0]
    assert np.asarray(image.get_alpha()).tolist() == [[1, 0.25], [1, 1], [1, 0.25]]
    assert offsets(ax, "minus") == [[0, 0]]
    low, high = image.get_clim()
    assert low == -high
    bar = image.colorbar
    assert bar is not None
    assert bar.ax.get_ylabel() == "AUC above the best baseline's"
    assert not [p for p in ax.patches if p.get_gid() == "best-cell"]


@pytest.mark.parametrize("value", ["accuracy", "balanced-accuracy", "f1", "calibration-error", "gain"])
def test_every_value_is_drawn_as_it_is_measured(value: str) -> None:
    made = scored()
    image = plot_map(made, value=value).images[0]
    measured = measure(made, value)
    np.testing.assert_array_equal(np.ma.filled(image.get_array(), np.nan), measured.cells["value"].values)  # type: ignore[arg-type]
    assert image.get_clim() == measured.limits
    bar = image.colorbar
    assert bar is not None
    assert bar.ax.get_ylabel() == measured.kind.label


def test_maps_in_a_row_share_one_scale_and_one_bar() -> None:
    maps = [scored(seed, task=f"task{seed}", model="m") for seed in range(3)]
    axes = plot_maps(maps, value="accuracy")
    limits = [measure(m, "accuracy").limits for m in maps]
    shared = (min(low for low, _ in limits), max(high for _, high in limits))
    assert [ax.images[0].get_clim() for ax in axes] == [shared] * 3
    assert [ax.get_title() for ax in axes] == ["task0", "task1", "task2"]
    assert [ax.get_ylabel() for ax in axes] == ["Layer", "", ""]
    figure = axes[0].figure
    assert isinstance(figure, Figure)
    assert len(figure.axes) == 4, "three maps and one bar"
    assert figure.get_size_inches()[0] == SIZES["page"].width
    assert plot_maps(maps, titles=["x", "y", "z"])[1].get_title() == "y"


@pytest.mark.parametrize("beside", [1, 2, 3])
def test_long_names_and_counts_stay_inside_and_apart(beside: int) -> None:
    made = a_map().data.assign(n=("position", np.arange(15) + 1000))
    made.attrs["model"] = "a-model-with-a-long-name-0.5b-instruct-q4_k_m"
    maps = [ProbeMap(made.assign_attrs(task=f"sentiment of reviews {k}")) for k in range(beside)]
    maps[0].data.attrs["model"] += "-v2"
    axes = plot_maps(maps)
    figure = axes[0].figure
    assert isinstance(figure, Figure)
    figure.canvas.draw()
    titles = [ax.title.get_window_extent() for ax in axes]
    for box in titles:
        assert figure.bbox.x0 <= box.x0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1
    for ax in axes:
        counts = [text.get_window_extent() for text in ax.texts if text.get_text().isdigit()]
        names = [label.get_window_extent() for label in ax.get_xticklabels()]
        assert len(counts) == len(names) == 15
        for count, name in zip(counts, names, strict=True):
            assert count.y0 > name.y1, "the count stands above the name"
    for boxes in (titles, counts):
        for left, right in pairwise(boxes):
            assert left.x1 < right.x0


def test_the_difference_of_long_names_stays_inside() -> None:
    one, other = scored(0, model="a-model-with-a-long-name-0.5b"), scored(1, model="another-model-with-a-long-name-7b")
    ax = plot_difference(one, other)
    figure = ax.figure
    assert isinstance(figure, Figure)
    figure.canvas.draw()
    box = ax.title.get_window_extent()
    assert figure.bbox.x0 <= box.x0
    assert box.x1 <= figure.bbox.x1
    assert box.y1 <= figure.bbox.y1
    assert "".join(ax.get_title().split()) == "a-model-with-a-long-name-0.5bminusanother-model-with-a-long-name-7b"


def test_a_difference_is_drawn_as_it_is_computed() -> None:
    one, other = scored(0, model="large"), scored(1, model="small")
    ax = plot_difference(one, other)
    expected = subtract(one, other)
    image = ax.images[0]
    np.testing.assert_array_equal(np.ma.filled(image.get_array(), np.nan), expected.cells["value"].values)  # type: ignore[arg-type]
    assert image.get_clim() == expected.limits
    assert np.asarray(image.get_alpha()).tolist() == np.where(expected.apart, 1, 0.25).tolist()
    assert ax.get_title() == "large minus small"


@pytest.mark.parametrize(("over", "names"), [("layers", ["last_q", "-1"]), ("positions", ["layer 0", "layer 2"])])
def test_curves_are_the_map_s_rows_and_columns_with_their_intervals(over: str, names: list[str]) -> None:
    made = scored()
    panels = plot_curves(made, over)  # type: ignore[arg-type]
    assert [ax.get_title() for ax in panels] == names
    grids = [made.data[name].values for name in ("auc", "low", "high")]
    curves, low, high = (g.T if over == "layers" else g[::2] for g in grids)
    for k, ax in enumerate(panels):
        mine = [line for line in ax.lines if line.get_gid() == "curve"]
        assert len(mine) == 1
        np.testing.assert_array_equal(mine[0].get_ydata(), curves[k])
        (band,) = ax.collections
        points = band.get_paths()[0].vertices
        assert points is not None
        assert np.asarray(points)[:, 1].min() == low[k].min()
        assert np.asarray(points)[:, 1].max() == high[k].max()
    assert [t.get_text() for t in panels[-1].get_xticklabels()][:2] != []


@pytest.mark.parametrize("size", ["column", "page", "slide"])
def test_pictures_are_as_wide_as_what_they_are_printed_on(size: str, tmp_path: Path) -> None:
    save_picture(plot_map(scored(), size=size), tmp_path / "map.png")  # type: ignore[arg-type]
    with Image.open(tmp_path / "map.png") as picture:
        assert picture.width == pytest.approx(SIZES[size].width * 300, abs=1)


def test_a_protocol_for_comparison_stands_on_every_picture() -> None:
    made, other = scored(protocol="paper protocol"), scored(1)
    titles = [
        plot_map(made).get_title(loc="left"),
        plot_map(made, size="slide").get_title(loc="left"),
        plot_maps([made, other])[0].get_title(),
        plot_difference(made, other).get_title(),
        plot_curves(made)[0].figure.get_suptitle(),
    ]
    assert ["paper protocol" in title for title in titles] == [True] * 5
    assert "paper protocol" not in plot_maps([made, other])[1].get_title()


def test_the_bar_of_several_maps_says_what_lies_beyond_it_in_any() -> None:
    one, other = scored(), scored(1)
    one.data["gain"][0, 0] = 5.0
    axes = plot_maps([one, other], value="gain")
    bar = axes[-1].images[0].colorbar
    assert bar is not None
    assert bar.extend == "max"


def test_the_blues_can_be_read_in_grey() -> None:
    bar = plot_map(a_map()).images[0].get_cmap()(np.linspace(0, 1, 20))[:, :3] @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(bar) < 0).all()
