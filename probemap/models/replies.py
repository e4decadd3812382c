"""Read and check replies of OpenAI-compatible servers.  Only the fields that are used are kept."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import AliasChoices, BaseModel, Field, ValidationError, model_validator

from probemap.records import ModelError
from probemap.redact import redact_secrets

CUT_OFF = frozenset(
    "length max_tokens max_length model_length token_limit limit time_limit not_finished incomplete max_output_tokens "
    "model_context_window_exceeded content_filter content_filtered guardrail_intervened safety recitation blocklist "
    "prohibited_content spii sensitive error error_limit error_toxic network_error abort aborted cancelled canceled "
    "user_cancel interrupted timeout insufficient_system_resource".split()
)
"""Values of ``finish_reason`` for incomplete texts."""

COMPLETE = frozenset(
    "stop eos eos_token eos_found end end_turn end_of_turn end_of_text stop_sequence stop_token stop_string "
    "stop_criteria complete completed finished tool_calls tool_call tool_use function_call function_calls".split()
)
"""Values of ``finish_reason`` for texts that the model has completed."""

_SURROGATE = re.compile(
    r"(?P<escaped>\\\\)|(?P<pair>\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)
"""Escape sequences of UTF-16 surrogates in JSON, and escaped backslashes, after which no sequence starts."""

_STREAM = re.compile(r"\s*(?::|(?:data|event|id|retry):)")
"""Start of a stream of server-sent events."""

SHOWN = 120
"""Maximum number of characters of a reply that are shown in an error message."""


class ReplyError(ModelError):
    """A server replied with status 200, but the reply is not in the expected format."""


class WebPageError(ReplyError):
    """A server replied with a web page."""


@dataclass(frozen=True)
class Reply:
    """The generated text of a reply.

    Examples
    --------
    >>> from probemap.models.replies import read_reply
    >>> read_reply('{"choices": [{"message": {"content": "Lima."}, "finish_reason": "length"}]}', max_tokens=8)
    Reply(text='Lima.', reasoning='', stopped=False, n_prompt=None, n_produced=None, unknown_reason='', prompt_ids=None,
          produced_ids=None, states_path=None)
    """

    text: str
    """The answer, or the refusal if the server returns a refusal in a separate field and no answer."""
    reasoning: str
    """Reasoning that the server returned separately.  Empty if there is none."""
    stopped: bool
    """False if the text was cut off, or if the server does not report whether it was."""
    n_prompt: int | None
    """Number of prompt tokens, or None if the server does not report it."""
    n_produced: int | None
    """Number of generated tokens, or None if the server does not report it."""
    unknown_reason: str = ""
    """The value of ``finish_reason`` if it is not known.  Otherwise, an empty string."""
    prompt_ids: tuple[int, ...] | None = None
    """Token ids of the prompt, or None if the server does not report them."""
    produced_ids: tuple[int, ...] | None = None
    """Token ids that the model produced, or None if the server does not report them."""
    states_path: str | None = None
    """Path of the file with the hidden states that a vLLM server has extracted, or None if the server names none."""


class _Message(BaseModel):
    content: str | list[Any] | None = None
    refusal: str | None = None
    reasoning_content: Any = None
    reasoning: Any = None


class _Choice(BaseModel):
    message: _Message | None = None
    text: str | None = None
    finish_reason: Any = None
    token_ids: Any = None
    prompt_token_ids: Any = None


class _Completion(BaseModel):
    choices: list[_Choice] | None = None
    usage: Any = None
    prompt_token_ids: Any = None
    kv_transfer_params: Any = None


class _ChunkChoice(_Choice):
    delta: dict[str, Any] = {}


class _Chunk(BaseModel):
    choices: list[_ChunkChoice] | None = None
    usage: Any = None


class _Model(BaseModel):
    id: str = Field(validation_alias=AliasChoices("id", "name"))


class _Models(BaseModel):
    data: list[_Model | str] | None = Field(validation_alias=AliasChoices("data", "models"))

    @model_validator(mode="before")
    @classmethod
    def _wrap_list(cls, value: Any) -> Any:
        return {"data": value} if isinstance(value, list) else value


_Schema = TypeVar("_Schema", bound=BaseModel)


def read_reply(body: str, *, max_tokens: int) -> Reply:
    """Read a chat completion or a completion.

    Parameters
    ----------
    body : str
        Body of the server's response.
    max_tokens : int
        The requested maximum number of tokens.  If the ``finish_reason`` is missing or not known, a text that reaches
        this number counts as cut off.  If the number of tokens is not reported either, a text counts as complete only
        if it has fewer bytes, and thus fewer tokens, than this number.

    Raises
    ------
    ReplyError
        If the body is not JSON, has no choices, or its first choice contains no message and no text.
    """
    completion = _parse(_Completion, body)
    if not completion.choices:
        raise ReplyError(
            f"the reply contains no choices: {_shown(body)}",
            "the service behind the server failed; repeat the command, which continues where it stopped",
        )
    choice = completion.choices[0]
    message = choice.message or _Message(content=choice.text)
    if choice.message is None and choice.text is None:
        raise ReplyError(
            f"the reply contains neither a message nor a text: {_shown(body)}",
            "check that the URL is that of an OpenAI-compatible server and that the model generates text",
        )
    content = message.content
    text = content if isinstance(content, str) else "".join(_texts(content or (), "text"))
    separate = next((r for r in (message.reasoning_content, message.reasoning) if isinstance(r, str) and r), "")
    reasoning = separate or ("" if isinstance(content, str) else "".join(_texts(content or (), "thinking")))
    n_produced = _count(completion.usage, "completion_tokens")
    text = text or message.refusal or ""
    stopped = is_complete(choice.finish_reason)
    is_unknown = stopped is None and choice.finish_reason
    if stopped is None:
        stopped = (len((reasoning + text).encode()) if n_produced is None else n_produced) < max_tokens
    return Reply(
        text=text,
        reasoning=reasoning,
        stopped=stopped,
        n_prompt=_count(completion.usage, "prompt_tokens"),
        n_produced=n_produced,
        prompt_ids=_token_ids(choice.prompt_token_ids) or _token_ids(completion.prompt_token_ids),
        produced_ids=_token_ids(choice.token_ids),
        states_path=_states_path(completion.kv_transfer_params),
        unknown_reason=redact_secrets(str(choice.finish_reason))[:SHOWN] if is_unknown else "",
    )


def read_models(body: str) -> list[str]:
    """Read the names of the models that a server provides.

    The list may be the reply itself or its field ``data`` or ``models``, with objects or names as items.

    Raises
    ------
    ReplyError
        If the body is not a list of models.
    """
    return [model if isinstance(model, str) else model.id for model in _parse(_Models, body).data or ()]


def _parse(schema: type[_Schema], body: str) -> _Schema:
    try:
        return schema.model_validate_json(_without_lone_surrogates(_join_events(body)))
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)[0]
    if body.lstrip()[:1] == "<":
        raise WebPageError(
            f"the reply is a web page instead of JSON: {_shown(body)}",
            "check the base URL, which usually ends in /v1, and whether a proxy or a login page is in between",
        )
    if details["type"] == "json_invalid":
        raise ReplyError(
            f"the reply is not valid JSON: {_shown(body) or 'it is empty'}",
            "the reply may have been cut off on the way; repeat the command, which continues where it stopped",
        )
    field = ".".join(map(str, details["loc"])) or "the reply"
    raise ReplyError(
        f"the reply has an unexpected format: {field}: {details['msg']}: {_shown(body)}",
        "check that the URL is that of an OpenAI-compatible server",
    )


def _texts(parts: Sequence[Any], kind: str) -> list[str]:
    """Return the texts of the parts of a message that have the given type, e.g. ``text`` or ``thinking``."""
    texts: list[str] = []
    for part in parts:
        if isinstance(part, str):
            texts += [part] if kind == "text" else []
        elif isinstance(part, dict) and part.get("type", "text") in (kind, f"output_{kind}"):
            value = part.get(kind)
            texts += [value] if isinstance(value, str) else _texts(value, "text") if isinstance(value, list) else []
    return texts


def _count(usage: Any, name: str) -> int | None:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and value > 0 else None


def _token_ids(ids: Any) -> tuple[int, ...] | None:
    is_valid = isinstance(ids, list) and all(type(i) is int and i >= 0 for i in ids)
    return tuple(ids) if is_valid and ids else None


def _states_path(kv_transfer_params: Any) -> str | None:
    path = kv_transfer_params.get("hidden_states_path") if isinstance(kv_transfer_params, dict) else None
    return path if isinstance(path, str) and path else None


def _join_events(body: str) -> str:
    """Return one completion as JSON if the body is a stream of events; otherwise, return the body unchanged.

    Some servers send a stream although it was not requested.
    """
    if not _STREAM.match(body):
        return body
    message: dict[str, str] = {}
    completion: dict[str, Any] = {"choices": []}
    for line in body.splitlines():
        if not line.startswith("data:") or line.endswith("[DONE]"):
            continue
        try:
            chunk = _Chunk.model_validate_json(_without_lone_surrogates(line.removeprefix("data:")))
        except ValidationError:
            return body  # reported as invalid
        completion["usage"] = chunk.usage or completion.get("usage")
        for choice in chunk.choices or ():
            parts = {"content": choice.text, **choice.delta}
            for name in ("content", "reasoning_content", "reasoning", "refusal"):
                if isinstance(part := parts.get(name), str):
                    message[name] = message.get(name, "") + part
            reason = choice.finish_reason or completion.get("finish_reason")
            completion |= {"finish_reason": reason, "choices": [{"message": message, "finish_reason": reason}]}
    if "[DONE]" not in body and not completion.get("finish_reason"):  # the stream was interrupted
        completion["choices"] = [choice | {"finish_reason": "incomplete"} for choice in completion["choices"]]
    return json.dumps(completion)


def _without_lone_surrogates(body: str) -> str:
    """Return JSON text with U+FFFD in place of each escape sequence of half a character, which is no Unicode text.

    Servers send such a half if the last token of a reply ends inside a character.
    """
    if not _SURROGATE.search(body):
        return body
    return _SURROGATE.sub(lambda match: match[0] if match["pair"] or match["escaped"] else r"\ufffd", body)


def is_complete(finish_reason: Any) -> bool | None:
    """Return whether a model has completed its text, or None if the ``finish_reason`` is missing or not known.

    Some servers write ``FinishReason.MAX_TOKENS``, ``stop-sequence`` or ``{"type": "length"}``.

    Examples
    --------
    >>> from probemap.models.replies import is_complete
    >>> [is_complete(reason) for reason in ("stop", "FinishReason.MAX_TOKENS", {"type": "length"}, "other", None)]
    [True, False, False, None, None]
    """
    if isinstance(finish_reason, dict):
        finish_reason = finish_reason.get("type")
    if finish_reason is None:
        return None
    reason = re.sub(r"[\s-]+", "_", str(finish_reason).strip().rpartition(".")[2].lower())
    reason = reason.removeprefix("finish_reason_")
    if reason in COMPLETE:
        return True
    return False if reason in CUT_OFF else None


def _shown(body: str) -> str:
    return " ".join(redact_secrets(body).split())[:SHOWN]
