"""Compute the attention that each probed token receives from the last token of the answer and from the exact answer.

Fused attention kernels do not store the attention weights, so the weights are computed in a separate forward pass with
the ``eager`` attention implementation of transformers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from probemap.activations.layout import Layout, States, shard_rows_for
from probemap.activations.reader import Reader
from probemap.models.batching import run_with_halving
from probemap.models.engine import Reading
from probemap.models.hooks import find_attentions, forward_hooks
from probemap.positions import Indices, digest
from probemap.records import Answer, ModelError, Span

if TYPE_CHECKING:
    from probemap.models.model import Model

QUERY_TOKENS = ("the last token", "the exact answer's tokens")
"""The tokens whose attention to the probed tokens is measured, in the order in which they appear on the last axis of
the weights."""


def attention_layout(
    model: Model,
    answers: Sequence[Answer],
    indices: Indices,
    spans: Sequence[Span | None],
    positions: Sequence[str],
) -> Layout:
    """Return the layout of a store for the attention weights computed by an `AttentionReader`."""
    d = len(QUERY_TOKENS)
    limits = [(span.start, span.stop) if span else None for span in spans]
    return Layout(
        n=len(answers),
        n_layers=model.n_layers,
        positions=tuple(positions),
        d=d,
        site="attention",
        dtype="float32",
        shard_rows=shard_rows_for(len(answers), model.n_layers * len(positions) * d * 4),
        made_from=hashlib.sha256(f"{digest(answers, indices)} {limits}".encode()).hexdigest(),
    )


@dataclass(frozen=True, kw_only=True)
class AttentionReader(Reader):
    """Reader that computes attention weights instead of hidden states."""

    spans: Sequence[Span | None]
    """Span of the exact answer within each answer, or None if the answer contains no exact answer."""

    def input_embeddings(self, shard: int) -> None:
        """Return None, because the embeddings are stored with the hidden states."""

    def readings(self, batches: Sequence[Sequence[int]]) -> Iterator[Reading]:
        def run(rows: list[int]) -> States:
            answers = [self.answers[i] for i in rows]
            return attention_received(self.engine.model, answers, self.indices[rows], [self.spans[i] for i in rows])

        for batch in batches:
            for rows, weights in run_with_halving(list(batch), run, self.log):
                if weights is None:
                    yield Reading(rows[0], fits=False)
                else:
                    yield from map(Reading, rows, weights)


def attention_received(
    model: Model, answers: Sequence[Answer], indices: Indices, spans: Sequence[Span | None]
) -> States:
    """Compute the attention weight that each probed token receives at every layer, averaged over the heads.

    The attention weights of a query token over itself and all earlier tokens sum to 1.  Later tokens receive a weight
    of 0.

    Parameters
    ----------
    model : Model
    answers : sequence of Answer
        The answers, which are processed as one right-padded batch.
    indices : ndarray of shape (len(answers), n_positions), int32
        Token index of each position, or -1 where the position is missing.
    spans : sequence of (Span or None)
        Span of the exact answer within each answer, or None if the answer contains no exact answer.

    Returns
    -------
    ndarray of shape (len(answers), n_layers, n_positions, 2), float32
        Attention weights, with the last axis in the order of `QUERY_TOKENS`.  The weights from the exact answer are
        averaged over its tokens.  They are NaN for an answer that contains no exact answer, and all weights are NaN
        where a position is missing.

    Raises
    ------
    ModelError
        If an attention module does not return its attention weights.
    """
    ids, mask = model.right_padded([a.token_ids for a in answers])
    # Shape (rows, 2, tokens): the weight of each token in the average over the query tokens.
    query_weights = torch.zeros(len(answers), len(QUERY_TOKENS), ids.shape[1])
    for row, (answer, span) in enumerate(zip(answers, spans, strict=True)):
        query_weights[row, 0, len(answer.token_ids) - 1] = 1
        if span is None:
            query_weights[row, 1] = torch.nan
        else:
            query_weights[row, 1, span.start : span.stop] = 1 / (span.stop - span.start)
    columns = torch.from_numpy(indices.astype(np.int64)).clamp(min=0)
    attentions = dict(enumerate(find_attentions(model.network)))
    received: list[torch.Tensor] = []

    def record(layer: int, module: torch.nn.Module, inputs: Any, output: Any) -> None:
        weights = _attention_weights(output, tuple(ids.shape))
        # Falcon returns weights that differ from those of its fused kernel: they include tokens after the query token.
        if weights is None or layer != len(received) or bool((weights[..., 0, 1:] > 1e-6).any()):
            raise ModelError(
                f"{type(module).__name__} at block {layer} does not return its attention weights",
                "attention maps are not supported for this model",
            )
        averages = torch.bmm(query_weights.to(weights.device), weights.float().mean(1))
        received.append(averages.cpu().gather(2, columns[:, None].expand(-1, len(QUERY_TOKENS), -1)).transpose(1, 2))

    with torch.inference_mode(), _eager_attention(model.network), forward_hooks(attentions, record):
        model.network.base_model(input_ids=ids, attention_mask=mask, use_cache=False, output_attentions=True)
    states: States = torch.stack(received, dim=1).numpy()
    states[np.broadcast_to((indices < 0)[:, None, :], states.shape[:3])] = np.nan
    return states


def _attention_weights(output: Any, shape: tuple[int, ...]) -> torch.Tensor | None:
    """Return the attention weights in the output of an attention module, or None if it contains none.

    The weights are a tensor of shape (rows, heads, tokens, tokens).
    """
    expected = (shape[0], shape[1], shape[1])
    for value in output if isinstance(output, tuple) else ():
        if isinstance(value, torch.Tensor) and value.dim() == 4 and (value.shape[0], *value.shape[2:]) == expected:
            return value
    return None


@contextmanager
def _eager_attention(network: Any) -> Iterator[None]:
    implementation = network.config._attn_implementation
    network.set_attn_implementation("eager")
    try:
        yield
    finally:
        network.set_attn_implementation(implementation)
