"""A limit on the number of tokens that a judge behind a server may use."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from probemap.models.prompts import chat_messages

if TYPE_CHECKING:
    from probemap.records import Example, Task

_BYTES_PER_TOKEN = 4
"""Typical number of UTF-8 bytes per token, for estimates.  The true number depends on the tokenizer and language."""

_REPLY_TOKENS = 64
"""Assumed number of tokens in a reply, for estimates.  Models that reason before they reply use many more."""


class TokenBudget:
    """Counts the tokens that a judge uses, and refuses requests that would exceed the limit.

    For each request, the tokens of the prompt and of the reply, including its reasoning, are counted as the server
    reports them.  If the server does not report them, their number is estimated from the length of the texts.

    Parameters
    ----------
    limit : int, optional
        Maximum number of tokens.  Default: no limit.

    Examples
    --------
    >>> from probemap.grading.llm_budget import TokenBudget
    >>> budget = TokenBudget(100)
    >>> budget.reserve(80), budget.reserve(80)
    (80, None)
    >>> budget.settle(80, 15)
    >>> budget.reserve(80), budget.used
    (80, 15)
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self.used = 0
        """Number of tokens used by requests that are completed."""
        self.is_exhausted = False
        """Whether a request has been refused."""
        self._reserved, self._n_completed = 0, 0
        self._lock = threading.Lock()

    def reserve(self, estimate: int) -> int | None:
        """Reserve tokens for a request.

        Returns
        -------
        int or None
            The number of tokens reserved, which is the estimate, or the mean of the completed requests if it is higher.
            None if the request would exceed the limit and must not be sent.
        """
        with self._lock:
            tokens = max(estimate, self.used // max(self._n_completed, 1))
            if self.limit is not None and self.used + self._reserved + tokens > self.limit:
                self.is_exhausted = True
                return None
            self._reserved += tokens
            return tokens

    def settle(self, reserved: int, used: int) -> None:
        """Replace the reservation of a request that is completed with the number of tokens that it has used."""
        with self._lock:
            self._reserved -= reserved
            self.used += used
            self._n_completed += 1


def estimate_tokens(task: Task, example: Example, reply: str | None = None) -> int:
    """Return the approximate number of tokens in a request and its reply.  The text of the reply may be unknown."""
    n_bytes = sum(len(message["content"].encode("utf-8", "replace")) for message in chat_messages(task, example))
    n_reply = _REPLY_TOKENS if reply is None else len(reply.encode("utf-8", "replace")) // _BYTES_PER_TOKEN
    return n_bytes // _BYTES_PER_TOKEN + n_reply
