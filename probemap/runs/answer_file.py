"""Read the answers in ``answers.jsonl`` one at a time, to limit memory use."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

from pydantic import TypeAdapter, ValidationError

from probemap.records import Answer, RunError

ANSWER = TypeAdapter(Answer)

RESTORE = "restore the file, or repeat the step with --redo"

_CACHED_BYTES = 16 * 2**20
"""Maximum size of a file whose answers are kept in memory.  If the file is larger, each access reads a line from
disk."""


class AnswerFile(Sequence[Answer]):
    """A sequence of answers that are stored on disk and read when they are accessed.

    Parameters
    ----------
    path : Path
        Path of the file, which contains one JSON object per line.
    offsets : dict of str to int
        Mapping from the id of each answer to the byte offset of its line.
    ids : sequence of str
        The ids of the answers, in the order of the sequence.
    cache : dict of str to Answer, optional
        Mapping from ids to answers, or None if the file is too large to be kept in memory.
    """

    def __init__(
        self, path: Path, offsets: dict[str, int], ids: Sequence[str], cache: dict[str, Answer] | None = None
    ) -> None:
        self.path = path
        self.ids = ids
        self._offsets = offsets
        self._cache = cache

    @classmethod
    def read(cls, path: Path) -> AnswerFile:
        """Check every line of a file, and return the answers in file order.

        Raises
        ------
        RunError
            If a line is damaged, if its fields are inconsistent, or if two lines have the same id.
        """
        offsets: dict[str, int] = {}
        offset = 0
        cache: dict[str, Answer] | None = {} if path.stat().st_size <= _CACHED_BYTES else None
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    answer = ANSWER.validate_json(line)
                except ValidationError as error:
                    raise RunError(f"{path}, line {number} is damaged: {first_error(error)}", RESTORE) from None
                if problem := "duplicate id" if answer.id in offsets else _inconsistency(answer):
                    raise RunError(f"{path}, line {number} is inconsistent: {problem}", RESTORE)
                offsets[answer.id] = offset
                offset += len(line)
                if cache is not None:
                    cache[answer.id] = answer
        return cls(path, offsets, list(offsets), cache)

    def in_order(self, ids: Sequence[str]) -> AnswerFile:
        """Return the answers with the given ids, in the given order.

        Raises
        ------
        KeyError
            If an id is unknown.
        """
        return AnswerFile(self.path, {name: self._offsets[name] for name in ids}, ids, self._cache)

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[Answer]:
        if self._cache is not None:
            yield from (self._cache[name] for name in self.ids)
            return
        with self.path.open("rb") as file:
            for name in self.ids:
                file.seek(self._offsets[name])
                yield ANSWER.validate_json(file.readline())

    @overload
    def __getitem__(self, index: int) -> Answer: ...
    @overload
    def __getitem__(self, index: slice) -> list[Answer]: ...
    def __getitem__(self, index: int | slice) -> Answer | list[Answer]:
        ids = self.ids[index] if isinstance(index, slice) else [self.ids[index]]
        answers = list(AnswerFile(self.path, self._offsets, ids, self._cache))
        return answers if isinstance(index, slice) else answers[0]


def _inconsistency(answer: Answer) -> str:
    """Return a description of the first inconsistency between the fields of an answer, or "" if there is none."""
    offsets = answer.offsets[answer.n_prompt :]
    if not 0 < answer.n_prompt <= len(answer.token_ids):
        return f"n_prompt is {answer.n_prompt}, but must be from 1 to {len(answer.token_ids)}"
    if not 0 <= answer.n_reasoning <= len(offsets):
        return f"n_reasoning is {answer.n_reasoning}, but must be from 0 to {len(offsets)}"
    if len(answer.offsets) != len(answer.token_ids) or len(answer.logprobs) != len(offsets):
        return "offsets, logprobs and token_ids have different lengths"
    if len(answer.entropies) not in (0, len(offsets)):
        return f"there are {len(answer.entropies)} entropies for {len(offsets)} produced tokens"
    if invalid := [entropy for entropy in answer.entropies if not 0 <= entropy < math.inf]:
        return f"an entropy is {invalid[0]}, but must be finite and at least 0"
    in_range = all(0 <= start <= stop <= len(answer.text) for start, stop in offsets)
    if not in_range or max((stop for _, stop in offsets), default=0) != len(answer.text):
        return "offsets do not cover the text"
    return ""


def first_error(error: ValidationError) -> str:
    """Return a message for the first validation error.  It omits the invalid value, which may be long."""
    details = error.errors(include_url=False, include_input=False)[0]
    field = ".".join(map(str, details["loc"]))
    return f"{field}: {details['msg']}" if field else str(details["msg"])
