"""Capture hidden states into a store, shard by shard: each shard is written while the next one is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from probemap.activations.layout import Layout, States, shard_rows_for
from probemap.models.batching import batches
from probemap.models.engine import Engine, Probe, Reading, in_batches
from probemap.models.hooks import Site, resolve_site, select_layers
from probemap.models.input_embeddings import mean_input_embeddings
from probemap.models.model import out_of_memory_error
from probemap.positions import Indices, digest

if TYPE_CHECKING:
    from probemap.records import Answer


def layout_for(
    engine: Engine,
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
    engine : Engine
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
        If a layer is out of range, or if the engine cannot record states at the site.
    """
    d = engine.check_site(site)
    numbers = select_layers(layers, engine.model.n_layers)
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
        weights=engine.model.weights,
    )


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Computes the states of one shard after another.

    Batches are formed within a shard and depend only on the lengths of its answers, so a resumed capture with
    transformers computes bitwise identical states.  A batch that does not fit in memory is halved, which changes its
    states only by rounding errors.  An answer that does not fit in memory even in a batch of its own is skipped.
    """

    engine: Engine
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

    def read_shards(
        self, shards: Sequence[int], progress: Callable[[int], None] = lambda done: None
    ) -> Iterator[tuple[States, list[str]]]:
        """Compute the states of shards.

        Parameters
        ----------
        shards : sequence of int
        progress : callable
            Called with the number of answers in all shards that have been processed so far.

        Yields
        ------
        states : ndarray of shape (answers in the shard, n_layers, n_positions, d), float32
            The hidden states, with NaN where a position is missing and for answers that were skipped.
        skipped : list of str
            Ids of the answers that were skipped because they did not fit in memory.
        """
        layout = self.layout
        plans = [[(batch, self.missing(batch)) for batch in self._batches(layout.rows(shard))] for shard in shards]
        missing_batches = [missing for plan in plans for _, missing in plan if missing]
        completed = in_batches(self.readings(missing_batches), missing_batches)
        done = 0
        for shard, plan in zip(shards, plans, strict=True):
            first = layout.rows(shard).start
            states = np.full((layout.size(shard), *layout.shape[1:]), np.nan, np.float32)
            skipped = []
            for batch, missing in plan:
                for reading in next(completed) if missing else ():
                    if reading.states is not None:
                        states[reading.row - first] = reading.states
                    else:
                        answer = self.answers[reading.row]
                        skipped.append(answer.id)
                        error = out_of_memory_error(self.engine.model, answer.id, len(answer.token_ids))
                        self.log(f"{error}; the answer is skipped")
                if recorded := [row for row in batch if row not in set(missing)]:
                    states[[row - first for row in recorded]] = self.recorded(recorded)
                done += len(batch)
                progress(done)
            yield states, skipped

    def readings(self, batches: Sequence[Sequence[int]]) -> Iterator[Reading]:
        """Compute the states of batches of answers, in any order."""
        return self.engine.read(
            self.answers,
            batches=batches,
            probe=Probe(indices=self.indices, layers=self.layout.layer_numbers, site=self.site or self.layout.site),
            log=self.log,
        )

    def input_embeddings(self, shard: int) -> States | None:
        """Return the mean input embeddings of the answers in a shard; see `mean_input_embeddings`."""
        return mean_input_embeddings(self.engine.model, self.answers[self.layout.rows(shard)])

    def missing(self, rows: Sequence[int]) -> list[int]:
        """Return those of the given answers whose states have not been recorded earlier."""
        return list(rows)

    def recorded(self, rows: Sequence[int]) -> States:
        """Return the states of answers that were recorded earlier, as an array of shape (len(rows), n_layers, …)."""
        raise NotImplementedError

    def _batches(self, rows: slice) -> list[list[int]]:
        lengths = [len(answer.token_ids) for answer in self.answers[rows]]
        return [[rows.start + i for i in batch] for batch in batches(lengths, self.batch_size, self.batch_tokens)]


class ShardStore(Protocol):
    """Interface of a store to which shards are written: an `ActivationStore` or a `MemoryStore`."""

    layout: Layout

    def missing_shards(self) -> list[int]: ...
    def write_shard(
        self, shard: int, states: States, skipped: Sequence[str] = (), input_embeddings: States | None = None
    ) -> None: ...


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

    read = reader.read_shards([shard for shard in requested if shard in missing], lambda n: progress(done + n, total))
    with ThreadPoolExecutor(1) as writer:
        pending: list[tuple[int, Future[None] | None]] = []
        for shard in requested:
            if shard not in missing:
                pending.append((shard, None))
                continue
            states, skipped = next(read)
            yield from _committed(pending)
            embeddings = reader.input_embeddings(shard)
            pending = [(shard, writer.submit(store.write_shard, shard, states, skipped, embeddings))]
        yield from _committed(pending)


def _committed(pending: Sequence[tuple[int, Future[None] | None]]) -> Iterator[int]:
    """Yield the number of each pending shard after it has been written."""
    for shard, write in pending:
        if write is not None:
            write.result()
        yield shard
