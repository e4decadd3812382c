"""Inline capture fills the store with the states of a second pass, and other states are computed."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running import execute
from typer.testing import CliRunner

from probemap.activations import layout
from probemap.activations.layout import States
from probemap.activations.store import ActivationStore
from probemap.cli.main import app
from probemap.models import transformers_engine
from probemap.models.forward import hidden_states
from probemap.records import ModelError, RunError
from probemap.runs.definitions import ANSWER, CAPTURE, JUDGE
from probemap.runs.options import CaptureOptions
from probemap.runs.run import Run

ROWS = [{"id": f"q{i}", "question": f"What is {i} + 5?", "answers": [str(i + 5)]} for i in range(24)]
OPTIONS_OF_CAPTURE: dict[str, Any] = {"positions": "last_q,first_answer,-2,-1", "layers": "0,2..3"}
OPTIONS: dict[str, Any] = {"max_new_tokens": 6, "batch_size": 5, "temperature": 1.0}


def answered_run(folder: Path, model: Path, **options: Any) -> Run:
    folder.mkdir()
    (folder / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    run = execute(ANSWER, folder / "run", data=folder / "q.jsonl", model=model, **{**OPTIONS, **options})
    execute(JUDGE, run, locator="rules")
    return run


def states_of(run: Run) -> States:
    store = ActivationStore.open(run.path / "activations")
    return np.stack([store.read_layer(layer) for layer in store.layout.layer_numbers], axis=1)


@pytest.fixture
def second_passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record the number of answers in each batch of a second pass."""
    batch_sizes: list[int] = []
    original = hidden_states

    def counted(model: Any, answers: Any, *rest: Any, **options: Any) -> States:
        batch_sizes.append(len(answers))
        return original(model, answers, *rest, **options)

    monkeypatch.setattr(transformers_engine, "hidden_states", counted)
    monkeypatch.setattr(layout, "SHARD_BYTES", 3 * 4 * 32 * 4 * 7)  # seven answers per shard
    return batch_sizes


@pytest.fixture
def inline_run(chat_folder: Path, tmp_path: Path) -> Run:
    return answered_run(tmp_path / "one", chat_folder, inline=CaptureOptions(**OPTIONS_OF_CAPTURE))


def test_inline_capture_equals_a_second_pass(
    inline_run: Run, chat_folder: Path, tmp_path: Path, second_passes: list[int]
) -> None:
    execute(CAPTURE, inline_run, **OPTIONS_OF_CAPTURE)
    assert second_passes == []
    assert not inline_run.inline_states.exists(), "the states are in the store"
    second_run = answered_run(tmp_path / "two", chat_folder)
    assert not second_run.inline_states.exists()
    execute(CAPTURE, second_run, **OPTIONS_OF_CAPTURE)
    assert sum(second_passes) >= 24
    ids = [[a.token_ids for a in run.answers] for run in (inline_run, second_run)]
    assert ids[0] == ids[1]
    states, expected = states_of(inline_run), states_of(second_run)
    assert states.shape == (24, 3, 4, 32)
    np.testing.assert_array_equal(np.isnan(states), np.isnan(expected))
    distance = np.linalg.norm(states - expected, axis=-1) / np.linalg.norm(expected, axis=-1)
    assert np.nanmax(distance) < 1e-5


@pytest.mark.parametrize(
    "options",
    [
        {"positions": "last_q,-3", "layers": "0,2..3"},
        {"positions": OPTIONS_OF_CAPTURE["positions"]},
        {"positions": OPTIONS_OF_CAPTURE["positions"], "site": "mlp_out"},
    ],
)
def test_cached_reader_computes_states_of_other_layers_sites_and_positions(
    inline_run: Run, options: dict[str, Any], second_passes: list[int]
) -> None:
    execute(CAPTURE, inline_run, **options)
    assert sum(second_passes) >= 24
    assert not np.isnan(states_of(inline_run)[:, :, 0]).any()


