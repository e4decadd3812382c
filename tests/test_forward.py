"""Hidden states are those of the requested tokens at the requested layers, in any batch and with any padding."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from families import SUPPORTED, some_answers, tiny

from probemap.models.answering import GenerationOptions, generate_answers
from probemap.models.forward import hidden_states
from probemap.models.hooks import find_blocks
from probemap.models.model import Model
from probemap.models.prompts import make_prompt
from probemap.models.transformers_engine import TransformersEngine
from probemap.positions import token_indices
from probemap.records import StoreError
from probemap.tasks.loading import load_task

NAMES = ("last_q", "first_answer", "-3", "-1", "-20")


def left_padded(rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, rows))
    ids = torch.tensor([[*[1] * (width - len(row)), *row] for row in rows])
    mask = torch.tensor([[*[0] * (width - len(row)), *[1] * len(row)] for row in rows])
    return ids, mask


@pytest.mark.parametrize("family", SUPPORTED)
def test_hidden_states_equal_those_of_transformers_before_the_final_norm(family: str) -> None:
    model = tiny(family)
    answers = some_answers(model)
    indices = token_indices(answers, [None] * len(answers), NAMES)
    states = hidden_states(model, answers, indices)
    assert states.shape == (9, 3, 5, 32)
    assert states.dtype == np.float32
    for row, answer in enumerate(answers):
        with torch.inference_mode():
            expected = model.network(torch.tensor([answer.token_ids]), output_hidden_states=True).hidden_states
        for column, index in enumerate(indices[row]):
            if index < 0:
                assert np.isnan(states[row, :, column]).all()
                continue
            for layer in range(2):  # expected[0] is the embedding, expected[-1] is taken after the final norm
                np.testing.assert_allclose(states[row, layer, column], expected[layer + 1][0, index], atol=2e-5)
            assert not np.allclose(states[row, 2, column], expected[3][0, index], atol=1e-3)


@pytest.mark.parametrize("family", SUPPORTED)
def test_hidden_states_differ_between_neighbouring_tokens(family: str) -> None:
    """If an index were off by one, the states would differ by far more than the tolerance of the other tests."""
    model = tiny(family)
    answers = some_answers(model)
    indices = token_indices(answers, [None] * len(answers), ("-2",))
    states = hidden_states(model, answers, indices)
    for shift in (-1, 1):
        shifted = hidden_states(model, answers, indices + np.int32(shift))
        assert (np.abs(states - shifted).max(axis=(1, 2, 3)) > 1e-2).all()


@pytest.mark.parametrize("family", SUPPORTED)
def test_hidden_states_are_the_same_in_any_batch_and_with_left_padding(family: str) -> None:
    model = tiny(family)
    answers = some_answers(model)
    indices = token_indices(answers, [None] * len(answers), NAMES)
    batched = hidden_states(model, answers, indices)
    single = np.concatenate([hidden_states(model, [a], indices[i : i + 1]) for i, a in enumerate(answers)])
    np.testing.assert_allclose(batched, single, atol=2e-5)

    ids, mask = left_padded([a.token_ids for a in answers])
    position_ids = (mask.cumsum(-1) - 1).clamp(min=0)
    layers: list[torch.Tensor] = []
    handles = [
        block.register_forward_hook(lambda m, i, o: layers.append(o[0] if isinstance(o, tuple) else o))
        for block in find_blocks(model.network)
    ]
    with torch.inference_mode():
        model.network(ids, attention_mask=mask, position_ids=position_ids)
    for handle in handles:
        handle.remove()
    for row, answer in enumerate(answers):
        padding = ids.shape[1] - len(answer.token_ids)
        for column, index in enumerate(indices[row]):
            if index >= 0:
                expected = np.stack([states[row, padding + index].numpy() for states in layers])
                np.testing.assert_allclose(batched[row, :, column], expected, atol=2e-5)


def test_hidden_states_of_a_real_model_are_the_same_in_batches_of_1_and_32(smollm: Model) -> None:
    task = load_task("cities", n=32, seed=2)
    prompts = [(e.id, make_prompt(smollm, task, e, "chat")) for e in task.examples]
    options = GenerationOptions(prompt_format="chat", max_new_tokens=12)
    answers = [a for b in generate_answers(TransformersEngine(smollm), prompts, options) for a in b]
    indices = token_indices(answers, [None] * 32, ("last_q", "-8", "-1"))
    rows = range(0, 32, 4)
    batched = hidden_states(smollm, answers, indices)[rows]
    single = np.concatenate([hidden_states(smollm, [answers[i]], indices[i : i + 1]) for i in rows])
    scale = np.nanmax(np.abs(single), axis=-1, keepdims=True)
    assert np.nanmax(np.abs(batched - single) / np.maximum(scale, 1)) < 1e-4


def test_hidden_states_rejects_a_state_that_is_not_finite(chat_folder: object) -> None:
    from probemap.models.model import load_model

    model = load_model(str(chat_folder))
    with torch.no_grad():
        model.network.model.layers[2].mlp.down_proj.weight.fill_(float("inf"))
    answers = some_answers(model, 2)
    indices = token_indices(answers, [None] * 2, ("-1",))
    with pytest.raises(StoreError, match=r"answer 'a0' at layer 2 is not finite in float32\nhint: load the model"):
        hidden_states(model, answers, indices)
