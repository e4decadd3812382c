"""Generate answers in batches, with their token ids, texts, character offsets and log-probabilities.

Token ids are never recomputed from text.  The answers contain the ids that the model received and generated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from probemap.models.batching import batches, run_with_halving
from probemap.models.decoding import decode_with_offsets
from probemap.models.model import Model, out_of_memory_error
from probemap.models.reasoning import count_reasoning_tokens
from probemap.records import Answer

if TYPE_CHECKING:
    from probemap.models.prompts import Prompt, PromptFormat

_NO_TOKEN = 2**31 - 1
"""A token id that does not occur in any vocabulary.  It is passed as the end token, because `generate` would otherwise
use the model's end token."""

RecordedStates = list[npt.NDArray[np.float32]]
"""Recorded states of each answer in a batch, as arrays of shape (passes, …)."""

OnToken = Callable[[int, int], bool]
"""Callback that receives the row and the token id of each generated token.  If it returns False, generation ends for
this row."""


class BatchRecorder(Protocol):
    """Recorder for the hidden states of one batch during generation."""

    def hooked(self) -> AbstractContextManager[None]:
        """Return a context manager that records every forward pass."""

    def states(self) -> npt.NDArray[np.float32]:
        """Return the states as an array of shape (rows, passes, …).  The first pass processes the prompts."""

    def needs_last(self, ended: bool) -> bool:
        """Return whether the model must process the last token of an answer.

        Generation itself does not require this, so an additional forward pass may be needed.

        Parameters
        ----------
        ended : bool
            True if the model ended the answer with this token, False if the answer was cut off.
        """


@dataclass(frozen=True)
class Recorder:
    """Callbacks that record the hidden states of all batches."""

    start: Callable[[int], BatchRecorder]
    """Called before each batch with the number of rows in the batch.  It returns the recorder for this batch."""
    save: Callable[[int, list[Answer], RecordedStates], None]
    """Called after each batch with the batch number, the answers and their states."""


@dataclass(frozen=True)
class GenerationRequest:
    """One prompt of a batch, with its own token limit and temperature."""

    id: str
    prompt: Prompt
    max_new_tokens: int
    temperature: float = 0.0
    """If 0, decoding is greedy.  If positive, tokens are sampled from the full distribution at this temperature."""


@dataclass(frozen=True, kw_only=True)
class GenerationOptions:
    """Options for `generate_answers`."""

    prompt_format: PromptFormat
    """Format of the prompts.  With ``qa``, generation also stops at a line break."""
    max_new_tokens: int
    batch_size: int = 32
    batch_tokens: int | None = None
    """Maximum number of tokens per batch, including padding and `max_new_tokens` tokens per answer; see
    `batching.batches`."""
    temperature: float = 0.0
    """Sampling temperature; see `GenerationRequest`."""
    seed: int = 0
    """Random seed for sampling.  Batch ``b`` is sampled with the seed ``seed + b``, so a resumed run samples the same
    answers."""


def generate_answers(
    model: Model,
    prompts: Sequence[tuple[str, Prompt]],
    options: GenerationOptions,
    *,
    batch_numbers: Sequence[int] | None = None,
    recorder: Recorder | None = None,
    log: Callable[[str], None] = lambda text: None,
) -> Iterator[list[Answer]]:
    """Generate answers to prompts, in batches of prompts with similar lengths.

    Generation stops at an end-of-turn or end-of-text token and, with the ``qa`` format, also at a line break.

    Parameters
    ----------
    model : Model
    prompts : sequence of (str, Prompt)
        The id and the prompt of each question.
    options : GenerationOptions
    batch_numbers : sequence of int, optional
        Numbers of the batches to answer, as indices into the list that `plan_batches` returns.  By default, all batches
        are answered.
    recorder : Recorder, optional
        Recorder for hidden states.  A batch takes an additional forward pass if the recorder needs the states at the
        answers' last tokens.
    log : callable, optional
        Called with a message when a batch does not fit in memory and is halved.  Halving may change the
        log-probabilities by rounding errors and may change sampled answers completely.

    Yields
    ------
    list of Answer
        The answers of one batch, in the order given by `plan_batches`.

    Raises
    ------
    ModelError
        If a single question does not fit in memory.
    """
    plan = plan_batches(prompts, options)
    requests = [GenerationRequest(id_, prompt, options.max_new_tokens, options.temperature) for id_, prompt in prompts]
    for number in range(len(plan)) if batch_numbers is None else batch_numbers:

        def run(rows: list[int], number: int = number) -> tuple[list[Answer], RecordedStates]:
            return generate_batch(
                model,
                [requests[row] for row in rows],
                prompt_format=options.prompt_format,
                seed=options.seed + number,
                recorder=recorder.start(len(rows)) if recorder else None,
            )

        answers: list[Answer] = []
        states: RecordedStates = []
        for rows, result in run_with_halving(plan[number], run, log):
            if result is None:
                request = requests[rows[0]]
                n_tokens = len(request.prompt.token_ids) + request.max_new_tokens
                raise out_of_memory_error(model, request.id, n_tokens)
            answers += result[0]
            states += result[1]
        if recorder:
            recorder.save(number, answers, states)
        yield answers


