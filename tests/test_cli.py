"""The command line: help, messages, exit status; stdout for data, stderr for talk."""

import io
import json
import math
import os
import re
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import byte_level_tokenizer, save_tiny_model
from typer.main import get_command
from typer.testing import CliRunner

from probemap.activations.store import _marker_hash
from probemap.cli.main import app, main
from probemap.logger import SILENT
from probemap.maps.probe_map import ProbeMap
from probemap.records import RunError
from probemap.runs import execution
from probemap.runs.definitions import STEPS, Step
from probemap.runs.plan import Context
from probemap.runs.run import Run

VERBS = [name for name, command in get_command(app).commands.items() if not command.hidden]  # type: ignore[attr-defined]
ALIASES = {
    "describe": "show --words",
    "check": "verify --recompute",
    "tasks": "list tasks",
    "positions": "list positions",
}


@dataclass
class Done:
    stdout: str
    stderr: str


def probemap(*words: object, code: int = 0) -> Done:
    """Run the command line in this process; anything but the expected exit status fails."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["probemap", *map(str, words)])
        patch.setenv("COLUMNS", "200")
        try:
            main()
            status: object = 0
        except SystemExit as end:
            status = end.code or 0
    assert status == code, out.getvalue() + err.getvalue()
    return Done(out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run with a tiny model whose answers are right or wrong by chance."""
    folder = tmp_path_factory.mktemp("cli")
    model = save_tiny_model(folder / "model", byte_level_tokenizer())
    rows = [{"id": f"q{i}", "question": f"Say {i}?" + " Now." * (i % 3), "answers": ["x"]} for i in range(60)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    probemap("answer", folder / "rows.jsonl", "--model", model, "--out", folder / "RUN", "--max-new-tokens", 10)
    # The tiny model speaks noise; the verdicts are written here, as a person may edit them.
    probemap("judge", folder / "RUN", "--locator", "none")
    path = folder / "RUN" / "verdicts.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for i, line in enumerate(lines):
        line["verdict"] = {"correct": None if i == 5 else i % 2 == 0, "reason": "by hand"}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    probemap("capture", folder / "RUN", "--positions", "last_q,-2,-1,exact_answer_before_first,exact_answer_first")
    assert "p(True) is not among the baselines; `probemap p-true" in probemap("map", folder / "RUN").stderr
    probemap("p-true", folder / "RUN")
    probemap("map", folder / "RUN", "--redo")
    shutil.rmtree(folder / "RUN" / "earlier")
    probemap("plot", folder / "RUN")
    return folder


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_s_help_ends_in_an_example(verb: str) -> None:
    last = probemap(verb, "--help").stdout.strip().splitlines()[-1]
    assert last.strip().startswith(f"Example:  probemap {verb}")


def test_help_fits_on_a_screen_of_50_lines() -> None:
    for words in (["--help"], ["run", "--help"]):
        shown = CliRunner().invoke(app, words, env={"COLUMNS": "80"}).stdout
        assert "probemap" in shown or "Usage" in shown
        assert len(shown.splitlines()) <= 50, shown


def test_hidden_aliases_are_the_new_verbs(made: Path) -> None:
    assert probemap("describe", made / "RUN").stdout == probemap("show", made / "RUN", "--words").stdout
    assert probemap("tasks").stdout + probemap("positions").stdout == probemap("list").stdout
    assert probemap("check", made / "RUN", "--n", 4).stdout in probemap("verify", made / "RUN", "--recompute", 4).stdout


def test_options_that_are_not_given_keep_the_recorded_values(made: Path, tmp_path: Path) -> None:
    run = copy(made, tmp_path)
    probemap("map", run, "--c", "0.5", "--redo")
    probemap("map", run, "--redo")
    assert ProbeMap.load(run / "map.nc").data.attrs["c"] == "0.5"
    probemap("map", run, "--redo", "--defaults")
    assert ProbeMap.load(run / "map.nc").data.attrs["c"] == "1"


def test_run_continues_with_the_recorded_data_and_model(made: Path, tmp_path: Path) -> None:
    run = copy(made, tmp_path)
    (run / "map.nc").unlink()
    assert "figure: " in probemap("run", "--out", run).stderr
    assert (run / "map.nc").exists()
    assert "needs a value for data" in probemap("run", "--out", tmp_path / "new", code=1).stderr
    assert not (tmp_path / "new").exists(), "no directory is left behind"


@pytest.mark.parametrize(
    "step",
    [step for step in STEPS.values() if step.name not in ("answer", "transfer", "audit")],
    ids=lambda step: step.name,
)
def test_a_step_without_options_is_executed_with_recorded_values_and_defaults(
    step: Step[Any, Any], made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Step[Any, Any], Context, dict[str, Any]]] = []

    def record(step: Step[Any, Any], run: Run, context: Context, **options: Any) -> None:
        calls.append((step, context, options))
        raise RunError("recorded")

    monkeypatch.setattr(execution, "run_step", record)
    verb, *flag = step.name.split()
    assert "recorded" in probemap(verb, made / "RUN", *flag, code=1).stderr
    ((executed, context, options),) = calls
    assert executed == step
    assert options == {"redo": False, "defaults": False}
    assert replace(context, logger=SILENT) == Context()


