"""`Scorer`: the probability that an answer is correct, for existing texts and during generation."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TypeVar

import numpy as np

from probemap.activations.hooks import Site
from probemap.activations.layout import States
from probemap.detectors.cell_states import CellReader
from probemap.detectors.compatibility import check_compatible
from probemap.detectors.detector import Detector, HeadName
from probemap.detectors.provenance import Provenance
from probemap.detectors.scores import GenerationResult, Score
from probemap.detectors.spans import LocatedSpan, check_spans, locate_spans
from probemap.grading.locate import Locator
from probemap.models.generate import (
    GenerationOptions,
    GenerationRequest,
    OnToken,
    RecordedStates,
    Recorder,
    generate_answers,
    generate_batch,
)
from probemap.models.model import Model
from probemap.models.prompts import Prompt, PromptFormat, check_lengths, make_prompt, prompt_from_text
from probemap.models.retokenise import retokenise
from probemap.positions import Indices, Position, Rule, token_indices
from probemap.records import Answer, DataError, Example, TextAnswer

_T = TypeVar("_T")

CHUNK_ROWS = 256
"""Number of answers that `Scorer.score_rows` reads and scores together."""


@dataclass(frozen=True)
class Scorer:
    """Scores texts with a detector and the model that it was fitted for.

    Parameters
    ----------
    detector : Detector
        With a provenance.
    model : Model
        From `load_model`; `load_scorer` loads both.
    false_alarms : float or None
        The false-alarm rate of the threshold, one that the detector has a threshold for; None: the lowest.
    batch_size : int
        Answers per forward pass.
    locator : callable, optional
        The locator, if the detector was fitted with a user-defined one: ``(question, text) -> (start, stop) | None``.
    positions : mapping, optional
        The rules of user-defined positions of the detector, as for `capture`.
    site : Site, optional
        The hook point, if the detector was fitted with a user-defined one.

    Raises
    ------
    DetectorError
        If the detector has no provenance, was fitted for another model, or has no threshold for that rate.
    DataError
        If a position of the detector is unknown.

    Examples
    --------
    A detector without provenance cannot score texts:

    >>> import numpy as np
    >>> from probemap import Scorer, fit_detector
    >>> rng = np.random.default_rng(0)
    >>> states = rng.normal(size=(400, 1, 1, 8))
    >>> detector = fit_detector(states, states[:, 0, 0, 0] > 0, positions=["last_q"])
    >>> Scorer(detector, model=None)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    probemap.records.DetectorError: the detector has no provenance: ...
    """

    detector: Detector
    model: Model
    false_alarms: float | None = None
    batch_size: int = 32
    locator: Locator | None = None
    positions: Mapping[str, str | Position | Rule] | None = None
    site: Site | None = None

    def __post_init__(self) -> None:
        check_compatible(
            self.detector,
            self.model,
            site=self.site,
            positions=self.positions,
            has_locator=self.locator is not None,
        )
        for head in (self.detector.primary, self.detector.fallback):
            if head:
                head.threshold(self.false_alarms)

    @property
    def provenance(self) -> Provenance:
        """The provenance of the detector."""
        return self.detector.required_provenance()

    @cached_property
    def _reader(self) -> CellReader:
        return CellReader(
            detector=self.detector,
            model=self.model,
            site=self.site or self.provenance.site,
            batch_size=self.batch_size,
        )

    def prompt(self, example: Example) -> Prompt:
        """Return the prompt of a question, in the format of the questions that the detector was fitted to.

        Raises
        ------
        DataError
            If the detector was fitted to prompts supplied with their answers.
        """
        return make_prompt(self.model, self.provenance.task, example, self._prompt_format)

    def retokenise(self, pairs: Sequence[tuple[Example | Prompt, TextAnswer]]) -> list[Answer]:
        """Convert texts to answers with token ids.

        Parameters
        ----------
        pairs : sequence of (Example or Prompt, TextAnswer)
            For an example, the prompt is built as for the questions that the detector was fitted to, unless the text
            has its own.

        Raises
        ------
        DataError
            If the tokenizer does not reproduce a text, it exceeds the context window, or a prompt is required.
        """
        prompted = []
        for question, text in pairs:
            if isinstance(question, Prompt):
                prompt = question
            else:
                prompt = self.prompt(question) if text.prompt is None else prompt_from_text(self.model, text.prompt)
            prompted.append((prompt, text))
        return retokenise(self.model, prompted, chat=self.provenance.prompt_format == "chat")

    def score(
        self, examples: Sequence[Example], answers: Sequence[Answer], spans: Sequence[LocatedSpan] | None = None
    ) -> list[Score]:
        """Score answers to questions.

        The scores do not depend on the batch, except for rounding.

        Parameters
        ----------
        examples : sequence of Example
        answers : sequence of Answer
            One per example.
        spans : sequence of (Span or None, str), optional
            The exact answer of each answer, or None and the reason.  By default, they are located.

        Returns
        -------
        list of Score
            In the order of the answers.

        Raises
        ------
        DataError
            If the number of spans differs from that of answers, or a span lies outside its answer.
        ModelError
            If a single answer does not fit in memory.
        """
        if spans is None:
            spans = self._locate(examples, answers)
        states = self._reader.read(answers, self._token_indices(answers, spans))
        return self._scores(answers, spans, states)

    def score_text(
        self, question: str | Example, text: str, *, prompt: str | None = None, stopped: bool = True
    ) -> Score:
        """Score one answer; for many answers `score_rows` is faster.

        Parameters
        ----------
        question : str or Example
            An example if the question has a context or choices.
        text : str
            The answer as the model produced it.
        prompt : str, optional
            The exact text that the model saw, template included.  By default, the question is formatted as the
            questions that the detector was fitted to.
        stopped : bool
            False if the answer was cut off.

        Raises
        ------
        DataError
            If the tokenizer does not reproduce the text, it exceeds the context window, or a prompt is required.
        """
        example = as_example(question, "1")
        (score,) = self.score_rows([(example, TextAnswer(example.id, text, stopped, prompt))])
        return score

    def score_rows(self, rows: Iterable[tuple[Example, TextAnswer]]) -> Iterator[Score]:
        """Score questions with their answers, in chunks, so that a file of any length is scored while it is read.

        Raises
        ------
        DataError
            As `retokenise`.
        """
        for chunk in chunks(rows, CHUNK_ROWS):
            yield from self.score([example for example, _ in chunk], self.retokenise(chunk))

    def generate(
        self, questions: Sequence[str | Example], *, temperature: float = 0.0, seed: int = 0
    ) -> list[GenerationResult]:
        """Let the model answer questions, and score the answers during generation, without a second forward pass.

        Parameters
        ----------
        questions : sequence of str or Example
            Formatted as the questions that the detector was fitted to.
        temperature : float
            0 is greedy decoding.
        seed : int
            Random seed for sampling.

        Returns
        -------
        list of GenerationResult
            In the order of the questions.

        Raises
        ------
        DataError
            If two questions have the same id, or a question exceeds the context window.
        ModelError
            If a single question does not fit in memory.
        """
        examples = {}
        for number, question in enumerate(questions, start=1):
            example = as_example(question, str(number))
            if example.id in examples:
                raise DataError(f"two questions have the id {example.id!r}", "give each question its own id")
            examples[example.id] = example
        prompts = [(id_, self.prompt(example)) for id_, example in examples.items()]
        limit = self.provenance.task.max_new_tokens
        check_lengths(self.model, prompts, limit)
        scored: dict[str, GenerationResult] = {}

        def score_batch(number: int, answers: list[Answer], recorded: RecordedStates) -> None:
            for item in self._score_recorded([examples[a.id] for a in answers], answers, recorded):
                scored[item.answer.id] = item

        for _ in generate_answers(
            self.model,
            prompts,
            GenerationOptions(
                prompt_format=self._prompt_format,
                max_new_tokens=limit,
                batch_size=self.batch_size,
                temperature=temperature,
                seed=seed,
            ),
            recorder=Recorder(start=self._reader.recorder, save=score_batch),
        ):
            pass
        return [scored[id_] for id_ in examples]

    def generate_batch(
        self,
        examples: Sequence[Example],
        requests: Sequence[GenerationRequest],
        *,
        seed: int = 0,
        on_token: OnToken = lambda row, token: True,
    ) -> list[GenerationResult]:
        """Answer one batch of arbitrary prompts, and score the answers during generation.

        Parameters
        ----------
        examples : sequence of Example
            The questions that the exact answers are located for.
        requests : sequence of GenerationRequest
            One per example.
        seed, on_token
            As for `models.generate.generate_batch`.
        """
        answers, recorded = generate_batch(
            self.model,
            requests,
            prompt_format=self._prompt_format,
            seed=seed,
            recorder=self._reader.recorder(len(requests)),
            on_token=on_token,
        )
        return self._score_recorded(examples, answers, recorded)

    def _score_recorded(
        self, examples: Sequence[Example], answers: Sequence[Answer], recorded: RecordedStates
    ) -> list[GenerationResult]:
        spans = self._locate(examples, answers)
        states = self._reader.read_recorded(answers, self._token_indices(answers, spans), recorded)
        return [
            GenerationResult(answer=answer, score=score, token_p_correct=self._token_p_correct(answer, passes))
            for answer, score, passes in zip(answers, self._scores(answers, spans, states), recorded, strict=True)
        ]

    def _token_p_correct(self, answer: Answer, recorded: States) -> tuple[float, ...]:
        states, head = self._reader.primary_token_states(answer, recorded), self.detector.primary
        return tuple(head.probabilities(head.scores(states)).tolist()) if len(states) else ()

    def _scores(self, answers: Sequence[Answer], spans: Sequence[LocatedSpan], states: States) -> list[Score]:
        """Return the scores of answers from their states, of shape (n, n_cells, d)."""
        scores = self.detector.score_states(states)
        flagged = self.detector.is_flagged(scores, self.false_alarms)
        return [
            Score(
                id=answer.id,
                p_correct=None if head == "none" else float(scores.p_correct[i]),
                flagged=flagged[i],
                score=None if head == "none" else float(scores.score[i]),
                judged_by=head,
                exact_answer=span.text if span else None,
                why=self._why(head, reason),
            )
            for i, (answer, (span, reason), head) in enumerate(zip(answers, spans, scores.judged_by, strict=True))
        ]

    def _why(self, head: HeadName, reason: str) -> str:
        if head == "primary":
            return ""
        if head == "none":
            return reason or "no token at the positions of the detector"
        return f"{reason or 'a position is missing'}: judged by {self.detector.head(head).location}"

    def _locate(self, examples: Sequence[Example], answers: Sequence[Answer]) -> list[LocatedSpan]:
        return locate_spans(self.provenance, self.model, examples, answers, self.locator)

    def _token_indices(self, answers: Sequence[Answer], spans: Sequence[LocatedSpan]) -> Indices:
        """Return the token index of each cell, of shape (n, n_cells); -1 where the position is missing."""
        check_spans(spans, answers)
        exact = [span for span, _ in spans]
        rules = self.positions or {}
        columns = [
            token_indices(answers, exact, {name: rules[name]} if name in rules else [name])
            for name in (cell.position for cell in self.detector.cells)
        ]
        return np.concatenate(columns, axis=1)

    @property
    def _prompt_format(self) -> PromptFormat:
        prompt_format = self.provenance.prompt_format
        if prompt_format == "given":
            raise DataError(
                "the detector was fitted to prompts that came with their answers", "supply 'prompt' with each text"
            )
        return prompt_format


def as_example(question: str | Example, id_: str) -> Example:
    """Return a question as an example without accepted answers; an example is returned unchanged."""
    return question if isinstance(question, Example) else Example(id_, question, ("",))


def chunks(rows: Iterable[_T], size: int) -> Iterator[list[_T]]:
    """Split an iterable into lists of at most `size` rows, which are read on demand."""
    iterator = iter(rows)
    while chunk := list(islice(iterator, size)):
        yield chunk
