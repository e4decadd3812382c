"""Heatmaps and curves: the numbers of the map are read back from the artists and from the SVG."""

import base64
import io
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from PIL import Image
from synthetic import from_scores, some_scores

from probemap.maps.probe_map import ProbeMap
from probemap.positions import DEFAULT_POSITIONS
from probemap.probing.difference import difference
from probemap.probing.metrics import measure
from probemap.records import DataError
from probemap.views import figures
from probemap.views.curves import plot_curves
from probemap.views.figures import SIZES
from probemap.views.heatmap import MapDisplay, plot_difference, plot_map, plot_maps


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    plt.close("all")  # figures of other tests and doctests in this process
    yield
    plt.close("all")


def example_map(n_layers: int = 6, positions: tuple[str, ...] = DEFAULT_POSITIONS) -> ProbeMap:
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


def test_plot_map_draws_the_array_the_scale_and_the_labels_of_the_map() -> None:
    probe_map = example_map()
    (ax,) = plot_map(probe_map).axes
    (image,) = [child for child in ax.get_children() if isinstance(child, AxesImage)]
    drawn = image.get_array()
    assert isinstance(drawn, np.ma.MaskedArray)
    np.testing.assert_array_equal(drawn.filled(np.nan), probe_map.auc.values)
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


def test_plot_map_marks_counts_best_cell_and_empty_cells() -> None:
    (ax,) = plot_map(example_map()).axes
    counts = {t.get_text(): t.xy[0] for t in ax.texts if t.get_text().isdigit()}  # type: ignore[attr-defined]
    assert counts == {str(400 + column): column for column in range(15)}
    (best,) = [p for p in ax.patches if p.get_gid() == "best-cell"]
    assert isinstance(best, Rectangle)
    assert best.get_xy() == (4.5, 2.5)
    empty = [p.get_xy() for p in ax.patches if isinstance(p, Rectangle) and p.get_hatch()]
    assert empty == [(6.5, row - 0.5) for row in range(6)]
    assert ax.get_title(loc="left").split("\n") == [
        r"tiny \$model\$, cities",
        "414 of 500 answers decided, 33 % correct",
        r"highest AUC: layer 3, exact_answer_last, 0.93 [0.88, 0.97]",
    ]


def test_save_writes_text_as_text_in_column_width_with_repeatable_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for ending in ("png", "svg", "pdf"):
            plot_map(example_map()).save(tmp_path / f"{name}.{ending}")
    for ending in ("png", "svg", "pdf"):
        assert (tmp_path / f"a.{ending}").read_bytes() == (tmp_path / f"b.{ending}").read_bytes()
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width == pytest.approx(SIZES["column"].width * 300, abs=1)
    texts = [t.text for t in ElementTree.parse(tmp_path / "a.svg").iter("{http://www.w3.org/2000/svg}text")]
    assert {*DEFAULT_POSITIONS, "Layer", "Token", "AUC", "407", "0.5", "1.0"} <= {str(t).strip() for t in texts}


def test_plot_map_draws_into_existing_axes_with_another_colour_map() -> None:
    figure = Figure()
    ax = figure.add_subplot(1, 2, 1)
    display = plot_map(example_map(), ax=ax, cmap="cividis")
    assert display.axes == (ax,)
    assert display.figure is figure
    assert ax.images[0].get_cmap().name == "cividis"


def scored_map(seed: int = 0, names: tuple[str, ...] = ("last_q", "-1"), **attrs: str) -> ProbeMap:
    probe_map = from_scores(*some_scores(seed=seed), names=names)
    probe_map.data.attrs.update(attrs)
    grid, gain = ("layer", "position"), np.array([[-0.2, 0.01], [0.1, np.nan], [0.3, -0.02]])
    return ProbeMap(
        probe_map.data.assign(gain=(grid, gain), gain_low=(grid, gain - 0.05), gain_high=(grid, gain + 0.05))
    )


def offsets(ax: object, gid: str) -> list[list[float]]:
    (dots,) = [c for c in ax.collections if c.get_gid() == gid]  # type: ignore[attr-defined]
    return [[float(x), float(y)] for x, y in dots.get_offsets()]


def test_save_svg_shows_the_colour_of_every_cell(tmp_path: Path) -> None:
    probe_map = example_map()
    display = plot_map(probe_map)
    (ax,) = display.axes
    display.save(tmp_path / "map.svg")
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
            value = float(probe_map.auc.values[row, column])
            if np.isnan(value):
                assert at[3] == 0, "only the hatching is drawn"
            else:
                expected = image.get_cmap()(image.norm(np.array([value])))[0] * 255
                np.testing.assert_allclose(at, expected, atol=1.5)


