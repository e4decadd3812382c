"""Run the server until a signal stops it."""

import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from probemap.records import ProbemapError

GRACE_SECONDS = 30
"""Maximum number of seconds to wait for requests in progress when the server shuts down."""


class AddressError(ProbemapError):
    """The server cannot listen on the address."""


def listen(app: FastAPI, host: str, port: int, on_ready: Callable[[str], None]) -> None:
    """Serve an application until SIGINT or SIGTERM is received, then finish the requests in progress.

    Parameters
    ----------
    app : FastAPI
    host : str
        Host name or IP address to listen on.
    port : int
        Port to listen on; 0 selects a free port.
    on_ready : callable
        Called with the server's URL as soon as it accepts connections.

    Raises
    ------
    AddressError
        If the address is in use or does not belong to this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise AddressError(
            f"cannot listen on {host}, port {port}: {error.strerror or error}",
            "choose a different --port, or 0 to select a free port",
        ) from None
    on_ready(f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}")
    config = uvicorn.Config(
        app,
        log_level="warning",
        timeout_graceful_shutdown=GRACE_SECONDS,
        server_header=False,
        h11_max_incomplete_event_size=65536,
    )
    uvicorn.Server(config).run(sockets=[listener])
