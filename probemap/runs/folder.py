"""Read and write the files in a run directory.  Files are written atomically and are reread only if they have
changed."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from probemap.records import Answer, Judgement, JudgeResponse, PTrueScore, RunError, Task
from probemap.runs.answer_file import ANSWER, RESTORE, AnswerFile, first_error
from probemap.tables import Table, read_table

_T = TypeVar("_T")
_TASK, _JUDGEMENT = TypeAdapter(Task), TypeAdapter(Judgement)
_P_TRUE, _RESPONSE = TypeAdapter(PTrueScore), TypeAdapter(JudgeResponse)


class Folder:
    """The directory that contains the files of a run.  Some of the files may not exist yet.

    Parameters
    ----------
    path : str or Path
        Path of the directory, which does not have to exist yet.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._cache: dict[tuple[str, str], tuple[tuple[int, ...], Any]] = {}

    @property
    def inline_states(self) -> Path:
        """Directory for states that were recorded during generation and are not in the activation store yet."""
        return self.path / "during"

    def run_json(self) -> dict[str, Any]:
        """Return the content of ``run.json``, or ``{"steps": {}}`` if the file does not exist."""
        path = self.path / "run.json"
        return self._read_once("run.json", "json", lambda: _run_json(path)) if path.exists() else {"steps": {}}

    def write(self, name: str, content: str | bytes) -> None:
        """Write a file atomically: the content is flushed to a temporary file, which is then renamed."""
        path = self.path / name
        temporary = path.with_name(f".{name}.part")
        temporary.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)

    def append(self, name: str, content: str | bytes) -> None:
        """Append content to a file and flush it to disk."""
        with (self.path / name).open("ab") as file:
            file.write(content if isinstance(content, bytes) else content.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())

    def sha256(self, name: str) -> str:
        """Return the SHA-256 of a file as a hexadecimal string, or an empty string if the file does not exist."""
        path = self.path / name
        if not path.is_file():
            return ""
        return self._read_once(name, "sha256", lambda: hashlib.sha256(path.read_bytes()).hexdigest())

    def complete_lines(self, name: str) -> list[bytes]:
        """Return the lines of a file.  An incomplete last line is removed from the file first.

        If the file does not exist, return an empty list.
        """
        path = self.path / name
        if not path.exists():
            return []
        complete, _, incomplete = path.read_bytes().rpartition(b"\n")
        if incomplete:
            self.write(name, complete + b"\n" if complete else b"")
        return complete.split(b"\n") if complete else []

    def write_task(self, task: Task) -> None:
        """Write ``task.json``."""
        self.write("task.json", _TASK.dump_json(task, indent=1) + b"\n")

    def read_task(self) -> Task:
        """Return the content of ``task.json``.

        Raises
        ------
        RunError
            If the file is missing or damaged.
        """
        path = self._existing("task.json", "answer")
        try:
            return self._read_once("task.json", "task", lambda: _TASK.validate_json(path.read_bytes()))
        except ValidationError as error:
            raise RunError(f"{path} is damaged: {first_error(error)}", RESTORE) from None

    def read_answers(self, name: str = "answers.jsonl", step: str = "answer") -> AnswerFile:
        """Return the answers in ``answers.jsonl`` or ``resamples.jsonl``, in file order.

        Raises
        ------
        RunError
            If the file is missing or damaged, or if the step that writes it has not been completed.
        """
        path = self._existing(name, step)
        return self._read_once(name, "answers", lambda: AnswerFile.read(path))

    def count_complete_batches(self, batch_sizes: Sequence[int], name: str = "answers.jsonl") -> int:
        """Remove the last batch from a file if it is incomplete, and return the number of complete batches."""
        path = self.path / name
        if not path.exists():
            return 0
        lines = path.read_bytes().split(b"\n")
        n_complete = len(lines) - 1  # the last item is an incomplete line or empty
        n_batches = n_rows = 0
        while n_batches < len(batch_sizes) and n_rows + batch_sizes[n_batches] <= n_complete:
            n_rows += batch_sizes[n_batches]
            n_batches += 1
        content = b"".join(line + b"\n" for line in lines[:n_rows])
        if len(content) != path.stat().st_size:
            self.write(name, content)
        return n_batches

    def append_answers(self, answers: Iterable[Answer], name: str = "answers.jsonl") -> None:
        """Append a batch of answers to a file and flush it to disk."""
        self.append(name, b"".join(ANSWER.dump_json(answer) + b"\n" for answer in answers))

    def read_judge_responses(self) -> list[JudgeResponse]:
        """Return the responses in ``opinions.jsonl``.  An incomplete last line is removed from the file first.

        If the file does not exist, return an empty list.

        Raises
        ------
        RunError
            If the file is damaged.
        """
        exists = bool(self.complete_lines("opinions.jsonl"))
        return _parse_lines(self.path / "opinions.jsonl", _RESPONSE) if exists else []

    def append_judge_responses(self, responses: Iterable[JudgeResponse]) -> None:
        """Append responses to ``opinions.jsonl`` and flush the file to disk."""
        self.append("opinions.jsonl", b"".join(_RESPONSE.dump_json(response) + b"\n" for response in responses))

    def write_judgements(self, judgements: Iterable[Judgement]) -> None:
        """Write ``verdicts.jsonl``."""
        self.write("verdicts.jsonl", b"".join(_JUDGEMENT.dump_json(judgement) + b"\n" for judgement in judgements))

    def read_judgements(self) -> list[Judgement]:
        """Return the judgements in ``verdicts.jsonl``, in file order.

        Raises
        ------
        RunError
            If the file is missing or damaged.
        """
        path = self._existing("verdicts.jsonl", "judge")
        return list(self._read_once("verdicts.jsonl", "rows", lambda: _parse_lines(path, _JUDGEMENT)))

    def append_p_true(self, scores: Iterable[PTrueScore], exact: bool = False) -> None:
        """Append p(True) scores to ``p_true.jsonl`` and flush the file to disk.

        If `exact` is True, append them to ``p_true_exact.jsonl`` instead.
        """
        self.append(p_true_file(exact), b"".join(_P_TRUE.dump_json(score) + b"\n" for score in scores))

    def read_p_true(self, exact: bool = False) -> list[PTrueScore]:
        """Return p(True) for all answers or, if `exact` is True, for all exact answers.

        Raises
        ------
        RunError
            If the file is missing or damaged.
        """
        return _parse_lines(self._existing(p_true_file(exact), "p-true --exact" if exact else "p-true"), _P_TRUE)

    def read_table(self, study: str) -> Table:
        """Return the result table of a study.

        Raises
        ------
        RunError
            If the file is missing or damaged.
        """
        return read_table(self._existing(f"{study}.json", study))

    def _existing(self, name: str, step: str) -> Path:
        path = self.path / name
        if not path.is_file() or not self.run_json()["steps"].get(step, {}).get("done"):
            raise RunError(
                f"{path} does not exist or is incomplete", f"{step_command(step, self.path, redo=False)} creates it"
            )
        return path

    def _read_once(self, name: str, purpose: str, read: Callable[[], _T]) -> _T:
        """Return the result of `read`, or the cached result if the file has not changed since the last call."""
        status = (self.path / name).stat()
        signature = (status.st_ino, status.st_size, status.st_mtime_ns)
        cached = self._cache.get((name, purpose))
        if cached is None or cached[0] != signature:
            cached = (signature, read())
            self._cache[name, purpose] = cached
        content: _T = cached[1]
        return content


def step_command(step: str, path: Path, redo: bool = True) -> str:
    """Return the command that executes a step or, if `redo` is True, repeats it."""
    flag = " --redo" if redo else ""
    if step == "answer":
        return f"`probemap answer DATA --model MODEL --out {path}{flag}`"
    return f"`probemap {step} {path}{flag}`"


def p_true_file(exact: bool) -> str:
    """Return the name of the file that stores p(True) for the answers or, if `exact` is True, for the exact answers."""
    return "p_true_exact.jsonl" if exact else "p_true.jsonl"


def _run_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        content["steps"].items()
    except (ValueError, KeyError, TypeError, AttributeError):
        raise RunError(f"{path} is damaged", "restore the file, or use a new run directory") from None
    return content


def _parse_lines(path: Path, kind: TypeAdapter[_T]) -> list[_T]:
    rows = []
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                rows.append(kind.validate_json(line))
            except ValidationError as error:
                raise RunError(f"{path}, line {number} is damaged: {first_error(error)}", RESTORE) from None
    return rows
