"""Hidden states at the probed positions, in one teacher-forced pass over the ids that were produced.

Hooks sit on the blocks themselves: the library's own last hidden state is taken after the final norm, which is
another quantity.  Batches are padded on the right, where padding cannot shift positions (left padding without
position ids is silently wrong for learned positions).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from probemap.activations import ActivationStore, Layout, States, shard_rows_for
from probemap.generate import batches
from probemap.model import Model
from probemap.positions import Indices, digest
from probemap.records import Answer, ModelError, StoreError


def find_blocks(network: Any) -> list[torch.nn.Module]:
    """The model's blocks in order: its largest list of modules that has one entry per layer.

    Raises
    ------
    ModelError: no such list; names what was found.
    """
    n_layers = int(network.config.get_text_config().num_hidden_layers)
    lists: dict[str, Any] = {
        name: module for name, module in network.named_modules() if isinstance(module, torch.nn.ModuleList)
    }
    fitting = [module for module in lists.values() if len(module) == n_layers]
    if not fitting:
        found = ", ".join(f"{name} ({len(module)})" for name, module in lists.items()) or "none"
        raise ModelError(
            f"{type(network).__name__} has no list of {n_layers} blocks; lists of modules found: {found}",
            "only decoder models of the usual build are supported",
        )
    return list(max(fitting, key=_size))


def _size(module: Any) -> int:
    return sum(p.numel() for p in module.parameters())


class _Probed:
    """Hooks on every block that keep the states of the probed tokens only."""

    def __init__(self, blocks: list[torch.nn.Module]) -> None:
        self.blocks = blocks
        self.rows = torch.empty(0)
        self.columns = torch.empty(0)
        self.states: list[torch.Tensor] = []

    def _keep(self, block: torch.nn.Module, inputs: Any, output: Any) -> None:
        hidden = output[0] if isinstance(output, tuple) else output
        self.states.append(hidden[self.rows, self.columns].float())

    @contextmanager
    def hooked(self) -> Iterator[None]:
        handles = [block.register_forward_hook(self._keep) for block in self.blocks]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def hidden_states(model: Model, answers: Sequence[Answer], indices: Indices) -> States:
    """The residual stream after every block at the given tokens, from one right-padded batch.

    Parameters
    ----------
    indices: (len(answers), n_positions), -1 where a position is missing.

    Returns
    -------
    float32 (len(answers), n_layers, n_positions, d), NaN where a position is missing.

    Raises
    ------
    StoreError: a state is not finite; names answer and layer.
    """
    width = max(len(a.token_ids) for a in answers)
    pad = model.tokenizer.pad_token_id or 0
    ids = torch.tensor([[*a.token_ids, *[pad] * (width - len(a.token_ids))] for a in answers])
    mask = torch.tensor([[1] * len(a.token_ids) + [0] * (width - len(a.token_ids)) for a in answers])
    probed = _Probed(find_blocks(model.network))
    tokens = torch.from_numpy(indices.astype(np.int64)).clamp(min=0)
    probed.rows = torch.arange(len(answers))[:, None].to(model.device)
    probed.columns = tokens.to(model.device)
    with torch.inference_mode(), probed.hooked():
        # The base model: what comes after the blocks (norm, vocabulary logits) is not needed.
        model.network.base_model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device), use_cache=False)
    states: States = torch.stack(probed.states, dim=1).cpu().numpy()
    if states.shape[1] != len(probed.blocks):
        raise ModelError(f"{states.shape[1]} states came from {len(probed.blocks)} blocks")
    present = indices >= 0
    bad = ~np.isfinite(states).all(axis=(2, 3), where=present[:, None, :, None])
    if bad.any():
        row, layer = map(int, np.argwhere(bad)[0])
        raise StoreError(
            f"the hidden state of answer {answers[row].id!r} at layer {layer} is not finite in {model.dtype}",
            "load the model with --dtype float32 (float16 overflows on many models)",
        )
    states[~np.broadcast_to(present[:, None, :], states.shape[:3])] = np.nan
    return states


def layout_for(
    model: Model,
    answers: Sequence[Answer],
    indices: Indices,
    positions: Sequence[str],
    store_dtype: str = "float32",
) -> Layout:
    """The layout of a store for these answers and positions."""
    d = int(model.network.config.get_text_config().hidden_size)
    rows = shard_rows_for(len(answers), model.n_layers, len(positions), d, np.dtype(store_dtype).itemsize)
    return Layout(
        len(answers),
        model.n_layers,
        tuple(positions),
        d,
        "resid",
        store_dtype,
        rows,
        digest(answers, indices),
    )


def capture(
    model: Model,
    answers: Sequence[Answer],
    indices: Indices,
    store: ActivationStore,
    *,
    batch_size: int = 32,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Fill the store's missing shards, one at a time; a shard that is there is left alone.

    Batches are formed inside a shard, from its answers' lengths alone, so a resumed capture computes the very
    same bytes.  Memory stays near one shard.

    Raises
    ------
    StoreError: a state is not finite, or not representable in the store's dtype.
    """
    layout = store.layout
    missing = store.missing_shards()
    done = layout.n - sum(layout.rows(k).stop - layout.rows(k).start for k in missing)
    for shard in missing:
        rows = layout.rows(shard)
        inside, where = answers[rows], indices[rows]
        states = np.empty((len(inside), layout.n_layers, len(layout.positions), layout.d), np.float32)
        for batch in batches([len(a.token_ids) for a in inside], batch_size):
            states[batch] = hidden_states(model, [inside[i] for i in batch], where[batch])
            done += len(batch)
            progress(done, layout.n)
        store.write_shard(shard, states)
