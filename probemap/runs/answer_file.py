"""The file of answers, read one answer at a time: memory does not grow with their number."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

from pydantic import TypeAdapter, ValidationError

from probemap.records import Answer, RunError

ANSWER = TypeAdapter(Answer)

MEND = "restore the file, or make it again with --redo"


class AnswerFile(Sequence[Answer]):
    """Answers on disk, by place in an order; each is read when it is asked for."""

    def __init__(self, path: Path, places: dict[str, int], ids: Sequence[str]) -> None:
        self.path = path
        self.ids = ids
        self._places = places

    @classmethod
    def read(cls, path: Path) -> "AnswerFile":
        """The answers in the order of the file, after a look at every one of them.

        Raises
        ------
        RunError: one is damaged, or does not hold together.
        """
        places: dict[str, int] = {}
        at = 0
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    said = ANSWER.validate_json(line)
                except ValidationError as error:
                    raise RunError(f"{path}, line {number} is damaged: {first(error)}", MEND) from None
                if problem := "its id stands twice" if said.id in places else _misfit(said):
                    raise RunError(f"{path}, line {number} does not hold together: {problem}", MEND)
                places[said.id] = at
                at += len(line)
        return cls(path, places, list(places))

    def in_order(self, ids: Sequence[str]) -> "AnswerFile":
        """The answers of these ids, in their order; KeyError if there is none of an id."""
        return AnswerFile(self.path, {i: self._places[i] for i in ids}, ids)

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[Answer]:
        with self.path.open("rb") as file:
            for id_ in self.ids:
                file.seek(self._places[id_])
                yield ANSWER.validate_json(file.readline())

    @overload
    def __getitem__(self, index: int) -> Answer: ...
    @overload
    def __getitem__(self, index: slice) -> list[Answer]: ...
    def __getitem__(self, index: int | slice) -> Answer | list[Answer]:
        wanted = self.ids[index] if isinstance(index, slice) else [self.ids[index]]
        found = list(AnswerFile(self.path, self._places, wanted))
        return found if isinstance(index, slice) else found[0]


def _misfit(said: Answer) -> str:
    """What is wrong with an answer that somebody else wrote or edited; empty if nothing is."""
    produced = said.offsets[said.n_prompt :]
    if not 0 < said.n_prompt <= len(said.token_ids):
        return f"n_prompt is {said.n_prompt} of {len(said.token_ids)} token_ids"
    if not 0 <= said.n_reasoning <= len(produced):
        return f"n_reasoning is {said.n_reasoning} of {len(produced)} produced tokens"
    if len(said.offsets) != len(said.token_ids) or len(said.logprobs) != len(produced):
        return "offsets, logprobs and token_ids have different lengths"
    if any(not 0 <= a <= b <= len(said.text) for a, b in produced) or max((b for _, b in produced), default=0) != len(
        said.text
    ):
        return "offsets do not cover the text"
    return ""


def first(error: ValidationError) -> str:
    """The first complaint, without the value: it may be long."""
    redacted_message = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, redacted_message["loc"]))
    return f"{where}: {redacted_message['msg']}" if where else str(redacted_message["msg"])
