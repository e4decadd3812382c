"""States that vLLM wrote: found by their tokens, put under the right layer, and compared with the model's own."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from probemap.activations.store import ActivationStore
from probemap.logger import Logger
from probemap.models.loading import Loader
from probemap.models.model import Model
from probemap.records import Answer, StoreError
from probemap.runs.integrity import answers_of
from probemap.runs.options import Answering, Capturing, Judging
from probemap.runs.pipeline import answer
from probemap.runs.run import Run
from probemap.runs.steps.capture import capture, import_states
from probemap.runs.steps.judge import judge
from probemap.runs.verify import check


@pytest.fixture
def run(chat_folder: Path, tmp_path: Path) -> Run:
    rows = [{"id": f"q{i}", "question": f"What is {i} + 5?", "answers": [str(i + 5)]} for i in range(8)]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = answer(tmp_path / "q.jsonl", Loader(str(chat_folder)), tmp_path / "run", Answering(max_new_tokens=6))
    judge(made, Judging("none"))
    return made


def extract(model: Model, answers: Sequence[Answer], folder: Path, layers: list[int], short: int = 1) -> Path:
    """What vLLM would write: the residual stream entering each of `layers`, of all tokens but the last `short`."""
    folder.mkdir()
    for number, one in enumerate(answers):
        ids = torch.tensor([one.token_ids[: len(one.token_ids) - short]])
        with torch.inference_mode():
            states = model.network(ids, output_hidden_states=True).hidden_states
        kept = torch.stack([states[k][0] for k in layers], dim=1).contiguous()
        save_file({"hidden_states": kept, "token_ids": ids[0]}, folder / f"request-{number}.safetensors")
    return folder


def test_states_from_vllm_are_those_that_would_be_captured(run: Run, chat_model: Model, tmp_path: Path) -> None:
    answers = answers_of(run, run.task())
    folder = extract(chat_model, answers[::-1], tmp_path / "vllm", [1, 3])
    told: list[str] = []
    import_states(run, folder, [1, 3], positions="last_q,first_answer,-2,-1", logger=Logger(told.append))
    assert told == [
        "8 probed tokens lie behind what vLLM wrote (it leaves out the last token): their positions are missing"
    ]
    store = ActivationStore.open(run.path / "activations")
    assert store.layout.layer_numbers == [0, 2]
    assert np.isnan(store.read(2, "-1")).all()
    found = check(run, n=8)
    assert found.largest < 1e-5
    capture_too = {name: store.read(2, name) for name in ("last_q", "first_answer", "-2")}
    capture(run, Capturing("last_q,first_answer,-2,-1"), redo=True)
    own = ActivationStore.open(run.path / "activations")
    for name, states in capture_too.items():
        np.testing.assert_allclose(states, own.read(2, name), atol=2e-5)


def test_what_does_not_fit_is_refused(run: Run, chat_model: Model, tmp_path: Path) -> None:
    answers = answers_of(run, run.task())
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match="holds no hidden states"):
        import_states(run, tmp_path / "empty", [1])
    folder = extract(chat_model, answers, tmp_path / "vllm", [1, 3])
    with pytest.raises(StoreError, match="the files hold 2 layers, got 1 layer ids: 1"):
        import_states(run, folder, [1])
    with pytest.raises(StoreError, match="the files hold 2 layers, got 2 layer ids: 0, 1"):
        import_states(run, folder, [0, 1])
    file = folder / "request-3.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:-10])
    with pytest.raises(StoreError, match=r"request-3.safetensors cannot be read"):
        import_states(run, folder, [1, 3])
    save_file({"hidden_states": torch.zeros(2, 2, 32), "token_ids": torch.arange(3)}, file)
    with pytest.raises(StoreError, match=r"holds states of shape \(2, 2, 32\) for 3 tokens"):
        import_states(run, folder, [1, 3])
    file.unlink()
    with pytest.raises(StoreError, match="1 answers have no file with their tokens, first 'q3'"):
        import_states(run, folder, [1, 3])
