"""Requests and responses of the HTTP API.

Chat completions use the response models of the ``openai`` package with one additional field, ``probemap``.  The models
for requests are defined here, because the ``openai`` package describes requests only with client-side ``TypedDict``
classes, which also allow images, audio and tools.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, Literal

from openai.types import CompletionUsage
from openai.types.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionMessage
from openai.types.chat.chat_completion import Choice
from openai.types.chat.chat_completion_chunk import Choice as ChunkChoice
from openai.types.chat.chat_completion_chunk import ChoiceDelta
from pydantic import BaseModel, ConfigDict, Field, model_validator

from probemap.records import DataError

if TYPE_CHECKING:
    from probemap.detectors.scores import GenerationResult, Score
    from probemap.records import ChatMessage

Text = Annotated[str, Field(max_length=1_000_000)]


class TextPart(BaseModel):
    """A part of a message, which must be text."""

    type: Literal["text"]
    text: Text


class Message(BaseModel):
    """A message in a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[TextPart]

    def to_chat_message(self) -> ChatMessage:
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": "system" if self.role == "developer" else self.role, "content": text}


Messages = Annotated[list[Message], Field(min_length=1, max_length=1000)]


class ScoreRequest(BaseModel):
    """An answer to score, together with its question or conversation."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    answer: Text
    """Text of the answer."""
    question: Text | None = None
    """The question, which is inserted into the prompt template of the detector's task."""
    messages: Messages | None = None
    """The conversation that precedes the answer, as an alternative to `question`.

    It is used unchanged, and its last user message is taken as the question.
    """
    context: Text = ""
    """Text that the question refers to."""
    choices: list[Text] = []
    """Answer options for the question."""
    prompt: Text | None = None
    """The complete prompt, including the chat template.  If null, it is created from `question` or `messages`."""
    stopped: bool = True
    """Whether the answer is complete; false if it was truncated."""
    id: Annotated[str, Field(max_length=200)] = ""
    """Identifier that is returned with the score."""
    revision: str | None = None
    """Revision of the model that generated the answer.

    The request is rejected if the detector's model has a different revision.
    """
    template: str | None = None
    """SHA-256 of the chat template of the model that generated the answer.

    The request is rejected if the detector's model has a different chat template.
    """


class StreamOptions(BaseModel):
    """Options for a streamed completion."""

    model_config = ConfigDict(extra="allow")

    include_usage: bool = False


class ChatCompletionRequest(BaseModel):
    """A request for a chat completion in the format of OpenAI's API."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False, use_attribute_docstrings=True)

    messages: Messages
    model: str | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """Deprecated name of `max_completion_tokens`."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """Sampling temperature; 0 and null select greedy decoding."""
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    n: Annotated[int, Field(ge=1, le=16)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @model_validator(mode="before")
    @classmethod
    def _is_valid_json(cls, body: Any) -> Any:
        # Python's parser also accepts values that are not valid JSON and that could not be sent to an upstream server.
        try:
            json.dumps(body, allow_nan=False, ensure_ascii=False).encode()
        except (ValueError, RecursionError):
            raise ValueError(
                "it contains a value that is not valid JSON (NaN, Infinity, a lone surrogate) or is nested too deeply"
            ) from None
        return body

    @property
    def token_limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    def reject_unsupported(self) -> None:
        """Reject parameters that would change the answer but are not supported, instead of ignoring them.

        Raises
        ------
        DataError
            If an unsupported parameter is set to a value that would change the answer.
        """
        for name, value in (self.model_extra or {}).items():
            if name not in _WITHOUT_EFFECT and value not in _NEUTRAL_VALUES.get(name, _EMPTY_VALUES):
                raise DataError(
                    f"the parameter {name!r:.60} is not supported by this server",
                    "remove it, or start the server with --upstream",
                )


_WITHOUT_EFFECT = {"user", "metadata", "store", "safety_identifier", "prompt_cache_key", "service_tier"}
_EMPTY_VALUES: tuple[Any, ...] = (None, False, [], {}, "")
_NEUTRAL_VALUES: dict[str, tuple[Any, ...]] = {
    "top_p": (None, 1, 1.0),
    "frequency_penalty": (None, 0),
    "presence_penalty": (None, 0),
    "response_format": (None, {"type": "text"}),
}
"""Values of unsupported parameters that match the server's default behaviour and are therefore accepted."""


def to_chat_messages(messages: list[Message]) -> list[ChatMessage]:
    """Convert messages to the form that chat templates expect."""
    return [message.to_chat_message() for message in messages]


