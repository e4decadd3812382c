"""The page in a real browser: what is clicked is shown, nothing runs but its own scripts, and nothing leaves it."""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from browsing import Watched, cell
from playwright.sync_api import Browser, Page, expect
from test_report import NAMES, leaf
from test_values import from_scores, some

from probemap.maps.probe_map import ProbeMap
from probemap.runs.run import Run
from probemap.runs.steps.report import report
from probemap.views.diagnostics import probabilities
from probemap.views.report import Sheet, render


@pytest.fixture(scope="module")
def path(mapped: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report([Run.open(mapped)], out=tmp_path_factory.mktemp("page") / "report.html")


@pytest.fixture
def page(browser: Browser, path: Path) -> Iterator[Page]:
    watched = Watched(browser, path, viewport={"width": 1280, "height": 900})
    yield watched.page
    watched.close()


@pytest.fixture(scope="module")
def probe_map(mapped: Path) -> ProbeMap:
    return ProbeMap.load(mapped / "map.nc")


def plotted(page: Page, chart: str, path: str) -> Any:
    """What Plotly has drawn in a chart."""
    return page.evaluate(f'document.getElementById("{chart}").{path}')


def heading(page: Page) -> str:
    return page.inner_text("#cell-heading")


def test_it_opens_on_the_highest_cell(page: Page, probe_map: ProbeMap) -> None:
    best = probe_map.best()[0]
    assert heading(page) == (
        f"Layer {best.layer} at {best.position}: AUC {best.auc:.3f} [{best.low:.3f}, {best.high:.3f}], n = {best.n}"
    )
    assert page.inner_text("h1") == "tiny-chat on questions"
    assert page.inner_text("#facts").startswith("80 answers: 40 right, 40 wrong, 0 undecided and left out.")


def test_the_drawn_array_is_the_map_s(page: Page, probe_map: ProbeMap) -> None:
    drawn, low, high = (plotted(page, "map", f"data[1].{name}") for name in ("z", "zmin", "zmax"))
    np.testing.assert_allclose(np.array(drawn, float), probe_map.auc.values, rtol=1e-4)
    assert (low, high) == (0.5, 1)
    names = plotted(page, "map", "_fullLayout.xaxis.ticktext")
    assert names == [f"{p} · {n}" for p, n in zip(probe_map.positions, probe_map.data["n"].values, strict=True)]


def test_a_click_chooses_a_cell_and_everything_follows(page: Page, probe_map: ProbeMap) -> None:
    page.mouse.click(*cell(page, 2, 14))
    there = probe_map.cell(2, "-1")
    assert heading(page).startswith(f"Layer 2 at -1: AUC {there.auc:.3f}")
    along = plotted(page, "layers", "data[1].y")
    np.testing.assert_allclose(along, probe_map.auc.sel(position="-1").values, rtol=1e-4)
    across = plotted(page, "positions", "data[1].y")
    np.testing.assert_allclose(np.array(across, float), probe_map.auc.sel(layer=2).values, rtol=1e-4)
    area = np.trapezoid(plotted(page, "roc", "data[2].y"), plotted(page, "roc", "data[2].x"))
    assert area == pytest.approx(there.auc, abs=0.02)
    assert page.inner_text("#answers-heading") == "Answers, as layer 2 at -1 judges them"


def test_the_keyboard_goes_from_cell_to_cell_and_stops_at_the_edge(page: Page) -> None:
    page.focus("#map-keys")
    for _ in range(6):
        page.keyboard.press("ArrowUp")
    page.keyboard.press("Home")
    assert heading(page).startswith("Layer 0 at last_q")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert heading(page).startswith("Layer 1 at first_answer")
    page.keyboard.press("End")
    assert heading(page).startswith("Layer 1 at -1")


def test_a_cell_under_the_pointer_says_what_is_known_of_it(page: Page, probe_map: ProbeMap) -> None:
    page.mouse.move(*cell(page, 1, 0))
    page.wait_for_selector("#map .hoverlayer text")
    text = page.text_content("#map .hoverlayer") or ""
    there = probe_map.data.sel(layer=1, position="last_q")
    assert "layer 1, last_q" in text
    assert f"{float(there.auc):.3f} [{float(there.low):.3f}, {float(there.high):.3f}]" in text
    assert f"n = {int(there.n)}" in text
    assert f"gain {float(there.gain):.3f}" in text


def test_answers_are_sorted_and_filtered_by_the_chosen_cell_s_probe(page: Page, probe_map: ProbeMap) -> None:
    page.mouse.click(*cell(page, 3, 14))
    chances = probabilities(probe_map)[:, 3, 14]
    correct = probe_map.data["correct"].values.astype(bool)

    def shown() -> list[tuple[float, str]]:
        rows = [item.split("\n") for item in page.locator("#answers > li > button").all_inner_texts()]
        return [(float(row[0]), row[1]) for row in rows]

    expected = [
        (round(p, 2), "right" if c else "wrong") for p, c in sorted(zip(chances, correct, strict=True), reverse=True)
    ]
    got = shown()
    assert len(got) == 50
    assert [p for p, _ in got] == pytest.approx([p for p, _ in expected[:50]], abs=0.011)
    assert page.inner_text("#answers-count") == "50 of 80 answers"
    page.click("#more")
    assert len(shown()) == 80
    page.select_option("#order", "up")
    assert shown()[0][0] == pytest.approx(float(chances.min()), abs=0.011)
    page.select_option("#filter", "mistakes")
    mistakes = int(((chances >= 0.8) & ~correct).sum() + ((chances <= 0.2) & correct).sum())
    assert page.inner_text("#answers-count") == f"{mistakes} answers"
    page.select_option("#filter", "wrong")
    assert {word for _, word in shown()} == {"wrong"}
    page.fill("#search", "What is 17 +")
    assert page.inner_text("#answers-count") == "1 answers"


def test_an_answer_opened_shows_tokens_positions_and_their_scores(page: Page, probe_map: ProbeMap) -> None:
    page.fill("#search", "What is 17 +")
    page.click("#answers button")
    opened = page.locator(".leaf")
    assert "Verdict wrong" in opened.inner_text()
    chances = probabilities(probe_map)[17, probe_map.best()[0].layer]
    names = opened.locator(".name").all_inner_texts()
    expected = [f"{p} {chances[k]:.2f}" for k, p in enumerate(probe_map.positions) if not np.isnan(chances[k])]
    assert sorted(re.sub(r" [\d.]+$", "", n) for n in names) == sorted(re.sub(r" [\d.]+$", "", n) for n in expected)
    got = {n.rsplit(" ", 1)[0]: float(n.rsplit(" ", 1)[1]) for n in names}
    assert got == pytest.approx({n.rsplit(" ", 1)[0]: float(n.rsplit(" ", 1)[1]) for n in expected}, abs=0.011)
    assert "23" in "".join(opened.locator(".exact").all_inner_texts()).replace(" ", "")
    tint = opened.locator(".word").first.evaluate("node => node.style.background")
    assert tint.startswith("color-mix")
    page.click("#answers button")
    assert page.locator(".leaf").count() == 0


def test_other_values_have_their_own_scale(page: Page, probe_map: ProbeMap) -> None:
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
    assert "AUC above the best baseline's" in heading(page)


def test_numbers_and_pictures_can_be_taken_along(page: Page, probe_map: ProbeMap) -> None:
    with page.expect_download() as csv_file:
        page.click("#save-csv")
    rows = list(csv.DictReader(io.StringIO(csv_file.value.path().read_text())))
    assert len(rows) == probe_map.auc.size
    assert list(rows[0]) == ["run", "layer", "position", "auc", "low", "high", "n"]
    assert rows[14]["position"] == "-1", "a number, not a formula"
    assert float(rows[15]["auc"]) == pytest.approx(float(probe_map.auc.values[1, 0]), rel=1e-4)
    with page.expect_download() as svg:
        page.click("#save-svg")
    picture = svg.value.path().read_text()
    assert picture.startswith("<svg")
    assert "exact_answer_last" in picture
    with page.expect_download() as png:
        page.click("#save-png")
    assert png.value.path().read_bytes().startswith(b"\x89PNG")


def test_the_table_holds_every_number(page: Page, probe_map: ProbeMap) -> None:
    page.click("#numbers summary")
    cells = page.locator("#table td").all_inner_texts()
    assert len(cells) == probe_map.auc.size
    first = probe_map.cell(0, "last_q")
    assert cells[0] == f"{first.auc:.3f} [{first.low:.3f}, {first.high:.3f}]"
    assert page.locator("#table th[scope=col]").count() == 16
    assert page.locator("#table th[scope=row]").count() == 4


def test_runs_are_compared(browser: Browser, tmp_path: Path) -> None:
    one, other = (from_scores(*some(seed=k), names=NAMES, ids=[f"{k}-{i}" for i in range(300)]) for k in (0, 1))
    path = tmp_path / "both.html"
    path.write_text(render([Sheet(one, "first"), Sheet(other, "=cmd|' /C calc'!A0")]), encoding="utf-8")
    watched = Watched(browser, path)
    page = watched.page
    assert page.is_hidden("#beside-figure")
    page.select_option("#beside", "1")
    expect(page.locator("#beside-caption")).to_have_text("=cmd|' /C calc'!A0: AUC")
    drawn = plotted(page, "difference-map", "data[1].z")
    np.testing.assert_allclose(drawn, one.auc.values - other.auc.values, atol=1e-4)
    page.select_option("#run", "1")
    page.select_option("#beside", "0")
    drawn = plotted(page, "difference-map", "data[1].z")
    np.testing.assert_allclose(drawn, other.auc.values - one.auc.values, atol=1e-4)
    assert page.is_hidden("#answers-section"), "no answers came with these maps"
    with page.expect_download() as csv_file:
        page.click("#save-csv")
    runs = {row["run"] for row in csv.DictReader(io.StringIO(csv_file.value.path().read_text()))}
    assert runs == {"first", "'=cmd|' /C calc'!A0"}, "a spreadsheet would run it"
    watched.close()


def test_runs_of_other_shapes_keep_the_chosen_cell_by_its_name(browser: Browser, tmp_path: Path) -> None:
    one = from_scores(*some(), names=NAMES)
    scores, correct = some(seed=1)
    other = from_scores(scores[:, :2, ::-1], correct, names=("-1", "last_q"))
    gain = {f"gain{end}": other.auc - 0.7 for end in ("", "_low", "_high", "_band_low", "_band_high")}
    other = ProbeMap(other.data.assign(gain))
    path = tmp_path / "shapes.html"
    path.write_text(render([Sheet(one, "one"), Sheet(other, "other")]), encoding="utf-8")
    watched = Watched(browser, path)
    page = watched.page
    page.mouse.click(*cell(page, 1, 1))
    assert heading(page).startswith("Layer 1 at -1")
    page.select_option("#beside", "1")
    page.select_option("#run", "1")
    assert heading(page).startswith("Layer 1 at -1")
    page.select_option("#value", "gain")
    page.select_option("#beside", "0")
    expect(page.locator("#beside-caption")).to_have_text("one holds no gain")
    page.select_option("#value", "accuracy")
    scales = [plotted(page, chart, f"data[1].{end}") for chart in ("map", "beside-map") for end in ("zmin", "zmax")]
    assert scales[:2] == scales[2:], "maps beside each other share one scale"
    watched.close()


def test_empty_columns_leave_gaps_and_hide_nothing(browser: Browser, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    correct = draw.random(200) < 0.5
    scores = draw.normal(size=(200, 2, 5)) + correct[:, None, None]
    scores[:, :, [1, 3]] = np.nan
    made = from_scores(scores, correct, names=("<i>a</i>", "b", "c", "d", "e"))
    path = tmp_path / "gaps.html"
    path.write_text(render([Sheet(made, "gaps")]), encoding="utf-8")
    watched = Watched(browser, path)
    page = watched.page
    assert plotted(page, "positions", "data[0].x") == [0, 0, 0, None, 2, 2, 2, None, 4, 4, 4, None]
    assert plotted(page, "positions", "data[1].mode") == "lines+markers"
    names = page.locator("#map .xtick text").all_text_contents()
    assert names[0] == "<i>a</i> · 200"
    watched.close()


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_accessible_in_both_colours_and_on_a_small_screen(
    browser: Browser, path: Path, width: int, scheme: str
) -> None:
    watched = Watched(browser, path, viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = watched.page
    page.click("#answers li:nth-child(2) button")
    page.click("#numbers summary")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") == (scheme == "light")
    page.select_option("#theme", "dark" if scheme == "light" else "light")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != paper
    watched.close()


def test_a_page_of_a_thousand_answers_is_below_8_megabytes(browser: Browser, tmp_path: Path) -> None:
    """With 32 × 15 cells.  How long such a page takes to open is measured in benchmarks/page.py."""
    draw = np.random.default_rng(0)
    correct = draw.random(1000) < 0.4
    scores = draw.normal(size=(1000, 32, 15)) + correct[:, None, None]
    names = [f"{k}" for k in range(-15, 0)]
    path = tmp_path / "large.html"
    made = from_scores(scores, correct, names=names, folds=5)
    answers = [
        leaf("Some words, as they are said. " * 5, id_=str(k), question="How many are there?") for k in range(1000)
    ]
    fitting = [type(one)(one.example, one.answer, one.judgement, np.full(15, 2)) for one in answers]
    path.write_text(render([Sheet(made, "large", fitting)]), encoding="utf-8")
    assert path.stat().st_size < 8e6
    watched = Watched(browser, path)
    assert len(watched.page.locator("#answers > li").all()) == 50
    watched.close()