def test_cached_reader_computes_states_of_damaged_files(inline_run: Run, second_passes: list[int]) -> None:
    files = sorted(inline_run.inline_states.iterdir())
    assert len(files) == 5
    files[0].write_bytes(b"no tensors")
    content = files[1].read_bytes()
    files[1].write_bytes(content[:-7])
    execute(CAPTURE, inline_run, **OPTIONS_OF_CAPTURE)
    assert sum(second_passes) == 10
    assert not np.isnan(states_of(inline_run)[:, :, 0]).any()


def test_cached_reader_computes_states_of_an_edited_answer(inline_run: Run, second_passes: list[int]) -> None:
    """Cached states are found by token ids, not by the id of the answer."""
    lines = (inline_run.path / "answers.jsonl").read_text().splitlines()
    row = json.loads(lines[3])
    row["token_ids"][2] += 1
    lines[3] = json.dumps(row)
    (inline_run.path / "answers.jsonl").write_text("\n".join(lines) + "\n")
    execute(JUDGE, inline_run, redo=True, locator="rules")
    execute(CAPTURE, inline_run, **OPTIONS_OF_CAPTURE)
    assert second_passes == [1]


def test_cached_reader_ignores_states_of_another_dtype(inline_run: Run, second_passes: list[int]) -> None:
    execute(CAPTURE, inline_run, dtype="bfloat16", **OPTIONS_OF_CAPTURE)
    assert sum(second_passes) >= 24


def test_answer_redo_sets_inline_states_aside(inline_run: Run, chat_folder: Path, second_passes: list[int]) -> None:
    data = inline_run.path.parent / "q.jsonl"
    execute(ANSWER, inline_run.path, redo=True, data=data, model=chat_folder, **OPTIONS)
    assert not inline_run.inline_states.exists()
    assert (inline_run.path / "earlier" / "001-answer" / "during").is_dir()


def test_answer_captures_inline_for_open_questions(chat_folder: Path, tmp_path: Path, second_passes: list[int]) -> None:
    rows = [{"id": f"q{i}", "question": "Who?", "answers": ["Ann"]} for i in range(3)]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options: dict[str, Any] = {"data": tmp_path / "q.jsonl", "model": chat_folder, "max_new_tokens": 3}
    run = execute(ANSWER, tmp_path / "run", inline=CaptureOptions(**OPTIONS_OF_CAPTURE), **options)
    assert run.inline_states.exists()
    execute(JUDGE, run)
    execute(CAPTURE, run, **OPTIONS_OF_CAPTURE)
    assert second_passes == []


def test_answer_rejects_inline_capture_with_an_endpoint_or_unknown_layers(chat_folder: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"endpoint": "http://x/v1", "inline": CaptureOptions(**OPTIONS_OF_CAPTURE)}
    with pytest.raises(RunError, match="states cannot be recorded during generation, because no answers are"):
        execute(ANSWER, tmp_path / "run", data="cities", model=chat_folder, **options)
    options = {"n": 4, "inline": CaptureOptions(layers="0..9")}
    with pytest.raises(ModelError, match=r"layers out of range: '0\.\.9'\nhint: this model has layers 0 to 3"):
        execute(ANSWER, tmp_path / "run", data="cities", model=chat_folder, **options)


def test_run_needs_no_second_pass(chat_folder: Path, tmp_path: Path, second_passes: list[int]) -> None:
    folder = tmp_path / "x"
    folder.mkdir()
    (folder / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    command = ["answer", str(folder / "q.jsonl"), "--model", str(chat_folder), "--out", str(folder / "run")]
    assert CliRunner().invoke(app, command).exit_code == 0
    shutil.rmtree(folder / "run")
    command = ["run", *command[1:]]
    result = CliRunner().invoke(app, command)
    assert "a map requires both correct and incorrect answers" in str(result.exception), (
        "the random model is never correct"
    )
    assert second_passes == []
    assert ActivationStore.open(folder / "run" / "activations").missing_shards() == []
