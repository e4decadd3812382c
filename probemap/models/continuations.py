"""Compute the log-probabilities of given continuations of a prompt, without generation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from probemap.models.batching import batches, run_with_halving
from probemap.models.logits import logits_at
from probemap.models.model import Model, non_finite_error, out_of_memory_error
from probemap.models.prompts import Prompt, check_lengths, tokenise


@dataclass(frozen=True)
class Continuation:
    """A text that may follow a prompt."""

    id: str
    """Name of the continuation in error messages."""
    prompt: str
    text: str
    """The continuation, including the space before it."""


def score_continuations(
    model: Model,
    continuations: Sequence[Continuation],
    *,
    batch_size: int = 16,
    log: Callable[[str], None] = lambda text: None,
) -> npt.NDArray[np.float64]:
    """Return the mean log-probability of the tokens of each continuation.

    Each batch requires one forward pass, which computes logits only for the tokens of the continuations.

    Parameters
    ----------
    model : Model
    continuations : sequence of Continuation
    batch_size : int, default 16
        Maximum number of continuations per batch.
    log : callable, optional
        Called with a message when a batch does not fit in memory and is halved.

    Returns
    -------
    ndarray of shape (n,), float64
        For each continuation, the mean of the natural logarithms of the probabilities of its tokens.

    Raises
    ------
    DataError
        If a prompt with its continuation exceeds the context window.  Texts are never truncated.
    ModelError
        If a logit is infinite or NaN, or if a single text does not fit in memory.
    """
    encoded = [_encode(model, continuation) for continuation in continuations]
    check_lengths(model, [(c.id, prompt) for c, (prompt, _) in zip(continuations, encoded, strict=True)], 0)
    scores = np.empty(len(continuations))

    def run(rows: list[int]) -> npt.NDArray[np.float64]:
        token_ids = [encoded[row][0].token_ids for row in rows]
        places = [(i, k) for i, row in enumerate(rows) for k in range(encoded[row][1], len(token_ids[i]))]
        logits = logits_at(model, token_ids, [i for i, _ in places], [k - 1 for _, k in places]).double()
        produced = torch.tensor([[token_ids[i][k]] for i, k in places]).to(logits.device)
        log_probs = np.asarray(torch.log_softmax(logits, -1).gather(1, produced)[:, 0].cpu())
        if not np.isfinite(log_probs).all():
            raise non_finite_error(model)
        of_row = np.array([i for i, _ in places])
        return np.asarray(np.bincount(of_row, log_probs) / np.bincount(of_row))

    for batch in batches([len(prompt.token_ids) for prompt, _ in encoded], batch_size):
        for rows, values in run_with_halving(batch, run, log):
            if values is None:
                prompt = encoded[rows[0]][0]
                raise out_of_memory_error(model, continuations[rows[0]].id, len(prompt.token_ids))
            scores[rows] = values
    return scores


def _encode(model: Model, continuation: Continuation) -> tuple[Prompt, int]:
    """Return the tokens of a prompt with its continuation, and the index of the first token of the continuation.

    The continuation begins at the first token that differs from the tokens of the prompt alone, because a tokenizer may
    join the first characters of the continuation with the end of the prompt.
    """
    alone = tokenise(model, continuation.prompt, add_special_tokens=True).token_ids
    complete = tokenise(model, continuation.prompt + continuation.text, add_special_tokens=True)
    ids = complete.token_ids
    pairs = zip(alone, ids[:-1], strict=False)
    n_shared = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(alone), len(ids) - 1))
    return complete, max(1, n_shared)
