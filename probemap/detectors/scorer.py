"""New answers scored by a detector: tokens, exact answer, states, probability."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np

from probemap.activations.forward import check_site, hidden_states
from probemap.activations.layout import States
from probemap.activations.recorder import HookRecorder
from probemap.detectors.detector import Detector
from probemap.detectors.provenance import Provenance
from probemap.grading.llm import extract_locator, extraction_task, model_judge
from probemap.grading.locate import LOCATORS, LocatorFactory, locate_answer
from probemap.grading.rules import possible_answers
from probemap.models.batching import batches, run_with_halving
from probemap.models.generate import (
    GenerationOptions,
    GenerationRequest,
    OnToken,
    RecordedStates,
    Recorder,
    generate_answers,
    generate_batch,
)
from probemap.models.model import Model, out_of_memory_error
from probemap.models.prompts import Prompt, PromptFormat, check_lengths, make_prompt, prompt_from_text
from probemap.models.retokenise import retokenise
from probemap.positions import Indices, check_position, token_indices
from probemap.records import Answer, DataError, DetectorError, Example, Span, TextAnswer

Place = tuple[Span | None, str]
"""Where the exact answer is; or None, and why it is nowhere."""

AT_ONCE = 256
"""Answers that are read, batched and scored together."""


@dataclass(frozen=True)
class Score:
    """What a detector says of one answer."""

    id: str
    p_correct: float | None
    """Probability that the answer is right; None if nothing could judge it."""
    flagged: bool | None
    """Below the threshold that was asked for."""
    score: float | None
    """Log-odds before calibration; those of a fallback moved by one number, which stands for the answers it is for."""
    judged_by: Literal["main", "fallback", "none"]
    exact_answer: str | None
    why: str
    """Why there is no exact answer, and what that means; empty otherwise."""


@dataclass(frozen=True)
class Said:
    """An answer that was scored while the model gave it."""

    answer: Answer
    score: Score
    tokens: tuple[float, ...]
    """For each produced token but the last, which the model need not read, what the main branch's probes make of its
    state: a probability, as if the token stood at the branch's positions.  For looking, not for deciding."""


