"""Attention weights equal those of transformers, and computing them has no side effects."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from families import SUPPORTED, some_answers, tiny
from running import execute
from test_workers import alone as alone
from test_workers import cluster as cluster

from probemap.activations.attention import attention_received
from probemap.activations.store import ActivationStore
from probemap.models.forward import hidden_states
from probemap.models.model import Model
from probemap.positions import resolve, token_indices
from probemap.records import Answer, ModelError, RunError, Span
from probemap.runs.definitions import ATTENTION
from probemap.runs.run import Run

POSITIONS = ("last_q", "exact_answer_first", "-1")


def spans_of(answers: list[Answer]) -> list[Span | None]:
    """Return a span of two tokens inside each answer, and None for the second answer."""
    spans: list[Span | None] = [Span(a.n_prompt + 1, a.n_prompt + 3, "x") for a in answers]
    spans[1] = None
    return spans


def reference_weights(model: Model, answer: Answer) -> torch.Tensor:
    """Return the weights that transformers computes for one answer, of shape (n_layers, tokens, tokens)."""
    model.network.set_attn_implementation("eager")
    with torch.inference_mode():
        output = model.network(torch.tensor([answer.token_ids]), output_attentions=True, use_cache=False)
    return torch.stack([weights[0].mean(0) for weights in output.attentions])


@pytest.mark.parametrize("kind", [kind for kind in SUPPORTED if kind != "falcon"])
def test_attention_received_equals_the_weights_of_transformers(kind: str) -> None:
    model = tiny(kind)
    answers = some_answers(model, 5)
    spans = spans_of(answers)
    indices = token_indices(answers, spans, POSITIONS)
    received = attention_received(model, answers, indices, spans)
    assert received.shape == (5, 3, 3, 2)
    for row, (answer, span) in enumerate(zip(answers, spans, strict=True)):
        reference = reference_weights(model, answer)
        assert torch.allclose(reference.sum(-1), torch.ones(3, len(answer.token_ids)), atol=1e-5)
        for column, name in enumerate(POSITIONS):
            index = resolve(name, answer, span)
            if index is None:
                assert np.isnan(received[row, :, column]).all()
                continue
            np.testing.assert_allclose(received[row, :, column, 0], reference[:, -1, index], atol=1e-6)
            if span is None:
                assert np.isnan(received[row, :, column, 1]).all()
            else:
                expected = reference[:, span.start : span.stop, index].mean(1)
                np.testing.assert_allclose(received[row, :, column, 1], expected, atol=1e-6)


def test_attention_received_is_zero_after_the_query_token() -> None:
    model = tiny("llama")
    answers = some_answers(model, 3)
    spans: list[Span | None] = [Span(a.n_prompt, a.n_prompt + 1, "x") for a in answers]
    received = attention_received(model, answers, token_indices(answers, spans, ("-1",)), spans)
    assert (received[:, :, 0, 0] > 0).all()
    assert (received[:, :, 0, 1] == 0).all()


def test_attention_received_restores_the_attention_implementation() -> None:
    model = tiny("llama")
    answers = some_answers(model, 3)
    indices = token_indices(answers, [None] * 3, ("last_q", "-1"))
    before, implementation = hidden_states(model, answers, indices), model.network.config._attn_implementation
    attention_received(model, answers, indices, [None] * 3)
    assert model.network.config._attn_implementation == implementation != "eager"
    np.testing.assert_array_equal(hidden_states(model, answers, indices), before)


def test_attention_received_rejects_a_model_without_attention() -> None:
    model = tiny("mamba")
    answers = some_answers(model, 2)
    with pytest.raises(ModelError, match="0 modules with query layers"):
        attention_received(model, answers, token_indices(answers, [None] * 2, ("-1",)), [None] * 2)


def test_attention_received_rejects_weights_that_the_model_does_not_use() -> None:
    model = tiny("falcon")
    answers = some_answers(model, 2)
    with pytest.raises(ModelError, match="FalconAttention at block 0 does not return its attention weights"):
        attention_received(model, answers, token_indices(answers, [None] * 2, ("-1",)), [None] * 2)


def test_attention_step_writes_a_store(alone: Run, tmp_path: Path) -> None:
    run = Run(shutil.copytree(alone.path, tmp_path / "run"))
    execute(ATTENTION, run, positions="last_q,-1")
    store = ActivationStore.open(run.path / "attention")
    assert (store.layout.site, store.layout.d, store.layout.positions) == ("attention", 2, ("last_q", "-1"))
    weights = store.read_layer(0)
    assert ((weights[..., 0] > 0) & (weights[..., 0] < 1)).all()
    assert np.isnan(weights[..., 1]).all(), "the answers have no exact answer"
    content_hash = store.content_hash()
    execute(ATTENTION, run, positions="last_q,-1")
    with pytest.raises(RunError, match="positions was"):
        execute(ATTENTION, run, positions="-1")
    execute(ATTENTION, run, redo=True, positions="last_q,-1", batch_size=5)
    assert ActivationStore.open(run.path / "attention").content_hash() == content_hash
