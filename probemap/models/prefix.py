"""Reuse the keys and values of a token prefix that all prompts share.

A typical prefix consists of the beginning of the chat template, an instruction, and worked examples.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from probemap.models.engine import TokenSequence
    from probemap.models.model import Model

MIN_LENGTH = 8
"""Minimum length of a shared prefix, in tokens.  For a shorter prefix, copying the cache takes more time than
reusing the prefix saves."""


@dataclass(frozen=True)
class Prefix:
    """Keys and values of the tokens with which every prompt begins."""

    length: int
    """Number of tokens."""
    cache: Any
    """The key-value cache, a ``transformers.Cache`` with a batch size of 1.  A forward pass appends to the cache that
    it receives, so `rows` returns copies."""

    def rows(self, n: int) -> Any:
        """Return a copy of the cache, repeated for a batch of n rows."""
        cache = copy.deepcopy(self.cache)
        cache.batch_repeat_interleave(n)
        return cache


def shared_prefix(model: Model, answers: Sequence[TokenSequence]) -> Prefix | None:
    """Compute the keys and values of the longest token prefix that all prompts share.

    The prefix excludes the last token of every prompt, because that token may be probed.

    Returns
    -------
    Prefix or None
        The prefix, or None if there is only one answer, if the prefix is shorter than `MIN_LENGTH`, or if the model has
        no key-value cache that can be shared.
    """
    shared: tuple[int, ...] = reduce(_common_prefix, (answer.token_ids[: answer.n_prompt - 1] for answer in answers))
    length = len(shared)
    if len(answers) < 2 or length < MIN_LENGTH:
        return None
    ids = torch.tensor([shared], device=model.device)
    with torch.inference_mode():
        output = model.network.base_model(input_ids=ids, use_cache=True)
    cache: Any = getattr(output, "past_key_values", None)
    if not hasattr(cache, "batch_repeat_interleave") or cache.get_seq_length() != length:
        return None
    return Prefix(length, cache)


def _common_prefix(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    differing = (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
    return a[: next(differing, min(len(a), len(b)))]
