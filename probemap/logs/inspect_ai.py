"""Read the logs of Inspect: ``.eval`` files and ``.json`` files.

An ``.eval`` file is a ZIP archive whose members are compressed with Zstandard.  It has one member per sample.  Source:
``inspect_ai/log/_recorders/eval.py`` and ``inspect_ai/log/_log.py`` of Inspect 0.3.285.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field
from pydantic_core import from_json

from probemap.logs.samples import (
    STOPPED,
    LoggedAnswer,
    LogSchema,
    Refusal,
    accepted_answers,
    conversation,
    extracted_part,
    text_of,
    validated,
)
from probemap.records import DataError

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType


class _Choice(LogSchema):
    message: dict[str, Any]
    stop_reason: str = "unknown"


class _Output(LogSchema):
    choices: list[_Choice] = Field(default_factory=list)


class _Score(LogSchema):
    value: Any = None
    answer: str | None = None


class _Sample(LogSchema):
    id: int | str
    epoch: int = 1
    input: str | list[dict[str, Any]]
    choices: list[str] | None = None
    target: str | list[str] = ""
    messages: list[dict[str, Any]] = Field(default_factory=list)
    output: _Output = Field(default_factory=_Output)
    scores: dict[str, _Score] | None = None
    attachments: dict[str, str] = Field(default_factory=dict)
    error: dict[str, Any] | None = None
    limit: dict[str, Any] | None = None


def read(path: Path) -> Iterator[LoggedAnswer | Refusal]:
    """Read the answers in a log.

    Yields
    ------
    LoggedAnswer or Refusal
        One per sample and epoch.

    Raises
    ------
    DataError
        If the file is neither kind of log, or if a package is required to read it.
    """
    limit: int | None = None
    for location, value in _samples(path):
        if location in _HEADERS:
            limit = _max_tokens(value)
            continue
        sample = validated(_Sample, value, location)
        yield sample if isinstance(sample, Refusal) else _answer(sample, location, limit)


_ATTACHMENT = "attachment://"
_HEADERS = ("header.json", "_journal/start.json")
"""The members that contain the options of the evaluation.  An unfinished log has only the second one."""


def _max_tokens(header: Any) -> int | None:
    """Return the maximum number of tokens of an answer, or None if the header does not state it."""
    for keys in (("plan", "config"), ("eval", "model_generate_config")):
        value = header
        for key in (*keys, "max_tokens"):
            value = value.get(key) if isinstance(value, Mapping) else None
        if isinstance(value, int) and value > 0:
            return value
    return None


def _samples(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the name and the content of the header, and then the location and the content of each sample."""
    with path.open("rb") as file:
        is_archive = file.read(2) == b"PK"
    if is_archive:
        yield from _members(path)
        return
    try:
        log = from_json(path.read_bytes())
    except ValueError as error:
        raise _not_a_log(path, f"it is not valid JSON: {error}") from None
    samples = log.get("samples") if isinstance(log, Mapping) else None
    if not isinstance(samples, list):
        raise _not_a_log(path, "it contains no samples")
    yield _HEADERS[0], log
    for number, sample in enumerate(samples, start=1):
        yield f"sample {number}", sample