def test_plot_map_dots_mark_the_confidence_set_of_the_best_cell() -> None:
    probe_map = scored_map()
    expected = [[column, row] for row, column in np.argwhere(probe_map.confidence_set().values)]
    assert 0 < len(expected) < 6
    (ax,) = plot_map(probe_map).axes
    assert offsets(ax, "may-be-best") == expected
    assert f"dots: {len(expected)} cells not distinguishable from the best" in ax.get_title(loc="left")


def test_plot_map_signed_values_are_pale_where_the_interval_contains_0_and_have_a_minus_below_0() -> None:
    (ax,) = plot_map(scored_map(), value="gain").axes
    image = ax.images[0]
    assert np.asarray(image.get_alpha()).tolist() == [[1, 0.25], [1, 1], [1, 0.25]]
    assert offsets(ax, "minus") == [[0, 0]]
    low, high = image.get_clim()
    assert low == -high
    bar = image.colorbar
    assert bar is not None
    assert bar.ax.get_ylabel() == "AUC minus that of the best baseline"
    assert not [p for p in ax.patches if p.get_gid() == "best-cell"]


@pytest.mark.parametrize("value", ["accuracy", "balanced-accuracy", "f1", "calibration-error", "gain"])
def test_plot_map_draws_every_value_as_measured(value: str) -> None:
    probe_map = scored_map()
    image = plot_map(probe_map, value=value).axes[0].images[0]
    measured = measure(probe_map, value)
    np.testing.assert_array_equal(np.ma.filled(image.get_array(), np.nan), measured.cells["value"].values)  # type: ignore[arg-type]
    assert image.get_clim() == measured.limits
    bar = image.colorbar
    assert bar is not None
    assert bar.ax.get_ylabel() == measured.kind.label


def test_plot_maps_share_one_scale_and_one_colour_bar() -> None:
    maps = [scored_map(seed, task=f"task{seed}", model="m") for seed in range(3)]
    display = plot_maps(maps, value="accuracy")
    axes, figure = display.axes, display.figure
    limits = [measure(m, "accuracy").limits for m in maps]
    shared = (min(low for low, _ in limits), max(high for _, high in limits))
    assert [ax.images[0].get_clim() for ax in axes] == [shared] * 3
    assert [ax.get_title() for ax in axes] == ["task0", "task1", "task2"]
    assert [ax.get_ylabel() for ax in axes] == ["Layer", "", ""]
    assert len(figure.axes) == 4, "three maps and one bar"
    assert figure.get_size_inches()[0] == SIZES["page"].width
    assert plot_maps(maps, titles=["x", "y", "z"]).axes[1].get_title() == "y"


@pytest.mark.parametrize("n_maps", [1, 2, 3])
def test_plot_maps_long_names_and_counts_stay_inside_and_do_not_overlap(n_maps: int) -> None:
    data = example_map().data.assign(n=("position", np.arange(15) + 1000))
    data.attrs["model"] = "a-model-with-a-long-name-0.5b-instruct-q4_k_m"
    maps = [ProbeMap(data.assign_attrs(task=f"sentiment of reviews {k}")) for k in range(n_maps)]
    maps[0].data.attrs["model"] += "-v2"
    display = plot_maps(maps)
    axes, figure = display.axes, display.figure
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
            assert count.y0 > name.y1, "the count is above the name"
    for boxes in (titles, counts):
        for box, next_box in pairwise(boxes):
            assert box.x1 < next_box.x0


def test_plot_difference_title_with_long_names_stays_inside() -> None:
    display = plot_difference(
        scored_map(0, model="a-model-with-a-long-name-0.5b"), scored_map(1, model="another-model-with-a-long-name-7b")
    )
    (ax,), figure = display.axes, display.figure
    figure.canvas.draw()
    box = ax.title.get_window_extent()
    assert figure.bbox.x0 <= box.x0
    assert box.x1 <= figure.bbox.x1
    assert box.y1 <= figure.bbox.y1
    assert "".join(ax.get_title().split()) == "a-model-with-a-long-name-0.5bminusanother-model-with-a-long-name-7b"


def test_plot_difference_draws_what_subtract_computes() -> None:
    large, small = scored_map(0, model="large"), scored_map(1, model="small")
    (ax,) = plot_difference(large, small).axes
    expected = difference(large, small)
    image = ax.images[0]
    np.testing.assert_array_equal(np.ma.filled(image.get_array(), np.nan), expected.cells["value"].values)  # type: ignore[arg-type]
    assert image.get_clim() == expected.limits
    assert np.asarray(image.get_alpha()).tolist() == np.where(expected.differs_from_zero, 1, 0.25).tolist()
    assert ax.get_title() == "large minus small"


