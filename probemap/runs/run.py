"""Read the content of a run directory, and check that its files are consistent with each other.

For example, the verdicts are returned only if they were derived from the current answers.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from probemap.models.loading import Loader, Weights
from probemap.positions import Indices, digest
from probemap.records import Answer, Example, Judgement, RunError, Span, StoreError, Task, Verdict
from probemap.runs.definitions import ANSWER, ATTENTION, JUDGE, MAP, P_TRUE, P_TRUE_EXACT, Step
from probemap.runs.directory import RunDirectory
from probemap.runs.folder import p_true_file, step_command
from probemap.runs.graded import GradedAnswers

if TYPE_CHECKING:  # torch takes seconds to import, so it is imported only in the methods that need it
    from probemap.activations.store import ActivationStore
    from probemap.detectors.provenance import Provenance
    from probemap.maps.probe_map import ProbeMap
    from probemap.runs.answer_file import AnswerFile

_P_TRUE_ADDED_LATER = ("p_true.jsonl", "")


class Run(RunDirectory):
    """A run directory and its content.

    Parameters
    ----------
    path : str or Path
        Path of the directory, which does not have to exist yet.

    See Also
    --------
    probemap.run_step : execute a step on a run.

    Examples
    --------
    >>> import tempfile
    >>> import probemap
    >>> probemap.Run.open(tempfile.mkdtemp())
    Traceback (most recent call last):
        ...
    probemap.records.RunError: /tmp/... is not a run directory: it holds no run.json
    hint: create one with `probemap run DATA --model MODEL --out RUN`
    """

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Open an existing run directory.

        Raises
        ------
        RunError
            If `path` contains no ``run.json``.
        """
        run = cls(path)
        if not (run.path / "run.json").is_file():
            raise RunError(
                f"{path} is not a run directory: it holds no run.json",
                "create one with `probemap run DATA --model MODEL --out RUN`",
            )
        return run

    @property
    def task(self) -> Task:
        """The questions, the prompt template and the rules for grading.

        Raises
        ------
        RunError
            If ``task.json`` is missing or damaged.
        """
        return self.read_task()

    @property
    def answers(self) -> AnswerFile:
        """The answers, one per question, in the order of the questions.

        Raises
        ------
        RunError
            If ``answers.jsonl`` is missing or damaged, or if a question has no answer.
        """
        answers, ids = self.read_answers(), [example.id for example in self.task.examples]
        answered = set(answers.ids)
        if missing := [name for name in ids if name not in answered]:
            raise RunError(
                f"{len(missing)} questions have no answer, for example {missing[0]!r}",
                f"{step_command('answer', self.path)} answers all questions again",
            )
        return answers.in_order(ids)

    @property
    def graded(self) -> GradedAnswers:
        """The questions, answers and judgements.

        Raises
        ------
        RunError
            If one of the files is missing or damaged, or if the files are inconsistent with each other.
        """
        task, answers = self.task, self.answers
        judgements = self.read_judgements()
        self.check_inputs(JUDGE, "the verdicts were made", "repeats the step and keeps the old verdicts")
        if [judgement.id for judgement in judgements] != answers.ids:
            raise RunError(
                f"{self.path / 'verdicts.jsonl'} does not have one line per question in the order of the questions",
                f"{step_command('judge', self.path)} writes the file again",
            )
        for answer, judgement in zip(answers, judgements, strict=True):
            span = judgement.span
            if span and not answer.n_prompt <= span.start < span.stop <= len(answer.token_ids):
                raise RunError(
                    f"verdicts.jsonl: the exact answer of {answer.id!r} is outside its answer",
                    "correct its start and stop, or set span to null",
                )
        return GradedAnswers(task, answers, judgements)

    @property
    def verdicts(self) -> list[Verdict]:
        """The verdict on each answer, in the order of the questions.

        Raises
        ------
        RunError
            See `graded`.
        """
        return [judgement.verdict for judgement in self.graded.judgements]

    @property
    def spans(self) -> list[Span | None]:
        """The span of the exact answer in each answer, in the order of the questions.

        A span is None if no exact answer was found.

        Raises
        ------
        RunError
            See `graded`.
        """
        return self.graded.spans

    @property
    def states(self) -> ActivationStore:
        """The hidden states at the probed tokens of each answer.

        Raises
        ------
        StoreError
            If no states have been captured.
        RunError
            If the states do not match the current answers or exact answers.
        """
        return self.states_of(self.graded)

    @property
    def map(self) -> ProbeMap:
        """The probe map.  A warning is issued if verdicts or states have changed since the map was computed.

        Raises
        ------
        RunError
            If there is no map.
        """
        return self.read_map(lambda text: warnings.warn(text, stacklevel=4))

    @property
    def provenance(self) -> Provenance:
        """The provenance of detectors that are fitted to this run: the model, the prompts and the locator.

        Raises
        ------
        RunError
            If a required step has not been executed, or if the exact answers were located by `paper_locator`.
        StoreError
            If no states have been captured.
        """
        from probemap.activations.store import ActivationStore
        from probemap.detectors.provenance import Provenance

        self.refuse_paper_locator()
        answer = self.record(ANSWER)
        return Provenance(
            model=answer.facts.model,
            task=self.task,
            prompt_format=answer.facts.frame,
            locator=self.record(JUDGE).options.rules_or_model,
            site=ActivationStore.open(self.path / "activations").layout.site,
            name=answer.options.model,
            revision=answer.facts.revision,
            dtype=answer.facts.dtype,
            template=answer.facts.template,
            quantize=answer.options.quantize or "",
            versions=self.run_json().get("versions", {}),
        )

    def states_of(self, graded: GradedAnswers) -> ActivationStore:
        """Return the hidden states after checking that they match the given answers and exact answers."""
        from probemap.activations.store import ActivationStore

        store = ActivationStore.open(self.path / "activations")
        self.check_states(store, graded.answers, graded.token_indices(store.layout.positions))
        return store

    def check_states(self, store: ActivationStore, answers: Sequence[Answer], indices: Indices) -> None:
        """Raise RunError if the states were not captured for the given answers at the given tokens."""
        if store.layout.made_from != digest(answers, indices):
            raise RunError(
                "the captured states do not match the answers or exact answers that are now in the directory",
                f"{step_command('capture', self.path)} repeats the capture and keeps the old states",
            )

    def check_inputs(self, step: Step[Any, Any], event: str, remedy: str) -> None:
        """Raise RunError if an input file of a step has changed since the step was executed."""
        inputs = self.record(step).inputs
        if changed := [name for name, content in inputs.items() if self.sha256(name) != content]:
            raise RunError(
                f"{' and '.join(changed)} changed after {event}", f"{step_command(step.name, self.path)} {remedy}"
            )

    def check_weights(self, model: Weights, fields: tuple[Literal["revision", "dtype"], ...]) -> None:
        """Raise RunError if `model` differs in one of the given fields from the model that generated the answers."""
        record = self.find_record(ANSWER)
        for field in fields:
            before, now = getattr(record.facts, field) if record else "", str(getattr(model, field))
            if before and before != now:
                raise RunError(
                    f"the answers in {self.path} were generated with different weights of {model.label} "
                    f"({field} {before[:12]}, now {now[:12]})",
                    "load the same weights, or use a new run directory",
                )

    def refuse_paper_locator(self) -> None:
        """Raise RunError if the exact answers were located by `paper_locator`, which depends on the verdicts."""
        record = self.find_record(JUDGE)
        if record is not None and record.options.locator == "paper":
            raise RunError(
                f"in {self.path} the position of the exact answer depends on the verdict (--locator paper)",
                f"use {step_command('judge', self.path)} with a different --locator",
            )

    def input_hashes(self, *names: str) -> dict[str, str]:
        """Return a mapping from each of the given file names to the SHA-256 of the file."""
        return {name: self.sha256(name) for name in names}

    def map_inputs(self, baselines: bool) -> dict[str, str]:
        """Return the hashes of the files from which the map is computed."""
        from probemap.activations.store import ActivationStore

        return {
            **self.input_hashes("verdicts.jsonl", *(["p_true.jsonl"] if baselines else [])),
            "activations": ActivationStore.open(self.path / "activations").content_hash(),
        }

    def p_true(self, answers: AnswerFile) -> list[float] | None:
        """Return p(True) for each answer, or None if the p-true step has not been completed.

        Raises
        ------
        RunError
            If ``p_true.jsonl`` is damaged or does not match the answers.
        """
        if not self.is_done(P_TRUE):
            return None
        scores = self.read_p_true()
        if [score.id for score in scores] != list(answers.ids):
            raise RunError(
                f"{self.path / p_true_file(False)} does not have one line per answer in the order of the questions",
                f"{step_command('p-true', self.path)} writes the file again",
            )
        return [score.p_true for score in scores]

    def p_true_exact(self, answers: AnswerFile) -> list[float]:
        """Return p(True) for the exact answer in each answer, or NaN if an answer contains no exact answer.

        Raises
        ------
        RunError
            If ``p_true_exact.jsonl`` is missing or damaged, or if the exact answers have changed since it was written.
        """
        scores = {score.id: score.p_true for score in self.read_p_true(exact=True)}
        self.check_inputs(P_TRUE_EXACT, "p(True) of the exact answers was computed", "repeats the step")
        return [scores.get(name, float("nan")) for name in answers.ids]

    def read_map(self, log: Callable[[str], None] = lambda text: None) -> ProbeMap:
        """Return the map, and log a message if verdicts or states have changed since the map was computed."""
        from probemap.maps.probe_map import ProbeMap

        probe_map = self._load_map(ProbeMap.load)
        try:
            changed = self._changed_since_map()
        except StoreError as error:
            log(f"map.nc may be out of date: {error.problem}")
            return probe_map
        if changed:
            log(f"{_out_of_date(changed)}\nhint: {step_command('map', self.path)} computes a new map")
        return probe_map

    def read_current_map(self) -> ProbeMap:
        """Return the map after checking that it was computed from the current verdicts and states.

        Raises
        ------
        RunError
            If there is no map, or if verdicts or states have changed since the map was computed.
        StoreError
            If no states have been captured.
        """
        from probemap.maps.probe_map import ProbeMap

        if not self.is_done(MAP):
            raise RunError(f"{self.path} holds no map", f"{step_command('map', self.path, redo=False)} creates it")
        # p(True) affects only the map's baselines.
        if changed := [name for name in self._changed_since_map() if name != "p_true.jsonl"]:
            raise RunError(
                _out_of_date(changed), f"{step_command('map', self.path)} repeats the step and keeps the old map"
            )
        return self._load_map(ProbeMap.load)

    def _load_map(self, load: Callable[[Path], ProbeMap]) -> ProbeMap:
        path = self.path / "map.nc"
        return self._read_once("map.nc", "map", lambda: load(path)) if path.exists() else load(path)

    def _changed_since_map(self) -> list[str]:
        record = self.find_record(MAP)
        inputs = record.inputs if record else {}
        now = self.map_inputs(record is not None and record.options.baselines)
        # If p(True) was computed after the map, the map does not depend on it.
        return [
            name
            for name, value in now.items()
            if inputs.get(name) != value and (name, inputs.get(name)) != _P_TRUE_ADDED_LATER
        ]

    def with_attention(self, probe_map: ProbeMap) -> ProbeMap:
        """Return the map with attention weights added.

        Raises
        ------
        RunError, StoreError
            If attention weights have not been captured, or if they do not match the current answers or the map.
        """
        from probemap.activations.store import ActivationStore
        from probemap.maps.attention import with_attention

        if not self.is_done(ATTENTION):
            raise RunError(
                f"{self.path} holds no attention weights",
                f"{step_command('attention', self.path, redo=False)} captures them",
            )
        self.check_inputs(ATTENTION, "attention was captured", "repeats the capture and keeps the old weights")
        store = ActivationStore.open(self.path / "attention")
        if missing := [name for name in probe_map.positions if name not in store.layout.positions]:
            raise RunError(
                f"attention was captured at {', '.join(store.layout.positions)}, not at {', '.join(missing)}",
                f"use {step_command('attention', self.path)} with --positions, or draw other positions",
            )
        columns = [store.layout.positions.index(name) for name in probe_map.positions]
        ids = [example.id for example in self.task.examples]
        return with_attention(probe_map, lambda layer: store.read_layer(layer)[:, columns], ids)

    def one_answer(self, name: str | None = None) -> tuple[Example, Answer, Judgement]:
        """Return the question with the given id (default: the first one), its answer and its judgement.

        RunError is raised if no question has the given id.
        """
        graded = self.graded
        if name is not None and name not in graded.ids:
            raise RunError(
                f"no answer has the id {name!r}",
                f"the ids are those of {self.path / 'task.json'}, e.g. {graded.ids[0]!r}",
            )
        row = 0 if name is None else graded.ids.index(name)
        return graded.task.examples[row], graded.answers[row], graded.judgements[row]

    def loader(self, device: str = "auto", dtype: str | None = None, max_memory: str | None = None) -> Loader:
        """Return a loader for the model that generated the answers.  `dtype` defaults to the recorded data type."""
        record = self.record(ANSWER)
        options = record.options
        return Loader(
            name=options.model,
            revision=options.revision,
            device=device,
            dtype=dtype or record.facts.dtype,
            quantize=options.quantize,
            max_memory=max_memory,
            template=options.template,
            date=record.facts.date or None,
        )


def _out_of_date(changed: Sequence[str]) -> str:
    return f"map.nc was made before {' and '.join(changed)} changed"
