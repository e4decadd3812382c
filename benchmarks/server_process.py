"""A ``probemap serve`` process to measure, and raw requests to send to it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

MALFORMED: tuple[tuple[str, bytes], ...] = (
    ("/v1/score", b""),
    ("/v1/score", b"{"),
    ("/v1/score", b"[1, 2]"),
    ("/v1/score", b"\xff\xfe"),
    ("/v1/score", b"[" * 10_000),
    ("/v1/score", b'{"answer": 8, "question": "a"}'),
    ("/v1/score", b'{"answer": NaN, "question": "a"}'),
    ("/v1/score", b'{"answer": "8", "question": "a", "stopped": Infinity}'),
    ("/v1/score", b'{"answer": "8"}'),
    ("/v1/score", b'{"answer": "\\ud800", "question": "a"}'),
    ("/v1/chat/completions", b'{"messages": []}'),
    ("/v1/chat/completions", b'{"messages": "hello"}'),
    ("/v1/chat/completions", b'{"messages": [{"role": "user", "content": "a"}], "temperature": NaN}'),
    ("/v1/chat/completions", b'{"messages": [{"role": "user", "content": "a"}], "user": NaN}'),
    ("/v1/chat/completions", b'{"messages": [{"role": "user", "content": "a"}], "top_p": -Infinity}'),
    ("/v1/chat/completions", b'{"messages": [{"role": "user", "content": "a"}], "max_tokens": 1e999}'),
)
"""Paths and bodies whose response must be a 4xx error."""


@dataclass(frozen=True)
class ServerProcess:
    """A server that accepts requests."""

    url: str
    process: psutil.Popen

    @property
    def host(self) -> str:
        return self.url.removeprefix("http://").partition(":")[0]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def megabytes(self) -> float:
        """Resident memory."""
        return float(self.process.memory_info().rss / 1e6)

    @property
    def alive(self) -> bool:
        return self.process.poll() is None


@contextmanager
def start_server(detector: Path, *options: str) -> Iterator[ServerProcess]:
    """Start ``probemap serve`` on a free port, and end it with SIGTERM."""
    command = [sys.executable, "-m", "probemap.cli.main", "serve", str(detector), "--port", "0", *options]
    process = psutil.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        url = process.stdout.readline().strip()
        if not url:
            raise SystemExit("the server did not start; its error message is above")
        yield ServerProcess(url, process)
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()


def raw_request(path: str, body: object, *, chunked: bool = False) -> bytes:
    """Return the bytes of a POST request; a body that is not bytes is encoded as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
    if chunked:
        return f"{head}transfer-encoding: chunked\r\n\r\n{len(content):x}\r\n".encode() + content + b"\r\n0\r\n\r\n"
    return f"{head}content-length: {len(content)}\r\n\r\n".encode() + content
