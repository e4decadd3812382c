"""The captured states are those of the named tokens at the named layers, in any batch and padding."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from families import SUPPORTED, fill, some_answers, tiny

from probemap.activations.forward import hidden_states
from probemap.activations.hooks import find_blocks
from probemap.activations.layout import Layout
from probemap.activations.prefix import Prefix, shared_prefix
from probemap.activations.reader import fill_store, layout_for
from probemap.activations.store import ActivationStore
from probemap.models.generate import generate_answers
from probemap.models.model import Model
from probemap.models.prompts import make_prompt
from probemap.positions import token_indices
from probemap.records import Answer, ModelError, StoreError
from probemap.tasks.loading import load_task

NAMES = ("last_q", "first_answer", "-3", "-1", "-20")


def left_padded(rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, rows))
    pads = [[1] * (width - len(r)) for r in rows]
    ids = torch.tensor([[*p, *r] for p, r in zip(pads, rows, strict=True)])
    ones = [[1] * len(r) for r in rows]
    masks = [[0] * len(p) for p in pads]
    mask = torch.tensor([[*p, *r] for p, r in zip(masks, ones, strict=True)])
    return ids, mask


@pytest.mark.parametrize("kind", SUPPORTED)
def test_hooks_give_the_model_s_own_hidden_states_before_the_final_norm(kind: str) -> None:
    model = tiny(kind)
    answers = some_answers(model)
    indices = token_indices(answers, [None] * len(answers), NAMES)
    got = hidden_states(model, answers, indices)
    assert got.shape == (9, 3, 5, 32)
    assert got.dtype == np.float32
    for row, answer in enumerate(answers):
        with torch.inference_mode():
            own = model.network(torch.tensor([answer.token_ids]), output_hidden_states=True).hidden_states
        for column, index in enumerate(indices[row]):
            if index < 0:
                assert np.isnan(got[row, :, column]).all()
                continue
            for layer in range(2):  # own[0] is the embedding, own[-1] is after the final norm
                np.testing.assert_allclose(got[row, layer, column], own[layer + 1][0, index], atol=2e-5)
            assert not np.allclose(got[row, 2, column], own[3][0, index], atol=1e-3)


@pytest.mark.parametrize("kind", SUPPORTED)
def test_a_shift_by_one_token_is_seen(kind: str) -> None:
    """The canary: were any index off by one, the states would differ by far more than the tolerance."""
    model = tiny(kind)
    answers = some_answers(model)
    indices = token_indices(answers, [None] * len(answers), ("-2",))
    right = hidden_states(model, answers, indices)
    for shift in (-1, 1):
        wrong = hidden_states(model, answers, indices + np.int32(shift))
        assert (np.abs(right - wrong).max(axis=(1, 2, 3)) > 1e-2).all()


@pytest.mark.parametrize("kind", SUPPORTED)
def test_batch_of_one_batch_of_many_and_left_padding_agree(kind: str) -> None:
    model = tiny(kind)
    answers = some_answers(model)
    indices = token_indices(answers, [None] * len(answers), NAMES)
    many = hidden_states(model, answers, indices)
    single = np.concatenate([hidden_states(model, [a], indices[i : i + 1]) for i, a in enumerate(answers)])
    np.testing.assert_allclose(many, single, atol=2e-5)

    ids, mask = left_padded([a.token_ids for a in answers])
    places = (mask.cumsum(-1) - 1).clamp(min=0)
    seen: list[torch.Tensor] = []
    handles = [
        block.register_forward_hook(lambda m, i, o: seen.append(o[0] if isinstance(o, tuple) else o))
        for block in find_blocks(model.network)
    ]
    with torch.inference_mode():
        model.network(ids, attention_mask=mask, position_ids=places)
    for handle in handles:
        handle.remove()
    for row, answer in enumerate(answers):
        shift = ids.shape[1] - len(answer.token_ids)
        for column, index in enumerate(indices[row]):
            if index >= 0:
                left = np.stack([states[row, shift + index].numpy() for states in seen])
                np.testing.assert_allclose(many[row, :, column], left, atol=2e-5)


def test_the_real_model_s_states_agree_between_batches_of_1_and_32(smollm: Model) -> None:
    task = load_task("cities", n=32, seed=2)
    prompts = [(e.id, make_prompt(smollm, task, e, "chat")) for e in task.examples]
    answers = [a for b in generate_answers(smollm, prompts, frame="chat", max_new_tokens=12, batch_size=32) for a in b]
    indices = token_indices(answers, [None] * 32, ("last_q", "-8", "-1"))
    many = hidden_states(smollm, answers, indices)
    single = np.concatenate([hidden_states(smollm, [a], indices[i : i + 1]) for i, a in enumerate(answers)])
    scale = np.nanmax(np.abs(single), axis=-1, keepdims=True)
    assert np.nanmax(np.abs(many - single) / np.maximum(scale, 1)) < 1e-4


def with_head(answers: Sequence[Answer], length: int = 25) -> list[Answer]:
    """The answers behind a beginning that they share."""
    head = tuple(range(10, 10 + length))
    return [replace(a, token_ids=head + a.token_ids, n_prompt=a.n_prompt + length) for a in answers]


def another_beginning(model: Model, answers: Sequence[Answer]) -> Prefix:
    """A prefix as long, of other tokens."""
    swapped = [replace(a, token_ids=a.token_ids[:25][::-1] + a.token_ids[25:]) for a in answers]
    found = shared_prefix(model, swapped)
    assert found is not None
    return found


@pytest.mark.parametrize("kind", [*SUPPORTED, "bloom"])
def test_a_shared_beginning_computed_once_changes_nothing(kind: str) -> None:
    model = tiny(kind)
    answers = with_head(some_answers(model))
    indices = token_indices(answers, [None] * len(answers), NAMES)
    prefix = shared_prefix(model, answers)
    assert prefix is not None
    assert prefix.length == 25
    plain = hidden_states(model, answers, indices)
    for _ in range(2):  # a pass leaves the prefix as it was
        np.testing.assert_allclose(hidden_states(model, answers, indices, prefix=prefix), plain, atol=2e-5)
    other = another_beginning(model, answers)
    assert np.nanmax(np.abs(hidden_states(model, answers, indices, prefix=other) - plain)) > 1e-4, "the canary"


def test_a_beginning_is_shared_only_where_it_can_be(chat_model: Model) -> None:
    answers = some_answers(chat_model)
    assert shared_prefix(chat_model, answers) is None, "nothing in common"
    assert shared_prefix(chat_model, with_head(answers, 5)) is None, "too short"
    assert shared_prefix(chat_model, with_head(answers)[:1]) is None, "one answer"
    assert shared_prefix(tiny("mamba"), with_head(answers)) is None, "no keys and values"
    same = [replace(a, token_ids=(7,) * 12, n_prompt=10) for a in answers]
    prefix = shared_prefix(chat_model, same)
    assert prefix is not None
    assert prefix.length == 9, "the prompt's last token may be probed"


@pytest.mark.parametrize("wrong", [False, True])
def test_a_beginning_that_gives_other_states_is_not_used(
    chat_model: Model, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, wrong: bool
) -> None:
    answers = with_head(some_answers(chat_model))
    indices = token_indices(answers, [None] * len(answers), NAMES)
    plain = hidden_states(chat_model, answers, indices)
    handed = another_beginning(chat_model, answers) if wrong else shared_prefix(chat_model, answers)
    monkeypatch.setattr("probemap.activations.reader.shared_prefix", lambda model, answers: handed)
    lengths: list[int] = []
    forward = chat_model.network.base_model.forward

    def counted(*args: Any, **kw: Any) -> Any:
        lengths.append(kw["input_ids"].shape[1])
        return forward(*args, **kw)

    monkeypatch.setattr(chat_model.network.base_model, "forward", counted)
    store = ActivationStore.create(f"{tmp_path}/store", layout_for(chat_model, answers, indices, NAMES))
    fill(store, chat_model, answers, indices)
    stored = np.stack([store.read_layer(layer) for layer in range(4)], axis=1)
    np.testing.assert_allclose(stored, plain, atol=2e-5)
    longest = max(len(a.token_ids) for a in answers)
    assert lengths[-1] == (longest if wrong else longest - 25)


def test_a_store_is_filled_shard_by_shard_and_resumed(chat_model: Model, tmp_path: object) -> None:
    answers = some_answers(chat_model, 10)
    indices = token_indices(answers, [None] * 10, NAMES)
    layout = replace(layout_for(chat_model, answers, indices, NAMES), shard_rows=4)
    store = ActivationStore.create(f"{tmp_path}/store", layout)
    fill(store, chat_model, answers, indices, batch_size=3)
    whole = np.stack([store.read_layer(k) for k in range(4)], axis=1)
    np.testing.assert_allclose(whole, hidden_states(chat_model, answers, indices), atol=2e-5)

    store.set_aside(1)
    asked: list[int] = []
    fill(store, chat_model, answers, indices, batch_size=3, progress=lambda done, total: asked.append(done))
    assert asked == [9, 10], "only the four answers of shard 1 were captured again, in batches of 3 and 1"
    np.testing.assert_array_equal(np.stack([store.read_layer(k) for k in range(4)], axis=1), whole)


class Slow:
    """A reader and a store in one, whose writing of a shard waits until the next one is read."""

    def __init__(self, layout: Layout) -> None:
        self.layout, self.begun, self.events = layout, threading.Semaphore(0), list[str]()

    def missing_shards(self) -> list[int]:
        return [0, 2, 3]

    def read_shard(self, shard: int, progress: Callable[[int], None]) -> tuple[str, list[str]]:
        self.events.append(f"read {shard}")
        self.begun.release()
        progress(2)
        return "states", []

    def write_shard(self, shard: int, states: str, skipped: list[str]) -> None:
        if shard == 3:
            raise StoreError("the disk is full")
        self.begun.acquire()  # that of this shard
        assert self.begun.acquire(timeout=20), "the next shard is not read while this one is written"
        self.begun.release()
        self.events.append(f"written {shard}")


def test_a_shard_is_written_while_the_next_one_is_read() -> None:
    slow: Any = Slow(
        Layout(n=8, n_layers=1, positions=("-1",), d=2, site="resid", dtype="float32", shard_rows=2, made_from="")
    )
    counted: list[int] = []
    filled = fill_store(slow, slow, [0, 1, 2, 3], lambda done, total: counted.append(done))
    made: list[int] = []
    with pytest.raises(StoreError, match="the disk is full"):
        made.extend(filled)
    assert made == [0, 1, 2], "each when it is committed, the one that was there as well"
    assert slow.events == ["read 0", "read 2", "written 0", "read 3", "written 2"]
    assert counted == [4, 6, 8]


def test_a_state_that_is_not_finite_stops_with_answer_layer_and_hint(chat_folder: object) -> None:
    from probemap.models.model import load_model

    model = load_model(str(chat_folder))
    with torch.no_grad():
        model.network.model.layers[2].mlp.down_proj.weight.fill_(float("inf"))
    answers = some_answers(model, 2)
    indices = token_indices(answers, [None] * 2, ("-1",))
    with pytest.raises(StoreError, match=r"answer 'a0' at layer 2 is not finite in float32\nhint: load the model"):
        hidden_states(model, answers, indices)


def test_a_model_without_blocks_says_what_was_found() -> None:
    network = tiny("llama").network
    network.config.num_hidden_layers = 7
    with pytest.raises(ModelError, match=r"LlamaForCausalLM has no list of 7 blocks; .* found: model.layers \(3\)"):
        find_blocks(network)
