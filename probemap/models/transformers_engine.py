"""The engine that runs a model with transformers in this process.

Batches are processed one after the other.  A batch that does not fit in memory is halved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Self

import torch

from probemap.models.batching import run_with_halving
from probemap.models.engine import Generation, GenerationBatch, GenerationRequest, Probe, Reading, Recording
from probemap.models.forward import check_site, hidden_states
from probemap.models.generate import generate_batch
from probemap.models.logits import logits_at, logprobs_and_entropies
from probemap.models.model import Model, non_finite_error, out_of_memory_error
from probemap.models.prefix import (
    Prefix,
    allows_padding,
    next_token,
    prepare_prompts,
    relative_error,
    shared_prefix,
    tolerance,
)
from probemap.models.recorder import HookRecorder

if TYPE_CHECKING:
    from probemap.models.engine import Engine, OnToken, States, TokenSequence
    from probemap.models.hooks import Site
    from probemap.records import ModelError


@dataclass(frozen=True)
class TransformersEngine:
    """An `engine.Engine` that runs a loaded model in this process."""

    model: Model

    def with_model(self, model: Model) -> Self:
        return replace(self, model=model)

    def close(self) -> None:
        """Do nothing, because the engine has no processes of its own."""

    def check_site(self, site: str | Site) -> int:
        return check_site(self.model, site)

    def can_record(self, recording: Recording, max_new_tokens: int) -> bool:
        return True  # a batch whose states do not fit in memory is halved

    def generate(
        self,
        batches: Iterable[GenerationBatch],
        *,
        stop_ids: frozenset[int],
        recording: Recording | None = None,
        on_token: OnToken | None = None,
        log: Callable[[str], None] = lambda text: None,
    ) -> Iterator[Generation]:
        first_row = 0
        for batch in batches:
            yield from self._generate_batch(batch, first_row, stop_ids, recording, on_token, log)
            first_row += len(batch.requests)

    def _generate_batch(
        self,
        batch: GenerationBatch,
        first_row: int,
        stop_ids: frozenset[int],
        recording: Recording | None,
        on_token: OnToken | None,
        log: Callable[[str], None],
    ) -> Iterator[Generation]:
        requests = batch.requests
        reported: set[int] = set()
        """Requests of which tokens have been reported.  They cannot be repeated."""

        def memory_error(request: GenerationRequest) -> ModelError:
            n_tokens = len(request.prompt.token_ids) + request.max_new_tokens
            return out_of_memory_error(self.model, request.id, n_tokens)

        def run(rows: list[int]) -> list[Generation]:
            if repeated := reported.intersection(rows):
                raise memory_error(requests[min(repeated)])
            recorder = None
            if recording is not None:
                recorder = HookRecorder(self.model, recording.site, recording.layers, recording.needs_last)

            def report(i: int, token_id: int) -> bool:
                reported.add(rows[i])
                return on_token is None or on_token(first_row + rows[i], token_id)

            return generate_batch(
                self.model,
                [requests[row] for row in rows],
                stop_ids=stop_ids,
                seeds=[batch.seed_of(row) for row in rows],
                share_prefix=self._allows_padding,
                recorder=recorder,
                on_token=None if on_token is None else report,
            )

        for rows, generations in run_with_halving(list(range(len(requests))), run, log) if requests else ():
            if generations is None:
                raise memory_error(requests[rows[0]])
            yield from (replace(generation, row=first_row + rows[generation.row]) for generation in generations)

    def read(
        self,
        sequences: Sequence[TokenSequence],
        *,
        batches: Sequence[Sequence[int]],
        probe: Probe | None = None,
        logprobs: bool = False,
        next_ids: Sequence[Sequence[int]] | None = None,
        log: Callable[[str], None] = lambda text: None,
    ) -> Iterator[Reading]:
        # A prefix must be computed and verified first, which takes longer than it saves in a single batch.  The number
        # of sequences decides, not the number of batches, so that a resumed capture computes bitwise identical states.
        several = len(batches) > 0 and len(sequences) > len(batches[0])
        prefix = _verified_prefix(self.model, sequences, probe) if probe and several else None

        def run(rows: list[int]) -> list[Reading]:
            selected = [sequences[row] for row in rows]
            states = None
            if probe is not None:
                states = hidden_states(
                    self.model, selected, probe.indices[rows], probe.site, prefix=prefix, layers=probe.layers
                )
            probabilities: list[tuple[tuple[float, ...], tuple[float, ...]]] = [((), ())] * len(rows)
            if logprobs:
                probabilities = _logprobs_and_entropies(self.model, selected)
            next_values: list[list[float]] = [[]] * len(rows)
            if next_ids is not None:
                next_values = self._next_logprobs(selected, [next_ids[row] for row in rows])
            return [
                Reading(
                    row=row,
                    states=None if states is None else states[i],
                    logprobs=probabilities[i][0],
                    next_logprobs=tuple(next_values[i]),
                    entropies=probabilities[i][1],
                )
                for i, row in enumerate(rows)
            ]

        for batch in batches:
            for rows, readings in run_with_halving(list(batch), run, log):
                yield from readings or (Reading(row, fits=False) for row in rows)

    @cached_property
    def _allows_padding(self) -> bool:
        return allows_padding(self.model)

    def _next_logprobs(
        self, sequences: Sequence[TokenSequence], next_ids: Sequence[Sequence[int]]
    ) -> list[list[float]]:
        """Return the log-probabilities of the given tokens after each sequence."""
        prompts = [sequence.token_ids for sequence in sequences]
        batch = prepare_prompts(self.model, prompts, 1, share_prefix=self._allows_padding)
        logprobs = next_token(self.model, batch).logits[0].double().log_softmax(-1)
        values = [row[list(ids)] for row, ids in zip(logprobs.cpu(), next_ids, strict=True)]
        if not all(bool(row.isfinite().all()) for row in values):
            raise non_finite_error(self.model)
        return [row.tolist() for row in values]


def as_engine(model: Model | Engine) -> Engine:
    """Return the engine that runs a loaded model with transformers.  An engine is returned unchanged."""
    return TransformersEngine(model) if isinstance(model, Model) else model


def _verified_prefix(model: Model, sequences: Sequence[TokenSequence], probe: Probe) -> Prefix | None:
    """Return the shared prefix, or None if there is none or if it cannot be verified.

    The prefix is verified by computing the states of the first sequence with and without it.  The two results may
    differ only by rounding errors.
    """
    prefix = shared_prefix(model, sequences)
    if prefix is None or (probe.indices[0] < 0).all():
        return None

    def first(prefix: Prefix | None) -> States:
        return hidden_states(model, sequences[:1], probe.indices[:1], probe.site, prefix=prefix)

    expected = first(None)
    try:
        states = first(prefix)
    except (RuntimeError, ValueError, TypeError, IndexError):  # the model cannot use the cache
        return None
    return prefix if relative_error(torch.from_numpy(states), torch.from_numpy(expected)) < tolerance(model) else None


def _logprobs_and_entropies(
    model: Model, sequences: Sequence[TokenSequence]
) -> list[tuple[tuple[float, ...], tuple[float, ...]]]:
    """Return the log-probability of each token after the prompt, and the entropy of the distribution it comes from."""
    pairs = [
        (row, column)
        for row, sequence in enumerate(sequences)
        for column in range(sequence.n_prompt - 1, len(sequence.token_ids) - 1)
    ]
    if not pairs:
        return [((), ())] * len(sequences)
    rows, columns = zip(*pairs, strict=True)
    logits = logits_at(model, [sequence.token_ids for sequence in sequences], rows, columns)
    next_ids = torch.tensor([sequences[row].token_ids[column + 1] for row, column in pairs], device=logits.device)
    logprobs, entropies = logprobs_and_entropies(logits, next_ids)
    if not bool(logprobs.isfinite().all()):
        raise non_finite_error(model)
    lengths = [len(sequence.token_ids) - sequence.n_prompt for sequence in sequences]
    parts = zip(torch.split(logprobs.cpu(), lengths), torch.split(entropies.cpu(), lengths), strict=True)
    return [(tuple(first.tolist()), tuple(second.tolist())) for first, second in parts]
