"""Client for an OpenAI-compatible server, such as vLLM, SGLang, llama.cpp, Ollama or `transformers serve`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from probemap.models.connection import Connection
from probemap.records import RunError, TextAnswer

if TYPE_CHECKING:
    from probemap.models.prompts import ChatMessage, Prompt, PromptFormat
    from probemap.models.request_form import Parameters

_T = TypeVar("_T")

_OPERATIONS = ("/chat/completions", "/completions", "/models")
"""Paths of single operations, which are removed from the end of a base URL."""


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible server.

    Parameters
    ----------
    url : str
        Base URL, e.g. ``http://127.0.0.1:8000/v1``.  A trailing slash, and the path of a single operation such as
        ``/chat/completions``, are removed.  If a URL without a path leads nowhere, ``/v1`` is appended.  The API key is
        read from the OPENAI_API_KEY environment variable.
    served : str, default ""
        Name of the model on the server.  It can be left empty if the server provides only one model.
    in_flight : int, default 16
        Maximum number of concurrent requests.

    Raises
    ------
    RunError
        If the URL is not an HTTP address, or contains a user name or a password, which would otherwise be written to
        the run directory.

    Examples
    --------
    >>> from probemap import Endpoint
    >>> Endpoint("http://127.0.0.1:8000/v1", in_flight=4)
    Endpoint(url='http://127.0.0.1:8000/v1', served='', in_flight=4)
    """

    url: str
    served: str = ""
    in_flight: int = 16

    def __post_init__(self) -> None:
        url = self.url.strip().rstrip("/")
        for operation in _OPERATIONS:
            url = url.removesuffix(operation).rstrip("/")
        try:
            parts = urlsplit(url)
            is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:  # e.g. a port that is not a number
            is_address = False
        if "@" in url.partition("//")[2].partition("/")[0]:
            raise RunError(
                "the server's URL contains a user name or a password",
                "remove it from the URL, and pass the API key in the environment variable OPENAI_API_KEY",
            )
        if not is_address:
            raise RunError(
                f"{self.url!r:.100} is not the URL of a server", "write it as, for example, http://127.0.0.1:8000/v1"
            )
        object.__setattr__(self, "url", url)


@dataclass(frozen=True)
class ChatRequest:
    """One question to send to a server."""

    id: str
    prompt: Prompt | None
    """The prompt as tokenised by the local model.  With the ``chat`` format, it may be None if there is no local
    model."""
    messages: tuple[ChatMessage, ...]
    """The same prompt as a conversation, to which the server applies its own chat template."""


def served_name(endpoint: Endpoint) -> str:
    """Return the model's name on the server.

    Raises
    ------
    ModelError
        If the server does not respond, or if `endpoint` does not name a model and the server does not provide exactly
        one.
    """
    if endpoint.served:
        return endpoint.served
    with Connection(endpoint.url) as connection:
        return connection.model


def map_concurrently(function: Callable[[int], _T], n: int, in_flight: int) -> Iterator[_T]:
    """Yield ``function(0)``, …, ``function(n - 1)`` in this order, with up to `in_flight` calls at the same time.

    If an exception is raised, or if the iteration is abandoned, calls that have not started are cancelled.
    """
    pool = ThreadPoolExecutor(in_flight)
    try:
        yield from pool.map(function, range(n))
    finally:
        pool.shutdown(cancel_futures=True)


def ask_endpoint(
    endpoint: Endpoint,
    requests: Sequence[ChatRequest],
    *,
    prompt_format: PromptFormat,
    max_new_tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
    log: Callable[[str], None] = lambda text: None,
) -> Iterator[TextAnswer]:
    """Send questions concurrently to a server, and yield its answers.

    With the ``chat`` format, the conversation is sent and the server applies its chat template.  If the server reports
    the number of prompt tokens, that number is compared with the number of tokens in the local model's prompt.  With
    other formats, the prompt is sent as text.  With the ``qa`` format, generation also stops at a line break.

    Parameters
    ----------
    endpoint : Endpoint
    requests : sequence of ChatRequest
    prompt_format : {"chat", "qa", "none"}
    max_new_tokens : int
    temperature : float, default 0.0
        Sampling temperature.  If 0, decoding is greedy.
    seed : int, default 0
        Random seed for sampling.  Request ``i`` is sampled with the seed ``seed + i``.
    log : callable, optional
        Called once with a message if the server and the local model disagree on the number of prompt tokens.

    Yields
    ------
    TextAnswer
        The answers, in the order of `requests`.

    Raises
    ------
    ModelError
        If the ``openai`` package is not installed, if the server does not respond or rejects a request, or if a reply
        contains no text.
    """
    with Connection(endpoint.url, endpoint.served, log=log) as connection:
        _ = connection.model  # requested once, before the requests are sent concurrently

        def ask(row: int) -> tuple[TextAnswer, int | None]:
            request = requests[row]
            parameters: Parameters = {"temperature": temperature, "max_tokens": max_new_tokens}
            if temperature > 0:
                parameters["seed"] = seed + row
            if prompt_format == "chat":
                reply = connection.complete(parameters, messages=list(request.messages))
            else:
                assert request.prompt is not None
                if prompt_format == "qa":
                    parameters["stop"] = ["\n"]
                reply = connection.complete(parameters, prompt=request.prompt.text)
            opened = request.prompt is not None and request.prompt.text.rstrip().endswith("<think>")
            text = join_reasoning(reply.reasoning, reply.text, reply.stopped, opened=opened)
            return TextAnswer(request.id, text, reply.stopped), reply.n_prompt

        warned = False
        answers = map_concurrently(ask, len(requests), endpoint.in_flight)
        for request, (answer, n_served) in zip(requests, answers, strict=True):
            n_local = len(request.prompt.token_ids) if request.prompt else n_served
            if n_served is not None and n_served != n_local and not warned:
                warned = True
                log(
                    f"the server counts {n_served} tokens in the prompt of {request.id!r}, but the local model's "
                    f"chat template yields {n_local}: hidden states would be captured after a different prompt\n"
                    "hint: serve the same model with the same chat template, or supply the prompts with --answers"
                )
            yield answer


def join_reasoning(reasoning: object, text: str, stopped: bool, *, opened: bool = False) -> str:
    """Reconstruct the generated text from the reasoning and the answer that a server returned separately.

    Parameters
    ----------
    reasoning : object
        The reasoning, as returned by vLLM and SGLang.  Any value other than a non-empty string means that there is no
        reasoning.
    text : str
        The answer.
    stopped : bool
        False if the output was cut off.
    opened : bool, default False
        True if the prompt ends with the opening marker of the reasoning.
    """
    if not isinstance(reasoning, str) or not reasoning:
        return text
    opening = "" if opened else "<think>\n"
    closing = "\n</think>\n\n" if text or stopped else ""
    return f"{opening}{reasoning.strip()}{closing}{text.lstrip()}"
