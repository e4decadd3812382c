"""Hidden states that vLLM extracted while it answered (``extract_hidden_states``): files matched to answers by tokens.

One safetensors file per request, ``hidden_states`` (tokens, layers, d) and ``token_ids`` (tokens,), as vLLM's
ExampleHiddenStatesConnector writes them.  Layer k of vLLM's ``eagle_aux_hidden_state_layer_ids`` is the residual stream
that enters block k, which is the `resid` of block k - 1 here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from probemap.activations.store import ActivationStore, Layout, States, shard_rows_for
from probemap.positions import Indices, digest
from probemap.records import Answer, StoreError

_HINT = "extract with `include_output_tokens`, without prefix caching, and give the folder of the .safetensors files"


@dataclass(frozen=True)
class ExtractedStates:
    """The files of one folder."""

    path_of: dict[tuple[int, ...], Path]
    """Token ids -> file."""
    n_layers: int
    d: int

    @cached_property
    def _lengths(self) -> list[int]:
        """Of the token ids, the longest first."""
        return sorted({len(ids) for ids in self.path_of}, reverse=True)

    def find(self, answer: Answer) -> Path | None:
        """The file of an answer's tokens, or of as many of them as vLLM wrote (all but the last, as a rule)."""
        for length in self._lengths:
            if answer.n_prompt <= length <= len(answer.token_ids) and (
                path := self.path_of.get(answer.token_ids[:length])
            ):
                return path
        return None


def read_extracted(folder: Path) -> ExtractedStates:
    """What vLLM wrote into a folder; the states themselves are not read yet.

    Raises
    ------
    StoreError: no such files, a damaged one, or one whose states and tokens are not as many.
    """
    path_of: dict[tuple[int, ...], Path] = {}
    shapes: set[tuple[int, int]] = set()
    for path in sorted(folder.rglob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                ids = tuple(int(i) for i in file.get_tensor("token_ids").flatten().tolist())
                shape = file.get_slice("hidden_states").get_shape()
        except (SafetensorError, OSError) as error:
            raise StoreError(f"{path} cannot be read: {str(error)[:200]}", _HINT) from None
        if len(shape) != 3 or shape[0] != len(ids):
            raise StoreError(f"{path} holds states of shape {tuple(shape)} for {len(ids)} tokens", _HINT)
        path_of[ids] = path
        shapes.add((int(shape[1]), int(shape[2])))
    if len(shapes) != 1:
        what = f"states of {len(shapes)} shapes" if shapes else "no hidden states"
        raise StoreError(f"{folder} holds {what}", _HINT)
    ((n_layers, d),) = shapes
    return ExtractedStates(path_of, n_layers, d)


def extracted_layout(
    found: ExtractedStates,
    ids: Sequence[int],
    answers: Sequence[Answer],
    indices: Indices,
    positions: Sequence[str],
    store_dtype: str = "float32",
) -> Layout:
    """The layout of a store for these answers and positions.

    Parameters
    ----------
    ids: vLLM's numbers of the layers, in its order.

    Raises
    ------
    StoreError: another number of layers than the files have, or an answer without a file.
    """
    if len(ids) != found.n_layers or len(set(ids)) != len(ids) or min(ids) < 1:
        raise StoreError(
            f"the files hold {found.n_layers} layers; {len(ids)} are named: {', '.join(map(str, ids))}",
            "name each of `eagle_aux_hidden_state_layer_ids` once, in its order; 0 would be the embeddings",
        )
    if lost := [a.id for a in answers if found.find(a) is None]:
        raise StoreError(f"{len(lost)} answers have no file with their tokens, first {lost[0]!r}", _HINT)
    itemsize = np.dtype(store_dtype).itemsize
    return Layout(
        len(answers),
        found.n_layers,
        tuple(positions),
        found.d,
        "resid",
        store_dtype,
        shard_rows_for(len(answers), found.n_layers, len(positions), found.d, itemsize),
        digest(answers, indices),
        tuple(k - 1 for k in ids),
    )


def fill_from_extracted(
    store: ActivationStore,
    found: ExtractedStates,
    answers: Sequence[Answer],
    indices: Indices,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Fill the store's missing shards from the files; how many probed positions lie behind what vLLM wrote."""
    layout, behind = store.layout, 0
    for shard in store.missing_shards():
        rows = layout.rows(shard)
        states = np.full((rows.stop - rows.start, layout.n_layers, len(layout.positions), layout.d), np.nan, np.float32)
        for row in range(rows.start, rows.stop):
            here, late = _at(found.find(answers[row]), indices[row])
            states[row - rows.start] = here
            behind += late
        store.write_shard(shard, states)
        progress(rows.stop, layout.n)
    return behind


def _at(path: Path | None, indices: Any) -> tuple[States, int]:
    """(n_layers, n_positions, d) of one answer, NaN where it has none; and how many positions the file lacks."""
    assert path is not None  # `extracted_layout` has looked for each
    with safe_open(path, framework="pt") as file:
        states = file.get_tensor("hidden_states").to(torch.float32).numpy()
    there = (indices >= 0) & (indices < len(states))
    made = np.full((states.shape[1], len(indices), states.shape[2]), np.nan, np.float32)
    made[:, there] = states[indices[there]].swapaxes(0, 1)
    return made, int((indices >= len(states)).sum())
