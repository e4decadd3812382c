"""Requests to vLLM that are processed together, and the states that its workers record for them.

New requests are added while others are running, so that the engine is always busy.  The states of a request are fetched
when it is complete.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from probemap.models.vllm_loading import UNSUPPORTED_HINT, engine_errors
from probemap.records import ModelError

if TYPE_CHECKING:
    from probemap.models.engine import States

_MAX_FINISHED = 32
"""Number of finished requests whose states are fetched in one call, because each call interrupts the engine."""


@dataclass(eq=False, kw_only=True)
class Request:
    """A request to vLLM, and the part of its result that has arrived."""

    row: int
    prompt_ids: list[int]
    params: Any
    selection: dict[str, Any]
    """Tokens whose states are recorded; see `vllm_worker.StateRecorder.probemap_expect`."""
    stop_ids: frozenset[int] = frozenset()
    max_new_tokens: int = 1
    token_ids: list[int] = field(default_factory=list)
    """Produced tokens.  The answer may be followed by one token more."""
    logprobs: list[float] = field(default_factory=list)
    prompt_logprobs: list[float] = field(default_factory=list)
    next_logprobs: dict[int, float] = field(default_factory=dict)
    """Log-probabilities of the tokens that may be the first token of the answer, if they were requested."""
    n_answer: int | None = None
    """Number of tokens in the answer, or None if it is incomplete."""

    def add(self, output: Any) -> bool:
        """Add an output of vLLM, and return whether no further output is needed."""
        completion = output.outputs[0]
        for token_id in completion.token_ids:
            self.token_ids.append(token_id)
            if self.n_answer is None and (token_id in self.stop_ids or len(self.token_ids) == self.max_new_tokens):
                self.n_answer = len(self.token_ids)
        if completion.logprobs:
            self.logprobs += _chosen_logprobs(completion.logprobs)
            if self.params.logprob_token_ids:
                self.next_logprobs = dict(zip(completion.logprobs.token_ids, completion.logprobs.logprobs, strict=True))
        if output.prompt_logprobs:
            self.prompt_logprobs = _chosen_logprobs(output.prompt_logprobs)
        return bool(output.finished) or (self.n_answer is not None and len(self.token_ids) > self.n_answer)


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

    Parameters
    ----------
    llm : vllm.LLM
    max_running : int
        Maximum number of requests that vLLM processes at the same time.  Up to twice as many are passed to vLLM, so
        that new requests can start at once.
    """

    def __init__(self, llm: Any, max_running: int) -> None:
        self._llm, self._engine, self._max_running = llm, llm.llm_engine, max_running
        self._ids = count()
        self._recorded_layers: list[int] | None = None
        self._is_running = False

    def run(
        self, requests: Iterator[Request], layers: list[int] | None
    ) -> Iterator[tuple[Request, RecordedStates | None]]:
        """Process requests, and yield each of them with its states at the given layers."""
        from vllm.inputs.engine import tokens_input

        if self._is_running:
            raise ModelError("the engine is processing other requests", "finish or close the earlier iterator first")
        self._is_running = True
        running: dict[str, Request] = {}
        finished: dict[str, Request] = {}
        try:
            with engine_errors():
                self._record(layers)
                while True:
                    if len(running) < self._max_running:
                        batch = {f"probemap.{next(self._ids)}": r for r in islice(requests, self._max_running)}
                        if batch and layers is not None:
                            self.call("probemap_expect", {id_: r.selection for id_, r in batch.items()})
                        for id_, request in batch.items():
                            self._engine.add_request(id_, tokens_input(request.prompt_ids), request.params)
                            running[id_] = request
                    if not running:
                        return
                    # Requests that have been aborted may have late outputs.
                    outputs = [output for output in self._engine.step() if output.request_id in running]
                    complete = [output for output in outputs if running[output.request_id].add(output)]
                    finished |= {output.request_id: running.pop(output.request_id) for output in complete}
                    self._abort([output.request_id for output in complete if not output.finished])
                    if len(finished) >= _MAX_FINISHED or not running:
                        states = self._take(list(finished)) if layers is not None else {}
                        ready, finished = finished, {}
                        for id_, request in ready.items():
                            yield request, states.pop(id_, None)
        finally:
            if ids := [*running, *finished]:  # the caller stopped early, or an error was raised
                with suppress(Exception):
                    self._abort(list(running))
                    self.call("probemap_take", ids)
            self._is_running = False

    def _abort(self, ids: list[str]) -> None:
        if ids:
            self._engine.abort_request(ids)

    def call(self, method: str, *arguments: object) -> list[Any]:
        """Call a method of every worker, and return the results."""
        results: list[Any] = self._llm.collective_rpc(method, args=arguments)
        return results

    def _record(self, layers: list[int] | None) -> None:
        """Record the given layers from now on."""
        if layers != self._recorded_layers:
            self.call(*(("probemap_stop",) if layers is None else ("probemap_start", layers)))
            self._recorded_layers = layers

    def _take(self, ids: list[str]) -> dict[str, RecordedStates]:
        results = self.call("probemap_take", ids)
        if errors := [result["error"] for result in results if result["error"]]:
            raise ModelError(f"vLLM's hidden states could not be recorded: {errors[0]}", UNSUPPORTED_HINT)
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