def plan_batches(prompts: Sequence[tuple[str, Prompt]], options: GenerationOptions) -> list[list[int]]:
    """Return the batches that `generate_answers` processes, as indices into `prompts`."""
    lengths = [len(prompt.token_ids) + options.max_new_tokens for _, prompt in prompts]
    return batches(lengths, options.batch_size, options.batch_tokens)


def generate_batch(
    model: Model,
    requests: Sequence[GenerationRequest],
    *,
    prompt_format: PromptFormat,
    seed: int = 0,
    recorder: BatchRecorder | None = None,
    on_token: OnToken = lambda row, token_id: True,
) -> tuple[list[Answer], RecordedStates]:
    """Generate answers to the prompts of one batch, each with its own token limit and temperature.

    Parameters
    ----------
    model : Model
    requests : sequence of GenerationRequest
    prompt_format : {"chat", "qa", "none"}
    seed : int, default 0
    recorder : BatchRecorder, optional
    on_token : callable, optional
        Called with the row and the token id of each generated token.  If it returns False, generation ends for this
        row.

    Returns
    -------
    answers : list of Answer
        The answers, in the order of `requests`.
    states : list of ndarray of shape (passes, …), float32
        The recorded states of each answer.  The list is empty if there is no recorder.
    """
    end_ids = model.end_ids
    newline_ids = model.newline_ids if prompt_format == "qa" else frozenset[int]()
    criterion = _Stop(
        stop_ids=end_ids | newline_ids,
        limits=[request.max_new_tokens for request in requests],
        n_prompt=max(len(request.prompt.token_ids) for request in requests),
        recorder=recorder,
        on_token=on_token,
    )
    token_ids, logprobs = _generate(model, requests, criterion, seed)
    answers = [
        _answer(model, request, ids, values, criterion.stop_ids)
        for request, ids, values in zip(requests, token_ids, logprobs, strict=True)
    ]
    return answers, list(recorder.states()) if recorder else []


class _ChosenLogprobs(LogitsProcessor):  # type: ignore[misc]
    """Record the log-probability of each chosen token, while keeping the logits of only one step in memory.

    A logits processor receives the logits of a step before the token is chosen.  The chosen token is the last input id
    of the next step.
    """

    def __init__(self) -> None:
        self.pending: torch.Tensor | None = None
        self.chosen: list[torch.Tensor] = []

    def record(self, input_ids: torch.Tensor) -> None:
        if self.pending is not None:
            self.chosen.append(self.pending.gather(1, input_ids[:, -1:]).squeeze(1))

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.record(input_ids)
        self.pending = scores.float().log_softmax(-1)
        return scores


class _Temperatures(LogitsProcessor):  # type: ignore[misc]
    """Apply a separate temperature to each row.  At temperature 0, only the most probable token can be sampled."""

    def __init__(self, temperatures: torch.Tensor) -> None:
        self.temperatures = temperatures[:, None]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        greedy = self.temperatures == 0
        not_best = torch.arange(scores.shape[1], device=scores.device) != scores.argmax(1, keepdim=True)
        return (scores / self.temperatures.masked_fill(greedy, 1)).masked_fill(greedy & not_best, -torch.inf)


