"""Generate the answers to one batch of prompts with transformers, with their token ids and log-probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Protocol

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from probemap.models.engine import Generation

if TYPE_CHECKING:
    from probemap.models.engine import GenerationRequest, OnToken, States
    from probemap.models.model import Model

_NO_TOKEN = 2**31 - 1
"""A token id that does not occur in any vocabulary.  It is passed as the end token, because `generate` would otherwise
use the model's end token."""


class BatchRecorder(Protocol):
    """Recorder for the hidden states of one batch during generation."""

    def hooked(self) -> AbstractContextManager[None]:
        """Return a context manager that records every forward pass."""

    def states(self) -> States:
        """Return the states as an array of shape (rows, passes, n_layers, d).  The first pass processes the prompts."""

    def needs_last(self, ended: bool) -> bool:
        """Return whether the model must process the last token of an answer.

        Generation itself does not require this, so an additional forward pass may be needed.

        Parameters
        ----------
        ended : bool
            True if the model ended the answer with this token, False if the answer was cut off.
        """


def generate_batch(
    model: Model,
    requests: Sequence[GenerationRequest],
    *,
    stop_ids: frozenset[int],
    seed: int = 0,
    recorder: BatchRecorder | None = None,
    on_token: OnToken | None = None,
) -> list[Generation]:
    """Generate answers to the prompts of one batch, each with its own token limit and temperature.

    Parameters
    ----------
    model : Model
    requests : sequence of GenerationRequest
    stop_ids : frozenset of int
        Ids of the tokens that end an answer.
    seed : int, default 0
    recorder : BatchRecorder, optional
    on_token : callable, optional
        Called with the row and the token id of each generated token.  If it returns False, generation ends for this
        row.

    Returns
    -------
    list of Generation
        The answers, in the order of `requests`.  They have states if there is a recorder.
    """
    criterion = _Stop(
        stop_ids=stop_ids,
        limits=[request.max_new_tokens for request in requests],
        n_prompt=max(len(request.prompt.token_ids) for request in requests),
        recorder=recorder,
        on_token=on_token,
    )
    token_ids, logprobs = _generate(model, requests, criterion, seed)
    # Passes after the end of a row contain padding.
    states = [
        passes[: 1 + len(ids)].swapaxes(0, 1)
        for passes, ids in zip(recorder.states() if recorder else (), token_ids, strict=False)
    ]
    return [
        Generation(
            row=row,
            token_ids=tuple(ids),
            logprobs=tuple(values),
            stopped=bool(ids) and ids[-1] in stop_ids,
            states=states[row] if recorder else None,
        )
        for row, (ids, values) in enumerate(zip(token_ids, logprobs, strict=True))
    ]


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
        on_token: OnToken | None,
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
                wants_more = self.on_token is None or self.on_token(row, token_id)
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
