"""`capture` on values uses the code path of the capture step, and accepts user-defined positions and sites."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from families import some_answers, tiny

import probemap
from probemap.activations.activations import Activations
from probemap.activations.capture import capture
from probemap.activations.source import as_source
from probemap.activations.store import ActivationStore
from probemap.models import transformers_engine
from probemap.models.forward import hidden_states
from probemap.models.hooks import HookPoint, Site
from probemap.models.input_embeddings import mean_input_embeddings
from probemap.models.model import Model
from probemap.positions import DEFAULT_POSITIONS, POSITIONS, PositionsLike, token_indices
from probemap.records import Answer, DataError, MapError, ModelError, Span, StoreError
from probemap.runs.run import Run


def test_capture_is_public() -> None:
    assert probemap.capture is capture
    assert probemap.Activations is Activations


def test_capture_computes_the_bytes_of_the_capture_step(mapped: Path, chat_model: Model, tmp_path: Path) -> None:
    run = Run.open(mapped)
    stored = ActivationStore.open(run.path / "activations")
    spans = run.spans
    counts: list[tuple[int, int]] = []
    activations = capture(
        chat_model, list(run.answers), spans, progress=lambda done, total: counts.append((done, total))
    )
    assert activations.layout == stored.layout
    for layer in activations.layers:
        np.testing.assert_array_equal(activations.read_layer(layer), stored.read_layer(layer))
    np.testing.assert_array_equal(activations.read(2, "-1"), stored.read(2, "-1"))
    assert counts[-1] == (80, 80)
    on_disk = capture(chat_model, list(run.answers), spans, store=tmp_path / "store")
    assert isinstance(on_disk.store, ActivationStore)
    assert on_disk.store.content_hash() == stored.content_hash()


def test_capture_describes_answers_positions_and_model(chat_model: Model) -> None:
    answers = some_answers(chat_model)
    activations = capture(chat_model, answers, positions="last_q,-2..-1", layers="0,-1")
    assert activations.ids == tuple(a.id for a in answers)
    assert activations.positions == ("last_q", "-2", "-1")
    assert activations.layers == [0, 3]
    assert activations.site == "resid"
    assert (activations.model, activations.revision) == (chat_model.label, chat_model.revision)
    assert (activations.dtype, activations.quantize, activations.template) == (
        "float32",
        "",
        chat_model.template_sha256,
    )
    assert activations.values.shape == (9, 2, 3, 32)
    indices = token_indices(answers, [None] * 9, activations.positions)
    np.testing.assert_allclose(
        activations.values, hidden_states(chat_model, answers, indices, layers=[0, 3]), atol=2e-5
    )
    assert capture(chat_model, answers, layers=[0, -1]).positions == DEFAULT_POSITIONS


def test_capture_is_nan_where_a_position_is_missing(chat_model: Model) -> None:
    answers = some_answers(chat_model, 3)
    spans = [None, Span(answers[1].n_prompt, answers[1].n_prompt + 2, "x"), None]
    activations = capture(chat_model, answers, spans, positions=["exact_answer_last", "-1"])
    assert np.isnan(activations.values[[0, 2], :, 0]).all()
    assert not np.isnan(activations.values[1]).any()
    assert not np.isnan(activations.values[:, :, 1]).any()


def test_capture_keeps_the_mean_input_embedding_of_each_answer(chat_model: Model, tmp_path: Path) -> None:
    first, *others = some_answers(chat_model, 4)  # the last token of each is an end token, unless it is cut off
    second, third, fourth = (replace(answer, stopped=False) for answer in others)
    second, third = replace(second, n_reasoning=2), replace(third, n_reasoning=len(third.produced_ids))
    answers = [first, second, third, fourth]
    weight = chat_model.network.get_input_embeddings().weight.detach().numpy()
    ids = [first.produced_ids[:-1], second.produced_ids[2:], (), fourth.produced_ids]
    expected = np.stack([weight[list(row)].mean(0) if row else np.full(32, np.nan) for row in ids])
    for store in (None, tmp_path / "s"):
        embeddings = capture(chat_model, answers, positions=["-1"], store=store).input_embeddings
        assert embeddings is not None and embeddings.dtype == np.float32
        np.testing.assert_allclose(embeddings, expected, atol=1e-6)
    without_weights = replace(chat_model, network=deepcopy(chat_model.network).to("meta"))
    assert mean_input_embeddings(without_weights, answers) is None


def test_capture_accepts_user_defined_positions(chat_model: Model) -> None:
    answers = some_answers(chat_model, 4)

    def middle(answer: Answer, span: Span | None) -> int | None:
        return None if answer.id == "a2" else (answer.n_prompt + len(answer.token_ids)) // 2

    rules: PositionsLike = {"middle": middle, "last_q": POSITIONS["last_q"], "beyond": lambda answer, span: 10_000}
    activations = capture(chat_model, answers, positions=rules)
    assert activations.positions == ("middle", "last_q", "beyond")
    expected = capture(chat_model, answers, positions=["last_q"])
    np.testing.assert_array_equal(activations.values[:, :, 1:2], expected.values)
    assert np.isnan(activations.values[2, :, 0]).all()
    indices = np.array([[middle(a, None) or 0] for a in answers], np.int32)
    np.testing.assert_allclose(
        activations.values[[0, 1, 3], :, :1], hidden_states(chat_model, answers, indices)[[0, 1, 3]], atol=2e-5
    )
    assert np.isnan(activations.values[:, :, 2]).all()


def test_capture_accepts_a_user_defined_site() -> None:
    model = tiny("llama")
    answers = some_answers(model, 3)

    def up_projection(block: torch.nn.Module, d: int) -> HookPoint:
        return HookPoint(block.get_submodule("mlp.up_proj"), takes_input=False, d=48)

    activations = capture(model, answers, positions=["-1"], site=Site("up", "the up projection", up_projection))
    assert (activations.site, activations.layout.d) == ("up", 48)
    expected = capture(model, answers, positions=["-1"], site="mlp_hidden=mlp.up_proj")
    np.testing.assert_array_equal(activations.values, expected.values)
    with pytest.raises(ModelError, match="'resid' is the name of a built-in site"):
        capture(model, answers, positions=["-1"], site=Site("resid", "another module", up_projection))


def test_capture_resumes_a_store_and_rejects_another_layout(chat_model: Model, tmp_path: Path) -> None:
    answers = some_answers(chat_model, 5)
    first = capture(chat_model, answers, positions=["-1"], store=tmp_path / "s")
    assert isinstance(first.store, ActivationStore)
    content_hash = first.store.content_hash()
    first.store.set_aside(0)
    resumed = capture(chat_model, answers, positions=["-1"], store=tmp_path / "s")
    assert isinstance(resumed.store, ActivationStore)
    assert resumed.store.content_hash() == content_hash
    np.testing.assert_array_equal(resumed.values[:, 1], resumed.read_layer(1))
    with pytest.raises(StoreError, match="contains states with a different layout"):
        capture(chat_model, answers, positions=["-2"], store=tmp_path / "s")


def test_capture_warns_about_an_answer_that_does_not_fit_into_memory(
    chat_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_memory(model: Model, answers: list[Answer], *rest: object, **options: object) -> object:
        if any(a.id == "a1" for a in answers):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return hidden_states(model, answers, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(transformers_engine, "hidden_states", out_of_memory)
    with pytest.warns(RuntimeWarning) as record:
        activations = capture(chat_model, some_answers(chat_model, 3), positions=["-1"])
    assert "the answer is skipped" in str(record[-1].message)
    assert np.isnan(activations.values[1]).all()
    assert not np.isnan(activations.values[[0, 2]]).any()


@pytest.mark.parametrize(
    ("positions", "problem"),
    [
        ({}, "no positions were passed"),
        ({"-1": lambda answer, span: 0}, "'-1' is the name of a built-in position"),
        ({"last_q": lambda answer, span: 0}, "'last_q' is the name of a built-in position"),
        ({"end": -1}, "expected a Position"),
        (["nowhere"], "nowhere"),
        (["-1", "-1"], "-1"),
    ],
)
def test_capture_rejects_invalid_positions(chat_model: Model, positions: object, problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        capture(chat_model, some_answers(chat_model, 2), positions=positions)  # type: ignore[arg-type]


def test_capture_rejects_missing_answers_and_spans(chat_model: Model) -> None:
    with pytest.raises(DataError, match="capture got no answers, expected at least one"):
        capture(chat_model, [])
    with pytest.raises(DataError, match="got 1 spans for 2 answers"):
        capture(chat_model, some_answers(chat_model, 2), [None])


def test_as_source_accepts_activations(chat_model: Model) -> None:
    activations = capture(chat_model, some_answers(chat_model), positions=["last_q", "-1"], layers=[1, 3])
    source = as_source(activations)
    assert (source.n, source.layers, source.positions, source.d) == (9, [1, 3], ["last_q", "-1"], 32)
    np.testing.assert_array_equal(source.read(3), activations.values[:, 1])
    assert source.ids == activations.ids
    assert source.attrs == {"model": chat_model.label, "revision": chat_model.revision, "site": "resid"}
    assert as_source(activations.store).ids is None
    np.testing.assert_array_equal(as_source(activations, [3], ["-1"]).read(3), activations.values[:, 1, 1:])
    with pytest.raises(MapError, match="no states were captured at layer 2\nhint: the captured layers are 1, 3"):
        as_source(activations, [2])
    with pytest.raises(
        MapError, match="no states were captured at position 'first_answer'\nhint: the captured positions are last_q"
    ):
        as_source(activations, None, ["first_answer"])
