"""Capture hidden states into a store, shard by shard: each shard is written while the next one is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from probemap.activations.forward import check_site, hidden_states
from probemap.activations.hooks import Site, resolve_site, select_layers
from probemap.activations.layout import Layout, States, shard_rows_for
from probemap.activations.prefix import Prefix, shared_prefix
from probemap.models.batching import batches, run_with_halving
from probemap.models.model import Model, out_of_memory_error
from probemap.positions import Indices, digest

if TYPE_CHECKING:
    from probemap.records import Answer


def layout_for(
    model: Model,
    answers: Sequence[Answer],
    indices: Indices,
    positions: Sequence[str],
    *,
    site: str | Site = "resid",
    layers: str | Sequence[int] | None = None,
    store_dtype: str = "float32",
    shard_bytes: int | None = None,
) -> Layout:
    """Return the layout of a store for the states of the given answers.

    Parameters
    ----------
    model : Model
    answers : sequence of Answer
    indices : ndarray of shape (len(answers), n_positions), int32
        Token index of each position, or -1 where the position is missing.
    positions : sequence of str
        Names of the columns of `indices`.
    site : str or Site
        See `hooks.resolve_site`.
    layers : str, sequence of int or None
        See `hooks.select_layers`.
    store_dtype : str
        Data type of the stored states: ``float32`` or ``float16``.
    shard_bytes : int, optional
        Target size of a shard in bytes.  Default: `layout.SHARD_BYTES`.

    Raises
    ------
    ModelError
        If a layer is out of range, or if the site fails the check in `forward.check_site`.
    """
    d = check_site(model, site)
    numbers = select_layers(layers, model.n_layers)
    row_bytes = len(numbers) * len(positions) * d * np.dtype(store_dtype).itemsize
    return Layout(
        n=len(answers),
        n_layers=len(numbers),
        positions=tuple(positions),
        d=d,
        site=resolve_site(site).name,
        dtype=store_dtype,
        shard_rows=shard_rows_for(len(answers), row_bytes, shard_bytes),
        made_from=digest(answers, indices),
        layers=() if layers is None else tuple(numbers),
        weights=model.weights,
    )


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Computes the states of one shard at a time by running forward passes of the model.

    Batches are formed within a shard and depend only on the lengths of its answers, so a resumed capture computes
    bitwise identical states.  A batch that does not fit in memory is halved, which changes its states only by rounding
    errors.  An answer that does not fit in memory even in a batch of its own is skipped.
    """

    model: Model
    answers: Sequence[Answer]
    indices: Indices
    """Token index of each position, as an array of shape (n, n_positions).  It is -1 where the position is missing."""
    layout: Layout
    site: Site | None = None
    """User-defined site.  If None, the site named in the layout is used."""
    batch_size: int = 32
    batch_tokens: int | None = None
    """Maximum number of tokens per padded batch; see `batching.batches`."""
    log: Callable[[str], None] = lambda text: None
    """Called with a message when a batch is halved or an answer is skipped."""

    def read_shard(self, shard: int, progress: Callable[[int], None] = lambda done: None) -> tuple[States, list[str]]:
        """Compute the states of one shard.

        Parameters
        ----------
        shard : int
        progress : callable
            Called with the number of answers in the shard that have been processed so far.

        Returns
        -------
        states : ndarray of shape (answers in the shard, n_layers, n_positions, d), float32
            The hidden states, with NaN where a position is missing and for answers that were skipped.
        skipped : list of str
            Ids of the answers that were skipped because they did not fit in memory.
        """
        layout, rows = self.layout, self.layout.rows(shard)
        answers = self.answers[rows]
        states = np.full((len(answers), *layout.shape[1:]), np.nan, np.float32)
        skipped = []
        done = 0

        def compute(batch: list[int]) -> States:
            return self.read_batch([rows.start + i for i in batch])

        for batch in batches([len(a.token_ids) for a in answers], self.batch_size, self.batch_tokens):
            for batch_rows, batch_states in run_with_halving(batch, compute, self.log):
                if batch_states is None:
                    answer = answers[batch_rows[0]]
                    skipped.append(answer.id)
                    self.log(
                        f"{out_of_memory_error(self.model, answer.id, len(answer.token_ids))}; the answer is skipped"
                    )
                else:
                    states[batch_rows] = batch_states
            done += len(batch)
            progress(done)
        return states, skipped

    def read_batch(self, rows: list[int]) -> States:
        """Compute the states of the given answers in one batch.

        Returns
        -------
        ndarray of shape (len(rows), n_layers, n_positions, d), float32
        """
        return hidden_states(
            self.model,
            [self.answers[i] for i in rows],
            self.indices[rows],
            self.site or self.layout.site,
            prefix=self._prefix,
            layers=self.layout.layer_numbers,
        )

    @cached_property
    def _prefix(self) -> Prefix | None:
        return _verified_prefix(self.model, self.answers, self.indices, self.site or self.layout.site)


