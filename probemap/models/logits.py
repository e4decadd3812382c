"""Compute logits only at selected tokens, because the logits at all tokens would take up far too much memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from probemap.records import ModelError

if TYPE_CHECKING:
    from probemap.models.model import Model


def logits_at(
    model: Model, token_ids: Sequence[tuple[int, ...]], rows: Sequence[int], columns: Sequence[int]
) -> torch.Tensor:
    """Return the next-token logits after selected tokens, computed in one forward pass over right-padded texts.

    Only the hidden states of the selected tokens are passed to the output embeddings.  Transformations of the logits,
    such as soft-capping in Gemma and scaling in Granite and Cohere, are applied as usual.

    Parameters
    ----------
    model : Model
    token_ids : sequence of tuple of int
        Token ids of each text.
    rows, columns : sequence of int, length k
        The selected tokens: token ``columns[i]`` of text ``rows[i]``.

    Returns
    -------
    Tensor of shape (k, size of the vocabulary)

    Raises
    ------
    ModelError
        If the model does not compute its logits with its output embeddings.
    """
    input_ids, mask = model.right_padded(token_ids)
    row, column = (torch.tensor(index, dtype=torch.long, device=model.device) for index in (rows, columns))
    with torch.inference_mode(), _select_before_head(model.network, row, column):
        logits: torch.Tensor = model.network(input_ids=input_ids, attention_mask=mask, use_cache=False).logits
    if logits.shape[:2] != (1, len(rows)):
        raise ModelError(
            f"{type(model.network).__name__} does not compute its logits with its output embeddings",
            "use a decoder-only model of the transformers library",
        )
    return logits[0]


@contextmanager
def _select_before_head(network: Any, row: torch.Tensor, column: torch.Tensor) -> Iterator[None]:
    def select(head: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (inputs[0][row, column][None], *inputs[1:])

    handle = network.get_output_embeddings().register_forward_pre_hook(select)
    try:
        yield
    finally:
        handle.remove()
