"""``probemap serve`` as a process: its address, shutdown, and the models that it refuses."""

import json
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from conftest import byte_level_tokenizer, save_tiny_model
from serving import user_messages

from probemap.detectors.detector import Detector
from probemap.models.model import load_model


@pytest.fixture
def command(detector_folder: Path, chat_folder: Path) -> list[str]:
    start = [sys.executable, "-m", "probemap.cli.main", "serve", str(detector_folder), "--model", str(chat_folder)]
    return [*start, "--device", "cpu", "--port", "0"]


def test_serve_prints_its_address_and_finishes_requests_at_sigterm(command: list[str]) -> None:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    assert url.startswith("http://127.0.0.1:")
    body = {"messages": user_messages("What is 7 + 5?"), "max_tokens": 150}
    with ThreadPoolExecutor(1) as pool, httpx2.Client(base_url=url, timeout=60) as client:
        post = pool.submit(client.post, "/v1/chat/completions", json=body)
        while "probemap_batch_size_count 1.0" not in httpx2.get(f"{url}/metrics").text:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        response = post.result()
    assert response.status_code == 200
    assert response.json()["choices"][0]["probemap"]["p_correct"] is not None
    stdout, stderr = process.communicate(timeout=60)
    # The signal ends the process, as its sender expects, but only after the request is finished.
    assert (process.returncode, stdout) == (128 + signal.SIGTERM, "")
    assert "Traceback" not in stderr


def test_serve_finishes_streams_at_sigterm(command: list[str]) -> None:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    body = {"messages": user_messages("What is 7 + 5?"), "max_tokens": 150, "stream": True}
    events: list[str] = []
    with httpx2.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=60) as response:
        for line in filter(None, response.iter_lines()):
            if not events:
                process.send_signal(signal.SIGTERM)
            events.append(line.removeprefix("data: "))
    stdout, stderr = process.communicate(timeout=60)
    assert events[-1] == "[DONE]"
    assert json.loads(events[-2])["choices"][0]["probemap"]["p_correct"] is not None
    assert (process.returncode, stdout) == (128 + signal.SIGTERM, "")
    assert "Traceback" not in stderr


def test_serve_rejects_an_address_in_use(command: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        process = subprocess.run([*command[:-1], port], capture_output=True, text=True, timeout=60)
    assert process.returncode == 1
    assert f"cannot listen on 127.0.0.1, port {port}: Address already in use" in process.stderr
    assert "hint: choose a different --port, or 0 to select a free port" in process.stderr
    assert "Traceback" not in process.stderr


@pytest.mark.parametrize("difference", ["weights", "tokenizer", "template"])
def test_serve_rejects_a_different_model(
    command: list[str], detector: Detector, tmp_path: Path, difference: str
) -> None:
    tokenizer = byte_level_tokenizer()
    if difference == "tokenizer":
        tokenizer.add_tokens(["Vienna"])
    if difference == "template":
        tokenizer.chat_template = str(tokenizer.chat_template).replace("assistant", "bot")
    folder = save_tiny_model(tmp_path / "other", tokenizer, seed=int(difference == "weights"))
    process = subprocess.run([*command, "--model", str(folder)], capture_output=True, text=True, timeout=60)
    assert (process.returncode, process.stdout) == (1, "")
    assert detector.required_provenance().revision[:16] in process.stderr
    assert load_model(folder).revision[:16] in process.stderr
    assert "Traceback" not in process.stderr


def test_serve_warns_about_a_public_address_without_token(command: list[str]) -> None:
    process = subprocess.run([*command, "--host", "256.0.0.1"], capture_output=True, text=True, timeout=60)
    assert "256.0.0.1 is reachable from other machines and no token is required: set PROBEMAP_TOKEN" in process.stderr
    assert "cannot listen on 256.0.0.1" in process.stderr
