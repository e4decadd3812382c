"""Check the files of a model directory.

transformers ignores some damaged files, e.g. a generation configuration that is not JSON, and reports others with a
message that does not name the file.
"""

from __future__ import annotations

import json
from pathlib import Path

from probemap.file_content import placeholder
from probemap.records import ModelError

SUFFIXES = (".json", ".safetensors", ".model", ".jinja", ".txt")
"""Suffixes of the files that determine a model's outputs: configuration, tokenizer and weights."""

_OBJECTS = ("config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json")
"""Files that contain a JSON object."""

_IGNORED_IF_DAMAGED = ("generation_config.json", "chat_template.jinja")
"""Optional files that change a model's answers.  transformers ignores them if they are damaged."""

_MAX_HEADER = 100_000_000
"""Maximum number of bytes in the header of a safetensors file, as defined by the format."""

_AGAIN = "download it again"


def model_files(directory: Path) -> list[Path]:
    """Return the files that determine a model's outputs, in alphabetical order.

    Parameters
    ----------
    directory : Path
        Directory of the model.
    """
    return sorted(path for path in directory.iterdir() if path.suffix in SUFFIXES and path.is_file())


def check_ignored_files(directory: Path) -> None:
    """Check the files that transformers would ignore if they were damaged.

    Parameters
    ----------
    directory : Path
        Directory of the model.

    Raises
    ------
    ModelError
        If one of them is damaged.
    """
    for name in _IGNORED_IF_DAMAGED:
        path = directory / name
        if path.is_file() and (problem := _problem(path)):
            raise ModelError(*problem)


def damaged_file(directory: Path) -> tuple[str, str] | None:
    """Return a problem and a hint for the first damaged file of a model that could not be loaded, or None.

    Parameters
    ----------
    directory : Path
        Directory of the model.  If it does not exist, the result is None.

    Returns
    -------
    tuple of (str, str) or None
        A sentence that states the problem, and advice.
    """
    if not directory.is_dir():
        return None
    return next((problem for path in model_files(directory) if (problem := _problem(path))), None)


def _problem(path: Path) -> tuple[str, str] | None:
    may_be_empty = path.suffix not in (".json", ".safetensors", ".model") and not path.stat().st_size
    if not may_be_empty and (problem := placeholder(path)):
        return problem
    if path.name in _OBJECTS:
        try:
            content = json.loads(path.read_bytes())
        except (ValueError, RecursionError) as error:
            return f"{path} is not valid JSON ({error})", _AGAIN
        if not isinstance(content, dict):
            return f"{path} contains a JSON {type(content).__name__}, expected an object", _AGAIN
    if path.suffix == ".safetensors" and (reason := _safetensors_problem(path)):
        return f"{path} {reason}", _AGAIN
    return None


def _safetensors_problem(path: Path) -> str:
    """Return how a safetensors file differs from its own header, or an empty string.

    The header is JSON, preceded by its length in eight bytes, and contains the range of bytes of each tensor.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length <= min(size - 8, _MAX_HEADER):
            return "is not a safetensors file, or only its beginning"
        try:
            tensors = json.loads(file.read(length))
            ends = [entry["data_offsets"][1] for name, entry in tensors.items() if name != "__metadata__"]
            expected = 8 + length + max(ends, default=0)
        except (ValueError, RecursionError, AttributeError, LookupError, TypeError):
            return "is not a safetensors file: its header is damaged"
    return "" if expected == size else f"is incomplete: it has {size} bytes, expected {expected}"
