"""`Dispatcher`: a bounded queue, clients that disconnect, and errors of single requests."""

import asyncio
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from serving import (
    PausedScorer,
    connect,
    expected_score,
    generate_directly,
    serve_scorer,
    user_messages,
    wait_for_queue,
)

from probemap.detectors.detector import Detector
from probemap.detectors.scorer import Scorer
from probemap.models import generate
from probemap.models.engine import EngineEndedError, Generation, GenerationBatch
from probemap.models.model import Model
from probemap.models.transformers_engine import TransformersEngine
from probemap.records import DataError, Example, TextAnswer
from probemap.server.batching import Dispatcher, ServerClosingError
from probemap.server.jobs import ScoreJob
from probemap.server.middleware import Limits

BODY = {"question": "a", "answer": "b"}


@pytest.fixture(scope="module")
def scorer(detector: Detector, chat_model: Model) -> Scorer:
    return Scorer(detector, chat_model)


def test_full_queue_rejects_at_once(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    paused = PausedScorer(monkeypatch)
    with serve_scorer(scorer, limits=Limits(queue=2)) as client, ThreadPoolExecutor(3) as pool:
        posts = [pool.submit(client.post, "/v1/score", json=BODY)]
        assert paused.started.wait(20)
        posts += [pool.submit(client.post, "/v1/score", json=BODY) for _ in range(2)]
        wait_for_queue(client, 2)
        response = client.post("/v1/score", json=BODY)
        assert (response.status_code, response.headers["retry-after"]) == (429, "1")
        assert "2 requests are waiting" in response.json()["error"]["message"]
        paused.resume.set()
        assert [post.result().status_code for post in posts] == [200] * 3


def test_disconnect_removes_the_request(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    paused = PausedScorer(monkeypatch)
    with serve_scorer(scorer) as client, ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.post, "/v1/score", json=BODY)
        assert paused.started.wait(20)
        connection = connect(client)
        content = b'{"question": "a", "answer": "b"}'
        connection.sendall(b"POST /v1/score HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n")
        connection.sendall(b"content-length: %d\r\n\r\n%s" % (len(content), content))
        wait_for_queue(client, 1)
        connection.close()
        while 'status="499"' not in client.get("/metrics").text:
            time.sleep(0.01)
        paused.resume.set()
        assert first.result().status_code == 200
        assert client.get("/metrics").text.count("probemap_batch_size_count 1.0") == 1, "the second request never ran"


def test_disconnect_frees_the_place_while_the_model_is_busy(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    paused = PausedScorer(monkeypatch)
    with serve_scorer(scorer, limits=Limits(queue=1)) as client, ThreadPoolExecutor(2) as pool:
        posts = [pool.submit(client.post, "/v1/score", json=BODY)]
        assert paused.started.wait(20)
        with pytest.raises(httpx2.ReadTimeout):
            client.post("/v1/score", json=BODY, timeout=0.2)
        wait_for_queue(client, 0)
        posts.append(pool.submit(client.post, "/v1/score", json=BODY))
        wait_for_queue(client, 1)
        paused.resume.set()
        assert [post.result().status_code for post in posts] == [200, 200]


@pytest.mark.parametrize("stream", [False, True])
def test_choices_of_a_rejected_request_leave_the_queue(
    scorer: Scorer, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    paused = PausedScorer(monkeypatch)
    with serve_scorer(scorer, limits=Limits(queue=2)) as client, ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.post, "/v1/score", json=BODY)
        assert paused.started.wait(20)
        body = {"messages": user_messages("a"), "n": 3, "stream": stream}
        assert client.post("/v1/chat/completions", json=body).status_code == 429
        wait_for_queue(client, 0)
        paused.resume.set()
        assert first.result().status_code == 200


def test_generation_ends_when_the_stream_is_closed(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    ordinary = generate._Stop.__call__

    def slowly(self: Any, *arguments: Any, **options: Any) -> Any:
        time.sleep(0.02)  # a tiny model could end its answer before the server notices that the client is gone
        return ordinary(self, *arguments, **options)

    monkeypatch.setattr(generate._Stop, "__call__", slowly)
    with serve_scorer(scorer) as client:
        body = {"messages": user_messages("What is 7 + 5?"), "max_tokens": 180, "stream": True}
        with client.stream("POST", "/v1/chat/completions", json=body) as response:
            next(response.iter_lines())
        # The generation ends with the next token; its tokens are not counted as those of an answer.
        assert client.post("/v1/score", json=BODY).status_code == 200
        assert 'probemap_answers_total{judged_by="fallback"}' in client.get("/metrics").text
        assert "probemap_tokens_total 0.0" in client.get("/metrics").text


def test_error_of_one_request_does_not_fail_the_batch(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    score = Scorer.score

    def failing_score(self: Scorer, examples: Any, answers: Any) -> Any:
        if any("boom" in e.question for e in examples):
            raise RuntimeError("boom")
        return score(self, examples, answers)

    monkeypatch.setattr(Scorer, "score", failing_score)
    with serve_scorer(scorer) as client, ThreadPoolExecutor(8) as pool:

        def post(k: int) -> int:
            body = {"question": "boom" if k == 3 else "a", "answer": "b"}
            return client.post("/v1/score", json=body).status_code

        assert list(pool.map(post, range(8))) == [200, 200, 200, 500, 200, 200, 200, 200]
        assert client.get("/healthz").status_code == 200


class StepwiseEngine(TransformersEngine):
    """An engine that, like vLLM, starts new requests while others run.  Answers of 50 or more tokens take until the
    event is set."""

    may_end = threading.Event()

    def generate(self, batches: Iterable[GenerationBatch], **options: Any) -> Iterator[Generation]:
        n_rows, unfinished = 0, list[Generation]()
        for batch in batches:
            for request in batch.requests:
                if "boom" in request.prompt.text:
                    yield Generation(n_rows, (), (), stopped=False, error=DataError("the prompt contains boom"))
                    n_rows += 1
                    continue
                (generation,) = super().generate([GenerationBatch([request])], **{**options, "on_token": None})
                generation = replace(generation, row=n_rows)
                n_rows += 1
                for token_id in generation.token_ids:
                    options["on_token"](generation.row, token_id)
                if request.max_new_tokens < 50:
                    yield generation
                else:
                    unfinished.append(generation)
            if self.may_end.is_set():
                yield from unfinished
                unfinished.clear()
            time.sleep(0.001)


def test_requests_do_not_wait_for_each_other_if_the_engine_starts_them_at_once(
    detector: Detector, chat_model: Model
) -> None:
    StepwiseEngine.may_end.clear()
    with serve_scorer(Scorer(detector, StepwiseEngine(chat_model))) as client, ThreadPoolExecutor(4) as pool:

        def post(max_tokens: int) -> dict[str, Any]:
            body = {"messages": user_messages("What is 7 + 5?"), "max_tokens": max_tokens}
            response: dict[str, Any] = client.post("/v1/chat/completions", json=body).raise_for_status().json()
            return response

        long = pool.submit(post, 60)
        short = [pool.submit(post, 4) for _ in range(2)]
        assert [s.result()["usage"]["completion_tokens"] for s in short] == [4, 4]
        assert client.post("/v1/score", json=BODY).status_code == 200
        assert not long.done()
        StepwiseEngine.may_end.set()
        expected = generate_directly(Scorer(detector, chat_model), "What is 7 + 5?", 60)
        (choice,) = long.result()["choices"]
        assert choice["message"]["content"] == expected.answer.text
        assert choice["probemap"] == expected_score(expected)


def test_request_that_fails_does_not_affect_running_requests(detector: Detector, chat_model: Model) -> None:
    StepwiseEngine.may_end.clear()
    with serve_scorer(Scorer(detector, StepwiseEngine(chat_model))) as client, ThreadPoolExecutor(2) as pool:
        body = {"messages": user_messages("What is 7 + 5?"), "max_tokens": 60}
        long = [pool.submit(client.post, "/v1/chat/completions", json=body) for _ in range(2)]
        response = client.post("/v1/chat/completions", json={"messages": user_messages("boom"), "max_tokens": 4})
        assert (response.status_code, response.json()["error"]["message"]) == (400, "the prompt contains boom")
        assert not any(future.done() for future in long)
        StepwiseEngine.may_end.set()
        assert [future.result().status_code for future in long] == [200, 200]


def test_scores_do_not_delay_running_answers(detector: Detector, chat_model: Model) -> None:
    StepwiseEngine.may_end.clear()
    with serve_scorer(Scorer(detector, StepwiseEngine(chat_model))) as client, ThreadPoolExecutor(9) as pool:
        body = {"messages": user_messages("What is 7 + 5?"), "max_tokens": 60}
        long = pool.submit(client.post, "/v1/chat/completions", json=body)
        ended = threading.Event()

        def score(_: int) -> int:
            n = 0
            while not ended.is_set():
                assert client.post("/v1/score", json=BODY).status_code == 200
                n += 1
            return n

        scores = [pool.submit(score, k) for k in range(8)]
        time.sleep(0.2)
        StepwiseEngine.may_end.set()
        try:
            assert long.result(20).status_code == 200
        finally:
            ended.set()
        assert all(future.result() > 0 for future in scores)


class FailingEngine(TransformersEngine):
    """An engine that fails if the prompt of a request contains "boom"."""

    error: Exception = RuntimeError("boom")

    def generate(self, batches: Iterable[GenerationBatch], **options: Any) -> Iterator[Generation]:
        def checked() -> Iterator[GenerationBatch]:
            for batch in batches:
                if any("boom" in request.prompt.text for request in batch.requests):
                    raise self.error
                yield batch

        return super().generate(checked(), **options)


def test_failed_requests_are_repeated_one_by_one(detector: Detector, chat_model: Model) -> None:
    with serve_scorer(Scorer(detector, FailingEngine(chat_model))) as client, ThreadPoolExecutor(8) as pool:

        def post(k: int) -> int:
            body = {"messages": user_messages("boom" if k == 3 else "What is 7 + 5?"), "max_tokens": 4}
            return client.post("/v1/chat/completions", json=body).status_code

        assert list(pool.map(post, range(8))) == [200, 200, 200, 500, 200, 200, 200, 200]
        assert client.get("/healthz").status_code == 200


def test_ended_engine_is_reported(detector: Detector, chat_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FailingEngine, "error", EngineEndedError("the engine has ended"))
    with serve_scorer(Scorer(detector, FailingEngine(chat_model))) as client:
        body = {"messages": user_messages("boom"), "max_tokens": 4}
        for path, content in (("/v1/chat/completions", body), ("/v1/score", BODY)):
            response = client.post(path, json=content)
            assert (response.status_code, response.json()["error"]["message"]) == (503, "the engine has ended")
        assert client.get("/healthz").status_code == 503


def test_close_rejects_requests(scorer: Scorer) -> None:
    dispatcher = Dispatcher(scorer)
    job = ScoreJob(example=Example("1", "a", ("",)), answer=TextAnswer("1", "b"))
    assert asyncio.run(dispatcher.score(job)).p_correct is not None
    dispatcher.close()
    assert not dispatcher.alive
    with pytest.raises(ServerClosingError, match="the server is shutting down"):
        asyncio.run(dispatcher.score(job))
