"""A beginning that all prompts share, computed once: the chat template's head, an instruction, worked examples."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch

from probemap.models.model import Model
from probemap.records import Answer

LEAST = 8
"""A shorter beginning is not worth the copying."""


@dataclass(frozen=True)
class Prefix:
    """The keys and values of tokens that stand before all others."""

    length: int
    """Tokens."""
    cache: Any
    """A ``transformers.Cache`` of one row; a pass adds to the cache that it is given, so it is handed out as copies."""

    def rows(self, n: int) -> Any:
        """A copy for n rows."""
        cache = copy.deepcopy(self.cache)
        cache.batch_repeat_interleave(n)
        return cache


def shared_prefix(model: Model, answers: Sequence[Answer]) -> Prefix | None:
    """What all answers' tokens begin with, short of every prompt's last token, which may be probed.

    None if that is too short to be worth it, or the model keeps no keys and values that can be shared.
    """
    shared: tuple[int, ...] = reduce(_common, (answer.token_ids[: answer.n_prompt - 1] for answer in answers))
    length = len(shared)
    if len(answers) < 2 or length < LEAST:
        return None
    ids = torch.tensor([shared], device=model.device)
    with torch.inference_mode():
        made = model.network.base_model(input_ids=ids, use_cache=True)
    cache: Any = getattr(made, "past_key_values", None)
    if not hasattr(cache, "batch_repeat_interleave") or cache.get_seq_length() != length:
        return None
    return Prefix(length, cache)


def _common(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    """What both begin with."""
    differs = (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return one[: next(differs, min(len(one), len(other)))]
