"""Inline capture: hidden states recorded during generation, so that no second forward pass is needed.

The states are recorded by an engine, or extracted by a vLLM server.  A rule-based locator (see `grading.locate`) can
find the exact answer as soon as an answer has been generated.  The probed tokens are then known, so only their states
are kept.  They are written to one file per batch.  The capture step later reads these files and computes only the
states that they do not contain.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from probemap.activations.layout import states_at
from probemap.activations.reader import Reader
from probemap.grading.locate import locate_answer
from probemap.models.answering import Recorder
from probemap.models.engine import Reading, Recording
from probemap.models.hooks import select_layers
from probemap.positions import Indices, digest, needs_last_token, token_indices

if TYPE_CHECKING:
    from probemap.activations.layout import Layout, States
    from probemap.models.model import Model
    from probemap.records import Answer, Task


@dataclass(frozen=True, kw_only=True)
class InlineCapture:
    """Records the states of a run's answers during generation, and keeps them in files until the capture step."""

    folder: Path
    model: Model
    task: Task
    positions: tuple[str, ...]
    site: str
    layers: str | None

    @property
    def recorder(self) -> Recorder:
        """A recorder for the hidden states of all batches."""
        layers = select_layers(self.layers, self.model.n_layers)
        needs_last = partial(needs_last_token, self.positions)
        return Recorder(Recording(layers=layers, site=self.site, needs_last=needs_last), self.write)

    def write(self, batch: int, answers: Sequence[Answer], recorded: Sequence[States]) -> None:
        """Write the states of the probed tokens of one batch.

        Parameters
        ----------
        batch : int
            Batch number, which is used as the file name.
        answers : sequence of Answer
        recorded : sequence of ndarray of shape (n_layers, n_tokens, d), float32
            The states at the last prompt token and at the produced tokens of each answer.  The states at the last
            tokens may be missing.
        """
        examples = {e.id: e for e in self.task.examples}
        spans = [locate_answer(self.task, examples[a.id], a)[0] for a in answers]
        indices = token_indices(answers, spans, self.positions)
        selected = [
            states_at(tokens, row - (answer.n_prompt - 1))
            for answer, tokens, row in zip(answers, recorded, indices, strict=True)
        ]
        digests = _digests(answers, indices)
        is_partial = [bool(np.isnan(s[0, row >= 0]).any()) for s, row in zip(selected, indices, strict=True)]
        metadata = {
            "weights": self.model.weights,
            "site": self.site,
            "layers": select_layers(self.layers, self.model.n_layers),
            "positions": list(self.positions),
            "rows": digests,
            "partial": [key for key, partial in zip(digests, is_partial, strict=True) if partial],
        }
        self.folder.mkdir(exist_ok=True)
        temporary = self.folder / f".{batch:06d}.part"
        # safetensors writes the raw memory of an array and ignores its strides.
        save_file({"states": np.stack(selected)}, temporary, {"capture": json.dumps(metadata)})
        temporary.replace(self.folder / f"{batch:06d}.safetensors")


@dataclass(frozen=True, kw_only=True)
class CachedReader(Reader):
    """Reads the states that were recorded during generation, and computes the states of all other answers."""

    folder: Path
    """Folder that contains the files written by an `InlineCapture`."""

    def missing(self, rows: Sequence[int]) -> list[int]:
        keys = zip(rows, self._digests(rows), strict=True)
        return [row for row, key in keys if key not in self._index or key in self._partial]

    def readings(self, batches: Sequence[Sequence[int]]) -> Iterator[Reading]:
        """Compute the states of batches of answers, and keep those that were recorded during generation."""
        keys = dict(zip(rows := [row for batch in batches for row in batch], self._digests(rows), strict=True))
        if n := sum(key in self._partial for key in keys.values()):
            self.log(
                f"the states at some tokens of {n} answers, such as the last token, were not recorded during "
                "generation: they are computed"
            )
        for reading in super().readings(batches):
            if keys[reading.row] in self._partial and reading.states is not None:
                recorded = self.recorded([reading.row])[0]
                reading = replace(reading, states=np.where(np.isnan(recorded), reading.states, recorded))
            yield reading

    def recorded(self, rows: Sequence[int]) -> States:
        states = np.empty((len(rows), *self.layout.shape[1:]), np.float32)
        rows_of_file: dict[Path, dict[int, int]] = {}
        for i, key in enumerate(self._digests(rows)):
            file, row = self._index[key]
            rows_of_file.setdefault(file, {})[i] = row
        for file, row_of in rows_of_file.items():
            with safe_open(file, framework="numpy") as content:
                cached = content.get_slice("states")
                for i, row in row_of.items():
                    states[i] = cached[row]
        return states

    def _digests(self, rows: Sequence[int]) -> list[str]:
        return _digests([self.answers[row] for row in rows], self.indices[list(rows)])

    @cached_property
    def _index(self) -> Mapping[str, tuple[Path, int]]:
        """Mapping from the digest of each answer to the file and the row that contain its states."""
        required = {"weights": self.engine.model.weights, **_required_metadata(self.layout)}
        index = {}
        for file in sorted(self.folder.glob("*.safetensors")):
            metadata = _read_metadata(file)
            if required.items() <= metadata.items():
                index.update({key: (file, row) for row, key in enumerate(metadata["rows"])})
        return index

    @cached_property
    def _partial(self) -> frozenset[str]:
        """Digests of the answers of which only some states were recorded."""
        files = {file for file, _ in self._index.values()}
        return frozenset(key for file in files for key in _read_metadata(file).get("partial", []))


def covers_layout(folder: Path, layout: Layout) -> bool:
    """Return True if all files in the folder contain states for the site, layers and positions of the layout."""
    required = _required_metadata(layout)
    return all(required.items() <= _read_metadata(file).items() for file in folder.glob("*.safetensors"))


def _required_metadata(layout: Layout) -> dict[str, Any]:
    return {"site": layout.site, "layers": layout.layer_numbers, "positions": list(layout.positions)}


def _read_metadata(file: Path) -> dict[str, Any]:
    """Return the metadata of a file, or an empty dict if the file cannot be read."""
    try:
        with safe_open(file, framework="numpy") as content:
            metadata = json.loads(content.metadata()["capture"])
    except (SafetensorError, KeyError, ValueError, TypeError, OSError):
        return {}
    return metadata if isinstance(metadata, dict) else {}


def _digests(answers: Sequence[Answer], indices: Indices) -> list[str]:
    """Return one hash per answer, computed from the token ids and indices that determine its states."""
    return [digest([answer], indices[[row]]) for row, answer in enumerate(answers)]
