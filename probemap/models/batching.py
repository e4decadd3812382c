"""Batches of similar lengths, halved when memory runs out."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

_T = TypeVar("_T")


def batches(lengths: Sequence[int], batch_size: int, batch_tokens: int | None = None) -> list[list[int]]:
    """Divide texts into batches of similar lengths, the longest first.

    The longest come first so that a batch that does not fit in memory fails at once.  The batches depend on the lengths
    alone, so a resumed run has the same batches.

    Parameters
    ----------
    lengths : sequence of int
        Length of each text in tokens.
    batch_size : int
        Maximum number of texts per batch.
    batch_tokens : int, optional
        Maximum number of tokens per padded batch: its number of texts times the length of the longest.  A single text
        may exceed it.  By default unlimited.

    Returns
    -------
    list of list of int
        Indices into `lengths`.
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
    """Call a function on a batch, and on its halves when memory runs out, recursively.

    Parameters
    ----------
    rows : list of int
        The batch.
    run : callable
        Called with a list of rows; its CUDA and CPU out-of-memory errors are handled, others are raised.
    log : callable
        Receives a message whenever a batch is halved.

    Yields
    ------
    rows : list of int
        Rows of one successful call, in order.
    result : object or None
        Result of that call; None if a single row does not fit in memory.
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
    # After the handler, because the traceback of the error holds the tensors of the failed call.
    clear_device_cache(garbage_collection=True)
    if len(rows) == 1:
        yield rows, None
        return
    log(f"a batch of {len(rows)} rows does not fit the memory: trying {len(rows) // 2}")
    for half in (rows[: len(rows) // 2], rows[len(rows) // 2 :]):
        yield from run_with_halving(half, run, log)
