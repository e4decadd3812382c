"""Compute the log-probabilities of given continuations of a prompt, without generation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from probemap.models.batching import batches
from probemap.models.model import Model, out_of_memory_error
from probemap.models.prompts import TokenisedText, check_lengths, tokenise

if TYPE_CHECKING:
    from probemap.models.engine import Engine


@dataclass(frozen=True)
class Continuation:
    """A text that may follow a prompt."""

    id: str
    """Name of the continuation in error messages."""
    prompt: str
    text: str
    """The continuation, including the space before it."""


def score_continuations(
    engine: Engine,
    continuations: Sequence[Continuation],
    *,
    batch_size: int = 16,
    log: Callable[[str], None] = lambda text: None,
) -> npt.NDArray[np.float64]:
    """Return the mean log-probability of the tokens of each continuation.

    Each batch requires one forward pass.

    Parameters
    ----------
    engine : Engine
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
    model = engine.model
    sequences = [_encode(model, continuation) for continuation in continuations]
    check_lengths(model, [(sequence.id, sequence.prompt) for sequence in sequences], 0)
    scores = np.empty(len(continuations))
    plan = batches([len(sequence.token_ids) for sequence in sequences], batch_size)
    for reading in engine.read(sequences, batches=plan, logprobs=True, log=log):
        if not reading.fits:
            sequence = sequences[reading.row]
            raise out_of_memory_error(model, sequence.id, len(sequence.token_ids))
        scores[reading.row] = np.mean(reading.logprobs)
    return scores


def _encode(model: Model, continuation: Continuation) -> TokenisedText:
    """Return the tokens of a prompt with its continuation, which are counted as later tokens.

    The continuation begins at the first token that differs from the tokens of the prompt alone, because a tokenizer may
    join the first characters of the continuation with the end of the prompt.
    """
    alone = tokenise(model, continuation.prompt, add_special_tokens=True).token_ids
    complete = tokenise(model, continuation.prompt + continuation.text, add_special_tokens=True)
    ids = complete.token_ids
    pairs = zip(alone, ids[:-1], strict=False)
    n_shared = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(alone), len(ids) - 1))
    return TokenisedText(continuation.id, complete, max(1, n_shared))
