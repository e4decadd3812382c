"""Request answers from an OpenAI-compatible server, with several requests at the same time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from probemap.models.connection import Connection
from probemap.records import ChatMessage, ModelError, TextAnswer

if TYPE_CHECKING:
    from probemap.models.endpoint import Endpoint
    from probemap.models.prompts import Prompt, PromptFormat
    from probemap.models.request_form import Parameters

EXTRACTION = (
    "start `vllm serve` with --speculative-config (method `extract_hidden_states`) and --kv-transfer-config (connector "
    "`ExampleHiddenStatesConnector`), as shown in the documentation, or omit --server-layers"
)
"""Hint for servers that do not extract hidden states."""

_T = TypeVar("_T")


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
    """Return the name of the model on the server.

    Raises
    ------
    ModelError
        If the server does not respond, or if `endpoint` does not name a model and the server provides none or more than
        one.
    """
    if endpoint.served:
        return endpoint.served
    with Connection(endpoint.url) as connection:
        return connection.model


def map_concurrently(function: Callable[[int], _T], n: int, in_flight: int) -> Iterator[_T]:
    """Yield ``function(0)``, …, ``function(n - 1)`` in this order, with at most `in_flight` concurrent calls.

    If a call raises an exception, or if the iteration ends early, calls that have not started are cancelled.
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

    With the ``chat`` format, the conversation is sent and the server applies its chat template.  With other formats,
    the prompt is sent as text.  With the ``qa`` format, generation also stops at a line break.

    Token ids are requested.  If the server returns them, as vLLM does, nothing has to be tokenised again.  Otherwise,
    the number of prompt tokens that the server reports is compared with the number of tokens in the local model's
    prompt.  If `endpoint` has layers, the hidden states of all tokens are requested as well.

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
        Function that is called with a message if the form of the requests changes in a way that affects the generated
        texts.  It is also called once if the server and the local model disagree on the tokens of a prompt.

    Yields
    ------
    TextAnswer
        The answers, in the order of `requests`.

    Raises
    ------
    ModelError
        If the ``openai`` package is not installed, if the server does not respond or rejects a request, if a reply
        contains no text, or if it names no file with the requested hidden states.
    """
    extra: Parameters = {"return_token_ids": True}
    if endpoint.layers:
        extra["kv_transfer_params"] = {"include_output_tokens": True}
    with Connection(endpoint.url, endpoint.served, log=log) as connection:
        _ = connection.model  # requested once, before the requests are sent concurrently

        def ask(row: int) -> tuple[TextAnswer, int | None]:
            request = requests[row]
            parameters: Parameters = {
                "temperature": temperature,
                "max_tokens": max_new_tokens,
                "extra_body": extra,
            }
            if temperature > 0:
                parameters["seed"] = seed + row
            if prompt_format == "chat":
                reply = connection.complete(parameters, messages=list(request.messages))
            else:
                assert request.prompt is not None
                if prompt_format == "qa":
                    parameters["stop"] = ["\n"]
                reply = connection.complete(parameters, prompt=request.prompt.text)
            if endpoint.layers and reply.states_path is None:
                raise ModelError(f"the server's reply to {request.id!r} names no file with hidden states", EXTRACTION)
            answer = TextAnswer(
                request.id,
                reply.text,
                reply.stopped,
                reasoning=reply.reasoning,
                prompt_ids=reply.prompt_ids,
                produced_ids=reply.produced_ids,
                states_path=reply.states_path,
            )
            return answer, reply.n_prompt

        warned = False
        answers = map_concurrently(ask, len(requests), endpoint.in_flight)
        for request, (answer, n_served) in zip(requests, answers, strict=True):
            local = request.prompt.token_ids if request.prompt else ()
            if answer.prompt_ids is not None and local and answer.prompt_ids != local and not warned:
                warned = True
                log(
                    f"the server's prompt of {request.id!r} has other tokens than the local model's chat template "
                    f"yields ({len(answer.prompt_ids)} and {len(local)}): the server's tokens are used\n"
                    "hint: serve the same model with the same chat template"
                )
            n_local = len(local) if answer.prompt_ids is None and request.prompt else n_served
            if n_served is not None and n_served != n_local and not warned:
                warned = True
                log(
                    f"the server counts {n_served} tokens in the prompt of {request.id!r}, but the local model's "
                    f"chat template yields {n_local}: hidden states would be captured after a different prompt\n"
                    "hint: serve the same model with the same chat template, or supply the prompts with --answers"
                )
            yield answer
