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
    RUN/resamples.jsonl   the same questions asked again and again        (resample)
    RUN/p_true_exact.jsonl  the same as p_true, of the exact answer alone (p-true --exact)
    RUN/errors.json, .csv, kinds.jsonl    which kinds of errors there are (errors)
    RUN/choose.json, .csv, choices.jsonl  the best of several answers     (choose)
    RUN/baselines.json, .csv              what needs no states, ranked    (baselines)
    RUN/transfer.json, .csv, .png, .svg   one run's probe on the others   (transfer)
    RUN/errors.jsonl, transfer.jsonl      what errors and transfer have found so far
    RUN/earlier/          what a step made before it was made again

A step never replaces what other options or another input made: it says what changed and names the command that
makes it again; what was there goes to ``earlier/``.  Nothing is deleted.
"""

import json
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from probemap.records import RunError
from probemap.runs.folder import Folder, again

OUTPUTS: dict[str, tuple[str, ...]] = {
    "answer": ("task.json", "answers.jsonl"),
    "judge": ("verdicts.jsonl",),
    "capture": ("activations",),
    "attention": ("attention",),
    "p-true": ("p_true.jsonl",),
    "map": ("map.nc", "map.csv"),
    "plot": ("map.png", "map.svg"),
    "resample": ("resamples.jsonl",),
    "p-true --exact": ("p_true_exact.jsonl",),
    "errors": ("errors.json", "errors.csv", "kinds.jsonl"),
    "choose": ("choose.json", "choose.csv", "choices.jsonl"),
    "baselines": ("baselines.json", "baselines.csv"),
    "transfer": ("transfer.json", "transfer.csv"),
}
"""Step -> the files that it makes."""

_BEGUN = {
    "answer": ("answers.jsonl",),
    "judge": ("verdicts.jsonl", "disagreements.jsonl"),
    "capture": ("activations/commits", "activations/where.json"),
    "attention": ("attention/commits",),
    "errors": ("errors.jsonl",),
    "transfer": ("transfer.jsonl",),
}
"""Step -> what shows that it has made something; where it is not said, any of its outputs."""

_BESIDE = {
    "answer": ("during",),
    "judge": ("disagreements.jsonl",),
    "errors": ("errors.jsonl",),
    "transfer": ("transfer.jsonl", "transfer.png", "transfer.svg"),
}
"""Step -> files that it makes under some options, and that go aside with the others."""

_UNRECORDED = {"site": "resid", "judge": "rules"}
"""Option -> what a step did that was made before there was this option; where it is not said, None."""

_PACKAGES = ("probemap", "torch", "transformers", "numpy", "scikit-learn", "zarr", "xarray")


class Run(Folder):
    """One run folder, and what made its files."""

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
        log: Callable[[str], None],
    ) -> Iterator[bool]:
        """Run a step's body: `begin`, and `finish` where it ends well; yields False if there is nothing to do."""
        needed = self.begin(name, options=options, inputs=inputs, redo=redo, log=log)
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
        log: Callable[[str], None],
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
            self._set_aside(name, log)
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
        content = self.record()
        content["versions"] = {p: version(p) for p in _PACKAGES} | {"python": platform.python_version()}
        content["steps"][name] = entry
        self.write("run.json", json.dumps(content, indent=1, ensure_ascii=False) + "\n")

    def _set_aside(self, name: str, log: Callable[[str], None]) -> None:
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
        log(f"{', '.join(there)} moved to {folder}")


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
