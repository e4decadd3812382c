"""The form of requests that an OpenAI-compatible server accepts.

Servers differ in the request parameters that they accept.  A request is first sent in the form that most servers accept
(the common form).  If the server refuses a parameter, the request is changed as listed in `ADAPTATIONS` and sent again.
Later requests are sent in the changed form.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

Parameters = dict[str, Any]
"""Parameters of a request in its common form: ``max_tokens``, ``temperature``, ``seed``, ``stop``, ``response_format``
and ``extra_body`` (parameters that the ``openai`` package does not know)."""


@dataclass(frozen=True)
class Adaptation:
    """A change that is made to requests if a server refuses a parameter."""

    parameter: str
    pattern: str
    """Regular expression that matches error messages about the parameter."""
    change: Callable[[Any], Parameters]
    """Function that takes the value of the parameter and returns the parameters that replace it."""
    message: str = ""
    """Message to log.  Empty if the change does not affect the generated texts."""


ADAPTATIONS = (
    # Servers other than vLLM may refuse parameters that they do not know.
    Adaptation("extra_body", r"return_token_ids|unrecognized|unknown|unexpected|extra|not permitted", lambda value: {}),
    Adaptation("max_tokens", r"\bmax_tokens\b", lambda limit: {"max_completion_tokens": limit}),
    Adaptation("max_completion_tokens", r"\bmax_completion_tokens\b", lambda limit: {"max_tokens": limit}),
    Adaptation(
        "temperature",
        r"\btemperature\b",
        lambda value: {},
        "the server does not accept the requested temperature: the model samples at the server's default temperature, "
        "so that a repeated request may give another text",
    ),
    Adaptation(
        "seed", r"\bseed\b", lambda value: {}, "the server does not accept a seed: samples are not reproducible"
    ),
    Adaptation(
        "response_format",
        r"response_format|json_schema|structured|schema|grammar|guided",
        lambda value: {"response_format": {"type": "json_object"}},
        "the server does not accept a JSON schema: replies are requested as JSON without a schema",
    ),
    Adaptation(
        "response_format",
        r"response_format|json|structured",
        lambda value: {},
        "the server does not accept a response format: replies are requested as plain text",
    ),
)
"""The possible changes.  Each is made at most once, after the server has refused the parameter.  If several changes
apply to a parameter, they are tried in this order."""

_REFUSED = (400, 415, 422, 501)
"""Status codes of responses with which servers refuse a parameter."""

TOO_LONG = re.compile(r"context|too (?:large|long|many tokens)|maximum.{0,20}(?:length|tokens)", re.IGNORECASE)
"""Regular expression that matches error messages about requests that exceed the context window."""


class AcceptedForm:
    """The form of requests that a server accepts: its base URL and the adaptations made so far.

    If several connections to the same server share an instance, the server does not refuse the same parameter again for
    each connection.
    """

    def __init__(self, url: str) -> None:
        self.base = url
        self._adaptations: tuple[Adaptation, ...] = ()
        self._reasons: set[str] = set()
        self._lock = threading.Lock()

    def is_first(self, reason: str) -> bool:
        """Return True the first time that it is called with this ``finish_reason``."""
        with self._lock:
            is_first = reason not in self._reasons
            self._reasons.add(reason)
        return is_first

    def apply(self, parameters: Parameters) -> Parameters:
        """Return the parameters in the form that the server accepts."""
        for adaptation in self._adaptations:
            if adaptation.parameter in parameters:
                rest = {name: value for name, value in parameters.items() if name != adaptation.parameter}
                parameters = rest | adaptation.change(parameters[adaptation.parameter])
        return parameters

    def adapt(self, base: str, sent: Parameters, status: int, message: str, log: Callable[[str], None]) -> bool:
        """Change the form after the server has refused a request.

        Parameters
        ----------
        base : str
            The base URL to which the request was sent.
        sent : dict
            The parameters that were sent.
        status : int
            Status code of the response.
        message : str
            Error message of the server.
        log : callable

        Returns
        -------
        bool
            True if the form has changed since the request was sent, so that it should be sent again.
        """
        with self._lock:
            if base != self.base or sent != self.apply(sent):
                return True  # another request was refused for the same reason
            if status in (200, 404, 405) and urlsplit(self.base).path in ("", "/"):
                self.base = self.base.rstrip("/") + "/v1"
                return True
            if status not in _REFUSED or TOO_LONG.search(message):
                return False
            for adaptation in ADAPTATIONS:
                if (
                    adaptation.parameter in sent
                    and adaptation not in self._adaptations
                    and re.search(adaptation.pattern, message, re.IGNORECASE)
                ):
                    self._adaptations += (adaptation,)
                    if adaptation.message:
                        log(adaptation.message)
                    return True
            return False
