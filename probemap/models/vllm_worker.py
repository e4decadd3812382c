"""Record hidden states inside vLLM's worker processes.

`StateRecorder` is passed to vLLM as ``worker_extension_cls``.  vLLM then adds its methods to the worker, and they are
called by name with ``LLM.collective_rpc``.  Arguments and results consist of plain values, which need no pickle.

One forward pass of vLLM processes tokens of many requests, one request after the other.  The states of the requested
tokens are copied to the CPU once per pass and are kept until they are fetched.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

_TOLERANCE = 0.02
"""Largest relative difference, due to rounding in bfloat16, between the residual stream and the sum that is
recorded."""


class StateRecorder:
    """Extension of vLLM's worker that records the residual stream after selected blocks.

    Names start with ``probemap_``, because vLLM rejects an extension whose names occur in its worker.  With tensor
    parallelism, every rank has the whole residual stream, and only rank 0 records it.
    """

    _probemap: _Recorder | None

    def probemap_start(self, layers: list[int] | None) -> dict[str, Any]:
        """Start recording, and discard all earlier states.

        The states of a request are recorded if the ``extra_args`` of its sampling parameters contain ``probemap``:
        ``{"first": i}`` for all tokens from index i on, or ``{"indices": [...]}``.

        Parameters
        ----------
        layers : list of int or None
            Layer numbers in ascending order: layer i is the output of block i, counted from 0.  None selects all
            layers.

        Returns
        -------
        dict
            The number of layers as ``n_layers``, the width of the residual stream as ``d``, and the name of the model's
            class as ``model``.  If states cannot be recorded, the reason is in ``error``, which is otherwise empty.
        """
        self.probemap_stop()
        runner = self.model_runner  # type: ignore[attr-defined]
        try:
            _read_batch(runner)
            blocks, d = _find_blocks(runner), int(_text_config(runner).hidden_size)
        except (AttributeError, LookupError) as error:
            return {"error": f"{type(error).__name__}: {error}"}
        if self.rank == 0:  # type: ignore[attr-defined]
            self._probemap = _Recorder(runner, blocks, list(range(len(blocks))) if layers is None else layers, d)
        return {"error": "", "n_layers": len(blocks), "d": d, "model": type(runner.get_model()).__name__}

    def probemap_watch(self, host: str, pid: int) -> None:
        """End this worker and vLLM's engine, which is its parent process, when the process with this id has ended.

        vLLM's processes otherwise continue if the program that started them is killed.
        """
        if host != socket.gethostname():
            return
        parent = os.getppid()

        def wait_for_end() -> None:
            while _is_running(pid):
                time.sleep(1)
            if os.getppid() == parent:
                os.kill(parent, signal.SIGKILL)
            os._exit(1)

        threading.Thread(target=wait_for_end, name="probemap-watch", daemon=True).start()

    def probemap_take(self, ids: list[str]) -> dict[str, Any]:
        """Return and discard the states of requests.

        Parameters
        ----------
        ids : list of str
            The ids that were passed to vLLM, which must not contain a hyphen.

        Returns
        -------
        dict
            ``states`` maps the id of each request to its token indices, in ascending order, the shape
            (n_tokens, n_layers, d), and the bytes of a float32 array of this shape.  ``error`` is a message if a state
            could not be recorded, and otherwise empty.  On ranks other than 0, ``states`` is empty.
        """
        if (recorder := getattr(self, "_probemap", None)) is None:
            return {"states": {}, "error": ""}
        return {"states": {id_: recorder.take(id_) for id_ in ids}, "error": recorder.error}

    def probemap_check_begin(self) -> None:
        """Compare, in the next forward pass, the recorded sum with the residual stream in the second block."""
        self._probemap_check = _ResidualCheck(_find_blocks(self.model_runner))  # type: ignore[attr-defined]

    def probemap_check_end(self) -> str:
        """Return the reason why the residual stream could not be identified, or an empty string."""
        return self._probemap_check.end()

    def probemap_stop(self) -> None:
        """Stop recording and discard all states."""
        if recorder := getattr(self, "_probemap", None):
            recorder.remove_hooks()
        self._probemap = None


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class _Selection:
    """Token indices of one request that are recorded."""

    def __init__(self, first: int | None = None, indices: list[int] | None = None) -> None:
        self._first = first
        self._indices = np.unique(np.asarray(indices or [], np.int64))

    def within(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Return the selected indices from `start` to `stop` (exclusive)."""
        if self._first is not None:
            return np.arange(max(start, self._first), max(stop, self._first))
        low, high = np.searchsorted(self._indices, (start, stop))
        return self._indices[low:high]


