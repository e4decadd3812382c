"""Description of a model to load, which can be created without importing torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:  # torch and transformers take seconds to import, so they are imported only when a model is loaded
    from probemap.models.model import Model


@dataclass(frozen=True)
class Loader:
    """The arguments for loading a model; see `model.load_model`.

    Steps receive a loader and a dictionary of the models that are already loaded, so a model is loaded at most once,
    and only if a step needs it.
    """

    name: str
    """Alias, GGUF file, directory or hub id of the model."""
    revision: str | None = None
    """Branch, tag or commit on the hub."""
    device: str = "auto"
    dtype: str = "auto"
    quantize: Literal["4bit", "8bit"] | None = None
    """Precision to which bitsandbytes quantises the weights at load time, if any."""
    max_memory: str | None = None
    """Memory limit per device, e.g. ``20GiB``; requires ``device="spread"``."""
    template: str | None = None
    """Name of the chat template, for tokenizers with several of them."""
    date: str | None = None
    """Date and time for chat templates that contain the current time; see `model.Model`."""

    def load(self, models: dict[Loader, Model]) -> Model:
        """Return the model from `models`.  On first use, load the model and add it to `models`.

        The model is also added under its actual dtype, so that loaders with that dtype and loaders with ``auto`` share
        it.  Loaders that differ only in `template` and `date` share the weights.
        """
        from probemap.models.model import load_model

        weights = replace(self, template=None, date=None)
        if self not in models and self != weights:
            models[self] = weights.load(models).with_template(self.template, self.date)
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
"""Mapping from each loader to the model that it loaded."""


class Weights(Protocol):
    """Interface of objects that identify a model's weights, such as a loaded model or its description."""

    @property
    def label(self) -> str: ...
    @property
    def revision(self) -> str: ...
    @property
    def dtype(self) -> str: ...
