"""`Scorer`: estimates the probability that an existing or newly generated answer is correct."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from probemap.detectors.cell_states import CellReader
from probemap.detectors.compatibility import check_compatible
from probemap.detectors.scores import GenerationResult, Score
from probemap.detectors.spans import LocatedSpan, check_spans, locate_spans
from probemap.models.answering import answer_of, recorded_states, stop_ids
from probemap.models.batching import batches
from probemap.models.engine import GenerationBatch, GenerationRequest
from probemap.models.prompts import Prompt, PromptFormat, check_lengths, make_prompt, supplied_prompt
from probemap.models.retokenise import retokenise
from probemap.models.transformers_engine import as_engine
from probemap.positions import Indices, Position, Rule, token_indices
from probemap.records import Answer, DataError, Example, TextAnswer

if TYPE_CHECKING:
    from probemap.activations.layout import States
    from probemap.detectors.detector import Detector, HeadName
    from probemap.detectors.provenance import Provenance
    from probemap.grading.locate import Locator
    from probemap.models.engine import Engine, Generation, Recording
    from probemap.models.hooks import Site
    from probemap.models.model import Model

_T = TypeVar("_T")

CHUNK_ROWS = 256
"""Number of answers that `Scorer.score_rows` reads and scores at a time."""


@dataclass(frozen=True)
class Scorer:
    """Scores texts with a detector and the model that it was fitted for.

    Parameters
    ----------
    detector : Detector
        A detector with a provenance.
    model : Model or Engine
        The model, as returned by `load_model`, or the engine that runs it.  `load_scorer` loads both the detector and
        the model.
    false_alarms : float or None
        One of the false-alarm rates for which the detector has a threshold.  If None, the lowest rate is used.
    batch_size : int
        Number of answers per forward pass.
    locator : callable, optional
        The locator ``(question, text) -> (start, stop) | None``, if the detector was fitted with a user-defined one.
    positions : mapping, optional
        The rules for the detector's user-defined positions; see `capture`.
    site : Site, optional
        The hook point, if the detector was fitted with a user-defined one.

    Raises
    ------
    DetectorError
        If the detector has no provenance, was fitted for a different model, or has no threshold for `false_alarms`.
    DataError
        If the detector uses an unknown position.

    Examples
    --------
    A detector without a provenance cannot score texts:

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
    model: Model | Engine
    false_alarms: float | None = None
    batch_size: int = 32
    locator: Locator | None = None
    positions: Mapping[str, str | Position | Rule] | None = None
    site: Site | None = None

    def __post_init__(self) -> None:
        check_compatible(
            self.detector,
            self.engine,
            site=self.site,
            positions=self.positions,
            has_locator=self.locator is not None,
        )
        for head in (self.detector.primary, self.detector.fallback):
            if head and (head.thresholds or self.false_alarms is not None):
                head.threshold(self.false_alarms)

    @property
    def provenance(self) -> Provenance:
        """The detector's provenance."""
        return self.detector.required_provenance()

    @cached_property
    def engine(self) -> Engine:
        """The engine that runs the model."""
        return as_engine(self.model)

    @property
    def stop_ids(self) -> frozenset[int]:
        """The ids of the tokens that end an answer."""
        return stop_ids(self.engine.model, self.provenance.prompt_format)

    @property
    def recording(self) -> Recording:
        """The states to record while answers are generated that are then scored by `score_generations`."""
        return self._reader.recording

    @cached_property
    def _reader(self) -> CellReader:
        return CellReader(
            detector=self.detector,
            engine=self.engine,
            site=self.site or self.provenance.site,
            batch_size=self.batch_size,
        )

    def prompt(self, example: Example) -> Prompt:
        """Return the prompt for a question, in the same format as the prompts that the detector was fitted to.

        Raises
        ------
        DataError
            If the detector was fitted to answers that were supplied with their own prompts, and therefore has no prompt
            format for new questions.
        """
        return make_prompt(self.engine.model, self.provenance.task, example, self._prompt_format)

    def retokenise(self, pairs: Sequence[tuple[Example | Prompt, TextAnswer]]) -> list[Answer]:
        """Convert answer texts to `Answer` objects, which contain the token ids.

        Parameters
        ----------
        pairs : sequence of (Example or Prompt, TextAnswer)
            Each answer text, paired with its question or its prompt.  Questions are formatted like those that the
            detector was fitted to, except where an answer text has its own prompt.

        Raises
        ------
        DataError
            If the tokenizer does not reproduce a text, if a text does not fit in the context window, or if a required
            prompt is missing.
        """
        prompted = []
        for question, text in pairs:
            if isinstance(question, Prompt):
                prompt = question
            else:
                prompt = supplied_prompt(self.engine.model, text) or self.prompt(question)
            prompted.append((prompt, text))
        return retokenise(self.engine.model, prompted)

    def score(
        self, examples: Sequence[Example], answers: Sequence[Answer], spans: Sequence[LocatedSpan] | None = None
    ) -> list[Score]:
        """Score answers to questions.

        The score of an answer does not depend on the other answers in its batch, except for rounding errors.

        Parameters
        ----------
        examples : sequence of Example
        answers : sequence of Answer
            One answer per example.
        spans : sequence of (Span or None, str), optional
            One pair per answer: the span of its exact answer and an empty string, or None and the reason why it has no
            exact answer.  By default, the exact answers are located with the detector's locator.

        Returns
        -------
        list of Score
            The scores, in the same order as the answers.

        Raises
        ------
        DataError
            If there is not one span per answer, or if a span lies outside its answer.
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
        """Score a single answer.

        For many answers, `score_rows` is faster.

        Parameters
        ----------
        question : str or Example
            The question; an `Example` is required if it has a context or answer options.
        text : str
            The answer as the model generated it.
        prompt : str, optional
            The exact prompt that the model received, including the chat template.  By default, the question is
            formatted like the questions that the detector was fitted to.
        stopped : bool
            Whether the answer is complete; False if it was cut off.

        Raises
        ------
        DataError
            If the tokenizer does not reproduce the text, if the text does not fit in the context window, or if a
            required prompt is missing.
        """
        example = as_example(question, "1")
        (score,) = self.score_rows([(example, TextAnswer(example.id, text, stopped, prompt))])
        return score

    def score_rows(self, rows: Iterable[tuple[Example, TextAnswer]]) -> Iterator[Score]:
        """Score answers to questions, reading the rows on demand.

        Only `CHUNK_ROWS` rows are held in memory at a time, so files of any length can be scored.

        Raises
        ------
        DataError
            See `retokenise`.
        """
        for chunk in chunks(rows, CHUNK_ROWS):
            yield from self.score([example for example, _ in chunk], self.retokenise(chunk))

    def generate(
        self, questions: Sequence[str | Example], *, temperature: float = 0.0, seed: int = 0
    ) -> list[GenerationResult]:
        """Generate answers to questions and score them.

        The hidden states are recorded during generation, which avoids a second forward pass over most answers.

        Parameters
        ----------
        questions : sequence of str or Example
            The questions, which are formatted like those that the detector was fitted to.
        temperature : float
            Sampling temperature; 0 selects greedy decoding.
        seed : int
            Random seed for sampling.

        Returns
        -------
        list of GenerationResult
            The answers with their scores, in the same order as the questions.

        Raises
        ------
        DataError
            If two questions have the same id, or if a question does not fit in the context window.
        ModelError
            If a single question does not fit in memory.
        """
        examples = {}
        for number, question in enumerate(questions, start=1):
            example = as_example(question, str(number))
            if example.id in examples:
                raise DataError(f"two questions have the id {example.id!r}", "give each question a unique id")
            examples[example.id] = example
        limit = self.provenance.task.max_new_tokens
        prompts = [(id_, self.prompt(example)) for id_, example in examples.items()]
        check_lengths(self.engine.model, prompts, limit)
        requests = [GenerationRequest(id_, prompt, limit, temperature) for id_, prompt in prompts]
        plan = batches([len(prompt.token_ids) for _, prompt in prompts], self.batch_size)
        rows = [row for batch in plan for row in batch]
        generations = self.engine.generate(
            [GenerationBatch([requests[row] for row in batch], seed + number) for number, batch in enumerate(plan)],
            stop_ids=self.stop_ids,
            recording=self.recording,
        )
        results: dict[str, GenerationResult] = {}
        for batch in chunks(generations, self.batch_size):
            selected = [requests[rows[generation.row]] for generation in batch]
            scored = self.score_generations([examples[request.id] for request in selected], selected, batch)
            results.update((result.answer.id, result) for result in scored)
        return [results[id_] for id_ in examples]

    def score_generations(
        self,
        examples: Sequence[Example],
        requests: Sequence[GenerationRequest],
        generations: Sequence[Generation],
    ) -> list[GenerationResult]:
        """Score answers that the engine has generated, with the states in `recording`.

        Parameters
        ----------
        examples : sequence of Example
            The questions, which are used to locate the exact answers.
        requests : sequence of GenerationRequest
            One request per example.
        generations : sequence of Generation
            The answer to each request.

        Returns
        -------
        list of GenerationResult
            The answers with their scores, in the order of the requests.

        Raises
        ------
        ProbemapError
            If the engine could not answer a request, or has not recorded its states.
        """
        pairs = zip(requests, generations, strict=True)
        answers = [answer_of(self.engine.model, *pair) for pair in pairs]
        recorded = recorded_states(generations)
        spans = self._locate(examples, answers)
        states = self._reader.read_recorded(answers, self._token_indices(answers, spans), recorded)
        return [
            GenerationResult(answer=answer, score=score, token_p_correct=self._token_p_correct(answer, tokens))
            for answer, score, tokens in zip(answers, self._scores(answers, spans, states), recorded, strict=True)
        ]

    def _token_p_correct(self, answer: Answer, recorded: States) -> tuple[float, ...]:
        states, head = self._reader.primary_token_states(answer, recorded), self.detector.primary
        return tuple(head.probabilities(head.scores(states)).tolist()) if len(states) else ()

    def _scores(self, answers: Sequence[Answer], spans: Sequence[LocatedSpan], states: States) -> list[Score]:
        """Compute the scores of answers from `states`, an array of shape (n, n_cells, d)."""
        scores = self.detector.score_states(states)
        flagged, accepted = self.detector.is_flagged(scores, self.false_alarms), self.detector.is_accepted(scores)
        acceptance = self.detector.primary.acceptance()
        return [
            Score(
                id=answer.id,
                p_correct=None if head == "none" else float(scores.p_correct[i]),
                flagged=flagged[i],
                score=None if head == "none" else float(scores.score[i]),
                judged_by=head,
                exact_answer=span.text if span else None,
                why=self._why(head, reason),
                accept=accepted[i],
                risk=acceptance.risk if acceptance else None,
                coverage=acceptance.coverage if acceptance else None,
            )
            for i, (answer, (span, reason), head) in enumerate(zip(answers, spans, scores.judged_by, strict=True))
        ]

    def _why(self, head: HeadName, reason: str) -> str:
        if head == "primary":
            return ""
        if head == "none":
            return reason or "the answer has no token at the detector's positions"
        return f"{reason or 'a position is missing'}; scored by the fallback, {self.detector.head(head).location}"

    def _locate(self, examples: Sequence[Example], answers: Sequence[Answer]) -> list[LocatedSpan]:
        return locate_spans(self.provenance, self.engine, examples, answers, self.locator)

    def _token_indices(self, answers: Sequence[Answer], spans: Sequence[LocatedSpan]) -> Indices:
        """Return an array of shape (n, n_cells) that contains the token index of each cell in each answer, or -1 where
        the answer lacks the position."""
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
                "the detector was fitted to answers that were supplied with their prompts, so it has no prompt format",
                "supply 'prompt' with each text",
            )
        return prompt_format


def as_example(question: str | Example, id_: str) -> Example:
    """Convert a question to an example without accepted answers.  An `Example` is returned unchanged."""
    return question if isinstance(question, Example) else Example(id_, question, ("",))


def chunks(rows: Iterable[_T], size: int) -> Iterator[list[_T]]:
    """Split an iterable into lists of at most `size` rows, reading the rows on demand."""
    iterator = iter(rows)
    while chunk := list(islice(iterator, size)):
        yield chunk