class _Part(NamedTuple):
    """Consecutive tokens of one request that are processed in a forward pass."""

    id: str
    selection: _Selection | None
    row: int
    """Row of the first token in the tensors of the pass."""
    start: int
    stop: int
    """Indices of the first token, and of the token after the last one, in the sequence of the request."""


def _read_batch(runner: Any) -> list[_Part]:
    """Return the requests of the current forward pass, as prepared by version 1 of vLLM's model runner."""
    n = runner.input_batch.num_reqs
    rows = runner.query_start_loc.np[: n + 1].tolist()
    starts = runner.input_batch.num_computed_tokens_cpu[:n].tolist()
    parts = []
    for number, request_id in enumerate(runner.input_batch.req_ids[:n]):
        params = runner.requests[request_id].sampling_params
        fields = (params.extra_args or {}).get("probemap") if params else None
        parts.append(
            _Part(
                id=request_id.partition("-")[0],  # vLLM appends a hyphen and random characters
                selection=None if fields is None else _Selection(**fields),
                row=rows[number],
                start=starts[number],
                stop=starts[number] + rows[number + 1] - rows[number],
            )
        )
    return parts


def _find_blocks(runner: Any) -> list[torch.nn.Module]:
    """Return the blocks: the module list whose length is the number of layers, and which has the most parameters."""
    n_layers = int(_text_config(runner).num_hidden_layers)
    lists: list[Any] = [
        m for m in runner.get_model().modules() if isinstance(m, torch.nn.ModuleList) and len(m) == n_layers
    ]
    if not lists:
        raise LookupError(f"{type(runner.get_model()).__name__} has no list of {n_layers} blocks")
    sizes = [sum(p.numel() for p in blocks.parameters()) for blocks in lists]
    return list(lists[sizes.index(max(sizes))])


def _text_config(runner: Any) -> Any:
    return runner.model_config.hf_text_config


