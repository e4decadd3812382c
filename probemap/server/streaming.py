"""Stream responses as server-sent events, and cancel work when the client disconnects.

The events are written with FastAPI's functions instead of the sse-starlette package.  When that package is imported,
it replaces ``uvicorn.Server.handle_exit``, and by default it cancels every stream on SIGTERM, whereas uvicorn lets the
streams finish.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable
from typing import Any, TypeVar

from fastapi import Request
from fastapi.sse import EventSourceResponse, format_sse_event

from probemap.records import ProbemapError
from probemap.server.schemas import ErrorResponse

T = TypeVar("T")


class ClientDisconnectedError(Exception):
    """The client closed the connection."""


async def event_stream(request: Request, chunks: AsyncIterator[dict[str, Any]]) -> EventSourceResponse:
    """Send chunks as server-sent events in the format of OpenAI's API.

    The response starts only when the first chunk is available.  An earlier error therefore determines the status
    code of the response, whereas a later error is sent as the last event.

    Parameters
    ----------
    request : Request
    chunks : asynchronous iterator of dict

    Returns
    -------
    EventSourceResponse

    Raises
    ------
    ClientDisconnectedError
        If the client disconnected before the first chunk.
    ProbemapError
        If an error occurred before the first chunk.
    """
    first = await unless_disconnected(request, anext(chunks, None))

    async def events() -> AsyncIterator[bytes]:
        try:
            if first is not None:
                yield _event(first)
            async for chunk in chunks:
                yield _event(chunk)
            yield format_sse_event(data_str="[DONE]")
        except ProbemapError as error:
            yield _event(ErrorResponse.create(error.problem, 503, error.hint).model_dump())

    return EventSourceResponse(events(), headers={"cache-control": "no-cache"})


def _event(data: dict[str, Any]) -> bytes:
    return format_sse_event(data_str=json.dumps(data))


async def unless_disconnected(request: Request, work: Awaitable[T]) -> T:
    """Wait for `work` and return its result, or cancel it if the client disconnects.

    Starlette detects disconnects while a response is streamed, but not before the response starts.

    Parameters
    ----------
    request : Request
    work : awaitable

    Returns
    -------
    object
        The result of `work`.

    Raises
    ------
    ClientDisconnectedError
        If the client disconnected before the work was finished.
    """
    task = asyncio.ensure_future(work)
    disconnect = asyncio.create_task(_wait_for_disconnect(request))
    try:
        await asyncio.wait({task, disconnect}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnectedError
        return task.result()
    finally:
        task.cancel()
        disconnect.cancel()


async def _wait_for_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
