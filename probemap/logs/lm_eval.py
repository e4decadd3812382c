"""Read the samples of lm-evaluation-harness (``samples_TASK_DATE.jsonl``, written with ``--log_samples``).

The file has one line per document and filter.  Source: ``lm_eval/result_schema.py`` and ``lm_eval/evaluator.py`` of
lm-evaluation-harness 0.4.13.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pydantic import Field
from pydantic_core import from_json

from probemap.logs.jsonl import json_lines
from probemap.logs.samples import (
    LoggedAnswer,
    LogSchema,
    Refusal,
    accepted_answers,
    conversation,
    extracted_part,
    read_samples,
)

if TYPE_CHECKING:
    from pathlib import Path

    from probemap.records import ChatMessage


class _Sample(LogSchema, extra="allow"):
    """A sample.  The value of each metric is a field of its own, with the name of the metric."""

    doc_id: int | str
    doc: Any = None
    target: Any = None
    arguments: dict[str, Any] | list[Any]
    resps: list[Any]
    filtered_resps: Any = None
    filter: str = ""
    metrics: list[str] = Field(default_factory=list)


def read(path: Path) -> Iterator[LoggedAnswer | Refusal]:
    """Read the answers in a file of samples.

    Yields
    ------
    LoggedAnswer or Refusal
        One or more per line.
    """
    return read_samples(json_lines(path), _Sample, _answers)


_LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens")
"""The names of the option that limits the number of tokens of an answer."""


def _answers(sample: _Sample, location: str) -> Iterator[LoggedAnswer | Refusal]:
    requests = _requests(sample.arguments)
    if len(requests) != 1 or len(sample.resps) != 1 or not (texts := _texts(sample.resps)):
        yield Refusal(location, "no generated text: the model chose between given continuations")
        return
    ((context, options),) = requests
    if (prompt := as_prompt(context)) is None:
        yield Refusal(location, f"unexpected format: arguments: expected a prompt, got {context!r:.60}")
        return
    limit = next((options[key] for key in _LIMITS if key in options), None)
    filtered = _texts([sample.filtered_resps]) or [""]
    scored = _scored_repeat(texts, filtered)
    values = sample.model_extra or {}
    scores = {name: values.get(name) for name in sample.metrics}
    for number, text in enumerate(texts, start=1):
        is_scored = number in scored
        part = extracted_part(filtered[min(number, len(filtered)) - 1], text) if is_scored else None
        yield LoggedAnswer(
            location=location,
            id=str(sample.doc_id),
            repeat=number,
            filter=sample.filter,
            question=_question(sample.doc, prompt),
            accepted=accepted_answers(targets(sample.target)),
            prompt=prompt,
            text=text,
            stopped=None,
            max_new_tokens=limit if isinstance(limit, int) and limit > 0 else None,
            scores=scores if is_scored else {},
            extracted={} if part is None else dict.fromkeys(sample.metrics, part),
        )


def _requests(arguments: dict[str, Any] | list[Any]) -> list[tuple[Any, Mapping[str, Any]]]:
    """Return the prompt and the generation options of each request.

    Versions before 0.4.4 write a list of lists instead of a mapping.
    """
    if isinstance(arguments, dict):
        pairs = [(a.get("arg_0"), a.get("arg_1")) for a in arguments.values() if isinstance(a, Mapping)]
    else:
        pairs = [(a[0], a[1] if len(a) > 1 else None) for a in arguments if isinstance(a, list) and a]
    return [(context, options if isinstance(options, Mapping) else {}) for context, options in pairs]


def _texts(responses: Sequence[Any]) -> list[str]:
    """Return the texts in a possibly nested list of responses, or an empty list if not all of them are texts."""
    texts: list[str] = []
    for response in responses:
        if isinstance(response, str):
            texts.append(response)
        elif isinstance(response, list) and (inner := _texts(response)):
            texts += inner
        else:
            return []
    return texts


def as_prompt(context: Any) -> str | tuple[ChatMessage, ...] | None:
    """Return the prompt of a request, or None if it is neither a text nor a conversation.

    Requests to chat servers have the conversation as JSON, which may be in a list with one element.
    """
    if isinstance(context, list) and len(context) == 1:
        context = context[0]
    if not isinstance(context, str):
        return None
    if not context.startswith("[{"):
        return context
    try:
        return conversation(from_json(context)) or context
    except ValueError:
        return context


def _scored_repeat(texts: Sequence[str], filtered: Sequence[str]) -> set[int]:
    """Return the numbers of the answers to which the scores apply.

    A filter may reduce several answers to a single result, e.g. to the first or to the most frequent one.  The scores
    then apply to the answers that equal the result.  An answer that only contains the result may assert something else.
    """
    if len(texts) == 1:
        return {1}
    if len(filtered) > 1:
        return set()
    return {number for number, text in enumerate(texts, start=1) if text.strip() == filtered[0].strip()}


_QUESTION_FIELDS = ("question", "query", "problem", "input", "prompt", "instruction", "text")
"""Names of the fields of a document that may contain the question."""


def _question(document: Any, prompt: str | tuple[ChatMessage, ...]) -> str:
    """Return the question: a field of the document that occurs in the prompt or, if there is none, the prompt."""
    shown = prompt if isinstance(prompt, str) else prompt[-1]["content"]
    fields = document if isinstance(document, Mapping) else {}
    named = (fields.get(name) for name in _QUESTION_FIELDS)
    return next((text for text in named if isinstance(text, str) and text.strip() and text.strip() in shown), shown)


def targets(target: Any) -> tuple[str, ...]:
    """Return the accepted answers in a target.

    A list of accepted answers is written as a Python literal.  The solutions of GSM8K end with the result after
    ``####``.
    """
    if isinstance(target, str) and target[:1] == "[" and target[-1:] == "]":
        with suppress(ValueError, SyntaxError, MemoryError, RecursionError):
            target = ast.literal_eval(target)
    items = target if isinstance(target, list) else [target]
    texts = [str(item).rsplit("#### ", 1)[-1].strip() for item in items if isinstance(item, str | int | float)]
    return tuple(dict.fromkeys(text for text in texts if text))
