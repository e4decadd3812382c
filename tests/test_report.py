"""Content of the HTML report: values of the map, pieces of the answers, and texts that stay texts."""

import base64
import hashlib
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_answer
from hypothesis import given
from hypothesis import strategies as st
from running import execute
from synthetic import from_scores, some_scores

from probemap.logger import Logger
from probemap.maps.probe_map import ProbeMap
from probemap.probing.difference import difference
from probemap.probing.metrics import measure
from probemap.records import DataError, Example, Judgement, MapError, RunError, Span, Verdict
from probemap.runs.definitions import ATTENTION
from probemap.runs.run import Run
from probemap.runs.steps.report import report, run_view
from probemap.views import report as views_report
from probemap.views.diagnostics import probabilities
from probemap.views.report import AnswerView, RunView, environment, render

NAMES = ("last_q", "-1")


def content(page: str) -> dict[str, Any]:
    """Return what the scripts of a page read."""
    match = re.search(r'<script type="application/json" id="content">(.*?)</script>', page, re.DOTALL)
    assert match
    parsed: dict[str, Any] = json.loads(match[1])
    return parsed


def shown(*views: RunView) -> list[dict[str, Any]]:
    """Return the content of a page, one entry per run."""
    runs: list[dict[str, Any]] = content(render(views))["runs"]
    return runs


def answer_view(text: str = "It is Rome.", question: str = "Where?", id_: str = "a") -> AnswerView:
    return AnswerView(
        example=Example(id_, question, ("Rome",)),
        answer=make_answer(text, [text, ""], ["Q", ":"], id_=id_),
        judgement=Judgement(id_, Verdict(True, "names it"), None, "no exact answer found"),
        tokens=np.array([1, 3]),
    )


def with_answers(probe_map: ProbeMap) -> RunView:
    return RunView(probe_map=probe_map, title="a map", answers=[answer_view(id_=str(i)) for i in range(300)])


# --- values ---


def test_render_contains_the_values_of_the_map() -> None:
    probe_map = from_scores(*some_scores(), names=NAMES, folds=5)
    (run,) = shown(with_answers(probe_map))
    assert (run["title"], run["layers"], run["positions"]) == ("a map", [0, 1, 2], list(NAMES))
    assert set(run["values"]) == {"auc", "accuracy", "balanced-accuracy", "f1", "calibration-error"}
    for name, grid in run["values"].items():
        cells = measure(probe_map, name).cells
        for end in ("value", "low", "high"):
            np.testing.assert_allclose(np.array(grid[end], float), cells[end].values, rtol=1e-4)
        assert grid["limits"] == pytest.approx(measure(probe_map, name).limits, rel=1e-4)
    assert run["n"] == probe_map.data["n"].values.tolist()
    assert run["best"] == [
        [probe_map.layers.index(probe_map.best()[0].layer), NAMES.index(probe_map.best()[0].position)]
    ]
    assert run["confidenceSet"] == np.argwhere(probe_map.confidence_set().values).tolist()
    assert run["counts"] == {
        "answers": 300,
        "decided": 300,
        "right": int(probe_map.data["correct"].sum()),
        "held_out": 0,
    }


def test_render_encodes_probabilities_in_16_bits() -> None:
    probe_map = from_scores(*some_scores(), names=NAMES)
    answers = shown(with_answers(probe_map))[0]["answers"]
    codes = np.frombuffer(base64.b64decode(answers["probabilities"]), "<u2").reshape(300, 3, 2).astype(float)
    p = np.where(codes == 65535, np.nan, codes / 65534)
    np.testing.assert_allclose(p, probabilities(probe_map), atol=1e-5)
    assert answers["rule"] == ""


def test_render_cells_without_a_value_are_null() -> None:
    probe_map = from_scores(*some_scores(), names=NAMES)
    for name in ("auc", "low", "high", "band_low", "band_high"):
        probe_map.data[name][1, 0] = np.nan
    (run,) = shown(RunView(probe_map=probe_map))
    assert run["values"]["auc"]["value"][1][0] is None
    assert run["diagnostics"][1][0] is None
    assert run["answers"] == {"rule": "", "rows": [], "probabilities": ""}


def test_render_contains_differences_of_runs_that_share_cells() -> None:
    first, second = (
        from_scores(*some_scores(seed=k), names=NAMES, ids=[f"{k}-{i}" for i in range(300)]) for k in (0, 1)
    )
    unrelated = from_scores(*some_scores(), names=("x", "y"))
    page = content(render([RunView(probe_map=probe_map) for probe_map in (first, second, unrelated)]))
    (entry,) = page["differences"]
    assert (entry["first"], entry["second"]) == (0, 1)
    np.testing.assert_allclose(entry["value"], difference(first, second).cells["value"].values, rtol=1e-4)


