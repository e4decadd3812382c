"""A run killed with SIGKILL during each step and started again gives the same map, byte for byte."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import byte_level_tokenizer, save_tiny_model
from transformers import GenerationConfig

from probemap.maps.probe_map import ProbeMap
from probemap.models.loading import Loader
from probemap.runs.options import Answering
from probemap.runs.pipeline import answer

# Runs the command line, and dies by SIGKILL at the Nth call of one function.
DIE = """
import importlib, os, signal, sys
where, name, at, *words = sys.argv[1:]
module = importlib.import_module(where)
owner, _, attribute = name.rpartition(".")
owner = getattr(module, owner) if owner else module
original, calls = getattr(owner, attribute), [0]
def deadly(*a, **k):
    calls[0] += 1
    if calls[0] == int(at):
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*a, **k)
setattr(owner, attribute, deadly)
sys.argv = ["probemap", *words]
from probemap.cli.main import main
main()
"""


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A run whose map has values: a tiny model says noise to 160 questions, and half of it is made right."""
    folder = tmp_path_factory.mktemp("kill")
    tokenizer = byte_level_tokenizer()
    save_tiny_model(folder / "model", tokenizer, seed=3)
    # Any of every seventh token ends an answer, so that most answers end.
    ends = GenerationConfig(eos_token_id=[1, *range(2, len(tokenizer), 7)])
    ends.save_pretrained(folder / "model")
    draw = np.random.default_rng(0)
    questions = ["".join(draw.choice(list("abcdefgh ?"), 12)) for _ in range(160)]
    rows = folder / "rows.jsonl"
    words = [str(rows), "--model", str(folder / "model"), "--max-new-tokens", "8", "--batch-size", "16"]
    words += ["--temperature", "1"]
    # What it says is noise; it is asked once, so that every other answer can be made the right one of two choices.
    rows.write_text("".join(json.dumps({"question": q, "answers": ["x"], "choices": ["x"]}) + "\n" for q in questions))
    loader = Loader(str(folder / "model"))
    asked = answer(rows, loader, folder / "asked", Answering(max_new_tokens=8, batch_size=16, temperature=1.0))
    said = {answer.id: answer for answer in asked.answers()}
    with rows.open("w") as file:
        for i, question in enumerate(questions):
            word = max(re.findall(r"[a-z]+", said[f"row-{i + 1}"].text), key=len, default="none")
            gold = word if i % 2 else "otherwise"
            file.write(json.dumps({"question": question, "answers": [gold], "choices": [word, "otherwise"]}) + "\n")
    return words


def run(words: list[str], out: Path, kill: tuple[str, str, int] | None = None) -> int:
    call = [sys.executable, "-c", DIE, *map(str, kill)] if kill else [sys.executable, "-m", "probemap.cli.main"]
    done = subprocess.run([*call, "run", *words, "--out", str(out)], capture_output=True, text=True)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode


MADE = ("task.json", "answers.jsonl", "verdicts.jsonl", "p_true.jsonl", "map.nc", "map.csv", "map.png", "map.svg")


def contents(folder: Path) -> dict[str, bytes]:
    shards = sorted((folder / "activations" / "states" / "c").rglob("0"))
    return {name: (folder / name).read_bytes() for name in MADE} | {
        str(p.relative_to(folder)): p.read_bytes() for p in shards if p.is_file()
    }


@pytest.fixture(scope="module")
def whole(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "RUN"
    assert run(words, out) == 0
    assert not np.isnan(ProbeMap.load(out / "map.nc").auc.sel(position=["last_q", "exact_answer_last"]).values).any()
    return out


@pytest.mark.parametrize(
    "kill",
    [
        ("probemap.runs.run", "Run.append_answers", 4),
        ("probemap.runs.run", "Run.write_judgements", 1),
        ("probemap.activations.reader", "hidden_states", 5),
        ("probemap.activations.storage", "LocalStorage.write", 2),
        ("probemap.models.p_true", "logits_at", 2),
        ("probemap.maps.fit", "assign_folds", 1),
        ("probemap.maps.probe_map", "ProbeMap.to_bytes", 1),
        ("probemap.views.figures", "save_figure", 2),
    ],
    ids=lambda kill: kill[1],
)
def test_killed_in_a_step_and_started_again(
    words: list[str], whole: Path, tmp_path: Path, kill: tuple[str, str, int]
) -> None:
    assert run(words, tmp_path / "RUN", kill) == -signal.SIGKILL
    assert run(words, tmp_path / "RUN") == 0
    assert contents(tmp_path / "RUN") == contents(whole)


def test_killed_at_any_moment_and_started_again(words: list[str], whole: Path, tmp_path: Path) -> None:
    """Killed by the clock, again and again, until it comes through."""
    draw = np.random.default_rng(int(os.environ.get("PROBEMAP_KILL_SEED", "0")))
    kills = 0
    for attempt in range(60):
        call = [sys.executable, "-m", "probemap.cli.main", "run", *words, "--out", str(tmp_path / "RUN")]
        process = subprocess.Popen(call, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(timeout=float(draw.uniform(2, 5 + attempt)))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            continue
        assert process.returncode == 0
        break
    assert kills >= 2
    assert contents(tmp_path / "RUN") == contents(whole)


def test_a_line_torn_by_the_kill_is_written_again(words: list[str], whole: Path, tmp_path: Path) -> None:
    assert run(words, tmp_path / "RUN", ("probemap.runs.run", "Run.append_answers", 4)) == -signal.SIGKILL
    path = tmp_path / "RUN" / "answers.jsonl"
    complete = path.read_bytes()
    assert complete.count(b"\n") == 48
    path.write_bytes(complete[:-700])
    time.sleep(0.01)
    assert run(words, tmp_path / "RUN") == 0
    assert contents(tmp_path / "RUN") == contents(whole)