def test_help_names_every_verb_and_answers_in_a_blink() -> None:
    shown = probemap("--help").stdout
    assert [verb for verb in VERBS if not re.search(rf"^\W*{verb}\b", shown, re.MULTILINE)] == []
    before = os.times()
    subprocess.run([sys.executable, "-m", "probemap.cli.main", "--help"], capture_output=True, check=True)
    after = os.times()
    assert after.children_user - before.children_user < 1.0, "seconds of processor time"
    loaded = subprocess.run(
        [sys.executable, "-c", "import probemap.cli.main, sys; print(*sys.modules)"], capture_output=True, text=True
    ).stdout.split()
    heavy = {"torch", "transformers", "matplotlib", "sklearn", "xarray", "zarr", "pandas", "scipy", "numpy"}
    assert heavy & set(loaded) == set()


def test_tasks_and_positions_say_what_there_is() -> None:
    tasks = probemap("tasks").stdout
    assert re.search(r"^cities +\d{3} questions  In which country", tasks, re.MULTILINE)
    assert re.search(r"^triviaqa +trivia, .*mandarjoshi/trivia_qa; TriviaQA .*Apache-2.0\)$", tasks, re.MULTILINE)
    assert len(tasks.splitlines()) == 23
    positions = probemap("positions").stdout.splitlines()
    assert len(positions) == 10
    assert positions[0].split()[0] == "last_q"


def test_show_prints_cells_counts_and_reasons_without_colour(made: Path) -> None:
    shown = probemap("show", made / "RUN").stdout
    assert "60 answers: 30 correct, 29 incorrect (50.8 % of the decided answers are correct)" in shown
    assert "undecided and excluded: 1 (1 by hand)" in shown
    assert (
        "without an exact answer: 59 (46 no exact answer found (21 of 30 correct, 25 of 29 incorrect); "
        "13 cut off inside the exact answer (9 of 30 correct, 4 of 29 incorrect))" in shown
    )
    rows = {line.split()[0]: line.split()[1:] for line in shown.splitlines() if re.match(r"\d+ |n ", line)}
    content = ProbeMap.load(made / "RUN" / "map.nc")
    for layer in range(4):
        expected = content.auc.values[layer]
        assert rows[str(layer)] == ["·" if np.isnan(v) else f"{v:.2f}".removeprefix("0") for v in expected]
    assert rows["n"] == [str(n) for n in content.data["n"].values]
    assert rows["n"][:3] == ["59", "59", "59"]
    assert "\x1b" not in shown
    honest, best = content.nested_best(), content.best()[0]
    assert honest is not None
    known = int(content.auc.notnull().sum())
    for line in (
        f"  layer {best.layer:<3} {best.position:<26} {best.auc:.3f} [{best.low:.3f}, {best.high:.3f}]  n = {best.n}",
        f"best cell, nested CV: {honest.auc:.3f} [{honest.low:.3f}, {honest.high:.3f}]",
        f"not distinguishable from the best cell: {int(content.confidence_set().sum())} of {known} cells",
        "too few answers: exact_answer_before_first (0 correct, 0 incorrect), exact_answer_first (0 correct",
        f"baselines without hidden states, on the answers that have {best.position} (AUC, 95 % CI):",
    ):
        assert line in shown, line
    gain = content.data.sel(layer=best.layer, position=best.position)
    assert f"gain of the best cell over the best baseline: {float(gain['gain']):+.3f}" in shown
    adds, low, high, auc = (float(gain[name]) for name in ("adds", "adds_band_low", "adds_band_high", "reference_auc"))
    reference = gain["reference"].item()
    line = f"AUC that the best cell adds to {reference} (AUC {auc:.3f}): {adds:+.3f} [{low:+.3f}, {high:+.3f}]"
    assert f"{line} (simultaneous 95 % band)" in shown.splitlines()
    assert "p_true" in content.data["baseline"].values