class _Recorder:
    """Forward hooks on the blocks, and the states that have not been fetched."""

    def __init__(self, runner: Any, blocks: list[torch.nn.Module], layers: list[int], d: int) -> None:
        self._runner, self._layers, self._d = runner, layers, d
        self.error = ""
        self._states: dict[str, dict[int, npt.NDArray[np.float32]]] = {}
        self._rows = torch.empty(0, dtype=torch.long)
        self._owners: list[tuple[str, int]] = []
        """Request and token index of each recorded row of the current forward pass."""
        self._columns: list[torch.Tensor] = []
        """States of these rows at the layers that have been processed, each of shape (rows, d)."""
        self._handles = [blocks[layer].register_forward_hook(partial(self._record, layer)) for layer in self._layers]

    def remove_hooks(self) -> None:
        for handle in self._handles:
            handle.remove()

    def take(self, id_: str) -> dict[str, Any]:
        states = self._states.pop(id_, {})
        indices = sorted(states)
        array = np.stack([states[i] for i in indices]) if indices else np.empty((0, len(self._layers), self._d), "f4")
        return {"indices": indices, "shape": list(array.shape), "data": array.tobytes()}

    def _record(self, layer: int, block: torch.nn.Module, inputs: Any, output: Any) -> None:
        """Record the states after a block.  An exception in a hook would end the engine, so errors are kept."""
        if self.error:
            return
        if layer == self._layers[0]:
            try:
                self._begin(_first_tensor(output).device)
            except (AttributeError, LookupError, TypeError, ValueError) as error:
                self.error = f"{type(error).__name__}: {error}"
                return
        if not self._owners:
            return
        stream = _residual_stream(output, self._rows)
        if stream is None or stream.shape[1:] != (self._d,):
            self.error = f"the output of {type(block).__name__} {layer} is not a residual stream of width {self._d}"
            return
        self._columns.append(stream)
        if layer == self._layers[-1]:
            self._end()

    def _begin(self, device: torch.device) -> None:
        """Find the rows of the forward pass that are recorded."""
        rows: list[int] = []
        self._owners, self._columns = [], []
        for part in _read_batch(self._runner):
            if part.selection is not None:
                for index in part.selection.within(part.start, part.stop).tolist():
                    rows.append(part.row + index - part.start)
                    self._owners.append((part.id, index))
        self._rows = torch.tensor(rows, dtype=torch.long, device=device)

    def _end(self) -> None:
        states = torch.stack(self._columns, dim=1).float().cpu().numpy()
        for (id_, index), state in zip(self._owners, states, strict=True):
            # A copy, because a view would keep the states of all requests of this pass in memory.
            self._states.setdefault(id_, {})[index] = state.copy()
        self._owners, self._columns = [], []


def _first_tensor(output: Any) -> torch.Tensor:
    tensor: torch.Tensor = output[0] if isinstance(output, tuple) else output
    return tensor


def _residual_stream(output: Any, rows: torch.Tensor | None = None) -> torch.Tensor | None:
    """Return the given rows of the residual stream after a block, given the block's output.

    Most of vLLM's blocks return the output of their MLP and the residual stream before it.  The next block adds the
    two.  Other blocks return only the sum.
    """
    hidden, residual = output if isinstance(output, tuple) and len(output) == 2 else (output, None)
    if not isinstance(hidden, torch.Tensor):
        return None
    if rows is not None:
        hidden, residual = hidden[rows], None if residual is None else residual[rows]
    return hidden if residual is None else hidden + residual


class _ResidualCheck:
    """Check that the sum of a block's two outputs is the residual stream.

    The norm at the beginning of the next block adds the two, and returns the sum beside the normalised sum.  In some
    models, such as Cohere's, the first output is already the sum, and the norm returns the second output unchanged.
    """

    def __init__(self, blocks: list[torch.nn.Module]) -> None:
        self._class = type(blocks[0]).__name__
        self._expected: torch.Tensor | None = None
        self._reason = f"{self._class} was not called"
        self._handles = [blocks[0].register_forward_hook(self._keep)]
        for module in blocks[1].children() if len(blocks) > 1 else ():
            self._handles.append(module.register_forward_hook(self._compare))

    def end(self) -> str:
        for handle in self._handles:
            handle.remove()
        return self._reason

    def _keep(self, block: torch.nn.Module, inputs: Any, output: Any) -> None:
        self._expected = _residual_stream(output)
        if self._expected is None:
            self._reason = f"{self._class} returns neither one state nor two"
        elif isinstance(output, torch.Tensor) or output[1] is None:
            self._expected, self._reason = None, ""
        else:
            self._reason = f"{self._class} returns two states, and no norm in the next block adds them"

    def _compare(self, module: torch.nn.Module, inputs: Any, output: Any) -> None:
        if self._expected is None or not (isinstance(output, tuple) and len(output) == 2):
            return
        stream, expected = output[1].float(), self._expected.float()
        if stream.shape == expected.shape:
            difference = (stream - expected).abs().max() / expected.abs().max()
            self._reason = (
                "" if difference < _TOLERANCE else f"the residual stream is not the sum of the outputs of {self._class}"
            )
        self._expected = None
