"""The vLLM engine against transformers.  These tests run in an environment with vLLM: ``make vllm``."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from probemap.models.engine import Generation, GenerationBatch, GenerationRequest, Probe, Reading, Recording, States
from probemap.models.forward import hidden_states
from probemap.models.model import Model
from probemap.models.prompts import Prompt
from probemap.models.vllm_engine import VLLMEngine
from probemap.records import Answer, DataError, ModelError

PROMPTS = [[int(i) for i in np.random.default_rng(row).integers(5, 380, 5 + 7 * row)] for row in range(20)]
"""Token ids of prompts with 5 to 138 tokens.  The blocks of the prefix cache have 128 tokens."""
N_NEW = 12


@pytest.fixture(scope="module")
def answers(engine: VLLMEngine) -> list[Generation]:
    """Greedy answers of `N_NEW` tokens, with the states at the last token of the prompt and at all produced tokens."""
    return generate(engine, PROMPTS, recording=Recording())


def start(
    engine: VLLMEngine,
    prompts: list[list[int]],
    *,
    n_new: int = N_NEW,
    temperature: float = 0.0,
    seeds: Sequence[int] = (0,),
    stop_ids: frozenset[int] = frozenset(),
    recording: Recording | None = None,
) -> Iterator[Generation]:
    """Start to generate, with the prompts in one batch, or each prompt in a batch of its own if it has its own seed."""
    requests = [
        GenerationRequest(f"q{row}", Prompt("", tuple(prompt), ()), n_new, temperature)
        for row, prompt in enumerate(prompts)
    ]
    batches = [requests] if len(seeds) == 1 else [[request] for request in requests]
    return engine.generate(
        [GenerationBatch(batch, seed) for batch, seed in zip(batches, seeds, strict=True)],
        stop_ids=stop_ids,
        recording=recording,
    )


def generate(engine: VLLMEngine, prompts: list[list[int]], **options: Any) -> list[Generation]:
    return sorted(start(engine, prompts, **options), key=lambda result: result.row)


def read(engine: VLLMEngine, token_ids: list[list[int]], n_prompt: Sequence[int] = (), **options: Any) -> list[Reading]:
    lengths = n_prompt or [1] * len(token_ids)
    sequences = [sequence(ids, n, f"q{row}") for row, (ids, n) in enumerate(zip(token_ids, lengths, strict=True))]
    results = engine.read(sequences, batches=[range(len(sequences))], **options)
    return sorted(results, key=lambda result: result.row)


def sequence(token_ids: Sequence[int], n_prompt: int = 1, id_: str = "a") -> Answer:
    ids = tuple(token_ids)
    return Answer(id=id_, prompt="", text="", token_ids=ids, n_prompt=n_prompt, offsets=(), logprobs=(), stopped=True)


def reference_states(model: Model, token_ids: list[int], indices: range) -> States:
    """Return the states that transformers computes, as an array of shape (n_layers, len(indices), d)."""
    (states,) = hidden_states(model, [sequence(token_ids)], np.array([indices], np.int32))
    expected: States = states
    return expected


def reference_logprobs(model: Model, token_ids: list[int]) -> torch.Tensor:
    """Return the log-probabilities of all tokens of the vocabulary after each token."""
    with torch.inference_mode():
        logits: torch.Tensor = model.network(torch.tensor([token_ids])).logits[0]
    return logits.log_softmax(-1)


def relative_difference(states: States | None, expected: States) -> float:
    assert states is not None and states.dtype == np.float32 and states.shape == expected.shape
    return float((np.linalg.norm(states - expected, axis=2) / np.linalg.norm(expected, axis=2)).max())


def test_the_engine_process_is_spawned_because_forked_processes_cannot_use_cuda(engine: VLLMEngine) -> None:
    (process,) = engine._core.resources.engine_manager.processes
    assert type(process).__name__ == "SpawnProcess"


def test_engine_describes_the_model(engine: VLLMEngine) -> None:
    assert (engine.model.n_layers, engine.d, engine.max_model_len, engine.model.dtype) == (3, 64, 256, "float32")
    assert engine.model.device.type == "meta"


def test_answers_and_states_are_those_of_transformers(
    engine: VLLMEngine, chat_model: Model, answers: list[Generation]
) -> None:
    assert [answer.row for answer in answers] == list(range(20))
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        token_ids = [*prompt, *answer.token_ids]
        logprobs = reference_logprobs(chat_model, token_ids)[len(prompt) - 1 : -1]
        assert answer.token_ids == tuple(logprobs.argmax(-1).tolist())
        assert answer.logprobs == pytest.approx(logprobs.max(-1).values.tolist(), abs=1e-4)
        assert not answer.stopped
        expected = reference_states(chat_model, token_ids, range(len(prompt) - 1, len(token_ids)))
        assert relative_difference(answer.states, expected) < 1e-4


def test_answers_end_with_a_stop_token(engine: VLLMEngine, answers: list[Generation]) -> None:
    stop_ids = frozenset(answer.token_ids[4] for answer in answers[:10])
    for needs_last in (True, False):
        recording = Recording(needs_last=lambda ended, needs_last=needs_last: needs_last)  # type: ignore[misc]
        stopped = generate(engine, PROMPTS, stop_ids=stop_ids, recording=recording)
        for short, answer in zip(stopped, answers, strict=True):
            ends = [i + 1 for i, token_id in enumerate(answer.token_ids) if token_id in stop_ids]
            n = min(ends, default=N_NEW)
            assert short.token_ids == answer.token_ids[:n]
            assert short.stopped == bool(ends)
            assert len(short.logprobs) == n
            assert answer.states is not None
            assert relative_difference(short.states, answer.states[:, : n + needs_last]) < 1e-4
    assert [a.token_ids for a in generate(engine, PROMPTS, stop_ids=stop_ids)] == [a.token_ids for a in stopped]


def test_stop_token_at_the_limit_has_a_state(engine: VLLMEngine, answers: list[Generation]) -> None:
    recording = Recording(needs_last=lambda ended: ended)
    last = answers[0].token_ids[-1]
    short = answers[0].token_ids.index(last) + 1
    (answer,) = generate(engine, PROMPTS[:1], n_new=short, stop_ids=frozenset({last}), recording=recording)
    assert answer.stopped and answer.states is not None
    assert answer.states.shape == (3, short + 1, 64)


def test_prompts_in_the_prefix_cache_have_all_states(engine: VLLMEngine, chat_model: Model) -> None:
    prompt = PROMPTS[-1]
    prompts = [[*prompt, 7], [*prompt, 8], prompt]
    generate(engine, prompts)
    for ids, answer in zip(prompts, generate(engine, prompts, recording=Recording(layers=[1])), strict=True):
        token_ids = [*ids, *answer.token_ids]
        expected = reference_states(chat_model, token_ids, range(len(ids) - 1, len(token_ids)))
        assert relative_difference(answer.states, expected[[1]]) < 1e-4


def test_given_tokens_are_read(engine: VLLMEngine, chat_model: Model, answers: list[Generation]) -> None:
    sequences = [[*prompt, *answer.token_ids] for prompt, answer in zip(PROMPTS, answers, strict=True)]
    n_prompt = [len(prompt) for prompt in PROMPTS]
    indices = np.array([[n - 1, -1, n + N_NEW - 1, 2] for n in n_prompt], np.int32)
    indices[3] = -1
    probe = Probe(indices=indices, layers=[0, 2])
    results = read(engine, sequences, n_prompt, probe=probe, logprobs=True)
    for row, (result, answer) in enumerate(zip(results, answers, strict=True)):
        assert result.logprobs == pytest.approx(answer.logprobs, abs=1e-4)
        assert result.states is not None and result.states.shape == (2, 4, 64)
        present = [] if row == 3 else [0, 2, 3]
        assert np.isnan(np.delete(result.states, present, axis=1)).all()
        if present:
            expected = reference_states(chat_model, sequences[row], range(len(sequences[row])))
            probed = expected[[0, 2]][:, indices[row, present]]
            assert relative_difference(result.states[:, present], probed) < 1e-4
    only_states = read(engine, sequences, probe=Probe(indices=indices[:, :1], layers=[2]))
    assert all(result.logprobs == () for result in only_states)
    for result, full in zip(only_states, results, strict=True):
        assert result.states is not None and full.states is not None
        assert result.states == pytest.approx(full.states[1:, :1], abs=1e-3, nan_ok=True)
    only_logprobs = read(engine, sequences, n_prompt, logprobs=True)
    assert [result.logprobs for result in only_logprobs] == [
        pytest.approx(result.logprobs, abs=1e-4) for result in results
    ]
    assert all(result.states is None for result in only_logprobs)


def test_log_probabilities_of_next_tokens(engine: VLLMEngine, chat_model: Model) -> None:
    next_ids = [[7, 300 + row] for row in range(20)]
    for prompt, ids, result in zip(PROMPTS, next_ids, read(engine, PROMPTS, next_ids=next_ids), strict=True):
        assert result.next_logprobs == pytest.approx(reference_logprobs(chat_model, prompt)[-1, ids].tolist(), abs=1e-4)
        assert result.states is None and result.logprobs == ()


def test_other_sites_are_rejected(engine: VLLMEngine) -> None:
    assert engine.check_site("resid") == 64
    with pytest.raises(ModelError, match="states at the site 'mlp_out' cannot be recorded in vLLM"):
        engine.check_site("mlp_out")


def test_sampled_answers_depend_only_on_the_seed(engine: VLLMEngine, chat_model: Model) -> None:
    sampled = generate(engine, PROMPTS, temperature=1.0, seeds=range(20))
    part = generate(engine, PROMPTS[5:7], temperature=1.0, seeds=[5, 6])
    assert [a.token_ids for a in part] == [a.token_ids for a in sampled[5:7]]
    same_prompt = generate(engine, [PROMPTS[3]] * 8, temperature=1.0)
    assert len({answer.token_ids for answer in same_prompt}) == 8
    token_ids = [*PROMPTS[3], *same_prompt[0].token_ids]
    logprobs = reference_logprobs(chat_model, token_ids)[len(PROMPTS[3]) - 1 : -1]
    chosen = [float(row[token_id]) for row, token_id in zip(logprobs, same_prompt[0].token_ids, strict=True)]
    assert same_prompt[0].logprobs == pytest.approx(chosen, abs=1e-4)  # at temperature 1 for any temperature
    cold = generate(engine, [PROMPTS[3]] * 8, temperature=0.5)[0]
    token_ids = [*PROMPTS[3], *cold.token_ids]
    logprobs = reference_logprobs(chat_model, token_ids)[len(PROMPTS[3]) - 1 : -1]
    chosen = [float(row[token_id]) for row, token_id in zip(logprobs, cold.token_ids, strict=True)]
    assert cold.logprobs == pytest.approx(chosen, abs=1e-4)


def test_engine_continues_after_an_unfinished_iteration(engine: VLLMEngine, answers: list[Generation]) -> None:
    results = start(engine, PROMPTS, recording=Recording())
    next(results)
    del results
    assert [a.token_ids for a in generate(engine, PROMPTS)] == [a.token_ids for a in answers]


def test_calls_can_be_nested(engine: VLLMEngine, answers: list[Generation]) -> None:
    """The batches of one call are taken while those of other calls are processed."""
    sequences = [[*prompt, *answer.token_ids] for prompt, answer in zip(PROMPTS, answers, strict=True)]
    probe = Probe(indices=np.array([[len(prompt) - 1] for prompt in PROMPTS], np.int32))
    readings: list[Reading] = []
    produced: list[int] = []

    def batches() -> Iterator[GenerationBatch]:
        for row in range(3):
            yield GenerationBatch([GenerationRequest(f"q{row}", Prompt("", tuple(PROMPTS[row]), ()), N_NEW)])
            yield GenerationBatch([])
            readings.extend(read(engine, sequences, probe=probe))
            produced.append(len(tokens))
        while len(finished) < 3:  # nothing to start at the moment
            yield GenerationBatch([])

    tokens: list[tuple[int, int]] = []
    finished: list[Generation] = []

    def on_token(row: int, token_id: int) -> bool:
        tokens.append((row, token_id))
        return True

    for generation in engine.generate(batches(), stop_ids=frozenset(), recording=Recording(), on_token=on_token):
        finished.append(generation)
    assert 0 < produced[0] < produced[1] < produced[2] < 3 * N_NEW
    for generation in finished:
        expected = answers[generation.row]
        assert generation.token_ids == expected.token_ids
        assert [token_id for row, token_id in tokens if row == generation.row] == list(expected.token_ids)
        assert relative_difference(generation.states, expected.states) < 1e-4  # type: ignore[arg-type]
    assert sorted(generation.row for generation in finished) == [0, 1, 2]
    assert len(readings) == 60
    for reading in readings:
        states = answers[reading.row].states
        assert states is not None
        assert relative_difference(reading.states, states[:, :1]) < 1e-4
    with pytest.raises(ModelError, match=r"the engine records layers \[0, 1, 2\], so it cannot record layers \[1\]"):
        for _ in start(engine, PROMPTS, recording=Recording()):
            generate(engine, PROMPTS, recording=Recording(layers=[1]))


def test_answers_end_when_they_are_not_wanted(engine: VLLMEngine, answers: list[Generation]) -> None:
    """The engine stops at once, and returns what it has generated."""
    counts = [0] * len(PROMPTS)

    def on_token(row: int, token_id: int) -> bool:
        assert token_id == answers[row].token_ids[counts[row]]
        counts[row] += 1
        return counts[row] < 1 + row % 5

    requests = [GenerationRequest(f"q{row}", Prompt("", tuple(ids), ()), N_NEW) for row, ids in enumerate(PROMPTS)]
    results = list(
        engine.generate([GenerationBatch(requests)], stop_ids=frozenset(), recording=Recording(), on_token=on_token)
    )
    assert sorted(generation.row for generation in results) == list(range(20))
    for generation in results:
        n = 1 + generation.row % 5
        assert generation.token_ids == answers[generation.row].token_ids[:n]
        assert not generation.stopped
        assert generation.states is not None and generation.states.shape[1] in (n, n + 1)
    assert counts == [1 + row % 5 for row in range(20)]


def test_sequences_that_do_not_fit_are_rejected(engine: VLLMEngine) -> None:
    short, long = generate(engine, [[5], [5] * 250])
    assert (len(short.token_ids), short.error, long.token_ids) == (N_NEW, None, ())
    assert isinstance(long.error, DataError)
    assert str(long.error).startswith("'q1' has 250 tokens, expected between 1 and 244")
    assert len(generate(engine, [[5] * 243], recording=Recording())[0].token_ids) == N_NEW
    with pytest.raises(DataError, match="'q0' has 256 tokens, expected between 1 and 255"):
        read(engine, [[5] * 256], logprobs=True)
    assert read(engine, [[5] * 256], probe=Probe(indices=np.array([[254]], np.int32)))[0].states is not None


@pytest.mark.parametrize("layers", [[], [1, 0], [0, 3]])
def test_invalid_layers_are_rejected(engine: VLLMEngine, layers: list[int]) -> None:
    with pytest.raises(ModelError, match="layers must be in ascending order and between 0 and 2"):
        generate(engine, PROMPTS, recording=Recording(layers=layers))


def test_missing_model_is_reported(chat_model: Model, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="vLLM could not load tiny-chat"):
        VLLMEngine(replace(chat_model, source=str(tmp_path / "nothing")))
