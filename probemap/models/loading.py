"""How to load a model, said before anything heavy is imported, and done once."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # torch and transformers load in seconds; only the steps that need them pay
    from probemap.models.model import Model


@dataclass(frozen=True)
class Loader:
    """How to load a model; `run_all` loads it once for all steps, and only if one needs it."""

    name: str
    revision: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    quantize: Literal["4bit", "8bit"] | None = None
    """Weights in fewer bits as they are loaded, by bitsandbytes."""
    max_memory: str | None = None
    """Of each device, as ``20GiB``, where `device` is ``spread``."""

    def load(self, cache: dict["Loader", "Model"]) -> "Model":
        from probemap.models.model import load_model

        if self not in cache:
            cache[self] = load_model(
                self.name,
                revision=self.revision,
                device=self.device,
                dtype=self.dtype,
                quantize=self.quantize,
                max_memory=self.max_memory,
            )
        return cache[self]


Models = dict[Loader, "Model"]
