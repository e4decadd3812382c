"""Match hidden states that vLLM extracted during generation to answers, and write them to a store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from probemap.activations.layout import Layout, shard_rows_for, states_at
from probemap.models.extracted import ExtractedFile, open_extracted
from probemap.positions import Indices, digest
from probemap.records import Answer, StoreError

if TYPE_CHECKING:
    from probemap.activations.store import ActivationStore

_HINT = "enable `include_output_tokens`, disable prefix caching, and pass the folder with the .safetensors files"


@dataclass(frozen=True)
class ExtractedStates:
    """The files in one folder that contain extracted hidden states."""

    files: dict[tuple[int, ...], ExtractedFile]
    """Mapping from the token ids in each file to the file."""
    n_layers: int
    d: int

    @cached_property
    def _lengths(self) -> list[int]:
        """Distinct lengths of the token sequences, in descending order."""
        return sorted({len(ids) for ids in self.files}, reverse=True)

    def find(self, answer: Answer) -> ExtractedFile | None:
        """Return the file whose tokens are the longest prefix of the answer's tokens, or None if no file matches.

        The prefix must contain the whole prompt.  It rarely includes the last token of the answer, because vLLM usually
        omits that token.
        """
        for length in self._lengths:
            if answer.n_prompt <= length <= len(answer.token_ids) and (
                file := self.files.get(answer.token_ids[:length])
            ):
                return file
        return None


def read_extracted(folder: Path) -> ExtractedStates:
    """Read the token ids and the array shapes, but not the states, from all files in a folder.

    Raises
    ------
    StoreError
        If the folder contains no .safetensors files, if a file cannot be read (see `open_extracted`), or if the number
        of layers or the width of the states is not the same in all files.
    """
    files = [open_extracted(path) for path in sorted(folder.rglob("*.safetensors"))]
    shapes = {(file.n_layers, file.d) for file in files}
    if len(shapes) != 1:
        content = f"states of {len(shapes)} different shapes" if shapes else "no hidden states"
        raise StoreError(f"{folder} contains {content}", _HINT)
    ((n_layers, d),) = shapes
    return ExtractedStates({file.token_ids: file for file in files}, n_layers, d)


def extracted_layout(
    extracted: ExtractedStates,
    server_layers: Sequence[int],
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
    server_layers : sequence of int
        The layers in the files; see `Endpoint.layers`.
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
        If `server_layers` does not contain one number for each layer in the files, or if an answer has no matching
        file.
    """
    if len(server_layers) != extracted.n_layers:
        raise StoreError(
            f"the files contain {extracted.n_layers} layers, but --server-layers names {len(server_layers)}: "
            f"{', '.join(map(str, server_layers))}",
            "list the server's `eagle_aux_hidden_state_layer_ids`",
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
        layers=tuple(k - 1 for k in server_layers),
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
            file = extracted.find(answers[row])
            assert file is not None  # `extracted_layout` has checked every answer
            states[row - rows.start] = states_at(file.read(), indices[row])
            n_omitted += int((indices[row] >= len(file.token_ids)).sum())
        store.write_shard(shard, states)
        progress(rows.stop, layout.n)
    return n_omitted
