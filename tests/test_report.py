"""What the page is given: the map's numbers, the answers' pieces, and no text that could be more than text."""

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
from test_values import from_scores, some

from probemap.maps.probe_map import ProbeMap
from probemap.probing.metrics import measure, subtract
from probemap.records import DataError, Example, Judgement, MapError, RunError, Span, Verdict
from probemap.runs.definitions import ATTENTION
from probemap.runs.run import Run
from probemap.runs.steps.report import report, sheet
from probemap.views import report as room
from probemap.views.diagnostics import probabilities
from probemap.views.report import Leaf, Sheet, render

NAMES = ("last_q", "-1")


def content(page: str) -> dict[str, Any]:
    """What the page's scripts read."""
    found = re.search(r'<script type="application/json" id="content">(.*?)</script>', page, re.DOTALL)
    assert found
    made: dict[str, Any] = json.loads(found[1])
    return made


def leaf(text: str = "It is Rome.", question: str = "Where?", id_: str = "a", **judgement: Any) -> Leaf:
    answer = make_answer(text, [text, ""], ["Q", ":"], id_=id_)
    made = Judgement(id_, Verdict(True, "names it"), None, "no exact answer found")
    return Leaf(Example(id_, question, ("Rome",)), answer, replace(made, **judgement), np.array([1, 3]))


def leaves(n: int) -> list[Leaf]:
    return [leaf(id_=str(i)) for i in range(n)]


# --- numbers ---


def test_the_page_holds_the_map_s_numbers() -> None:
    made = from_scores(*some(), names=NAMES, folds=5)
    (run,) = content(render([Sheet(made, "a map", leaves(300))]))["runs"]
    assert (run["title"], run["layers"], run["positions"]) == ("a map", [0, 1, 2], list(NAMES))
    assert set(run["values"]) == {"auc", "accuracy", "balanced-accuracy", "f1", "calibration-error"}
    for name, grid in run["values"].items():
        cells = measure(made, name).cells
        for end in ("value", "low", "high"):
            np.testing.assert_allclose(np.array(grid[end], float), cells[end].values, rtol=1e-4)
        assert grid["limits"] == pytest.approx(measure(made, name).limits, rel=1e-4)
    assert run["n"] == made.data["n"].values.tolist()
    assert run["best"] == [[made.layers.index(made.best()[0].layer), NAMES.index(made.best()[0].position)]]
    assert run["equal"] == np.argwhere(made.confidence_set().values).tolist()
    assert run["counts"] == {"answers": 300, "decided": 300, "right": int(made.data["correct"].sum()), "held_out": 0}


def test_probabilities_travel_as_sixteen_bits() -> None:
    made = from_scores(*some(), names=NAMES)
    answers = content(render([Sheet(made, "a map", leaves(300))]))["runs"][0]["answers"]
    steps = np.frombuffer(base64.b64decode(answers["chances"]), "<u2").reshape(300, 3, 2).astype(float)
    chances = np.where(steps == 65535, np.nan, steps / 65534)
    np.testing.assert_allclose(chances, probabilities(made), atol=1e-5)
    assert answers["rule"] == ""


def test_cells_without_a_value_are_null() -> None:
    made = from_scores(*some(), names=NAMES)
    for name in ("auc", "low", "high", "band_low", "band_high"):
        made.data[name][1, 0] = np.nan
    (run,) = content(render([Sheet(made)]))["runs"]
    assert run["values"]["auc"]["value"][1][0] is None
    assert run["portraits"][1][0] is None
    assert run["answers"] == {"rule": "", "rows": [], "chances": ""}


def test_several_runs_are_compared_where_they_can_be() -> None:
    one, other = (from_scores(*some(seed=k), names=NAMES, ids=[f"{k}-{i}" for i in range(300)]) for k in (0, 1))
    alien = from_scores(*some(), names=("x", "y"))
    made = content(render([Sheet(one), Sheet(other), Sheet(alien)]))
    (difference,) = made["differences"]
    assert (difference["one"], difference["other"]) == (0, 1)
    np.testing.assert_allclose(difference["value"], subtract(one, other).cells["value"].values, rtol=1e-4)
    with pytest.raises(MapError, match="a report of nothing"):
        render([])


