"""Write detectors to files, and read and validate these files.

A detector is a directory with three files.  ``detector.safetensors`` contains the arrays.  ``config.json`` contains all
other values, together with checksums of the arrays and of these values.  ``README.md`` is the model card.  Nothing in
these files is ever executed.  Because they are untrusted input, every value is validated before it is used.
"""

import hashlib
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field, TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from probemap.detectors.card import model_card
from probemap.detectors.head import Acceptance, Cell, Evaluation, Head, Threshold
from probemap.detectors.provenance import Provenance
from probemap.records import DetectorError

FORMAT_VERSION = 3
MAX_WIDTH = 1_000_000
"""Maximum hidden size, and also the maximum number of points in an isotonic calibration curve."""

MAX_ABS = 1e100
"""Maximum absolute value of a weight, bias or score.

The product of this value and the largest float32 state, summed over `MAX_WIDTH` features, is still finite.  Detectors
that are fitted to float32 states stay far below this limit.
"""

_ARRAYS = ("weight", "bias", "calibration")
_HINT = "use an unmodified copy of the exported directory, or export the detector again"


class DetectorFiles(NamedTuple):
    """The contents of a detector's files."""

    primary: Head
    fallback: Head | None
    provenance: Provenance | None
    seed: int


class _ChangedError(Exception):
    """Raised if a file's checksum does not match.  Its argument is the name of the file."""


