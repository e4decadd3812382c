"""States that vLLM extracted are matched by tokens, assigned to the correct layer, and equal captured states."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from extracting_server import write_extracted
from running import execute
from safetensors.torch import save_file

from probemap.activations.store import ActivationStore
from probemap.logger import Logger
from probemap.models.model import Model
from probemap.records import Answer, RunError, StoreError
from probemap.runs.definitions import ANSWER, CAPTURE, JUDGE
from probemap.runs.plan import Context
from probemap.runs.run import Run
from probemap.runs.verify import recompute


@pytest.fixture
def run(chat_folder: Path, tmp_path: Path) -> Run:
    rows = [{"id": f"q{i}", "question": f"What is {i} + 5?", "answers": [str(i + 5)]} for i in range(8)]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = execute(ANSWER, tmp_path / "run", data=tmp_path / "q.jsonl", model=chat_folder, max_new_tokens=6)
    execute(JUDGE, run, locator="none")
    return run


def write_files(model: Model, answers: Sequence[Answer], folder: Path, layers: list[int]) -> Path:
    """Write the files that vLLM would write for all tokens but the last."""
    folder.mkdir()
    for number, answer in enumerate(answers):
        write_extracted(folder / f"request-{number}.safetensors", model, answer.token_ids[:-1], layers)
    return folder


def test_import_states_equals_a_capture(run: Run, chat_model: Model, tmp_path: Path) -> None:
    answers = run.answers
    folder = write_files(chat_model, answers[::-1], tmp_path / "vllm", [1, 3])
    messages: list[str] = []
    execute(
        CAPTURE,
        run,
        Context(logger=Logger(messages.append)),
        vllm=str(folder),
        server_layers="1,3",
        positions="last_q,first_answer,-2,-1",
    )
    assert messages == [
        "8 probed tokens are not in vLLM's files, which omit the last token; they are treated as missing"
    ]
    store = ActivationStore.open(run.path / "activations")
    assert store.layout.layer_numbers == [0, 2]
    assert np.isnan(store.read(2, "-1")).all()
    parity = recompute(run, n=8)
    assert parity.maximum < 1e-5
    imported = {name: store.read(2, name) for name in ("last_q", "first_answer", "-2")}
    execute(CAPTURE, run, redo=True, defaults=True, positions="last_q,first_answer,-2,-1")
    captured = ActivationStore.open(run.path / "activations")
    for name, states in imported.items():
        np.testing.assert_allclose(states, captured.read(2, name), atol=2e-5)


def test_import_states_rejects_files_that_do_not_match(run: Run, chat_model: Model, tmp_path: Path) -> None:
    answers = run.answers
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match="contains no hidden states"):
        execute(CAPTURE, run, vllm=str(tmp_path / "empty"), server_layers="1")
    folder = write_files(chat_model, answers, tmp_path / "vllm", [1, 3])
    with pytest.raises(StoreError, match="the files contain 2 layers, but --server-layers names 1: 1"):
        execute(CAPTURE, run, vllm=str(folder), server_layers="1")
    with pytest.raises(RunError, match="'0,1' is not a list of positive integers in ascending order"):
        execute(
            CAPTURE,
            run,
            vllm=str(folder),
            server_layers="0,1",
        )
    file = folder / "request-3.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:-10])
    with pytest.raises(StoreError, match=r"request-3.safetensors cannot be read"):
        execute(
            CAPTURE,
            run,
            vllm=str(folder),
            server_layers="1,3",
        )
    save_file({"hidden_states": torch.zeros(2, 2, 32), "token_ids": torch.arange(3)}, file)
    with pytest.raises(StoreError, match=r"contains states of shape \(2, 2, 32\) for 3 tokens"):
        execute(
            CAPTURE,
            run,
            vllm=str(folder),
            server_layers="1,3",
        )
    file.unlink()
    with pytest.raises(StoreError, match="1 answers have no file with their tokens, for example 'q3'"):
        execute(
            CAPTURE,
            run,
            vllm=str(folder),
            server_layers="1,3",
        )
