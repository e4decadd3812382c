"""Steps of a run on vLLM against the same steps on transformers.  These tests need vLLM: ``make vllm``."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probemap.activations.layout import States
from probemap.activations.store import ActivationStore
from probemap.logger import Logger
from probemap.models.engine import Recording
from probemap.models.loading import Loader
from probemap.models.vllm_engine import VLLMEngine
from probemap.records import ModelError
from probemap.runs.execution import run_step
from probemap.runs.options import CaptureOptions
from probemap.runs.plan import Context
from probemap.runs.run import Run

N = 24
CAPTURE: dict[str, Any] = {"positions": "last_q,first_answer,-2,-1", "layers": "0,2"}


@pytest.fixture(scope="module")
def vllm(chat_folder: Path, engine: VLLMEngine) -> Iterator[Context]:
    context = Context(engine="vllm", engines={Loader(str(chat_folder), dtype="float32"): engine})
    yield context
    assert list(context.engines.values()) == [engine], "no other engine was started"


def answered_run(folder: Path, chat_folder: Path, context: Context, **options: Any) -> Run:
    folder.mkdir()
    rows = [{"id": f"q{i}", "question": f"What is {i} + 5?", "answers": [str(i + 5)]} for i in range(N)]
    (folder / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = Run(folder / "run")
    options = {"max_new_tokens": 6, "batch_size": 5, **options}
    run_step("answer", run, context, data=folder / "q.jsonl", model=chat_folder, **options)
    run_step("judge", run, locator="rules")
    return run


def states_of(run: Run) -> States:
    store = ActivationStore.open(run.path / "activations")
    return np.stack([store.read_layer(layer) for layer in store.layout.layer_numbers], axis=1)


@pytest.fixture(scope="module")
def expected(chat_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = answered_run(tmp_path_factory.mktemp("runs") / "transformers", chat_folder, Context())
    run_step("capture", run, **CAPTURE)
    run_step("p-true", run)
    return run


@pytest.mark.parametrize("inline", [True, False])
def test_run_on_vllm_equals_run_on_transformers(
    inline: bool, vllm: Context, chat_folder: Path, expected: Run, tmp_path: Path
) -> None:
    run = answered_run(tmp_path / "vllm", chat_folder, vllm, inline=CaptureOptions(**CAPTURE) if inline else None)
    assert run.inline_states.exists() == inline
    for answer, other in zip(run.answers, expected.answers, strict=True):
        assert (answer.id, answer.token_ids, answer.text) == (other.id, other.token_ids, other.text)
        assert (answer.offsets, answer.stopped) == (other.offsets, other.stopped)
        assert answer.logprobs == pytest.approx(other.logprobs, abs=1e-4)
    lines = [(r.path / "answers.jsonl").read_text().splitlines() for r in (run, expected)]
    assert [json.loads(line)["id"] for line in lines[0]] == [json.loads(line)["id"] for line in lines[1]]
    run_step("capture", run, vllm, **CAPTURE)
    states, reference = states_of(run), states_of(expected)
    np.testing.assert_array_equal(np.isnan(states), np.isnan(reference))
    assert np.nanmax(np.linalg.norm(states - reference, axis=3) / np.linalg.norm(reference, axis=3)) < 1e-4
    run_step("p-true", run, vllm)
    p_true, reference_p_true = run.p_true(run.answers), expected.p_true(expected.answers)
    assert p_true is not None and p_true == pytest.approx(reference_p_true, abs=1e-5)


def test_states_that_do_not_fit_in_memory_are_computed_after_the_answers(
    vllm: Context, engine: VLLMEngine, chat_folder: Path, expected: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_bytes = 8 * (6 + 1) * 2 * 64 * 4  # running answers, their tokens, layers, width
    assert replace(engine._options, state_bytes=n_bytes).max_running == 8
    for missing in (0, 1):
        monkeypatch.setattr(engine, "_options", replace(engine._options, state_bytes=n_bytes - missing))
        assert engine.can_record(Recording(layers=[0, 2]), 6) == (missing == 0)
    messages: list[str] = []
    context = replace(vllm, logger=Logger(log=messages.append))
    run = answered_run(tmp_path / "run", chat_folder, context, inline=CaptureOptions(**CAPTURE))
    assert not run.inline_states.exists()
    assert "the states of all generated tokens need too much memory: they are computed after the answers" in messages
    run_step("capture", run, vllm, **CAPTURE)
    assert np.nanmax(np.abs(states_of(run) - states_of(expected))) < 1e-3


def test_samples_depend_only_on_the_seed(vllm: Context, chat_folder: Path, expected: Run, tmp_path: Path) -> None:
    texts = []
    for name in ("first", "second"):
        run = answered_run(tmp_path / name, chat_folder, vllm)
        run_step("resample", run, vllm, k=2)
        texts.append((run.path / "resamples.jsonl").read_text())
    assert texts[0] == texts[1]
    assert len(texts[0].splitlines()) == 2 * N


def test_run_can_change_its_engine(vllm: Context, chat_folder: Path, expected: Run, tmp_path: Path) -> None:
    run = answered_run(tmp_path / "run", chat_folder, vllm)
    lines = (run.path / "answers.jsonl").read_text().splitlines(keepends=True)
    (run.path / "answers.jsonl").write_text("".join(lines[:7]))
    run = answered_rest(run)
    assert [answer.token_ids for answer in run.answers] == [answer.token_ids for answer in expected.answers]


def answered_rest(run: Run) -> Run:
    """Return the run after transformers has generated the answers that are missing, from the last complete batch."""
    record = json.loads((run.path / "run.json").read_text())
    record["steps"]["answer"]["done"] = False
    (run.path / "run.json").write_text(json.dumps(record))
    run = Run(run.path)
    run_step("answer", run)
    return run


def test_options_of_transformers_are_rejected(chat_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match="the device is 'cpu', but the engine vLLM has only the devices auto and spread"
    ):
        answered_run(tmp_path / "run", chat_folder, Context(engine="vllm", device="cpu"))
