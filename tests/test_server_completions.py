"""`LocalCompletion`: the text and the score of a completion equal direct generation, streamed or not."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import openai
import pytest
from serving import expected_score, generate_directly, parse_events, serve_scorer, user_messages

from probemap.detectors.detector import Detector
from probemap.detectors.scorer import Scorer
from probemap.models.model import Model


@pytest.fixture(scope="module")
def scorer(detector: Detector, chat_model: Model) -> Scorer:
    return Scorer(detector, chat_model)


@pytest.fixture(scope="module")
def client(scorer: Scorer) -> Iterator[httpx2.Client]:
    with serve_scorer(scorer) as http_client:
        yield http_client


def test_complete_has_text_usage_and_score(client: httpx2.Client, scorer: Scorer) -> None:
    expected = generate_directly(scorer, "What is 7 + 5?")
    body = {"model": "tiny-chat", "messages": user_messages("What is 7 + 5?"), "max_tokens": 12}
    completion = client.post("/v1/chat/completions", json=body).raise_for_status().json()
    (choice,) = completion["choices"]
    assert choice["message"] == {"role": "assistant", "content": expected.answer.text}
    assert choice["finish_reason"] == ("stop" if expected.answer.stopped else "length")
    assert choice["probemap"] == expected_score(expected)
    assert completion["usage"] == {
        "prompt_tokens": expected.answer.n_prompt,
        "completion_tokens": len(expected.answer.produced_ids),
        "total_tokens": len(expected.answer.token_ids),
    }
    assert (completion["object"], completion["model"]) == ("chat.completion", "tiny-chat")
    assert set(completion) == {"id", "object", "created", "model", "choices", "usage"}
    assert set(choice) == {"index", "message", "finish_reason", "logprobs", "probemap"}


def test_stream_equals_complete_and_ends_with_score(client: httpx2.Client, scorer: Scorer) -> None:
    expected = generate_directly(scorer, "東京 + 5?", 30)
    body = {
        "messages": user_messages("東京 + 5?"),
        "max_completion_tokens": 30,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    response = client.post("/v1/chat/completions", json=body)
    assert response.headers["content-type"].startswith("text/event-stream")
    chunks = parse_events(response)
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert chunks[0]["choices"][0]["finish_reason"] is None
    assert "probemap" not in chunks[0]["choices"][0]
    pieces = [chunk["choices"][0]["delta"]["content"] for chunk in chunks[1:-2]]
    assert len(pieces) > 5
    assert "".join(pieces) == expected.answer.text
    (last,) = chunks[-2]["choices"]
    assert last["probemap"] == expected_score(expected)
    assert last["delta"] == {}
    assert last["finish_reason"] == ("stop" if expected.answer.stopped else "length")
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == len(expected.answer.produced_ids)
    assert len({chunk["id"] for chunk in chunks}) == 1


def test_concurrent_completions_of_different_lengths_are_not_mixed_up(client: httpx2.Client, scorer: Scorer) -> None:
    questions = [f"What is {k} + 5?" + " Please say." * (k % 4) for k in range(24)]

    def post(k: int) -> dict[str, Any]:
        body = {"messages": user_messages(questions[k]), "max_tokens": 3 + k % 7, "stream": bool(k % 2)}
        response = client.post("/v1/chat/completions", json=body).raise_for_status()
        if not k % 2:
            (choice,) = response.json()["choices"]
            return {"text": choice["message"]["content"], "probemap": choice["probemap"]}
        choices = [chunk["choices"][0] for chunk in parse_events(response)]
        text = "".join(choice["delta"].get("content", "") for choice in choices)
        return {"text": text, "probemap": choices[-1]["probemap"]}

    with ThreadPoolExecutor(24) as pool:
        results = list(pool.map(post, range(24)))
    for k, result in enumerate(results):
        expected = generate_directly(scorer, questions[k], 3 + k % 7)
        assert result == {"text": expected.answer.text, "probemap": expected_score(expected)}


def test_choices_are_sampled_and_reproducible_with_a_seed(client: httpx2.Client) -> None:
    body = {"messages": user_messages("What is 7 + 5?"), "max_tokens": 8, "n": 3, "temperature": 1.0, "seed": 7}
    first, second = (client.post("/v1/chat/completions", json=body).json() for _ in range(2))
    texts = [choice["message"]["content"] for choice in first["choices"]]
    assert len(set(texts)) > 1
    assert [choice["index"] for choice in first["choices"]] == [0, 1, 2]
    assert first["choices"] == second["choices"]
    different_seed = client.post("/v1/chat/completions", json={**body, "seed": 8}).json()
    assert different_seed["choices"] != first["choices"]
    greedy = client.post("/v1/chat/completions", json={**body, "temperature": 0}).json()
    assert len({choice["message"]["content"] for choice in greedy["choices"]}) == 1
    chunks = parse_events(client.post("/v1/chat/completions", json={**body, "stream": True}))
    streamed_texts = ["", "", ""]
    for chunk in chunks:
        (choice,) = chunk["choices"]
        streamed_texts[choice["index"]] += choice["delta"].get("content", "")
    assert streamed_texts == texts


def test_openai_client_reads_completions_and_streams(client: httpx2.Client, scorer: Scorer) -> None:
    expected = generate_directly(scorer, "What is 7 + 5?")
    messages: Any = user_messages("What is 7 + 5?")
    with openai.OpenAI(base_url=f"{client.base_url}v1", api_key="none") as openai_client:
        (model,) = openai_client.models.list()
        completion = openai_client.chat.completions.create(model=model.id, messages=messages, max_completion_tokens=12)
        assert completion.choices[0].message.content == expected.answer.text
        extra = completion.choices[0].model_extra
        assert extra is not None
        assert extra["probemap"] == expected_score(expected)
        chunks = list(
            openai_client.chat.completions.create(
                model=model.id, messages=messages, max_completion_tokens=12, stream=True
            )
        )
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == expected.answer.text
        extra = chunks[-1].choices[0].model_extra
        assert extra is not None
        assert extra["probemap"] == expected_score(expected)
        with pytest.raises(openai.NotFoundError, match="the model 'gpt-9' does not exist"):
            openai_client.chat.completions.create(model="gpt-9", messages=messages)