def test_inspect_shows_tokens_with_their_positions_below(made: Path) -> None:
    shown = probemap("inspect", made / "RUN", "q3").stdout
    assert "question      Say 3?" in shown
    row = next(i for i, line in enumerate(shown.splitlines()) if "last_q" in line)
    lines = shown.splitlines()
    at = lines[row].index("last_q")
    answer = next(
        a for a in map(json.loads, (made / "RUN" / "answers.jsonl").read_text().splitlines()) if a["id"] == "q3"
    )
    assert lines[row - 1][at:].split()[0] == str(answer["n_prompt"] - 1)
    assert "\x1b" not in shown
    assert (
        "no answer has the id 'nobody'\nhint: the ids are those of"
        in probemap("inspect", made / "RUN", "nobody", code=1).stderr
    )


def test_plot_prints_its_paths_and_refuses_what_it_cannot_draw(made: Path) -> None:
    out = made / "other.pdf"
    assert probemap("plot", made / "RUN", "--out", out).stdout.strip() == str(out)
    assert out.read_bytes().startswith(b"%PDF")
    assert "x.gif is not a .png, .svg or .pdf file" in probemap("plot", made / "RUN", "--out", "x.gif", code=1).stderr
    assert "unknown colour map 'Bluess'" in probemap("plot", made / "RUN", "--cmap", "Bluess", code=1).stderr


def test_verbs_after_run_find_their_steps_done(made: Path, tmp_path: Path) -> None:
    words = (made / "rows.jsonl", "--model", made / "model", "--out", tmp_path / "RUN")
    probemap("answer", *words, "--max-new-tokens", 10)
    # The random answers allow no map, but the states are captured.
    probemap("run", "--out", tmp_path / "RUN", "--locator", "none", code=1)
    store = tmp_path / "RUN" / "activations"
    before = {p: p.stat().st_mtime_ns for p in store.rglob("*")}
    probemap("capture", tmp_path / "RUN")
    assert {p: p.stat().st_mtime_ns for p in store.rglob("*")} == before


def test_running_again_does_nothing_and_changes_nothing(made: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in (made / "RUN").rglob("*") if p.is_file() and p.name != ".lock"}
    for verb in ("capture", "map"):
        probemap(verb, made / "RUN")
    assert {p: p.stat().st_mtime_ns for p in (made / "RUN").rglob("*") if p.is_file() and p.name != ".lock"} == before


def test_run_json_tells_what_made_each_file(made: Path) -> None:
    log = json.loads((made / "RUN" / "run.json").read_text())
    assert {"probemap", "torch", "transformers", "python"} <= set(log["versions"])
    assert set(log["steps"]) == {"answer", "judge", "capture", "p-true", "map"}
    assert log["steps"]["answer"]["facts"]["frame"] == "chat"
    assert len(log["steps"]["answer"]["facts"]["revision"]) == 64
    options = {"c": "1", "folds": 5, "repeats": 1, "seed": 0, "permutations": 0, "common_rows": False}
    options |= {"group_by": None, "covariate": None}
    assert log["steps"]["map"]["options"] == {**options, "baselines": True, "control": True, "protocol": "probemap"}
    assert all(step["done"] for step in log["steps"].values())


def test_another_site_is_another_capture_and_named_in_the_map(made: Path, tmp_path: Path) -> None:
    run = copy(made, tmp_path)
    refused = probemap("capture", run, "--site", "mlp_out", code=1).stderr
    assert 'activations was created with different options or inputs: site was "resid", now "mlp_out"' in refused
    probemap("capture", run, "--site", "mlp_out", "--redo")
    assert json.loads((run / "activations" / "layout.json").read_text())["site"] == "mlp_out"
    probemap("map", run, "--redo")
    assert ProbeMap.load(run / "map.nc").data.attrs["site"] == "mlp_out"
    refused = probemap("capture", run, "--site", "nonsense", "--redo", code=1).stderr
    assert "unknown site 'nonsense'" in refused, "and nothing is set aside"
    assert json.loads((run / "activations" / "layout.json").read_text())["site"] == "mlp_out"


