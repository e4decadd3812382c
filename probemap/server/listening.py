"""The server as a process: its address, its signals, its end."""

import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from probemap.records import ProbemapError

GRACE = 30
"""Seconds that requests under way have when the server is told to end."""


class AddressError(ProbemapError):
    """The server cannot listen there."""


def listen(app: FastAPI, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; requests under way are then ended first.

    Parameters
    ----------
    port: 0 takes any that is free.
    ready: called with the URL when the address is taken.

    Raises
    ------
    AddressError: the address is taken, or not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise AddressError(
            f"cannot listen on {host}, port {port}: {error.strerror or error}",
            "take another --port; 0 takes a free one",
        ) from None
    ready(f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}")
    config = uvicorn.Config(
        app,
        log_level="warning",
        timeout_graceful_shutdown=GRACE,
        server_header=False,
        h11_max_incomplete_event_size=65536,
    )
    uvicorn.Server(config).run(sockets=[listener])
