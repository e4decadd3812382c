"""Engines, which answer the questions in a task in numbered batches.

The batches of an engine are planned in advance, so that an interrupted run can continue with the first missing batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Literal

from probemap.models.generate import GenerationOptions, Recorder, generate_answers, plan_batches
from probemap.models.prompts import Prompt, PromptFormat, chat_messages, make_prompt, supplied_prompt, task_prompts
from probemap.models.remote import ChatRequest, ask_endpoint
from probemap.models.retokenise import retokenise, retokenise_with_logprobs
from probemap.records import DataError

if TYPE_CHECKING:
    from probemap.models.endpoint import Endpoint
    from probemap.models.model import Model
    from probemap.records import Answer, Task, TextAnswer


@dataclass(frozen=True, kw_only=True)
class EnginePlan:
    """Description of the model that answers the questions, with the number of answers in each batch."""

    label: str
    revision: str
    dtype: str
    template_sha256: str
    date: str
    """Date and time for a chat template that contains the current time, or an empty string for other templates."""
    prompt_format: PromptFormat | Literal["given"]
    """Format of the prompts; ``given`` if at least one answer was supplied with its own prompt."""
    batch_sizes: list[int]
    refused: tuple[tuple[str, str], ...]
    """Ids of the questions whose supplied answers cannot be used, each with the reason."""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """A `workers.Worker` that answers the questions in a task, one batch per piece of work."""

    model: Model
    """The model that tokenises the answers, even if a server generates them."""
    prompt_format: PromptFormat | Literal["given"]
    batch_sizes: list[int]
    answer_batches: Callable[[Sequence[int]], Iterator[list[Answer]]]
    """Callable that takes consecutive batch numbers and yields the answers of each batch."""
    refused: tuple[tuple[str, str], ...] = ()
    """See `EnginePlan.refused`."""

    def plan(self) -> EnginePlan:
        return EnginePlan(
            label=self.model.label,
            revision=self.model.revision,
            dtype=self.model.dtype,
            template_sha256=self.model.template_sha256,
            date=self._date,
            prompt_format=self.prompt_format,
            batch_sizes=self.batch_sizes,
            refused=self.refused,
        )

    @property
    def _date(self) -> str:
        has_clock = self.model.template_sha256 != "" and self.model.chat_template.has_clock
        return (self.model.date or "") if has_clock else ""

    def each(self, batch_numbers: Sequence[int]) -> Iterator[list[Answer]]:
        return self.answer_batches(batch_numbers) if batch_numbers else iter(())


def transformers_engine(
    model: Model,
    task: Task,
    options: GenerationOptions,
    *,
    recorder: Recorder | None = None,
    log: Callable[[str], None] = lambda text: None,
) -> Engine:
    """Return an engine that generates answers with transformers in this process.

    Parameters
    ----------
    model : Model
    task : Task
    options : GenerationOptions
    recorder : Recorder, optional
        Records hidden states during generation.
    log : callable, optional

    Raises
    ------
    DataError
        If a prompt leaves too little room for its answer in the model's context window, or if the prompt template is
        invalid.
    """
    prompts = task_prompts(model, task, options.prompt_format)

    def answer_batches(numbers: Sequence[int]) -> Iterator[list[Answer]]:
        return generate_answers(model, prompts, options, batch_numbers=numbers, recorder=recorder, log=log)

    return Engine(
        model=model,
        prompt_format=options.prompt_format,
        batch_sizes=[len(batch) for batch in plan_batches(prompts, options)],
        answer_batches=answer_batches,
    )


def endpoint_engine(
    model: Model,
    task: Task,
    options: GenerationOptions,
    endpoint: Endpoint,
    *,
    log: Callable[[str], None] = lambda text: None,
) -> Engine:
    """Return an engine that sends the questions to a server.

    The answers consist of the token ids that the server returns or, if it returns none, of the tokens of their texts.

    Parameters
    ----------
    model : Model
        The same model as on the server.  It tokenises the texts and computes their log-probabilities.
    task : Task
    options : GenerationOptions
        Options for generation.  Answers are yielded in batches of `batch_size`.  The limit `batch_tokens` applies only
        to the batches that the local model processes.
    endpoint : Endpoint
    log : callable, optional

    Raises
    ------
    DataError
        If a prompt leaves too little room for its answer in the model's context window, or if the prompt template is
        invalid.
    """
    prompts = task_prompts(model, task, options.prompt_format)
    requests = [
        ChatRequest(id_, prompt, chat_messages(task, example))
        for (id_, prompt), example in zip(prompts, task.examples, strict=True)
    ]
    sizes = _slice_sizes(len(requests), options.batch_size)

    def answer_batches(numbers: Sequence[int]) -> Iterator[list[Answer]]:
        start = sum(sizes[: numbers[0]])
        rows = slice(start, start + sum(sizes[number] for number in numbers))
        # A single call for all batches keeps the server busy when one batch ends and the next begins.
        text_answers = ask_endpoint(
            endpoint,
            requests[rows],
            prompt_format=options.prompt_format,
            max_new_tokens=options.max_new_tokens,
            temperature=options.temperature,
            seed=options.seed + start,
            log=log,
        )
        pairs = (
            (supplied_prompt(model, answer) or prompt, answer)
            for (_, prompt), answer in zip(prompts[rows], text_answers, strict=True)
        )
        for number in numbers:
            yield retokenise_with_logprobs(
                model,
                list(islice(pairs, sizes[number])),
                batch_tokens=options.batch_tokens,
                log=log,
            )

    return Engine(model=model, prompt_format=options.prompt_format, batch_sizes=sizes, answer_batches=answer_batches)


def supplied_engine(
    model: Model,
    task: Task,
    options: GenerationOptions,
    text_answers: Sequence[TextAnswer],
    *,
    refuse: bool = False,
    log: Callable[[str], None] = lambda text: None,
) -> Engine:
    """Return an engine that retokenises answers supplied by the user.

    Parameters
    ----------
    model : Model
        The model that produced the answers.
    task : Task
    options : GenerationOptions
        Only the prompt format and the batch sizes are used.
    text_answers : sequence of TextAnswer
        One answer per question, in the order of the questions.
    refuse : bool
        Whether to leave out answers that the model cannot have produced or that are too long; see `Engine.refused`.  By
        default, such an answer is an error.
    log : callable, optional

    Raises
    ------
    DataError
        If the prompt template is invalid, or if no answer can be used.
    """
    pairs: list[tuple[Prompt, TextAnswer]] = []
    refused: list[tuple[str, str]] = []
    for example, text_answer in zip(task.examples, text_answers, strict=True):
        try:
            prompt = supplied_prompt(model, text_answer) or make_prompt(model, task, example, options.prompt_format)
            if refuse:
                retokenise(model, [(prompt, text_answer)])
            pairs.append((prompt, text_answer))
        except DataError as error:
            if not refuse or len(refused) + 1 == len(task.examples):
                raise
            refused.append((example.id, error.problem))
    has_prompts = any(answer.prompt is not None or answer.prompt_ids is not None for answer in text_answers)
    size = options.batch_size

    def answer_batches(numbers: Sequence[int]) -> Iterator[list[Answer]]:
        for number in numbers:
            batch = pairs[number * size : (number + 1) * size]
            yield retokenise_with_logprobs(model, batch, batch_tokens=options.batch_tokens, log=log)

    return Engine(
        model=model,
        prompt_format="given" if has_prompts else options.prompt_format,
        batch_sizes=_slice_sizes(len(pairs), size),
        answer_batches=answer_batches,
        refused=tuple(refused),
    )


def _slice_sizes(n: int, size: int) -> list[int]:
    return [min(size, n - start) for start in range(0, n, size)]
