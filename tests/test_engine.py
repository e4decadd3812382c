"""Answers and states do not depend on the order in which an engine returns its results."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from families import some_answers
from typer.testing import CliRunner

from probemap.activations.memory import MemoryStore
from probemap.activations.reader import Reader, fill_store, layout_for
from probemap.cli.main import app
from probemap.models.answering import GenerationOptions, Recorder, generate_answers
from probemap.models.engine import Generation, Reading, Recording, States
from probemap.models.model import Model, load_model
from probemap.models.p_true import score_p_true
from probemap.models.prompts import task_prompts
from probemap.models.transformers_engine import TransformersEngine
from probemap.positions import token_indices
from probemap.records import Answer, Example, ModelError, Task
from probemap.runs.plan import Context

TASK = Task(
    "t", tuple(Example(f"q{i}", "Why? " * (1 + 3 * i % 7), ("x",)) for i in range(11)), "open", max_new_tokens=5
)


class Backwards(TransformersEngine):
    """An engine that returns the last result first."""

    def generate(self, *args: Any, **options: Any) -> Iterator[Generation]:
        yield from reversed(list(super().generate(*args, **options)))

    def read(self, *args: Any, **options: Any) -> Iterator[Reading]:
        yield from reversed(list(super().read(*args, **options)))


def test_answers_do_not_depend_on_the_order_of_results(chat_model: Model) -> None:
    options = GenerationOptions(prompt_format="chat", max_new_tokens=5, batch_size=3, temperature=1.0, seed=4)
    results = []
    for engine in (TransformersEngine(chat_model), Backwards(chat_model)):
        saved: list[tuple[int, list[Answer], list[States]]] = []
        recorder = Recorder(Recording(layers=[1, 3]), lambda *batch, saved=saved: saved.append(batch))
        prompts = task_prompts(chat_model, TASK, "chat")
        answers = list(generate_answers(engine, prompts, options, batch_numbers=[1, 3], recorder=recorder))
        assert [number for number, _, _ in saved] == [1, 3]
        assert [batch for _, batch, _ in saved] == answers
        results.append((answers, [states for _, _, batch in saved for states in batch]))
    assert results[0][0] == results[1][0]
    assert [len(batch) for batch in results[0][0]] == [3, 2]
    for states, other in zip(results[0][1], results[1][1], strict=True):
        assert states.shape[0] == 2 and states.shape[2] == 32
        np.testing.assert_array_equal(states, other)


def test_states_do_not_depend_on_the_order_of_results(chat_model: Model) -> None:
    answers = some_answers(chat_model)
    indices = token_indices(answers, [None] * len(answers), ("last_q", "-1"))
    stores = []
    for engine in (TransformersEngine(chat_model), Backwards(chat_model)):
        layout = replace(layout_for(engine, answers, indices, ("last_q", "-1")), shard_rows=4)
        store = MemoryStore(layout)
        reader = Reader(engine=engine, answers=answers, indices=indices, layout=layout, batch_size=3)
        assert list(fill_store(store, reader)) == list(range(layout.n_shards))
        stores.append(np.stack([store.read_layer(layer) for layer in range(4)]))
    np.testing.assert_array_equal(stores[0], stores[1])


def test_p_true_does_not_depend_on_the_order_of_results(chat_model: Model) -> None:
    pairs = [(example, "x" * i) for i, example in enumerate(TASK.examples)]
    forwards, backwards = (
        score_p_true(engine, pairs, batch_size=4) for engine in (TransformersEngine(chat_model), Backwards(chat_model))
    )
    np.testing.assert_array_equal(forwards, backwards)
    assert len(set(forwards)) == len(pairs)


def test_model_without_weights_describes_the_model(chat_folder: Path, chat_model: Model) -> None:
    model = load_model(chat_folder, device="meta")
    assert model.device.type == "meta"
    assert model.source == str(chat_folder)
    names = (
        "label revision dtype weights window n_layers n_embeddings end_ids pad_id template_sha256 newline_ids".split()
    )
    assert {name: getattr(model, name) for name in names} == {name: getattr(chat_model, name) for name in names}
    assert load_model(chat_folder, device="meta", dtype="bfloat16").dtype == "bfloat16"


def test_release_ends_the_engines(chat_model: Model) -> None:
    ended: list[str] = []

    class Ending(TransformersEngine):
        def close(self) -> None:
            ended.append(self.model.label)

    context = Context(engine="vllm")
    context.engines["loader"] = Ending(chat_model)  # type: ignore[index]
    context.release()
    assert (ended, context.engines) == (["tiny-chat"], {})


def test_missing_vllm_is_reported(chat_folder: Path, tmp_path: Path) -> None:
    words = ["answer", "cities", "--model", str(chat_folder), "--out", str(tmp_path / "run"), "--n", "2"]
    call = CliRunner().invoke(app, [*words, "--engine", "vllm"])
    assert isinstance(call.exception, ModelError)
    assert str(call.exception).startswith("vLLM is not installed\nhint: install a tested version in an environment")
    call = CliRunner().invoke(app, [*words, "--engine", "vllm", "--device", "cpu"])
    assert "the device is 'cpu', but the engine vLLM has only the devices auto and spread" in str(call.exception)
    call = CliRunner().invoke(app, [*words, "--engine", "vllm", "--quantize", "4bit"])
    assert "quantize='4bit' applies to transformers only, but the engine is vLLM" in str(call.exception)
    call = CliRunner().invoke(app, [*words, "--engine", "vllm", "--workers", "2"])
    assert "--workers and --gpus-per-worker apply to Ray only" in str(call.exception)
    assert not (tmp_path / "run" / "answers.jsonl").exists()
