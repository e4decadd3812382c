"""A run killed with SIGKILL during each step and started again gives the same map, byte for byte."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import byte_level_tokenizer
from transformers import AutoModelForCausalLM

STEPS = ("answer", "judge", "capture", "map", "plot")

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
from probemap.cli import main
main()
"""


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A run whose map has values: a tiny model that says "yes" or "no" to 120 questions."""
    folder = tmp_path_factory.mktemp("kill")
    tokenizer = byte_level_tokenizer()
    yes, no, end = (tokenizer.convert_tokens_to_ids(t) for t in ("y", "n", "<|im_end|>"))
    from conftest import save_tiny_model

    save_tiny_model(folder / "model", tokenizer, seed=3)
    network = AutoModelForCausalLM.from_pretrained(folder / "model")
    with torch.no_grad():  # only these tokens can win, and the end is likely
        head = network.lm_head.weight
        kept = head[[yes, no, end]].clone()
        head.zero_()
        head[[yes, no, end]] = kept * 20
    network.config.tie_word_embeddings = False
    network.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    draw = np.random.default_rng(0)
    rows = [
        {"question": "".join(draw.choice(list("abcdefgh ?"), 12)), "answers": [str(draw.choice(["y", "n"]))]}
        for _ in range(120)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return [str(folder / "rows.jsonl"), "--model", str(folder / "model"), "--max-new-tokens", "6", "--batch-size", "16"]


def run(words: list[str], out: Path, kill: tuple[str, str, int] | None = None) -> int:
    call = [sys.executable, "-c", DIE, *map(str, kill)] if kill else [sys.executable, "-m", "probemap.cli"]
    done = subprocess.run([*call, "run", *words, "--out", str(out)], capture_output=True, text=True)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode


MADE = ("task.json", "answers.jsonl", "verdicts.jsonl", "map.json", "map.csv", "map.png", "map.svg")


def contents(folder: Path) -> dict[str, bytes]:
    shards = sorted((folder / "activations" / "states" / "c").rglob("0"))
    return {name: (folder / name).read_bytes() for name in MADE} | {
        str(p.relative_to(folder)): p.read_bytes() for p in shards if p.is_file()
    }


@pytest.fixture(scope="module")
def whole(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "RUN"
    assert run(words, out) == 0
    return out


@pytest.mark.parametrize(
    "kill",
    [
        ("probemap.run", "Run.append_answers", 4),
        ("probemap.run", "Run.write_judgements", 1),
        ("probemap.capture", "hidden_states", 5),
        ("probemap.activations", "_write_durably", 2),
        ("probemap.probe", "assign_folds", 1),
        ("probemap.map", "ProbeMap.to_json", 1),
        ("probemap.figure", "save_picture", 2),
    ],
    ids=lambda kill: kill[1],
)
def test_killed_in_a_step_and_started_again(
    words: list[str], whole: Path, tmp_path: Path, kill: tuple[str, str, int]
) -> None:
    if kill[1] == "assign_folds":
        kill = ("probemap.map", "assign_folds", 1)
    assert run(words, tmp_path / "RUN", kill) == -signal.SIGKILL
    assert run(words, tmp_path / "RUN") == 0
    assert contents(tmp_path / "RUN") == contents(whole)


def test_killed_at_any_moment_and_started_again(words: list[str], whole: Path, tmp_path: Path) -> None:
    """Killed by the clock, again and again, until it comes through."""
    draw = np.random.default_rng(int(os.environ.get("PROBEMAP_KILL_SEED", "0")))
    kills = 0
    for attempt in range(60):
        call = [sys.executable, "-m", "probemap.cli", "run", *words, "--out", str(tmp_path / "RUN")]
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
    assert run(words, tmp_path / "RUN", ("probemap.run", "Run.append_answers", 4)) == -signal.SIGKILL
    path = tmp_path / "RUN" / "answers.jsonl"
    complete = path.read_bytes()
    assert complete.count(b"\n") == 48
    path.write_bytes(complete[:-700])
    time.sleep(0.01)
    assert run(words, tmp_path / "RUN") == 0
    assert contents(tmp_path / "RUN") == contents(whole)
