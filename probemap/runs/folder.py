"""The files of a run folder: what each holds, read and written whole or not at all."""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from probemap.records import Answer, Judgement, JudgeResponse, PTrueScore, RunError, Task
from probemap.runs.answer_file import ANSWER, MEND, AnswerFile, first
from probemap.tables import Table, read_table

_T = TypeVar("_T")
_TASK, _JUDGEMENT = TypeAdapter(Task), TypeAdapter(Judgement)
_BELIEF, _OPINION = TypeAdapter(PTrueScore), TypeAdapter(JudgeResponse)


class Folder:
    """A folder with the files of a run, some of which may be missing."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def during(self) -> Path:
        """Where states lie that were taken while the model answered, until they are captured."""
        return self.path / "during"

    def record(self) -> dict[str, Any]:
        """The content of run.json."""
        path = self.path / "run.json"
        if not path.exists():
            return {"steps": {}}
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            content["steps"].items()
        except (ValueError, KeyError, TypeError, AttributeError):
            raise RunError(f"{path} is damaged", "restore it, or start a new run folder") from None
        return content

    def step(self, name: str) -> dict[str, Any]:
        """What run.json says of a step; empty if it was never begun."""
        found: dict[str, Any] = self.record()["steps"].get(name, {})
        return found

    def write(self, name: str, content: str | bytes) -> None:
        """Write a file whole or not at all: a temporary file, flushed to disk, then renamed."""
        path = self.path / name
        part = path.with_name(f".{name}.part")
        part.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        with part.open("rb") as handle:
            os.fsync(handle.fileno())
        part.replace(path)

    def sha256(self, name: str) -> str:
        """Of a file in the folder; empty if it is not there."""
        path = self.path / name
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""

    def write_task(self, task: Task) -> None:
        self.write("task.json", _TASK.dump_json(task, indent=1) + b"\n")

    def task(self) -> Task:
        """The questions of the run.

        Raises
        ------
        RunError: missing or damaged.
        """
        try:
            return _TASK.validate_json(self._existing("task.json", "answer").read_bytes())
        except ValidationError as error:
            raise RunError(f"{self.path / 'task.json'} is damaged: {first(error)}", MEND) from None

    def answers(self) -> AnswerFile:
        """What the model said, in the order of the file.

        Raises
        ------
        RunError: missing, incomplete or damaged.
        """
        return AnswerFile.read(self._existing("answers.jsonl", "answer"))

    def samples(self) -> AnswerFile:
        """The answers that were drawn when every question was asked again, in the order of the file.

        Raises
        ------
        RunError: missing, incomplete or damaged.
        """
        return AnswerFile.read(self._existing("resamples.jsonl", "resample"))

    def begun_answers(self, whole: Sequence[int], name: str = "answers.jsonl") -> int:
        """How many of the planned batches (their sizes given) are on disk; cuts off a torn last batch."""
        path = self.path / name
        if not path.exists():
            return 0
        lines = path.read_bytes().split(b"\n")
        complete = len(lines) - 1  # after the last line break there is nothing, or a torn line
        count = rows = 0
        while count < len(whole) and rows + whole[count] <= complete:
            rows += whole[count]
            count += 1
        kept = b"".join(line + b"\n" for line in lines[:rows])
        if len(kept) != path.stat().st_size:
            self.write(name, kept)
        return count

    def append_answers(self, answers: Iterable[Answer], name: str = "answers.jsonl") -> None:
        """Add one batch to the end of a file of answers and flush it to disk."""
        self.append(name, b"".join(ANSWER.dump_json(a) + b"\n" for a in answers))

    def append(self, name: str, content: str | bytes) -> None:
        """Add to the end of a file and flush it to disk."""
        with (self.path / name).open("ab") as file:
            file.write(content if isinstance(content, bytes) else content.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())

    def whole_lines(self, name: str) -> list[bytes]:
        """Of a file that is added to, which may not be there; cuts off a torn last one."""
        path = self.path / name
        if not path.exists():
            return []
        whole, _, torn = path.read_bytes().rpartition(b"\n")
        if torn:
            self.write(name, whole + b"\n" if whole else b"")
        return whole.split(b"\n") if whole else []

    def opinions(self) -> list[JudgeResponse]:
        """What models have said when they were asked to judge or to locate; cuts off a torn last line.

        Raises
        ------
        RunError: damaged.
        """
        return _lines(self.path / "opinions.jsonl", _OPINION) if self.whole_lines("opinions.jsonl") else []

    def append_opinions(self, opinions: Iterable[JudgeResponse]) -> None:
        self.append("opinions.jsonl", b"".join(_OPINION.dump_json(o) + b"\n" for o in opinions))

    def write_judgements(self, judgements: Iterable[Judgement]) -> None:
        self.write("verdicts.jsonl", b"".join(_JUDGEMENT.dump_json(j) + b"\n" for j in judgements))

    def judgements(self) -> list[Judgement]:
        """Verdicts and exact answers, in the order of the task's questions.

        Raises
        ------
        RunError: missing or damaged.
        """
        return _lines(self._existing("verdicts.jsonl", "judge"), _JUDGEMENT)

    def append_p_true(self, beliefs: Iterable[PTrueScore], exact: bool = False) -> None:
        """Add to p_true.jsonl, or p_true_exact.jsonl, and flush it to disk."""
        self.append(_p_true_file(exact), b"".join(_BELIEF.dump_json(b) + b"\n" for b in beliefs))

    def begun_p_true(self, exact: bool = False) -> int:
        """How many lines of it are on disk; cuts off a torn last one."""
        return len(self.whole_lines(_p_true_file(exact)))

    def p_true(self, exact: bool = False) -> list[PTrueScore]:
        """p(True) of every answer, or of every exact answer.

        Raises
        ------
        RunError: missing or damaged.
        """
        return _lines(self._existing(_p_true_file(exact), "p-true --exact" if exact else "p-true"), _BELIEF)

    def table(self, study: str) -> Table:
        """What a study found.

        Raises
        ------
        RunError: missing or damaged.
        """
        return read_table(self._existing(f"{study}.json", study))

    def _existing(self, name: str, step: str) -> Path:
        path = self.path / name
        if not path.is_file() or not self.step(step).get("done"):
            raise RunError(f"{path} is not there yet, or not whole", f"{again(step, self.path, redo=False)} makes it")
        return path


def again(step: str, path: Path, redo: bool = True) -> str:
    """The command that makes a step's files (again)."""
    flag = " --redo" if redo else ""
    if step == "answer":
        return f"`probemap answer DATA --model MODEL --out {path}{flag}`"
    return f"`probemap {step} {path}{flag}`"


def _p_true_file(exact: bool) -> str:
    return "p_true_exact.jsonl" if exact else "p_true.jsonl"


def _lines(path: Path, kind: TypeAdapter[_T]) -> list[_T]:
    rows = []
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                rows.append(kind.validate_json(line))
            except ValidationError as error:
                raise RunError(f"{path}, line {number} is damaged: {first(error)}", MEND) from None
    return rows
