"""Process tokens that several prompts share only once.

A typical prefix consists of the beginning of the chat template, an instruction, and worked examples.  When several
answers to one question are sampled, the whole prompt is shared.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

import torch
from transformers import DynamicCache, GenerationConfig

if TYPE_CHECKING:
    from probemap.models.engine import TokenSequence
    from probemap.models.model import Model

MIN_LENGTH = 8
"""Minimum length of a shared prefix, in tokens.  For a shorter prefix, copying the cache takes more time than
reusing the prefix saves."""

NO_TOKEN = 2**31 - 1
"""A token id that does not occur in any vocabulary.  It is passed as the end token, because `generate` would otherwise
use the model's end token."""


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


@dataclass(frozen=True)
class PromptBatch:
    """The prompts of one batch in the form that `generate` of transformers receives."""

    input_ids: torch.Tensor
    """Tensor of shape (rows, n_tokens).  Prompts are padded in front of the tokens that they do not share, so that the
    last column contains the last token of each prompt."""
    mask: torch.Tensor
    """Attention mask of the same shape, 0 for padding."""
    cache: Any = None
    """Keys and values of the first columns as a ``transformers.Cache``, or None if they have not been computed."""


def shared_prefix(model: Model, answers: Sequence[TokenSequence]) -> Prefix | None:
    """Compute the keys and values of the longest token prefix that all prompts share.

    The prefix excludes the last token of every prompt, because that token may be probed.

    Returns
    -------
    Prefix or None
        The prefix, or None if there is only one answer, if the prefix is shorter than `MIN_LENGTH`, or if the model has
        no key-value cache that can be shared.
    """
    if len(answers) < 2:
        return None
    return _compute_prefix(model, _common_prefix(answer.token_ids[: answer.n_prompt - 1] for answer in answers))


def prepare_prompts(model: Model, prompts: Sequence[tuple[int, ...]], n_new: int, *, share_prefix: bool) -> PromptBatch:
    """Prepare prompts for the generation of at most `n_new` tokens each, and process the tokens that they share.

    If `share_prefix` is True, the tokens with which all prompts begin are processed once; see `allows_padding`.  If
    prompts are repeated, each different prompt is processed once, except for its last token.
    """
    different = list(dict.fromkeys(prompts))
    batch = _padded(model, different, _prompt_prefix(model, different, n_new) if share_prefix else None)
    if len(different) == len(prompts):
        return batch
    row_of = {prompt: row for row, prompt in enumerate(different)}
    rows = [row_of[prompt] for prompt in prompts]
    cache = None
    if batch.input_ids.shape[1] > 1:
        cache = next_token(model, PromptBatch(batch.input_ids[:, :-1], batch.mask[:, :-1], batch.cache)).past_key_values
    return select_rows(PromptBatch(batch.input_ids, batch.mask, cache if can_select_rows(cache) else None), rows)


def select_rows(batch: PromptBatch, rows: Sequence[int]) -> PromptBatch:
    """Return the given rows of a batch, whose cache must not be used afterwards."""
    index = torch.tensor(rows, dtype=torch.long, device=batch.input_ids.device)
    if batch.cache is not None:
        batch.cache.reorder_cache(index)
    return PromptBatch(batch.input_ids[index], batch.mask[index], batch.cache)


def can_select_rows(cache: object) -> bool:
    """Return True if `select_rows` can be applied to the cache that a model has returned."""
    return isinstance(cache, DynamicCache)


def next_token(model: Model, batch: PromptBatch) -> Any:
    """Generate one token, and return the output of `generate`, with its logits and its cache."""
    config = GenerationConfig(
        max_new_tokens=1,
        do_sample=False,
        eos_token_id=[NO_TOKEN],
        pad_token_id=model.pad_id,
        return_dict_in_generate=True,
        output_logits=True,
    )
    with torch.inference_mode():
        return model.network.generate(
            batch.input_ids, attention_mask=batch.mask, past_key_values=batch.cache, generation_config=config
        )


def _prompt_prefix(model: Model, prompts: Sequence[tuple[int, ...]], n_new: int) -> Prefix | None:
    """Return the prefix that all prompts share, or None if it cannot be used for generation.

    The padding after the prefix counts as distance in models with sliding windows, so all tokens must fit in a window.
    """
    shared = _common_prefix(prompt[:-2] for prompt in prompts)  # `prepare_prompts` may omit the last token
    config = model.network.config.get_text_config()
    windows = (getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size"))
    window = min(filter(None, windows), default=None)
    is_short = window is None or max(map(len, prompts)) + n_new <= window
    return _compute_prefix(model, shared) if len(prompts) > 1 and is_short else None


def allows_padding(model: Model) -> bool:
    """Return True if the logits of a model do not change when a prefix is processed first and followed by padding.

    They change, for example, if distances between tokens include the padding.
    """
    short = tuple(range(MIN_LENGTH + 1))
    prompts = [short, (*short, *range(3))]
    try:
        prefix = _compute_prefix(model, short[:-1])
        logits = next_token(model, _padded(model, prompts, prefix)).logits[0].float()
        expected = next_token(model, _padded(model, prompts, None)).logits[0].float()
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError):  # the model cannot use the cache
        return False
    return prefix is not None and relative_error(logits, expected) < tolerance(model)


def tolerance(model: Model) -> float:
    """Return the relative difference up to which results with and without a prefix are considered equal.

    Rounding errors grow over the layers by a factor of far less than 1000, whereas incorrect positions or an incorrect
    mask give relative errors near 1.
    """
    return min(0.05, 1e3 * float(torch.finfo(model.network.dtype).eps))


def relative_error(values: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the largest relative difference between the vectors in the last dimension, ignoring vectors of NaN.

    If all vectors contain NaN, the difference is infinite.
    """
    errors = torch.linalg.vector_norm(values - expected, dim=-1) / torch.linalg.vector_norm(expected, dim=-1)
    return max(errors[~errors.isnan()].tolist(), default=math.inf)


def _padded(model: Model, prompts: Sequence[tuple[int, ...]], prefix: Prefix | None) -> PromptBatch:
    n_shared = prefix.length if prefix else 0
    # The padding token may also be the end token, so the mask is derived from the lengths and not from the ids.
    n_padding = [max(map(len, prompts)) - len(prompt) for prompt in prompts]
    ids = [[*p[:n_shared], *[model.pad_id] * n, *p[n_shared:]] for p, n in zip(prompts, n_padding, strict=True)]
    mask = [[1] * n_shared + [0] * n + [1] * (len(p) - n_shared) for p, n in zip(prompts, n_padding, strict=True)]
    return PromptBatch(
        torch.tensor(ids, device=model.device),
        torch.tensor(mask, device=model.device),
        prefix.rows(len(prompts)) if prefix else None,
    )


def _compute_prefix(model: Model, shared: tuple[int, ...]) -> Prefix | None:
    if len(shared) < MIN_LENGTH:
        return None
    ids = torch.tensor([shared], device=model.device)
    with torch.inference_mode():
        output = model.network.base_model(input_ids=ids, use_cache=True)
    cache: Any = getattr(output, "past_key_values", None)
    if not hasattr(cache, "batch_repeat_interleave") or cache.get_seq_length() != len(shared):
        return None
    return Prefix(len(shared), cache)


def _common_prefix(sequences: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
    def common(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
        differing = (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
        return a[: next(differing, min(len(a), len(b)))]

    return reduce(common, sequences)