@dataclass(frozen=True)
class Scorer:
    """A detector with the model that it belongs to.

    Raises
    ------
    DetectorError: they do not belong together, or there is no threshold for that share.
    DataError: the detector reads a position that there is not.
    """

    detector: Detector
    model: Model
    false_alarms: float | None = None
    """The share of right answers that may be flagged: one that the detector has a threshold for.  None: the lowest."""
    batch_size: int = 32

    def __post_init__(self) -> None:
        check_belongs(self.detector, self.model)
        for branch in (self.detector.main, self.detector.fallback):
            if branch:
                branch.threshold(self.false_alarms)

    @property
    def provenance(self) -> Provenance:
        """The provenance of the detector, which is known."""
        return self.detector.required_provenance()

    def answers(self, replies: Sequence[tuple[Example, TextAnswer]]) -> list[Answer]:
        """Questions and texts as answers: the prompt as the detector's own questions were put, unless a reply has one.

        Raises
        ------
        DataError: the tokenizer does not give a text back, it does not fit the window, or a prompt is needed.
        """
        pairs = [
            (self.prompt(example) if reply.prompt is None else prompt_from_text(self.model, reply.prompt), reply)
            for example, reply in replies
        ]
        return self.replay(pairs)

    def replay(self, pairs: Sequence[tuple[Prompt, TextAnswer]]) -> list[Answer]:
        """Texts as answers to prompts; raises as `answers`."""
        return retokenise(self.model, pairs, chat=self.provenance.frame == "chat")

    def prompt(self, example: Example) -> Prompt:
        """A question as the detector's own were put.

        Raises
        ------
        DataError: the detector was made from prompts that came with their answers.
        """
        return make_prompt(self.model, self.provenance.task, example, self._frame)

    def score(
        self, examples: Sequence[Example], answers: Sequence[Answer], places: Sequence[Place] | None = None
    ) -> list[Score]:
        """Scores of answers to these questions, in their order; the same alone and in any batch, but for rounding.

        Parameters
        ----------
        places: where the exact answer of each answer is, if that is known already; None: it is looked for.

        Raises
        ------
        DataError: another number of places than of answers, or one that lies outside of its answer.
        ModelError: one answer alone does not fit the memory.
        """
        found, indices = self._places(examples, answers, places)
        states = self._read(answers, indices)
        return [self._one(a.id, states[[i]], *found[i]) for i, a in enumerate(answers)]

    def _read(self, answers: Sequence[Answer], indices: Indices) -> States:
        """(n, cells, d): the states of each answer at the token of each cell, NaN where it has none."""
        states = np.full((len(answers), indices.shape[1], self._width), np.nan, np.float32)

        def look(some: list[int]) -> States:
            return hidden_states(
                self.model, [answers[i] for i in some], indices[some], self.provenance.site, layers=self._layers
            )

        for batch in batches([len(a.token_ids) for a in answers], self.batch_size):
            for some, seen in run_with_halving(batch, look, lambda text: None):
                if seen is None:
                    raise out_of_memory_error(self.model, answers[some[0]].id, len(answers[some[0]].token_ids))
                states[some] = seen[:, self._rows, range(indices.shape[1])]
        return states

    def generate(self, examples: Sequence[Example], *, temperature: float = 0.0, seed: int = 0) -> list[Said]:
        """Put questions to the model as the detector's own were, and score what it says, without a second pass.

        Parameters
        ----------
        temperature, seed: as for `generate.generate_answers`.

        Raises
        ------
        DataError: a question does not fit the model's window, or prompts are needed.
        ModelError: one question alone does not fit the memory.
        """
        prompts = [(e.id, self.prompt(e)) for e in examples]
        limit = self.provenance.task.max_new_tokens
        check_lengths(self.model, prompts, limit)
        by_id = {e.id: e for e in examples}
        said: dict[str, Said] = {}

        def keep(number: int, answers: list[Answer], seen: RecordedStates) -> None:
            for made in self._heard([by_id[a.id] for a in answers], answers, seen):
                said[made.answer.id] = made

        for _ in generate_answers(
            self.model,
            prompts,
            GenerationOptions(
                prompt_format=self._frame,
                max_new_tokens=limit,
                batch_size=self.batch_size,
                temperature=temperature,
                seed=seed,
            ),
            recorder=Recorder(start=self._watch, save=keep),
        ):
            pass
        return [said[e.id] for e in examples]

    def speak(
        self,
        examples: Sequence[Example],
        wanted: Sequence[GenerationRequest],
        *,
        seed: int = 0,
        hear: OnToken = lambda row, token: True,
    ) -> list[Said]:
        """One batch of `generate`, of any prompts; parameters as for `generate.generate_batch`."""
        answers, seen = generate_batch(
            self.model, wanted, prompt_format=self._frame, seed=seed, recorder=self._watch(len(wanted)), on_token=hear
        )
        return list(self._heard(examples, answers, seen))

    def _watch(self, rows: int) -> HookRecorder:
        return HookRecorder(self.model, self.provenance.site, ",".join(map(str, self._layers)), rows, self._needs_last)

    def _needs_last(self, ended: bool) -> bool:
        """Where a cell is likely to lie on the last token.  An answer in which one does so by chance, as when it was
        cut off at its exact answer, is read again: that is rare, and cheaper than a pass more for all."""
        positions = {cell.position for cell in self.detector.cells}
        return "-1" in positions or (ended and "exact_answer_after_last" in positions)

    def _heard(self, examples: Sequence[Example], answers: list[Answer], seen: RecordedStates) -> Iterator[Said]:
        """A batch, and what was seen of each of its answers, (passes, n_layers, d)."""
        found, indices = self._places(examples, answers)
        # Pass t saw the t-th produced token, pass 0 the prompt's last one.
        at = indices - np.array([[answer.n_prompt - 1] for answer in answers])
        missed = [i for i, passes in enumerate(seen) if at[i].max() >= len(passes)]
        again = dict(zip(missed, self._read([answers[i] for i in missed], indices[missed]), strict=True))
        main = self.detector.main
        for i, (answer, passes) in enumerate(zip(answers, seen, strict=True)):
            if i not in again:
                again[i] = passes[np.maximum(at[i], 0), self._rows]
                again[i][at[i] < 0] = np.nan
            tokens = passes[1 : len(answer.produced_ids)][:, self._rows[: len(main.cells)]]
            p = main.probabilities(main.scores(tokens)) if len(tokens) else np.empty(0)
            yield Said(answer, self._one(answer.id, again[i][None], *found[i]), tuple(p.tolist()))

    def _places(
        self, examples: Sequence[Example], answers: Sequence[Answer], places: Sequence[Place] | None = None
    ) -> tuple[list[tuple[str | None, str]], Indices]:
        """For each answer its exact answer or why there is none; and the token of each cell, (n, cells)."""
        if places is None:
            task, locator_for = self.provenance.task, self._locator(examples, answers)
            places = [
                locate_answer(task, e, a, locator_for(possible_answers(task, e)))
                for e, a in zip(examples, answers, strict=True)
            ]
        _check_places(places, answers)
        spans = [span for span, _ in places]
        columns = [token_indices(answers, spans, (cell.position,)) for cell in self.detector.cells]
        return [(span.text if span else None, why) for span, why in places], np.concatenate(columns, axis=1)

    @property
    def _frame(self) -> PromptFormat:
        frame = self.provenance.frame
        if frame == "given":
            raise DataError(
                "the detector was made from prompts that came with their answers", "give 'prompt' with each text"
            )
        return frame

    @property
    def _layers(self) -> list[int]:
        return sorted({cell.layer for cell in self.detector.cells})

    @property
    def _rows(self) -> list[int]:
        """For each cell the row of its layer among `_layers`."""
        return [self._layers.index(cell.layer) for cell in self.detector.cells]

    @property
    def _width(self) -> int:
        return int(self.detector.main.weight.shape[1])

    def _one(self, id_: str, state: np.ndarray, exact: str | None, why: str) -> Score:
        (by,) = self.detector.branch_of(state)
        if by == "none":
            return Score(id_, None, None, None, by, exact, why or "no token at the detector's positions")
        k = len(self.detector.main.cells)
        branch, mine = (self.detector.main, state[:, :k]) if by == "main" else (self.detector.fallback, state[:, k:])
        assert branch is not None
        score = float(branch.scores(mine)[0])
        p = float(branch.probabilities(np.array([score]))[0])
        flagged = score < branch.threshold(self.false_alarms).score
        if by == "fallback":
            why = f"{why or 'a position is missing'}: judged by {branch.where}"
        return Score(id_, p, flagged, score, by, exact, why if by == "fallback" else "")

    def _locator(self, examples: Sequence[Example], answers: Sequence[Answer]) -> LocatorFactory:
        name = self.provenance.locator
        if name != "model":
            return LOCATORS[name]
        asked = extraction_task(examples, answers)
        said = {id_: text for batch in model_judge(self.model).respond(asked) for id_, text in batch}
        pairs = zip(examples, answers, strict=True)
        return extract_locator({(e.question, a.final.text): said[a.id] for e, a in pairs})


