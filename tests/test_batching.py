"""Batches have similar lengths, observe their limits, and are halved when memory runs out."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import fill, some_answers
from hypothesis import given
from hypothesis import strategies as st

from probemap.activations.reader import layout_for
from probemap.activations.store import ActivationStore
from probemap.models import transformers_engine
from probemap.models.batching import batches, default_batch_tokens, run_with_halving
from probemap.models.forward import hidden_states
from probemap.models.model import Model
from probemap.models.transformers_engine import TransformersEngine
from probemap.positions import token_indices


def test_batches_have_similar_lengths_the_longest_first() -> None:
    assert batches([3, 9, 3, 5, 9], 2) == [[1, 4], [3, 0], [2]]
    assert batches([], 4) == []
    assert batches([3, 9, 3, 5, 9], 4, batch_tokens=10) == [[1], [4], [3, 0], [2]]
    assert batches([50], 4, batch_tokens=10) == [[0]], "a single row may exceed the limit"


@given(st.lists(st.integers(1, 60), max_size=40), st.integers(1, 9), st.integers(1, 200))
def test_batches_contain_every_row_once_and_observe_the_limits(lengths: list[int], size: int, tokens: int) -> None:
    plan = batches(lengths, size, tokens)
    assert sorted(i for batch in plan for i in batch) == list(range(len(lengths)))
    for batch in plan:
        assert len(batch) <= size
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= tokens


@pytest.mark.parametrize(
    "error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")]
)
def test_run_with_halving_halves_until_the_rows_fit(error: Exception) -> None:
    sizes: list[int] = []
    messages: list[str] = []

    def run(rows: list[int]) -> list[int]:
        sizes.append(len(rows))
        if len(rows) > 8 or 13 in rows:
            raise error
        return [10 * i for i in rows]

    results = list(run_with_halving(list(range(32)), run, messages.append))
    assert [i for rows, _ in results for i in rows] == list(range(32)), "all rows, in order"
    assert all(values == [10 * i for i in rows] for rows, values in results if values is not None)
    assert [rows for rows, values in results if values is None] == [[13]], "a single row exceeds the memory"
    assert sizes[:3] == [32, 16, 8]
    assert messages[0] == "a batch of 32 rows does not fit in memory; retrying with 16"


def test_run_with_halving_raises_other_errors() -> None:
    def run(rows: list[int]) -> None:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        list(run_with_halving([1, 2], run, lambda text: None))


def test_fill_store_finishes_when_it_runs_out_of_memory(
    chat_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = some_answers(chat_model, 12)
    indices = token_indices(answers, [None] * 12, ("last_q", "-1"))

    messages: list[str] = []

    def filled(name: str) -> np.ndarray:
        store = ActivationStore.create(
            tmp_path / name, layout_for(TransformersEngine(chat_model), answers, indices, ("last_q", "-1"))
        )
        fill(store, chat_model, answers, indices, batch_size=12, log=messages.append)
        return np.stack([store.read(layer, "-1") for layer in range(store.layout.n_layers)])

    expected = filled("unlimited")
    assert messages == []

    def limited_hidden_states(model: Model, batch: list[Any], *args: Any, **options: Any) -> Any:
        if len(batch) > 3 or any(answer.id == "a7" for answer in batch):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return hidden_states(model, batch, *args, **options)

    monkeypatch.setattr(transformers_engine, "hidden_states", limited_hidden_states)
    states = filled("limited")
    fitting = [i for i in range(12) if i != 7]
    np.testing.assert_allclose(states[:, fitting], expected[:, fitting], atol=1e-5)
    assert np.isnan(states[:, 7]).all()
    assert "a batch of 12 rows does not fit in memory; retrying with 6" in messages
    assert any(text.startswith("'a7' (") and "batch of its own" in text and "hint:" in text for text in messages)
    assert '"left_out": ["a7"]' in (tmp_path / "limited" / "commits" / "00000.json").read_text()


def test_default_batch_tokens_are_a_quarter_of_the_memory(chat_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    config = chat_model.network.config
    weights = 4 * sum(parameter.numel() for parameter in chat_model.network.parameters())
    monkeypatch.setattr("probemap.models.batching.memory_limit", lambda: weights + 4 * 700 * 1000)
    # A token needs a key, a value and a recorded state of four bytes per number and layer.
    assert default_batch_tokens(chat_model) == 700 * 1000 // (config.num_hidden_layers * config.hidden_size * 12)
    monkeypatch.setattr("probemap.models.batching.memory_limit", lambda: weights // 2)
    assert default_batch_tokens(chat_model) == 1, "the model itself exceeds the memory"
