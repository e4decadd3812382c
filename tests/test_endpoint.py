"""Questions put to a real server of the field: `transformers serve` with a tiny model, which may die halfway."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from running import execute

from probemap.logger import Logger
from probemap.models import endpoint
from probemap.models.loading import Endpoint, Loader
from probemap.models.model import Model
from probemap.models.prompts import chat_messages, make_prompt
from probemap.records import ModelError, TextAnswer
from probemap.runs.definitions import ANSWER
from probemap.runs.plan import Context
from probemap.tasks.loading import load_task


class Server:
    """`transformers serve` on a port of this machine, which can be ended and started again."""

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

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@pytest.fixture(scope="module")
def server(chat_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(chat_folder, tmp_path_factory.mktemp("server") / "log.txt")
    made.start()
    yield made
    made.end()


def questions(path: Path, n: int) -> Path:
    lines = [f'{{"id": "q{i}", "question": "What is {i} + 5?", "answers": ["{i + 5}"]}}\n' for i in range(n)]
    (path / "questions.jsonl").write_text("".join(lines))
    return path / "questions.jsonl"


def options(server: Server, **more: Any) -> dict[str, Any]:
    return {"max_new_tokens": 8, "endpoint": server.url, "served": str(server.folder), "in_flight": 4, **more}


def test_a_server_gives_the_answers_that_the_model_here_gives(
    server: Server, chat_folder: Path, tmp_path: Path
) -> None:
    data, loader = questions(tmp_path, 12), Loader(str(chat_folder))
    told: list[str] = []
    there = execute(
        ANSWER,
        tmp_path / "there",
        Context(logger=Logger(told.append)),
        data=data,
        model=loader.name,
        **options(server, batch_size=5),
    )
    here = execute(ANSWER, tmp_path / "here", data=data, model=loader.name, max_new_tokens=8)
    assert told == [], "the server makes as many tokens of the prompts"
    by_id = {answer.id: answer for answer in here.answers}
    for one in there.answers:
        other = by_id[one.id]
        spoken = other.text.replace("<|im_start|>", "")  # a server does not show special tokens
        assert (one.prompt, one.text, one.stopped) == (other.prompt, spoken, other.stopped)
    assert there.record(ANSWER).options.endpoint == server.url


def test_a_server_that_dies_halfway_costs_only_what_was_under_way(
    server: Server, chat_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "RETRIES", 0)
    data, loader = questions(tmp_path, 12), Loader(str(chat_folder))
    wanted = options(server, batch_size=2)

    def die(what: str, done: int, total: int) -> None:
        if done == 4:
            server.end()

    with pytest.raises(ModelError, match=rf"{server.url}: Connection error"):
        execute(ANSWER, tmp_path / "run", Context(logger=Logger(progress=die)), data=data, model=loader.name, **wanted)
    file = tmp_path / "run" / "answers.jsonl"
    before = file.read_bytes()
    there = before.count(b"\n")
    assert 4 <= there < 12
    server.start()
    told: list[str] = []
    run = execute(ANSWER, tmp_path / "run", Context(logger=Logger(told.append)), data=data, model=loader.name, **wanted)
    assert told == [f"{there} of 12 answers exist already"]
    assert file.read_bytes().startswith(before)
    assert run.answers.ids == [f"q{i}" for i in range(12)]


def test_nobody_there_is_told_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "RETRIES", 0)
    with pytest.raises(ModelError, match=r"Connection error(.|\n)*hint: is it up, and is the URL its base"):
        list(endpoint.ask_endpoint(Endpoint("http://127.0.0.1:9/v1"), [], frame="chat", max_new_tokens=1))


def test_an_unknown_name_is_the_servers_to_refuse(server: Server, tmp_path: Path, chat_folder: Path) -> None:
    nobody: dict[str, Any] = {"endpoint": server.url, "served": "nobody/there"}
    with pytest.raises(ModelError, match=rf"{server.url}: Error code: 4"):
        execute(ANSWER, tmp_path / "run", data=questions(tmp_path, 2), model=chat_folder, **nobody)


# --- what a client is told, without a server ---


class Client:
    """What the `openai` client would be handed, and a reply made of it."""

    def __init__(self, tokens: int | None, models: list[str]) -> None:
        self.asked: list[dict[str, Any]] = []
        usage = SimpleNamespace(prompt_tokens=tokens)
        self.message = SimpleNamespace(content="Paris")
        choice = SimpleNamespace(message=self.message, text=" Paris", finish_reason="length")

        def create(**wanted: Any) -> Any:
            self.asked.append(wanted)
            return SimpleNamespace(choices=[choice], usage=usage)

        self.completions = SimpleNamespace(create=create)
        self.chat = SimpleNamespace(completions=self.completions)
        self.models = SimpleNamespace(list=lambda: [SimpleNamespace(id=name) for name in models])


def ask(client: Client, model: Model, monkeypatch: pytest.MonkeyPatch, frame: Any, **more: Any) -> list[TextAnswer]:
    monkeypatch.setattr(endpoint, "_client", lambda openai, url: client)
    task = load_task("cities", n=2)
    asked = [
        endpoint.ChatRequest(e.id, make_prompt(model, task, e, frame), chat_messages(task, e)) for e in task.examples
    ]
    return list(
        endpoint.ask_endpoint(Endpoint("http://x/v1", in_flight=1), asked, frame=frame, max_new_tokens=9, **more)
    )


def test_a_base_model_is_sent_the_very_prompt(base_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(None, ["only"])
    replies = ask(client, base_model, monkeypatch, "qa")
    assert [(r.text, r.stopped) for r in replies] == [(" Paris", False)] * 2
    first = client.asked[0]
    assert first["prompt"].startswith("Q: ")
    assert first["prompt"].endswith("\nA:")
    assert (first["stop"], first["model"], first["max_tokens"], first["temperature"]) == (["\n"], "only", 9, 0.0)
    assert "seed" not in first


def test_another_template_on_the_server_is_told_once(chat_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    client, told = Client(7, ["only"]), list[str]()
    replies = ask(client, chat_model, monkeypatch, "chat", log=told.append, temperature=1.0, seed=3)
    assert [r.text for r in replies] == ["Paris", "Paris"]
    assert [a["seed"] for a in client.asked] == [3, 4]
    assert client.asked[0]["messages"][-1]["role"] == "user"
    (message,) = told
    assert "the server counts 7 tokens in the prompt of 'city-" in message


def test_reasoning_that_a_server_took_out_is_put_back(chat_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(None, ["only"])
    client.message.reasoning_content = "Seine, so\nParis"
    replies = ask(client, chat_model, monkeypatch, "chat")
    assert replies[0].text == "<think>\nSeine, so\nParis\n</think>\n\nParis"
    client.message.content = None  # cut off before it answered
    assert ask(client, chat_model, monkeypatch, "chat")[0].text == "<think>\nSeine, so\nParis"


def test_several_models_want_a_name(chat_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="http://x/v1 serves 2 models: a, b\nhint: name one with --served-name"):
        ask(Client(None, ["a", "b"]), chat_model, monkeypatch, "chat")


def test_without_the_client_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ModelError, match=r"hint: pip install 'probemap\[endpoint\]'"):
        list(endpoint.ask_endpoint(Endpoint("http://x/v1"), [], frame="chat", max_new_tokens=1))
