"""A real server in a thread of the test, on a port of this machine."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import uvicorn
from fastapi import FastAPI

from probemap.detectors.scorer import Scorer
from probemap.server.app import create_app


@contextmanager
def running(app: FastAPI) -> Iterator[httpx2.Client]:
    """A client of an application that is up, and down again afterwards."""
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
def served(scorer: Scorer, **options: Any) -> Iterator[httpx2.Client]:
    """The same of `probemap serve`."""
    with running(create_app(scorer, **options)) as client:
        yield client
