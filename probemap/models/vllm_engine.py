"""Generation and teacher-forced reading with vLLM in this process, with hidden states recorded in its workers.

Prompts and answers are token ids, so vLLM needs no tokenizer.  Token ids, log-probabilities and end tokens follow the
conventions of `records.Answer`.  Prefix caching and chunked prefill are enabled.
"""

from __future__ import annotations

import copy
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Self

import numpy as np

from probemap.models.engine import Generation, GenerationBatch, GenerationRequest, Probe, Reading, Recording
from probemap.models.hooks import SITES, resolve_site
from probemap.models.vllm_loading import UNSUPPORTED_HINT, VLLMOptions, engine_errors, load_llm, watch
from probemap.models.vllm_requests import RecordedStates, Request, RequestLoop
from probemap.records import DataError, ModelError, ProbemapError

if TYPE_CHECKING:
    from probemap.models.engine import OnToken, TokenSequence
    from probemap.models.hooks import Site
    from probemap.models.model import Model


class VLLMEngine:
    """An `engine.Engine` that runs a model with vLLM, in worker processes of its own.

    A program that creates an engine must do so below ``if __name__ == "__main__":``, because the worker processes
    import its main module.

    Parameters
    ----------
    model : Model
        The model, as returned by ``load_model(..., device="meta")``.  vLLM loads the weights from the same files.
    options : VLLMOptions

    Attributes
    ----------
    model : Model
    d : int
        Width of the residual stream.
    max_model_len : int
        Maximum number of tokens in a prompt together with its answer.  A state at the last token of an answer requires
        one token more.

    Raises
    ------
    ModelError
        If vLLM is not installed or its version has not been tested, if it cannot load the model, or if the residual
        stream of the model cannot be identified.
    """

    def __init__(self, model: Model, options: VLLMOptions = VLLMOptions()) -> None:
        llm = load_llm(model, options)
        self.model, self._options = model, options
        self._core = llm.llm_engine.engine_core
        self.max_model_len = int(llm.llm_engine.vllm_config.model_config.max_model_len)
        self._loop = RequestLoop(llm, options.max_running)
        watch(self._core)
        try:
            self.d = self._check_states()
        except BaseException:
            self.close()
            raise

    def with_model(self, model: Model) -> Self:
        engine = copy.copy(self)
        engine.model = model
        return engine

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the worker processes."""
        self._core.shutdown()

    def check_site(self, site: str | Site) -> int:
        if resolve_site(site) != SITES["resid"]:
            raise ModelError(
                f"states at the site {resolve_site(site).name!r} cannot be recorded in vLLM",
                "use the site resid, or the transformers engine",
            )
        return self.d

    def can_record(self, recording: Recording, max_new_tokens: int) -> bool:
        n_states = self._options.max_running * (max_new_tokens + 1) * len(self._select_layers(recording.layers))
        return n_states * self.d * 4 <= self._options.max_state_bytes

    def generate(
        self,
        batches: Iterable[GenerationBatch],
        *,
        stop_ids: frozenset[int],
        recording: Recording | None = None,
        on_token: OnToken | None = None,
        log: Callable[[str], None] = lambda text: None,
    ) -> Iterator[Generation]:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        if recording is not None:
            self.check_site(recording.site)
        needs_last = recording.needs_last if recording else lambda ended: False
        # The state at a token exists only after the model has generated the next token.
        n_more = int(needs_last(True) or needs_last(False))
        rows = count()

        def vllm_request(request: GenerationRequest, seed: int) -> Request:
            prompt_ids = list(request.prompt.token_ids)
            error = None
            try:
                self._check_length(request.id, prompt_ids, request.max_new_tokens + n_more)
            except DataError as length_error:
                error = length_error
            params = SamplingParams(
                temperature=request.temperature,
                seed=seed if request.temperature > 0 else None,
                max_tokens=request.max_new_tokens + n_more,
                logprobs=0,
                flat_logprobs=True,
                extra_args={"probemap": {"first": len(prompt_ids) - 1}} if recording else None,
                ignore_eos=True,
                stop_token_ids=None if needs_last(True) else sorted(stop_ids),
                detokenize=False,
                output_kind=RequestOutputKind.DELTA,
                # Tokens in the prefix cache are not processed.  The last token of a prompt always is.
                skip_reading_prefix_cache=False,
            )
            return Request(
                row=next(rows),
                prompt_ids=prompt_ids,
                params=params,
                stop_ids=stop_ids,
                max_new_tokens=request.max_new_tokens,
                on_token=on_token,
                error=error,
            )

        vllm_batches = (
            [vllm_request(request, batch.seed_of(i)) for i, request in enumerate(batch.requests)] for batch in batches
        )
        layers = self._select_layers(recording.layers) if recording else None
        for request, recorded in self._loop.run(vllm_batches, layers):
            try:
                yield _generation(request, recorded, needs_last)
            except ProbemapError as error:
                yield Generation(request.row, (), (), stopped=False, error=error)

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
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        layers = None
        if probe is not None:
            self.check_site(probe.site)
            layers = self._select_layers(probe.layers)

        def vllm_request(row: int) -> Request:
            token_ids = list(sequences[row].token_ids)
            probed = [] if probe is None else sorted({int(i) for i in probe.indices[row] if i >= 0})
            if not logprobs and next_ids is None:  # the tokens after the last probed token are not needed
                token_ids = token_ids[: max(probed, default=0) + 1]
            self._check_length(sequences[row].id, token_ids, 1)  # vLLM generates at least one token
            params = SamplingParams(
                temperature=0.0,
                max_tokens=1,
                prompt_logprobs=0 if logprobs else None,
                logprob_token_ids=None if next_ids is None else list(next_ids[row]),
                flat_logprobs=True,
                extra_args=None if probe is None else {"probemap": {"indices": probed}},
                detokenize=False,
                output_kind=RequestOutputKind.FINAL_ONLY,
                skip_reading_prefix_cache=logprobs or probed not in ([], [len(token_ids) - 1]),
            )
            return Request(row=row, prompt_ids=token_ids, params=params)

        for request, recorded in self._loop.run(([vllm_request(row) for row in batch] for batch in batches), layers):
            if request.error is not None:
                raise request.error
            row, states = request.row, None
            if recorded is not None and probe is not None:
                present = probe.indices[row] >= 0
                states = np.full((recorded.values.shape[1], len(present), self.d), np.nan, np.float32)
                states[:, present] = recorded.at(probe.indices[row][present].tolist())
            # The first token has no probability.
            values = request.prompt_logprobs[sequences[row].n_prompt - 1 :] if logprobs else []
            next_values = [] if next_ids is None else [request.next_logprobs[i] for i in next_ids[row]]
            yield Reading(row, states, _finite(values), _finite(next_values))

    def _check_states(self) -> int:
        """Check that the residual stream can be recorded, and return its width."""
        with engine_errors():
            self._loop.call("probemap_watch", socket.gethostname(), os.getpid())
            info = self._loop.call("probemap_start", None)[0]
            reason = info["error"]
            if not reason:
                self._loop.call("probemap_check_begin")
                list(self.read([_CHECKED], batches=[[0]], logprobs=True))
                reason = next(filter(None, self._loop.call("probemap_check_end")), "")
            self._loop.call("probemap_stop")
        if reason:
            raise ModelError(
                f"the residual stream of {self.model.label} cannot be identified in vLLM: {reason}",
                UNSUPPORTED_HINT,
            )
        if info["n_layers"] != self.model.n_layers:
            raise ModelError(
                f"{self.model.label} has {self.model.n_layers} layers, but {info['n_layers']} in vLLM", UNSUPPORTED_HINT
            )
        return int(info["d"])

    def _select_layers(self, layers: Sequence[int] | None) -> list[int]:
        selected = list(range(self.model.n_layers) if layers is None else layers)
        if (
            not selected
            or selected != sorted(set(selected))
            or not 0 <= selected[0] <= selected[-1] < self.model.n_layers
        ):
            raise ModelError(
                f"layers must be in ascending order and between 0 and {self.model.n_layers - 1}, got {selected}",
                "pass, for example, layers=[0, 8, 16]",
            )
        return selected

    def _check_length(self, id_: str, token_ids: Sequence[int], n_more: int) -> None:
        limit = self.max_model_len - n_more
        if not 0 < len(token_ids) <= limit:
            raise DataError(
                f"{id_!r} has {len(token_ids)} tokens, expected between 1 and {limit} (vLLM's context window, less "
                f"{n_more} for new tokens)",
                "shorten or omit this text, or reduce the token limit of the answers",
            )


@dataclass(frozen=True)
class _Tokens:
    id: str
    token_ids: tuple[int, ...]
    n_prompt: int


_CHECKED = _Tokens("check", (0, 1), 1)
"""The tokens with which the residual stream is checked."""


def _generation(request: Request, recorded: RecordedStates | None, needs_last: Callable[[bool], bool]) -> Generation:
    """Return the result of a request.

    Raises
    ------
    ProbemapError
        If the request has an error, or if its log-probabilities or states are incomplete.
    """
    if request.error is not None:
        raise request.error
    token_ids = tuple(request.token_ids[: request.n_answer])
    stopped = token_ids[-1] in request.stop_ids
    states = None
    if recorded is not None:
        first, stop = len(request.prompt_ids) - 1, len(request.prompt_ids) + len(token_ids)
        has_last = needs_last(stopped) and recorded.indices[-1:] >= [stop - 1]
        states = recorded.at(range(first, stop if has_last else stop - 1))
    return Generation(request.row, token_ids, _finite(request.logprobs[: request.n_answer]), stopped, states)


def _finite(logprobs: Sequence[float]) -> tuple[float, ...]:
    if not np.isfinite(logprobs).all():
        raise ModelError("the logits of the model are infinite or NaN", "load the model with dtype='float32'")
    return tuple(logprobs)
