"""Fields of the question file in a map: groups, covariates, and accepted answers that occur in their own prompts."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running import execute
from test_cli import probemap
from test_report import content

from probemap.detectors.detector import Detector
from probemap.maps.probe_map import ProbeMap
from probemap.probing.baselines import covariate_baseline
from probemap.probing.folds import connected_groups
from probemap.records import DataError, Example, Judgement, MapError, Task, TooFewError, Verdict
from probemap.runs.definitions import ANSWER, CAPTURE, JUDGE, MAP
from probemap.runs.graded import GradedAnswers, graded_as_mapped
from probemap.runs.options import ChooseOptions, ErrorsOptions
from probemap.runs.plan import Context
from probemap.runs.run import Run
from probemap.runs.steps import choose, errors
from probemap.runs.steps.export import export
from probemap.runs.steps.report import report


@pytest.fixture
def run(mapped: Path, tmp_path: Path) -> Run:
    return Run.open(shutil.copytree(mapped, tmp_path / "RUN"))


def folds_of(probe_map: ProbeMap) -> dict[str, int]:
    return dict(zip(probe_map.data["answer"].values.tolist(), probe_map.data["fold"].values[0].tolist(), strict=True))


def test_map_groups_the_folds_by_a_field(run: Run) -> None:
    before = folds_of(run.map)
    assert len({before[f"q{k}"] for k in range(8)}) > 1
    probemap("map", run.path, "--group-by", "Block", "--redo")
    probe_map = run.map
    fold = folds_of(probe_map)
    assert all(len({fold[f"q{8 * block + k}"] for k in range(8)}) == 1 for block in range(10))
    assert len(np.unique(probe_map.data["group"].values)) == 10
    assert (probe_map.data.attrs["group_by"], probe_map.data.attrs["groups"]) == ("Block", 10)
    assert run.record(MAP).options.group_by == "Block"
    assert "\nfolds grouped by Block: 10 groups\n" in probemap("show", run.path).stdout
    (view,) = content(report([run]).read_text())["runs"]
    assert view["provenance"]["folds grouped by"] == "Block (10 groups)"
    assert "folds grouped by" not in probemap("show", execute(MAP, run, group_by=None, redo=True).path).stdout


def test_map_without_the_field_or_with_too_few_groups_is_refused(run: Run) -> None:
    refused = probemap("map", run.path, "--group-by", "relation", "--redo", code=1).stderr
    assert "the questions have no field 'relation'; their fields are block, half, note, size\nhint: " in refused
    refused = probemap("map", run.path, "--group-by", "note", "--redo", code=1).stderr
    assert "the field 'note' has no value in 3 of 80 questions, e.g. in 'q0', so they belong to no group" in refused
    refused = probemap("map", run.path, "--group-by", "half", "--redo", code=1).stderr
    assert "the field 'half' divides the decided answers into 2 groups, but 5 folds require at least 5" in refused
    refused = probemap("map", run.path, "--covariate", "size,colour", "--redo", code=1).stderr
    assert "the questions have no field 'colour'" in refused
    assert "group_by" not in run.map.data.attrs, "the map is kept"
    assert not (run.path / "earlier").exists()
    assert 'group_by was null, now "block"' in probemap("map", run.path, "--group-by", "block", code=1).stderr


def test_export_uses_the_groups_of_the_map(run: Run, tmp_path: Path) -> None:
    execute(MAP, run, group_by="block", redo=True)
    graded = graded_as_mapped(run)
    assert (graded.group_by, graded.n_groups) == ("block", 10)
    message = probemap("export", run.path, "--out", tmp_path / "D", "--cell", "2:exact_answer_last", "--held-out", 0.5)
    assert "the answers are grouped by block, as in the map: 10 groups" in message.stderr
    assert Detector.load(tmp_path / "D").primary.evaluation.n == 40, "five whole groups"
    with pytest.raises(TooFewError, match="into 10 groups, of which 6 are held out, but 5 folds require at least 5"):
        export(run, tmp_path / "E", held_out=0.6)


@pytest.mark.parametrize("step", [errors, choose])
def test_studies_use_the_groups_of_the_map(run: Run, monkeypatch: pytest.MonkeyPatch, step: Any) -> None:
    monkeypatch.setattr(step, "samples_per_question", lambda run: 3)
    monkeypatch.setattr(step, "study_inputs", lambda run, store: {})
    options = ErrorsOptions() if step is errors else ChooseOptions()
    assert step.plan(run, options, Context()).options.group_by is None
    execute(MAP, run, group_by="block", redo=True)
    assert step.plan(run, options, Context()).options.group_by == "block"


def test_covariates_are_baselines_and_strata(run: Run) -> None:
    said = probemap("map", run.path, "--covariate", "size, half,size,note", "--redo").stderr
    assert (
        "the covariate note has no value in 3 of 80 questions: their answers are not compared within its strata, and "
        "it is no baseline in columns that contain them" in said
    )
    data = run.map.data
    assert data["baseline"].values.tolist()[-3:] == ["size", "half", "note"]
    baseline_auc = data["baseline_auc"].sel(position="last_q")
    assert 0 <= float(baseline_auc.sel(baseline="size")) <= 1
    assert np.isnan(float(baseline_auc.sel(baseline="note")))
    assert data["covariate"].values.tolist() == ["size", "half", "note"]
    assert data["n_strata"].values.tolist() == [5, 2, 3]
    assert not data["auc_within"].sel(covariate="half", position="last_q").isnull().any()
    header = (run.path / "map.csv").read_text().splitlines()[0]
    assert header.endswith("auc_within_note,auc_within_low_note,auc_within_high_note")
    assert "AUC of the best cell, comparing only answers in the same stratum" in probemap("show", run.path).stdout
    (path, _) = probemap("plot", run.path, "--value", "auc-within:size").stdout.split()
    assert Path(path) == run.path / "map-auc-within-size.png"
    assert "the map has 3 covariates" in probemap("plot", run.path, "--value", "auc-within", code=1).stderr
    (view,) = content(report([run]).read_text())["runs"]
    grid = view["values"]["auc-within:half"]
    assert grid["label"] == "AUC within strata of half"
    expected = data["auc_within"].sel(covariate="half", position="last_q").values
    np.testing.assert_allclose([row[0] for row in grid["value"]], expected, rtol=1e-4)
    execute(MAP, run, covariate="", redo=True)
    assert "auc_within" not in run.map.data
    assert "auc-within" not in content(report([run]).read_text())["runs"][0]["values"]


def test_covariates_without_baselines_and_with_the_paper_s_protocol(run: Run) -> None:
    execute(MAP, run, covariate="half", baselines=False, redo=True)
    assert "baseline" not in run.map.data
    assert run.map.data["covariate"].values.tolist() == ["half"]
    assert probemap("plot", run.path, "--value", "auc-within").stdout.splitlines()[0].endswith("map-auc-within.png")
    execute(MAP, run, covariate="half", group_by="half", protocol="paper", redo=True)
    assert run.map.data["auc_within"].shape == (1, *run.map.auc.shape)
    assert "group_by" not in run.map.data.attrs, "this protocol has no groups"


def test_a_covariate_with_the_name_of_a_baseline_is_refused() -> None:
    with pytest.raises(MapError, match="the covariate 'answer_length' has the name of a baseline\nhint: rename"):
        covariate_baseline("answer_length", [1.0])


def test_covariate_baseline_treats_a_text_as_one_word() -> None:
    values = covariate_baseline("relation", ["place of death", "place of birth", None, "place of death"]).values
    assert values == ["category1", "category0", None, "category1"]
    np.testing.assert_array_equal(covariate_baseline("s_pop", [1, None, 2.5]).values, [1.0, np.nan, 2.5])


def graded(rows: list[tuple[str, str, bool | None]]) -> GradedAnswers:
    """Return graded answers with a question, a relation and a verdict each."""
    examples = [Example(str(k), q, ("x",), metadata=(("relation", r),)) for k, (q, r, _) in enumerate(rows)]
    judgements = [Judgement(str(k), Verdict(correct, ""), None) for k, (*_, correct) in enumerate(rows)]
    return GradedAnswers(Task("t", tuple(examples), "open"), None, judgements)  # type: ignore[arg-type]


def test_questions_with_the_same_text_connect_their_groups() -> None:
    rows: list[tuple[str, str, bool | None]] = [
        ("Who?", "author", True),
        ("When?", "date", False),
        ("WHO?", "composer", False),
        ("Whose?", "composer", True),
        ("What?", "genre", None),
    ]
    answers = graded(rows).grouped_by("relation")
    groups = answers.groups
    assert groups[0] == groups[2] == groups[3]
    assert len(set(groups)) == 3
    assert answers.n_groups == 2, "genre has no decided answer"
    with pytest.raises(TooFewError, match="into 2 groups, but 3 folds require at least 3 groups"):
        answers.check_groups(3)
    answers.check_groups(2)
    assert graded(rows).grouped_by("").groups == graded(rows).groups == ["who?", "when?", "who?", "whose?", "what?"]
    with pytest.raises(DataError, match="no field 'subject'"):
        _ = graded(rows).grouped_by("subject").groups


def test_connected_groups_are_the_components_of_all_groupings() -> None:
    draw = np.random.default_rng(0)
    for _ in range(20):
        first, second = draw.integers(0, 30, (2, 40))
        groups = connected_groups(first, second)
        for column in (first, second):
            assert all(len(set(groups[column == value])) == 1 for value in column)
        expected = list(range(40))
        for _ in range(40):
            for column in (first, second):
                for value in column:
                    rows = np.flatnonzero(column == value)
                    lowest = min(expected[row] for row in rows)
                    for row in rows:
                        expected[row] = lowest
        assert len(set(groups.tolist())) == len(set(expected))
    with pytest.raises(MapError, match="got 2 groups for 3 answers"):
        connected_groups([1, 2, 3], [1, 2])


def leaking_run(folder: Path, model: Path, leaks: bool) -> Run:
    """Return a run whose contexts contain the accepted answer if `leaks` is True."""
    questions: list[dict[str, Any]] = [
        {
            "id": f"q{i}",
            "question": f"What is {i} + 5?",
            "answers": [str(i + 5)],
            "context": f"The solution is {i + 5 if leaks else i}.",
        }
        for i in range(200, 260)
    ]
    answers = [{"id": f"q{i}", "text": f"The answer is {i + 5 + i % 2}."} for i in range(200, 260)]
    for name, rows in (("questions", questions), ("answers", answers)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = execute(
        ANSWER, folder / "RUN", data=folder / "questions.jsonl", model=model, answers=str(folder / "answers.jsonl")
    )
    for step in (JUDGE, CAPTURE):
        execute(step, run)
    return run


@pytest.mark.parametrize("leaks", [True, False])
def test_map_reports_answers_in_their_own_prompts(chat_folder: Path, tmp_path: Path, leaks: bool) -> None:
    run = leaking_run(tmp_path, chat_folder, leaks)
    said = probemap("map", run.path).stderr
    attrs = run.map.data.attrs
    assert (attrs["leak_n"], attrs["leak_count"]) == (60, 60 if leaks else 0)
    counts = f"{attrs['leak_count']} of 60 ({attrs['leak_expected']:.1f} expected by chance)"
    shown = probemap("show", run.path).stdout
    assert (f"\naccepted answer in the question or context: {counts}\n" in shown) != leaks
    (view,) = content(report([run]).read_text())["runs"]
    assert view["provenance"]["accepted answers in their own question or context"] == counts
    warning = "The accepted answer occurs in the question or context of 60 of 60 questions (1.9 expected by chance)."
    assert (warning in said) == (warning in shown) == any(warning in note for note in view["notes"]) == leaks
    assert ("hint: if the answers should not be in the prompts" in said) == leaks
