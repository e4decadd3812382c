"""Batches hold similar lengths, keep to their budget, and are halved where memory runs out."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import fill, some_answers
from hypothesis import given
from hypothesis import strategies as st

from probemap.activations import reader
from probemap.activations.forward import hidden_states
from probemap.activations.reader import layout_for
from probemap.activations.store import ActivationStore
from probemap.models.batching import batches, run_with_halving
from probemap.models.model import Model
from probemap.positions import token_indices


def test_batches_are_made_of_similar_lengths_the_longest_first() -> None:
    assert batches([3, 9, 3, 5, 9], 2) == [[1, 4], [3, 0], [2]]
    assert batches([], 4) == []
    assert batches([3, 9, 3, 5, 9], 4, batch_tokens=10) == [[1], [4], [3, 0], [2]]
    assert batches([50], 4, batch_tokens=10) == [[0]], "one row may hold more"


@given(st.lists(st.integers(1, 60), max_size=40), st.integers(1, 9), st.integers(1, 200))
def test_every_row_is_in_one_batch_and_no_batch_is_too_large(lengths: list[int], size: int, tokens: int) -> None:
    made = batches(lengths, size, tokens)
    assert sorted(i for batch in made for i in batch) == list(range(len(lengths)))
    for batch in made:
        assert len(batch) <= size
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= tokens


@pytest.mark.parametrize(
    "error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")]
)
def test_rows_are_halved_until_they_fit(error: Exception) -> None:
    tried: list[int] = []
    told: list[str] = []

    def work(rows: list[int]) -> list[int]:
        tried.append(len(rows))
        if len(rows) > 8 or 13 in rows:
            raise error
        return [10 * i for i in rows]

    made = list(run_with_halving(list(range(32)), work, told.append))
    assert [i for rows, _ in made for i in rows] == list(range(32)), "in order, all of them"
    assert all(values == [10 * i for i in rows] for rows, values in made if values is not None)
    assert [rows for rows, values in made if values is None] == [[13]], "not even alone"
    assert tried[:3] == [32, 16, 8]
    assert told[0] == "32 rows at once do not fit the memory: trying 16"


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    def work(rows: list[int]) -> None:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        list(run_with_halving([1, 2], work, lambda text: None))


def test_a_capture_that_runs_out_of_memory_finishes(
    chat_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = some_answers(chat_model, 12)
    indices = token_indices(answers, [None] * 12, ("last_q", "-1"))

    def filled(name: str) -> np.ndarray:
        store = ActivationStore.create(tmp_path / name, layout_for(chat_model, answers, indices, ("last_q", "-1")))
        told: list[str] = []
        fill(store, chat_model, answers, indices, batch_size=12, log=told.append)
        texts.extend(told)
        return np.stack([store.read(layer, "-1") for layer in range(store.layout.n_layers)])

    texts: list[str] = []
    whole = filled("whole")
    assert texts == []
    plain = hidden_states

    def scarce(model: Model, some: list[Any], *rest: Any, **options: Any) -> Any:
        if len(some) > 3 or any(a.id == "a7" for a in some):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return plain(model, some, *rest, **options)

    monkeypatch.setattr(reader, "hidden_states", scarce)
    scant = filled("scant")
    rest = [i for i in range(12) if i != 7]
    np.testing.assert_allclose(scant[:, rest], whole[:, rest], atol=1e-5)
    assert np.isnan(scant[:, 7]).all()
    assert "12 rows at once do not fit the memory: trying 6" in texts
    assert any(text.startswith("'a7' alone") and "hint:" in text for text in texts)
    assert '"left_out": ["a7"]' in (tmp_path / "scant" / "commits" / "00000.json").read_text()
