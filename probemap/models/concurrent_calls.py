"""Concurrent calls of a function that waits for a server."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

_T = TypeVar("_T")
_R = TypeVar("_R")


def map_concurrently(function: Callable[[_T], _R], batches: Iterable[Sequence[_T]], in_flight: int) -> Iterator[_R]:
    """Yield the results of a function for the items of all batches, in order, with `in_flight` concurrent calls.

    The next batch is taken as soon as fewer than ``2 * in_flight`` calls are incomplete, even if earlier results have
    not been yielded yet.  A batch may be empty if there are no items at the moment.  If a call raises an exception, or
    if the iteration ends early, calls that have not started are cancelled.
    """
    remaining, calls = iter(batches), deque[Future[_R]]()
    pool = ThreadPoolExecutor(in_flight)
    try:
        while True:
            incomplete = [call for call in calls if not call.done()]
            batch = next(remaining, None) if len(incomplete) < 2 * in_flight else ()
            calls.extend(pool.submit(function, item) for item in batch or ())
            if batch:
                continue
            if calls and calls[0].done():
                yield calls.popleft().result()
            elif incomplete:
                wait(incomplete, return_when=FIRST_COMPLETED)
            elif batch is None:
                return
    finally:
        pool.shutdown(cancel_futures=True)
