"""An OpenAI-compatible server in the test process: requests pass through the `openai` client, but not the network."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import httpx2
import openai
import pytest

Respond = Callable[[str, dict[str, Any]], Any]
"""Function ``(path, body) -> response`` that returns an ``httpx2.Response``, or the JSON body of a response with status
200."""


class FakeEndpoint:
    """Records the requests, and answers them with a function.

    Every host name leads to this server, which provides the models `names`.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, respond: Respond, *names: str) -> None:
        self.respond, self.names = respond, names or ("only",)
        self.requests: list[dict[str, Any]] = []
        self.urls: list[str] = []
        self.headers: list[httpx2.Headers] = []
        client = partial(httpx2.Client, transport=httpx2.MockTransport(self.handle))
        monkeypatch.setattr(openai, "DefaultHttpxClient", client)

    def handle(self, request: httpx2.Request) -> httpx2.Response:
        self.urls.append(str(request.url))
        self.headers.append(request.headers)
        if request.method == "GET":
            return httpx2.Response(200, json={"object": "list", "data": [{"id": name} for name in self.names]})
        body = json.loads(request.content)
        self.requests.append(body)
        response = self.respond(request.url.path, body)
        return response if isinstance(response, httpx2.Response) else httpx2.Response(200, json=response)


def chat_reply(content: Any, finish_reason: Any = "stop", usage: Any = None, **message: Any) -> dict[str, Any]:
    """The body of a chat completion."""
    message = {"role": "assistant", "content": content, **message}
    choice = {"index": 0, "message": message, "text": content, "finish_reason": finish_reason}
    return {"id": "x", "object": "chat.completion", "created": 0, "model": "only", "choices": [choice], "usage": usage}


def error_reply(status: int, message: str, headers: dict[str, str] | None = None, **more: Any) -> httpx2.Response:
    """An error response, as OpenAI's API sends it."""
    return httpx2.Response(status, json={"error": {"message": message, "code": None, **more}}, headers=headers)
