"""Read the samples of Every Eval Ever (``UUID_samples.jsonl``).

The file has one line per sample and score.  Source: ``every_eval_ever/instance_level_types.py`` and
``every_eval_ever/converters`` of Every Eval Ever 0.3.0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from pydantic import Field

from probemap.logs.jsonl import json_lines
from probemap.logs.lm_eval import as_prompt, targets
from probemap.logs.samples import (
    STOPPED,
    LoggedAnswer,
    LogSchema,
    Refusal,
    accepted_answers,
    conversation,
    read_samples,
)
from probemap.records import ChatMessage

if TYPE_CHECKING:
    from pathlib import Path


class _Input(LogSchema):
    raw: str
    formatted: str | None = None
    reference: list[str]
    choices: list[str] | None = None


class _Output(LogSchema):
    raw: list[str]
    reasoning_trace: list[str] | None = None


class _Attribution(LogSchema):
    extracted_value: str
    extraction_method: str
    is_terminal: bool


class _Evaluation(LogSchema):
    score: float
    is_correct: bool


class _TokenUsage(LogSchema):
    output_tokens: int


class _Instance(LogSchema):
    evaluation_name: str
    evaluation_result_id: str | None = None
    sample_id: str
    interaction_type: str
    input: _Input
    output: _Output | None = None
    messages: list[dict[str, Any]] | None = None
    answer_attribution: list[_Attribution] = Field(default_factory=list)
    evaluation: _Evaluation
    token_usage: _TokenUsage | None = None
    error: str | None = None
    metadata: dict[str, Any] | None = None


def read(path: Path) -> Iterator[LoggedAnswer | Refusal]:
    """Read the answers in a file of samples.

    Yields
    ------
    LoggedAnswer or Refusal
        One or more per line.
    """
    return read_samples(json_lines(path), _Instance, _answers)


def _answers(instance: _Instance, location: str) -> Iterator[LoggedAnswer | Refusal]:
    metadata = instance.metadata or {}
    from_lm_eval = "lm_eval_metrics" in metadata
    if problem := _problem(instance, metadata, from_lm_eval):
        yield Refusal(location, problem)
        return
    exchange = _exchange(instance, from_lm_eval)
    if isinstance(exchange, str):
        yield Refusal(location, exchange)
        return
    prompt, outputs = exchange
    n_produced = instance.token_usage.output_tokens if instance.token_usage else 0
    shown = "".join(outputs[0])
    if len(outputs) == 1 and len(shown.encode()) < n_produced - 1:
        # A token of a text has at least one byte, except the end token.  The converter of Inspect's logs replaces the
        # generated text by the answer that the scorer extracted.
        yield Refusal(location, f"no generated text: the text {shown!r:.60} is shorter than {n_produced} tokens")
        return
    name = instance.evaluation_result_id or instance.evaluation_name
    terminal = next((item for item in reversed(instance.answer_attribution) if item.is_terminal), None)
    extracted = terminal.extracted_value if terminal and terminal.extraction_method != "none" else None
    epoch = str(metadata.get("epoch", ""))
    first = int(epoch) if re.fullmatch("[0-9]{1,9}", epoch) else 1
    for number, (text, reasoning) in enumerate(outputs):
        yield LoggedAnswer(
            location=location,
            id=instance.sample_id,
            repeat=first + number,
            question=instance.input.raw,
            accepted=_accepted(instance, from_lm_eval),
            choices=tuple(instance.input.choices or ()),
            prompt=prompt,
            text=text,
            reasoning=reasoning,
            stopped=STOPPED.get(str(metadata.get("stop_reason", ""))),
            scores={name: _score(instance.evaluation)} if len(outputs) == 1 else {},
            extracted={name: extracted} if extracted and extracted in text else {},
        )


def _problem(instance: _Instance, metadata: Mapping[str, Any], from_lm_eval: bool) -> str:
    """Return the reason why a sample cannot be used, or an empty string.

    The converters replace the generated text: for lm-evaluation-harness by the result of the filter or, if the model
    chose between continuations, by the chosen one; for Inspect by the answer that the scorer extracted, or by the
    scorer's explanation.
    """
    if instance.error:
        return f"ended with an error: {instance.error:.80}"
    if from_lm_eval and (name := str(metadata.get("filter", "none"))) != "none":
        return f"no generated text: only the result of the filter {name!r} was converted"
    if from_lm_eval and instance.input.choices:
        return "no generated text: the model chose between given continuations"
    if instance.input.formatted is None and {"epoch", "stop_reason"} <= set(metadata):
        return "no generated text: only the answer that the scorer of Inspect extracted was converted"
    return ""


_Exchange = tuple[str | tuple[ChatMessage, ...] | None, list[tuple[str, str]]]
"""The prompt, and the text and the reasoning of each answer."""


def _exchange(instance: _Instance, from_lm_eval: bool) -> _Exchange | str:
    """Return the prompt and the answers, or the reason why the sample cannot be used."""
    if instance.messages is not None:
        *before, last = instance.messages or [{}]
        prompt, text = conversation(before), last.get("content")
        if prompt is None or last.get("role") != "assistant" or not isinstance(text, str) or last.get("tool_calls"):
            return "not a conversation in text: it has tool calls or does not end with an answer"
        return prompt, [(text, str(last.get("reasoning_trace") or ""))]
    if instance.output is None or not instance.output.raw:
        return "no generated text"
    traces = instance.output.reasoning_trace or []
    outputs = [(text, trace or "") for text, trace in zip_longest(instance.output.raw, traces) if text is not None]
    if instance.input.formatted is not None:
        return instance.input.formatted, outputs
    return (as_prompt(instance.input.raw) if from_lm_eval else None), outputs


def _accepted(instance: _Instance, from_lm_eval: bool) -> tuple[str, ...]:
    references = instance.input.reference
    if from_lm_eval:
        references = [answer for reference in references for answer in targets(reference)]
    return accepted_answers(references, instance.input.choices or ())


def _score(evaluation: _Evaluation) -> float | bool:
    """Return the score if it is neither 0 nor 1, and otherwise whether the answer is correct.

    Some converters call every answer correct whose score is above 0.
    """
    return evaluation.is_correct if evaluation.score in (0, 1) else evaluation.score
