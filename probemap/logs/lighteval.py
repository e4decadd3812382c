"""Read the details of lighteval (``details_TASK_DATE.parquet``, written with ``--save-details``).

Source: ``lighteval/logging/info_loggers.py``, ``lighteval/tasks/requests.py`` and ``lighteval/models/model_output.py``
of lighteval 0.13.0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice, zip_longest
from typing import TYPE_CHECKING, Any

from pydantic import AliasChoices, Field

from probemap.logs.samples import LoggedAnswer, LogSchema, Refusal, conversation, read_samples
from probemap.tasks.files import read_rows

if TYPE_CHECKING:
    from pathlib import Path


class _Document(LogSchema):
    id: str = ""
    query: str
    choices: list[str] = Field(default_factory=list)
    gold_index: int | list[int] = Field(default_factory=list)
    generation_size: int | None = None


class _Response(LogSchema):
    input: str | list[Any] | None = None
    input_tokens: list[int] | None = None
    padded_tokens_count: int | None = None
    text: list[str] = Field(default_factory=list)
    output_tokens: list[list[int]] | None = None
    reasonings: list[str | None] | None = None


class _Detail(LogSchema):
    """A row.  The names of its columns start and end with two underscores in some versions."""

    document: _Document = Field(validation_alias=AliasChoices("doc", "__doc__"))
    response: _Response = Field(validation_alias=AliasChoices("model_response", "__model_response__"))
    metric: dict[str, Any] = Field(validation_alias=AliasChoices("metric", "__metric__"), default_factory=dict)


def read(path: Path) -> Iterator[LoggedAnswer | Refusal]:
    """Read the answers in a file of details.

    Yields
    ------
    LoggedAnswer or Refusal
        One or more per row.

    Raises
    ------
    DataError
        If the file is not a Parquet file, or if pyarrow is not installed.
    """
    rows = ((f"row {number}", row) for number, row in enumerate(read_rows(path), start=1))
    return read_samples(rows, _Detail, _answers)


def _answers(detail: _Detail, location: str) -> Iterator[LoggedAnswer | Refusal]:
    document, response = detail.document, detail.response
    if not response.text:
        yield Refusal(location, "no generated text: the model chose between given continuations")
        return
    prompt = response.input if isinstance(response.input, str) else conversation(response.input)
    prompt_ids = tuple((response.input_tokens or [])[response.padded_tokens_count or 0 :]) or None
    if not prompt and not prompt_ids:
        yield Refusal(location, "no prompt: the log does not contain the text that the model received")
        return
    gold = [document.gold_index] if isinstance(document.gold_index, int) else document.gold_index
    if not all(0 <= index < len(document.choices) for index in gold):
        yield Refusal(location, f"unexpected format: gold_index: {gold} is outside the {len(document.choices)} choices")
        return
    is_single = len(response.text) == 1
    outputs = zip_longest(response.text, response.reasonings or (), response.output_tokens or ())
    for repeat, (text, reasoning, output_tokens) in enumerate(islice(outputs, len(response.text)), start=1):
        yield LoggedAnswer(
            location=location,
            id=document.id or location.removeprefix("row "),
            repeat=repeat,
            question=document.query,
            accepted=tuple(dict.fromkeys(document.choices[index].strip() for index in gold)),
            prompt=prompt,
            text=text,
            reasoning=reasoning or "",
            stopped=None,
            max_new_tokens=document.generation_size,
            scores=_numbers(detail.metric) if is_single else {},
            prompt_ids=prompt_ids,
            produced_ids=tuple(output_tokens) if output_tokens else None,
        )


def _numbers(metric: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metrics that apply to single answers.  Others are inputs of metrics for the whole task."""
    return {name: value for name, value in metric.items() if isinstance(value, bool | int | float)}
