"""Hidden states of every produced token, recorded during generation."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch

from probemap.activations.hooks import find_hook_points, forward_hooks, parse_layers
from probemap.activations.store import States
from probemap.models.model import Model


class HookRecorder:
    """Hooks that keep, at every forward pass of a generation, the states of each row's last token.

    Parameters
    ----------
    needs_last: as `generate.HookRecorder.needs_last`.
    """

    def __init__(
        self,
        model: Model,
        site: str,
        layers: str | None,
        rows: int,
        needs_last: Callable[[bool], bool] = lambda ended: True,
    ) -> None:
        hook_points = find_hook_points(model.network, site)
        numbers = range(len(hook_points)) if layers is None else parse_layers(layers, len(hook_points))
        self._taps = [hook_points[k] for k in numbers]
        self._rows = rows
        self.needs_last = needs_last
        self._kept: list[list[torch.Tensor]] = [[] for _ in self._taps]

    def _keep(self, number: int, module: torch.nn.Module, inputs: Any, output: Any) -> None:
        hook_point = self._taps[number]
        hidden = hook_point.state(inputs, output)
        self._kept[number].append(hidden.reshape(self._rows, -1, hook_point.d)[:, -1].float().cpu())

    def hooked(self) -> AbstractContextManager[None]:
        return forward_hooks({i: hook_point.module for i, hook_point in enumerate(self._taps)}, self._keep)

    def states(self) -> States:
        """float32 (rows, passes, n_layers, d): pass t saw, of a row that goes on, its t-th produced token, counted from
        1; pass 0 the prompt's last one.  The last token's pass is there if it was needed, or if other rows went on."""
        made: States = torch.stack([torch.stack(kept, 1) for kept in self._kept], 2).numpy()
        return made
