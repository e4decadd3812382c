"""Detectors and the server on vLLM against the same on transformers.  These tests need vLLM: ``make vllm``."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx2
import openai
import psutil
import pytest
from serving import expected_score, generate_directly, parse_events, serve_scorer, user_messages

from probemap.detectors.detector import Detector
from probemap.detectors.loading import load_scorer
from probemap.detectors.scorer import Scorer
from probemap.models.engine import EngineEndedError, GenerationBatch, GenerationRequest
from probemap.models.model import Model, load_model
from probemap.models.prompts import Prompt
from probemap.models.vllm_engine import VLLMEngine
from probemap.records import DetectorError, Example, TextAnswer

QUESTIONS = [f"What is {i} + {3 * i % 7}?" for i in range(12)]


@pytest.fixture(scope="module")
def scorer(detector: Detector, engine: VLLMEngine) -> Scorer:
    return load_scorer(detector, model=engine)


@pytest.fixture(scope="module")
def reference(detector: Detector, chat_model: Model) -> Scorer:
    """The same detector on transformers."""
    return Scorer(detector, chat_model)


@pytest.fixture(scope="module")
def client(scorer: Scorer) -> Iterator[httpx2.Client]:
    with serve_scorer(scorer) as client:
        yield client


def test_scores_of_given_and_of_new_answers(scorer: Scorer, reference: Scorer) -> None:
    examples = [Example(f"q{i}", question, ("",)) for i, question in enumerate(QUESTIONS)]
    texts = [TextAnswer(example.id, f"It is {i}, I think.", True) for i, example in enumerate(examples)]
    rows = list(zip(examples, texts, strict=True))
    scores, expected = list(scorer.score_rows(rows)), list(reference.score_rows(rows))
    assert [s.p_correct for s in scores] == pytest.approx([s.p_correct for s in expected], abs=1e-3)
    assert len({round(s.p_correct or 0, 4) for s in scores}) > 6
    results, expected_results = scorer.generate(examples), reference.generate(examples)
    assert [r.answer.token_ids for r in results] == [r.answer.token_ids for r in expected_results]
    for result, other in zip(results, expected_results, strict=True):
        assert result.score.p_correct == pytest.approx(other.score.p_correct, abs=1e-3)
        assert result.score.judged_by == other.score.judged_by
        assert result.token_p_correct == pytest.approx(other.token_p_correct, abs=1e-3)


def test_other_weights_are_rejected(detector: Detector, base_folder: Path, engine: VLLMEngine) -> None:
    other = engine.with_model(load_model(base_folder, device="meta"))
    with pytest.raises(DetectorError, match="the detector was fitted for tiny-chat with weights"):
        load_scorer(detector, model=other)


def test_completions_and_streams_equal_those_of_transformers(client: httpx2.Client, reference: Scorer) -> None:
    lengths = [4 + 11 * i for i in range(12)]

    def post(i: int, stream: bool) -> httpx2.Response:
        body = {"messages": user_messages(QUESTIONS[i]), "max_tokens": lengths[i], "stream": stream}
        return client.post("/v1/chat/completions", json=body).raise_for_status()

    with ThreadPoolExecutor(24) as pool:
        complete = [pool.submit(post, i, False) for i in range(12)]
        streamed = [pool.submit(post, i, True) for i in range(12)]
        scored = [
            pool.submit(client.post, "/v1/score", json={"question": question, "answer": "It is 5."})
            for question in QUESTIONS
        ]
    for i, question in enumerate(QUESTIONS):
        expected = generate_directly(reference, question, lengths[i])
        expected_fields = {**expected_score(expected), "p_correct": pytest.approx(expected.score.p_correct, abs=1e-3)}
        (choice,) = complete[i].result().json()["choices"]
        assert choice["message"]["content"] == expected.answer.text
        assert choice["probemap"] == expected_fields
        events = parse_events(streamed[i].result())
        pieces = [event["choices"][0]["delta"].get("content", "") for event in events]
        assert "".join(pieces) == expected.answer.text
        assert events[-1]["choices"][0]["probemap"] == expected_fields
        response = scored[i].result().raise_for_status().json()
        direct = reference.score_text(question, "It is 5.")
        assert response["p_correct"] == pytest.approx(direct.p_correct, abs=1e-3)


def test_several_choices_each_have_a_probability(client: httpx2.Client) -> None:
    api = openai.OpenAI(base_url=f"{client.base_url}v1", api_key="none")
    completion = api.chat.completions.create(
        model="tiny-chat", messages=[{"role": "user", "content": "What is 7 + 5?"}], n=3, temperature=1, max_tokens=20
    )
    assert len({choice.message.content for choice in completion.choices}) == 3
    for choice in completion.choices:
        assert 0 <= choice.model_extra["probemap"]["p_correct"] <= 1  # type: ignore[index]


def test_short_answers_do_not_wait_for_long_ones(client: httpx2.Client, engine: VLLMEngine) -> None:
    body = {"messages": user_messages("What is 7 + 5?"), "max_tokens": 190, "stream": True}
    with client.stream("POST", "/v1/chat/completions", json=body) as response:
        lines = response.iter_lines()
        next(lines)
        short = client.post("/v1/chat/completions", json={"messages": user_messages("What is 1 + 5?"), "max_tokens": 4})
        assert short.json()["usage"]["completion_tokens"] == 4
        assert client.post("/v1/score", json={"question": "a", "answer": "b"}).status_code == 200
        assert len(engine._loop._running) == 1, "the long answer is not complete"
        assert "[DONE]" in list(lines)[-2]


def test_disconnect_ends_the_answer(client: httpx2.Client, engine: VLLMEngine) -> None:
    body = {"messages": user_messages("What is 7 + 5?"), "max_tokens": 190, "stream": True}
    with client.stream("POST", "/v1/chat/completions", json=body) as response:
        next(response.iter_lines())
        assert len(engine._loop._running) == 1
    started = time.perf_counter()
    while engine._loop._running:
        assert time.perf_counter() - started < 5
        time.sleep(0.001)
    assert client.get("/metrics").text.count("probemap_queue 0.0") == 1


def test_the_locator_may_be_the_model(detector: Detector, engine: VLLMEngine, chat_model: Model) -> None:
    """The model locates the exact answer of one request while others are generated."""
    with_model = replace(detector, provenance=replace(detector.required_provenance(), locator="model"))
    with serve_scorer(Scorer(with_model, engine)) as client, ThreadPoolExecutor(6) as pool:
        bodies = [{"messages": user_messages(q), "max_tokens": 8 + 9 * i} for i, q in enumerate(QUESTIONS[:6])]
        responses = [pool.submit(client.post, "/v1/chat/completions", json=body) for body in bodies]
        choices = [response.result().raise_for_status().json()["choices"][0] for response in responses]
    for body, choice in zip(bodies, choices, strict=True):
        question = body["messages"][0]["content"]  # type: ignore[index]
        expected = generate_directly(Scorer(with_model, chat_model), question, body["max_tokens"])  # type: ignore[arg-type]
        assert choice["message"]["content"] == expected.answer.text
        assert choice["probemap"]["exact_answer"] == expected.score.exact_answer
        assert choice["probemap"]["p_correct"] == pytest.approx(expected.score.p_correct, abs=1e-3)


def test_ended_engine_is_reported(client: httpx2.Client, engine: VLLMEngine) -> None:
    """The last test, because the engine cannot be used afterwards."""
    processes = [
        process
        for process in psutil.Process().children(recursive=True)
        if process.status() != psutil.STATUS_ZOMBIE and "EngineCore" in "".join(process.cmdline())
    ]
    assert len(processes) == 1
    assert client.get("/healthz").status_code == 200
    body = {"messages": user_messages("What is 7 + 5?"), "max_tokens": 190, "stream": True}
    with client.stream("POST", "/v1/chat/completions", json=body) as response:
        lines = response.iter_lines()
        next(lines)
        processes[0].kill()
        assert any("a process of vLLM ended unexpectedly" in line for line in lines)
    started = time.perf_counter()
    while client.get("/healthz").status_code == 200:
        assert time.perf_counter() - started < 20
    response = client.post("/v1/score", json={"question": "a", "answer": "b"})
    assert (response.status_code, "a process of vLLM ended" in response.text) == (503, True)
    request = GenerationRequest("a", Prompt("", (5, 6), ()), 4)
    with pytest.raises(EngineEndedError, match="a process of vLLM ended unexpectedly"):
        list(engine.generate([GenerationBatch([request])], stop_ids=frozenset()))
