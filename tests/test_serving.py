"""The server: the scores of direct scoring, OpenAI's protocol, and clear words for what it refuses."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from conftest import byte_level_tokenizer, save_tiny_model
from serving_here import served

from probemap.detectors.detector import Detector
from probemap.detectors.scorer import Said, Scorer
from probemap.models.generate import GenerationRequest
from probemap.models.model import Model, load_model
from probemap.models.prompts import chat_prompt
from probemap.records import Answer, Example
from probemap.runs.integrity import answers_of
from probemap.runs.run import Run
from probemap.server.batching import Dispatcher
from probemap.server.middleware import Limits


@pytest.fixture(scope="module")
def scorer(detector: Detector, chat_model: Model) -> Scorer:
    return Scorer(detector, chat_model)


@pytest.fixture(scope="module")
def client(scorer: Scorer) -> Iterator[httpx2.Client]:
    with served(scorer, limits=Limits(body=20_000, new_tokens=64)) as made:
        yield made


def turn(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def direct(scorer: Scorer, question: str, tokens: int = 12) -> Said:
    """What the model here says to a conversation of one turn, and its score."""
    wanted = GenerationRequest("a", chat_prompt(scorer.model, turn(question)), tokens)
    (said,) = scorer.speak([Example("a", question, ("",))], [wanted])
    return said


def events(response: httpx2.Response) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def rating(said: Said) -> dict[str, Any]:
    score = said.score
    return {
        "p_correct": pytest.approx(score.p_correct, abs=1e-5),
        "flagged": score.flagged,
        "exact_answer": score.exact_answer,
        "judged_by": score.judged_by,
        "why": score.why,
    }


# --- scores ---


def test_the_scores_are_those_of_direct_scoring_alone_and_together(
    client: httpx2.Client, scorer: Scorer, mapped: Path
) -> None:
    run = Run.open(mapped)
    task = run.task()
    answers: list[Answer] = list(answers_of(run, task))
    directly = scorer.score(task.examples, answers)
    expected = [s.p_correct for s in directly]
    assert len({round(s.score or 0.0, 3) for s in directly}) > 60, "no answer could be taken for another"

    def ask(k: int) -> dict[str, Any]:
        asked = {"question": task.examples[k].question, "answer": answers[k].text, "id": str(k)}
        made: dict[str, Any] = client.post("/v1/score", json=asked).raise_for_status().json()
        return made

    first = ask(0)
    assert first == {
        "p_correct": pytest.approx(expected[0], abs=1e-5),
        "flagged": first["score"] < scorer.detector.main.threshold(0.05).score,
        "exact_answer": "5",
        "judged_by": "main",
        "why": "",
        "id": "0",
        "score": pytest.approx(scorer.score(task.examples[:1], answers[:1])[0].score, abs=1e-4),
        "threshold": scorer.detector.main.threshold(0.05).p_correct,
        "model": "tiny-chat",
        "revision": scorer.model.revision,
    }
    with ThreadPoolExecutor(32) as pool:
        together = list(pool.map(ask, range(80)))
    assert [made["id"] for made in together] == [str(k) for k in range(80)]
    assert [made["p_correct"] for made in together] == pytest.approx(expected, abs=1e-5)
    assert [made["score"] for made in together] == pytest.approx([s.score for s in directly], abs=1e-4)
    sizes = client.get("/metrics").text
    assert 'probemap_batch_size_bucket{le="1.0"}' in sizes
    taken = float(sizes.split("probemap_batch_size_count ")[1].split()[0])
    assert taken < 81, "requests were taken together"


def test_a_conversation_is_scored_as_the_model_sees_it(client: httpx2.Client, scorer: Scorer) -> None:
    question = scorer.provenance.task.prompt.replace("{question}", "What is 3 + 5?")
    alone = client.post("/v1/score", json={"question": "What is 3 + 5?", "answer": "It is 8."}).json()
    talked = client.post("/v1/score", json={"messages": turn(question), "answer": "It is 8."}).json()
    assert talked == alone
    parts = [{"role": "user", "content": [{"type": "text", "text": question}]}]
    assert client.post("/v1/score", json={"messages": parts, "answer": "It is 8."}).json() == alone
    more = [{"role": "system", "content": "Be short."}, *turn(question)]
    assert client.post("/v1/score", json={"messages": more, "answer": "It is 8."}).json() != alone


def test_an_answer_without_an_exact_answer_says_who_judged_it(client: httpx2.Client, detector: Detector) -> None:
    made = client.post("/v1/score", json={"question": "What is 3 + 5?", "answer": "No idea."}).json()
    assert detector.fallback is not None
    assert (made["judged_by"], made["exact_answer"]) == ("fallback", None)
    assert made["why"] == f"no exact answer found: judged by {detector.fallback.where}"


# --- completions ---


def test_a_completion_carries_its_score(client: httpx2.Client, scorer: Scorer) -> None:
    said = direct(scorer, "What is 7 + 5?")
    asked = {"model": "tiny-chat", "messages": turn("What is 7 + 5?"), "max_tokens": 12}
    made = client.post("/v1/chat/completions", json=asked).raise_for_status().json()
    (choice,) = made["choices"]
    assert choice["message"] == {"role": "assistant", "content": said.answer.text}
    assert choice["finish_reason"] == ("stop" if said.answer.stopped else "length")
    assert choice["probemap"] == rating(said)
    assert made["usage"] == {
        "prompt_tokens": said.answer.n_prompt,
        "completion_tokens": len(said.answer.produced_ids),
        "total_tokens": len(said.answer.token_ids),
    }
    assert (made["object"], made["model"]) == ("chat.completion", "tiny-chat")


def test_a_streamed_completion_is_the_same_and_ends_with_its_score(client: httpx2.Client, scorer: Scorer) -> None:
    said = direct(scorer, "東京 + 5?", 30)
    asked = {
        "messages": turn("東京 + 5?"),
        "max_completion_tokens": 30,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    response = client.post("/v1/chat/completions", json=asked)
    assert response.headers["content-type"].startswith("text/event-stream")
    made = events(response)
    assert made[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    told = [piece["choices"][0]["delta"]["content"] for piece in made[1:-2]]
    assert len(told) > 5
    assert "".join(told) == said.answer.text
    (last,) = made[-2]["choices"]
    assert last["probemap"] == rating(said)
    assert last["finish_reason"] == ("stop" if said.answer.stopped else "length")
    assert made[-1]["choices"] == []
    assert made[-1]["usage"]["completion_tokens"] == len(said.answer.produced_ids)
    assert len({piece["id"] for piece in made}) == 1


def test_many_at_once_of_different_lengths_are_not_mixed_up(client: httpx2.Client, scorer: Scorer) -> None:
    questions = [f"What is {k} + 5?" + " Please say." * (k % 4) for k in range(24)]

    def ask(k: int) -> dict[str, Any]:
        asked = {"messages": turn(questions[k]), "max_tokens": 3 + k % 7, "stream": bool(k % 2)}
        response = client.post("/v1/chat/completions", json=asked).raise_for_status()
        if not k % 2:
            (choice,) = response.json()["choices"]
            return {"text": choice["message"]["content"], "probemap": choice["probemap"]}
        choices = [piece["choices"][0] for piece in events(response)]
        text = "".join(choice["delta"].get("content", "") for choice in choices)
        return {"text": text, "probemap": choices[-1]["probemap"]}

    with ThreadPoolExecutor(24) as pool:
        made = list(pool.map(ask, range(24)))
    for k, one in enumerate(made):
        said = direct(scorer, questions[k], 3 + k % 7)
        assert one == {"text": said.answer.text, "probemap": rating(said)}


def test_several_choices_are_drawn_and_a_seed_repeats_them(client: httpx2.Client) -> None:
    asked = {"messages": turn("What is 7 + 5?"), "max_tokens": 8, "n": 3, "temperature": 1.0, "seed": 7}
    one, two = (client.post("/v1/chat/completions", json=asked).json() for _ in range(2))
    texts = [choice["message"]["content"] for choice in one["choices"]]
    assert len(set(texts)) > 1
    assert [choice["index"] for choice in one["choices"]] == [0, 1, 2]
    assert one["choices"] == two["choices"]
    other = client.post("/v1/chat/completions", json={**asked, "seed": 8}).json()
    assert other["choices"] != one["choices"]
    greedy = client.post("/v1/chat/completions", json={**asked, "temperature": 0}).json()
    assert len({choice["message"]["content"] for choice in greedy["choices"]}) == 1
    streamed = events(client.post("/v1/chat/completions", json={**asked, "stream": True}))
    by_choice = ["", "", ""]
    for piece in streamed:
        (choice,) = piece["choices"]
        by_choice[choice["index"]] += choice["delta"].get("content", "")
    assert by_choice == texts


def test_the_official_client_works_streaming_included(client: httpx2.Client, scorer: Scorer) -> None:
    said = direct(scorer, "What is 7 + 5?")
    messages: Any = turn("What is 7 + 5?")
    with openai.OpenAI(base_url=f"{client.base_url}v1", api_key="none") as official:
        (served_model,) = official.models.list()
        made = official.chat.completions.create(model=served_model.id, messages=messages, max_completion_tokens=12)
        assert made.choices[0].message.content == said.answer.text
        extra = made.choices[0].model_extra
        assert extra is not None
        assert extra["probemap"] == rating(said)
        pieces = list(
            official.chat.completions.create(
                model=served_model.id, messages=messages, max_completion_tokens=12, stream=True
            )
        )
        assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == said.answer.text
        extra = pieces[-1].choices[0].model_extra
        assert extra is not None
        assert extra["probemap"] == rating(said)
        with pytest.raises(openai.NotFoundError, match="there is no model 'gpt-9'"):
            official.chat.completions.create(model="gpt-9", messages=messages)


# --- what is refused ---


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("score", {"answer": "8"}, 400, "give either question or messages"),
        ("score", {"answer": "8", "question": "a", "messages": [{"role": "user", "content": "b"}]}, 400, "give either"),
        ("score", {"answer": "8", "messages": [{"role": "system", "content": "b"}]}, 400, "hold no user turn"),
        ("score", {"answer": 8, "question": "a"}, 422, "answer: Input should be a valid string"),
        ("score", {"answer": "8", "question": "a", "surprise": 1}, 422, "surprise: Extra inputs are not permitted"),
        ("score", {"answer": "8 " * 400, "question": "a"}, 400, "do not fit the window of tiny-chat, 256 tokens"),
        ("score", {"answer": "8", "question": "a", "revision": "abc"}, 409, "'abc', the detector is for"),
        ("score", {"answer": "8", "question": "a", "template": "abc"}, 409, "another|made for that model"),
        ("chat/completions", {"messages": []}, 422, "messages: List should have at least 1 item"),
        ("chat/completions", {"messages": [{"role": "tool", "content": "b"}]}, 422, "messages.0.role"),
        ("chat/completions", {"messages": [{"role": "assistant", "content": "b"}]}, 400, "hold no user turn"),
        ("chat/completions", {"messages": turn("b"), "temperature": 9}, 422, "temperature: Input should be less than"),
        ("chat/completions", {"messages": turn("b"), "stop": ["x"]}, 400, "'stop' is not supported here"),
        ("chat/completions", {"messages": turn("b"), "top_p": 0.5}, 400, "'top_p' is not supported here"),
        ("chat/completions", {"messages": turn("b"), "max_tokens": 65}, 400, "65 tokens are asked for"),
        ("chat/completions", {"messages": turn("b " * 300)}, 400, "do not fit the window"),
        ("chat/completions", {"messages": turn("b " * 300), "stream": True}, 400, "do not fit the window"),
        ("chat/completions", {"messages": turn("b"), "model": "other"}, 404, "this server has tiny-chat"),
        ("nothing", {}, 404, "Not Found"),
    ],
)
def test_what_is_wrong_is_said(client: httpx2.Client, path: str, body: Any, status: int, words: str) -> None:
    response = client.post(f"/v1/{path}", json=body)
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert any(word in error["message"] for word in words.split("|"))
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize("what", ["revision", "template"])
def test_an_answer_of_another_model_gets_both_hashes_and_no_number(
    client: httpx2.Client, scorer: Scorer, what: str
) -> None:
    own, other = getattr(scorer.provenance, what), "f" * 64
    asked = {"question": "What is 3 + 5?", "answer": "8"}
    response = client.post("/v1/score", json={**asked, what: other})
    assert response.status_code == 409
    assert own in response.json()["error"]["message"]
    assert other in response.json()["error"]["message"]
    assert "p_correct" not in response.text
    assert client.post("/v1/score", json={**asked, what: own}).status_code == 200


def test_what_asks_for_nothing_else_is_let_through(client: httpx2.Client) -> None:
    more: dict[str, Any] = {
        "top_p": 1,
        "stop": None,
        "user": "me",
        "tools": [],
        "response_format": {"type": "text"},
        "logprobs": False,
    }
    asked = {"messages": turn("b"), "max_tokens": 2, **more}
    assert client.post("/v1/chat/completions", json=asked).status_code == 200


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[1, 2]",
        b"[" * 15_000,
        b"\xff\xfe",
        b'{"answer": NaN, "question": "a"}',
        b'{"answer": "\\ud800", "question": "a"}',
        b'{"answer": "a", "question": "a", "choices": [1e999]}',
    ],
)
def test_what_is_no_json_or_no_text_is_refused(client: httpx2.Client, content: bytes) -> None:
    response = client.post("/v1/score", content=content, headers={"content-type": "application/json"})
    assert response.status_code in (400, 422), response.text
    assert response.json()["error"]["message"]


@pytest.mark.parametrize("more", ['"user": NaN', '"metadata": {"a": -Infinity}', '"user": "\\ud800"', '"top_p": 1e999'])
def test_what_python_takes_for_json_is_refused_even_where_it_changes_nothing(client: httpx2.Client, more: str) -> None:
    content = f'{{"messages": [{{"role": "user", "content": "a"}}], "max_tokens": 2, {more}}}'
    response = client.post("/v1/chat/completions", content=content, headers={"content-type": "application/json"})
    assert response.status_code == 422, response.text
    assert "holds what JSON has not" in response.json()["error"]["message"]


def test_large_bodies_are_refused_however_they_come(client: httpx2.Client) -> None:
    large = {"question": "a", "answer": "b" * 30_000}
    response = client.post("/v1/score", json=large)
    assert (response.status_code, response.json()["error"]["code"]) == (413, "request_entity_too_large")

    def parts() -> Iterator[bytes]:  # no content-length tells it beforehand
        for _ in range(30):
            yield b" " * 1000

    assert client.post("/v1/score", content=parts()).status_code == 413
    assert client.get("/healthz").json() == {"status": "ok", "model": "tiny-chat"}


@pytest.mark.parametrize(("token", "status"), [(None, 413), ("geheim", 401)])
def test_who_sends_all_before_listening_is_told_too(scorer: Scorer, token: str | None, status: int) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(50):
            yield b" " * 100_000

    async def ask(url: str) -> list[int]:
        async with httpx2.AsyncClient(base_url=url, timeout=60) as client:
            posts = [await client.post("/v1/score", content=content) for content in (b" " * 5_000_000, parts())]
            return [response.status_code for response in posts]

    with served(scorer, token=token) as client:
        for _ in range(3):  # who is not told is told sometimes, by luck
            assert asyncio.run(ask(str(client.base_url))) == [status, status]


def test_what_is_far_too_large_is_not_even_read(scorer: Scorer) -> None:
    with served(scorer, limits=Limits(body=1000)) as client:
        for start in (
            b"content-length: 99999999\r\n\r\n",
            b"transfer-encoding: chunked\r\n\r\nffffff\r\n" + b"x" * 20_000,
        ):
            with socket.create_connection((client.base_url.host, client.base_url.port or 0), timeout=20) as line:
                line.sendall(b"POST /v1/score HTTP/1.1\r\nhost: a\r\n" + start)
                assert b" 413 " in line.recv(1000)


def test_who_dawdles_is_refused_and_others_are_served(scorer: Scorer) -> None:
    with served(scorer, limits=Limits(seconds=0.5)) as client:
        slow = socket.create_connection((client.base_url.host, client.base_url.port or 0))
        slow.sendall(b"POST /v1/score HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n{")
        assert client.post("/v1/score", json={"question": "a", "answer": "b"}).status_code == 200
        slow.settimeout(20)
        assert b" 408 " in slow.recv(1000)
        slow.close()


def test_a_token_is_asked_for(scorer: Scorer) -> None:
    with served(scorer, token="geheim") as client:
        asked = {"question": "a", "answer": "b"}
        for headers in (
            {},
            {"authorization": "Bearer falsch"},
            {"authorization": "Basic geheim"},
            {"authorization": "x"},
        ):
            response = client.post("/v1/score", json=asked, headers=headers)
            assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
            assert response.json()["error"]["message"].startswith("a bearer token is needed")
        assert client.get("/metrics").status_code == 401
        assert client.get("/healthz").status_code == 200
        assert client.post("/v1/score", json=asked, headers={"authorization": "Bearer geheim"}).status_code == 200
        assert client.post("/v1/score", json=asked, headers={"authorization": "bearer geheim"}).status_code == 200


class Held:
    """Holds the model until it is let go."""

    def __init__(self, scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.began, self.go = threading.Event(), threading.Event()
        score = Scorer.score

        def held(self_: Scorer, *given: Any) -> Any:
            self.began.set()
            assert self.go.wait(20)
            return score(self_, *given)

        monkeypatch.setattr(Scorer, "score", held)


def queued(client: httpx2.Client, count: int) -> None:
    """Wait until so many requests wait."""
    until = time.monotonic() + 20
    while f"probemap_queue {count}.0" not in client.get("/metrics").text:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_more_than_may_wait_are_refused_at_once(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(scorer, monkeypatch)
    asked = {"question": "a", "answer": "b"}
    with served(scorer, limits=Limits(queue=2)) as client, ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(client.post, "/v1/score", json=asked)]
        assert held.began.wait(20)
        waiting += [pool.submit(client.post, "/v1/score", json=asked) for _ in range(2)]
        queued(client, 2)
        response = client.post("/v1/score", json=asked)
        assert (response.status_code, response.headers["retry-after"]) == (429, "1")
        assert "2 requests wait already" in response.json()["error"]["message"]
        held.go.set()
        assert [one.result().status_code for one in waiting] == [200] * 3


def test_who_hangs_up_frees_its_place(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(scorer, monkeypatch)
    with served(scorer) as client, ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.post, "/v1/score", json={"question": "a", "answer": "b"})
        assert held.began.wait(20)
        gone = socket.create_connection((client.base_url.host, client.base_url.port or 0))
        body = b'{"question": "a", "answer": "b"}'
        gone.sendall(b"POST /v1/score HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n")
        gone.sendall(b"content-length: %d\r\n\r\n%s" % (len(body), body))
        queued(client, 1)
        gone.close()
        while 'status="499"' not in client.get("/metrics").text:
            time.sleep(0.01)
        held.go.set()
        assert first.result().status_code == 200
        assert client.get("/metrics").text.count("probemap_batch_size_count 1.0") == 1, "the other never ran"


def test_who_hangs_up_makes_room_while_the_model_is_busy(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(scorer, monkeypatch)
    asked = {"question": "a", "answer": "b"}
    with served(scorer, limits=Limits(queue=1)) as client, ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(client.post, "/v1/score", json=asked)]
        assert held.began.wait(20)
        with pytest.raises(httpx2.ReadTimeout):
            client.post("/v1/score", json=asked, timeout=0.2)
        queued(client, 0)
        waiting.append(pool.submit(client.post, "/v1/score", json=asked))
        queued(client, 1)
        held.go.set()
        assert [one.result().status_code for one in waiting] == [200, 200]


@pytest.mark.parametrize("stream", [False, True])
def test_choices_of_a_request_that_was_refused_do_not_wait(
    scorer: Scorer, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    held = Held(scorer, monkeypatch)
    with served(scorer, limits=Limits(queue=2)) as client, ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.post, "/v1/score", json={"question": "a", "answer": "b"})
        assert held.began.wait(20)
        asked = {"messages": turn("a"), "n": 3, "stream": stream}
        assert client.post("/v1/chat/completions", json=asked).status_code == 429
        queued(client, 0)
        held.go.set()
        assert first.result().status_code == 200


def test_a_stream_that_nobody_reads_ends(scorer: Scorer) -> None:
    with served(scorer) as client:
        asked = {"messages": turn("What is 7 + 5?"), "max_tokens": 180, "stream": True}
        with client.stream("POST", "/v1/chat/completions", json=asked) as response:
            next(response.iter_lines())
        # The row ends with the next token; what was produced is not counted as an answer.
        assert client.post("/v1/score", json={"question": "a", "answer": "b"}).status_code == 200
        assert 'probemap_answers_total{judged_by="fallback"}' in client.get("/metrics").text
        assert "probemap_tokens_total 0.0" in client.get("/metrics").text


def test_the_fault_of_one_is_not_the_fault_of_all(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    score = Scorer.score

    def broken(self: Scorer, examples: Any, answers: Any) -> Any:
        if any("boom" in e.question for e in examples):
            raise RuntimeError("boom")
        return score(self, examples, answers)

    monkeypatch.setattr(Scorer, "score", broken)
    with served(scorer) as client, ThreadPoolExecutor(8) as pool:

        def ask(k: int) -> int:
            asked = {"question": "boom" if k == 3 else "a", "answer": "b"}
            return client.post("/v1/score", json=asked).status_code

        assert list(pool.map(ask, range(8))) == [200, 200, 200, 500, 200, 200, 200, 200]
        assert client.get("/healthz").status_code == 200


def test_what_waits_when_the_server_closes_is_told(scorer: Scorer) -> None:
    from probemap.records import TextAnswer
    from probemap.server.batching import ClosingError, ToScore

    dispatcher = Dispatcher(scorer)
    work = ToScore(Example("1", "a", ("",)), TextAnswer("1", "b"))
    assert asyncio.run(dispatcher.score(work)).p_correct is not None
    dispatcher.close()
    assert not dispatcher.alive
    with pytest.raises(ClosingError, match="the server is closing"):
        asyncio.run(dispatcher.score(work))


# --- as a process ---


@pytest.fixture
def words(detector_folder: Path, chat_folder: Path) -> list[str]:
    command = [sys.executable, "-m", "probemap.cli.main", "serve", str(detector_folder), "--model", str(chat_folder)]
    return [*command, "--device", "cpu", "--port", "0"]


def test_it_says_where_it_is_and_ends_what_it_began_when_told_to(words: list[str]) -> None:
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    assert url.startswith("http://127.0.0.1:")
    asked = {"messages": turn("What is 7 + 5?"), "max_tokens": 150}
    with ThreadPoolExecutor(1) as pool, httpx2.Client(base_url=url, timeout=60) as client:
        under_way = pool.submit(client.post, "/v1/chat/completions", json=asked)
        while "probemap_batch_size_count 1.0" not in httpx2.get(f"{url}/metrics").text:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        made = under_way.result()
    assert made.status_code == 200
    assert made.json()["choices"][0]["probemap"]["p_correct"] is not None
    said, complained = process.communicate(timeout=60)
    # Ended by the signal, as whoever sent it expects, but not before its work was done.
    assert (process.returncode, said) == (-signal.SIGTERM, "")
    assert "Traceback" not in complained


def test_an_address_that_is_taken_is_told(words: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        call = subprocess.run([*words[:-1], port], capture_output=True, text=True, timeout=60)
    assert call.returncode == 1
    assert f"cannot listen on 127.0.0.1, port {port}: Address already in use" in call.stderr
    assert "hint: take another --port; 0 takes a free one" in call.stderr
    assert "Traceback" not in call.stderr


@pytest.mark.parametrize("what", ["weights", "tokenizer", "template"])
def test_the_wrong_model_is_never_served(words: list[str], detector: Detector, tmp_path: Path, what: str) -> None:
    tokenizer = byte_level_tokenizer()
    if what == "tokenizer":
        tokenizer.add_tokens(["Vienna"])
    if what == "template":
        tokenizer.chat_template = str(tokenizer.chat_template).replace("assistant", "bot")
    other = save_tiny_model(tmp_path / "other", tokenizer, seed=int(what == "weights"))
    call = subprocess.run([*words, "--model", str(other)], capture_output=True, text=True, timeout=60)
    assert (call.returncode, call.stdout) == (1, "")
    assert detector.required_provenance().revision[:16] in call.stderr
    assert load_model(other).revision[:16] in call.stderr
    assert "Traceback" not in call.stderr


def test_who_opens_it_to_others_without_a_token_is_warned(words: list[str]) -> None:
    call = subprocess.run([*words, "--host", "256.0.0.1"], capture_output=True, text=True, timeout=60)
    assert "256.0.0.1 can be reached from elsewhere and no token is asked for: set PROBEMAP_TOKEN" in call.stderr
    assert "cannot listen on 256.0.0.1" in call.stderr
