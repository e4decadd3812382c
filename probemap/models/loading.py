"""How to load a model or reach a server; importing this module does not import torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:  # torch and transformers take seconds to import; only steps that use a model pay for it
    from probemap.models.model import Model


@dataclass(frozen=True)
class Loader:
    """How to load a model; see `model.load_model`.

    Steps receive a loader and a cache of loaded models, so that a model is loaded at most once, and only if a step
    needs it.
    """

    name: str
    """Alias, GGUF file, directory or hub id."""
    revision: str | None = None
    """Branch, tag or commit on the hub."""
    device: str = "auto"
    dtype: str = "auto"
    quantize: Literal["4bit", "8bit"] | None = None
    """Quantise the weights with bitsandbytes at load time."""
    max_memory: str | None = None
    """Memory limit per device, e.g. ``20GiB``, for the device ``spread``."""

    def load(self, models: dict[Loader, Model]) -> Model:
        """Return the model from `models`; load it and add it on first use.

        It is also added under its actual dtype, so that a loader with that dtype and one with ``auto`` share it.
        """
        from probemap.models.model import load_model

        if self not in models:
            model = load_model(
                self.name,
                revision=self.revision,
                device=self.device,
                dtype=self.dtype,
                quantize=self.quantize,
                max_memory=self.max_memory,
            )
            models[self] = models[replace(self, dtype=model.dtype)] = model
        return models[self]


Models = dict[Loader, "Model"]
"""The models that have been loaded."""


class Weights(Protocol):
    """Identity of the weights: a loaded model, or a description of one."""

    @property
    def label(self) -> str: ...
    @property
    def revision(self) -> str: ...
    @property
    def dtype(self) -> str: ...
