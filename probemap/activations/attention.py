"""How much attention each probed token receives: from the answer's last token, and from the exact answer's.

The model computes its attention in the open for this (transformers' ``eager``), in a pass of its own: the fused kernels
that it uses otherwise never hold the weights.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from probemap.activations.capture import Reader
from probemap.activations.hooks import find_attentions, forward_hooks
from probemap.activations.store import Layout, States, shard_rows_for
from probemap.models.model import Model
from probemap.positions import Indices, digest
from probemap.records import Answer, ModelError, Span

QUERY_TOKENS = ("the last token", "the exact answer's tokens")
"""Who pays the attention, in the order of the store's last axis."""


def attention_layout(
    model: Model,
    answers: Sequence[Answer],
    indices: Indices,
    spans: Sequence[Span | None],
    positions: Sequence[str],
) -> Layout:
    """The layout of a store for what an `AttentionReader` reads."""
    rows = shard_rows_for(len(answers), model.n_layers, len(positions), len(QUERY_TOKENS), 4)
    places = [(span.start, span.stop) if span else None for span in spans]
    made_from = hashlib.sha256(f"{digest(answers, indices)} {places}".encode()).hexdigest()
    return Layout(
        len(answers), model.n_layers, tuple(positions), len(QUERY_TOKENS), "attention", "float32", rows, made_from
    )


@dataclass(frozen=True)
class AttentionReader(Reader):
    """Reads attention instead of states; a `capture.Reader`."""

    spans: Sequence[Span | None] = ()
    """The exact answer of every answer."""

    def look(self, some: list[int]) -> States:
        answers = [self.answers[i] for i in some]
        return attention_received(self.model, answers, self.indices[some], [self.spans[i] for i in some])


def attention_received(
    model: Model, answers: Sequence[Answer], indices: Indices, spans: Sequence[Span | None]
) -> States:
    """The weight that each probed token receives at every layer, the mean over the heads, from one right-padded batch.

    A token's weights over all tokens up to itself sum to 1; a token after the one that pays receives 0.

    Parameters
    ----------
    indices: (len(answers), n_positions), -1 where a position is missing.
    spans: the exact answers.

    Returns
    -------
    float32 (len(answers), n_layers, n_positions, 2), in the order of `QUERY_TOKENS`,
    the exact answer's tokens averaged.
    NaN where a position is missing, and from an exact answer that there is not.

    Raises
    ------
    ModelError: the model does not show its attention.
    """
    ids, mask = model.right_padded([a.token_ids for a in answers])
    payers = torch.zeros(len(answers), len(QUERY_TOKENS), ids.shape[1])
    for row, (answer, span) in enumerate(zip(answers, spans, strict=True)):
        payers[row, 0, len(answer.token_ids) - 1] = 1
        if span is None:
            payers[row, 1] = torch.nan
        else:
            payers[row, 1, span.start : span.stop] = 1 / (span.stop - span.start)
    columns = torch.from_numpy(indices.astype(np.int64)).clamp(min=0)
    attentions = dict(enumerate(find_attentions(model.network)))
    received: list[torch.Tensor] = []

    def keep(layer: int, module: torch.nn.Module, inputs: Any, output: Any) -> None:
        weights = _weights(output, tuple(ids.shape))
        # Falcon returns weights that its fused kernel did not use: of all tokens, those to come included.
        if weights is None or layer != len(received) or bool((weights[..., 0, 1:] > 1e-6).any()):
            raise ModelError(
                f"{type(module).__name__} at block {layer} does not show its attention weights",
                "this model computes its attention in another way than the supported ones",
            )
        paid = torch.bmm(payers.to(weights.device), weights.float().mean(1))
        received.append(paid.cpu().gather(2, columns[:, None].expand(-1, len(QUERY_TOKENS), -1)).transpose(1, 2))

    with torch.inference_mode(), _in_the_open(model.network), forward_hooks(attentions, keep):
        model.network.base_model(input_ids=ids, attention_mask=mask, use_cache=False, output_attentions=True)
    states: States = torch.stack(received, dim=1).numpy()
    states[np.broadcast_to((indices < 0)[:, None, :], states.shape[:3])] = np.nan
    return states


def _weights(output: Any, shape: tuple[int, ...]) -> torch.Tensor | None:
    """(rows, heads, tokens, tokens) among what an attention returns."""
    wanted = (shape[0], shape[1], shape[1])
    for value in output if isinstance(output, tuple) else ():
        if isinstance(value, torch.Tensor) and value.dim() == 4 and (value.shape[0], *value.shape[2:]) == wanted:
            return value
    return None


@contextmanager
def _in_the_open(network: Any) -> Iterator[None]:
    before = network.config._attn_implementation
    network.set_attn_implementation("eager")
    try:
        yield
    finally:
        network.set_attn_implementation(before)