def test_states_from_before_there_were_sites_are_those_of_the_residual_stream(made: Path, tmp_path: Path) -> None:
    run = copy(made, tmp_path)
    log = json.loads((run / "run.json").read_text())
    assert log["steps"]["capture"]["options"].pop("site") == "resid"
    (run / "run.json").write_text(json.dumps(log))
    before = (run / "run.json").read_bytes()
    probemap("capture", run)
    assert (run / "run.json").read_bytes() == before
    assert 'site was "resid", now "attn_out"' in probemap("capture", run, "--site", "attn_out", code=1).stderr


def test_run_takes_the_paper_s_site_and_place(made: Path, tmp_path: Path) -> None:
    """The tiny model speaks noise: the choices are taken from what it said, the accepted answers here and there."""
    said = {a["id"]: a["text"] for a in map(json.loads, (made / "RUN" / "answers.jsonl").read_text().splitlines())}
    rows: list[dict[str, object]] = []
    words: dict[str, list[str]] = {}
    for row in map(json.loads, (made / "rows.jsonl").read_text().splitlines()):
        found = [*dict.fromkeys(re.findall(r"(?<!\w)[A-Za-z]{2,}(?!\w)", said[row["id"]].lower()))]
        if len(found) < 2:
            continue
        words[row["id"]] = found[:2]
        # Of the two accepted answers only the later one is a choice, so that an ordinary locator takes that.
        right = len(rows) % 2
        rows.append(row | {"choices": [found[1], "xyz"], "answers": found[:2] if right else ["xyz"]})
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    options = ("--model", made / "model", "--max-new-tokens", 10, "--prompt", "{question}")
    run = tmp_path / "RUN"
    probemap("answer", tmp_path / "rows.jsonl", *options, "--out", run)
    probemap("judge", run, "--locator", "paper")
    probemap("capture", run, "--site", "mlp_out")
    probemap("map", run, "--folds", 2)
    counts = {True: 0, False: 0}
    for judged in map(json.loads, (run / "verdicts.jsonl").read_text().splitlines()):
        if judged["span"] and judged["verdict"]["correct"] is not None:
            first, second = words[judged["id"]]
            assert judged["span"]["text"].lower() == (first if judged["verdict"]["correct"] else second)
            counts[judged["verdict"]["correct"]] += 1
    assert min(counts.values()) > 2
    attrs = ProbeMap.load(run / "map.nc").data.attrs
    assert (attrs["site"], attrs["locator"]) == ("mlp_out", "paper")


def copy(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "RUN", tmp_path / "RUN"))


def test_other_options_are_refused_with_the_command_and_redo_keeps_the_old(made: Path, tmp_path: Path) -> None:
    run = copy(made, tmp_path)
    old = (run / "map.nc").read_bytes()
    refused = probemap("map", run, "--c", "0.5", code=1).stderr
    assert 'map.csv was created with different options or inputs: c was "1", now "0.5"' in refused
    assert f"hint: `probemap map {run} --redo` repeats the step" in refused
    assert (run / "map.nc").read_bytes() == old
    told = probemap("map", run, "--c", "0.5", "--redo").stderr
    assert f"map.nc, map.csv moved to {run}/earlier/001-map" in told
    assert (run / "earlier" / "001-map" / "map.nc").read_bytes() == old
    assert ProbeMap.load(run / "map.nc").data.attrs["c"] == "0.5"


def test_a_step_whose_input_changed_says_so(made: Path, tmp_path: Path) -> None:
    run = copy(made, tmp_path)
    verdicts = (run / "verdicts.jsonl").read_text()
    (run / "verdicts.jsonl").write_text(verdicts.replace("by hand", "by another hand"))
    assert "map.nc was made before verdicts.jsonl changed" in probemap("show", run).stderr
    refused = probemap("map", run, code=1).stderr
    assert "changed input: verdicts.jsonl" in refused
    assert "--redo` repeats the step" in refused
    # another exact answer: the states belong to other tokens now
    lines = [json.loads(line) for line in verdicts.splitlines()]
    said = json.loads((run / "answers.jsonl").read_text().splitlines()[0])
    line = next(x for x in lines if x["id"] == said["id"])
    line["span"] = {"start": said["n_prompt"], "stop": said["n_prompt"] + 1, "text": "x"}
    (run / "verdicts.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    assert "the captured states do not match the answers or exact answers" in probemap("map", run, code=1).stderr
    assert "changed input: the probed tokens" in probemap("capture", run, code=1).stderr
    line["span"]["stop"] = 9999
    (run / "verdicts.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    assert f"the exact answer of '{said['id']}' is outside its answer" in probemap("map", run, code=1).stderr


def test_new_answers_need_new_verdicts(made: Path, tmp_path: Path) -> None:
    run = copy(made, tmp_path)
    words = (made / "rows.jsonl", "--model", made / "model", "--out", run, "--max-new-tokens", 10)
    probemap("answer", *words, "--temperature", 1, "--redo")
    for verb in ("capture", "map"):
        told = probemap(verb, run, code=1).stderr
        assert "answers.jsonl changed after the verdicts were made" in told
        assert f"`probemap judge {run} --redo` repeats the step" in told


def test_a_map_is_shown_without_its_states(made: Path, tmp_path: Path) -> None:
    run = copy(made, tmp_path)
    shutil.rmtree(run / "activations")
    assert "map.nc may be out of date" in probemap("show", run).stderr


def test_earlier_results_never_collide(made: Path, tmp_path: Path) -> None:
    run = copy(made, tmp_path)
    for _ in range(2):
        probemap("map", run, "--redo")
    shutil.rmtree(run / "earlier" / "001-map")
    probemap("map", run, "--redo")
    assert sorted(p.name for p in (run / "earlier").iterdir()) == ["002-map", "003-map"]


def test_other_weights_than_those_that_answered_are_refused(made: Path, tmp_path: Path) -> None:
    run = copy(made, tmp_path)
    log = json.loads((run / "run.json").read_text())
    log["steps"]["answer"]["facts"]["revision"] = "0" * 64
    (run / "run.json").write_text(json.dumps(log))
    told = probemap("capture", run, "--redo", code=1).stderr
    assert "were generated with different weights of model (revision 000000000000, now" in told
    assert "hint: load the same weights, or use a new run directory" in told


def test_damaged_folders_are_named(made: Path, tmp_path: Path) -> None:
    run = copy(made, tmp_path)
    shard = run / "activations" / "states" / "c" / "0" / "0" / "0" / "0"
    content = bytearray(shard.read_bytes())
    content[1000] ^= 4
    shard.write_bytes(content)
    told = probemap("map", run, "--c", "2", "--redo", code=1).stderr
    assert "c/0/0/0/0 is damaged" in told
    assert "hint: `probemap verify RUN --repair`" in told
    answers = (run / "answers.jsonl").read_text()
    (run / "answers.jsonl").write_text(answers[:-40])
    assert "answers.jsonl, line 60 is damaged" in probemap("inspect", run, code=1).stderr
    lines = answers.splitlines()
    n = len(json.loads(lines[1])["entropies"])
    assert n == len(json.loads(lines[1])["logprobs"]) > 1
    for edit, problem in (
        ({"text": "another text"}, "offsets do not cover the text"),
        ({"logprobs": []}, "offsets, logprobs and token_ids have different lengths"),
        ({"entropies": [0.5]}, "there are 1 entropies for "),
        ({"entropies": [-0.5] * n}, "an entropy is -0.5, but must be finite and at least 0"),
        ({"entropies": [math.inf] * n}, "an entropy is inf, but must be finite and at least 0"),
        ({"entropies": [math.nan] * n}, "an entropy is nan, but must be finite and at least 0"),
        ({"n_prompt": 0}, "n_prompt is 0, but must be from 1 to"),
        ({"id": json.loads(lines[0])["id"]}, "duplicate id"),
    ):
        edited = json.dumps(json.loads(lines[1]) | edit)
        (run / "answers.jsonl").write_text("\n".join([lines[0], edited, *lines[2:]]) + "\n")
        told = probemap("inspect", run, code=1).stderr
        assert f"answers.jsonl, line 2 is inconsistent: {problem}" in told
    (run / "run.json").write_text("{")
    assert "run.json is damaged" in probemap("map", run, code=1).stderr
    assert "is not a run directory" in probemap("show", tmp_path, code=1).stderr


def test_runs_of_earlier_versions_have_no_entropies_and_no_input_embeddings(made: Path, tmp_path: Path) -> None:
    recorded = {"entropy_mean", "entropy_max", "input_embeddings"}
    assert recorded < set(ProbeMap.load(made / "RUN" / "map.nc").data["baseline"].values.tolist())
    run = copy(made, tmp_path)
    before = Run.open(run).sha256("answers.jsonl")
    rows = [json.loads(line) for line in (run / "answers.jsonl").read_text().splitlines()]
    for row in rows:
        del row["entropies"]
    (run / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    record = (run / "run.json").read_text()
    assert before in record
    (run / "run.json").write_text(record.replace(before, Run.open(run).sha256("answers.jsonl")))
    for path in (run / "activations" / "commits").glob("*.json"):
        marker = json.loads(path.read_text())
        del marker["check"], marker["input_embeddings"]
        path.write_text(json.dumps({**marker, "check": _marker_hash(marker)}))
    shutil.rmtree(run / "activations" / "input_embeddings")
    told = probemap("map", run, "--redo").stderr
    for name in ("entropies", "input embeddings"):
        assert f"the {name} are not among the baselines, because they were not recorded (vLLM and" in told
    assert not recorded & set(ProbeMap.load(run / "map.nc").data["baseline"].values.tolist())


def test_messages_for_models_and_data_that_cannot_be_used(made: Path, tmp_path: Path) -> None:
    rows, model = made / "rows.jsonl", made / "model"
    out = tmp_path / "RUN"
    told = probemap("run", rows, "--model", "no/such-model", "--out", out, code=1).stderr
    assert "model 'no/such-model' could not be loaded" in told
    assert "hint: pass a hub id, a directory" in told
    assert (
        "the model directory ./nothing does not exist"
        in probemap("run", rows, "--model", "./nothing", "--out", out, code=1).stderr
    )
    (tmp_path / "x.gguf").write_bytes(b"nonsense")
    assert (
        "x.gguf is not a GGUF file: it starts with b'nons', expected b'GGUF'"
        in probemap("run", rows, "--model", tmp_path / "x.gguf", "--out", out, code=1).stderr
    )
    assert (
        "no file or task named 'nothing.jsonl'"
        in probemap("run", "nothing.jsonl", "--model", model, "--out", out, code=1).stderr
    )
    told = probemap("run", rows, "--out", tmp_path / "NEW", code=1).stderr
    assert "the step answer needs a value for model\nhint: give --model" in told
    assert "Missing option '--out'" in probemap("run", rows, "--model", model, code=2).stderr
    told = probemap("run", rows, "--model", model, "--out", out, "--device", "nonsense", code=1).stderr
    assert "model" in told
    assert "could not be loaded" in told
    long = tmp_path / "long.jsonl"
    long.write_text(json.dumps({"id": "long", "question": "word " * 500, "answers": "x"}))
    told = probemap("run", long, "--model", model, "--out", tmp_path / "R2", code=1).stderr
    assert re.search(r"1 questions exceed the context window of model \(256 tokens, .*: 'long' \(\d+ tokens\)", told)
    words = ("answer", rows, "--model", model, "--out", tmp_path / "R3", "--prompt", "{answer}")
    told = probemap(*words, code=1).stderr
    assert "the prompt '{answer}' has an unknown field {answer}" in told
    assert (
        "contains other files and is not a run directory"
        in probemap("run", rows, "--model", model, "--out", made, code=1).stderr
    )


def test_a_model_without_chat_template_is_asked_as_q_and_a(base_folder: Path, made: Path, tmp_path: Path) -> None:
    words = ("answer", made / "rows.jsonl", "--model", base_folder, "--max-new-tokens", 4)
    told = probemap(*words, "--out", tmp_path / "RUN").stderr
    assert "has no chat template: questions are formatted as `Q: … A:`" in told
    assert (
        "has no chat template\nhint: use --frame qa"
        in probemap(*words, "--frame", "chat", "--out", tmp_path / "R2", code=1).stderr
    )


def test_one_class_and_no_exact_answer_get_their_messages(made: Path, tmp_path: Path) -> None:
    words = (made / "rows.jsonl", "--model", made / "model", "--out", tmp_path / "RUN")
    probemap("answer", *words, "--max-new-tokens", 10)
    told = probemap("run", *words, "--locator", "none", code=1).stderr
    assert "no exact answer was found in any of the 60 answers: the map will have no exact_answer columns" in told
    assert re.search(
        r"(all \d+ decided answers are incorrect|no answer is decided): a map requires both correct and incorrect", told
    )


def test_two_processes_do_not_share_a_folder(made: Path, tmp_path: Path) -> None:
    from filelock import FileLock

    run = copy(made, tmp_path)
    with FileLock(run / ".lock"):
        assert "another probemap process is working in" in probemap("map", run, code=1).stderr


def test_a_full_disk_is_told_and_the_same_command_goes_on(made: Path, tmp_path: Path) -> None:
    """A limit on file size stands in for a full disk: writes fail half way with an error from the system."""
    words = ["answer", made / "rows.jsonl", "--model", made / "model", "--max-new-tokens", 10, "--batch-size", 8]
    limited = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000));"
        f"sys.argv = ['probemap', *{[*map(str, words), '--out', str(tmp_path / 'RUN')]!r}];"
        "from probemap.cli.main import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", limited], capture_output=True, text=True)
    assert done.returncode == 1
    assert re.search(r"error: File too large.*\nhint: .*repeat the command to resume", done.stderr)
    assert "Traceback" not in done.stderr
    kept = (tmp_path / "RUN" / "answers.jsonl").read_bytes()
    probemap(*words, "--out", tmp_path / "RUN")
    probemap(*words, "--out", tmp_path / "WHOLE")
    whole = (tmp_path / "WHOLE" / "answers.jsonl").read_bytes()
    assert (tmp_path / "RUN" / "answers.jsonl").read_bytes() == whole
    assert 0 < len(kept) < len(whole)


