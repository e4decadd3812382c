"""vLLM's connector that writes hidden states, with the CUDA calls that it makes replaced, so that it runs on the CPU.

The server imports this module (``kv_connector_module_path``).
"""

from contextlib import nullcontext
from typing import Any

import torch
from vllm.distributed.kv_transfer.kv_connector.v1 import example_hidden_states_connector as connector


class _Event:
    """An event that has already happened, because operations on the CPU are complete when they return."""

    def record(self, stream: Any = None) -> None: ...
    def synchronize(self) -> None: ...
    def query(self) -> bool:
        return True


class _Stream:
    def wait_event(self, event: _Event) -> None: ...


class _Cuda:
    Event, Stream, stream = _Event, _Stream, nullcontext


class _Torch:
    """The module torch, without CUDA and without pinned memory."""

    cuda = _Cuda

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def empty_like(self, tensor: torch.Tensor, **options: Any) -> torch.Tensor:
        return torch.empty_like(tensor)


connector.torch = _Torch()
connector.gpu_sync_allowed = nullcontext


class CPUHiddenStatesConnector(connector.ExampleHiddenStatesConnector):  # type: ignore[misc]  # vLLM has no types here
    """The connector, under a name that vLLM does not know."""
