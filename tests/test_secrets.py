"""Keys in the environment are used and never written: every byte of what a real run makes and says is searched."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from hub_here import Hub, create_app
from serving_here import running

from probemap.redact import redacted_message, without_secrets

PLANTED = {
    "HF_TOKEN": "hf_PLANTEDhuggingFACE0123456789abcdef",
    "HUGGING_FACE_HUB_TOKEN": "hf_PLANTEDolderNAME0123456789abcdef",
    "OPENAI_API_KEY": "sk-PLANTEDopenai0123456789abcdefghij",
    "PROBEMAP_TOKEN": "PLANTEDprobemap0123456789abcdef",
    "LANGFUSE_SECRET_KEY": "sk-lf-PLANTEDlangfuse-0123456789",
    "LANGFUSE_PUBLIC_KEY": "pk-lf-PLANTEDlangfuse-0123456789",
    "AWS_ACCESS_KEY_ID": "AKIAPLANTED0123456789",
    "AWS_SECRET_ACCESS_KEY": "PLANTEDaws/secret+0123456789abcdefghij",
    "AWS_SESSION_TOKEN": "PLANTEDsession0123456789abcdef",
    "WANDB_API_KEY": "PLANTEDwandb0123456789abcdef0123456789",
}
N = 80


def answering() -> tuple[FastAPI, list[str]]:
    """An OpenAI-compatible server that adds well every second time, and the keys that it was shown.

    Below ``/refusing`` it repeats the key in its refusal.
    """
    app, keys = FastAPI(), list[str]()

    @app.get("/v1/models")
    async def models(request: Request) -> Any:
        keys.append(request.headers["authorization"])
        return {"object": "list", "data": [{"id": "tiny", "object": "model", "created": 0, "owned_by": "x"}]}

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Any:
        keys.append(request.headers["authorization"])
        (i,) = map(int, re.findall(r"What is (\d+) \+ 5", (await request.json())["messages"][-1]["content"]))
        message = {"role": "assistant", "content": f"The answer is {i + 5 + i % 2}. Is it?"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return {"id": "x", "object": "chat.completion", "created": 0, "model": "tiny", "choices": [choice]}

    @app.api_route("/refusing/v1/{path:path}", methods=["GET", "POST"])
    async def refuse(request: Request) -> Any:
        key = request.headers["authorization"]
        keys.append(key)
        return JSONResponse({"error": {"message": f"Incorrect API key provided: {key}"}}, 401)

    return app, keys


class Searched:
    """Commands with the keys in their environment, what they said, and what they made."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.said = folder, list[str]()
        self.home = folder / "home"
        self.home.mkdir()

    def run(self, *words: Any, code: int = 0, **more: str) -> str:
        """A real process; its standard error."""
        call = subprocess.run(
            [sys.executable, "-m", "probemap.cli.main", *map(str, words)],
            capture_output=True,
            text=True,
            cwd=self.folder,
            env={**os.environ, **PLANTED, "HOME": str(self.home), "XDG_CACHE_HOME": str(self.home / "cache"), **more},
        )
        assert call.returncode == code, call.stderr
        assert "Traceback" not in call.stderr
        self.said += [call.stdout, call.stderr]
        return call.stderr

    def hits(self) -> list[str]:
        """Where a key, or what it begins with, stands."""
        texts = {f"said {k}": text.encode() for k, text in enumerate(self.said)}
        texts |= {str(path): path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}
        assert len(texts) > 20
        begin = {name: key[:16].encode() for name, key in PLANTED.items()}
        return [f"{place}: {name}" for place, text in texts.items() for name, key in begin.items() if key in text]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Searched:
    return Searched(tmp_path_factory.mktemp("searched"))


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, list[str]]]:
    app, keys = answering()
    with running(app) as client:
        yield str(client.base_url).rstrip("/"), keys


