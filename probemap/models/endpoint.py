"""Client for an OpenAI-compatible server, such as vLLM, SGLang, llama.cpp, Ollama or `transformers serve`.

The ``openai`` package handles retries, timeouts and API variants.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from probemap.records import ModelError, RunError, TextAnswer
from probemap.redact import redacted_message

if TYPE_CHECKING:
    from probemap.models.prompts import ChatMessage, Prompt, PromptFormat

RETRIES = 8
"""Maximum number of retries per request.  The delay between retries doubles from 0.5 up to 8 seconds, for a
total of about 40 seconds."""

_HINT = (
    "check that the server is running, and that the URL is its base URL, e.g. http://127.0.0.1:8000/v1; "
    "then repeat the command, which continues where it stopped"
)


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible server.

    Parameters
    ----------
    url : str
        Base URL, e.g. ``http://127.0.0.1:8000/v1``.  The API key is read from the OPENAI_API_KEY environment variable.
    served : str, default ""
        Name of the model on the server.  It can be left empty if the server provides only one model.
    in_flight : int, default 16
        Maximum number of concurrent requests.

    Raises
    ------
    RunError
        If the URL contains a user name or a password, which would otherwise be written to the run directory.

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
        if "@" in urlsplit(self.url).netloc:
            raise RunError(
                "the server's URL contains a user name or a password",
                "remove it from the URL, and pass the API key in the environment variable OPENAI_API_KEY",
            )


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
    with _connect(endpoint.url) as client:
        return _only_model(client, endpoint.url)


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
        If the ``openai`` package is not installed, if the server does not respond, or if it rejects a request.
    """
    with _connect(endpoint.url) as client:
        model_name = endpoint.served or _only_model(client, endpoint.url)

        def ask(row: int) -> tuple[TextAnswer, int | None]:
            options: dict[str, Any] = {"temperature": temperature, "max_tokens": max_new_tokens, "model": model_name}
            if temperature > 0:
                options["seed"] = seed + row
            if prompt_format == "chat":
                return _chat(client, requests[row], options)
            if prompt_format == "qa":
                options["stop"] = ["\n"]
            return _complete(client, requests[row], options)

        pool = ThreadPoolExecutor(endpoint.in_flight)
        try:
            warned = False
            for request, (answer, n_served) in zip(requests, pool.map(ask, range(len(requests))), strict=True):
                n_local = len(request.prompt.token_ids) if request.prompt else n_served
                if n_served is not None and n_served != n_local and not warned:
                    warned = True
                    log(
                        f"the server counts {n_served} tokens in the prompt of {request.id!r}, but the local model's "
                        f"chat template yields {n_local}: hidden states would be captured after a different prompt\n"
                        "hint: serve the same model with the same chat template, or supply the prompts with --answers"
                    )
                yield answer
        finally:
            pool.shutdown(cancel_futures=True)


def join_reasoning(reasoning: object, text: str, stopped: bool, *, opened: bool = False) -> str:
    """Reconstruct the generated text from the reasoning and the answer that a server returned separately.

    Parameters
    ----------
    reasoning : object
        The ``reasoning_content`` or ``reasoning`` field of the response, as returned by vLLM and SGLang.  Any value
        other than a non-empty string means that there is no reasoning.
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


@contextmanager
def _connect(url: str) -> Iterator[Any]:
    """Provide a client, and convert its exceptions to ModelErrors that contain the server's URL."""
    try:
        import openai
    except ImportError:
        raise ModelError(
            "sending requests to a server requires the openai package, which is not installed",
            "pip install 'probemap[endpoint]'",
        ) from None
    try:
        yield _client(openai, url)
    except openai.OpenAIError as error:
        raise ModelError(f"{url}: {redacted_message(error)}", _HINT) from None


def _client(openai: Any, url: str) -> Any:
    try:
        return openai.OpenAI(base_url=url, max_retries=RETRIES)
    except openai.OpenAIError:  # OPENAI_API_KEY is not set: local servers need no key, but the client requires one
        return openai.OpenAI(base_url=url, max_retries=RETRIES, api_key="none")


def _only_model(client: Any, url: str) -> str:
    names = [str(model.id) for model in client.models.list()]
    if len(names) != 1:
        raise ModelError(
            f"expected one model at {url}, but it serves {len(names)} models: {', '.join(names[:8]) or 'none'}",
            "select one with --served-name",
        )
    return names[0]


def _chat(client: Any, request: ChatRequest, options: dict[str, Any]) -> tuple[TextAnswer, int | None]:
    response = client.chat.completions.create(messages=list(request.messages), **options)
    choice = response.choices[0]
    stopped = choice.finish_reason == "stop"
    reasoning = getattr(choice.message, "reasoning_content", None) or getattr(choice.message, "reasoning", None)
    opened = request.prompt is not None and request.prompt.text.rstrip().endswith("<think>")
    text = join_reasoning(reasoning, choice.message.content or "", stopped, opened=opened)
    return TextAnswer(request.id, text, stopped), _n_prompt_tokens(response)


def _complete(client: Any, request: ChatRequest, options: dict[str, Any]) -> tuple[TextAnswer, int | None]:
    assert request.prompt is not None
    response = client.completions.create(prompt=request.prompt.text, **options)
    choice = response.choices[0]
    return TextAnswer(request.id, choice.text, choice.finish_reason == "stop"), _n_prompt_tokens(response)


def _n_prompt_tokens(response: Any) -> int | None:
    """Return the number of prompt tokens, or None if the server does not report it."""
    count = getattr(response.usage, "prompt_tokens", None)
    return count if isinstance(count, int) and count > 0 else None
