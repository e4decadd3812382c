"""Generate the answers to one batch of prompts with transformers, with token ids, log-probabilities and entropies.

Generation proceeds in segments.  A segment ends when a part of the rows have ended, and the next segment continues with
the other rows, so that the model does not process rows that have ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from probemap.models.engine import Generation
from probemap.models.logits import logprobs_and_entropies
from probemap.models.model import non_finite_error
from probemap.models.prefix import NO_TOKEN, PromptBatch, can_select_rows, prepare_prompts, select_rows

if TYPE_CHECKING:
    from probemap.models.engine import GenerationRequest, OnToken, States
    from probemap.models.model import Model

_MAX_COMPLETE = 0.25
"""Share of the rows of a batch that may be complete before they are removed from it.  Removing rows copies the keys and
values of the other rows."""


class BatchRecorder(Protocol):
    """Recorder for the hidden states of one batch during generation."""

    def hooked(self, rows: int) -> AbstractContextManager[None]:
        """Return a context manager that records every forward pass of a batch with this number of rows."""

    def states(self) -> States:
        """Return and discard the recorded states, as an array of shape (rows, passes, n_layers, d)."""

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
    seeds: Sequence[int] | None = None,
    share_prefix: bool = False,
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
    seeds : sequence of int, optional
        Random seed of each row, for sampling.  Default: the numbers of the rows.
    share_prefix : bool, default False
        See `prefix.prepare_prompts`.
    recorder : BatchRecorder, optional
    on_token : callable, optional
        Called with the row and the token id of each generated token.  If it returns False, generation ends for this
        row.

    Returns
    -------
    list of Generation
        The answers, in the order of `requests`.  They have states if there is a recorder.

    Raises
    ------
    ModelError
        If a logit is infinite or NaN.
    """
    generators = map(np.random.default_rng, range(len(requests)) if seeds is None else seeds)
    rows = [_Row(i, *pair) for i, pair in enumerate(zip(requests, generators, strict=True))]
    n_new = max(request.max_new_tokens for request in requests)
    prompts = [request.prompt.token_ids for request in requests]
    batch = prepare_prompts(model, prompts, n_new, share_prefix=share_prefix)
    remaining, may_select = rows, True
    with torch.inference_mode():
        while remaining:
            max_complete = max(1, int(_MAX_COMPLETE * len(remaining))) if may_select else len(remaining)
            criterion = _Stop(remaining, max_complete, stop_ids, recorder, on_token)
            batch = _generate_segment(model, batch, criterion)
            may_select = batch.cache is not None  # otherwise, the next segment processes all tokens again
            kept = [i for i, row in enumerate(remaining) if not row.is_complete]
            batch = select_rows(batch, kept)
            remaining = [remaining[i] for i in kept]
    return [
        Generation(
            row=row.number,
            token_ids=tuple(row.token_ids),
            logprobs=tuple(row.logprobs),
            stopped=bool(row.token_ids) and row.token_ids[-1] in stop_ids,
            # Passes after the end of a row contain padding.
            states=np.concatenate(row.states)[: 1 + len(row.token_ids)].swapaxes(0, 1) if row.states else None,
            entropies=tuple(row.entropies),
        )
        for row in rows
    ]


@dataclass
class _Row:
    """An answer during its generation."""

    number: int
    request: GenerationRequest
    random: np.random.Generator
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)
    states: list[States] = field(default_factory=list)
    """States of the passes of each segment, as arrays of shape (passes, n_layers, d)."""
    n_generated: int = 0
    """Number of tokens that have been generated in this row, including those after its end."""
    n_needed: int | None = None
    """Number of tokens after which the row can be removed, or None if the answer has not ended."""

    @property
    def is_complete(self) -> bool:
        return self.n_needed is not None and self.n_generated >= self.n_needed


class _ChosenTokens(LogitsProcessor):  # type: ignore[misc]
    """Record the log-probability of each chosen token, and the entropy of the distribution from which it was chosen.

    Only the logits of one step are kept in memory.

    A logits processor receives the logits of a step before the token is chosen.  The chosen token is the last input id
    of the next step.
    """

    def __init__(self) -> None:
        self.pending: torch.Tensor | None = None
        self.logprobs: list[torch.Tensor] = []
        self.entropies: list[torch.Tensor] = []

    def record(self, input_ids: torch.Tensor) -> None:
        if self.pending is not None:
            logprobs, entropies = logprobs_and_entropies(self.pending, input_ids[:, -1])
            self.logprobs.append(logprobs)
            self.entropies.append(entropies)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.record(input_ids)
        self.pending = scores
        return scores


