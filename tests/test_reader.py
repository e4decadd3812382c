"""A store is filled shard by shard, resumed, and written while the next shard is computed."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from families import fill, some_answers

from probemap.activations.layout import Layout
from probemap.activations.memory import MemoryStore
from probemap.activations.reader import fill_store, layout_for
from probemap.activations.store import ActivationStore
from probemap.models.forward import hidden_states
from probemap.models.model import Model
from probemap.models.transformers_engine import TransformersEngine
from probemap.positions import token_indices
from probemap.records import StoreError

NAMES = ("last_q", "first_answer", "-3", "-1", "-20")


def test_fill_store_resumes_and_computes_the_same_bytes(chat_model: Model, tmp_path: object) -> None:
    answers = some_answers(chat_model, 10)
    indices = token_indices(answers, [None] * 10, NAMES)
    layout = replace(layout_for(TransformersEngine(chat_model), answers, indices, NAMES), shard_rows=4)
    store = ActivationStore.create(f"{tmp_path}/store", layout)
    fill(store, chat_model, answers, indices, batch_size=3)
    states = np.stack([store.read_layer(k) for k in range(4)], axis=1)
    np.testing.assert_allclose(states, hidden_states(chat_model, answers, indices), atol=2e-5)

    store.set_aside(1)
    counts: list[int] = []
    fill(store, chat_model, answers, indices, batch_size=3, progress=lambda done, total: counts.append(done))
    assert counts == [9, 10], "only the four answers of shard 1 were captured again, in batches of 3 and 1"
    np.testing.assert_array_equal(np.stack([store.read_layer(k) for k in range(4)], axis=1), states)

    memory = MemoryStore(layout)
    fill(memory, chat_model, answers, indices, batch_size=3)
    np.testing.assert_array_equal(memory.values, states)
    assert memory.missing_shards() == []


class BlockingStore:
    """A reader and a store in one: the write of a shard waits until the next shard is being read."""

    def __init__(self, layout: Layout) -> None:
        self.layout, self.started, self.events = layout, threading.Semaphore(0), list[str]()

    def missing_shards(self) -> list[int]:
        return [0, 2, 3]

    def read_shards(self, shards: list[int], progress: Callable[[int], None]) -> Iterator[tuple[str, list[str]]]:
        for number, shard in enumerate(shards, start=1):
            self.events.append(f"read {shard}")
            self.started.release()
            progress(2 * number)
            yield "states", []

    def input_embeddings(self, shard: int) -> None:
        pass

    def write_shard(self, shard: int, states: str, skipped: list[str], input_embeddings: None) -> None:
        if shard == 3:
            raise StoreError("the disk is full")
        self.started.acquire()  # the read of this shard
        assert self.started.acquire(timeout=20), "the next shard is not read while this one is written"
        self.started.release()
        self.events.append(f"written {shard}")


def test_fill_store_writes_a_shard_while_the_next_one_is_read() -> None:
    layout = Layout(n=8, n_layers=1, positions=("-1",), d=2, site="resid", dtype="float32", shard_rows=2, made_from="")
    store: Any = BlockingStore(layout)
    counts: list[int] = []
    shards = fill_store(store, store, [0, 1, 2, 3], lambda done, total: counts.append(done))
    committed: list[int] = []
    with pytest.raises(StoreError, match="the disk is full"):
        committed.extend(shards)
    assert committed == [0, 1, 2], "each after it is committed, including the shard that was not missing"
    assert store.events == ["read 0", "read 2", "written 0", "read 3", "written 2"]
    assert counts == [4, 6, 8]
