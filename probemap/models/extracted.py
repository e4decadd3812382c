"""Files with the hidden states that a vLLM server extracts during generation (``extract_hidden_states``).

vLLM's ``ExampleHiddenStatesConnector`` writes one safetensors file per request, with the arrays ``hidden_states`` of
shape (tokens, layers, d) and ``token_ids`` of shape (tokens,).  The value k in ``eagle_aux_hidden_state_layer_ids``
refers to the residual stream that enters block k, which is the ``resid`` site of block k - 1 in this package.  The
layers are in ascending order.  The last token of an answer has no state, because the model has not processed it.  Until
a file is complete, vLLM holds an exclusive lock on a second file, whose name ends in ``.safetensors.lock``.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open

from probemap.records import StoreError

if TYPE_CHECKING:
    from probemap.models.engine import States, TokenSequence

LOCK_TIMEOUT = 60.0
"""Maximum time in seconds to wait until the server has written a file."""

_REPEAT = "look at the log of the vLLM server; then repeat the command, which continues where it stopped"


@dataclass(frozen=True)
class ExtractedFile:
    """A complete file with the hidden states of one request."""

    path: Path
    token_ids: tuple[int, ...]
    """Ids of the tokens whose states the file contains: those of the prompt and of all but the last produced one."""
    n_layers: int
    d: int

    def read(self) -> States:
        """Return the states, as an array of shape (n_layers, n_tokens, d), float32.

        Raises
        ------
        StoreError
            If the file is damaged, or if a state is infinite or NaN.
        """
        try:
            with safe_open(self.path, framework="pt") as file:
                states: torch.Tensor = file.get_tensor("hidden_states").to(torch.float32)
        except (SafetensorError, OSError) as error:
            raise _unreadable(self.path, error) from None
        if not bool(states.isfinite().all()):
            raise StoreError(f"{self.path} contains states that are infinite or NaN", _REPEAT)
        array: States = states.numpy().swapaxes(0, 1)
        return array


def open_extracted(path: Path) -> ExtractedFile:
    """Wait until a file is complete, and read its token ids and the shape of its states.

    Raises
    ------
    StoreError
        If the file does not exist, is damaged, is not complete after `LOCK_TIMEOUT` seconds, or does not contain one
        state per token.
    """
    try:
        _wait_until_complete(path)
        with safe_open(path, framework="pt") as file:
            token_ids = tuple(int(i) for i in file.get_tensor("token_ids").flatten().tolist())
            shape = tuple(file.get_slice("hidden_states").get_shape())
    except FileNotFoundError:
        raise StoreError(
            f"{path}, to which the server writes hidden states, does not exist on this machine",
            "set vLLM's `shared_storage_path` to a directory that the server and this machine share",
        ) from None
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from None
    if len(shape) != 3 or shape[0] != len(token_ids):
        raise StoreError(
            f"{path} contains states of shape {shape} for {len(token_ids)} tokens, expected (tokens, layers, width)",
            "use files that vLLM's ExampleHiddenStatesConnector wrote",
        )
    return ExtractedFile(path, token_ids, shape[1], shape[2])


def extracted_states(sequence: TokenSequence, path: str, *, n_layers: int, d: int) -> States:
    """Read the states of an answer from the file that the server has named.

    Parameters
    ----------
    sequence : TokenSequence
        The answer.
    path : str
        Path of the file.
    n_layers : int
        Expected number of layers.
    d : int
        Expected width of the states.

    Returns
    -------
    ndarray of shape (n_layers, n_tokens, d), float32
        The states at the last token of the prompt and at the produced tokens; see `engine.Generation.states`.

    Raises
    ------
    StoreError
        If the file cannot be read, has other layers or another width, or does not belong to the answer.
    """
    file = open_extracted(Path(path))
    if file.n_layers != n_layers:
        raise StoreError(
            f"{path} contains the states of {file.n_layers} layers, but --server-layers names {n_layers}",
            "list the server's `eagle_aux_hidden_state_layer_ids`",
        )
    if file.d != d:
        raise StoreError(
            f"{path} contains states of width {file.d}, but the states of the local model have width {d}",
            "serve the model that is given as --model",
        )
    n_tokens = min(len(file.token_ids), len(sequence.token_ids))
    if n_tokens < sequence.n_prompt or file.token_ids[:n_tokens] != sequence.token_ids[:n_tokens]:
        raise StoreError(
            f"the tokens in {path} are not those of the answer {sequence.id!r}",
            "serve the model that is given as --model, with a version of vLLM that supports `return_token_ids`",
        )
    return file.read()[:, sequence.n_prompt - 1 : n_tokens]


def _wait_until_complete(path: Path) -> None:
    """Wait until vLLM has released its lock on a file that it writes."""
    try:
        import fcntl
    except ImportError:  # Windows has no locks of this kind
        return
    lock_path = path.with_name(f"{path.name}.lock")
    try:
        lock = lock_path.open("rb")
    except FileNotFoundError:  # vLLM can be configured to use no locks
        return
    deadline = time.monotonic() + LOCK_TIMEOUT
    with lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StoreError(
                        f"{path} is not complete: the server has held its lock for {LOCK_TIMEOUT:g} seconds", _REPEAT
                    ) from None
                time.sleep(0.05)
            else:
                return


def _unreadable(path: Path, error: Exception) -> StoreError:
    if isinstance(error, PermissionError):
        hint = "only the user that runs the vLLM server may read its files: run this command as that user"
    else:
        hint = f"the file is damaged or incomplete; {_REPEAT}"
    return StoreError(f"{path} cannot be read: {str(error)[:200]}", hint)