class _Sample(LogitsProcessor):  # type: ignore[misc]
    """Choose the next token of each row, and return logits with which `generate` chooses the same token.

    At temperature 0, the most probable token is chosen.  Otherwise, a token is drawn with one random number of the row,
    so that the tokens of a row do not depend on the other rows.
    """

    def __init__(self, rows: Sequence[_Row]) -> None:
        self.rows = rows

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        sampled = [i for i, row in enumerate(self.rows) if row.request.temperature > 0]
        if not sampled:
            return scores
        chosen = scores.argmax(1)
        temperatures = scores.new_tensor([[self.rows[i].request.temperature] for i in sampled])
        cumulative = (scores[sampled].double() / temperatures).softmax(-1).cumsum(-1)
        draws = cumulative.new_tensor([[self.rows[i].random.random()] for i in sampled]) * cumulative[:, -1:]
        chosen[sampled] = torch.searchsorted(cumulative, draws, right=True).squeeze(1).clamp(max=scores.shape[1] - 1)
        return torch.full_like(scores, -torch.inf).scatter_(1, chosen[:, None], 0.0)


class _Stop(StoppingCriteria):  # type: ignore[misc]
    """Add the generated tokens to the rows, and end the segment when enough rows are complete.

    A row ends at a stop token, at its token limit, or when `on_token` returns False.  The model has not yet processed
    the last token of the row.  If the recorder needs the state at this token, the row is complete one token later.
    """

    def __init__(
        self,
        rows: Sequence[_Row],
        max_complete: int,
        stop_ids: frozenset[int],
        recorder: BatchRecorder | None,
        on_token: OnToken | None,
    ) -> None:
        self.rows, self.stop_ids, self.recorder, self.on_token = rows, stop_ids, recorder, on_token
        self.max_complete = max_complete
        """Number of complete rows with which the segment ends."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kw: object) -> torch.Tensor:
        for row, token_id in zip(self.rows, input_ids[:, -1].tolist(), strict=True):
            row.n_generated += 1
            if row.n_needed is None:
                self._add(row, token_id)
        complete = [row.is_complete for row in self.rows]
        return torch.tensor([sum(complete) >= self.max_complete] * len(complete), device=input_ids.device)

    def _add(self, row: _Row, token_id: int) -> None:
        row.token_ids.append(token_id)
        wants_more = self.on_token is None or self.on_token(row.number, token_id)
        ended = token_id in self.stop_ids
        if not wants_more or ended or len(row.token_ids) == row.request.max_new_tokens:
            needs_last = self.recorder is not None and self.recorder.needs_last(ended)
            row.n_needed = row.n_generated + needs_last


def _generate_segment(model: Model, batch: PromptBatch, criterion: _Stop) -> PromptBatch:
    """Generate tokens until the criterion is met, and return the batch with these tokens and with its cache."""
    rows, recorder = criterion.rows, criterion.recorder
    chosen = _ChosenTokens()
    config = GenerationConfig(
        max_new_tokens=max(row.request.max_new_tokens - row.n_generated for row in rows) + 1,
        do_sample=False,
        eos_token_id=[NO_TOKEN],
        pad_token_id=model.pad_id,
        return_dict_in_generate=True,
    )
    with recorder.hooked(len(rows)) if recorder else nullcontext():
        output = model.network.generate(
            batch.input_ids,
            attention_mask=batch.mask,
            past_key_values=batch.cache,
            generation_config=config,
            logits_processor=LogitsProcessorList([chosen, _Sample(rows)]),
            stopping_criteria=StoppingCriteriaList([criterion]),
        )
    chosen.record(output.sequences)
    logprobs, entropies = torch.stack(chosen.logprobs, 1), torch.stack(chosen.entropies, 1)
    if not bool(logprobs.isfinite().all()):
        raise non_finite_error(model)
    for row, row_logprobs, row_entropies in zip(rows, logprobs.tolist(), entropies.tolist(), strict=True):
        n_new = len(row.token_ids) - len(row.logprobs)
        row.logprobs += row_logprobs[:n_new]
        row.entropies += row_entropies[:n_new]
    for row, states in zip(rows, recorder.states() if recorder else (), strict=False):
        row.states.append(states)
    cache = output.past_key_values if can_select_rows(output.past_key_values) else None
    n_new = output.sequences.shape[1] - batch.mask.shape[1]
    mask = torch.cat([batch.mask, batch.mask.new_ones(len(rows), n_new)], dim=1)
    return PromptBatch(output.sequences, mask, cache)