@pytest.fixture(scope="module")
def whole(searched: Searched, server: tuple[str, list[str]], chat_folder: Path) -> Searched:
    """A run whose answers a server gave, its detector, scores and report."""
    rows = [{"id": f"q{i}", "question": f"What is {i} + 5?", "answers": [str(i + 5)]} for i in range(N)]
    (searched.folder / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    url, _ = server
    searched.run("run", "q.jsonl", "--model", chat_folder, "--endpoint", f"{url}/v1", "--out", "RUN")
    searched.run("export", "RUN", "--out", "DETECTOR", "--cell", "2:exact_answer_last", "--held-out", 0.6)
    searched.run("score", "DETECTOR", "RUN")
    searched.run("report", "RUN")
    return searched


def test_nothing_that_a_run_makes_or_says_holds_a_key(whole: Searched, server: tuple[str, list[str]]) -> None:
    assert set(server[1]) == {f"Bearer {PLANTED['OPENAI_API_KEY']}"}, "the key was used"
    made = {path.name for path in whole.folder.rglob("*")}
    assert {"run.json", "answers.jsonl", "map.nc", "map.png", "report.html", "config.json", "README.md"} <= made
    assert whole.hits() == []


def test_what_fails_does_not_tell_a_key_that_was_sent(
    whole: Searched, server: tuple[str, list[str]], chat_folder: Path
) -> None:
    url, keys = server
    count = len(keys)
    refused = whole.run(
        *("run", "q.jsonl", "--model", chat_folder, "--endpoint", f"{url}/refusing/v1", "--out", "R2"), code=1
    )
    assert "Error code: 401" in refused
    assert "Incorrect API key provided: Bearer …" in refused
    assert len(keys) > count
    judged = ("judge", "RUN", "--judge", "model", "--endpoint", f"{url}/refusing/v1", "--redo")
    assert "Bearer …" in whole.run(*judged, code=1)
    hub = Hub(status=403)
    with running(create_app(hub)) as client:
        there = {"HF_ENDPOINT": str(client.base_url).rstrip("/"), "HF_HUB_OFFLINE": "0"}
        told = whole.run("run", "q.jsonl", "--model", "me/x", "--out", "R3", code=1, **there)
        assert "model 'me/x' could not be loaded" in told
        assert "(status 403)" in whole.run("score", "hf://me/nothing", "RUN", code=1, **there)
        assert "(status 403)" in whole.run("push", "DETECTOR", "me/nothing", code=1, **there)
    assert len(hub.asked) >= 3, "the hub was asked, with the token"
    assert whole.hits() == []


def test_a_search_that_would_find_it(tmp_path: Path) -> None:
    """The search itself, on what does hold a key."""
    made = Searched(tmp_path)
    for k in range(40):
        (tmp_path / f"{k}.bin").write_bytes(b"\0\xff")
    assert made.hits() == []
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "x.bin").write_bytes(b"\0\xff" + PLANTED["HF_TOKEN"].encode())
    made.said.append(f"key {PLANTED['OPENAI_API_KEY'][:20]}…")
    assert [hit.split(": ")[1] for hit in made.hits()] == ["OPENAI_API_KEY", "HF_TOKEN"]


def test_what_a_complaint_leaves_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in PLANTED.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    (tmp_path / "token").write_text("hf_FROMaFILE0123456789\n")
    said = " ".join([*PLANTED.values(), "hf_FROMaFILE0123456789", "Tokens per key"])
    assert redacted_message(ValueError(f"{said}\nsecond line")) == "… " * (len(PLANTED) + 1) + "Tokens per key"
    # A key at the cut is taken out whole before the text is cut.
    assert "sk-" not in redacted_message(ValueError("x" * 290 + PLANTED["OPENAI_API_KEY"]))
    assert len(redacted_message(ValueError("x" * 1000))) == 300
    assert redacted_message(KeyError()) == "KeyError"
    # One key may begin as another does; what is short, or no secret by its name, stays.
    monkeypatch.setenv("OTHER_KEY", PLANTED["OPENAI_API_KEY"] + "-longer")
    assert without_secrets(PLANTED["OPENAI_API_KEY"] + "-longer.") == "…."
    monkeypatch.setenv("SOME_KEY", "none")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "falseness")
    assert without_secrets("none falseness") == "none falseness"
