"""The run folder: what each step made, from what, and whether that still holds.

::

    RUN/run.json          what made each file: versions, model, options, hash of each step's input
    RUN/task.json         the questions, and how they are asked and judged
    RUN/answers.jsonl     what the model said, one line per answer        (answer)
    RUN/verdicts.jsonl    right or wrong, and the exact answer            (judge)
    RUN/opinions.jsonl    what a model that judges or locates has said
    RUN/disagreements.jsonl  where it differs from the rules, for you to decide
    RUN/activations/      hidden states, one shard per block of answers   (capture)
    RUN/attention/        how much attention each position receives       (attention)
    RUN/during/           states taken while it answered, until the capture step has them
    RUN/p_true.jsonl      how likely the model holds its answers for true (p-true)
    RUN/map.nc, .csv      one AUC per cell                                (map)
    RUN/map.png, .svg     the picture                                     (plot)
    RUN/earlier/          what a step made before it was made again

A step never replaces what other options or another input made: it says what changed and names the command that
makes it again; what was there goes to ``earlier/``.  Nothing is deleted.
"""

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError

from probemap.models.answers import ANSWER, MEND, AnswerFile, first
from probemap.records import Answer, Belief, Judgement, Opinion, RunError, Task

OUTPUTS: dict[str, tuple[str, ...]] = {
    "answer": ("task.json", "answers.jsonl"),
    "judge": ("verdicts.jsonl",),
    "capture": ("activations",),
    "attention": ("attention",),
    "p-true": ("p_true.jsonl",),
    "map": ("map.nc", "map.csv"),
    "plot": ("map.png", "map.svg"),
}
"""Step -> the files that it makes."""

_BEGUN = {
    "answer": ("answers.jsonl",),
    "judge": ("verdicts.jsonl", "disagreements.jsonl"),
    "capture": ("activations/commits", "activations/where.json"),
    "attention": ("attention/commits",),
}
"""Step -> what shows that it has made something; where it is not said, any of its outputs."""

_BESIDE = {"answer": ("during",), "judge": ("disagreements.jsonl",)}
"""Step -> files that it makes under some options, and that go aside with the others."""

_UNRECORDED = {"site": "resid", "judge": "rules"}
"""Option -> what a step did that was made before there was this option; where it is not said, None."""

_PACKAGES = ("probemap", "torch", "transformers", "numpy", "scikit-learn", "zarr", "xarray")
_T = TypeVar("_T")
_TASK, _JUDGEMENT = TypeAdapter(Task), TypeAdapter(Judgement)
_BELIEF, _OPINION = TypeAdapter(Belief), TypeAdapter(Opinion)


