"""The interface of engines, which run a model on token ids.

An engine generates answers and reads given tokens.  In both cases it can return hidden states.  The implementations are
`transformers_engine.TransformersEngine`, `vllm_engine.VLLMEngine` and `endpoint_engine.EndpointEngine`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt

from probemap.records import ModelError

if TYPE_CHECKING:
    from probemap.models.hooks import Site
    from probemap.models.model import Model
    from probemap.models.prompts import Prompt
    from probemap.positions import Indices
    from probemap.records import ProbemapError

States = npt.NDArray[np.float32]


class EngineEndedError(ModelError):
    """A process of an engine has ended, so the engine cannot be used any more."""


OnToken = Callable[[int, int], bool]
"""Callback that receives the row of a request and the id of each token that the model produces.  If it returns False,
the answer ends with this token."""


@dataclass(frozen=True)
class GenerationRequest:
    """One prompt, with its own token limit and temperature."""

    id: str
    prompt: Prompt
    max_new_tokens: int
    temperature: float = 0.0
    """If 0, decoding is greedy.  If positive, tokens are sampled from the full distribution at this temperature."""


@dataclass(frozen=True)
class GenerationBatch:
    """Requests that an engine starts together."""

    requests: Sequence[GenerationRequest]
    seed: int = 0
    """Random seed for sampling."""

    def seed_of(self, i: int) -> int:
        """Return a seed for request i that differs between requests and between batches, unlike the sum of the two."""
        return int(np.random.SeedSequence((self.seed, i)).generate_state(1)[0])


@dataclass(frozen=True, kw_only=True)
class Recording:
    """Layers and tokens whose states are recorded during generation: the last prompt token and all produced tokens."""

    layers: Sequence[int] | None = None
    """Layer numbers in ascending order.  None selects all layers."""
    site: str | Site = "resid"
    """See `hooks.resolve_site`."""
    needs_last: Callable[[bool], bool] = lambda ended: True
    """Callable that returns whether the state at the last token of an answer is recorded, given whether the model ended
    the answer with this token.  The model must then process one more token."""


@dataclass(frozen=True)
class Generation:
    """The answer to one prompt."""

    row: int
    """Number of the request, counted from 0 over all batches."""
    token_ids: tuple[int, ...]
    """Ids of the produced tokens, including the token that ended the answer."""
    logprobs: tuple[float, ...]
    """Natural logarithm of the probability of each produced token, given all earlier tokens, at temperature 1."""
    stopped: bool
    """True if the last token is a stop token; False if the answer was cut off at the token limit."""
    states: States | None = field(default=None, repr=False)
    """Array of shape (n_layers, n_tokens, d) with the states at the last token of the prompt and at the produced
    tokens, or None if no states were recorded.  The state at the last produced token may be missing."""
    prompt: Prompt | None = field(default=None, repr=False)
    """The prompt that the model received, if it may differ from the requested prompt."""
    error: ProbemapError | None = None
    """Reason why the engine could not answer this request, or None.  There are then no tokens."""
    entropies: tuple[float, ...] = ()
    """Entropy of the distribution from which each produced token comes; see `Answer.entropies`.  Empty if the engine
    does not compute entropies."""


class TokenSequence(Protocol):
    """A prompt and the tokens after it, for example an `Answer`."""

    @property
    def id(self) -> str:
        """Name of the sequence in error messages."""

    @property
    def token_ids(self) -> tuple[int, ...]:
        """Ids of the tokens of the prompt and of all later tokens."""

    @property
    def n_prompt(self) -> int:
        """Number of prompt tokens, at least 1."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Tokens, layers and site whose states are read."""

    indices: Indices
    """Token indices, as an array of shape (n, n_positions), int32, with -1 where a position is missing."""
    layers: Sequence[int] | None = None
    """Layer numbers in ascending order.  None selects all layers."""
    site: str | Site = "resid"
    """See `hooks.resolve_site`."""


@dataclass(frozen=True)
class Reading:
    """The states and log-probabilities of one sequence of given tokens."""

    row: int
    """Index of the sequence."""
    states: States | None = field(default=None, repr=False)
    """Array of shape (n_layers, n_positions, d), with NaN where the index is negative, or None if no states were
    requested."""
    logprobs: tuple[float, ...] = ()
    """Natural logarithm of the probability of each token after the prompt, given all earlier tokens.  Empty if no
    log-probabilities were requested."""
    next_logprobs: tuple[float, ...] = ()
    """Natural logarithm of the probability that each of the requested tokens follows the sequence."""
    fits: bool = True
    """False if the sequence does not fit in memory, even in a batch of its own.  It then has no other results."""
    entropies: tuple[float, ...] = ()
    """Entropy of the distribution from which each token after the prompt comes; see `Answer.entropies`.  Empty if no
    log-probabilities were requested, or if the engine does not compute entropies."""


