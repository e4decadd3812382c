"""Hidden states at the probed positions, in one teacher-forced pass over the ids that were produced.

Hooks sit on the blocks themselves, or on the modules inside that a site means: the library's own last hidden state
is taken after the final norm, which is another quantity.  Batches are padded on the right, where padding cannot
shift positions (left padding without position ids is silently wrong for learned positions).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from probemap.activations.hooks import HookPoint, find_hook_points, forward_hooks, parse_layers
from probemap.activations.prefix import Prefix, shared_prefix
from probemap.activations.store import ActivationStore, Layout, States, shard_rows_for
from probemap.models.batching import batches, run_with_halving
from probemap.models.generate import out_of_memory_error
from probemap.models.model import Model
from probemap.positions import Indices, digest
from probemap.records import Answer, ModelError, StoreError

_HINT = (
    "this model computes its states in another way than the supported ones: name the module inside a block, as in "
    "--site attn_out=self_attn, or take --site resid"
)


class _Probed:
    """Hooks on every tap that keep the states of the probed tokens only."""

    def __init__(
        self, hook_points: Mapping[int, HookPoint], rows: torch.Tensor, columns: torch.Tensor, shape: tuple[int, int]
    ) -> None:
        self.hook_points = hook_points
        self.rows, self.columns = rows, columns
        self.shape = shape
        self.states: dict[int, list[torch.Tensor]] = {layer: [] for layer in hook_points}

    def _keep(self, layer: int, module: torch.nn.Module, inputs: Any, output: Any) -> None:
        hook_point = self.hook_points[layer]
        hidden = hook_point.state(inputs, output)
        if hidden.shape not in ((*self.shape, hook_point.d), (self.shape[0] * self.shape[1], hook_point.d)):
            raise ModelError(
                f"the states at block {layer} have shape {tuple(hidden.shape)}, expected {(*self.shape, hook_point.d)}",
                _HINT,
            )
        # Some MLPs see all tokens of a batch in one row (OPT's).
        hidden = hidden.reshape(*self.shape, hook_point.d)
        # A model may be spread over devices.
        rows, columns = self.rows.to(hidden.device), self.columns.to(hidden.device)
        self.states[layer].append(hidden[rows, columns].float())

    def hooked(self) -> AbstractContextManager[None]:
        return forward_hooks({layer: hook_point.module for layer, hook_point in self.hook_points.items()}, self._keep)

    def stacked(self) -> torch.Tensor:
        """(rows, layers, positions, d); every module must have been called once."""
        for layer, kept in self.states.items():
            if len(kept) != 1:
                name = type(self.hook_points[layer].module).__name__
                raise ModelError(f"{name} at block {layer} was called {len(kept)} times, expected once", _HINT)
        return torch.stack([kept[0].to(self.rows.device) for kept in self.states.values()], dim=1)


def hidden_states(
    model: Model,
    answers: Sequence[Answer],
    indices: Indices,
    site: str = "resid",
    prefix: Prefix | None = None,
    layers: Sequence[int] | None = None,
) -> States:
    """What every block holds at `site` and the given tokens, from one right-padded batch.

    Parameters
    ----------
    indices: (len(answers), n_positions), -1 where a position is missing.
    site: one of `sites.SITES`.
    prefix: what all answers begin with, as `prefix.shared_prefix` made it; None computes it along with the rest.
    layers: the numbers of the blocks to read; None: all.

    Returns
    -------
    float32 (len(answers), n_layers, n_positions, d), NaN where a position is missing.

    Raises
    ------
    ModelError: the model does not show where `site` is, or does not compute it once per block.
    StoreError: a state is not finite; names answer and layer.
    """
    before = 0 if prefix is None else prefix.length
    ids, mask = model.right_padded([a.token_ids[before:] for a in answers])
    rows = torch.arange(len(answers))[:, None].to(model.device)
    columns = (torch.from_numpy(indices.astype(np.int64)) - before).clamp(min=0).to(model.device)
    shared: dict[str, Any] = {"use_cache": False}
    if prefix is not None:
        mask = torch.cat([mask.new_ones(len(answers), before), mask], dim=1)
        shared = {"past_key_values": prefix.rows(len(answers)), "use_cache": True}
    hook_points = find_hook_points(model.network, site)
    wanted = range(len(hook_points)) if layers is None else layers
    probed = _Probed({k: hook_points[k] for k in wanted}, rows, columns, (ids.shape[0], ids.shape[1]))
    with torch.inference_mode(), probed.hooked():
        # The base model: what comes after the blocks (norm, vocabulary logits) is not needed.
        model.network.base_model(input_ids=ids, attention_mask=mask, **shared)
    states: States = probed.stacked().cpu().numpy()
    present = indices >= 0
    bad = ~np.isfinite(states).all(axis=(2, 3), where=present[:, None, :, None])
    if bad.any():
        row, layer = int(np.argwhere(bad)[0][0]), wanted[int(np.argwhere(bad)[0][1])]
        raise StoreError(
            f"the hidden state of answer {answers[row].id!r} at layer {layer} is not finite in {model.dtype}",
            "load the model with --dtype float32 (float16 overflows on many models)",
        )
    states[~np.broadcast_to(present[:, None, :], states.shape[:3])] = np.nan
    return states


def check_site(model: Model, site: str) -> int:
    """The width of the states at `site`, after a pass over two tokens: every block shows it once, and as wide.

    Raises
    ------
    ModelError: the model does not show where `site` is, or does not compute it once per block and token.
    """
    hook_points = find_hook_points(model.network, site)
    ids, mask = model.right_padded([tuple(sorted(model.end_ids()))[:1] * 2])
    here = torch.zeros((1, 1), dtype=torch.long, device=model.device)
    probed = _Probed(dict(enumerate(hook_points)), here, here, (1, 2))
    with torch.inference_mode(), probed.hooked():
        model.network.base_model(input_ids=ids, attention_mask=mask, use_cache=False)
    probed.stacked()
    return hook_points[0].d


def layout_for(
    model: Model,
    answers: Sequence[Answer],
    indices: Indices,
    positions: Sequence[str],
    store_dtype: str = "float32",
    site: str = "resid",
    shard_bytes: int | None = None,
    layers: str | None = None,
) -> Layout:
    """The layout of a store for these answers, positions, site and layers (as for `sites.parse_layers`).

    Raises
    ------
    ModelError: as `check_site`.
    """
    d = check_site(model, site)
    numbers = None if layers is None else parse_layers(layers, model.n_layers)
    n_layers = len(numbers or range(model.n_layers))
    rows = shard_rows_for(len(answers), n_layers, len(positions), d, np.dtype(store_dtype).itemsize, shard_bytes)
    return Layout(
        len(answers),
        n_layers,
        tuple(positions),
        d,
        site,
        store_dtype,
        rows,
        digest(answers, indices),
        tuple(numbers or ()),
        model.weights,
    )


def capture(
    model: Model,
    answers: Sequence[Answer],
    indices: Indices,
    store: ActivationStore,
    *,
    batch_size: int = 32,
    batch_tokens: int | None = None,
    shards: Sequence[int] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    log: Callable[[str], None] = lambda text: None,
) -> None:
    """Fill the store's missing shards, one at a time; a shard that is there is left alone.

    Reads the site that the store's layout names.  Batches are formed inside a shard, from its answers' lengths
    alone, so a resumed capture computes the very same bytes.  Memory stays near one shard.

    A batch that does not fit the memory is halved, and its states then differ by rounding.  An answer that does not
    fit even alone has no states: its positions are missing, and the shard's marker names it.

    Parameters
    ----------
    batch_tokens: of a batch, as for `batching.batches`.
    shards: fill these alone; others fill the rest.  None: all.
    tell: told of batches that are halved and answers that are left out.

    Raises
    ------
    ModelError: the model does not show where that site is, or does not compute it once per block.
    StoreError: a state is not finite, or not representable in the store's dtype.
    """
    reader = Reader(model, answers, indices, store.layout, batch_size, batch_tokens, log)
    list(fill_store(store, reader, shards, progress))


def fill_store(
    store: ActivationStore,
    reader: "Reader",
    shards: Sequence[int] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[int]:
    """Write the store's missing shards, or those of `shards` that are missing, as `capture` does.

    A shard is written while the next one is read: a bucket, or a slow disk, is waited for once.

    Returns
    -------
    The numbers of `shards`, in their order, each when it is committed.
    """
    layout = store.layout
    wanted = list(range(layout.n_shards)) if shards is None else list(shards)
    missing = set(store.missing_shards())
    total = sum(map(layout.size, wanted))
    done = total - sum(layout.size(shard) for shard in wanted if shard in missing)

    def read(inside: int) -> None:
        progress(done + inside, total)

    with ThreadPoolExecutor(1) as writer:
        under_way: list[tuple[int, Future[None] | None]] = []
        for shard in wanted:
            if shard not in missing:
                under_way.append((shard, None))
                continue
            made = reader.read(shard, read)
            yield from _ended(under_way)
            done += layout.size(shard)
            under_way = [(shard, writer.submit(store.write_shard, shard, *made))]
        yield from _ended(under_way)


def _ended(under_way: Sequence[tuple[int, Future[None] | None]]) -> Iterator[int]:
    for shard, written in under_way:
        if written is not None:
            written.result()
        yield shard


@dataclass(frozen=True)
class Reader:
    """Reads what belongs into whole shards, by default the states at the layout's site."""

    model: Model
    answers: Sequence[Answer]
    indices: Indices
    layout: Layout
    batch_size: int = 32
    batch_tokens: int | None = None
    log: Callable[[str], None] = lambda text: None

    def read(self, shard: int, progress: Callable[[int], None] = lambda done: None) -> tuple[States, list[str]]:
        """(rows, n_layers, n_positions, d), and the answers that did not fit the memory; `progress` counts answers."""
        layout, rows = self.layout, self.layout.rows(shard)
        answers = self.answers[rows]
        states = np.full((len(answers), layout.n_layers, len(layout.positions), layout.d), np.nan, np.float32)
        left_out = []
        done = 0

        def read(some: list[int]) -> States:
            return self.look([rows.start + i for i in some])

        for batch in batches([len(a.token_ids) for a in answers], self.batch_size, self.batch_tokens):
            for some, made in run_with_halving(batch, read, self.log):
                if made is None:
                    one = answers[some[0]]
                    left_out.append(one.id)
                    self.log(f"{out_of_memory_error(self.model, one.id, len(one.token_ids))}; left out")
                else:
                    states[some] = made
            done += len(batch)
            progress(done)
        return states, left_out

    def look(self, some: list[int]) -> States:
        """(len(some), n_layers, n_positions, d) of the answers of these numbers, from one batch."""
        answers = [self.answers[i] for i in some]
        layout = self.layout
        return hidden_states(self.model, answers, self.indices[some], layout.site, self._prefix, layout.layer_numbers)

    @cached_property
    def _prefix(self) -> Prefix | None:
        return _trusted_prefix(self.model, self.answers, self.indices, self.layout.site)


def _trusted_prefix(model: Model, answers: Sequence[Answer], indices: Indices, site: str) -> Prefix | None:
    """The shared beginning, if states behind it are what they are without it: tried on the first answer."""
    prefix = shared_prefix(model, answers)
    if prefix is None or (indices[0] < 0).all():
        return None
    whole = hidden_states(model, answers[:1], indices[:1], site)
    try:
        apart = hidden_states(model, answers[:1], indices[:1], site, prefix)
    except (RuntimeError, ValueError, TypeError, IndexError):  # a model that cannot go on from keys and values
        return None
    error = np.nanmax(np.linalg.norm(whole - apart, axis=-1) / np.linalg.norm(whole, axis=-1))
    # Rounding grows along the layers; an error of positions or masks is of the order of 1.
    return prefix if error < min(0.05, 1e3 * float(torch.finfo(model.network.dtype).eps)) else None
