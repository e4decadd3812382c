"""The answers and scores in a log of an evaluation tool, independent of the log's format."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from probemap.records import SUPPLIED, Verdict

if TYPE_CHECKING:
    from probemap.records import ChatMessage


@dataclass(frozen=True, kw_only=True)
class LoggedAnswer:
    """An answer in a log, with its question and its scores."""

    location: str
    """Place in the log, for messages, e.g. ``line 3``."""
    id: str
    """Id of the question."""
    repeat: int = 1
    """Number of the answer among the answers to the same question, from 1."""
    filter: str = ""
    """Name of the filter that processed the answer before it was scored, or an empty string if there is none."""
    question: str
    accepted: tuple[str, ...] = ()
    """Accepted answers."""
    choices: tuple[str, ...] = ()
    prompt: str | tuple[ChatMessage, ...] | None
    """The text that the model received, or the conversation to which its chat template was applied, or None if the log
    contains neither."""
    text: str
    """The answer."""
    reasoning: str = ""
    """The reasoning that precedes the answer, if the log contains it separately."""
    stopped: bool | None
    """False if the answer was cut off, or None if the log does not say whether it was."""
    max_new_tokens: int | None = None
    """Maximum number of tokens of an answer, or None if the log does not state it."""
    prompt_ids: tuple[int, ...] | None = None
    """Token ids of the prompt, or None if the log does not contain them."""
    produced_ids: tuple[int, ...] | None = None
    """Token ids that the model produced, or None if the log does not contain them."""
    scores: Mapping[str, Any] = field(default_factory=dict)
    """Mapping from the names of scores to their values in the log; see `verdict`."""
    extracted: Mapping[str, str] = field(default_factory=dict)
    """Mapping from the names of scores to the parts of the answer that were extracted and scored.  A score is missing
    if the whole answer was scored."""


@dataclass(frozen=True)
class Refusal:
    """A sample that cannot be imported."""

    location: str
    """Place in the log, e.g. ``line 3``."""
    reason: str
    """Reason, which starts with one of a few fixed phrases, followed by a colon if details follow."""


def extracted_part(part: str | None, text: str) -> str | None:
    """Return the part of an answer that was extracted, or None if it is empty, changed, or the whole answer."""
    return part if part and part.strip() not in ("", text.strip()) and part in text else None


STOPPED = {"stop": True, "max_tokens": False, "model_length": False, "length": False}
"""Mapping from the reasons that logs state for the end of an answer to whether the model ended it."""


def accepted_answers(targets: Iterable[str], choices: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the accepted answers.  A letter is replaced by the choice that it denotes, unless it is a choice itself.

    Examples
    --------
    >>> from probemap.logs.samples import accepted_answers
    >>> accepted_answers(["B"], ["Chile", "Peru"]), accepted_answers(["B"], ["A", "B"])
    (('Peru',), ('B',))
    """
    denoted = dict(zip(ascii_uppercase, choices, strict=False))
    answers = (target if target in choices else denoted.get(target, target) for target in targets)
    return tuple(dict.fromkeys(answer for answer in answers if answer.strip()))


class LogSchema(BaseModel):
    """Base class for the part of a format that is read.  Other fields are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


Schema = TypeVar("Schema", bound=LogSchema)


def validated(schema: type[Schema], value: Any, location: str) -> Schema | Refusal:
    """Return a sample as an instance of its schema, or the reason why it does not have the expected fields.

    A value that could not be read is a `Refusal` already, and is returned as it is.
    """
    if isinstance(value, Refusal):
        return value
    try:
        return schema.model_validate(value)
    except ValidationError as error:
        details = error.errors(include_url=False)[0]
    path = ".".join(map(str, details["loc"])) or "the sample"
    got = "" if details["type"] == "missing" else f", got {details['input']!r:.60}"
    return Refusal(location, f"unexpected format: {path}: {details['msg'].lower()}{got}")


def read_samples(
    rows: Iterable[tuple[str, Any]],
    schema: type[Schema],
    answers: Callable[[Schema, str], Iterator[LoggedAnswer | Refusal]],
) -> Iterator[LoggedAnswer | Refusal]:
    """Yield the answers in the samples of a log, or the reasons why they cannot be used.

    Parameters
    ----------
    rows : iterable of (str, object)
        The location and the value of each sample.
    schema : type
        The fields that a sample must have.
    answers : callable
        Function that receives a sample and its location, and yields its answers.
    """
    for location, value in rows:
        sample = validated(schema, value, location)
        if isinstance(sample, Refusal):
            yield sample
        else:
            yield from answers(sample, location)


_LETTERS = {"C": True, "I": False}
"""The values that Inspect writes for correct and incorrect answers."""

NOT_SCORED = "supplied without a score"
"""Reason for the verdict on an answer that was not scored."""
_UNDECIDED = {"P": "supplied as partially correct", "N": "supplied as no answer"}


def verdict(value: Any) -> Verdict:
    """Return the verdict that a score expresses.

    Parameters
    ----------
    value : object
        A truth value, the number 1 or 0, or one of the letters C (correct), I (incorrect), P (partially correct) and N
        (no answer).  Every other value leaves the verdict undecided, with a reason.

    Examples
    --------
    >>> from probemap.logs.samples import verdict
    >>> verdict(1.0).correct, verdict("I").correct
    (True, False)
    >>> verdict(0.5)
    Verdict(correct=None, reason='supplied as neither correct nor incorrect', rule='', evidence=None)
    """
    if isinstance(value, str) and value in _UNDECIDED:
        return Verdict(None, _UNDECIDED[value])
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return Verdict(None, NOT_SCORED)
    if (correct := truth(value)) is None:
        return Verdict(None, "supplied as neither correct nor incorrect")
    return Verdict(correct, SUPPLIED[correct])


def truth(value: Any) -> bool | None:
    """Return whether a score means that the answer is correct, or None if it means neither; see `verdict`."""
    if isinstance(value, str):
        return _LETTERS.get(value)
    return bool(value) if isinstance(value, bool | int | float) and value in (0, 1) else None


_ROLES = ("system", "user", "assistant")


def conversation(messages: Any) -> tuple[ChatMessage, ...] | None:
    """Return a conversation that ends with a message of the user, or None if the messages are not one.

    The content of a message may be a text or a list of parts, whose texts are joined.  A conversation with tool calls,
    images or other roles is not supported, because a chat template may render them in different ways.
    """
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
        return None
    turns: list[ChatMessage] = []
    for message in messages:
        content = text_of(message.get("content")) if isinstance(message, Mapping) else None
        if content is None or message.get("role") not in _ROLES or message.get("tool_calls"):
            return None
        turns.append({"role": message["role"], "content": content})
    return tuple(turns) if turns[-1]["role"] == "user" else None


def text_of(content: Any) -> str | None:
    """Return the text of a message's content, or None if it has parts that are not text."""
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        return None
    parts = [part.get("text") if isinstance(part, Mapping) and part.get("type") == "text" else part for part in content]
    texts = [part for part in parts if isinstance(part, str)]
    return "".join(texts) if len(texts) == len(parts) else None
