"""A run killed with SIGKILL during each step and started again gives the same map, byte for byte."""

import json
import os
import re
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import byte_level_tokenizer, save_tiny_model
from killing import Kill, started
from running import execute
from transformers import GenerationConfig

from probemap.maps.probe_map import ProbeMap
from probemap.runs.definitions import ANSWER
from probemap.runs.options import AnswerOptions
from probemap.runs.plan import Context
from probemap.runs.run import Run
from probemap.runs.steps import answer


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory that records the options of the answer step, and nothing else.

    Its map has values: a random model answers 160 questions with noise, and every other answer is made correct.
    """
    folder = tmp_path_factory.mktemp("kill")
    tokenizer = byte_level_tokenizer()
    save_tiny_model(folder / "model", tokenizer, seed=3)
    # Any of every seventh token ends an answer, so that most answers end.
    ends = GenerationConfig(eos_token_id=[1, *range(2, len(tokenizer), 7)])
    ends.save_pretrained(folder / "model")
    draw = np.random.default_rng(0)
    questions = ["".join(draw.choice(list("abcdefgh ?"), 12)) for _ in range(160)]
    rows = folder / "rows.jsonl"
    options: dict[str, Any] = {"max_new_tokens": 8, "batch_size": 16, "temperature": 1.0}
    # The answers are generated once, so that every other one can be made the correct one of two choices.
    rows.write_text("".join(json.dumps({"question": q, "answers": ["x"], "choices": ["x"]}) + "\n" for q in questions))
    answers = execute(ANSWER, folder / "first", data=rows, model=folder / "model", **options).answers
    text_of = {answer.id: answer.text for answer in answers}
    with rows.open("w") as file:
        for i, question in enumerate(questions):
            word = max(re.findall(r"[a-z]+", text_of[f"row-{i + 1}"]), key=len, default="none")
            gold = word if i % 2 else "otherwise"
            file.write(json.dumps({"question": question, "answers": [gold], "choices": [word, "otherwise"]}) + "\n")
    directory = Run(folder / "begun")
    with directory.locked():
        plan = answer.plan(directory, AnswerOptions(data=str(rows), model=str(folder / "model"), **options), Context())
        directory.begin(ANSWER, plan.options, plan.inputs, redo=False, log=print)
    return directory.path


COMMAND = ("run", "--batch-size", "16", "--positions", "last_q,exact_answer_last", "--out")


def run(begun: Path, out: Path, kill: Kill | None = None) -> int | None:
    if not out.exists():
        shutil.copytree(begun, out)
    log = out.with_suffix(".log")
    process = started([*COMMAND, str(out)], log, kill)
    process.join()
    assert "Traceback" not in log.read_text(), log.read_text()
    return process.exitcode


MADE = ("task.json", "answers.jsonl", "verdicts.jsonl", "p_true.jsonl", "map.nc", "map.csv", "map.png", "map.svg")


def contents(folder: Path) -> dict[str, bytes]:
    shards = sorted((folder / "activations" / "states" / "c").rglob("0"))
    return {name: (folder / name).read_bytes() for name in MADE} | {
        str(p.relative_to(folder)): p.read_bytes() for p in shards if p.is_file()
    }


@pytest.fixture(scope="module")
def whole(begun: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "RUN"
    assert run(begun, out) == 0
    assert not np.isnan(ProbeMap.load(out / "map.nc").auc.sel(position=["last_q", "exact_answer_last"]).values).any()
    return out


@pytest.mark.parametrize(
    "kill",
    [
        ("probemap.runs.run", "Run.append_answers", 4),
        ("probemap.runs.run", "Run.write_judgements", 1),
        ("probemap.activations.inline", "InlineCapture.write", 5),
        ("probemap.activations.storage", "LocalStorage.write", 2),
        ("probemap.models.transformers_engine", "next_token", 2),
        ("probemap.maps.fit", "assign_folds", 1),
        ("probemap.maps.probe_map", "ProbeMap.to_bytes", 1),
        ("probemap.views.figures", "save_figure", 2),
    ],
    ids=lambda kill: kill[1],
)
def test_killed_in_a_step_and_started_again(begun: Path, whole: Path, tmp_path: Path, kill: Kill) -> None:
    assert run(begun, tmp_path / "RUN", kill) == -signal.SIGKILL
    assert run(begun, tmp_path / "RUN") == 0
    assert contents(tmp_path / "RUN") == contents(whole)


def test_killed_at_any_moment_and_started_again(begun: Path, whole: Path, tmp_path: Path) -> None:
    """Killed by the clock, again and again, until it comes through."""
    draw = np.random.default_rng(int(os.environ.get("PROBEMAP_KILL_SEED", "0")))
    kills = 0
    shutil.copytree(begun, tmp_path / "RUN")
    for attempt in range(60):
        process = started([*COMMAND, str(tmp_path / "RUN")], tmp_path / "log")
        process.join(timeout=float(draw.uniform(0.2, 1.3**attempt)))
        if process.exitcode is not None:
            break
        process.kill()
        process.join()
        kills += 1
    assert process.exitcode == 0
    assert kills >= 2
    assert contents(tmp_path / "RUN") == contents(whole)


def test_a_line_torn_by_the_kill_is_written_again(begun: Path, whole: Path, tmp_path: Path) -> None:
    assert run(begun, tmp_path / "RUN", ("probemap.runs.run", "Run.append_answers", 4)) == -signal.SIGKILL
    path = tmp_path / "RUN" / "answers.jsonl"
    complete = path.read_bytes()
    assert complete.count(b"\n") == 48
    path.write_bytes(complete[:-700])
    time.sleep(0.01)
    assert run(begun, tmp_path / "RUN") == 0
    assert contents(tmp_path / "RUN") == contents(whole)
