"""Middleware that authenticates requests, limits their size and the time that they may take to arrive, and reports
their status and duration.

The middleware reads the body of a request before the application does.  The bearer token is checked here rather than in
a dependency of the routes, because FastAPI evaluates dependencies only after it has parsed the body, and the body of a
request without a valid token must not be parsed.  The routes also declare `BEARER` so that the OpenAPI document
includes the authentication scheme.
"""

import asyncio
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass

from fastapi.security import HTTPBearer
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from probemap.server.schemas import ErrorResponse

BEARER = HTTPBearer(auto_error=False, description="The value of PROBEMAP_TOKEN in the environment of the server.")
PUBLIC_PATHS = ("/healthz",)
"""Paths that do not require a token."""
DISCARD_FACTOR = 16
"""Maximum amount of a rejected body that is read and discarded, as a multiple of the size limit.

Most clients read the response only after sending the complete request.  If its body were not read, they would see a
closed connection instead of the error.
"""


@dataclass(frozen=True)
class Limits:
    """Limits on what a client can request."""

    body: int = 1_000_000
    """Maximum size of a request body, in bytes."""
    seconds: float = 30.0
    """Maximum time that a request body may take to arrive, in seconds."""
    queue: int = 256
    """Maximum number of requests waiting for the model."""
    new_tokens: int = 1024
    """Maximum number of tokens in a generated answer."""


class Guard:
    """Middleware that rejects requests that are unauthenticated, too large or too slow.

    Parameters
    ----------
    app : ASGI application
        The application that receives the accepted requests.
    limits : Limits
    token : str or None
        Bearer token that requests must include; None disables authentication.
    on_request : callable
        Called with the path, the status and the duration in seconds of every request.  The status is 0 if no response
        was sent.
    """

    def __init__(
        self, app: ASGIApp, limits: Limits, token: str | None, on_request: Callable[[str, int, float], None]
    ) -> None:
        self.app, self.limits, self.on_request = app, limits, on_request
        self.token = None if token is None else token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0

        async def send_and_note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            authorized = await self._is_authorized(scope)
            body = await self._read_body(scope, receive, self.limits.body if authorized else 0)
            if isinstance(body, bytes) and authorized:
                await self.app(scope, _replay_body(body, receive), send_and_note_status)
            elif body is not None:
                await self._reject(send_and_note_status, body if authorized and isinstance(body, int) else 401)
        finally:
            self.on_request(scope["path"], status, time.perf_counter() - started)

    async def _is_authorized(self, scope: Scope) -> bool:
        if self.token is None or scope["path"] in PUBLIC_PATHS:
            return True
        header = await BEARER(HTTPConnection(scope))
        # Headers are decoded as Latin-1, so encoding the token restores the bytes that the client sent.
        token = b"" if header is None else header.credentials.encode("latin-1")
        # The comparison takes the same time for every token, so that its duration does not reveal the correct token.
        return hmac.compare_digest(token, self.token)

    async def _read_body(self, scope: Scope, receive: Receive, max_kept: int) -> bytes | int | None:
        """Read the body of a request.

        Parameters
        ----------
        max_kept : int
            Maximum size of a body to keep, in bytes.  A larger body is discarded.

        Returns
        -------
        bytes or int or None
            The body, the status code of an error (413 or 408), or None if the client disconnected.
        """
        max_read = DISCARD_FACTOR * self.limits.body
        declared_size = dict(scope["headers"]).get(b"content-length", b"0")
        if declared_size.isdigit() and int(declared_size) > max_read:
            return 413
        chunks, size = [], 0
        try:
            async with asyncio.timeout(self.limits.seconds):
                while size <= max_read:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    chunk = message.get("body", b"")
                    size += len(chunk)
                    if size <= max_kept:
                        chunks.append(chunk)
                    if not message.get("more_body", False):
                        return b"".join(chunks) if size <= max_kept else 413
                return 413
        except TimeoutError:
            return 408

    async def _reject(self, send: Send, status: int) -> None:
        problem, hint = {
            401: ("a bearer token is required", "send the header Authorization: Bearer TOKEN"),
            408: (f"the request body did not arrive within {self.limits.seconds:g} seconds", ""),
            413: (f"the request body is larger than {self.limits.body} bytes", ""),
        }[status]
        body = ErrorResponse.create(problem, status, hint).model_dump_json().encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        if status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _replay_body(body: bytes, receive: Receive) -> Receive:
    """Return an ASGI ``receive`` callable that delivers the body and then the remaining messages of the connection."""
    delivered = False

    async def replay() -> Message:
        nonlocal delivered
        if delivered:
            return await receive()
        delivered = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
