"""Compute logits only at selected tokens, and log-probabilities and entropies from logits.

The logits at all tokens would take up far too much memory.
"""

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


def logprobs_and_entropies(logits: torch.Tensor, token_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the log-probabilities of tokens, and the entropies of the distributions that they come from.

    Parameters
    ----------
    logits : Tensor of shape (n, size of the vocabulary)
        Logits of n next-token distributions at temperature 1.  They may be -inf for tokens that cannot be chosen.
    token_ids : Tensor of shape (n,), int64
        The token that follows in each text.

    Returns
    -------
    logprobs, entropies : Tensor of shape (n,), float32
        In nats.  A log-probability is infinite or NaN if the logits are.

    Examples
    --------
    >>> import torch
    >>> logprobs, entropies = logprobs_and_entropies(torch.tensor([[1.0, 1.0, -torch.inf]]), torch.tensor([1]))
    >>> [round(value.item(), 4) for value in (logprobs, entropies)]  # log 1/2 and log 2
    [-0.6931, 0.6931]
    """
    logits = logits.float()
    # A single temporary array: allocating more of this size would take longer than the arithmetic.
    highest = logits.amax(-1, keepdim=True)
    weights = (logits - highest).exp_()
    total = weights.sum(-1)
    log_total = highest.squeeze(1) + total.log()
    # The entropy is log_total minus the mean logit.  A logit of -inf contributes 0 · -inf, which nansum omits.
    entropies = log_total - weights.mul_(logits).nansum(-1) / total
    return logits.gather(1, token_ids[:, None]).squeeze(1) - log_total, entropies.clamp(min=0)


@contextmanager
def _select_before_head(network: Any, row: torch.Tensor, column: torch.Tensor) -> Iterator[None]:
    def select(head: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (inputs[0][row, column][None], *inputs[1:])

    handle = network.get_output_embeddings().register_forward_pre_hook(select)
    try:
        yield
    finally:
        handle.remove()