def test_render_rejects_no_runs() -> None:
    with pytest.raises(MapError, match="a report needs at least one run, got none"):
        render([])


def test_render_lists_a_random_sample_of_many_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    probe_map = from_scores(*some_scores(), names=NAMES)
    monkeypatch.setattr(views_report, "MAX_ANSWERS", 40)
    answers = shown(with_answers(probe_map))[0]["answers"]
    assert answers["rule"] == "40 of 300 answers are listed, drawn at random."
    rows = [int(row["id"]) for row in answers["rows"]]
    assert len(rows) == 40
    assert rows == sorted(rows)
    codes = np.frombuffer(base64.b64decode(answers["probabilities"]), "<u2").reshape(40, 3, 2)
    expected = np.rint(np.nan_to_num(probabilities(probe_map)[rows], nan=65535 / 65534) * 65534)
    np.testing.assert_array_equal(codes, expected)
    monkeypatch.setattr(views_report, "MAX_PROBABILITIES", 60)  # 6 cells: ten answers
    assert len(shown(with_answers(probe_map))[0]["answers"]["rows"]) == 10


# --- answers ---


def test_pieces_are_split_at_probed_tokens_and_the_exact_answer() -> None:
    answer = make_answer("It is Rome, Italy.", ["It", " is", " Ro", "me", ",", " Italy", ".", ""], ["Wh", "ere", "?"])
    judgement = Judgement("a", Verdict(True, ""), Span(5, 7, "Rome"), "")
    columns = np.array([2, 5, 6, 10, -1, 10])  # last_q, first, last, -1, a missing position, and -1 again
    assert views_report._pieces(answer, judgement, columns) == [
        ["?", [0], 0],
        ["It is", [], 1],
        [" Ro", [1], 2],
        ["me", [2], 2],
        [", Italy.", [], 1],
        ["⟨end⟩", [3, 5], 1],
    ]


def test_pieces_show_a_character_of_several_tokens_once() -> None:
    answer = make_answer("a🗼b", ["a", "🗼", "b"], ["?"])
    answer = replace(answer, token_ids=(0, 1, 2, 3, 4), offsets=((0, 1), (0, 1), (1, 2), (1, 2), (2, 3)))
    pieces = views_report._pieces(answer, Judgement("a", Verdict(True, ""), None, ""), np.array([2, 3, 4]))
    assert pieces == [["a", [], 1], ["🗼", [0], 1], ["〃", [1], 1], ["b", [2], 1]]


def test_visible_leaves_out_the_middle_of_long_texts() -> None:
    visible = views_report._visible("a" * 50_000 + "b" * 50_000)
    assert visible == "a" * 2000 + " [… 96000 characters omitted …] " + "b" * 2000


@given(st.text())
def test_visible_escapes_all_but_line_breaks(text: str) -> None:
    visible = views_report._visible(text)
    assert all(c.isprintable() or c == "\n" for c in visible)
    assert views_report._visible("‮evil\x00\x1b[31m\ud800\u2028") == "\\u202eevil\\x00\\x1b[31m\\ud800\\u2028"


