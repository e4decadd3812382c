"""Batches that fit: of similar length, within a budget of tokens, and halved where memory runs out."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

_T = TypeVar("_T")


def batches(lengths: Sequence[int], batch_size: int, batch_tokens: int | None = None) -> list[list[int]]:
    """Indices in batches of similar length, the longest first.

    The longest come first so that a batch that does not fit memory fails at once.  What is batched with what
    is a function of the lengths alone, so a resumed run makes the same batches.

    Parameters
    ----------
    batch_size: rows per batch, at most.
    batch_tokens: limit on the tokens of a padded batch (rows times longest row); a single row may exceed it.
        None: no limit.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    made = []
    while order:
        rows = batch_size
        if batch_tokens is not None:
            rows = min(batch_size, max(1, batch_tokens // max(1, lengths[order[0]])))
        made.append(order[:rows])
        order = order[rows:]
    return made


def run_with_halving(
    rows: list[int], work: Callable[[list[int]], _T], log: Callable[[str], None]
) -> Iterator[tuple[list[int], _T | None]]:
    """(rows, what work made of them): of all rows at once, or of halves of halves where memory runs out.

    None in place of a result: not even that one row fits.
    """
    from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

    try:
        made = work(rows)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not should_reduce_batch_size(error):
            raise
    else:
        yield rows, made
        return
    # Outside of the handler, where the failed attempt's tensors are no longer held by its traceback.
    clear_device_cache(garbage_collection=True)
    if len(rows) == 1:
        yield rows, None
        return
    log(f"{len(rows)} rows at once do not fit the memory: trying {len(rows) // 2}")
    for half in (rows[: len(rows) // 2], rows[len(rows) // 2 :]):
        yield from run_with_halving(half, work, log)
