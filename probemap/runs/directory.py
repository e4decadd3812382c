"""Lock a run directory, and record the execution of its steps.

A run directory contains the following files:

::

    RUN/run.json          package versions, and the options and input hashes of each step
    RUN/task.json         the questions, the prompt and the rules for grading
    RUN/answers.jsonl     the model's answers, one per line                  (answer)
    RUN/verdicts.jsonl    verdict and exact answer for each answer           (judge)
    RUN/opinions.jsonl    responses of the language model that acts as judge or locator
    RUN/disagreements.jsonl  answers on which this model and the rules disagree, to be labelled by hand
    RUN/activations/      hidden states, one shard per block of answers      (capture)
    RUN/attention/        attention weights at the probed tokens             (attention)
    RUN/during/           states recorded during generation, until the capture step uses them
    RUN/p_true.jsonl      p(True) for each answer                            (p-true)
    RUN/map.nc, .csv      one AUC per cell                                   (map)
    RUN/map.png, .svg     the figure                                         (plot)
    RUN/resamples.jsonl   several sampled answers per question               (resample)
    RUN/p_true_exact.jsonl  p(True) for each exact answer                    (p-true --exact)
    RUN/errors.json, .csv, kinds.jsonl    the error taxonomy                 (errors)
    RUN/choose.json, .csv, choices.jsonl  best-of-n                          (choose)
    RUN/baselines.json, .csv              all predictors, ranked             (baselines)
    RUN/transfer.json, .csv, .png, .svg   the generalisation matrix          (transfer)
    RUN/peer.json, .csv                   this model's states and a peer's   (peer)
    RUN/errors.jsonl, transfer.jsonl      checkpoints of errors and transfer
    RUN/audit.jsonl       answers drawn for an audit, and a person's labels  (audit)
    RUN/audit_draw.json   how the answers of the audit were drawn
    RUN/audit.json, .csv                  error rates of the verdicts        (audit)
    RUN/audit.html        a page on which the labels can be entered
    RUN/earlier/          previous results of repeated steps

A step never overwrites a result that was obtained with different options or inputs.  Instead, it raises an error that
states the differences and the command that repeats the step.  When a step is repeated, the previous result is not
deleted but moved to ``earlier/``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from probemap.records import RunError
from probemap.runs.folder import Folder, step_command
from probemap.runs.record import StepRecord, versions

if TYPE_CHECKING:
    from probemap.runs.definitions import Facts, Options, Step


class RunDirectory(Folder):
    """A run directory that can be locked and that records the execution of its steps.

    Parameters
    ----------
    path : str or Path
        Path of the directory, which does not have to exist yet.
    """

    @contextmanager
    def locked(self, wait: float = 0) -> Iterator[None]:
        """Lock the directory against writes by other processes.  If it does not exist, create it first.

        On exit, a directory that was created by this call is removed if it is still empty.

        Parameters
        ----------
        wait : float
            Maximum time in seconds to wait for another process to release the lock.

        Raises
        ------
        RunError
            If another process holds the lock, if `path` is a file, or if the directory contains files but no
            ``run.json``.
        """
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"{self.path} is a file, not a directory", "use the path of a directory for the run")
        created = not self.path.exists()
        self.path.mkdir(parents=True, exist_ok=True)
        if not (self.path / "run.json").exists() and any(not p.name.startswith(".") for p in self.path.iterdir()):
            raise RunError(
                f"{self.path} contains other files and is not a run directory", "use a new directory for the run"
            )
        lock = FileLock(self.path / ".lock")
        try:
            with lock.acquire(timeout=wait):
                yield
        except Timeout:
            raise RunError(f"another probemap process is working in {self.path}", "wait until it finishes") from None
        finally:
            if created and [p.name for p in self.path.iterdir()] in ([], [".lock"]):
                (self.path / ".lock").unlink(missing_ok=True)
                self.path.rmdir()

    def find_record(self, step: Step[Options, Facts]) -> StepRecord[Options, Facts] | None:
        """Return the record of a step, or None if the step has never been started.

        Raises
        ------
        RunError
            If ``run.json`` is damaged.
        """
        entry = self.run_json()["steps"].get(step.name)
        return None if entry is None else StepRecord.from_json(step, entry, str(self.path / "run.json"))

    def record(self, step: Step[Options, Facts]) -> StepRecord[Options, Facts]:
        """Return the record of a step that has been started.

        Raises
        ------
        RunError
            If the step has never been started, or if ``run.json`` is damaged.
        """
        record = self.find_record(step)
        if record is None:
            raise RunError(
                f"{self.path} has no record of the step {step.name}",
                f"{step_command(step.name, self.path, redo=False)} executes it",
            )
        return record

    def is_done(self, step: Step[Any, Any]) -> bool:
        """Return True if the step is complete and all of its outputs exist."""
        record = self.find_record(step)
        return record is not None and record.done and all((self.path / name).exists() for name in step.outputs)

    def begin(
        self,
        step: Step[Options, Facts],
        options: Options,
        inputs: Mapping[str, str],
        *,
        redo: bool,
        log: Callable[[str], None],
    ) -> bool:
        """Record the start of a step, unless it is already done with the same options and inputs.

        Results of an unfinished execution with the same options and inputs are kept, so that the step can be resumed.
        If `redo` is True, all other results of the step are moved to ``earlier/``.

        Returns
        -------
        bool
            Whether the step has to be executed.

        Raises
        ------
        RunError
            If the step already has results for different options or inputs, unless `redo` is True or the step follows
            its inputs.
        """
        before = self.find_record(step)
        has_results = any((self.path / name).exists() for name in step.traces or step.outputs)
        differences = before.differences(options, inputs) if before else []
        if differences and has_results and not (redo or step.follows_inputs):
            raise RunError(
                f"{self.path / step.outputs[-1]} was created with different options or inputs: "
                f"{'; '.join(differences)}",
                f"{step_command(step.name, self.path)} repeats the step and moves the old result to "
                f"{self.path / 'earlier'}; alternatively, use a new run directory",
            )
        done = self.is_done(step)
        if differences or (redo and done):
            self._set_aside(step, log)
        elif done:
            return False
        resumes = before is not None and has_results and not differences and not before.done
        facts = before.facts if before is not None and resumes else step.facts()
        self._write(step, StepRecord(options, dict(inputs), done=False, facts=facts))
        return True

    def finish(self, step: Step[Any, Any], seconds: float) -> None:
        """Record that a step is done."""
        self._write(step, replace(self.record(step), done=True, seconds=round(seconds, 1)))

    def note(self, step: Step[Options, Facts], facts: Facts) -> None:
        """Record the facts that a running step has determined."""
        self._write(step, replace(self.record(step), facts=facts))

    def _write(self, step: Step[Options, Facts], record: StepRecord[Options, Facts]) -> None:
        steps = {**self.run_json()["steps"], step.name: record.to_json()}
        content = {"versions": versions(), "steps": steps}
        self.write("run.json", json.dumps(content, indent=1, ensure_ascii=False) + "\n")

    def _set_aside(self, step: Step[Any, Any], log: Callable[[str], None]) -> None:
        names = [name for name in (*step.outputs, *step.side_outputs) if (self.path / name).exists()]
        if not names:
            return
        earlier = self.path / "earlier"
        earlier.mkdir(exist_ok=True)
        numbers = [int(p.name[:3]) for p in earlier.iterdir() if p.name[:3].isdigit()]
        directory = earlier / f"{max(numbers, default=0) + 1:03d}-{step.name}"
        directory.mkdir()
        entry = self.run_json()["steps"].get(step.name, {})
        (directory / "step.json").write_text(json.dumps(entry, indent=1), encoding="utf-8")
        for name in names:
            (self.path / name).rename(directory / name)
        log(f"{', '.join(names)} moved to {directory}")
