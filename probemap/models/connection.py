"""Send requests to an OpenAI-compatible server, and explain its errors.

The ``openai`` package handles retries, ``Retry-After`` and timeouts.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from typing import Any, TypeVar

from probemap.models.replies import Reply, ReplyError, WebPageError, read_models, read_reply
from probemap.models.request_form import TOO_LONG, AcceptedForm, Parameters
from probemap.records import ModelError
from probemap.redact import redacted_message

RETRIES = 8
"""Maximum number of retries per request.  If the response has a ``Retry-After`` header, it determines the delay before
the next retry.  Otherwise, the delay doubles from 0.5 up to 8 seconds, which is about 40 seconds in total."""

_T = TypeVar("_T")

_CONTINUE = "then repeat the command, which continues where it stopped"

_FILTERED = re.compile(r"content.?filter|content management policy|content.?policy", re.IGNORECASE)
_QUOTA = re.compile(r"quota|billing|credit|balance", re.IGNORECASE)

NO_CONNECTION = (
    "check that the server is running, and that the URL is its base URL, e.g. http://127.0.0.1:8000/v1; " + _CONTINUE
)

HINTS = {
    401: "set the server's API key in the environment variable OPENAI_API_KEY",
    402: f"the account has no credit; add some, {_CONTINUE}",
    403: "check that the API key in the environment variable OPENAI_API_KEY may use this model",
    404: "check the base URL, which usually ends in /v1, and the name of the model (--served-name)",
    405: "check the base URL, which usually ends in /v1",
    408: f"the server took too long; use a lower --in-flight, {_CONTINUE}",
    413: "the request is too long for the server; leave out long texts",
    429: f"the server limits the number of requests; use a lower --in-flight or wait, {_CONTINUE}",
}
"""Mapping from status codes to hints."""


class Connection:
    """A connection to a server.  It is a context manager that closes the connection on exit.

    Parameters
    ----------
    url : str
        Base URL of the server.
    served : str
        Name of the model on the server.  It may be empty if the server provides only one model.
    form : AcceptedForm, optional
        The form of requests that the server accepts, shared with other connections.
    log : callable, optional
        Function that is called with a message if the form of the requests changes in a way that affects the generated
        texts.

    Raises
    ------
    ModelError
        If the ``openai`` package is not installed.
    """

    def __init__(
        self,
        url: str,
        served: str = "",
        *,
        form: AcceptedForm | None = None,
        log: Callable[[str], None] = lambda text: None,
    ) -> None:
        try:
            import openai
        except ImportError:
            raise ModelError(
                "sending requests to a server requires the openai package, which is not installed",
                "pip install 'probemap[endpoint]'",
            ) from None
        self._openai, self._url, self._served, self._log = openai, url, served, log
        self.form = form or AcceptedForm(url)
        self._clients: dict[str, Any] = {}
        self._http = openai.DefaultHttpxClient(event_hooks={"response": [_use_reported_status]})

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *error: object) -> None:
        self._http.close()

    @property
    def model(self) -> str:
        """Name of the model on the server.

        Raises
        ------
        ModelError
            If the server does not respond, or if no name was given and the server does not provide exactly one model.
        """
        if not self._served:
            names = self._request(lambda client, _: read_models(client.models.with_raw_response.list().text), {})
            if len(names) != 1:
                raise ModelError(
                    f"expected one model at {self._url}, but it serves {len(names)} models: "
                    f"{', '.join(names[:8]) or 'none'}",
                    "select one with --served-name",
                )
            self._served = names[0]
        return self._served

    def complete(
        self, parameters: Parameters, *, messages: list[dict[str, str]] | None = None, prompt: str | None = None
    ) -> Reply:
        """Request a chat completion of a conversation, or a completion of a prompt.

        If the server's content filter rejects the prompt, the reply is empty and marked as cut off.

        Raises
        ------
        ModelError
            If the server does not respond or rejects the request, or if its reply contains no text.
        """
        max_tokens, model = parameters["max_tokens"], self.model
        if messages is not None:
            messages = [{name: _encodable(value) for name, value in message.items()} for message in messages]

        def send(client: Any, accepted: Parameters) -> Reply:
            try:
                if messages is None:
                    create = client.completions.with_raw_response.create
                    response = create(model=model, prompt=_encodable(prompt or ""), **accepted)
                else:
                    create = client.chat.completions.with_raw_response.create
                    response = create(model=model, messages=messages, **accepted)
            except self._openai.BadRequestError as error:
                if _FILTERED.search(f"{error} {error.body}"):
                    return Reply(text="", reasoning="", stopped=False, n_prompt=None, n_produced=None)
                raise
            return read_reply(response.text, max_tokens=max_tokens)

        reply = self._request(send, parameters)
        if reply.unknown_reason and self.form.is_first(reply.unknown_reason):
            self._log(
                f"the server's finish_reason {reply.unknown_reason!r} is not known: replies with it count as cut off "
                "if they reach the token limit, or if the server does not report their number of tokens"
            )
        return reply

    def _request(self, send: Callable[[Any, Parameters], _T], parameters: Parameters) -> _T:
        """Send a request.  If the server refuses its form, send it again in another form."""
        while True:
            base, accepted = self.form.base, self.form.apply(parameters)
            try:
                return send(self._client(base), accepted)
            except self._openai.APIStatusError as error:
                status, message = error.status_code, f"{error} {error.body}"
                if self.form.adapt(base, accepted, status, message, self._log):
                    continue
                raise ModelError(f"{base}: {redacted_message(error)}", hint_for(status, message)) from None
            except self._openai.APITimeoutError:
                raise ModelError(f"{base}: the server did not respond in time", HINTS[408]) from None
            except self._openai.OpenAIError as error:
                cause = f" ({redacted_message(error.__cause__)})" if error.__cause__ else ""
                raise ModelError(f"{base}: {redacted_message(error)}{cause}", NO_CONNECTION) from None
            except ReplyError as error:
                is_page = isinstance(error, WebPageError)
                if is_page and self.form.adapt(base, accepted, 200, error.problem, self._log):
                    continue
                raise ReplyError(f"{base}: {error.problem}", error.hint) from None

    def _client(self, base: str) -> Any:
        if base not in self._clients:
            self._clients[base] = self._openai.OpenAI(
                base_url=base, api_key=_api_key(), max_retries=RETRIES, http_client=self._http
            )
        return self._clients[base]


def _api_key() -> str:
    """Return the API key from the environment.  If it is not set, return ``none``, for servers that need no key."""
    key = os.environ.get("OPENAI_API_KEY", "").strip() or "none"
    if not (key.isascii() and key.isprintable()):
        raise ModelError(
            "the environment variable OPENAI_API_KEY contains characters that an API key cannot contain",
            "copy the key again",
        )
    return key


def hint_for(status: int, message: str) -> str:
    """Return a hint for an error response of a server.

    Examples
    --------
    >>> from probemap.models.connection import hint_for
    >>> hint_for(401, "Incorrect API key provided")
    "set the server's API key in the environment variable OPENAI_API_KEY"
    """
    if status == 429 and _QUOTA.search(message):
        return HINTS[402]
    if status in HINTS:
        return HINTS[status]
    if status >= 500:
        return f"the server failed; look at its log, {_CONTINUE}"
    if TOO_LONG.search(message):
        return "the prompt and the reply exceed the server's context window; increase it, or leave out long texts"
    return "the server does not accept the request; check that the model generates text and accepts this format"


def _encodable(text: str) -> str:
    """Return the text with a question mark in place of each lone surrogate, which UTF-8 cannot encode."""
    return text.encode("utf-8", "replace").decode()


def _use_reported_status(response: Any) -> None:
    """Change the status code of a response with status 200 that contains only an error to the code of this error.

    Routers that forward requests to several services send such responses.  With its own status code, the error is
    retried and reported like other errors.
    """
    if response.status_code != 200:
        return
    response.read()
    try:
        body = json.loads(response.content)
    except (ValueError, RecursionError):
        return  # rejected when the reply is read
    if not isinstance(body, dict) or not body.get("error") or body.get("choices"):
        return
    error = body["error"]
    code = str(error.get("code") if isinstance(error, dict) else body.get("code"))
    response.status_code = int(code) if re.fullmatch(r"[45]\d\d", code) else 400
