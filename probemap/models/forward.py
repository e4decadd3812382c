"""Compute the hidden states at the probed tokens of one batch in a single teacher-forced forward pass.

Depending on the site, forward hooks are attached to the blocks or to modules inside them.  The ``hidden_states`` that
transformers returns are not used, because the final norm has been applied to the last of them.  Batches are padded
on the right, so that padding does not shift positions.  Left padding without position ids silently gives incorrect
states in models with learned position embeddings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from probemap.models.hooks import HookPoint, Site, find_hook_points, forward_hooks
from probemap.records import ModelError, StoreError

if TYPE_CHECKING:
    from probemap.models.engine import States, TokenSequence
    from probemap.models.model import Model
    from probemap.models.prefix import Prefix
    from probemap.positions import Indices

_HINT = (
    "the blocks of this model differ from those of the supported models; name the module inside a block, as in "
    "--site attn_out=self_attn, or use --site resid"
)


class _TokenRecorder:
    """Forward hooks that record the states at the probed tokens of one batch, at every hook point.

    Parameters
    ----------
    hook_points : mapping of int to HookPoint
        Mapping from each layer number to its hook point.
    rows, columns : Tensor
        Batch row and token index of each probed token.  The two tensors broadcast to shape (rows, n_positions).
    shape : tuple of int
        Number of rows and padded length of the batch.
    """

    def __init__(
        self, hook_points: Mapping[int, HookPoint], rows: torch.Tensor, columns: torch.Tensor, shape: tuple[int, int]
    ) -> None:
        self.hook_points = hook_points
        self.rows, self.columns = rows, columns
        self.shape = shape
        self.states: dict[int, list[torch.Tensor]] = {layer: [] for layer in hook_points}

    def _record(self, layer: int, module: torch.nn.Module, inputs: Any, output: Any) -> None:
        hook_point = self.hook_points[layer]
        hidden = hook_point.state(inputs, output)
        expected = (*self.shape, hook_point.d)
        if hidden.shape not in (expected, (self.shape[0] * self.shape[1], hook_point.d)):
            raise ModelError(
                f"the states at block {layer} have shape {tuple(hidden.shape)}, expected {expected}", _HINT
            )
        # Some MLPs, such as that of OPT, receive the tokens of all rows along a single axis.
        hidden = hidden.reshape(expected)
        # The blocks may be on different devices.
        rows, columns = self.rows.to(hidden.device), self.columns.to(hidden.device)
        self.states[layer].append(hidden[rows, columns].float())

    def hooked(self) -> AbstractContextManager[None]:
        return forward_hooks({layer: point.module for layer, point in self.hook_points.items()}, self._record)

    def stacked(self) -> torch.Tensor:
        """Return the states as a tensor of shape (rows, n_layers, n_positions, d).

        Raises
        ------
        ModelError
            If a hooked module was not called exactly once.
        """
        for layer, states in self.states.items():
            if len(states) != 1:
                name = type(self.hook_points[layer].module).__name__
                raise ModelError(f"{name} at block {layer} was called {len(states)} times, expected once", _HINT)
        return torch.stack([states[0].to(self.rows.device) for states in self.states.values()], dim=1)


def hidden_states(
    model: Model,
    answers: Sequence[TokenSequence],
    indices: Indices,
    site: str | Site = "resid",
    *,
    prefix: Prefix | None = None,
    layers: Sequence[int] | None = None,
) -> States:
    """Compute the hidden states at the given tokens in one right-padded batch.

    Parameters
    ----------
    model : Model
    answers : sequence of TokenSequence
        For example, of `Answer`.
    indices : ndarray of shape (len(answers), n_positions), int32
        Token index of each position, or -1 where the position is missing.
    site : str or Site
        See `hooks.resolve_site`.
    prefix : Prefix, optional
        Prefix that all prompts share, as returned by `prefix.shared_prefix`.  By default, the forward pass covers all
        tokens.
    layers : sequence of int, optional
        Numbers of the layers to record.  Default: all layers.

    Returns
    -------
    ndarray of shape (len(answers), n_layers, n_positions, d), float32
        Hidden states, with NaN where a position is missing.

    Raises
    ------
    ModelError
        If the site cannot be identified, or if a hooked module is not called exactly once.
    StoreError
        If a state is not finite.  The message names the answer and the layer.
    """
    skipped = 0 if prefix is None else prefix.length
    ids, mask = model.right_padded([a.token_ids[skipped:] for a in answers])
    rows = torch.arange(len(answers))[:, None].to(model.device)
    columns = (torch.from_numpy(indices.astype(np.int64)) - skipped).clamp(min=0).to(model.device)
    cache: dict[str, Any] = {"use_cache": False}
    if prefix is not None:
        mask = torch.cat([mask.new_ones(len(answers), skipped), mask], dim=1)
        cache = {"past_key_values": prefix.rows(len(answers)), "use_cache": True}
    hook_points = find_hook_points(model.network, site)
    numbers = range(len(hook_points)) if layers is None else layers
    recorder = _TokenRecorder({k: hook_points[k] for k in numbers}, rows, columns, (ids.shape[0], ids.shape[1]))
    with torch.inference_mode(), recorder.hooked():
        # The base model is called, because the logits are not needed.
        model.network.base_model(input_ids=ids, attention_mask=mask, **cache)
    states: States = recorder.stacked().cpu().numpy()
    present = indices >= 0
    invalid = ~np.isfinite(states).all(axis=(2, 3), where=present[:, None, :, None])
    if invalid.any():
        row, layer = int(np.argwhere(invalid)[0][0]), numbers[int(np.argwhere(invalid)[0][1])]
        raise StoreError(
            f"the hidden state of answer {answers[row].id!r} at layer {layer} is not finite in {model.dtype}",
            "load the model with --dtype float32 (float16 overflows in many models)",
        )
    states[~np.broadcast_to(present[:, None, :], states.shape[:3])] = np.nan
    return states


def check_site(model: Model, site: str | Site) -> int:
    """Check a site by running a forward pass over two tokens, and return the width of its states.

    Raises
    ------
    ModelError
        If the site cannot be identified, or if a hooked module is not called exactly once or does not return one
        state per token.
    """
    hook_points = find_hook_points(model.network, site)
    ids, mask = model.right_padded([(min(model.end_ids, default=0),) * 2])
    zero = torch.zeros((1, 1), dtype=torch.long, device=model.device)
    recorder = _TokenRecorder(dict(enumerate(hook_points)), zero, zero, (1, 2))
    with torch.inference_mode(), recorder.hooked():
        model.network.base_model(input_ids=ids, attention_mask=mask, use_cache=False)
    recorder.stacked()
    return hook_points[0].d