class _Stop(StoppingCriteria):  # type: ignore[misc]
    """End each row at a stop token, at its token limit, or when `on_token` returns False.

    When all rows have ended, the model has not yet processed the last tokens of the rows that ended in the final step.
    If the recorder needs the states at one of these tokens, an additional forward pass follows.
    """

    def __init__(
        self,
        stop_ids: frozenset[int],
        limits: list[int],
        n_prompt: int,
        recorder: BatchRecorder | None,
        on_token: OnToken,
    ) -> None:
        self.stop_ids, self.limits, self.n_prompt = stop_ids, limits, n_prompt
        self.recorder, self.on_token = recorder, on_token
        self.lengths: list[int | None] = [None] * len(limits)
        """Number of generated tokens in each row, or None if the row has not ended."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kw: object) -> torch.Tensor:
        n_generated = input_ids.shape[1] - self.n_prompt
        last_ids = input_ids[:, -1].tolist()
        for row, token_id in enumerate(last_ids):
            if self.lengths[row] is None:
                wants_more = self.on_token(row, token_id)
                if not wants_more or token_id in self.stop_ids or n_generated == self.limits[row]:
                    self.lengths[row] = n_generated
        done = [length is not None for length in self.lengths]
        if all(done) and self.recorder:
            unprocessed = [
                token_id in self.stop_ids
                for token_id, length in zip(last_ids, self.lengths, strict=True)
                if length == n_generated
            ]
            done = [not any(map(self.recorder.needs_last, unprocessed))] * len(done)
        return torch.tensor(done, device=input_ids.device)


def _generate(
    model: Model, requests: Sequence[GenerationRequest], criterion: _Stop, seed: int
) -> tuple[list[list[int]], list[list[float]]]:
    """Return the generated token ids and their log-probabilities, without the padding after the end of each row."""
    prompts = [list(request.prompt.token_ids) for request in requests]
    pad = model.pad_id
    # The padding token may also be the end token, so the mask is derived from the lengths and not from the ids.
    n_padding = [criterion.n_prompt - len(prompt) for prompt in prompts]
    input_ids = torch.tensor([[pad] * n + prompt for n, prompt in zip(n_padding, prompts, strict=True)])
    mask = torch.tensor([[0] * n + [1] * len(prompt) for n, prompt in zip(n_padding, prompts, strict=True)])
    chosen_logprobs = _ChosenLogprobs()
    processors: list[LogitsProcessor] = [chosen_logprobs]  # first, so that log-probabilities are at temperature 1
    sampled = any(request.temperature > 0 for request in requests)
    if sampled:
        temperatures = [request.temperature for request in requests]
        processors.append(_Temperatures(torch.tensor(temperatures, device=model.device)))
    config = GenerationConfig(
        max_new_tokens=max(criterion.limits) + bool(criterion.recorder),
        do_sample=sampled,
        eos_token_id=[_NO_TOKEN],
        pad_token_id=pad,
        **({"temperature": 1.0, "top_k": 0, "top_p": 1.0} if sampled else {}),
    )
    devices = [model.device] if model.device.type == "cuda" else []
    recording = criterion.recorder.hooked() if criterion.recorder else nullcontext()
    with torch.inference_mode(), torch.random.fork_rng(devices), recording:
        torch.manual_seed(seed)
        sequences = model.network.generate(
            input_ids.to(model.device),
            attention_mask=mask.to(model.device),
            generation_config=config,
            logits_processor=LogitsProcessorList(processors),
            stopping_criteria=StoppingCriteriaList([criterion]),
        )
    chosen_logprobs.record(sequences)
    token_ids = sequences[:, criterion.n_prompt :].tolist()
    logprobs = torch.stack(chosen_logprobs.chosen, 1).tolist()
    return (
        [row[:length] for row, length in zip(token_ids, criterion.lengths, strict=True)],
        [row[:length] for row, length in zip(logprobs, criterion.lengths, strict=True)],
    )


def _answer(
    model: Model,
    request: GenerationRequest,
    token_ids: list[int],
    logprobs: list[float],
    stop_ids: frozenset[int],
) -> Answer:
    prompt = request.prompt
    # An end token has no text, whereas a line break that ends an answer is part of its text.
    has_end = bool(token_ids) and token_ids[-1] in model.end_ids
    text, offsets = decode_with_offsets(model.tokenizer, token_ids[:-1] if has_end else token_ids)
    offsets += [(len(text), len(text))] * has_end
    return Answer(
        id=request.id,
        prompt=prompt.text,
        text=text,
        token_ids=(*prompt.token_ids, *token_ids),
        n_prompt=len(prompt.token_ids),
        offsets=(*prompt.offsets, *offsets),
        logprobs=tuple(logprobs),
        stopped=bool(token_ids) and token_ids[-1] in stop_ids,
        n_reasoning=count_reasoning_tokens(prompt.text, text, offsets, model.reasoning_marks),
    )
