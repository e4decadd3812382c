"""Batches of texts of similar length, which are halved when they do not fit in memory."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

_T = TypeVar("_T")


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
