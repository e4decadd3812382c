"""HTTP servers in a thread of the test process, and the requests that the tests send to them."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest
import uvicorn
from fastapi import FastAPI
from served_run import generate_and_score

from probemap.detectors.scorer import Scorer
from probemap.detectors.scores import GenerationResult
from probemap.models.engine import GenerationRequest
from probemap.models.prompts import chat_prompt
from probemap.records import Example
from probemap.server.app import create_app


@contextmanager
def serve_app(app: FastAPI) -> Iterator[httpx2.Client]:
    """Serve an application on a free port, and return a client with its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", timeout_graceful_shutdown=5))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}/", timeout=60) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def serve_scorer(scorer: Scorer, **options: Any) -> Iterator[httpx2.Client]:
    """Serve the application of ``probemap serve``; `options` are those of `create_app`."""
    with serve_app(create_app(scorer, **options)) as client:
        yield client


def connect(client: httpx2.Client) -> socket.socket:
    """Open a connection to the client's server, to send requests byte by byte."""
    return socket.create_connection((client.base_url.host, client.base_url.port or 0), timeout=20)


def user_messages(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def generate_directly(scorer: Scorer, question: str, max_new_tokens: int = 12) -> GenerationResult:
    """The model's answer to a conversation of one message with its score, generated without a server."""
    request = GenerationRequest("a", chat_prompt(scorer.engine.model, user_messages(question)), max_new_tokens)
    (result,) = generate_and_score(scorer, [Example("a", question, ("",))], [request])
    return result


def expected_score(result: GenerationResult) -> dict[str, Any]:
    """The field ``probemap`` of the choice with this result."""
    score = result.score
    return {
        "p_correct": pytest.approx(score.p_correct, abs=1e-5),
        "flagged": score.flagged,
        "exact_answer": score.exact_answer,
        "judged_by": score.judged_by,
        "why": score.why,
        "accept": score.accept,
        "risk": score.risk,
        "coverage": score.coverage,
    }


def parse_events(response: httpx2.Response) -> list[dict[str, Any]]:
    """The chunks of a completed stream."""
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


class PausedScorer:
    """Pause `Scorer.score` until `resume` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.started, self.resume = threading.Event(), threading.Event()
        score = Scorer.score

        def paused_score(scorer: Scorer, *args: Any) -> Any:
            self.started.set()
            assert self.resume.wait(20)
            return score(scorer, *args)

        monkeypatch.setattr(Scorer, "score", paused_score)


def wait_for_queue(client: httpx2.Client, length: int) -> None:
    """Wait until the server's queue has this length."""
    deadline = time.monotonic() + 20
    while f"probemap_queue {length}.0" not in client.get("/metrics").text:
        assert time.monotonic() < deadline
        time.sleep(0.01)
