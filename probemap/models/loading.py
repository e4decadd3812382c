"""How to load a model or reach a server, described before torch is imported."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol
from urllib.parse import urlsplit

from probemap.records import RunError

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
            model = load_model(
                self.name,
                revision=self.revision,
                device=self.device,
                dtype=self.dtype,
                quantize=self.quantize,
                max_memory=self.max_memory,
            )
            cache[self] = cache[replace(self, dtype=model.dtype)] = model  # what ``auto`` stands for
        return cache[self]


Models = dict[Loader, "Model"]


@dataclass(frozen=True)
class Endpoint:
    """A server that speaks OpenAI's protocol."""

    url: str
    """Its base, e.g. ``http://127.0.0.1:8000/v1``."""
    served: str = ""
    """What the server calls the model; empty: the only one that it serves."""
    in_flight: int = 16
    """Requests at once."""

    def __post_init__(self) -> None:
        """Raises RunError: the URL holds a password, which would be written into the run folder."""
        if "@" in urlsplit(self.url).netloc:
            raise RunError("the server's URL holds a user or a password", "set OPENAI_API_KEY, and leave it out")


class Weights(Protocol):
    """Identity of the weights: a loaded model, or a description of one."""

    @property
    def label(self) -> str: ...
    @property
    def revision(self) -> str: ...
    @property
    def dtype(self) -> str: ...