def write_files(directory: Path, content: DetectorFiles) -> None:
    """Write a detector's files.

    An existing detector in the directory is replaced; other files in the directory are not changed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    heads = _heads(content)
    arrays = {
        f"{name}.{array}": np.ascontiguousarray(getattr(head, array))
        for name, head in heads.items()
        for array in _ARRAYS
    }
    tensors = save(arrays)
    config: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "heads": {name: _head_entry(head) for name, head in heads.items()},
        "provenance": content.provenance and asdict(content.provenance),
        "seed": content.seed,
        "tensors_sha256": hashlib.sha256(tensors).hexdigest(),
    }
    config["config_sha256"] = _config_sha256(config)
    card = model_card(content.primary, content.fallback, content.provenance)
    for name, data in (
        ("detector.safetensors", tensors),
        ("config.json", _serialised(config)),
        ("README.md", card.encode()),
    ):
        temporary = directory / f".{name}.part"
        temporary.write_bytes(data)
        temporary.replace(directory / name)


def read_files(directory: Path, name: str) -> DetectorFiles:
    """Read and validate a detector's files.

    Parameters
    ----------
    directory : Path
    name : str
        The directory or address to show in error messages.

    Raises
    ------
    DetectorError
        If a file is missing, was modified, has an unsupported format version, or contains invalid values, such as
        arrays of the wrong shape, numbers that are not finite, or absolute values above `MAX_ABS`.
    """
    try:
        config_bytes = (directory / "config.json").read_bytes()
        tensors = (directory / "detector.safetensors").read_bytes()
    except OSError as error:
        raise DetectorError(
            f"{name} does not contain a detector ({error.strerror})",
            "create one with `probemap export RUN --out DIRECTORY`",
        ) from None
    try:
        content = _parsed(config_bytes, tensors, name)
    except _ChangedError as file:
        raise DetectorError(
            f"{name}/{file} has changed since it was written: its checksum does not match", _HINT
        ) from None
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
        ValidationError,
        SafetensorError,
    ) as error:
        raise DetectorError(f"{name} is not a valid detector: {_reason(error)[:200]}", _HINT) from None
    primary, fallback = content.primary, content.fallback
    if fallback and fallback.weight.shape[1] != primary.weight.shape[1]:
        raise DetectorError(f"{name}: the two heads read states of different widths", _HINT)
    if fallback and _nominal(fallback) != _nominal(primary):
        raise DetectorError(f"{name}: the two heads have thresholds for different false-alarm rates or risks", _HINT)
    return content


def _parsed(config_bytes: bytes, tensors: bytes, name: str) -> DetectorFiles:
    config = json.loads(config_bytes)
    if config["format_version"] != FORMAT_VERSION:
        raise DetectorError(
            f"{name} has format version {config['format_version']!r:.40}, expected {FORMAT_VERSION}",
            "export the detector again with this version of probemap",
        )
    # The checksum covers the parsed values.  Comparing the bytes also detects changes that do not affect these values,
    # such as white space, escape sequences, a repeated key or additional digits of a number.
    if _serialised(config) != config_bytes or config.pop("config_sha256") != _config_sha256(config):
        raise _ChangedError("config.json")
    if hashlib.sha256(tensors).hexdigest() != config["tensors_sha256"]:
        raise _ChangedError("detector.safetensors")
    arrays = load(tensors)
    heads = {head: _parsed_head(head, entry, arrays) for head, entry in config["heads"].items()}
    if set(heads) - {"primary", "fallback"} or len(arrays) != len(_ARRAYS) * len(heads):
        raise ValueError(f"unexpected heads or arrays: {', '.join([*heads, *arrays])}")
    provenance = _PROVENANCE.validate_python(config["provenance"])
    if provenance and provenance.task.max_new_tokens < 1:
        raise ValueError(f"max_new_tokens must be at least 1, got {provenance.task.max_new_tokens}")
    return DetectorFiles(heads["primary"], heads.get("fallback"), provenance, _SEED.validate_python(config["seed"]))


def _heads(content: DetectorFiles) -> dict[str, Head]:
    return {"primary": content.primary} | ({"fallback": content.fallback} if content.fallback else {})


def _head_entry(head: Head) -> dict[str, Any]:
    return {
        "cells": [asdict(cell) for cell in head.cells],
        "calibration_method": head.calibration_method,
        "evaluation": _nan_as_null({k: v for k, v in asdict(head.evaluation).items() if v is not None}),
        "thresholds": [_nan_as_null(asdict(threshold)) for threshold in head.thresholds],
        "acceptances": [_nan_as_null(asdict(acceptance)) for acceptance in head.acceptances],
    }


def _nan_as_null(value: Any) -> Any:
    """Replace numbers that are not finite with None, because JSON has none, in nested dictionaries and sequences."""
    if isinstance(value, dict):
        return {name: _nan_as_null(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_nan_as_null(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _null_as_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _null_as_nan(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_null_as_nan(item) for item in value]
    return math.nan if value is None else value


def _parsed_head(name: str, entry: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]) -> Head:
    stored = [arrays[f"{name}.{array}"] for array in _ARRAYS]
    if any(array.dtype.kind != "f" for array in stored):
        raise ValueError(
            f"{name}: arrays must be floating-point, got {', '.join(str(array.dtype) for array in stored)}"
        )
    with np.errstate(invalid="ignore"):  # converting a signalling NaN causes a warning; NaN is rejected below
        weight, bias, calibration = (np.asarray(array, np.float64) for array in stored)
    cells = _CELLS.validate_python(entry["cells"])
    method = _METHOD.validate_python(entry["calibration_method"])
    if any(cell.layer < 0 for cell in cells):
        raise ValueError(f"{name}: layers must not be negative, got {', '.join(str(cell.layer) for cell in cells)}")
    if (
        weight.ndim != 2
        or not cells
        or not 0 < weight.shape[1] <= MAX_WIDTH
        or weight.shape[0] != len(cells)
        or bias.shape != (len(cells),)
    ):
        raise ValueError(
            f"{name}: weights of shape {weight.shape} and biases of shape {bias.shape} do not match {len(cells)} cells"
        )
    max_points = 1 if method == "platt" else MAX_WIDTH
    if calibration.ndim != 2 or len(calibration) != 2 or not 0 < calibration.shape[1] <= max_points:
        raise ValueError(f"{name}: the calibration has the invalid shape {calibration.shape}")
    if not all(np.isfinite(array).all() for array in (weight, bias, calibration)):
        raise ValueError(f"{name}: the arrays contain values that are not finite")
    if any((abs(array) > MAX_ABS).any() for array in (weight, bias, calibration)):
        raise ValueError(f"{name}: the arrays contain absolute values above {MAX_ABS:g}")
    if (np.diff(calibration) < 0).any() if method == "isotonic" else calibration[0, 0] < 0:
        raise ValueError(f"{name}: the calibration is a decreasing function")
    if method == "isotonic" and not 0 <= calibration[1, 0] <= calibration[1, -1] <= 1:
        raise ValueError(f"{name}: the calibration contains probabilities outside [0, 1]")
    evaluation = _EVALUATION.validate_python(_null_as_nan(entry["evaluation"]))
    thresholds = _THRESHOLDS.validate_python([_null_as_nan(threshold) for threshold in entry["thresholds"]])
    acceptances = _ACCEPTANCES.validate_python([_null_as_nan(acceptance) for acceptance in entry["acceptances"]])
    _check_evaluation(name, evaluation)
    for threshold in thresholds:
        _check_threshold(name, asdict(threshold))
    for acceptance in acceptances:
        _check_threshold(name, asdict(acceptance))
    return Head(
        cells=tuple(cells),
        weight=weight,
        bias=bias,
        calibration=calibration,
        calibration_method=method,
        evaluation=evaluation,
        thresholds=tuple(thresholds),
        acceptances=tuple(acceptances),
    )


def _nominal(head: Head) -> tuple[list[float], list[tuple[float, float]]]:
    return head.false_alarms, [(item.risk, item.confidence) for item in head.acceptances]


def _check_evaluation(name: str, evaluation: Evaluation) -> None:
    values = asdict(evaluation)
    further = values.pop("metrics")
    n, n_correct, *metrics = values.values()
    if (
        not 0 <= n_correct <= n
        or not all(0 <= metric <= 1 if n else math.isnan(metric) for metric in metrics)
        or (further is not None and not n)
    ):
        raise ValueError(f"{name}: the evaluation contains impossible values")


def _check_threshold(name: str, values: dict[str, float]) -> None:
    score = values.pop("score")
    nominal = [values.pop(key) for key in ("false_alarms", "risk", "confidence") if key in values]
    if not (
        all(0 <= share <= 1 for share in nominal)
        and all(0 <= share <= 1 or math.isnan(share) for share in values.values())
        and (abs(score) <= MAX_ABS or math.isnan(score))
        and math.isnan(score) == math.isnan(values["p_correct"])
    ):
        raise ValueError(f"{name}: a threshold contains impossible values")


def _reason(error: Exception) -> str:
    """Return a short description of an error."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    if isinstance(error, KeyError):
        return f"{error} is missing"
    return (str(error).splitlines() or [type(error).__name__])[0]


def _serialised(config: dict[str, Any]) -> bytes:
    """Return the configuration as the bytes of ``config.json``."""
    return json.dumps(config, indent=1, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _config_sha256(config: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


_CELLS: TypeAdapter[list[Cell]] = TypeAdapter(list[Cell])
_METHOD: TypeAdapter[Literal["platt", "isotonic"]] = TypeAdapter(Literal["platt", "isotonic"])
_EVALUATION = TypeAdapter(Evaluation)
_THRESHOLDS: TypeAdapter[list[Threshold]] = TypeAdapter(list[Threshold])
_ACCEPTANCES: TypeAdapter[list[Acceptance]] = TypeAdapter(list[Acceptance])
_PROVENANCE: TypeAdapter[Provenance | None] = TypeAdapter(Provenance | None)
_SEED: TypeAdapter[int] = TypeAdapter(Annotated[int, Field(ge=0)])
