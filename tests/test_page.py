"""The page in a real browser: selections change what is shown; no foreign script runs and no request is sent."""

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from browsing import RecordedPage, cell_centre
from playwright.sync_api import Browser, Page, expect
from synthetic import from_scores, some_scores
from test_report import NAMES, answer_view

from probemap.maps.probe_map import ProbeMap
from probemap.runs.run import Run
from probemap.runs.steps.report import report
from probemap.views.diagnostics import probabilities
from probemap.views.report import RunView, render
from probemap.views.risk_coverage import COVERAGES, baseline_risks, cell_risks

FORMULA = "=cmd|' /C calc'!A0"


@pytest.fixture(scope="module")
def path(mapped: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report([Run.open(mapped)], out=tmp_path_factory.mktemp("page") / "report.html")


@pytest.fixture
def page(browser: Browser, path: Path) -> Iterator[Page]:
    recorded = RecordedPage(browser, path, viewport={"width": 1280, "height": 900})
    yield recorded.page
    recorded.close()


@pytest.fixture(scope="module")
def probe_map(mapped: Path) -> ProbeMap:
    return ProbeMap.load(mapped / "map.nc")


def plotted(page: Page, chart: str, path: str) -> Any:
    """Return a property of a chart as Plotly drew it."""
    return page.evaluate(f'document.getElementById("{chart}").{path}')


def heading(page: Page) -> str:
    return page.inner_text("#cell-heading")


def test_page_opens_at_the_highest_cell(page: Page, probe_map: ProbeMap) -> None:
    best = probe_map.best()[0]
    assert heading(page) == (
        f"Layer {best.layer}, {best.position}: AUC {best.auc:.3f} [{best.low:.3f}, {best.high:.3f}], n = {best.n}"
    )
    assert page.inner_text("h1") == "tiny-chat on questions"
    assert page.inner_text("#facts").startswith("80 answers: 40 correct, 40 incorrect, 0 undecided and excluded.")


def test_map_draws_the_array_of_the_map(page: Page, probe_map: ProbeMap) -> None:
    drawn, low, high = (plotted(page, "map", f"data[1].{name}") for name in ("z", "zmin", "zmax"))
    np.testing.assert_allclose(np.array(drawn, float), probe_map.auc.values, rtol=1e-4)
    assert (low, high) == (0.5, 1)
    names = plotted(page, "map", "_fullLayout.xaxis.ticktext")
    assert names == [f"{p} · {n}" for p, n in zip(probe_map.positions, probe_map.data["n"].values, strict=True)]


def test_click_selects_a_cell(page: Page, probe_map: ProbeMap) -> None:
    page.mouse.click(*cell_centre(page, 2, 14))
    selected = probe_map.cell(2, "-1")
    assert heading(page).startswith(f"Layer 2, -1: AUC {selected.auc:.3f}")
    over_layers = plotted(page, "layers", "data[1].y")
    np.testing.assert_allclose(over_layers, probe_map.auc.sel(position="-1").values, rtol=1e-4)
    over_positions = plotted(page, "positions", "data[1].y")
    np.testing.assert_allclose(np.array(over_positions, float), probe_map.auc.sel(layer=2).values, rtol=1e-4)
    area = np.trapezoid(plotted(page, "roc", "data[2].y"), plotted(page, "roc", "data[2].x"))
    assert area == pytest.approx(selected.auc, abs=0.02)
    assert page.inner_text("#answers-heading") == "Answers, scored by the probe of layer 2, -1"


def test_risk_coverage_of_the_selected_cell_and_the_best_baseline(page: Page, probe_map: ProbeMap) -> None:
    page.mouse.click(*cell_centre(page, 2, 14))
    cell, baseline = cell_risks(probe_map)[2][14], baseline_risks(probe_map)[14]
    assert cell is not None and baseline is not None
    curves = {trace["name"]: trace for trace in plotted(page, "risk", "data") if trace.get("name")}
    assert list(curves) == ["random", "probe", "best baseline"]
    for name, curve in (("probe", cell), ("best baseline", baseline)):
        np.testing.assert_allclose(curves[name]["x"], COVERAGES)
        np.testing.assert_allclose(curves[name]["y"], curve.risk[0], rtol=1e-4)
    assert curves["random"]["y"] == [0.5, 0.5], "40 of 80 answers are incorrect"
    bands = [trace for trace in plotted(page, "risk", "data") if trace.get("fill")]
    assert len(bands) == 2
    np.testing.assert_allclose(bands[1]["y"][:20], cell.risk[2], rtol=1e-4)
    label = page.get_attribute("#risk", "aria-label") or ""
    share, low, high = (f"{end[9]:.3f}" for end in cell.risk)
    assert label.startswith(
        "Risk-coverage curve of Layer 2, -1: share of incorrect answers if half of the answers are accepted: "
        f"{share} [{low}, {high}]; best baseline, {probe_map.data['best_baseline'].values[14]}: "
    )
    assert label.endswith("; if all are accepted: 0.500")
    texts = page.locator("#risk-table tbody td").all_inner_texts()
    assert texts == [getattr(c, name).text for name in ("aurc", "excess_aurc", "prr") for c in (cell, baseline)]


def test_risk_coverage_without_baseline_scores_and_with_a_hostile_name(browser: Browser, tmp_path: Path) -> None:
    plain = from_scores(*some_scores(), names=NAMES)
    variables = {
        "best_baseline": (("position",), np.array([FORMULA + "<b>bold</b>", ""], object)),
        "best_baseline_scores": plain.data["scores"].isel(layer=0, drop=True),
        "best_baseline_inflation": (("position",), np.zeros(2)),
    }
    path = tmp_path / "risks.html"
    views = [RunView(probe_map=plain, title="plain"), RunView(probe_map=ProbeMap(plain.data.assign(variables)))]
    path.write_text(render(views), encoding="utf-8")
    recorded = RecordedPage(browser, path)
    page = recorded.page
    headings = page.locator("#risk-table thead th")
    assert headings.all_inner_texts() == ["probe"]
    assert len(plotted(page, "risk", "data")) == 3
    page.select_option("#run", "1")
    page.mouse.click(*cell_centre(page, 1, 0))
    assert headings.all_inner_texts() == ["probe", f"best baseline, {FORMULA}<b>bold</b>"]
    assert page.locator("#risk-table b").count() == 0
    page.keyboard.press("ArrowRight")  # a second click would count as a double click
    assert headings.all_inner_texts() == ["probe"], "this column has no baseline"
    recorded.close()


def test_arrow_keys_move_the_selection_and_stop_at_the_edge(page: Page) -> None:
    page.focus("#map-keys")
    for _ in range(6):
        page.keyboard.press("ArrowUp")
    page.keyboard.press("Home")
    assert heading(page).startswith("Layer 0, last_q")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert heading(page).startswith("Layer 1, first_answer")
    page.keyboard.press("End")
    assert heading(page).startswith("Layer 1, -1")


def test_hover_shows_the_values_of_a_cell(page: Page, probe_map: ProbeMap) -> None:
    page.mouse.move(*cell_centre(page, 1, 0))
    page.wait_for_selector("#map .hoverlayer text")
    text = page.text_content("#map .hoverlayer") or ""
    hovered = probe_map.data.sel(layer=1, position="last_q")
    assert "layer 1, last_q" in text
    assert f"{float(hovered.auc):.3f} [{float(hovered.low):.3f}, {float(hovered.high):.3f}]" in text
    assert f"n = {int(hovered.n)}" in text
    assert f"gain {float(hovered.gain):.3f}" in text


def test_answers_are_sorted_and_filtered_by_the_selected_probe(page: Page, probe_map: ProbeMap) -> None:
    page.mouse.click(*cell_centre(page, 3, 14))
    p_of_cell = probabilities(probe_map)[:, 3, 14]
    correct = probe_map.data["correct"].values.astype(bool)

    def shown() -> list[tuple[float, str]]:
        rows = [item.split("\n") for item in page.locator("#answers > li > button").all_inner_texts()]
        return [(float(row[0]), row[1]) for row in rows]

    expected = [
        (round(p, 2), "correct" if is_correct else "incorrect")
        for p, is_correct in sorted(zip(p_of_cell, correct, strict=True), reverse=True)
    ]
    got = shown()
    assert len(got) == 50
    assert [p for p, _ in got] == pytest.approx([p for p, _ in expected[:50]], abs=0.011)
    assert page.inner_text("#answers-count") == "50 of 80 answers"
    page.click("#more")
    assert len(shown()) == 80
    page.select_option("#order", "ascending")
    assert shown()[0][0] == pytest.approx(float(p_of_cell.min()), abs=0.011)
    page.select_option("#filter", "errors")
    n_errors = int(((p_of_cell >= 0.8) & ~correct).sum() + ((p_of_cell <= 0.2) & correct).sum())
    assert page.inner_text("#answers-count") == f"{n_errors} answers"
    page.select_option("#filter", "incorrect")
    assert {verdict for _, verdict in shown()} == {"incorrect"}
    page.fill("#search", "What is 17 +")
    assert page.inner_text("#answers-count") == "1 answer"


def test_answer_details_show_tokens_positions_and_probabilities(page: Page, probe_map: ProbeMap) -> None:
    page.fill("#search", "What is 17 +")
    page.click("#answers button")
    opened = page.locator(".details")
    assert "Verdict incorrect" in opened.inner_text()
    p_of_cell = probabilities(probe_map)[17, probe_map.best()[0].layer]
    names = opened.locator(".name").all_inner_texts()
    expected = [f"{p} {p_of_cell[k]:.2f}" for k, p in enumerate(probe_map.positions) if not np.isnan(p_of_cell[k])]
    assert sorted(re.sub(r" [\d.]+$", "", n) for n in names) == sorted(re.sub(r" [\d.]+$", "", n) for n in expected)
    got = {n.rsplit(" ", 1)[0]: float(n.rsplit(" ", 1)[1]) for n in names}
    assert got == pytest.approx({n.rsplit(" ", 1)[0]: float(n.rsplit(" ", 1)[1]) for n in expected}, abs=0.011)
    assert "23" in "".join(opened.locator(".exact").all_inner_texts()).replace(" ", "")
    tint = opened.locator(".word").first.evaluate("node => node.style.background")
    assert tint.startswith("color-mix")
    page.click("#answers button")
    assert page.locator(".details").count() == 0


def test_other_values_have_scales_of_their_own(page: Page, probe_map: ProbeMap) -> None:
    values = page.locator("#value option").all_inner_texts()
    assert {"auc", "accuracy", "activation-norm", "activation-norm-difference", "gain", "calibration-error"} <= set(
        values
    )
    page.select_option("#value", "gain")
    drawn = plotted(page, "map", "data[1].z")
    np.testing.assert_allclose(np.array(drawn, float), probe_map.data["gain"].values, rtol=1e-4)
    low, high = page.evaluate(
        '(() => { const d = document.getElementById("map").data[1]; return [d.zmin, d.zmax]; })()'
    )
    assert low == -high
    assert "AUC minus that of the best baseline" in heading(page)


def test_values_and_figures_can_be_saved(page: Page, probe_map: ProbeMap) -> None:
    with page.expect_download() as csv_file:
        page.click("#save-csv")
    rows = list(csv.DictReader(io.StringIO(csv_file.value.path().read_text())))
    assert len(rows) == probe_map.auc.size
    assert list(rows[0]) == ["run", "layer", "position", "auc", "low", "high", "n"]
    assert rows[14]["position"] == "-1", "a number, not a formula"
    assert float(rows[15]["auc"]) == pytest.approx(float(probe_map.auc.values[1, 0]), rel=1e-4)
    with page.expect_download() as svg:
        page.click("#save-svg")
    figure = svg.value.path().read_text()
    assert figure.startswith("<svg")
    assert "exact_answer_last" in figure
    with page.expect_download() as png:
        page.click("#save-png")
    assert png.value.path().read_bytes().startswith(b"\x89PNG")


def test_table_contains_every_value(page: Page, probe_map: ProbeMap) -> None:
    page.click("#values summary")
    cells = page.locator("#table td").all_inner_texts()
    assert len(cells) == probe_map.auc.size
    first = probe_map.cell(0, "last_q")
    assert cells[0] == f"{first.auc:.3f} [{first.low:.3f}, {first.high:.3f}]"
    assert page.locator("#table th[scope=col]").count() == 16
    assert page.locator("#table th[scope=row]").count() == 4


def test_compare_with_another_run(browser: Browser, tmp_path: Path) -> None:
    first, second = (
        from_scores(*some_scores(seed=k), names=NAMES, ids=[f"{k}-{i}" for i in range(300)]) for k in (0, 1)
    )
    path = tmp_path / "both.html"
    views = [RunView(probe_map=first, title="first"), RunView(probe_map=second, title=FORMULA)]
    path.write_text(render(views), encoding="utf-8")
    recorded = RecordedPage(browser, path)
    page = recorded.page
    assert page.is_hidden("#compare-figure")
    page.select_option("#compare", "1")
    expect(page.locator("#compare-caption")).to_have_text(f"{FORMULA}: AUC")
    drawn = plotted(page, "difference-map", "data[1].z")
    np.testing.assert_allclose(drawn, first.auc.values - second.auc.values, atol=1e-4)
    page.select_option("#run", "1")
    page.select_option("#compare", "0")
    drawn = plotted(page, "difference-map", "data[1].z")
    np.testing.assert_allclose(drawn, second.auc.values - first.auc.values, atol=1e-4)
    assert page.is_hidden("#answers-section"), "the runs have no answers"
    with page.expect_download() as csv_file:
        page.click("#save-csv")
    runs = {row["run"] for row in csv.DictReader(io.StringIO(csv_file.value.path().read_text()))}
    assert runs == {"first", f"'{FORMULA}"}, "a spreadsheet would run a formula"
    recorded.close()


def test_charts_fit_their_figures_when_runs_are_compared(browser: Browser, tmp_path: Path) -> None:
    maps = [from_scores(*some_scores(seed=k), names=NAMES) for k in (0, 1)]
    path = tmp_path / "both.html"
    path.write_text(render([RunView(probe_map=m, title=f"run {k}") for k, m in enumerate(maps)]), encoding="utf-8")
    recorded = RecordedPage(browser, path, viewport={"width": 1280, "height": 900})
    page = recorded.page
    for compared in ("1", ""):
        page.select_option("#compare", compared)
        widths = page.evaluate(
            """[...document.querySelectorAll(".chart .main-svg")].filter((svg) => svg.checkVisibility()).map((svg) =>
                [svg.getBoundingClientRect().width, svg.closest("figure").getBoundingClientRect().width])"""
        )
        assert len(widths) > 6
        for chart, figure in widths:
            assert chart == pytest.approx(figure, abs=1)
    recorded.close()


def test_selection_is_kept_by_name_for_runs_of_other_shapes(browser: Browser, tmp_path: Path) -> None:
    first = from_scores(*some_scores(), names=NAMES)
    scores, correct = some_scores(seed=1)
    second = from_scores(scores[:, :2, ::-1], correct, names=("-1", "last_q"))
    gain = {f"gain{end}": second.auc - 0.7 for end in ("", "_low", "_high", "_band_low", "_band_high")}
    second = ProbeMap(second.data.assign(gain))
    path = tmp_path / "shapes.html"
    views = [RunView(probe_map=first, title="first"), RunView(probe_map=second, title="second")]
    path.write_text(render(views), encoding="utf-8")
    recorded = RecordedPage(browser, path)
    page = recorded.page
    page.mouse.click(*cell_centre(page, 1, 1))
    assert heading(page).startswith("Layer 1, -1")
    page.select_option("#compare", "1")
    page.select_option("#run", "1")
    assert heading(page).startswith("Layer 1, -1")
    page.select_option("#value", "gain")
    page.select_option("#compare", "0")
    expect(page.locator("#compare-caption")).to_have_text("first does not contain the value gain")
    page.select_option("#value", "accuracy")
    scales = [plotted(page, chart, f"data[1].{end}") for chart in ("map", "compare-map") for end in ("zmin", "zmax")]
    assert scales[:2] == scales[2:], "maps next to each other share one scale"
    recorded.close()


def test_empty_columns_leave_gaps(browser: Browser, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    correct = rng.random(200) < 0.5
    scores = rng.normal(size=(200, 2, 5)) + correct[:, None, None]
    scores[:, :, [1, 3]] = np.nan
    probe_map = from_scores(scores, correct, names=("<i>a</i>", "b", "c", "d", "e"))
    path = tmp_path / "gaps.html"
    path.write_text(render([RunView(probe_map=probe_map, title="gaps")]), encoding="utf-8")
    recorded = RecordedPage(browser, path)
    page = recorded.page
    assert plotted(page, "positions", "data[0].x") == [0, 0, 0, None, 2, 2, 2, None, 4, 4, 4, None]
    assert plotted(page, "positions", "data[1].mode") == "lines+markers"
    names = page.locator("#map .xtick text").all_text_contents()
    assert names[0] == "<i>a</i> · 200"
    recorded.close()


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_is_accessible_in_both_themes_and_on_a_small_screen(
    browser: Browser, path: Path, width: int, scheme: str
) -> None:
    recorded = RecordedPage(browser, path, viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = recorded.page
    page.click("#answers li:nth-child(2) button")
    page.click("#values summary")
    result = Axe().run(page)
    assert result.violations_count == 0, result.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")
    page.select_option("#theme", "dark" if scheme == "light" else "light")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != background
    recorded.close()


def test_page_of_1000_answers_is_smaller_than_8_mb(browser: Browser, tmp_path: Path) -> None:
    """With 32 × 15 cells.  benchmarks/page.py measures how long such a page takes to open."""
    rng = np.random.default_rng(0)
    correct = rng.random(1000) < 0.4
    scores = rng.normal(size=(1000, 32, 15)) + correct[:, None, None]
    names = [f"{k}" for k in range(-15, 0)]
    path = tmp_path / "large.html"
    probe_map = from_scores(scores, correct, names=names, folds=5)
    example = answer_view("Some words, as they are said. " * 5, question="How many are there?")
    answers = [
        replace(example, example=replace(example.example, id=str(k)), tokens=np.full(15, 2)) for k in range(1000)
    ]
    view = RunView(probe_map=probe_map, title="large", answers=answers)
    path.write_text(render([view]), encoding="utf-8")
    assert path.stat().st_size < 8e6
    recorded = RecordedPage(browser, path)
    assert len(recorded.page.locator("#answers > li").all()) == 50
    recorded.close()