def test_hostile_text_reaches_neither_terminal_nor_picture(made: Path, tmp_path: Path) -> None:
    rows = [
        {
            "id": f"\x1b[31m{i}",
            "question": f"[bold]\x1b]0;title\x07 \u202e$x$ <script> {i}",
            "answers": ["[/red]\x9b1m"],
        }
        for i in range(4)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    words = ("--model", made / "model", "--out", tmp_path / "RUN", "--max-new-tokens", 3)
    probemap("answer", tmp_path / "rows.jsonl", *words)
    probemap("judge", tmp_path / "RUN", "--locator", "none")
    shown = probemap("inspect", tmp_path / "RUN").stdout
    assert not set("\x1b\x07\x9b\u202e") & set(shown)
    assert r"[bold]\x1b]0;title\x07 \u202e$x$ <script> 0" in shown
    assert r"[/red]\x9b1m" in shown


def printed(encoding: str, *words: object) -> str:
    """Run the command line on a terminal with the given encoding, and return what it writes to it."""
    terminal = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["probemap", *map(str, words)])
        patch.setattr(sys, "stdout", terminal)
        patch.setattr(sys, "stderr", terminal)
        with suppress(SystemExit):
            main()
    terminal.seek(0)
    return terminal.read()


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp437"])
def test_text_is_printed_with_any_encoding_of_the_terminal(made: Path, tmp_path: Path, encoding: str) -> None:
    row = {"id": "城", "question": "Łódź 東京 🗼?", "answers": ["Łódź"]}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    run = tmp_path / "東京"
    probemap("answer", tmp_path / "rows.jsonl", "--model", made / "model", "--out", run, "--max-new-tokens", 3)
    probemap("judge", run, "--locator", "none")
    assert r"\u6771\u4eac \U0001f5fc?" in printed(encoding, "inspect", run, "城")
    assert r"\u6771\u4eac" in printed(encoding, "judge", run, "--explain")
    assert "counted from the last token" in printed(encoding, "list")
    assert "Run the answer, judge, capture" in printed(encoding, "run", "--help")
    assert r"no answer has the id '\u6771'" in printed(encoding, "inspect", run, "東")
    assert "東京 🗼?" in printed("utf-8", "inspect", run, "城")


@pytest.mark.parametrize(
    ("variables", "expected"),
    [({}, "2000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)],
)
def test_waiting_threads_leave_their_cores_to_other_processes_unless_the_user_decides(
    variables: dict[str, str], expected: str | None
) -> None:
    """The setting must be made before torch loads OpenMP."""
    code = (
        "import os, sys; from probemap.cli import main; assert 'torch' not in sys.modules;"
        "main.app = lambda: print(repr(os.environ.get('GOMP_SPINCOUNT'))); main.main()"
    )
    inherited = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    called = subprocess.run(
        [sys.executable, "-c", code], env=inherited | variables, capture_output=True, text=True, check=True
    )
    assert called.stdout.strip() == repr(expected)