class Engine(Protocol):
    """A model that generates answers and reads given tokens.

    Functions that take a `Model` also take an engine.  `load_engine` returns one.

    Examples
    --------
    >>> import probemap
    >>> engine = probemap.load_engine("smollm2-135m")
    >>> engine.model.label, engine.check_site("resid")
    ('SmolLM2-135M-Instruct.Q4_1', 576)
    >>> engine.close()
    """

    @property
    def model(self) -> Model:
        """The tokenizer, the chat template and the description of the weights.  The network may have no weights."""

    def with_model(self, model: Model) -> Self:
        """Return the same engine with another description of the same weights, e.g. with another chat template."""

    def close(self) -> None:
        """End the processes that the engine has started."""

    def check_site(self, site: str | Site) -> int:
        """Check that states can be recorded at a site, and return their width.

        Parameters
        ----------
        site : str or Site
            See `hooks.resolve_site`.

        Returns
        -------
        int
            Number of features of a state.

        Raises
        ------
        ModelError
            If the engine cannot record the states.
        """

    def can_record(self, recording: Recording, max_new_tokens: int) -> bool:
        """Return whether states can be recorded during generation without using too much memory.

        Otherwise, the answers have to be read again.

        Parameters
        ----------
        recording : Recording
        max_new_tokens : int
            Maximum number of produced tokens per answer.

        Returns
        -------
        bool
        """

    def generate(
        self,
        batches: Iterable[GenerationBatch],
        *,
        stop_ids: frozenset[int],
        recording: Recording | None = None,
        on_token: OnToken | None = None,
        log: Callable[[str], None] = lambda text: None,
    ) -> Iterator[Generation]:
        """Generate answers.

        Parameters
        ----------
        batches : iterable of GenerationBatch
            The requests.  The next batch is taken as soon as the engine can start more requests: with transformers,
            when the previous batch is complete; with vLLM, after any forward pass; with a server, after any answer.  A
            batch may be empty if there is nothing to start at the moment.
        stop_ids : frozenset of int
            Ids of the tokens that end an answer.
        recording : Recording, optional
            States to record.  By default, no states are recorded.
        on_token : callable, optional
            Called with each token that the model produces.  Requests whose tokens have been reported are not repeated
            if their batch does not fit in memory.
        log : callable, optional
            Called with a message when a batch does not fit in memory and is halved.

        Yields
        ------
        Generation
            The answers, in any order.

        Raises
        ------
        DataError, ModelError
            If a prompt does not fit in memory, or if the states cannot be recorded.  Engines that answer requests at
            the same time report the error of a single request as `Generation.error` instead.
        """

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
        """Process given tokens, such as answers that were generated elsewhere.

        Parameters
        ----------
        sequences : sequence of TokenSequence
        batches : sequence of sequence of int
            Indices into `sequences` of the sequences to read.  An engine may process a batch in parts, or several
            batches at the same time.
        probe : Probe, optional
            States to return.  By default, no states are returned.
        logprobs : bool, default False
            Whether to return the log-probabilities of the tokens after each prompt, and the entropies if the engine
            computes them.
        next_ids : sequence of sequence of int, optional
            Ids of tokens whose log-probabilities after the end of each sequence are returned.
        log : callable, optional
            Called with a message when a batch does not fit in memory and is halved.

        Yields
        ------
        Reading
            The results, in any order.

        Raises
        ------
        DataError
            If a sequence is too long.
        ModelError
            If a log-probability is infinite or NaN, or if the states cannot be recorded.
        """


class _Result(Protocol):
    @property
    def row(self) -> int: ...


_R = TypeVar("_R", bound=_Result)


def in_batches(results: Iterable[_R], batches: Sequence[Sequence[int]]) -> Iterator[list[_R]]:
    """Yield the results of each batch, in the order of `batches`, as soon as it and all earlier batches are complete.

    Examples
    --------
    >>> [[result.row for result in batch] for batch in in_batches([Reading(2), Reading(1), Reading(0)], [[0, 1], [2]])]
    [[0, 1], [2]]
    """
    remaining, collected = iter(results), dict[int, _R]()
    for batch in batches:
        while any(row not in collected for row in batch):
            if (result := next(remaining, None)) is None:
                raise ModelError(f"the engine returned no result for {len(set(batch) - collected.keys())} requests")
            collected[result.row] = result
        yield [collected.pop(row) for row in batch]
