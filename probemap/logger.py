"""Callbacks that receive messages and progress reports from long-running work."""

from collections.abc import Callable
from dataclasses import dataclass

Progress = Callable[[str, int, int], None]
"""Callback that receives the name of the items being counted, the number processed so far, and the total number."""


@dataclass(frozen=True)
class Logger:
    """Receives messages and progress reports from a step.  By default, both are discarded.

    Examples
    --------
    >>> import probemap
    >>> logger = probemap.Logger(log=print, progress=lambda what, done, total: print(f"{what}: {done} of {total}"))
    >>> logger.log("loading the model")
    loading the model
    >>> logger.progress("answers", 32, 500)
    answers: 32 of 500
    """

    log: Callable[[str], None] = lambda text: None
    progress: Progress = lambda what, done, total: None


SILENT = Logger()
"""Logger that discards all messages and progress."""