class Run:
    """One run folder."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @classmethod
    def open(cls, path: str | Path) -> "Run":
        """An existing run folder.

        Raises
        ------
        RunError: there is none.
        """
        run = cls(path)
        if not (run.path / "run.json").is_file():
            raise RunError(
                f"{path} is not a run folder (it holds no run.json)",
                "`probemap run DATA --model MODEL --out RUN` makes one",
            )
        return run

    @property
    def during(self) -> Path:
        """Where states lie that were taken while the model answered, until they are captured."""
        return self.path / "during"

    @contextmanager
    def locked(self, wait: float = 0) -> Iterator[None]:
        """Hold the folder against a second process that would write to it.

        Parameters
        ----------
        wait: so many seconds for another process.

        Raises
        ------
        RunError: another process holds it.
        """
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"{self.path} is a file", "give a folder for the run")
        self.path.mkdir(parents=True, exist_ok=True)
        if not (self.path / "run.json").exists() and any(not p.name.startswith(".") for p in self.path.iterdir()):
            raise RunError(f"{self.path} holds other files and is no run folder", "give a new folder")
        lock = FileLock(self.path / ".lock")
        try:
            with lock.acquire(timeout=wait):
                yield
        except Timeout:
            raise RunError(f"another probemap is at work in {self.path}", "wait for it to end") from None

    # what made what

    def log(self) -> dict[str, Any]:
        """The content of run.json."""
        path = self.path / "run.json"
        if not path.exists():
            return {"steps": {}}
        try:
            log: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            log["steps"].items()
        except (ValueError, KeyError, TypeError, AttributeError):
            raise RunError(f"{path} is damaged", "restore it, or start a new run folder") from None
        return log

    def step(self, name: str) -> dict[str, Any]:
        """What run.json says of a step; empty if it was never begun."""
        found: dict[str, Any] = self.log()["steps"].get(name, {})
        return found

    def is_done(self, name: str) -> bool:
        return bool(self.step(name).get("done")) and all((self.path / output).exists() for output in OUTPUTS[name])

    @contextmanager
    def making(
        self,
        name: str,
        *,
        options: Mapping[str, Any],
        inputs: Mapping[str, str],
        redo: bool,
        tell: Callable[[str], None],
    ) -> Iterator[bool]:
        """Run a step's body: `begin`, and `finish` where it ends well; yields False if there is nothing to do."""
        needed = self.begin(name, options=options, inputs=inputs, redo=redo, tell=tell)
        started = time.monotonic()
        yield needed
        if needed:
            self.finish(name, time.monotonic() - started)

    def begin(
        self,
        name: str,
        *,
        options: Mapping[str, Any],
        inputs: Mapping[str, str],
        redo: bool,
        tell: Callable[[str], None],
    ) -> bool:
        """Record that a step is being made; False if it is done already, with these very options and inputs.

        What an earlier, unfinished attempt with the same options and inputs left is kept to go on from.

        Raises
        ------
        RunError: it was made, or begun, with other options or from another input, and `redo` is False.
        """
        made = self.step(name)
        wanted = {"options": json.loads(json.dumps(options)), "inputs": dict(inputs)}
        begun = any((self.path / output).exists() for output in _BEGUN.get(name, OUTPUTS[name]))
        otherwise = _changes(made, wanted) if made else []
        changed = otherwise if begun else []
        if changed and not redo:
            raise RunError(
                f"{self.path / OUTPUTS[name][-1]} was made otherwise: {'; '.join(changed)}",
                f"{again(name, self.path)} makes it again and keeps the old one under {self.path / 'earlier'}; "
                "or use a new run folder",
            )
        if changed or (redo and self.is_done(name)) or (otherwise and not begun):
            self._set_aside(name, tell)
        elif self.is_done(name):
            return False
        facts = made.get("facts", {}) if begun and not changed and not made.get("done") else {}
        self._record(name, {**wanted, "done": False, "facts": facts})
        return True

    def finish(self, name: str, seconds: float) -> None:
        """Record that a step is done."""
        self._record(name, {**self.step(name), "done": True, "seconds": round(seconds, 1)})

    def note(self, name: str, facts: Mapping[str, Any]) -> None:
        """Add facts to a step that is being made, e.g. which model it found."""
        self._record(name, {**self.step(name), "facts": dict(facts)})

    def _record(self, name: str, entry: dict[str, Any]) -> None:
        log = self.log()
        log["versions"] = {p: version(p) for p in _PACKAGES} | {"python": platform.python_version()}
        log["steps"][name] = entry
        self.write("run.json", json.dumps(log, indent=1, ensure_ascii=False) + "\n")

    def _set_aside(self, name: str, tell: Callable[[str], None]) -> None:
        there = [o for o in (*OUTPUTS[name], *_BESIDE.get(name, ())) if (self.path / o).exists()]
        if not there:
            return
        earlier = self.path / "earlier"
        earlier.mkdir(exist_ok=True)
        taken = [int(p.name[:3]) for p in earlier.iterdir() if p.name[:3].isdigit()]
        folder = earlier / f"{max(taken, default=0) + 1:03d}-{name}"
        folder.mkdir()
        (folder / "step.json").write_text(json.dumps(self.step(name), indent=1), encoding="utf-8")
        for output in there:
            (self.path / output).rename(folder / output)
        tell(f"{', '.join(there)} moved to {folder}")

    # files

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

    def begun_answers(self, whole: Sequence[int]) -> int:
        """How many of the planned batches (their sizes given) are on disk; cuts off a torn last batch."""
        path = self.path / "answers.jsonl"
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
            self.write("answers.jsonl", kept)
        return count

    def append_answers(self, answers: Iterable[Answer]) -> None:
        """Add one batch to the end of answers.jsonl and flush it to disk."""
        self._append("answers.jsonl", b"".join(ANSWER.dump_json(a) + b"\n" for a in answers))

    def _append(self, name: str, content: bytes) -> None:
        with (self.path / name).open("ab") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    def opinions(self) -> list[Opinion]:
        """What models have said when they were asked to judge or to locate; cuts off a torn last line.

        Raises
        ------
        RunError: damaged.
        """
        path = self.path / "opinions.jsonl"
        if not path.exists():
            return []
        whole, _, torn = path.read_bytes().rpartition(b"\n")
        if torn:
            self.write("opinions.jsonl", whole + b"\n" if whole else b"")
        return _lines(path, _OPINION)

    def append_opinions(self, opinions: Iterable[Opinion]) -> None:
        self._append("opinions.jsonl", b"".join(_OPINION.dump_json(o) + b"\n" for o in opinions))

    def write_judgements(self, judgements: Iterable[Judgement]) -> None:
        self.write("verdicts.jsonl", b"".join(_JUDGEMENT.dump_json(j) + b"\n" for j in judgements))

    def judgements(self) -> list[Judgement]:
        """Verdicts and exact answers, in the order of the task's questions.

        Raises
        ------
        RunError: missing or damaged.
        """
        return _lines(self._existing("verdicts.jsonl", "judge"), _JUDGEMENT)

    def write_p_true(self, beliefs: Iterable[Belief]) -> None:
        self.write("p_true.jsonl", b"".join(_BELIEF.dump_json(b) + b"\n" for b in beliefs))

    def p_true(self) -> list[Belief]:
        """p(True) of every answer.

        Raises
        ------
        RunError: missing or damaged.
        """
        return _lines(self._existing("p_true.jsonl", "p-true"), _BELIEF)

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


def _changes(made: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    changes = []
    for key, now in wanted["options"].items():
        before = made["options"].get(key, _UNRECORDED.get(key))
        if before != now:
            changes.append(f"{key} was {_brief(before)}, now {_brief(now)}")
    changes += [f"its input changed ({key})" for key, now in wanted["inputs"].items() if made["inputs"].get(key) != now]
    return changes


def _brief(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _lines(path: Path, kind: TypeAdapter[_T]) -> list[_T]:
    rows = []
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                rows.append(kind.validate_json(line))
            except ValidationError as error:
                raise RunError(f"{path}, line {number} is damaged: {first(error)}", MEND) from None
    return rows
