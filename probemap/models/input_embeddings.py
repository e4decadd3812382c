"""The model's own embeddings of an answer's tokens, without any context."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

if TYPE_CHECKING:
    from probemap.models.model import Model
    from probemap.records import Answer


def mean_input_embeddings(model: Model, answers: Sequence[Answer]) -> npt.NDArray[np.float32] | None:
    """Return the mean input embedding of the tokens of each answer.

    These are the vectors with which the model represents tokens before its first block.  They do not depend on other
    tokens, except that some models add the position of the token later.

    Parameters
    ----------
    model : Model
    answers : sequence of Answer

    Returns
    -------
    ndarray of shape (n, width of the embeddings), float32, or None
        The mean over the tokens of each answer's text, without the reasoning and the end token, with NaN for an answer
        without such tokens.  None if the weights of the model are not in this process, as with vLLM.
    """
    embedding = model.network.get_input_embeddings()
    means = []
    with torch.inference_mode():
        for answer in answers:
            ids = torch.tensor(answer.token_ids[answer.text_tokens], dtype=torch.long, device=model.device)
            embedded = embedding(ids)
            if embedded.is_meta:
                return None
            means.append(embedded.float().mean(0).cpu().numpy())
    return np.stack(means)
