"""Keys in the environment are used and never written: all files and all output of a real run are workspace."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_hub import Hub, create_app
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from serving import serve_app

from probemap.redact import redact_secrets, redacted_message

SECRETS = {
    "HF_TOKEN": "hf_SECRETShuggingFACE0123456789abcdef",
    "HUGGING_FACE_HUB_TOKEN": "hf_SECRETSolderNAME0123456789abcdef",
    "OPENAI_API_KEY": "sk-SECRETSopenai0123456789abcdefghij",
    "PROBEMAP_TOKEN": "SECRETSprobemap0123456789abcdef",
    "LANGFUSE_SECRET_KEY": "sk-lf-SECRETSlangfuse-0123456789",
    "LANGFUSE_PUBLIC_KEY": "pk-lf-SECRETSlangfuse-0123456789",
    "AWS_ACCESS_KEY_ID": "AKIASECRETS0123456789",
    "AWS_SECRET_ACCESS_KEY": "SECRETSaws/secret+0123456789abcdefghij",
    "AWS_SESSION_TOKEN": "SECRETSsession0123456789abcdef",
    "WANDB_API_KEY": "SECRETSwandb0123456789abcdef0123456789",
}
N = 80


def server_app() -> tuple[FastAPI, list[str]]:
    """An OpenAI-compatible server with every second sum correct, and the list of the keys that it received.

    Its paths below ``/refusing`` respond with an error message that repeats the key.
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


class Workspace:
    """A directory in which commands run with the keys in their environment; records their output."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.output = folder, list[str]()
        self.home = folder / "home"
        self.home.mkdir()

    def run(self, *words: Any, code: int = 0, **environment: str) -> str:
        """Run a command in a process and return its standard error."""
        homes = {"HOME": str(self.home), "XDG_CACHE_HOME": str(self.home / "cache")}
        process = subprocess.run(
            [sys.executable, "-m", "probemap.cli.main", *map(str, words)],
            capture_output=True,
            text=True,
            cwd=self.folder,
            env={**os.environ, **SECRETS, **homes, **environment},
        )
        assert process.returncode == code, process.stderr
        assert "Traceback" not in process.stderr
        self.output += [process.stdout, process.stderr]
        return process.stderr

    def hits(self) -> list[str]:
        """Return where the first 16 characters of a key occur, as ``place: name``."""
        texts = {f"output {k}": text.encode() for k, text in enumerate(self.output)}
        texts |= {str(path): path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}
        assert len(texts) > 20
        prefixes = {name: key[:16].encode() for name, key in SECRETS.items()}
        return [f"{place}: {name}" for place, text in texts.items() for name, key in prefixes.items() if key in text]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("workspace"))


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, list[str]]]:
    app, keys = server_app()
    with serve_app(app) as client:
        yield str(client.base_url).rstrip("/"), keys


@pytest.fixture(scope="module")
def finished(workspace: Workspace, server: tuple[str, list[str]], chat_folder: Path) -> Workspace:
    """A run with answers from a server, its detector, scores and report."""
    rows = [{"id": f"q{i}", "question": f"What is {i} + 5?", "answers": [str(i + 5)]} for i in range(N)]
    (workspace.folder / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    url, _ = server
    workspace.run("answer", "q.jsonl", "--model", chat_folder, "--endpoint", f"{url}/v1", "--out", "RUN")
    workspace.run("run", "--out", "RUN")
    workspace.run("export", "RUN", "--out", "DETECTOR", "--cell", "2:exact_answer_last", "--held-out", 0.6)
    workspace.run("score", "DETECTOR", "RUN")
    workspace.run("report", "RUN")
    return workspace


def test_run_files_and_output_contain_no_key(finished: Workspace, server: tuple[str, list[str]]) -> None:
    assert set(server[1]) == {f"Bearer {SECRETS['OPENAI_API_KEY']}"}, "the key was used"
    names = {path.name for path in finished.folder.rglob("*")}
    assert {"run.json", "answers.jsonl", "map.nc", "map.png", "report.html", "config.json", "README.md"} <= names
    assert finished.hits() == []


def test_error_messages_contain_no_key(finished: Workspace, server: tuple[str, list[str]], chat_folder: Path) -> None:
    url, keys = server
    count = len(keys)
    error = finished.run(
        *("answer", "q.jsonl", "--model", chat_folder, "--endpoint", f"{url}/refusing/v1", "--out", "R2"), code=1
    )
    assert "Error code: 401" in error
    assert "Incorrect API key provided: Bearer …" in error
    assert len(keys) > count
    judge = ("judge", "RUN", "--judge", "model", "--endpoint", f"{url}/refusing/v1", "--redo")
    assert "Bearer …" in finished.run(*judge, code=1)
    hub = Hub(status=403)
    with serve_app(create_app(hub)) as client:
        environment = {"HF_ENDPOINT": str(client.base_url).rstrip("/"), "HF_HUB_OFFLINE": "0"}
        error = finished.run("run", "q.jsonl", "--model", "me/x", "--out", "R3", code=1, **environment)
        assert "model 'me/x' could not be loaded" in error
        assert "(status 403)" in finished.run("score", "hf://me/nothing", "RUN", code=1, **environment)
        assert "(status 403)" in finished.run("push", "DETECTOR", "me/nothing", code=1, **environment)
    assert len(hub.requests) >= 3, "the hub received requests with the token"
    assert finished.hits() == []


def test_hits_reports_planted_keys(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    for k in range(40):
        (tmp_path / f"{k}.bin").write_bytes(b"\0\xff")
    assert workspace.hits() == []
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "x.bin").write_bytes(b"\0\xff" + SECRETS["HF_TOKEN"].encode())
    workspace.output.append(f"key {SECRETS['OPENAI_API_KEY'][:20]}…")
    assert [hit.split(": ")[1] for hit in workspace.hits()] == ["OPENAI_API_KEY", "HF_TOKEN"]


def test_redacted_message_and_redact_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    (tmp_path / "token").write_text("hf_FROMaFILE0123456789\n")
    message = " ".join([*SECRETS.values(), "hf_FROMaFILE0123456789", "Tokens per key"])
    assert redacted_message(ValueError(f"{message}\nsecond line")) == "… " * (len(SECRETS) + 1) + "Tokens per key"
    # A key at the length limit is removed completely before the text is shortened.
    assert "sk-" not in redacted_message(ValueError("x" * 290 + SECRETS["OPENAI_API_KEY"]))
    assert len(redacted_message(ValueError("x" * 1000))) == 300
    assert redacted_message(KeyError()) == "KeyError"
    # A key may be a prefix of another one; short values, and values of other variables, are not secrets.
    monkeypatch.setenv("OTHER_KEY", SECRETS["OPENAI_API_KEY"] + "-longer")
    assert redact_secrets(SECRETS["OPENAI_API_KEY"] + "-longer.") == "…."
    monkeypatch.setenv("SOME_KEY", "none")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "falseness")
    assert redact_secrets("none falseness") == "none falseness"
