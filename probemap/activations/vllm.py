"""Read hidden states that vLLM extracted during generation (``extract_hidden_states``), and match them to answers.

vLLM's ``ExampleHiddenStatesConnector`` writes one safetensors file per request, with the arrays ``hidden_states`` of
shape (tokens, layers, d) and ``token_ids`` of shape (tokens,).  The value k in ``eagle_aux_hidden_state_layer_ids``
refers to the residual stream that enters block k, which is the ``resid`` site of block k - 1 in this package.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open

from probemap.activations.layout import Layout, States, shard_rows_for
from probemap.positions import Indices, digest
from probemap.records import Answer, StoreError

if TYPE_CHECKING:
    from probemap.activations.store import ActivationStore

_HINT = "enable `include_output_tokens`, disable prefix caching, and pass the folder with the .safetensors files"


@dataclass(frozen=True)
class ExtractedStates:
    """The files in one folder that contain extracted hidden states."""

    path_of: dict[tuple[int, ...], Path]
    """Mapping from the token ids in each file to the path of the file."""
    n_layers: int
    d: int

    @cached_property
    def _lengths(self) -> list[int]:
        """Distinct lengths of the token sequences, in descending order."""
        return sorted({len(ids) for ids in self.path_of}, reverse=True)

    def find(self, answer: Answer) -> Path | None:
        """Return the file whose tokens are the longest prefix of the answer's tokens, or None if no file matches.

        The prefix must contain the whole prompt.  It rarely includes the last token of the answer, because vLLM usually
        omits that token.
        """
        for length in self._lengths:
            if answer.n_prompt <= length <= len(answer.token_ids) and (
                path := self.path_of.get(answer.token_ids[:length])
            ):
                return path
        return None


def read_extracted(folder: Path) -> ExtractedStates:
    """Read the token ids and the array shapes, but not the states, from all files in a folder.

    Raises
    ------
    StoreError
        If the folder contains no .safetensors files, if a file is damaged, if a file does not contain one state per
        token, or if the number of layers or the width of the states is not the same in all files.
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
            raise StoreError(f"{path} contains states of shape {tuple(shape)} for {len(ids)} tokens", _HINT)
        path_of[ids] = path
        shapes.add((int(shape[1]), int(shape[2])))
    if len(shapes) != 1:
        content = f"states of {len(shapes)} different shapes" if shapes else "no hidden states"
        raise StoreError(f"{folder} contains {content}", _HINT)
    ((n_layers, d),) = shapes
    return ExtractedStates(path_of, n_layers, d)


def extracted_layout(
    extracted: ExtractedStates,
    layer_ids: Sequence[int],
    answers: Sequence[Answer],
    indices: Indices,
    positions: Sequence[str],
    *,
    store_dtype: str = "float32",
) -> Layout:
    """Return the layout of a store for the extracted states of the given answers.

    Parameters
    ----------
    extracted : ExtractedStates
    layer_ids : sequence of int
        The ``eagle_aux_hidden_state_layer_ids`` that were passed to vLLM, in their original order.
    answers : sequence of Answer
    indices : ndarray of shape (len(answers), n_positions), int32
        Token index of each position, or -1 where the position is missing.
    positions : sequence of str
        Names of the columns of `indices`.
    store_dtype : str
        Data type of the stored states: ``float32`` or ``float16``.

    Raises
    ------
    StoreError
        If `layer_ids` does not contain one distinct positive number for each layer in the files, or if an answer has
        no matching file.
    """
    if len(layer_ids) != extracted.n_layers or len(set(layer_ids)) != len(layer_ids) or min(layer_ids) < 1:
        raise StoreError(
            f"the files contain {extracted.n_layers} layers, got {len(layer_ids)} layer ids: "
            f"{', '.join(map(str, layer_ids))}",
            "list each value of `eagle_aux_hidden_state_layer_ids` once, in the order in which they were passed to "
            "vLLM; the value 0, which refers to the embeddings, is not supported",
        )
    if unmatched := [a.id for a in answers if extracted.find(a) is None]:
        raise StoreError(
            f"{len(unmatched)} answers have no file with their tokens, for example {unmatched[0]!r}", _HINT
        )
    row_bytes = extracted.n_layers * len(positions) * extracted.d * np.dtype(store_dtype).itemsize
    return Layout(
        n=len(answers),
        n_layers=extracted.n_layers,
        positions=tuple(positions),
        d=extracted.d,
        site="resid",
        dtype=store_dtype,
        shard_rows=shard_rows_for(len(answers), row_bytes),
        made_from=digest(answers, indices),
        layers=tuple(k - 1 for k in layer_ids),
    )


def fill_from_extracted(
    store: ActivationStore,
    extracted: ExtractedStates,
    answers: Sequence[Answer],
    indices: Indices,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Write the missing shards of a store, reading the states from the extracted files.

    Parameters
    ----------
    store : ActivationStore
        Store that was created with the layout from `extracted_layout`.
    extracted : ExtractedStates
    answers, indices
        See `extracted_layout`.
    progress : callable
        Called with the number of answers processed so far and the total number of answers.

    Returns
    -------
    int
        Number of probed tokens that vLLM omitted from the files.  Their states are NaN.
    """
    layout, n_omitted = store.layout, 0
    for shard in store.missing_shards():
        rows = layout.rows(shard)
        states = np.full((layout.size(shard), *layout.shape[1:]), np.nan, np.float32)
        for row in range(rows.start, rows.stop):
            path = extracted.find(answers[row])
            assert path is not None  # `extracted_layout` has checked every answer
            states[row - rows.start], omitted = _read_states(path, indices[row])
            n_omitted += omitted
        store.write_shard(shard, states)
        progress(rows.stop, layout.n)
    return n_omitted


def _read_states(path: Path, indices: npt.NDArray[np.int32]) -> tuple[States, int]:
    """Return the states of one answer and the number of probed tokens that are not in the file.

    The states have shape (n_layers, n_positions, d).
    """
    with safe_open(path, framework="pt") as file:
        tokens = file.get_tensor("hidden_states").to(torch.float32).numpy()
    present = (indices >= 0) & (indices < len(tokens))
    states = np.full((tokens.shape[1], len(indices), tokens.shape[2]), np.nan, np.float32)
    states[:, present] = tokens[indices[present]].swapaxes(0, 1)
    return states, int((indices >= len(tokens)).sum())
