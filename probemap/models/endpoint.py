"""The address of an OpenAI-compatible server, such as vLLM, SGLang, llama.cpp, Ollama or `transformers serve`."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from probemap.records import RunError

_OPERATIONS = ("/chat/completions", "/completions", "/models")
"""Paths of API operations.  They are removed from the end of a base URL."""


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible server.

    Parameters
    ----------
    url : str
        Base URL, e.g. ``http://127.0.0.1:8000/v1``.  A trailing slash and the path of an API operation, such as
        ``/chat/completions``, are removed.  If a URL without a path does not lead to the API, ``/v1`` is appended when
        requests are sent.  The API key is read from the environment variable OPENAI_API_KEY.
    served : str, default ""
        Name of the model on the server.  It can be left empty if the server provides only one model.
    in_flight : int, default 16
        Maximum number of concurrent requests.
    layers : tuple of int, default ()
        The layers whose hidden states the server extracts: the ``eagle_aux_hidden_state_layer_ids`` of a vLLM server.
        Number k is the residual stream that enters block k, which is the output of layer k - 1 in this package.

    Raises
    ------
    RunError
        If the URL is not an HTTP address, or if it contains a user name or a password.  These would otherwise be
        written to the run directory.  Also if `layers` does not contain positive numbers in ascending order.

    Examples
    --------
    >>> from probemap import Endpoint
    >>> Endpoint("http://127.0.0.1:8000/v1", in_flight=4)
    Endpoint(url='http://127.0.0.1:8000/v1', served='', in_flight=4, layers=())
    """

    url: str
    served: str = ""
    in_flight: int = 16
    layers: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        url = self.url.strip().rstrip("/")
        for operation in _OPERATIONS:
            url = url.removesuffix(operation).rstrip("/")
        try:
            parts = urlsplit(url)
            is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:  # e.g. a port that is not a number
            is_address = False
        if "@" in url.partition("//")[2].partition("/")[0]:
            raise RunError(
                "the server's URL contains a user name or a password",
                "remove it from the URL, and pass the API key in the environment variable OPENAI_API_KEY",
            )
        if not is_address:
            raise RunError(
                f"{self.url!r:.100} is not the URL of a server", "write it as, for example, http://127.0.0.1:8000/v1"
            )
        object.__setattr__(self, "url", url)
        if self.layers:
            parse_server_layers(",".join(map(str, self.layers)))


def parse_server_layers(text: str) -> tuple[int, ...]:
    """Return the numbers of the layers whose states a vLLM server extracts.

    Raises
    ------
    RunError
        If the text is not a list of positive integers in ascending order.

    Examples
    --------
    >>> from probemap.models.endpoint import parse_server_layers
    >>> parse_server_layers("1,8,16")
    (1, 8, 16)
    """
    items = text.split(",")
    layers = tuple(int(item) for item in items if item.strip().isdecimal())
    if len(layers) != len(items) or min(layers) < 1 or list(layers) != sorted(set(layers)):
        raise RunError(
            f"{text!r} is not a list of positive integers in ascending order",
            "list the `eagle_aux_hidden_state_layer_ids` of the vLLM server, e.g. 1,8,16; vLLM writes the layers in "
            "ascending order, and 0, which refers to the embeddings, is not supported",
        )
    return layers
