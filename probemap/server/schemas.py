"""What the server is asked and what it says: OpenAI's chat completions, and a score for an answer that is there."""

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from probemap.detectors.scorer import Score
from probemap.models.prompts import ChatMessage
from probemap.records import DataError, Example, TextAnswer

Text = Annotated[str, Field(max_length=1_000_000)]


class Part(BaseModel):
    """A part of a message; text is the only kind that is read."""

    type: Literal["text"]
    text: Text


class Message(BaseModel):
    """A turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[Part]

    @property
    def turn(self) -> ChatMessage:
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": "system" if self.role == "developer" else self.role, "content": text}


Messages = Annotated[list[Message], Field(min_length=1, max_length=1000)]


class ScoreRequest(BaseModel):
    """An answer to be scored: to a question, put as the detector's own were, or to a conversation."""

    model_config = ConfigDict(extra="forbid")

    answer: Text
    question: Text | None = None
    messages: Messages | None = None
    """Instead of `question`; the last user turn is the question."""
    context: Text = ""
    choices: list[Text] = []
    prompt: Text | None = None
    """What the model saw, template included; None: as the detector's own questions were put."""
    stopped: bool = True
    """False if the answer was cut off."""
    id: Annotated[str, Field(max_length=200)] = ""
    revision: str | None = None
    """Of the model that gave the answer, if it is known: another than the detector's is refused."""
    template: str | None = None
    """SHA-256 of its chat template, likewise."""

    def example(self) -> Example:
        """Raises DataError: neither question nor messages, or both."""
        if (self.question is None) == (self.messages is None):
            raise DataError("give either question or messages", "messages are a conversation, a question is put anew")
        question = self.question if self.messages is None else last_question(self.messages)
        return Example(self.id or "1", question or "", ("",), tuple(self.choices), self.context)

    def reply(self) -> TextAnswer:
        return TextAnswer(self.id or "1", self.answer, self.stopped, self.prompt)

    def turns(self) -> list[ChatMessage] | None:
        return None if self.messages is None else [m.turn for m in self.messages]


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="allow")

    include_usage: bool = False


class ChatRequest(BaseModel):
    """A conversation to go on with."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    messages: Messages
    model: str | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """The older name of `max_completion_tokens`."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """None is 0: the detector's own answers are greedy unless they were made otherwise."""
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    n: Annotated[int, Field(ge=1, le=16)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @model_validator(mode="before")
    @classmethod
    def _can_be_sent_on(cls, given: Any) -> Any:
        # Python reads more than JSON has; a server behind this one cannot be told of it.
        try:
            json.dumps(given, allow_nan=False, ensure_ascii=False).encode()
        except (ValueError, RecursionError):
            raise ValueError(
                "holds what JSON has not (NaN, Infinity, half a character), or is nested too deeply"
            ) from None
        return given

    def turns(self) -> list[ChatMessage]:
        return [m.turn for m in self.messages]

    def limit(self, otherwise: int) -> int:
        return self.max_completion_tokens or self.max_tokens or otherwise

    def refuse_unknown(self) -> None:
        """What would change the answer and is not known here must not be dropped silently.

        Raises
        ------
        DataError: names it.
        """
        for name, value in (self.model_extra or {}).items():
            if name not in _HARMLESS and value not in _NEUTRAL.get(name, _EMPTY):
                raise DataError(f"{name!r:.60} is not supported here", "leave it out, or serve with --upstream")


_HARMLESS = {"user", "metadata", "store", "safety_identifier", "prompt_cache_key", "service_tier"}
_EMPTY: tuple[Any, ...] = (None, False, [], {}, "")
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "top_p": (None, 1, 1.0),
    "frequency_penalty": (None, 0),
    "presence_penalty": (None, 0),
    "response_format": (None, {"type": "text"}),
}
"""Values that ask for what is done anyway."""


def last_question(messages: list[Message]) -> str:
    """The last user turn, which the exact answer answers.

    Raises
    ------
    DataError: there is none.
    """
    for message in reversed(messages):
        if message.role == "user":
            return message.turn["content"]
    raise DataError("the messages hold no user turn", "the last user turn is the question")


class Rating(BaseModel):
    """What a detector says of one answer; beside a chat completion's message under the name ``probemap``."""

    p_correct: float | None
    """Probability that the answer is right; None if nothing could judge it."""
    flagged: bool | None
    """Below the server's threshold."""
    exact_answer: str | None
    judged_by: Literal["main", "fallback", "none"]
    why: str
    """Why another branch judged, or none; empty otherwise."""

    @classmethod
    def of(cls, score: Score) -> "Rating":
        return cls(
            p_correct=score.p_correct,
            flagged=score.flagged,
            exact_answer=score.exact_answer,
            judged_by=score.judged_by,
            why=score.why,
        )


class ScoreResponse(Rating):
    id: str
    score: float | None
    """Log-odds before calibration."""
    threshold: float
    """Answers below this probability are flagged, when the main branch judges."""
    model: str
    revision: str


class Complaint(BaseModel):
    message: str
    type: str
    param: None
    code: str


class Problem(BaseModel):
    """An error, as OpenAI writes it; `guard.problem` makes it."""

    error: Complaint


def completion(id_: str, model: str, created: int, choices: list[dict[str, Any]], usage: Any) -> dict[str, Any]:
    """A chat completion, as OpenAI writes it."""
    return {
        "id": id_,
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": choices,
        "usage": usage,
    }


def chunk(id_: str, model: str, created: int, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """A piece of a streamed one."""
    return {
        "id": id_,
        "object": "chat.completion.chunk",
        "created": created,
        "model": model,
        "choices": choices,
        **more,
    }


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }
