"""Hidden states taken while the model answers, so that capturing needs no second pass over those answers.

Rules can say where the exact answer is as soon as an answer is there (`locate`), so that the states of the probed
tokens alone are kept, one file per batch.  What else the capture step asks for it captures itself.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from probemap.activations.capture import Reader
from probemap.activations.hooks import parse_layers
from probemap.activations.recorder import HookRecorder
from probemap.activations.store import Layout, States
from probemap.grading.locate import locate_answer
from probemap.models.model import Model
from probemap.positions import Indices, digest, token_indices
from probemap.records import Answer, Task


@dataclass(frozen=True)
class InlineCapture:
    """Takes the states of a run's answers, and keeps them until they are captured."""

    folder: Path
    model: Model
    task: Task
    positions: tuple[str, ...]
    site: str
    layers: str | None

    def watch(self, rows: int) -> HookRecorder:
        """For a batch of so many rows."""
        return HookRecorder(self.model, self.site, self.layers, rows)

    def write(self, number: int, answers: Sequence[Answer], seen: Sequence[States]) -> None:
        """Keep a batch.

        Parameters
        ----------
        seen: of each answer (passes, n_layers, d), as `HookRecorder.states`, the last token's pass included.
        """
        examples = {e.id: e for e in self.task.examples}
        spans = [locate_answer(self.task, examples[a.id], a)[0] for a in answers]
        indices = token_indices(answers, spans, self.positions)
        kept = np.stack(
            [
                states[np.maximum(row - (answer.n_prompt - 1), 0)].swapaxes(0, 1)
                for answer, states, row in zip(answers, seen, indices, strict=True)
            ]
        )
        kept[np.broadcast_to((indices < 0)[:, None, :], kept.shape[:3])] = np.nan
        numbers = range(self.model.n_layers) if self.layers is None else parse_layers(self.layers, self.model.n_layers)
        said = {
            "weights": self.model.weights,
            "site": self.site,
            "layers": list(numbers),
            "positions": list(self.positions),
            "rows": _marks(answers, indices),
        }
        self.folder.mkdir(exist_ok=True)
        part = self.folder / f".{number:06d}.part"
        # safetensors writes the memory as it lies, whatever the axes say.
        save_file({"states": np.ascontiguousarray(kept)}, part, {"taken": json.dumps(said)})
        part.replace(self.folder / f"{number:06d}.safetensors")


@dataclass(frozen=True)
class CachedReader(Reader):
    """Reads states that were taken while the model answered, and captures the others; a `capture.Reader`."""

    folder: Path = Path()
    """Of a `InlineCapture`."""

    def look(self, some: list[int]) -> States:
        marks = _marks([self.answers[i] for i in some], self.indices[some])
        layout = self.layout
        states = np.empty((len(some), layout.n_layers, len(layout.positions), layout.d), np.float32)
        missing = [at for at, mark in enumerate(marks) if mark not in self._taken]
        if missing:
            states[missing] = super().look([some[at] for at in missing])
        taken: dict[Path, dict[int, int]] = {}
        for at, mark in enumerate(marks):
            if mark in self._taken:
                file, row = self._taken[mark]
                taken.setdefault(file, {})[at] = row
        for file, rows in taken.items():
            with safe_open(file, framework="numpy") as content:
                there = content.get_slice("states")
                for at, row in rows.items():
                    states[at] = there[row]
        return states

    @cached_property
    def _taken(self) -> Mapping[str, tuple[Path, int]]:
        """Mark of an answer -> file and row of its states."""
        wanted = {"weights": self.model.weights, **_kind(self.layout)}
        found = {}
        for file in sorted(self.folder.glob("*.safetensors")):
            said = _said(file)
            if wanted.items() <= said.items():
                found.update({mark: (file, row) for row, mark in enumerate(said["rows"])})
        return found


def covers_layout(folder: Path, layout: Layout) -> bool:
    """True if all that was taken is of this layout's site, layers and positions."""
    return all(_kind(layout).items() <= _said(file).items() for file in folder.glob("*.safetensors"))


def _kind(layout: Layout) -> dict[str, Any]:
    """What a file says if its states are such as the layout holds."""
    return {"site": layout.site, "layers": layout.layer_numbers, "positions": list(layout.positions)}


def _said(file: Path) -> dict[str, Any]:
    """What a file says of itself; nothing if it cannot be read."""
    try:
        with safe_open(file, framework="numpy") as content:
            found = json.loads(content.metadata()["taken"])
    except (SafetensorError, KeyError, ValueError, TypeError, OSError):
        return {}
    return found if isinstance(found, dict) else {}


def _marks(answers: Sequence[Answer], indices: Indices) -> list[str]:
    """For each answer what its states depend on, as a hash."""
    return [digest([answer], indices[[row]]) for row, answer in enumerate(answers)]
