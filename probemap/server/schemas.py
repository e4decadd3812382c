"""Requests and responses of the HTTP API.

Chat completions are the response models of the ``openai`` package with one added field, ``probemap``.  Requests have
models of their own, because the package describes requests with ``TypedDict`` classes for clients, which allow images,
audio and tools.
"""

import json
from dataclasses import asdict
from http import HTTPStatus
from typing import Annotated, Any, Literal

from openai.types import CompletionUsage
from openai.types.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionMessage
from openai.types.chat.chat_completion import Choice
from openai.types.chat.chat_completion_chunk import Choice as ChunkChoice
from openai.types.chat.chat_completion_chunk import ChoiceDelta
from pydantic import BaseModel, ConfigDict, Field, model_validator

from probemap.detectors.scores import GenerationResult, Score
from probemap.models.prompts import ChatMessage
from probemap.records import DataError, Example, TextAnswer
from probemap.server.jobs import ScoreJob

Text = Annotated[str, Field(max_length=1_000_000)]


class TextPart(BaseModel):
    """A part of a message; only text is supported."""

    type: Literal["text"]
    text: Text


class Message(BaseModel):
    """A message of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[TextPart]

    def to_chat_message(self) -> ChatMessage:
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": "system" if self.role == "developer" else self.role, "content": text}


Messages = Annotated[list[Message], Field(min_length=1, max_length=1000)]


class ScoreRequest(BaseModel):
    """An answer to score, with the question or the conversation that it answers."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    answer: Text
    """Text of the answer."""
    question: Text | None = None
    """The question; it is inserted into the prompt of the detector's task."""
    messages: Messages | None = None
    """The conversation, used without changes instead of `question`.  Its last user message is the question."""
    context: Text = ""
    """Text that belongs to the question."""
    choices: list[Text] = []
    """Answer options of the question."""
    prompt: Text | None = None
    """The complete prompt of the model, chat template included.  None: the prompt of the detector's task."""
    stopped: bool = True
    """False if the answer was truncated."""
    id: Annotated[str, Field(max_length=200)] = ""
    """Identifier that is returned with the score."""
    revision: str | None = None
    """Revision of the model that generated the answer.  The request is rejected if it is not the detector's model."""
    template: str | None = None
    """SHA-256 of the chat template of that model.  The request is rejected if it is not the detector's model."""

    def to_job(self) -> ScoreJob:
        """Return the request for the dispatcher.

        Raises
        ------
        DataError
            Neither `question` nor `messages` is set, or both are.
        """
        if (self.question is None) == (self.messages is None):
            count = "neither" if self.question is None else "both"
            raise DataError(
                f"the request has {count} of question and messages",
                "give either question, which the task's prompt is applied to, or messages, a complete conversation",
            )
        question = self.question if self.messages is None else last_question(self.messages)
        id_ = self.id or "1"
        return ScoreJob(
            example=Example(id_, question or "", ("",), tuple(self.choices), self.context),
            answer=TextAnswer(id_, self.answer, self.stopped, self.prompt),
            conversation=None if self.messages is None else to_chat_messages(self.messages),
        )


class StreamOptions(BaseModel):
    """Options of a streamed completion."""

    model_config = ConfigDict(extra="allow")

    include_usage: bool = False


class ChatCompletionRequest(BaseModel):
    """A conversation to continue, in the form of OpenAI's chat completions."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False, use_attribute_docstrings=True)

    messages: Messages
    model: str | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """Older name of `max_completion_tokens`."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """None is 0, greedy decoding."""
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    n: Annotated[int, Field(ge=1, le=16)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @model_validator(mode="before")
    @classmethod
    def _is_valid_json(cls, body: Any) -> Any:
        # Python's parser accepts more than JSON allows; such a body could not be sent to an upstream server.
        try:
            json.dumps(body, allow_nan=False, ensure_ascii=False).encode()
        except (ValueError, RecursionError):
            raise ValueError(
                "contains a value that is not valid JSON (NaN, Infinity, a lone surrogate) or is nested too deeply"
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
            Names the parameter.
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
"""Values of unsupported parameters that request the behaviour that the server has anyway."""


def to_chat_messages(messages: list[Message]) -> list[ChatMessage]:
    """Return messages in the form that chat templates take."""
    return [message.to_chat_message() for message in messages]


def last_question(messages: list[Message]) -> str:
    """Return the text of the last user message, the question that the exact answer answers.

    Raises
    ------
    DataError
        No message has the role ``user``.
    """
    for message in reversed(messages):
        if message.role == "user":
            return message.to_chat_message()["content"]
    roles = ", ".join(sorted({message.role for message in messages}))
    raise DataError(f"the messages contain no user message (roles: {roles})", "the last user message is the question")


class AnswerScore(BaseModel):
    """The detector's score of one answer; in a chat completion, the field ``probemap`` of each choice.

    Built from a `probemap.detectors.scorer.Score`, whose field names it shares.
    """

    model_config = ConfigDict(from_attributes=True, use_attribute_docstrings=True)

    p_correct: float | None
    """Probability that the answer is correct; null if the answer could not be scored."""
    flagged: bool | None
    """Whether the probability is below the server's threshold; null if the answer could not be scored."""
    exact_answer: str | None
    """The words of the answer that answer the question; null if none were found."""
    judged_by: Literal["primary", "fallback", "none"]
    """The probe that scored the answer."""
    why: str
    """Why the main probe did not score the answer; empty if it did."""


class ScoreResponse(AnswerScore):
    """The score of an answer, and the detector's threshold and model."""

    id: str
    """The identifier of the request."""
    score: float | None
    """Log-odds before calibration."""
    threshold: float
    """Answers that the main probe gives a lower probability are flagged."""
    model: str
    """Name of the detector's model."""
    revision: str
    """Revision of the detector's model."""

    @classmethod
    def from_score(cls, score: Score, *, threshold: float, model: str, revision: str) -> "ScoreResponse":
        return cls(**asdict(score), threshold=threshold, model=model, revision=revision)


class ScoredChoice(Choice):
    """A choice of a chat completion with its score."""

    probemap: AnswerScore

    @classmethod
    def from_result(cls, index: int, result: GenerationResult) -> "ScoredChoice":
        return cls(
            index=index,
            message=ChatCompletionMessage(role="assistant", content=result.answer.text),
            finish_reason=finish_reason(result),
            logprobs=None,
            probemap=AnswerScore.model_validate(result.score),
        )


class ScoredCompletion(ChatCompletion):
    """A chat completion whose choices have scores."""

    choices: list[ScoredChoice]  # type: ignore[assignment]


class ScoredChunkChoice(ChunkChoice):
    """A choice of a streamed chat completion; its last chunk has the score."""

    probemap: AnswerScore | None = None

    @classmethod
    def last(cls, index: int, result: GenerationResult) -> "ScoredChunkChoice":
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
    """Count the tokens of the choices of one completion; the prompt, which they share, counts once."""
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
    """An error in the form of OpenAI's API."""

    error: ErrorDetail

    @classmethod
    def create(cls, problem: str, status: int, hint: str = "") -> "ErrorResponse":
        return cls(
            error=ErrorDetail(
                message=f"{problem} (hint: {hint})" if hint else problem,
                type="server_error" if status >= 500 else "invalid_request_error",
                param=None,
                code=HTTPStatus(status).name.lower(),
            )
        )