def _members(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the name and the content of a header and of each sample in an archive."""
    zipfile = _zipfile()
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError, struct.error) as error:
        raise _not_a_log(path, f"the archive is damaged: {error}") from None
    with archive:
        names = list(dict.fromkeys(archive.namelist()))
        samples = [name for name in names if name.startswith("samples/") and name.endswith(".json")]
        for name in [*[header for header in _HEADERS if header in names][:1], *samples]:
            yield name, _content(archive, name)


def _content(archive: Any, name: str) -> Any:
    try:
        return from_json(archive.read(name))
    except Exception as error:  # each compression method raises exceptions of its own if a member is damaged
        return Refusal(name, f"damaged: {error}")


def _zipfile() -> ModuleType:
    """Return the module that reads ZIP archives whose members are compressed with Zstandard."""
    if sys.version_info >= (3, 14):
        import zipfile

        return zipfile
    try:
        from backports.zstd import zipfile as backport
    except ImportError:
        raise DataError(
            "reading .eval files requires the backports.zstd package, which is not installed",
            "pip install 'probemap[logs]', or convert the log with `inspect log convert --to json`",
        ) from None
    return backport


def _not_a_log(path: Path, problem: str) -> DataError:
    return DataError(f"{path} is not a log of Inspect: {problem}", "pass an .eval or .json file that Inspect wrote")


def _answer(sample: _Sample, location: str, limit: int | None) -> LoggedAnswer | Refusal:
    if problem := _problem(sample):
        return Refusal(location, problem)
    restored = _restorer(sample.attachments)
    choices = tuple(sample.choices or ())
    choice = sample.output.choices[0]
    text, reasoning = _generated_text(restored(choice.message))
    messages = restored(sample.messages)
    if messages and messages[-1].get("role") == "assistant":
        messages = messages[:-1]
    question = restored(sample.input)
    prompt = conversation(
        messages or (question if isinstance(question, list) else [{"role": "user", "content": question}])
    )
    if text is None or prompt is None:
        return Refusal(location, "not a conversation in text: a message has tool calls, images or an unsupported role")
    if _is_encrypted(choice.message):
        return Refusal(location, "encrypted reasoning: the text that the model generated is not known")
    scores = sample.scores or {}
    parts = {name: extracted_part(restored(score.answer), text) for name, score in scores.items()}
    return LoggedAnswer(
        location=location,
        id=str(sample.id),
        repeat=sample.epoch,
        question=question if isinstance(question, str) else prompt[-1]["content"],
        accepted=accepted_answers([target] if isinstance(target := sample.target, str) else target, choices),
        choices=choices,
        prompt=prompt,
        text=text,
        reasoning=reasoning,
        stopped=STOPPED.get(choice.stop_reason),
        max_new_tokens=limit,
        scores={name: score.value for name, score in scores.items()},
        extracted={name: part for name, part in parts.items() if part is not None},
    )


def _problem(sample: _Sample) -> str:
    """Return the reason why a sample cannot be used, or an empty string."""
    if sample.error is not None:
        return f"ended with an error: {sample.error.get('message')!s:.80}"
    if sample.limit is not None:
        return f"stopped by a limit of Inspect: {sample.limit.get('type')}"
    if not sample.output.choices:
        return "no generated text"
    reason = sample.output.choices[0].stop_reason
    return f"not stopped by the model: {reason}" if reason in ("tool_calls", "content_filter") else ""


def _restorer(attachments: Mapping[str, str]) -> Any:
    """Return a function that replaces references to attachments by their texts, in nested lists and mappings."""

    def restored(value: Any) -> Any:
        if isinstance(value, str):
            return attachments.get(value.removeprefix(_ATTACHMENT), value) if value.startswith(_ATTACHMENT) else value
        if isinstance(value, Mapping):
            return {key: restored(item) for key, item in value.items()}
        return [restored(item) for item in value] if isinstance(value, list) else value

    return restored


def _is_encrypted(message: Mapping[str, Any]) -> bool:
    content = message.get("content")
    return isinstance(content, list) and any(isinstance(part, Mapping) and part.get("redacted") for part in content)


def _generated_text(message: Mapping[str, Any]) -> tuple[str | None, str]:
    """Return the text, which is None if the message has parts that are not text, and the reasoning."""
    content = message.get("content")
    if message.get("tool_calls"):
        return None, ""
    if not isinstance(content, Sequence) or isinstance(content, str):
        return text_of(content), ""
    thinking = [p["reasoning"] for p in content if isinstance(p, Mapping) and isinstance(p.get("reasoning"), str)]
    texts = [p for p in content if not (isinstance(p, Mapping) and p.get("type") == "reasoning")]
    return text_of(texts), "\n".join(thinking)
