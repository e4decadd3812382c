"""Who answers: the model here, a server, or a file of answers that you already have.

Each engine has a plan, how many answers come at a time, so that what was interrupted goes on at a whole batch.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, TypeVar

from probemap.activations.inline import InlineCapture
from probemap.models.endpoint import ChatRequest, ask_endpoint
from probemap.models.generate import Recorder, generate_answers, plan_batches
from probemap.models.loading import Endpoint
from probemap.models.model import Model
from probemap.models.prompts import (
    Prompt,
    PromptFormat,
    chat_messages,
    check_lengths,
    make_prompt,
    prompt_from_text,
    resolve_prompt_format,
)
from probemap.models.retokenize import retokenise_with_logprobs
from probemap.positions import parse_positions
from probemap.records import Answer, Task, TextAnswer
from probemap.runs.options import AnswerOptions

_T = TypeVar("_T")


@dataclass(frozen=True)
class Plan:
    """Who answers, and how many answers come at a time."""

    label: str
    revision: str
    dtype: str
    template: str
    frame: PromptFormat | Literal["given"]
    """What stands around the prompts; ``given``: some came with their answers."""
    sizes: list[int]
    """Answers per batch."""


@dataclass(frozen=True)
class Engine:
    """Answers to come; a `worker_pool.Worker` whose pieces are batches."""

    model: Model
    frame: PromptFormat | Literal["given"]
    sizes: list[int]
    answers: Callable[[Sequence[int]], Iterator[list[Answer]]]
    """The batches of these numbers, which follow one another."""

    def plan(self) -> Plan:
        of = self.model
        return Plan(of.label, of.revision, of.dtype, of.template, self.frame, self.sizes)

    def each(self, batches: Sequence[int]) -> Iterator[list[Answer]]:
        return self.answers(batches) if batches else iter(())


def engine(
    model: Model,
    task: Task,
    options: AnswerOptions,
    replies: Sequence[TextAnswer] | None,
    log: Callable[[str], None],
    folder: Path,
) -> Engine:
    """The engine that the options ask for.

    Parameters
    ----------
    replies: answers from elsewhere, one per question, in their order; None: they are yet to be made.
    folder: for the states that are taken along, if they are.

    Raises
    ------
    DataError, ModelError
    """
    frame = resolve_prompt_format(model, options.frame)
    if options.frame == "auto" and frame == "qa":
        log(f"{model.label} has no chat template: questions are asked as `Q: … A:`")
    if replies is not None:
        return _given(model, task, options, frame, replies, log)
    prompts = [(e.id, make_prompt(model, task, e, frame)) for e in task.examples]
    check_lengths(model, prompts, task.max_new_tokens)
    if (server := options.server) is not None:
        return _served(model, task, options, frame, prompts, server, log)
    return _local(model, task, options, frame, prompts, log, folder)


def _local(
    model: Model,
    task: Task,
    options: AnswerOptions,
    frame: PromptFormat,
    prompts: Sequence[tuple[str, Prompt]],
    log: Callable[[str], None],
    folder: Path,
) -> Engine:
    watching = None
    if (wanted := options.inline) is not None and task.kind == "open":
        log("where the exact answer is, a model is asked later: the states are captured in a second pass")
    elif wanted is not None:
        inline = InlineCapture(
            folder=folder,
            model=model,
            task=task,
            positions=parse_positions(wanted.positions),
            site=wanted.site,
            layers=wanted.layers,
        )
        watching = Recorder(inline.recorder, inline.write)
    plan = plan_batches(prompts, task.max_new_tokens, options.batch_size, options.batch_tokens)

    def answers(batches: Sequence[int]) -> Iterator[list[Answer]]:
        return generate_answers(
            model,
            prompts,
            frame=frame,
            max_new_tokens=task.max_new_tokens,
            batch_size=options.batch_size,
            batch_tokens=options.batch_tokens,
            temperature=options.temperature,
            seed=options.seed,
            numbers=batches,
            watching=watching,
            log=log,
        )

    return Engine(model, frame, [len(batch) for batch in plan], answers)


def _served(
    model: Model,
    task: Task,
    options: AnswerOptions,
    frame: PromptFormat,
    prompts: Sequence[tuple[str, Prompt]],
    endpoint: Endpoint,
    log: Callable[[str], None],
) -> Engine:
    asked = [ChatRequest(id_, p, chat_messages(task, e)) for (id_, p), e in zip(prompts, task.examples, strict=True)]
    sizes = [len(batch) for batch in _slices(asked, options.batch_size)]

    def answers(batches: Sequence[int]) -> Iterator[list[Answer]]:
        begun = sum(sizes[: batches[0]])
        rows = slice(begun, begun + sum(sizes[k] for k in batches))
        coming = ask_endpoint(
            endpoint,
            asked[rows],
            frame=frame,
            max_new_tokens=task.max_new_tokens,
            temperature=options.temperature,
            seed=options.seed + begun,
            log=log,
        )
        pairs = zip((prompt for _, prompt in prompts[rows]), coming, strict=True)
        for k in batches:
            yield retokenise_with_logprobs(
                model, list(islice(pairs, sizes[k])), chat=frame == "chat", batch_tokens=options.batch_tokens, log=log
            )

    return Engine(model, frame, sizes, answers)


def _given(
    model: Model,
    task: Task,
    options: AnswerOptions,
    frame: PromptFormat,
    replies: Sequence[TextAnswer],
    log: Callable[[str], None],
) -> Engine:
    prompts = [
        make_prompt(model, task, example, frame) if reply.prompt is None else prompt_from_text(model, reply.prompt)
        for example, reply in zip(task.examples, replies, strict=True)
    ]
    came = any(reply.prompt is not None for reply in replies)
    # A prompt that came along has the model's own template, if there is one.
    chat = model.has_chat_template if came else frame == "chat"
    pairs = _slices(list(zip(prompts, replies, strict=True)), options.batch_size)

    def answers(batches: Sequence[int]) -> Iterator[list[Answer]]:
        for k in batches:
            yield retokenise_with_logprobs(model, pairs[k], chat=chat, batch_tokens=options.batch_tokens, log=log)

    return Engine(model, "given" if came else frame, [len(batch) for batch in pairs], answers)


def _slices(items: Sequence[_T], size: int) -> list[Sequence[_T]]:
    return [items[i : i + size] for i in range(0, len(items), size)]
