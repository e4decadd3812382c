"""Questions put to a server that speaks OpenAI's protocol: vLLM, SGLang, llama.cpp, Ollama, `transformers serve`, …

The `openai` package does the talking: retries with back-off, time-outs, and whatever a server's dialect needs.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from probemap.models.loading import Endpoint
from probemap.models.prompts import ChatMessage, Prompt, PromptFormat
from probemap.records import ModelError, TextAnswer
from probemap.redact import redacted_message

RETRIES = 8
"""Of one request, the pause doubling from half a second to eight: some forty seconds in all."""

_HINT = "is it up, and is the URL its base, e.g. http://127.0.0.1:8000/v1?  the same command goes on where it stopped"


@dataclass(frozen=True)
class ChatRequest:
    """One question as a server is asked it."""

    id: str
    prompt: Prompt | None
    """As the local model's tokenizer makes it; None, in the ``chat`` frame: no model here."""
    messages: tuple[ChatMessage, ...]
    """The same as a conversation, for a server that puts its own template around it."""


def served_name(endpoint: Endpoint) -> str:
    """What the server calls the model that is asked.

    Raises
    ------
    ModelError: the server does not answer, or serves several models and none is named.
    """
    if endpoint.served:
        return endpoint.served
    with _speaking(endpoint.url) as client:
        return _only_model(client, endpoint.url)


@contextmanager
def _speaking(url: str) -> Iterator[Any]:
    """A client, whose complaints are told as the server's."""
    try:
        import openai
    except ImportError:
        raise ModelError(
            "asking a server needs the openai package, which is not installed", "pip install 'probemap[endpoint]'"
        ) from None
    try:
        # A server of one's own asks for no key, but the client insists on one; OPENAI_API_KEY is read where it is set.
        yield _client(openai, url)
    except openai.OpenAIError as error:
        raise ModelError(f"{url}: {redacted_message(error)}", _HINT) from None


def ask_endpoint(
    endpoint: Endpoint,
    asked: Sequence[ChatRequest],
    *,
    frame: PromptFormat,
    max_new_tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
    log: Callable[[str], None] = lambda text: None,
) -> Iterator[TextAnswer]:
    """The server's replies, in the order of the questions, many of them under way at once.

    In the ``chat`` frame a conversation is sent, and the server puts its template around it; that it makes as many
    tokens of it as the local model's is checked where the server counts them.  In other frames the very prompt is sent,
    and ``qa`` stops at a line break.

    Parameters
    ----------
    seed: with a temperature above 0, question i of `asked` is drawn with ``seed + i``.
    tell: told once if the server counts other prompt tokens.

    Raises
    ------
    ModelError: the `openai` package is missing, or the server does not answer, or refuses.
    """
    with _speaking(endpoint.url) as client:
        served = endpoint.served or _only_model(client, endpoint.url)

        def ask(row: int) -> tuple[TextAnswer, int | None]:
            draw: dict[str, Any] = {"temperature": temperature, "max_tokens": max_new_tokens, "model": served}
            if temperature > 0:
                draw["seed"] = seed + row
            return _chat(client, asked[row], draw) if frame == "chat" else _complete(client, asked[row], draw, frame)

        pool = ThreadPoolExecutor(endpoint.in_flight)
        try:
            warned = False
            for one, (reply, counted) in zip(asked, pool.map(ask, range(len(asked))), strict=True):
                here = len(one.prompt.token_ids) if one.prompt else counted
                if counted is not None and counted != here and not warned:
                    warned = True
                    log(
                        f"the server counts {counted} tokens in the prompt of {one.id!r}, the local model's template "
                        f"makes {here}: states would be read behind another prompt than was answered\n"
                        "hint: serve the same model with the same template, or give the prompts with --answers"
                    )
                yield reply
        finally:
            pool.shutdown(cancel_futures=True)


def _client(openai: Any, url: str) -> Any:
    try:
        return openai.OpenAI(base_url=url, max_retries=RETRIES)
    except openai.OpenAIError:  # no key in the environment
        return openai.OpenAI(base_url=url, max_retries=RETRIES, api_key="none")


def _only_model(client: Any, url: str) -> str:
    names = [str(model.id) for model in client.models.list()]
    if len(names) != 1:
        raise ModelError(
            f"{url} serves {len(names)} models: {', '.join(names[:8]) or 'none'}", "name one with --served-name"
        )
    return names[0]


def _chat(client: Any, one: ChatRequest, draw: dict[str, Any]) -> tuple[TextAnswer, int | None]:
    made = client.chat.completions.create(messages=list(one.messages), **draw)
    choice = made.choices[0]
    thought = getattr(choice.message, "reasoning_content", None) or getattr(choice.message, "reasoning", None)
    begun = one.prompt is not None and one.prompt.text.rstrip().endswith("<think>")
    text = join_reasoning(thought, choice.message.content or "", choice.finish_reason == "stop", begun=begun)
    return TextAnswer(one.id, text, choice.finish_reason == "stop"), _counted(made)


def join_reasoning(thought: object, text: str, stopped: bool, *, begun: bool = False) -> str:
    """What the model wrote: servers take its reasoning out (vLLM, SGLang: `reasoning_content` or `reasoning`).

    Parameters
    ----------
    begun: the prompt ends with the mark that reasoning begins with.
    """
    if not isinstance(thought, str) or not thought:
        return text
    opening = "" if begun else "<think>\n"
    closing = "\n</think>\n\n" if text or stopped else ""
    return f"{opening}{thought.strip()}{closing}{text.lstrip()}"


def _complete(
    client: Any, one: ChatRequest, draw: dict[str, Any], frame: PromptFormat
) -> tuple[TextAnswer, int | None]:
    assert one.prompt is not None
    stop = {"stop": ["\n"]} if frame == "qa" else {}
    made = client.completions.create(prompt=one.prompt.text, **stop, **draw)
    choice = made.choices[0]
    return TextAnswer(one.id, choice.text, choice.finish_reason == "stop"), _counted(made)


def _counted(made: Any) -> int | None:
    """How many tokens the server made of the prompt, if it says."""
    count = getattr(made.usage, "prompt_tokens", None)
    return count if isinstance(count, int) and count > 0 else None
