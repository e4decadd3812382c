"""Questions answered by a real server, `transformers serve` with a tiny model, and by a simulated client."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fake_endpoint import FakeEndpoint, chat_reply, error_reply
from running import execute

from probemap.logger import Logger
from probemap.models import connection
from probemap.models.answering import GenerationOptions, generation_worker
from probemap.models.endpoint import Endpoint
from probemap.models.endpoint_engine import EndpointEngine
from probemap.models.engine import GenerationBatch
from probemap.models.model import Model
from probemap.models.prompts import make_prompt
from probemap.models.transformers_engine import TransformersEngine
from probemap.records import Answer, ModelError
from probemap.runs.definitions import ANSWER
from probemap.runs.plan import Context
from probemap.tasks.loading import load_task


class Server:
    """`transformers serve` on a local port, which can be stopped and restarted."""

    def __init__(self, folder: Path, log: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder, self.log = folder, log
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [str(Path(sys.executable).with_name("transformers")), "serve", str(self.folder)]
        command += ["--host", "127.0.0.1", "--port", str(self.port), "--device", "cpu", "--dtype", "float32"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ)
        for _ in range(240):
            try:
                if httpx2.get(f"http://127.0.0.1:{self.port}/health").status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            time.sleep(0.5)
        raise AssertionError(self.log.read_text())

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@pytest.fixture(scope="module")
def server(chat_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(chat_folder, tmp_path_factory.mktemp("server") / "log.txt")
    server.start()
    yield server
    server.stop()


def questions(path: Path, n: int) -> Path:
    lines = [f'{{"id": "q{i}", "question": "What is {i} + 5?", "answers": ["{i + 5}"]}}\n' for i in range(n)]
    (path / "questions.jsonl").write_text("".join(lines))
    return path / "questions.jsonl"


def options(server: Server, **more: Any) -> dict[str, Any]:
    return {"max_new_tokens": 8, "endpoint": server.url, "served": str(server.folder), "in_flight": 4, **more}


def test_answer_with_a_server_gives_the_answers_of_the_local_model(
    server: Server, chat_folder: Path, tmp_path: Path
) -> None:
    data = questions(tmp_path, 12)
    messages: list[str] = []
    served = execute(
        ANSWER,
        tmp_path / "served",
        Context(logger=Logger(messages.append)),
        data=data,
        model=chat_folder,
        **options(server, batch_size=5),
    )
    local = execute(ANSWER, tmp_path / "local", data=data, model=chat_folder, max_new_tokens=8)
    assert messages == [], "the server counts the same number of prompt tokens"
    served_by_id = {served_answer.id: served_answer for served_answer in served.answers}
    for expected in local.answers:
        served_answer = served_by_id[expected.id]
        text = expected.text.replace("<|im_start|>", "")  # a server removes special tokens
        assert (served_answer.prompt, served_answer.text) == (expected.prompt, text)
        assert served_answer.stopped == expected.stopped
    assert served.record(ANSWER).options.endpoint == server.url


def test_answer_continues_after_a_server_died(
    server: Server, chat_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "RETRIES", 0)
    answering = {"data": questions(tmp_path, 12), "model": chat_folder, **options(server, batch_size=2, in_flight=2)}

    def stop_server(what: str, done: int, total: int) -> None:
        if done == 4:
            server.stop()

    with pytest.raises(ModelError, match=rf"{server.url}: Connection error"):
        execute(ANSWER, tmp_path / "run", Context(logger=Logger(progress=stop_server)), **answering)
    file = tmp_path / "run" / "answers.jsonl"
    before = file.read_bytes()
    n_before = before.count(b"\n")
    assert 4 <= n_before < 12
    server.start()
    messages: list[str] = []
    run = execute(ANSWER, tmp_path / "run", Context(logger=Logger(messages.append)), **answering)
    assert messages == [f"{n_before} of 12 answers already exist"]
    assert file.read_bytes().startswith(before)
    assert run.answers.ids == [f"q{i}" for i in range(12)]


def test_an_endpoint_without_a_server_is_an_error_with_a_hint(
    chat_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "RETRIES", 0)
    with pytest.raises(
        ModelError,
        match=r"Connection error(.|\n)*hint: check that the server is running, and that the URL is its base URL",
    ):
        ask(chat_model, "chat", url="http://127.0.0.1:9/v1")


def test_answer_with_a_model_name_unknown_to_the_server_is_an_error(
    server: Server, tmp_path: Path, chat_folder: Path
) -> None:
    unknown: dict[str, Any] = {"endpoint": server.url, "served": "nobody/there"}
    with pytest.raises(ModelError, match=rf"{server.url}: Error code: 4"):
        execute(ANSWER, tmp_path / "run", data=questions(tmp_path, 2), model=chat_folder, **unknown)


# --- requests to a server in the test process ---


TASK = replace(load_task("cities", n=2), max_new_tokens=9)


def ask(
    model: Model,
    prompt_format: Any,
    *,
    url: str = "http://x/v1",
    temperature: float = 0.0,
    seed: int = 0,
    log: Callable[[str], None] = lambda text: None,
) -> list[Answer]:
    """Let a server answer two questions, one after the other."""
    engine = EndpointEngine(TransformersEngine(model), Endpoint(url, in_flight=1))
    options = GenerationOptions(prompt_format=prompt_format, max_new_tokens=9, temperature=temperature, seed=seed)
    (batch,) = generation_worker(engine, TASK, options, log=log).each([0])
    return batch


def encode(model: Model, text: str) -> tuple[int, ...]:
    return tuple(model.tokenizer(text, add_special_tokens=False)["input_ids"])


def test_an_endpoint_sends_a_base_model_the_prompt(base_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    server = FakeEndpoint(monkeypatch, lambda path, body: chat_reply(" Paris", "length"))
    replies = ask(base_model, "qa")
    assert [(r.text, r.stopped) for r in replies] == [(" Paris", False)] * 2
    assert server.urls[1:] == ["http://x/v1/completions"] * 2
    first = server.requests[0]
    assert first["prompt"].startswith("Q: ")
    assert first["prompt"].endswith("\nA:")
    assert (first["stop"], first["model"], first["max_tokens"], first["temperature"]) == (["\n"], "only", 9, 0.0)
    assert "seed" not in first


def test_an_endpoint_reports_a_different_chat_template_once(chat_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    server = FakeEndpoint(monkeypatch, lambda path, body: chat_reply("Paris", usage={"prompt_tokens": 7}))
    messages: list[str] = []
    replies = ask(chat_model, "chat", log=messages.append, temperature=1.0, seed=3)
    assert [r.text for r in replies] == ["Paris", "Paris"]
    assert [request["seed"] for request in server.requests] == [GenerationBatch([], 3).seed_of(i) for i in range(2)]
    assert server.requests[0]["messages"][-1]["role"] == "user"
    (message,) = messages
    assert "the server counts 7 tokens in the prompt of 'city-" in message


def test_an_endpoint_uses_the_token_ids_of_the_server(base_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    produced_ids = tuple(i for text in (" P", "aris") for i in encode(base_model, text))
    assert produced_ids != encode(base_model, " Paris")

    def respond(path: str, body: dict[str, Any]) -> dict[str, Any]:
        assert body["return_token_ids"] is True
        prompt_ids = base_model.tokenizer(body["prompt"])["input_ids"]
        reply = chat_reply(" Paris")
        reply["choices"][0] |= {"token_ids": produced_ids, "prompt_token_ids": prompt_ids}
        return reply

    FakeEndpoint(monkeypatch, respond)
    messages: list[str] = []
    first, second = ask(base_model, "qa", log=messages.append)
    assert first.produced_ids == second.produced_ids == produced_ids
    assert {first.prompt, second.prompt} == {make_prompt(base_model, TASK, e, "qa").text for e in TASK.examples}
    assert messages == []


def test_an_endpoint_reports_other_prompt_tokens_once(chat_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    reply = {**chat_reply("Paris", usage={"prompt_tokens": 3}), "prompt_token_ids": [1, 2, 3]}
    reply["choices"][0]["token_ids"] = encode(chat_model, "Paris")
    FakeEndpoint(monkeypatch, lambda path, body: reply)
    messages: list[str] = []
    answers = ask(chat_model, "chat", log=messages.append)
    assert [answer.token_ids[: answer.n_prompt] for answer in answers] == [(1, 2, 3)] * 2
    assert [answer.prompt for answer in answers] == [chat_model.tokenizer.decode([1, 2, 3])] * 2
    (message,) = messages
    assert "has other tokens than the local model's chat template yields (3 and" in message


def test_an_endpoint_continues_if_the_server_refuses_token_ids(
    base_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def respond(path: str, body: dict[str, Any]) -> Any:
        if "return_token_ids" in body:
            return error_reply(400, "Unrecognized request argument supplied: return_token_ids")
        return chat_reply(" Paris")

    server = FakeEndpoint(monkeypatch, respond)
    answers = ask(base_model, "qa")
    assert [(a.text, a.produced_ids) for a in answers] == [(" Paris", encode(base_model, " Paris"))] * 2
    assert len(server.requests) == 3, "the parameter is refused once"


@pytest.mark.parametrize("ids", ["12", [], [1, -2], [True], [1.5], None])
def test_token_ids_of_other_types_are_ignored(ids: Any, base_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    reply = chat_reply(" Paris")
    reply["choices"][0] |= {"token_ids": ids, "prompt_token_ids": ids}
    FakeEndpoint(monkeypatch, lambda path, body: reply)
    prompts = {make_prompt(base_model, TASK, example, "qa").token_ids for example in TASK.examples}
    answers = ask(base_model, "qa")
    assert [a.produced_ids for a in answers] == [encode(base_model, " Paris")] * 2
    assert {a.token_ids[: a.n_prompt] for a in answers} == prompts


def test_answers_consist_of_the_tokens_that_the_server_returns(
    chat_folder: Path, chat_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = execute(ANSWER, tmp_path / "local", data=questions(tmp_path, 6), model=chat_folder, max_new_tokens=8)
    answer_of = {answer.prompt: answer for answer in local.answers}
    decode = partial(chat_model.tokenizer.decode, skip_special_tokens=True)

    def respond(path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = answer_of[chat_model.chat_template.render(body["messages"])]
        reply = chat_reply(decode(answer.produced_ids), "stop" if answer.stopped else "length")
        reply["choices"][0]["token_ids"] = list(answer.produced_ids)
        return {**reply, "prompt_token_ids": list(answer.token_ids[: answer.n_prompt])}

    FakeEndpoint(monkeypatch, respond)
    served = execute(
        ANSWER,
        tmp_path / "served",
        data=questions(tmp_path, 6),
        model=chat_folder,
        max_new_tokens=8,
        endpoint="http://x/v1",
    )
    for ours, theirs in zip(local.answers, served.answers, strict=True):
        assert theirs.token_ids == ours.token_ids
        assert theirs.text == ours.text
        assert theirs.logprobs == pytest.approx(ours.logprobs, abs=1e-4)


def test_an_endpoint_keeps_the_reasoning(chat_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    reasoning = "Seine, so\nParis"
    server = FakeEndpoint(monkeypatch, lambda path, body: chat_reply("Paris", reasoning_content=reasoning))
    complete = ask(chat_model, "chat")[0]
    server.respond = lambda path, body: chat_reply(None, "length", reasoning=reasoning)
    cut_off = ask(chat_model, "chat")[0]
    assert (complete.text, complete.final.text, complete.stopped) == (
        "<think>\nSeine, so\nParis\n</think>\n\nParis",
        "Paris",
        True,
    )
    assert (cut_off.text, cut_off.final.text, cut_off.stopped) == ("<think>\nSeine, so\nParis", "", False)


def test_an_endpoint_requires_a_name_if_the_server_has_several_models(
    chat_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    FakeEndpoint(monkeypatch, lambda path, body: None, "a", "b")
    with pytest.raises(
        ModelError,
        match="expected one model at http://x/v1, but it serves 2 models: a, b\nhint: select one with --served-name",
    ):
        ask(chat_model, "chat")


def test_an_endpoint_without_openai_names_the_extra(chat_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ModelError, match=r"hint: pip install 'probemap\[endpoint\]'"):
        ask(chat_model, "chat")