def test_a_long_list_is_cut_by_a_rule_that_is_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    made = from_scores(*some(), names=NAMES)
    monkeypatch.setattr(room, "MOST_ANSWERS", 40)
    answers = content(render([Sheet(made, "a map", leaves(300))]))["runs"][0]["answers"]
    assert answers["rule"] == "40 of 300 answers are listed, drawn at random."
    rows = [int(row["id"]) for row in answers["rows"]]
    assert len(rows) == 40
    assert rows == sorted(rows)
    steps = np.frombuffer(base64.b64decode(answers["chances"]), "<u2").reshape(40, 3, 2)
    expected = np.rint(np.nan_to_num(probabilities(made)[rows], nan=65535 / 65534) * 65534)
    np.testing.assert_array_equal(steps, expected)
    monkeypatch.setattr(room, "MOST_SCORES", 60)  # 6 cells: ten answers
    assert len(content(render([Sheet(made, "a map", leaves(300))]))["runs"][0]["answers"]["rows"]) == 10


# --- answers ---


def test_an_answer_is_cut_at_its_probed_tokens_and_its_exact_answer() -> None:
    answer = make_answer("It is Rome, Italy.", ["It", " is", " Ro", "me", ",", " Italy", ".", ""], ["Wh", "ere", "?"])
    made = Judgement("a", Verdict(True, ""), Span(5, 7, "Rome"), "")
    columns = np.array([2, 5, 6, 10, -1, 10])  # last_q, first, last, -1, a missing one, and -1 again
    assert room._pieces(answer, made, columns) == [
        ["?", [0], 0],
        ["It is", [], 1],
        [" Ro", [1], 2],
        ["me", [2], 2],
        [", Italy.", [], 1],
        ["⟨end⟩", [3, 5], 1],
    ]


def test_tokens_that_share_a_character_show_it_once() -> None:
    answer = make_answer("a🗼b", ["a", "🗼", "b"], ["?"])
    answer = replace(answer, token_ids=(0, 1, 2, 3, 4), offsets=((0, 1), (0, 1), (1, 2), (1, 2), (2, 3)))
    made = room._pieces(answer, Judgement("a", Verdict(True, ""), None, ""), np.array([2, 3, 4]))
    assert made == [["a", [], 1], ["🗼", [0], 1], ["〃", [1], 1], ["b", [2], 1]]


def test_long_texts_lose_their_middle_and_say_how_much() -> None:
    shown = room._visible("a" * 50_000 + "b" * 50_000)
    assert shown == "a" * 2000 + " [… 96000 characters left out …] " + "b" * 2000


@given(st.text())
def test_nothing_but_line_breaks_is_invisible(text: str) -> None:
    shown = room._visible(text)
    assert all(c.isprintable() or c == "\n" for c in shown)
    assert room._visible("‮evil\x00\x1b[31m\ud800\u2028") == "\\u202eevil\\x00\\x1b[31m\\ud800\\u2028"


