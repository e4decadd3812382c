"""Messages and progress of long-running work, as callbacks."""

from collections.abc import Callable
from dataclasses import dataclass

Progress = Callable[[str, int, int], None]
"""Called with (what is counted, number done, total)."""


@dataclass(frozen=True)
class Logger:
    """Receives the messages and the progress of a step; silent by default."""

    log: Callable[[str], None] = lambda text: None
    progress: Progress = lambda what, done, total: None


SILENT = Logger()
"""Discards everything."""
