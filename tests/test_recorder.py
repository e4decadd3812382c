"""The states recorded during generation equal those of a second forward pass."""

import numpy as np
import pytest
from families import FAMILIES, SUPPORTED, tiny

from probemap.activations.layout import States
from probemap.models.answering import GenerationOptions, Recorder, generate_answers, stop_ids
from probemap.models.engine import GenerationBatch, GenerationRequest, Recording
from probemap.models.forward import hidden_states
from probemap.models.generate import generate_batch
from probemap.models.model import Model
from probemap.models.prompts import Prompt
from probemap.models.recorder import HookRecorder
from probemap.models.transformers_engine import TransformersEngine
from probemap.records import Answer


def prompts(model: Model, n: int = 12) -> list[tuple[str, Prompt]]:
    """Return prompts of random tokens, of different lengths."""
    draw = np.random.default_rng(0)
    size = len(model.tokenizer)
    rows = [tuple(int(t) for t in draw.integers(5, size, int(draw.integers(2, 30)))) for _ in range(n)]
    return [(f"q{i}", Prompt("", ids, ((0, 0),) * len(ids))) for i, ids in enumerate(rows)]


@pytest.mark.parametrize("family", SUPPORTED)
def test_hook_recorder_equals_a_second_pass(family: str) -> None:
    model = tiny(family)
    recorded: dict[str, tuple[Answer, States]] = {}

    def keep(number: int, answers: list[Answer], states: list[States]) -> None:
        recorded.update({a.id: (a, s) for a, s in zip(answers, states, strict=True)})

    options = GenerationOptions(prompt_format="qa", max_new_tokens=9, batch_size=4, temperature=1.5, seed=2)
    recorder = Recorder(Recording(), keep)
    with_recorder = [
        a for b in generate_answers(TransformersEngine(model), prompts(model), options, recorder=recorder) for a in b
    ]
    without_recorder = [a for b in generate_answers(TransformersEngine(model), prompts(model), options) for a in b]
    assert [a.token_ids for a in with_recorder] == [a.token_ids for a in without_recorder], "recording has no effect"
    assert np.allclose(
        np.concatenate([a.logprobs for a in with_recorder]),
        np.concatenate([a.logprobs for a in without_recorder]),
        atol=1e-5,
    )
    assert len({a.stopped for a in with_recorder}) == 2, "some answers ended, some were cut off"
    for answer, states in recorded.values():
        tokens = range(answer.n_prompt - 1, len(answer.token_ids))
        expected = hidden_states(model, [answer], np.array([tokens], np.int32))[0]
        np.testing.assert_allclose(states, expected, atol=2e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_shared_prompts_and_answers_of_different_lengths_do_not_change_the_result(family: str) -> None:
    """Each answer is the same as in a batch of its own, for models with sliding windows, ALiBi or no keys too."""
    model = tiny(family)
    shared = tuple(range(100, 112))
    texts = [Prompt("", (*shared, *p.token_ids), ((0, 0),) * (12 + len(p.token_ids))) for _, p in prompts(model, 5)]
    requests = [GenerationRequest(f"q{i}", texts[i % 5], 2 + 3 * i) for i in range(8)]  # three prompts are repeated
    stops = frozenset[int]()
    engine, recording = TransformersEngine(model), Recording() if family in SUPPORTED else None
    together = list(engine.generate([GenerationBatch(requests)], stop_ids=stops, recording=recording))
    for i, request in enumerate(requests):
        (alone,) = engine.generate([GenerationBatch([request])], stop_ids=stops, recording=recording)
        assert together[i].token_ids == alone.token_ids
        assert together[i].logprobs == pytest.approx(alone.logprobs, abs=1e-4)
        if family in SUPPORTED:
            states, expected = (np.asarray(generation.states) for generation in (together[i], alone))
            np.testing.assert_allclose(states, expected, atol=2e-5)


@pytest.mark.parametrize("ended", ["by its end", "by a line break", ""])
@pytest.mark.parametrize("needed", [True, False])
def test_hook_recorder_reads_the_last_token_only_if_needed(
    needed: bool, ended: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny("llama")
    requests = [GenerationRequest(id_, prompt, max_new_tokens=5) for id_, prompt in prompts(model)[:1]]
    monkeypatch.setattr(Model, "newline_ids", property(lambda self: frozenset()))
    (expected,) = generate_batch(model, requests, stop_ids=stop_ids(model, "qa"))
    end = expected.token_ids[-1]
    assert end not in expected.token_ids[:-1]
    if ended:
        name = "end_ids" if ended == "by its end" else "newline_ids"
        monkeypatch.setattr(Model, name, property(lambda self: frozenset({end})))
    calls: list[bool] = []

    def needs_last(ended: bool) -> bool:
        calls.append(ended)
        return needed

    recorder = HookRecorder(model, "resid", None, needs_last)
    (answer,) = generate_batch(model, requests, stop_ids=stop_ids(model, "qa"), recorder=recorder)
    assert (answer.token_ids, answer.stopped) == (expected.token_ids, bool(ended))
    assert calls == [bool(ended)]
    assert answer.states is not None
    assert answer.states.shape[1] == 5 + needed, (
        "one pass over the prompt and one per token, the last token excepted unless it is needed"
    )
