"""Requests to vLLM that are processed together, and the states that its workers record for them.

New requests are added while others are running, so that the engine is always busy.  The states of a request are fetched
when it is complete.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from probemap.models.vllm_loading import UNSUPPORTED_HINT, ended_error, engine_errors
from probemap.records import ModelError
from probemap.redact import redacted_message

if TYPE_CHECKING:
    from probemap.models.engine import OnToken, States
    from probemap.records import ProbemapError


@dataclass(eq=False, kw_only=True)
class Request:
    """A request to vLLM, and the part of its result that has arrived."""

    row: int
    prompt_ids: list[int]
    params: Any
    stop_ids: frozenset[int] = frozenset()
    max_new_tokens: int = 1
    on_token: OnToken | None = None
    token_ids: list[int] = field(default_factory=list)
    """Produced tokens.  The answer may be followed by one token more."""
    logprobs: list[float] = field(default_factory=list)
    prompt_logprobs: list[float] = field(default_factory=list)
    next_logprobs: dict[int, float] = field(default_factory=dict)
    """Log-probabilities of the tokens that may be the first token of the answer, if they were requested."""
    n_answer: int | None = None
    """Number of tokens in the answer, or None if it is incomplete."""
    error: ProbemapError | None = None
    """Reason why the request is not processed, if any."""

    def add(self, output: Any) -> bool:
        """Add an output of vLLM, and return whether no further output is needed."""
        completion = output.outputs[0]
        wants_more = True
        for token_id in completion.token_ids:
            self.token_ids.append(token_id)
            if self.n_answer is not None:
                continue
            wants_more = self.on_token is None or self.on_token(self.row, token_id)
            if not wants_more or token_id in self.stop_ids or len(self.token_ids) == self.max_new_tokens:
                self.n_answer = len(self.token_ids)
        if completion.logprobs:
            self.logprobs += _chosen_logprobs(completion.logprobs)
            if self.params.logprob_token_ids:
                self.next_logprobs = dict(zip(completion.logprobs.token_ids, completion.logprobs.logprobs, strict=True))
        if output.prompt_logprobs:
            self.prompt_logprobs = _chosen_logprobs(output.prompt_logprobs)
        if output.finished and completion.finish_reason == "abort":
            raise ended_error()
        has_next = self.n_answer is not None and len(self.token_ids) > self.n_answer
        return bool(output.finished) or has_next or not wants_more


@dataclass(frozen=True)
class RecordedStates:
    """States of one request."""

    indices: list[int]
    """Token indices in ascending order."""
    values: States
    """Array of shape (n_tokens, n_layers, d)."""

    def at(self, indices: Sequence[int]) -> States:
        """Return the states at the given tokens, as an array of shape (n_layers, len(indices), d)."""
        row_of = {index: row for row, index in enumerate(self.indices)}
        if missing := [index for index in indices if index not in row_of]:
            raise ModelError(f"vLLM did not process {len(missing)} of {len(indices)} probed tokens", UNSUPPORTED_HINT)
        selected = self.values[[row_of[index] for index in indices]] if len(indices) else self.values[:0]
        return np.ascontiguousarray(selected.swapaxes(0, 1))


class RequestLoop:
    """Processes requests with a ``vllm.LLM`` whose workers can record states.

    While the requests of one call of `run` are processed, those of other, unfinished calls are processed too.

    Parameters
    ----------
    llm : vllm.LLM
    max_running : int
        Number of unfinished requests from which no further batch is taken.
    """

    def __init__(self, llm: Any, max_running: int) -> None:
        self._llm, self._engine, self._max_running = llm, llm.llm_engine, max_running
        self._ids = count()
        self._running: dict[str, Request] = {}
        self._complete: dict[str, Request] = {}
        """Requests whose states have not been fetched."""
        self._n_calls = 0
        self._recorded_layers: list[int] | None = None

    def run(
        self, batches: Iterator[Sequence[Request]], layers: list[int] | None
    ) -> Iterator[tuple[Request, RecordedStates | None]]:
        """Process batches of requests.

        Parameters
        ----------
        batches : iterator of sequence of Request
            The next batch is taken whenever fewer than `max_running` requests are unfinished.  A batch may be empty if
            there is nothing to start at the moment.
        layers : list of int or None
            The layers to record, or None to record no states.

        Yields
        ------
        request : Request
            A complete request, or one with an error.
        states : RecordedStates or None
            Its states, or None if `layers` is None or if the request has an error.

        Raises
        ------
        EngineEndedError
            If a process of vLLM has ended.
        ModelError
            If the states cannot be recorded, or if an unfinished call records other layers.
        """
        own: set[str] = set()
        has_more = True
        self._n_calls += 1
        try:
            with engine_errors():
                self._record(layers)
                while own or has_more:
                    while has_more and len(self._running) < self._max_running:
                        batch = next(batches, None)
                        has_more = batch is not None
                        if not batch:
                            break
                        self._start(batch, own)
                    # Requests may have been completed while those of another call were processed.
                    if self._running and not own & self._complete.keys():
                        self._step()
                    yield from self._take(own, layers)
        finally:
            self._n_calls -= 1
            if own:  # the caller stopped early, or an error was raised
                with suppress(Exception):
                    self._abort(list(own & self._running.keys()))
                    self.call("probemap_take", list(own))
            for id_ in own:
                self._running.pop(id_, None)
                self._complete.pop(id_, None)

    def call(self, method: str, *arguments: object) -> list[Any]:
        """Call a method of every worker, and return the results."""
        results: list[Any] = self._llm.collective_rpc(method, args=arguments)
        return results

    def _start(self, requests: Sequence[Request], own: set[str]) -> None:
        """Pass requests to vLLM, and add their ids to a set."""
        from vllm.inputs.engine import tokens_input

        for request in requests:
            own.add(id_ := f"probemap.{next(self._ids)}")
            if request.error is None:
                try:
                    self._engine.add_request(id_, tokens_input(request.prompt_ids), request.params)
                except (ValueError, TypeError) as error:  # vLLM rejects the request
                    request.error = ModelError(f"vLLM rejects a request: {redacted_message(error)}")
            (self._running if request.error is None else self._complete)[id_] = request

    def _step(self) -> None:
        """Wait for the next outputs, and add them to their requests."""
        # Requests that have been aborted may have late outputs.
        outputs = [output for output in self._engine.step() if output.request_id in self._running]
        errors: list[Exception] = []
        unfinished: list[str] = []
        for output in outputs:
            id_ = output.request_id
            try:
                is_complete = self._running[id_].add(output)
            except Exception as error:  # raised after all outputs of this step have been added
                errors.append(error)
                is_complete = True
            if is_complete:
                self._complete[id_] = self._running.pop(id_)
                unfinished += [] if output.finished else [id_]
        self._abort(unfinished)
        if errors:
            raise errors[0]

    def _abort(self, ids: list[str]) -> None:
        if ids:
            self._engine.abort_request(ids)

    def _take(self, own: set[str], layers: list[int] | None) -> Iterator[tuple[Request, RecordedStates | None]]:
        """Yield those of the given requests that are complete, and remove them from the set."""
        ids = list(own & self._complete.keys())
        own.difference_update(ids)
        requests = [self._complete.pop(id_) for id_ in ids]
        processed = [id_ for id_, request in zip(ids, requests, strict=True) if request.error is None]
        states = self._states_of(processed) if processed and layers is not None else {}
        for id_, request in zip(ids, requests, strict=True):
            yield request, states.get(id_)

    def _record(self, layers: list[int] | None) -> None:
        """Record the given layers from now on."""
        if layers == self._recorded_layers or (layers is None and self._n_calls > 1):
            return
        if self._n_calls > 1:
            raise ModelError(
                f"the engine records layers {self._recorded_layers}, so it cannot record layers {layers} at the same "
                "time",
                "finish or close the earlier iterator first",
            )
        if layers is None:
            self.call("probemap_stop")
        else:
            self._check([result["error"] for result in self.call("probemap_start", layers)])
        self._recorded_layers = layers

    def _check(self, errors: Sequence[str]) -> None:
        """Raise ModelError if a worker reports an error.  Recording then starts anew in the next call of `run`."""
        if reasons := [error for error in errors if error]:
            self._recorded_layers = None
            raise ModelError(f"vLLM's hidden states could not be recorded: {reasons[0]}", UNSUPPORTED_HINT)

    def _states_of(self, ids: list[str]) -> dict[str, RecordedStates]:
        results = self.call("probemap_take", ids)
        self._check([result["error"] for result in results])
        return {
            id_: RecordedStates(
                recorded["indices"], np.frombuffer(recorded["data"], np.float32).reshape(recorded["shape"])
            )
            for result in results
            for id_, recorded in result["states"].items()
        }


def _chosen_logprobs(flat: Any) -> list[float]:
    """Return the log-probability of each token, given vLLM's ``FlatLogprobs``, in which it is the first of several."""
    pairs = zip(flat.start_indices, flat.end_indices, strict=True)
    return [float(flat.logprobs[start]) for start, end in pairs if start < end]