def _verified_prefix(model: Model, answers: Sequence[Answer], indices: Indices, site: str | Site) -> Prefix | None:
    """Return the shared prefix, or None if there is none or if it cannot be verified.

    The prefix is verified by computing the states of the first answer with and without it.  The two results may differ
    only by rounding errors.
    """
    prefix = shared_prefix(model, answers)
    if prefix is None or (indices[0] < 0).all():
        return None
    expected = hidden_states(model, answers[:1], indices[:1], site)
    try:
        states = hidden_states(model, answers[:1], indices[:1], site, prefix=prefix)
    except (RuntimeError, ValueError, TypeError, IndexError):  # the model cannot use the cache
        return None
    error = np.nanmax(np.linalg.norm(expected - states, axis=-1) / np.linalg.norm(expected, axis=-1))
    # Rounding errors grow over the layers by a factor of far less than 1000, whereas incorrect positions or an
    # incorrect mask give relative errors near 1.
    return prefix if error < min(0.05, 1e3 * float(torch.finfo(model.network.dtype).eps)) else None


class ShardStore(Protocol):
    """Interface of a store to which shards are written: an `ActivationStore` or a `MemoryStore`."""

    layout: Layout

    def missing_shards(self) -> list[int]: ...
    def write_shard(self, shard: int, states: States, skipped: Sequence[str] = ()) -> None: ...


def fill_store(
    store: ShardStore,
    reader: Reader,
    shards: Sequence[int] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[int]:
    """Compute and write the missing shards of a store.

    Each shard is written while the next one is computed, so up to two shards are in memory at once.  Shards that have
    already been written are left unchanged.

    Parameters
    ----------
    store : ActivationStore or MemoryStore
    reader : Reader
    shards : sequence of int, optional
        Numbers of the shards to write, if other processes write the remaining ones.  Default: all shards.
    progress : callable
        Called with the number of answers processed so far and the total number of answers in `shards`.

    Yields
    ------
    int
        Numbers of the requested shards, in the given order.  Each number is yielded once its shard has been committed.

    Raises
    ------
    ModelError
        If the site cannot be identified, or if a hooked module is not called exactly once per forward pass.
    StoreError
        If a state is not finite or cannot be represented in the store's dtype.
    """
    layout = store.layout
    requested = list(range(layout.n_shards)) if shards is None else list(shards)
    missing = set(store.missing_shards())
    total = sum(map(layout.size, requested))
    done = total - sum(layout.size(shard) for shard in requested if shard in missing)

    def report(done_in_shard: int) -> None:
        progress(done + done_in_shard, total)

    with ThreadPoolExecutor(1) as writer:
        pending: list[tuple[int, Future[None] | None]] = []
        for shard in requested:
            if shard not in missing:
                pending.append((shard, None))
                continue
            states, skipped = reader.read_shard(shard, report)
            yield from _committed(pending)
            done += layout.size(shard)
            pending = [(shard, writer.submit(store.write_shard, shard, states, skipped))]
        yield from _committed(pending)


def _committed(pending: Sequence[tuple[int, Future[None] | None]]) -> Iterator[int]:
    """Yield the number of each pending shard after it has been written."""
    for shard, write in pending:
        if write is not None:
            write.result()
        yield shard
