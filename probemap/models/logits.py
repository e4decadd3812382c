"""The model's own logits at chosen tokens: at all tokens they would be the largest tensor of a batch by far."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from probemap.models.model import Model
from probemap.records import ModelError


def logits_at(
    model: Model, token_ids: Sequence[tuple[int, ...]], rows: Sequence[int], columns: Sequence[int]
) -> torch.Tensor:
    """(k, vocabulary): what the model says comes after token ``columns[i]`` of text ``rows[i]``, for k such pairs.

    One pass, padded on the right.  What a model does after its output embeddings (soft-capping in Gemma, scaling in
    Granite and Cohere) still is its own doing.

    Raises
    ------
    ModelError: the logits do not come from the model's output embeddings.
    """
    ids, mask = model.right_padded(token_ids)
    row, column = (torch.tensor(where, dtype=torch.long, device=model.device) for where in (rows, columns))
    with torch.inference_mode(), _head_sees_only(model.network, row, column):
        logits: torch.Tensor = model.network(input_ids=ids, attention_mask=mask, use_cache=False).logits
    if logits.shape[:2] != (1, len(rows)):
        raise ModelError(
            f"the logits of {type(model.network).__name__} do not come from its output embeddings",
            "only decoder models of the usual build are supported",
        )
    return logits[0]


def non_finite_error(model: Model) -> ModelError:
    return ModelError(
        f"{model.label} gives logits that are not finite in {model.dtype}", "load the model with --dtype float32"
    )


@contextmanager
def _head_sees_only(network: Any, row: torch.Tensor, column: torch.Tensor) -> Iterator[None]:
    def keep(head: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (inputs[0][row, column][None], *inputs[1:])

    handle = network.get_output_embeddings().register_forward_pre_hook(keep)
    try:
        yield
    finally:
        handle.remove()
