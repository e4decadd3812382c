"""`ProxiedCompletion`: completions of an upstream server have the score that the detector's model reads."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from serving import expected_score, generate_directly, parse_events, serve_app, serve_scorer, user_messages

from probemap.detectors.detector import Detector
from probemap.detectors.scorer import Scorer
from probemap.models.model import Model
from probemap.server.upstream import Upstream


@pytest.fixture(scope="module")
def scorer(detector: Detector, chat_model: Model) -> Scorer:
    return Scorer(detector, chat_model)


@pytest.fixture(scope="module")
def client(scorer: Scorer) -> Iterator[httpx2.Client]:
    """A proxy whose upstream server has the same model."""
    with (
        serve_scorer(scorer) as upstream,
        serve_scorer(scorer, upstream=Upstream(f"{upstream.base_url}v1")) as http_client,
    ):
        yield http_client


@contextmanager
def proxy_of(scorer: Scorer, endpoint: Any, **options: Any) -> Iterator[httpx2.Client]:
    """A proxy whose upstream server answers chat completions with the function `endpoint`."""
    app = FastAPI()
    app.post("/v1/chat/completions")(endpoint)
    with (
        serve_app(app) as upstream,
        serve_scorer(scorer, upstream=Upstream(f"{upstream.base_url}v1"), **options) as http_client,
    ):
        yield http_client


def make_completion(text: Any, **fields: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop", **fields.pop("choice", {})}
    return {"id": "abc", "object": "chat.completion", "model": "other", "choices": [choice], **fields}


def event(data: Any) -> str:
    return f"data: {json.dumps(data)}\n\n"


def test_complete_adds_the_score(client: httpx2.Client, scorer: Scorer) -> None:
    expected = generate_directly(scorer, "What is 7 + 5?", 12)
    body = {"messages": user_messages("What is 7 + 5?"), "max_tokens": 12}
    completion = client.post("/v1/chat/completions", json=body).raise_for_status().json()
    (choice,) = completion["choices"]
    assert choice["message"]["content"] == expected.answer.text
    assert choice["probemap"] == expected_score(expected)
    assert completion["usage"]["prompt_tokens"] == expected.answer.n_prompt


def test_stream_forwards_chunks_and_adds_the_score_to_the_last(client: httpx2.Client, scorer: Scorer) -> None:
    expected = generate_directly(scorer, "What is 7 + 5?", 12)
    body = {
        "messages": user_messages("What is 7 + 5?"),
        "max_tokens": 12,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    chunks = parse_events(client.post("/v1/chat/completions", json=body))
    text = "".join(choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"])
    assert text == expected.answer.text
    assert chunks[-2]["choices"][0]["probemap"] == expected_score(expected)
    assert chunks[-1]["usage"]["prompt_tokens"] == expected.answer.n_prompt
    assert len(chunks) > 6, "chunks are forwarded one by one"


@pytest.mark.parametrize("include_usage", [False, True])
def test_stream_detects_another_chat_template(scorer: Scorer, include_usage: bool) -> None:
    async def endpoint(request: Request) -> Any:
        assert (await request.json())["stream_options"]["include_usage"] is True
        last = {"index": 0, "delta": {}, "finish_reason": "stop"}

        async def lines() -> Any:
            yield event({"choices": [{"index": 0, "delta": {"content": "8"}}], "usage": None})
            yield event({"choices": [last], "usage": None})
            yield event({"choices": [], "usage": {"prompt_tokens": 7}})
            yield "data: [DONE]\n\n"

        return StreamingResponse(lines(), media_type="text/event-stream")

    body: dict[str, Any] = {"messages": user_messages("What is 3 + 5?"), "stream": True}
    if include_usage:
        body["stream_options"] = {"include_usage": True}
    with proxy_of(scorer, endpoint) as client:
        chunks = parse_events(client.post("/v1/chat/completions", json=body))
    score = chunks[1]["choices"][0]["probemap"]
    assert (score["p_correct"], score["judged_by"]) == (None, "none")
    assert "the upstream server counted 7 prompt tokens" in score["why"]
    assert [chunk["choices"] for chunk in chunks[2:]] == [[]] * include_usage
    assert all(("usage" in chunk) is include_usage for chunk in chunks)


def test_models_are_those_of_the_upstream_server(client: httpx2.Client) -> None:
    assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["tiny-chat"]


def test_errors_of_the_upstream_server_are_passed_on(client: httpx2.Client) -> None:
    response = client.post("/v1/chat/completions", json={"messages": user_messages("a"), "stop": ["x"]})
    assert response.status_code == 400
    assert "'stop' is not supported by this server" in response.json()["error"]["message"]
    response = client.post("/v1/chat/completions", json={"messages": user_messages("a"), "model": "gpt-9"})
    assert response.status_code == 404


@pytest.mark.parametrize("stream", ["true", "false"])
@pytest.mark.parametrize("field", ['"user": NaN', '"top_p": Infinity', '"user": "\\ud800"'])
def test_invalid_json_is_not_forwarded(client: httpx2.Client, field: str, stream: str) -> None:
    content = f'{{"messages": [{{"role": "user", "content": "a"}}], "stream": {stream}, {field}}}'
    response = client.post("/v1/chat/completions", content=content, headers={"content-type": "application/json"})
    assert response.status_code == 422, response.text


def test_unreachable_upstream_server_is_reported(scorer: Scorer) -> None:
    with serve_scorer(scorer, upstream=Upstream("http://127.0.0.1:9/v1")) as client:
        response = client.post("/v1/chat/completions", json={"messages": user_messages("a")})
        assert response.status_code == 502
        assert "http://127.0.0.1:9/v1: Connection error" in response.json()["error"]["message"]
        streamed = client.post("/v1/chat/completions", json={"messages": user_messages("a"), "stream": True})
        assert streamed.status_code == 502
        assert client.post("/v1/score", json={"question": "a", "answer": "b"}).status_code == 200


TOOL_CALL = {"role": "assistant", "content": "8", "tool_calls": [{}]}


@pytest.mark.parametrize(
    ("completion", "why"),
    [
        (make_completion("8", usage={"prompt_tokens": 7}), "the upstream server counted 7 prompt tokens"),
        (make_completion(None), "the message is not plain text"),
        (make_completion(""), ""),
        (make_completion("8", choice={"message": TOOL_CALL}), "the message is not plain text"),
        (make_completion("8 " * 300), "exceed the context window"),
    ],
)
def test_complete_passes_on_answers_that_cannot_be_scored(scorer: Scorer, completion: dict[str, Any], why: str) -> None:
    async def endpoint() -> Any:
        return completion

    with proxy_of(scorer, endpoint) as client:
        response = client.post("/v1/chat/completions", json={"messages": user_messages("What is 3 + 5?")}).json()
    (choice,) = response["choices"]
    score = choice.pop("probemap")
    assert response == completion
    if why:
        assert (score["p_correct"], score["judged_by"]) == (None, "none")
        assert why in score["why"]
    else:
        assert score["judged_by"] == "fallback"


def test_complete_restores_reasoning_before_scoring(scorer: Scorer) -> None:
    scored_texts: list[str] = []

    class RecordingScorer(Scorer):
        def retokenise(self, pairs: Any) -> Any:
            answers = super().retokenise(pairs)
            scored_texts.extend(answer.text for answer in answers)
            return answers

    async def endpoint() -> Any:
        message = {"role": "assistant", "content": "It is 8.", "reasoning_content": "3 and 5"}
        return make_completion("", choice={"message": message})

    with proxy_of(RecordingScorer(scorer.detector, scorer.model), endpoint) as client:
        completion = client.post("/v1/chat/completions", json={"messages": user_messages("What is 3 + 5?")}).json()
    assert scored_texts == ["<think>\n3 and 5\n</think>\n\nIt is 8."]
    assert completion["choices"][0]["probemap"]["exact_answer"] == "8"


@pytest.mark.parametrize(
    "content",
    [
        {"choices": 3},
        {"error": "no"},
        [1],
        "text",
        {"choices": [3]},
        {"choices": [{"message": "8"}]},
        {"choices": [], "usage": 7},
    ],
)
def test_complete_rejects_a_response_that_is_not_a_completion(scorer: Scorer, content: Any) -> None:
    async def endpoint() -> Any:
        return JSONResponse(content)

    with proxy_of(scorer, endpoint) as client:
        response = client.post("/v1/chat/completions", json={"messages": user_messages("a")})
        assert response.status_code == 502
        assert "returned a response that is not a chat completion" in response.json()["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
def test_complete_and_stream_pass_on_values_outside_of_json(scorer: Scorer, stream: bool) -> None:
    choice = {"index": 0, "delta": {"content": "\ud800"}, "finish_reason": "stop", "logprobs": float("-inf")}
    completion = make_completion("\ud800", choice={"logprobs": float("-inf")})

    async def endpoint() -> Any:
        if stream:
            return StreamingResponse(iter([event({"choices": [choice]}), "data: [DONE]\n\n"]))
        return Response(json.dumps(completion), media_type="application/json")

    with proxy_of(scorer, endpoint) as client:
        body = {"messages": user_messages("What is 3 + 5?"), "stream": stream}
        response = client.post("/v1/chat/completions", json=body)
        (result,) = (parse_events(response)[0] if stream else response.json())["choices"]
    assert result["delta" if stream else "message"]["content"] == "\ud800"
    assert result["logprobs"] == float("-inf")
    assert result["probemap"]["why"] == "the message is not plain text"


def test_stream_reports_a_chunk_that_is_not_a_completion(scorer: Scorer) -> None:
    async def endpoint() -> Any:
        chunks = [{"choices": [{"index": 0, "delta": {"content": "It is"}}]}, {"choices": [3]}]
        return StreamingResponse(map(event, chunks), media_type="text/event-stream")

    with proxy_of(scorer, endpoint) as client:
        body = {"messages": user_messages("a"), "stream": True}
        events = client.post("/v1/chat/completions", json=body).text.split("\n\n")
    assert "not a chat completion: choices.0" in json.loads(events[1].removeprefix("data: "))["error"]["message"]


def test_stream_that_breaks_off_ends_with_an_error(scorer: Scorer) -> None:
    async def endpoint() -> Any:
        async def lines() -> Any:
            yield event({"choices": [{"index": 0, "delta": {"content": "It is"}}]})
            yield event({"error": {"message": "out of memory"}})

        return StreamingResponse(lines(), media_type="text/event-stream")

    with proxy_of(scorer, endpoint) as client:
        body = {"messages": user_messages("a"), "stream": True}
        events = client.post("/v1/chat/completions", json=body).text.split("\n\n")
    assert json.loads(events[0].removeprefix("data: "))["choices"][0]["delta"] == {"content": "It is"}
    assert "out of memory" in json.loads(events[1].removeprefix("data: "))["error"]["message"]
    assert "[DONE]" not in "".join(events)


def test_token_of_the_caller_is_not_forwarded(scorer: Scorer) -> None:
    authorizations: list[str] = []

    async def endpoint(request: Request) -> Any:
        authorizations.append(request.headers["authorization"])
        return make_completion("8")

    with proxy_of(scorer, endpoint, token="caller-token") as client:
        client.post(
            "/v1/chat/completions",
            json={"messages": user_messages("a")},
            headers={"authorization": "Bearer caller-token"},
        ).raise_for_status()
    assert authorizations
    assert all("caller-token" not in authorization for authorization in authorizations)