@pytest.mark.parametrize(("over", "names"), [("layers", ["last_q", "-1"]), ("positions", ["layer 0", "layer 2"])])
def test_plot_curves_draws_rows_and_columns_with_their_intervals(over: str, names: list[str]) -> None:
    probe_map = scored_map()
    panels = plot_curves(probe_map, over).axes  # type: ignore[arg-type]
    assert [ax.get_title() for ax in panels] == names
    grids = [probe_map.data[name].values for name in ("auc", "low", "high")]
    curves, low, high = (g.T if over == "layers" else g[::2] for g in grids)
    for k, ax in enumerate(panels):
        lines = [line for line in ax.lines if line.get_gid() == "curve"]
        assert len(lines) == 1
        np.testing.assert_array_equal(lines[0].get_ydata(), curves[k])
        (band,) = ax.collections
        points = band.get_paths()[0].vertices
        assert points is not None
        assert np.asarray(points)[:, 1].min() == low[k].min()
        assert np.asarray(points)[:, 1].max() == high[k].max()
    assert [t.get_text() for t in panels[-1].get_xticklabels()][:2] != []


@pytest.mark.parametrize("size", ["column", "page", "slide"])
def test_save_png_has_the_width_of_the_size(size: str, tmp_path: Path) -> None:
    plot_map(scored_map(), size=size).save(tmp_path / "map.png")  # type: ignore[arg-type]
    with Image.open(tmp_path / "map.png") as picture:
        assert picture.width == pytest.approx(SIZES[size].width * 300, abs=1)


def test_protocol_label_is_on_every_figure() -> None:
    paper, default = scored_map(protocol="paper protocol"), scored_map(1)
    titles = [
        plot_map(paper).axes[0].get_title(loc="left"),
        plot_map(paper, size="slide").axes[0].get_title(loc="left"),
        plot_maps([paper, default]).axes[0].get_title(),
        plot_difference(paper, default).axes[0].get_title(),
        plot_curves(paper).figure.get_suptitle(),
    ]
    assert ["paper protocol" in title for title in titles] == [True] * 5
    assert "paper protocol" not in plot_maps([paper, default]).axes[1].get_title()


def test_plot_maps_colour_bar_is_pointed_if_any_map_exceeds_it() -> None:
    maps = [scored_map(), scored_map(1)]
    maps[0].data["gain"][0, 0] = 5.0
    bar = plot_maps(maps, value="gain").axes[-1].images[0].colorbar
    assert bar is not None
    assert bar.extend == "max"


def test_blues_are_monotone_in_grey() -> None:
    colours = plot_map(example_map()).axes[0].images[0].get_cmap()(np.linspace(0, 1, 20))[:, :3]
    assert (np.diff(colours @ [0.2126, 0.7152, 0.0722]) < 0).all()


# --- displays ---


def test_plot_map_figure_is_shown_by_pyplot() -> None:
    display = plot_map(example_map())
    assert plt.get_fignums() == [1]
    assert plt.figure(1) is display.figure
    assert plot_curves(scored_map()).figure is plt.figure(2)


def test_display_without_plot_is_computed_and_drawn_outside_of_pyplot(tmp_path: Path) -> None:
    display = MapDisplay.from_map(example_map())
    display.save(tmp_path / "computed.png")
    assert plt.get_fignums() == []
    plot_map(example_map()).save(tmp_path / "plotted.png")
    assert (tmp_path / "computed.png").read_bytes() == (tmp_path / "plotted.png").read_bytes()


def test_display_repr_png_is_the_figure() -> None:
    display = plot_map(example_map())
    with Image.open(io.BytesIO(display._repr_png_())) as image:
        assert image.format == "PNG"
        assert image.width == pytest.approx(SIZES["column"].width * 144, abs=1)
    assert plt.get_fignums() == [1], "only the inline backend shows figures by itself"


def test_display_is_shown_once_in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    """The inline backend shows open pyplot figures at the end of a cell; the display has shown itself before."""
    monkeypatch.setattr(figures, "get_backend", lambda: "inline")
    display = plot_map(example_map())
    display._repr_png_()
    assert plt.get_fignums() == []
    assert display._repr_png_().startswith(b"\x89PNG"), "a display can be shown again"


def test_save_rejects_an_unknown_ending(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"map\.gif is not a \.png, \.svg or \.pdf file\nhint: use one of these"):
        plot_map(example_map()).save(tmp_path / "map.gif")
