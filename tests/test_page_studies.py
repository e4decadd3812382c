"""Studies on the page: tables, summaries and the generalisation matrix; stale studies are left out."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from browsing import RecordedPage
from playwright.sync_api import Browser, expect
from running import execute
from synthetic import from_scores, some_scores
from test_page_hostile import EVIL
from test_report import NAMES, content

from probemap.logger import Logger
from probemap.records import RunError
from probemap.runs.definitions import BASELINES
from probemap.runs.run import Run
from probemap.runs.steps.report import report
from probemap.studies.generalisation import COLUMNS, Pair, matrix_of
from probemap.studies.ranking import COLUMNS as RANKING_COLUMNS
from probemap.tables import Interval, Table
from probemap.views.matrix import draw_matrix, save_matrix
from probemap.views.report import RunView, Study, render


def pair(trained_on: str, tested_on: str, auc: float | None) -> Pair:
    """Return a pair whose intervals extend 0.1 to both sides."""
    base = Pair(trained_on=trained_on, tested_on=tested_on, layer=3, position="-1", n=7)
    if auc is None:
        return base
    gain = Interval(auc - 0.6, auc - 0.7, auc - 0.5)
    return replace(base, n=50, auc=Interval(auc, auc - 0.1, auc + 0.1), baseline="logprob_mean", gain=gain)


def generalisation(first: str = "cities", second: str = "sums") -> Study:
    pairs = [
        pair(first, first, 0.85),
        pair(first, second, 0.2),
        pair(second, first, None),
        pair(second, second, 0.7),
    ]
    cells = tuple(p.cells() for p in pairs)
    table = Table("Generalisation", COLUMNS, cells, ("The sign of the probe is reversed.",))
    return Study(table=table, matrix=matrix_of(pairs))


RANKED = Table(
    "Predictors of correctness",
    RANKING_COLUMNS[:9],
    (("probe", "a probe", 80, 0.9, 0.85, 0.94, 1, 1, 1), ("p_true", "asked", 80, 0.6, 0.5, 0.7, 2, 2, 2)),
    ("The best is probe.",),
)


def test_render_shows_tables_summaries_and_the_matrix(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    probe_map = from_scores(*some_scores(), names=NAMES)
    with_studies = RunView(probe_map=probe_map, title="with", studies=[Study(table=RANKED), generalisation()])
    without = RunView(probe_map=probe_map, title="without")
    path.write_text(render([with_studies, without]), encoding="utf-8")
    for scheme in ("light", "dark"):
        recorded = RecordedPage(browser, path, viewport={"width": 1100, "height": 900}, color_scheme=scheme)
        page = recorded.page
        section = page.locator("#studies-section")
        expect(section).to_be_visible()
        assert section.locator("h3").all_inner_texts() == [RANKED.title, generalisation().table.title]
        assert section.locator("li").all_inner_texts() == ["The best is probe.", "The sign of the probe is reversed."]
        shaded = section.locator("td.shaded")
        assert shaded.all_inner_texts() == ["0.85 [0.75, 0.95]", "0.20 [0.10, 0.30]", "–", "0.70 [0.60, 0.80]"]
        colours = shaded.evaluate_all("cells => cells.map(cell => cell.style.background)")
        assert colours[2] == ""
        scale = content(path.read_text())["scales"]["sequential"]
        # 0.2 is folded to 0.8.
        expected = [scale[round((value - 0.5) * 2 * 32)] for value in (0.85, 0.8, 0.7)]
        rgb = [f"rgb({int(c[1:3], 16)}, {int(c[3:5], 16)}, {int(c[5:], 16)})" for c in expected]
        assert [colours[0], colours[1], colours[3]] == rgb
        section.locator("summary").first.click()
        assert section.locator("details").first.locator("tbody tr").first.inner_text().split("\t") == [
            "probe", "a probe", "80", "0.900 [0.850, 0.940]", "1 [1, 1]",
        ]  # fmt: skip
        result = Axe().run(page)
        assert result.violations_count == 0, result.generate_report()
        page.select_option("#run", "1")
        expect(section).to_be_hidden()
        recorded.close()


def test_render_shows_hostile_names_in_tables_as_text(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    tables = [
        generalisation(text, f"{text}2") if k % 2 else Study(table=Table(text, (text, "n"), ((text, 1),), (text,)))
        for k, text in enumerate(EVIL[:20])
    ]
    view = RunView(probe_map=from_scores(*some_scores(), names=NAMES), title="a map", studies=tables)
    path.write_text(render([view]), encoding="utf-8")
    recorded = RecordedPage(browser, path, viewport={"width": 900, "height": 700})
    tags = recorded.page.evaluate(
        "[...new Set([...document.querySelectorAll('#studies *')].map(node => node.tagName))].sort()"
    )
    assert set(tags) <= set("SECTION H3 UL LI DIV TABLE CAPTION THEAD TBODY TR TH TD DETAILS SUMMARY".split())
    recorded.close()  # fails if a script ran or a request was sent


def test_report_leaves_out_a_stale_study(mapped: Path, tmp_path: Path) -> None:
    run = Run.open(shutil.copytree(mapped, tmp_path / "RUN"))
    execute(BASELINES, run)
    messages: list[str] = []
    path = report([run], logger=Logger(log=messages.append))
    (shown,) = content(path.read_text())["runs"]
    assert [study["title"] for study in shown["studies"]] == ["Predictors of correctness"]
    assert not any("does not show baselines" in line for line in messages)
    p_true = run.path / "p_true.jsonl"
    p_true.write_text(p_true.read_text().replace("0.", "0.0"))
    path = report([run], logger=Logger(log=messages.append))
    (shown,) = content(path.read_text())["runs"]
    assert shown["studies"] == []
    assert "the page does not show baselines: p_true.jsonl changed after the study was executed" in messages


@pytest.mark.parametrize("damage", ["{", '{"title": "x", "columns": ["a"], "rows": [[1, 2]]}', "[]"])
def test_report_leaves_out_a_damaged_table(mapped: Path, tmp_path: Path, damage: str) -> None:
    run = Run.open(shutil.copytree(mapped, tmp_path / "RUN"))
    execute(BASELINES, run)
    (run.path / "baselines.json").write_text(damage)
    with pytest.raises(RunError, match=r"baselines.json is damaged\nhint: run the step again with --redo"):
        run.read_table("baselines")
    messages: list[str] = []
    (shown,) = content(report([run], logger=Logger(log=messages.append)).read_text())["runs"]
    assert shown["studies"] == []
    assert [line for line in messages if "baselines.json is damaged" in line]


def test_to_csv_escapes_formulas() -> None:
    table = Table("t", ("=a", "b"), (("=cmd()", -1.5), ("@x", None), ("plain", 2)))
    assert table.to_csv() == "'=a,b\n'=cmd(),-1.5\n'@x,\nplain,2\n"
    assert json.loads(table.to_json())["rows"][0] == ["=cmd()", -1.5]


def test_draw_matrix_shows_the_numbers() -> None:
    matrix = generalisation().matrix
    assert matrix is not None
    assert (matrix.names, matrix.auc[0, 0].tolist()) == (("cities", "sums"), [0.85, 0.2])
    figure = draw_matrix(matrix)
    auc_panel, gain_panel = figure.axes[0], figure.axes[1]
    assert auc_panel.images[0].get_array().tolist() == [[0.85, 0.8], [None, 0.7]]  # type: ignore[union-attr]
    assert auc_panel.images[0].get_clim() == (0.5, 1.0)
    assert gain_panel.images[0].get_clim() == pytest.approx((-0.4, 0.4))
    assert [t.get_text() for t in auc_panel.texts] == ["0.85\n[0.75, 0.95]", "0.80\n[0.70, 0.90]", "0.70\n[0.60, 0.80]"]
    assert [t.get_text() for t in gain_panel.texts][1] == "-0.40\n[-0.50, -0.30]"
    assert [label.get_text() for label in auc_panel.get_xticklabels()] == ["cities", "sums"]
    assert (auc_panel.get_xlabel(), auc_panel.get_ylabel()) == ("tested on", "trained on")
    # A gain whose interval contains 0 is pale.
    alpha = gain_panel.images[0].get_alpha()
    assert alpha is not None and alpha[1, 1] == 0.35 and alpha[0, 1] == 1.0  # type: ignore[index]


def test_save_matrix_shows_names_with_dollar_signs(tmp_path: Path) -> None:
    matrix = generalisation("$\\frac$", "a$b$ " + "x" * 300).matrix
    assert matrix is not None
    save_matrix(matrix, tmp_path / "transfer.svg")
    drawn = (tmp_path / "transfer.svg").read_text()
    assert "$\\frac$" in drawn
    assert f"a$b$ {'x' * 34}…" in drawn