@given(
    st.recursive(
        st.text() | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_embedded_json_cannot_end_a_script(value: Any) -> None:
    text = environment().from_string("{{ value | tojson }}").render(value=value)
    assert not re.search("[<>&\u2028\u2029]", text)
    assert text.isascii()
    assert json.loads(text) == value


def test_render_escapes_titles_and_allows_only_its_own_scripts() -> None:
    probe_map = from_scores(*some_scores(), names=NAMES)
    page = render([RunView(probe_map=probe_map, title='</title><script>alert("x")</script>')])
    assert "<title>&lt;/title&gt;&lt;script&gt;alert" in page
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert len(scripts) == 5
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="(.*?)"', page)
    hashes = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    assert re.findall(r"&#39;sha256-(.*?)&#39;", policy) == hashes
    assert policy.startswith("default-src &#39;none&#39;")
    assert "unsafe-eval" not in policy
    assert "script-src &#39;unsafe" not in policy


def test_plotly_bundle_is_the_published_one() -> None:
    """plotly.js-cartesian-dist-min 4.1.1 of the npm registry, MIT."""
    content = (Path(views_report.__file__).parent / "page" / "plotly-cartesian.min.js").read_bytes()
    assert hashlib.sha256(content).hexdigest() == "79542150855a52c567260e3137095dbe2b744e6d702a5cabe67da246942fba7a"


# --- run directories ---


@pytest.fixture
def run(mapped: Path, tmp_path: Path) -> Run:
    return Run.open(shutil.copytree(mapped, tmp_path / "RUN"))


def test_report_shows_provenance_and_answers(run: Run) -> None:
    path = report([run])
    assert path == run.path / "report.html"
    (view,) = content(path.read_text())["runs"]
    assert view["title"] == "tiny-chat on questions"
    assert view["provenance"]["locator of the exact answer"] == "rules"
    assert "probemap" in view["provenance"]["versions"]
    assert view["provenance"]["citation"].startswith("Map of tiny-chat on questions made with probemap ")
    assert view["excluded"] == {}
    assert len(view["answers"]["rows"]) == 80
    row = view["answers"]["rows"][3]
    assert (row["id"], row["question"], row["accepted"], row["correct"]) == ("q3", "What is 3 + 5?", ["8"], False)
    assert row["verdict"] == 'incorrect: names another answer (announced result: "9")'
    text = "".join(text for text, _, location in row["pieces"] if location)
    assert text.removesuffix("⟨end⟩").strip() == "The answer is 9. Is it?"
    assert "".join(text for text, _, location in row["pieces"] if location == 2).strip() == "9"


def test_run_view_counts_excluded_answers(run: Run) -> None:
    judgements = run.read_judgements()
    for k in range(5):
        judgements[k] = replace(judgements[k], verdict=Verdict(None, "cut off"), span=None, no_span="nothing there")
    judgements[7] = replace(judgements[7], span=None, no_span="nothing there")
    run.write_judgements(judgements)
    view = run_view(run)
    assert view.excluded == {
        "undecided, cut off": 5,
        "not in the exact_answer columns, nothing there (0 of 37 correct, 1 of 38 incorrect)": 1,
    }
    assert view.answers == []
    assert view.note == "map.nc was made before verdicts.jsonl changed: this page lists no answers."


def test_run_view_without_the_answers_of_the_map(run: Run) -> None:
    probe_map = ProbeMap.load(run.path / "map.nc")
    names = probe_map.data["answer"].values.copy()
    names[0] = "another"
    ProbeMap(probe_map.data.assign_coords(answer=names)).save(run.path / "map.nc")
    messages: list[str] = []
    assert run_view(run, Logger(messages.append)).answers == []
    assert messages == ["the map does not match the answers that are now in the directory"]


def test_report_file_name(run: Run, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x\.txt does not end in \.html"):
        report([run], out=tmp_path / "x.txt")
    with pytest.raises(DataError, match="a page about several runs requires a file name"):
        report([run, run])
    assert report([run, run], out=tmp_path / "both.html").read_text().count('id="content"') == 1
    (run.path / "map.nc").unlink()
    with pytest.raises((RunError, MapError), match=r"the map .* does not exist"):
        report([run])


def test_report_distinguishes_runs_with_equal_titles_by_their_directories(run: Run, tmp_path: Path) -> None:
    copy = Run.open(shutil.copytree(run.path, tmp_path / "OTHER"))
    views = content(report([run, copy], out=tmp_path / "both.html").read_text())["runs"]
    assert [view["title"] for view in views] == ["tiny-chat on questions (RUN)", "tiny-chat on questions (OTHER)"]


def test_run_view_leaves_out_attention_at_other_positions(run: Run) -> None:
    execute(ATTENTION, run, positions="last_q,-1")
    messages: list[str] = []
    view = run_view(run, Logger(messages.append))
    assert "attention" not in view.probe_map.data
    assert messages[0].startswith("the page does not show attention: attention was captured at last_q, -1, not at")
    assert len(view.answers) == 80


def test_render_marks_scores_that_are_not_log_odds() -> None:
    probe_map = from_scores(*some_scores(), names=NAMES)
    assert shown(RunView(probe_map=probe_map))[0]["hasLogOdds"] is True
    probe_map.data.attrs.update(probe="LinearSVC()", protocol="paper protocol", held_out=40)
    (view,) = shown(RunView(probe_map=probe_map, note="note"))
    assert view["hasLogOdds"] is False
    assert view["notes"] == ["paper protocol", "note"]
    assert view["counts"]["held_out"] == 40


# --- notebooks ---


def test_repr_html_shows_the_map() -> None:
    probe_map = from_scores(*some_scores(), names=NAMES)
    probe_map.data.attrs.update(model="<b>m</b>", task="t")
    html = probe_map._repr_html_()
    assert html.startswith('<img alt="Map" src="data:image/png;base64,iVBOR')
    best = probe_map.best()[0]
    assert f"3 layers × 2 positions; 300 answers, 300 decided, {probe_map.data.attrs['right']} correct" in html
    assert f"layer {best.layer}, {best.position}, {best.auc:.2f}" in html
    assert "<b>" not in html


def test_probe_map_report_writes_a_page(tmp_path: Path) -> None:
    probe_map = from_scores(*some_scores(), names=NAMES)
    probe_map.data.attrs["model"] = "m"
    path = probe_map.report(tmp_path / "page.html")
    assert content(path.read_text())["runs"][0]["title"] == "m on answers"