def generate_with_score(
    detector: Detector,
    model: Model,
    questions: Sequence[str | Example],
    *,
    temperature: float = 0.0,
    seed: int = 0,
    false_alarms: float | None = None,
    batch_size: int = 32,
) -> list[Said]:
    """The model answers questions, and every answer is scored while it is given, without a second pass.

    Parameters
    ----------
    model: the one that the detector was made for, from `load_model`.
    questions: texts, or examples that have a context or choices; asked as the detector's own questions were.
    temperature, seed: as for `generate_answers`.
    false_alarms: the share of right answers that may be flagged; None: the lowest that the detector knows.

    Raises
    ------
    DetectorError: detector and model do not belong together, or there is no threshold for that share.
    DataError: two questions have one id, one does not fit the model's window, or prompts are needed.
    ModelError: one question alone does not fit the memory.
    """
    examples = [as_example(question, str(number)) for number, question in enumerate(questions, start=1)]
    if twice := [id_ for id_, count in Counter(e.id for e in examples).items() if count > 1]:
        raise DataError(
            f"{len(twice)} ids belong to several questions: {', '.join(twice[:3])}", "give each question its own id"
        )
    return Scorer(detector, model, false_alarms, batch_size).generate(examples, temperature=temperature, seed=seed)


def as_example(question: str | Example, id_: str) -> Example:
    """A question that has no accepted answers; a text gets this id."""
    return question if isinstance(question, Example) else Example(id_, question, ("",))


def in_parts(
    rows: Iterable[tuple[Example, TextAnswer]], size: int = AT_ONCE
) -> Iterator[list[tuple[Example, TextAnswer]]]:
    """Rows a few hundred at a time, so that a file of any length is scored as it is read."""
    waiting = iter(rows)
    while part := list(islice(waiting, size)):
        yield part


def check_belongs(detector: Detector, model: Model) -> None:
    """Refuse a model whose states the detector was not made from, and what nobody here could find in an answer.

    Raises
    ------
    DetectorError: no provenance, other weights, another chat template, too few layers, states of another width, or an
        unknown locator.
    DataError: a position that there is not.
    """
    provenance = detector.required_provenance()
    if provenance.locator not in ("model", *LOCATORS):
        raise DetectorError(
            f"the detector's exact answers were found by {provenance.locator!r:.60}, which this version does not know",
            f"there are {', '.join(LOCATORS)} and model",
        )
    for cell in detector.cells:
        check_position(cell.position)
    for what, own, other in (
        ("weights", provenance.revision, model.revision),
        ("weights in", provenance.quantize, model.quantize),
        ("chat template", provenance.template, model.template_sha256),
    ):
        if own and own != other:
            raise DetectorError(
                f"the detector was made for {provenance.model} with {what} {own[:16]}…, "
                f"this is {model.label} with {other[:16] or 'none'}",
                "load the very model that it was made for, or make a detector for this one",
            )
    deepest, width = max(cell.layer for cell in detector.cells), detector.main.weight.shape[1]
    if deepest >= model.n_layers:
        raise DetectorError(
            f"the detector reads layer {deepest}, {model.label} has {model.n_layers}",
            "load the model that it was made for",
        )
    if (d := check_site(model, provenance.site)) != width:
        raise DetectorError(
            f"the detector reads states of width {width}, those of {model.label} have {d}",
            "load the model that it was made for",
        )


def _check_places(places: Sequence[Place], answers: Sequence[Answer]) -> None:
    if len(places) != len(answers):
        raise DataError(f"{len(places)} places for {len(answers)} answers", "give one place, or None and why, for each")
    for (span, _), answer in zip(places, answers, strict=True):
        if span and not answer.answer_start <= span.start < span.stop <= len(answer.token_ids):
            raise DataError(
                f"the exact answer of {answer.id!r} is said to be tokens {span.start} to {span.stop}, the answer is "
                f"{answer.answer_start} to {len(answer.token_ids)}",
                "a span counts tokens from the prompt's first",
            )
