"""Record the hidden states of all generated tokens during generation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from probemap.models.hooks import Site, find_hook_points, forward_hooks, select_layers

if TYPE_CHECKING:
    from probemap.models.engine import States
    from probemap.models.model import Model


class HookRecorder:
    """Forward hooks that record, in every forward pass during generation, the state of the last token of each row.

    Parameters
    ----------
    model : Model
    site : str or Site
        See `hooks.resolve_site`.
    layers : str, sequence of int or None
        See `hooks.select_layers`.
    needs_last : callable
        See `generate.BatchRecorder.needs_last`.
    """

    def __init__(
        self,
        model: Model,
        site: str | Site,
        layers: str | Sequence[int] | None,
        needs_last: Callable[[bool], bool] = lambda ended: True,
    ) -> None:
        hook_points = find_hook_points(model.network, site)
        self._hook_points = [hook_points[k] for k in select_layers(layers, len(hook_points))]
        self.needs_last = needs_last
        self._rows = 0
        self._recorded: list[list[torch.Tensor]] = []

    def _record(self, number: int, module: torch.nn.Module, inputs: Any, output: Any) -> None:
        point = self._hook_points[number]
        hidden = point.state(inputs, output)
        self._recorded[number].append(hidden.reshape(self._rows, -1, point.d)[:, -1].float().cpu())

    def hooked(self, rows: int) -> AbstractContextManager[None]:
        """Return a context manager that records the states in every forward pass of a batch."""
        self._rows, self._recorded = rows, [[] for _ in self._hook_points]
        return forward_hooks({i: point.module for i, point in enumerate(self._hook_points)}, self._record)

    def states(self) -> States:
        """Return and discard the states that have been recorded since the last call of `hooked`.

        Returns
        -------
        ndarray of shape (rows, passes, n_layers, d), float32
            The states at the last token of each pass.  Passes after the end of a row contain padding.
        """
        layers, self._recorded = self._recorded, []
        states: States = np.empty((self._rows, len(layers[0]), len(layers), layers[0][0].shape[1]), np.float32)
        # Each layer is removed when it is copied, because all layers together take much memory.
        for number in range(len(layers)):
            torch.stack(layers.pop(0), 1, out=torch.from_numpy(states)[:, :, number])
        return states