@given(
    st.recursive(
        st.text() | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_what_is_embedded_ends_no_script_and_comes_back(value: Any) -> None:
    text = room._embedded(value)
    assert not re.search("[<>&\u2028\u2029]", text)
    assert text.isascii()
    assert json.loads(text) == value


def test_titles_are_escaped_and_scripts_are_those_of_the_policy() -> None:
    made = from_scores(*some(), names=NAMES)
    page = render([Sheet(made, '</title><script>alert("x")</script>')])
    assert "<title>&lt;/title&gt;&lt;script&gt;alert" in page
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert len(scripts) == 5
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="(.*?)"', page)
    hashes = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    assert re.findall(r"&#39;sha256-(.*?)&#39;", policy) == hashes
    assert policy.startswith("default-src &#39;none&#39;")
    assert "unsafe-eval" not in policy
    assert "script-src &#39;unsafe" not in policy


def test_plotly_s_bundle_is_the_one_that_was_published() -> None:
    """plotly.js-cartesian-dist-min 4.1.1 of the npm registry, MIT."""
    content = (Path(room.__file__).parent / "page" / "plotly-cartesian.min.js").read_bytes()
    assert hashlib.sha256(content).hexdigest() == "79542150855a52c567260e3137095dbe2b744e6d702a5cabe67da246942fba7a"


# --- run folders ---


@pytest.fixture
def run(mapped: Path, tmp_path: Path) -> Run:
    return Run.open(shutil.copytree(mapped, tmp_path / "RUN"))


def test_a_run_s_page_says_what_made_it(run: Run) -> None:
    path = report([run])
    assert path == run.path / "report.html"
    (made,) = content(path.read_text())["runs"]
    assert made["title"] == "tiny-chat on questions"
    assert made["madeBy"]["exact answer found by"] == "numbers"
    assert "probemap" in made["madeBy"]["versions"]
    assert made["madeBy"]["citation"].startswith("Map of tiny-chat on questions made with probemap ")
    assert made["dropped"] == {}
    assert len(made["answers"]["rows"]) == 80
    row = made["answers"]["rows"][3]
    assert (row["id"], row["question"], row["accepted"], row["correct"]) == ("q3", "What is 3 + 5?", ["8"], False)
    said = "".join(text for text, _, part in row["pieces"] if part)
    assert said.removesuffix("⟨end⟩").strip() == "The answer is 9. Is it?"
    assert "".join(text for text, _, part in row["pieces"] if part == 2).strip() == "9"


def test_undecided_answers_are_counted(run: Run) -> None:
    judgements = run.read_judgements()
    for k in range(5):
        judgements[k] = replace(judgements[k], verdict=Verdict(None, "cut off"), span=None, no_span="nothing there")
    judgements[7] = replace(judgements[7], span=None, no_span="nothing there")
    run.write_judgements(judgements)
    made = sheet(run)
    assert made.dropped == {"undecided, cut off": 5, "not in the exact answer's columns, nothing there": 1}
    assert made.leaves == []
    assert made.note == "map.nc was made before verdicts.jsonl changed: this page lists no answers."


def test_answers_that_the_map_was_not_made_from_are_not_listed(run: Run) -> None:
    from probemap.logger import Logger

    made = ProbeMap.load(run.path / "map.nc")
    names = made.data["answer"].values.copy()
    names[0] = "another"
    ProbeMap(made.data.assign_coords(answer=names)).save(run.path / "map.nc")
    told: list[str] = []
    assert sheet(run, Logger(told.append)).leaves == []
    assert told == ["the map was made from other answers than the folder now holds"]


def test_where_a_page_may_go(run: Run, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x\.txt is no \.html"):
        report([run], out=tmp_path / "x.txt")
    with pytest.raises(DataError, match="a page of several runs belongs to none"):
        report([run, run])
    assert report([run, run], out=tmp_path / "both.html").read_text().count('id="content"') == 1
    (run.path / "map.nc").unlink()
    with pytest.raises((RunError, MapError), match="there is no map"):
        report([run])


def test_runs_that_say_the_same_of_themselves_are_told_apart_by_their_folders(run: Run, tmp_path: Path) -> None:
    other = Run.open(shutil.copytree(run.path, tmp_path / "OTHER"))
    made = content(report([run, other], out=tmp_path / "both.html").read_text())["runs"]
    assert [one["title"] for one in made] == ["tiny-chat on questions (RUN)", "tiny-chat on questions (OTHER)"]


def test_attention_that_does_not_fit_is_left_out_and_told(run: Run) -> None:
    from probemap.logger import Logger

    execute(ATTENTION, run, positions="last_q,-1")
    told: list[str] = []
    made = sheet(run, Logger(told.append))
    assert "attention" not in made.probe_map.data
    assert told[0].startswith("the page is without attention: attention was captured at last_q, -1, not at")
    assert len(made.leaves) == 80


def test_scores_that_are_no_log_odds_are_marked() -> None:
    made = from_scores(*some(), names=NAMES)
    assert content(render([Sheet(made)]))["runs"][0]["areOdds"] is True
    made.data.attrs.update(probe="LinearSVC()", protocol="paper protocol", held_out=40)
    (one,) = content(render([Sheet(made, note="mind")]))["runs"]
    assert one["areOdds"] is False
    assert one["notes"] == ["paper protocol", "mind"]
    assert one["counts"]["held_out"] == 40


# --- notebooks ---


def test_a_map_shows_itself() -> None:
    made = from_scores(*some(), names=NAMES)
    made.data.attrs.update(model="<b>m</b>", task="t")
    shown = made._repr_html_()
    assert shown.startswith('<img alt="Map" src="data:image/png;base64,iVBOR')
    best = made.best()[0]
    assert f"3 layers × 2 positions; 300 answers, 300 decided, {made.data.attrs['right']} right" in shown
    assert f"layer {best.layer} at {best.position}, {best.auc:.2f}" in shown
    assert "<b>" not in shown


def test_a_map_alone_has_a_page(tmp_path: Path) -> None:
    made = from_scores(*some(), names=NAMES)
    made.data.attrs["model"] = "m"
    path = made.report(tmp_path / "page.html")
    assert content(path.read_text())["runs"][0]["title"] == "m on answers"
