"""What a request must pass before it is read: its token, its size, and the time that it takes to arrive."""

import asyncio
import hmac
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

OPEN = ("/healthz",)
"""Paths that ask for no token."""
THROWN_AWAY = 16
"""So many times the size that is allowed is read of a request that is refused.  Most clients listen only when they have
sent everything: to close before that is to refuse without a word."""


@dataclass(frozen=True)
class Limits:
    """What one client may ask of the server."""

    body: int = 1_000_000
    """Bytes of a request."""
    seconds: float = 30.0
    """For a request's body to arrive."""
    queue: int = 256
    """Requests that may wait for the model."""
    new_tokens: int = 1024
    """Tokens of one answer."""


def problem(text: str, status: int, hint: str = "") -> dict[str, Any]:
    """An error as OpenAI writes it."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    message = f"{text} (hint: {hint})" if hint else text
    return {"error": {"message": message, "type": kind, "param": None, "code": HTTPStatus(status).name.lower()}}


class Guard:
    """Wraps an application; what does not pass never reaches it.

    Parameters
    ----------
    token: what ``Authorization: Bearer …`` must hold; None: nobody is asked.
    counted: called with path, status and seconds of every request.
    """

    def __init__(
        self, app: ASGIApp, limits: Limits, token: str | None, counted: Callable[[str, int, float], None]
    ) -> None:
        self.app, self.limits, self.counted = app, limits, counted
        self.token = None if token is None else token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            admitted = self._admitted(scope)
            body = await self._body(scope, receive, self.limits.body if admitted else 0)
            if body is not None and not admitted:
                await _refuse(noted, 401, "a bearer token is needed", "send Authorization: Bearer TOKEN")
            elif isinstance(body, int):
                words = {
                    413: f"the request is larger than {self.limits.body} bytes",
                    408: f"the request did not arrive within {self.limits.seconds:g} seconds",
                }
                await _refuse(noted, body, words[body])
            elif body is not None:
                await self.app(scope, _again(body, receive), noted)
        finally:
            self.counted(scope["path"], status, time.perf_counter() - started)

    def _admitted(self, scope: Scope) -> bool:
        if self.token is None or scope["path"] in OPEN:
            return True
        given = dict(scope["headers"]).get(b"authorization", b"")
        kind, _, token = given.partition(b" ")
        # Compared in constant time, whatever the kind says.
        return hmac.compare_digest(token.strip(), self.token) and kind.lower() == b"bearer"

    async def _body(self, scope: Scope, receive: Receive, kept: int) -> bytes | int | None:
        """The whole body, if it has at most `kept` bytes; a status that refuses it; None: the client has gone."""
        most = THROWN_AWAY * self.limits.body
        told = dict(scope["headers"]).get(b"content-length", b"0")
        if told.isdigit() and int(told) > most:
            return 413
        parts, size = [], 0
        try:
            async with asyncio.timeout(self.limits.seconds):
                while size <= most:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    part = message.get("body", b"")
                    size += len(part)
                    if size <= kept:
                        parts.append(part)
                    if not message.get("more_body", False):
                        return b"".join(parts) if size <= kept else 413
                return 413
        except TimeoutError:
            return 408


def _again(body: bytes, receive: Receive) -> Receive:
    """Receives the body that was read, and then what else comes: that the client has gone."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _refuse(send: Send, status: int, text: str, hint: str = "") -> None:
    body = json.dumps(problem(text, status, hint)).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