def last_question(messages: list[Message]) -> str:
    """Return the text of the last user message, which is used as the question.

    Raises
    ------
    DataError
        If no message has the role ``user``.
    """
    for message in reversed(messages):
        if message.role == "user":
            return message.to_chat_message()["content"]
    roles = ", ".join(sorted({message.role for message in messages}))
    raise DataError(
        f"the messages contain no user message (roles: {roles})", "add a user message; the last one is the question"
    )


class AnswerScore(BaseModel):
    """The detector's score for one answer.

    In a chat completion, each choice has a score in its ``probemap`` field.  The score is created from a
    `probemap.detectors.scores.Score` and has the same field names.
    """

    model_config = ConfigDict(from_attributes=True, use_attribute_docstrings=True)

    p_correct: float | None
    """Probability that the answer is correct; null if the answer could not be scored."""
    flagged: bool | None
    """Whether the probability is below the server's threshold; null if the answer could not be scored."""
    exact_answer: str | None
    """The part of the answer that answers the question; null if it was not found."""
    judged_by: Literal["primary", "fallback", "none"]
    """The probe that scored the answer; ``none`` if the answer could not be scored."""
    why: str
    """The reason why the primary probe did not score the answer; empty if it did."""
    accept: bool | None = None
    """Whether the score reaches the acceptance threshold; null if the answer could not be scored or if the detector has
    no acceptance threshold."""
    risk: float | None = None
    """Guaranteed upper limit of the share of incorrect answers among the accepted answers."""
    coverage: float | None = None
    """Share of the held-out answers that the acceptance threshold accepts."""


class ScoreResponse(AnswerScore):
    """The score of an answer, together with the detector's threshold and model."""

    id: str
    """Identifier from the request."""
    score: float | None
    """Log-odds before calibration."""
    threshold: float | None
    """Threshold of the primary probe; answers to which it assigns a lower probability are flagged.  Null if too few
    correct answers were held out to determine it, so that no answer is flagged."""
    model: str
    """Name of the detector's model."""
    revision: str
    """Revision of the detector's model."""

    @classmethod
    def from_score(cls, score: Score, *, threshold: float | None, model: str, revision: str) -> ScoreResponse:
        return cls(**asdict(score), threshold=threshold, model=model, revision=revision)


class ScoredChoice(Choice):
    """A choice in a chat completion, with its score."""

    probemap: AnswerScore

    @classmethod
    def from_result(cls, index: int, result: GenerationResult) -> ScoredChoice:
        return cls(
            index=index,
            message=ChatCompletionMessage(role="assistant", content=result.answer.text),
            finish_reason=finish_reason(result),
            logprobs=None,
            probemap=AnswerScore.model_validate(result.score),
        )


class ScoredCompletion(ChatCompletion):
    """A chat completion whose choices include their scores."""

    choices: list[ScoredChoice]  # type: ignore[assignment]


class ScoredChunkChoice(ChunkChoice):
    """A choice in a chunk of a streamed chat completion.  The last chunk of each choice contains its score."""

    probemap: AnswerScore | None = None

    @classmethod
    def last(cls, index: int, result: GenerationResult) -> ScoredChunkChoice:
        return cls(
            index=index,
            delta=ChoiceDelta(),
            finish_reason=finish_reason(result),
            probemap=AnswerScore.model_validate(result.score),
        )


class ScoredChunk(ChatCompletionChunk):
    """A chunk of a streamed chat completion."""

    choices: list[ScoredChunkChoice]  # type: ignore[assignment]


def finish_reason(result: GenerationResult) -> Literal["stop", "length"]:
    return "stop" if result.answer.stopped else "length"


def usage(results: list[GenerationResult]) -> CompletionUsage:
    """Count the tokens of one completion.  The prompt is shared by all choices and counted only once."""
    prompt_tokens = results[0].answer.n_prompt
    completion_tokens = sum(len(result.answer.produced_ids) for result in results)
    return CompletionUsage(
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        total_tokens=prompt_tokens + completion_tokens,
    )


class ErrorDetail(BaseModel):
    """Description of an error."""

    message: str
    type: str
    param: None
    code: str


class ErrorResponse(BaseModel):
    """An error in the format of OpenAI's API."""

    error: ErrorDetail

    @classmethod
    def create(cls, problem: str, status: int, hint: str = "") -> ErrorResponse:
        return cls(
            error=ErrorDetail(
                message=f"{problem} (hint: {hint})" if hint else problem,
                type="server_error" if status >= 500 else "invalid_request_error",
                param=None,
                code=HTTPStatus(status).name.lower(),
            )
        )
