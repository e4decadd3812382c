"""In front of another server: what passes through carries the score of this model's reading."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse
from serving_here import running, served
from test_serving import direct, events, rating, turn

from probemap.detectors.detector import Detector
from probemap.detectors.scorer import Scorer
from probemap.models.model import Model
from probemap.server.upstream import Upstream


@pytest.fixture(scope="module")
def scorer(detector: Detector, chat_model: Model) -> Scorer:
    return Scorer(detector, chat_model)


@pytest.fixture(scope="module")
def client(scorer: Scorer) -> Iterator[httpx2.Client]:
    """In front of the same model, served as any server serves it."""
    with served(scorer) as behind, served(scorer, upstream=Upstream(f"{behind.base_url}v1")) as made:
        yield made


@contextmanager
def in_front_of(scorer: Scorer, answer: Any) -> Iterator[httpx2.Client]:
    """A client of a server whose upstream answers as `answer` says."""
    app = FastAPI()
    app.post("/v1/chat/completions")(answer)
    with running(app) as behind, served(scorer, upstream=Upstream(f"{behind.base_url}v1")) as made:
        yield made


def completion(text: Any, **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop", **more.pop("choice", {})}
    return {"id": "abc", "object": "chat.completion", "model": "other", "choices": [choice], **more}


def test_what_passes_through_carries_its_score(client: httpx2.Client, scorer: Scorer) -> None:
    said = direct(scorer, "What is 7 + 5?", 12)
    asked = {"messages": turn("What is 7 + 5?"), "max_tokens": 12}
    made = client.post("/v1/chat/completions", json=asked).raise_for_status().json()
    (choice,) = made["choices"]
    assert choice["message"]["content"] == said.answer.text
    assert choice["probemap"] == rating(said)
    assert made["usage"]["prompt_tokens"] == said.answer.n_prompt


def test_a_stream_passes_through_and_its_last_piece_carries_the_score(client: httpx2.Client, scorer: Scorer) -> None:
    said = direct(scorer, "What is 7 + 5?", 12)
    asked = {"messages": turn("What is 7 + 5?"), "max_tokens": 12, "stream": True}
    made = events(client.post("/v1/chat/completions", json={**asked, "stream_options": {"include_usage": True}}))
    text = "".join(choice["delta"].get("content", "") for piece in made for choice in piece["choices"])
    assert text == said.answer.text
    assert made[-2]["choices"][0]["probemap"] == rating(said)
    assert made[-1]["usage"]["prompt_tokens"] == said.answer.n_prompt
    assert len(made) > 6, "piece by piece"


@pytest.mark.parametrize("wanted", [False, True])
def test_another_template_is_noticed_in_a_stream_too(scorer: Scorer, wanted: bool) -> None:
    async def answer(request: Request) -> Any:
        assert (await request.json())["stream_options"]["include_usage"] is True
        last = {"index": 0, "delta": {}, "finish_reason": "stop"}

        async def lines() -> Any:
            yield f"data: {json.dumps({'choices': [{'index': 0, 'delta': {'content': '8'}}], 'usage': None})}\n\n"
            yield f"data: {json.dumps({'choices': [last], 'usage': None})}\n\n"
            yield f"data: {json.dumps({'choices': [], 'usage': {'prompt_tokens': 7}})}\n\ndata: [DONE]\n\n"

        return StreamingResponse(lines(), media_type="text/event-stream")

    asked: dict[str, Any] = {"messages": turn("What is 3 + 5?"), "stream": True}
    if wanted:
        asked["stream_options"] = {"include_usage": True}
    with in_front_of(scorer, answer) as client:
        made = events(client.post("/v1/chat/completions", json=asked))
    told = made[1]["choices"][0]["probemap"]
    assert (told["p_correct"], told["judged_by"]) == (None, "none")
    assert "whoever answered counts 7 tokens in the prompt" in told["why"]
    assert [piece["choices"] for piece in made[2:]] == [[]] * wanted
    assert all(("usage" in piece) is wanted for piece in made)


def test_the_models_are_those_behind(client: httpx2.Client) -> None:
    assert [one["id"] for one in client.get("/v1/models").json()["data"]] == ["tiny-chat"]


def test_what_the_server_behind_refuses_is_refused_in_its_words(client: httpx2.Client) -> None:
    response = client.post("/v1/chat/completions", json={"messages": turn("a"), "stop": ["x"]})
    assert response.status_code == 400
    assert "'stop' is not supported here" in response.json()["error"]["message"]
    response = client.post("/v1/chat/completions", json={"messages": turn("a"), "model": "gpt-9"})
    assert response.status_code == 404


@pytest.mark.parametrize("stream", ["true", "false"])
@pytest.mark.parametrize("more", ['"user": NaN', '"top_p": Infinity', '"user": "\\ud800"'])
def test_what_cannot_be_sent_on_is_refused(client: httpx2.Client, more: str, stream: str) -> None:
    content = f'{{"messages": [{{"role": "user", "content": "a"}}], "stream": {stream}, {more}}}'
    response = client.post("/v1/chat/completions", content=content, headers={"content-type": "application/json"})
    assert response.status_code == 422, response.text


def test_a_server_that_is_not_there_is_told(scorer: Scorer) -> None:
    with served(scorer, upstream=Upstream("http://127.0.0.1:9/v1")) as client:
        response = client.post("/v1/chat/completions", json={"messages": turn("a")})
        assert response.status_code == 502
        assert "http://127.0.0.1:9/v1: Connection error" in response.json()["error"]["message"]
        streamed = client.post("/v1/chat/completions", json={"messages": turn("a"), "stream": True})
        assert streamed.status_code == 502
        assert client.post("/v1/score", json={"question": "a", "answer": "b"}).status_code == 200


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (completion("8", usage={"prompt_tokens": 7}), "whoever answered counts 7 tokens in the prompt"),
        (completion(None), "the message is no text"),
        (completion(""), ""),
        (completion("8", choice={"message": {"role": "assistant", "content": "8", "tool_calls": [{}]}}), "no text"),
        (completion("8 " * 300), "do not fit the window"),
    ],
)
def test_what_cannot_be_scored_passes_and_says_why(scorer: Scorer, sent: dict[str, Any], why: str) -> None:
    async def answer() -> Any:
        return sent

    with in_front_of(scorer, answer) as client:
        made = client.post("/v1/chat/completions", json={"messages": turn("What is 3 + 5?")}).json()
    (choice,) = made["choices"]
    told = choice.pop("probemap")
    assert made == sent
    if why:
        assert (told["p_correct"], told["judged_by"]) == (None, "none")
        assert why in told["why"]
    else:
        assert told["judged_by"] == "fallback"


def test_reasoning_that_was_taken_out_is_put_back_before_it_is_scored(scorer: Scorer) -> None:
    seen: list[str] = []

    class Listening(Scorer):
        def replay(self, pairs: Any) -> Any:
            seen.extend(reply.text for _, reply in pairs)
            return super().replay(pairs)

    async def answer() -> Any:
        message = {"role": "assistant", "content": "It is 8.", "reasoning_content": "3 and 5"}
        return completion("", choice={"message": message})

    with in_front_of(Listening(scorer.detector, scorer.model), answer) as client:
        made = client.post("/v1/chat/completions", json={"messages": turn("What is 3 + 5?")}).json()
    assert seen == ["<think>\n3 and 5\n</think>\n\nIt is 8."]
    assert made["choices"][0]["probemap"]["exact_answer"] == "8"


@pytest.mark.parametrize("sent", [{"choices": 3}, {"error": "no"}, [1], "text"])
def test_what_is_no_completion_is_told(scorer: Scorer, sent: Any) -> None:
    async def answer() -> Any:
        return JSONResponse(sent)

    with in_front_of(scorer, answer) as client:
        response = client.post("/v1/chat/completions", json={"messages": turn("a")})
        assert response.status_code == 502
        assert "something other than a chat completion" in response.json()["error"]["message"]


def test_a_stream_that_breaks_off_ends_with_an_error(scorer: Scorer) -> None:
    async def answer() -> Any:
        async def lines() -> Any:
            yield f"data: {json.dumps({'choices': [{'index': 0, 'delta': {'content': 'It is'}}]})}\n\n"
            yield f"data: {json.dumps({'error': {'message': 'out of memory'}})}\n\n"

        return StreamingResponse(lines(), media_type="text/event-stream")

    with in_front_of(scorer, answer) as client:
        lines = client.post("/v1/chat/completions", json={"messages": turn("a"), "stream": True}).text.split("\n\n")
    assert json.loads(lines[0].removeprefix("data: "))["choices"][0]["delta"] == {"content": "It is"}
    assert "out of memory" in json.loads(lines[1].removeprefix("data: "))["error"]["message"]
    assert "[DONE]" not in "".join(lines)


def test_a_token_of_the_caller_stays_here(scorer: Scorer) -> None:
    seen: list[str] = []

    async def answer(request: Request) -> Any:
        seen.append(request.headers["authorization"])
        return completion("8")

    app = FastAPI()
    app.post("/v1/chat/completions")(answer)
    with running(app) as behind, served(scorer, upstream=Upstream(f"{behind.base_url}v1"), token="mine") as client:
        client.post(
            "/v1/chat/completions", json={"messages": turn("a")}, headers={"authorization": "Bearer mine"}
        ).raise_for_status()
    assert seen
    assert all("mine" not in one for one in seen)
