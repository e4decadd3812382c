"""Batches of texts of similar length, which are halved when they do not fit in memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch

if TYPE_CHECKING:
    from probemap.models.model import Model

_T = TypeVar("_T")


def memory_limit() -> int:
    """Return the memory of this machine, or of the container in which this process runs, in bytes."""
    limit = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError, ValueError):  # the file is missing outside containers, or contains "max"
        limit = min(limit, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return limit


def default_batch_tokens(model: Model) -> int:
    """Return the number of tokens per batch for which generation uses about a quarter of the memory.

    The estimate includes the keys, the values and the recorded states of all layers.  It depends only on the model and
    on the machine.
    """
    memory = memory_limit()
    if model.device.type == "cuda":
        memory = min(memory, int(torch.cuda.get_device_properties(model.device).total_memory))
    config = model.network.config.get_text_config()
    numbers_per_token = int(config.num_hidden_layers) * int(config.hidden_size)
    itemsize = model.network.dtype.itemsize
    weights = sum(parameter.numel() for parameter in model.network.parameters()) * itemsize
    return max(1, int((memory - weights) // 4 // (numbers_per_token * (2 * itemsize + 4))))


def batches(lengths: Sequence[int], batch_size: int, batch_tokens: int | None = None) -> list[list[int]]:
    """Divide texts into batches of similar length, with the longest texts first.

    Because the longest texts come first, out-of-memory errors occur at the start of a run rather than near its end.
    The batches depend only on the arguments, so they are the same in a resumed run.

    Parameters
    ----------
    lengths : sequence of int
        Length of each text in tokens.
    batch_size : int
        Maximum number of texts per batch.
    batch_tokens : int, optional
        Maximum number of tokens per batch, including padding.  A batch of a single text may exceed the limit.  By
        default, there is no limit.

    Returns
    -------
    list of list of int
        The batches, as indices into `lengths`.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    result = []
    while order:
        size = batch_size
        if batch_tokens is not None:
            size = min(batch_size, max(1, batch_tokens // max(1, lengths[order[0]])))
        result.append(order[:size])
        order = order[size:]
    return result


def run_with_halving(
    rows: list[int], run: Callable[[list[int]], _T], log: Callable[[str], None]
) -> Iterator[tuple[list[int], _T | None]]:
    """Call a function on a batch, and recursively on its halves if the batch does not fit in memory.

    Parameters
    ----------
    rows : list of int
        Rows in the batch.
    run : callable
        Callable that takes a list of rows.  Out-of-memory errors on the GPU and the CPU are handled; all other
        exceptions propagate to the caller.
    log : callable
        Called with a message whenever a batch is halved.

    Yields
    ------
    rows : list of int
        The rows for which `run` was called.  The calls follow the order of the rows in the batch.
    result : object or None
        The result of the call, or None for a single row that does not fit in memory.
    """
    from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

    try:
        result = run(rows)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not should_reduce_batch_size(error):
            raise
    else:
        yield rows, result
        return
    # The cache is cleared outside the exception handler, because the traceback keeps the tensors of the failed call.
    clear_device_cache(garbage_collection=True)
    if len(rows) == 1:
        yield rows, None
        return
    log(f"a batch of {len(rows)} rows does not fit in memory; retrying with {len(rows) // 2}")
    for half in (rows[: len(rows) // 2], rows[len(rows) // 2 :]):
        yield from run_with_halving(half, run, log)
