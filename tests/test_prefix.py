"""A shared prefix that is computed once does not change the states, and is not used where it would."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from families import SUPPORTED, fill, some_answers, tiny

from probemap.activations.reader import layout_for
from probemap.activations.store import ActivationStore
from probemap.models.engine import Probe
from probemap.models.forward import hidden_states
from probemap.models.model import Model
from probemap.models.prefix import Prefix, shared_prefix
from probemap.models.transformers_engine import TransformersEngine
from probemap.positions import token_indices
from probemap.records import Answer

NAMES = ("last_q", "first_answer", "-3", "-1", "-20")


def with_prefix(answers: Sequence[Answer], length: int = 25) -> list[Answer]:
    """Return the answers with the same tokens in front of each prompt."""
    prefix = tuple(range(10, 10 + length))
    return [replace(a, token_ids=prefix + a.token_ids, n_prompt=a.n_prompt + length) for a in answers]


def incorrect_prefix(model: Model, answers: Sequence[Answer]) -> Prefix:
    """Return a prefix of the same length for different tokens."""
    reordered = [replace(a, token_ids=a.token_ids[:25][::-1] + a.token_ids[25:]) for a in answers]
    prefix = shared_prefix(model, reordered)
    assert prefix is not None
    return prefix


@pytest.mark.parametrize("family", [*SUPPORTED, "bloom"])
def test_hidden_states_are_the_same_with_a_shared_prefix(family: str) -> None:
    model = tiny(family)
    answers = with_prefix(some_answers(model))
    indices = token_indices(answers, [None] * len(answers), NAMES)
    prefix = shared_prefix(model, answers)
    assert prefix is not None
    assert prefix.length == 25
    expected = hidden_states(model, answers, indices)
    for _ in range(2):  # a forward pass leaves the prefix unchanged
        np.testing.assert_allclose(hidden_states(model, answers, indices, prefix=prefix), expected, atol=2e-5)
    states = hidden_states(model, answers, indices, prefix=incorrect_prefix(model, answers))
    assert np.nanmax(np.abs(states - expected)) > 1e-4, "the test would detect an incorrect prefix"


def test_shared_prefix_is_none_where_no_prefix_can_be_shared(chat_model: Model) -> None:
    answers = some_answers(chat_model)
    assert shared_prefix(chat_model, answers) is None, "no common tokens"
    assert shared_prefix(chat_model, with_prefix(answers, 5)) is None, "too short"
    assert shared_prefix(chat_model, with_prefix(answers)[:1]) is None, "one answer"
    assert shared_prefix(tiny("mamba"), with_prefix(answers)) is None, "no keys and values"
    equal_prompts = [replace(a, token_ids=(7,) * 12, n_prompt=10) for a in answers]
    prefix = shared_prefix(chat_model, equal_prompts)
    assert prefix is not None
    assert prefix.length == 9, "the last token of the prompt may be probed"


@pytest.mark.parametrize("incorrect", [False, True])
def test_reader_does_not_use_a_prefix_that_changes_the_states(
    chat_model: Model, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, incorrect: bool
) -> None:
    answers = with_prefix(some_answers(chat_model))
    indices = token_indices(answers, [None] * len(answers), NAMES)
    expected = hidden_states(chat_model, answers, indices)
    prefix = incorrect_prefix(chat_model, answers) if incorrect else shared_prefix(chat_model, answers)
    monkeypatch.setattr("probemap.models.transformers_engine.shared_prefix", lambda model, answers: prefix)
    lengths: list[int] = []
    forward = chat_model.network.base_model.forward

    def counted(*args: Any, **kw: Any) -> Any:
        lengths.append(kw["input_ids"].shape[1])
        return forward(*args, **kw)

    monkeypatch.setattr(chat_model.network.base_model, "forward", counted)
    store = ActivationStore.create(
        f"{tmp_path}/store", layout_for(TransformersEngine(chat_model), answers, indices, NAMES)
    )
    fill(store, chat_model, answers, indices, batch_size=len(answers) - 1)
    stored = np.stack([store.read_layer(layer) for layer in range(4)], axis=1)
    np.testing.assert_allclose(stored, expected, atol=2e-5)
    shortest, *_, longest = sorted(len(a.token_ids) for a in answers)
    n_omitted = 0 if incorrect else 25
    assert lengths[-2:] == [longest - n_omitted, shortest - n_omitted]


def test_single_batch_is_read_without_a_prefix(chat_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probemap.models.transformers_engine.shared_prefix", lambda *_: pytest.fail("a prefix"))
    answers = with_prefix(some_answers(chat_model))
    probe = Probe(indices=token_indices(answers, [None] * len(answers), NAMES))
    batches = [range(len(answers))]
    readings = list(TransformersEngine(chat_model).read(answers, batches=batches, probe=probe))
    assert len(readings) == len(answers)
