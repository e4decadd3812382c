"""Read the hidden states at a detector's cells, either in a forward pass or during generation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np

from probemap.models.batching import batches
from probemap.models.engine import Engine, Probe, Recording
from probemap.models.model import out_of_memory_error
from probemap.positions import needs_last_token

if TYPE_CHECKING:
    from probemap.activations.layout import States
    from probemap.detectors.detector import Detector
    from probemap.models.hooks import Site
    from probemap.positions import Indices
    from probemap.records import Answer


@dataclass(frozen=True, kw_only=True)
class CellReader:
    """Reads the hidden states of answers at a detector's cells.  Only layers that contain a cell are recorded."""

    detector: Detector
    engine: Engine
    site: str | Site
    batch_size: int

    @cached_property
    def layers(self) -> list[int]:
        """The layers to record, in ascending order."""
        return sorted({cell.layer for cell in self.detector.cells})

    @cached_property
    def _columns(self) -> list[int]:
        """For each cell, the index of its layer in `layers`."""
        return [self.layers.index(cell.layer) for cell in self.detector.cells]

    def read(self, answers: Sequence[Answer], indices: Indices) -> States:
        """Compute the states in a forward pass over the answers.

        Parameters
        ----------
        answers : sequence of Answer
        indices : ndarray of shape (n, n_cells), int32
            The token index of each cell in each answer, or -1 where the answer lacks the position.

        Returns
        -------
        ndarray of shape (n, n_cells, d), float32
            The states, with NaN where the answer lacks the position.

        Raises
        ------
        ModelError
            If a single answer does not fit in memory.
        """
        width = self.detector.primary.weight.shape[1]
        states = np.full((len(answers), indices.shape[1], width), np.nan, np.float32)

        plan = batches([len(answer.token_ids) for answer in answers], self.batch_size)
        probe = Probe(indices=indices, layers=self.layers, site=self.site)
        for reading in self.engine.read(answers, batches=plan, probe=probe) if plan else ():
            if reading.states is None:
                answer = answers[reading.row]
                raise out_of_memory_error(self.engine.model, answer.id, len(answer.token_ids))
            states[reading.row] = reading.states[self._columns, range(indices.shape[1])]
        return states

    @property
    def recording(self) -> Recording:
        """The states to record while answers are generated.

        If a cell nevertheless falls on a token whose state was not recorded, `read_recorded` computes it.
        """
        positions = [cell.position for cell in self.detector.cells]
        return Recording(layers=self.layers, site=self.site, needs_last=partial(needs_last_token, positions))

    def read_recorded(self, answers: Sequence[Answer], indices: Indices, recorded: Sequence[States]) -> States:
        """Return the states that were recorded during generation.

        An answer's states are recomputed in a forward pass if a position falls on a token whose states were not
        recorded.

        Parameters
        ----------
        answers : sequence of Answer
            The answers in one batch.
        indices : ndarray of shape (n, n_cells), int32
            The token index of each cell in each answer, or -1 where the answer lacks the position.
        recorded : sequence of ndarray of shape (n_layers, n_tokens, d)
            The states recorded for each answer, at the last token of the prompt and at the generated tokens.

        Returns
        -------
        ndarray of shape (n, n_cells, d), float32
            The states, with NaN where the answer lacks the position.
        """
        tokens = indices - np.array([[answer.n_prompt - 1] for answer in answers])
        n_tokens = np.array([[states.shape[1]] for states in recorded])
        is_missing = indices < 0
        unrecorded = np.flatnonzero((~is_missing & ((tokens < 0) | (tokens >= n_tokens))).any(axis=1)).tolist()
        states = np.stack(
            [
                row[self._columns, np.clip(row_tokens, 0, row.shape[1] - 1)]
                for row, row_tokens in zip(recorded, tokens, strict=True)
            ]
        )
        states[is_missing] = np.nan
        states[unrecorded] = self.read([answers[i] for i in unrecorded], indices[unrecorded])
        return states

    def primary_token_states(self, answer: Answer, recorded: States) -> States:
        """Return the states recorded for the generated tokens at the primary head's layers.

        Parameters
        ----------
        answer : Answer
        recorded : ndarray of shape (n_layers, n_tokens, d), float32
            The states recorded for the answer; see `read_recorded`.

        Returns
        -------
        ndarray of shape (n_tokens, n_primary_cells, d), float32
            The states of all generated tokens except the last, which the model does not always process.
        """
        columns = self._columns[: len(self.detector.primary.cells)]
        tokens: States = recorded[columns, 1 : len(answer.produced_ids)].swapaxes(0, 1)
        return tokens
