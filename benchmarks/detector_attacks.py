"""Files of malicious detectors: the attacks of ``hostile_detector.py``.

Each attack changes the files of a small valid detector.  The first line of its docstring is its row of the table.
"""

import hashlib
import json
import random
import struct
import tempfile
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from probemap.detectors.fit import fit_detector
from probemap.detectors.provenance import Provenance
from probemap.records import Task

EXECUTED = "executed-by-a-pickle"
"""A directory that a pickle creates in the working directory if it is unpickled."""
PICKLES = (
    b"cos\nmkdir\n(S'" + EXECUTED.encode() + b"'\ntR.",
    b"\x80\x04\x8c\x02os\x94\x8c\x05mkdir\x94\x93\x94\x8c\x01r\x94\x85\x94R\x94.",
    b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,), }" + b" " * 55 + b"\n\x80\x04N.",
    b"PK\x03\x04data.pkl",
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 7, 2**31, 2**53, 2**63, -(2**63), 2**64, 10**400, 1_000_001),
    *(0.5, -0.5, 0.0, -0.0, 1.5, 5e-324, 1e-300, 1e30, 1e99, 1.1e100, 1e308, -1e308),
    *(float("inf"), float("-inf"), float("nan")),
    *("", "x", "0", "-1", "nan", "inf", "1e999", "primary", "fallback", "platt", "isotonic", "\ud800", "\0", "ä" * 9),
    *("{question.__class__}", "{", "../../x", "--\n---\nlicense: mit\n", "<script>", "x" * 100_000, "a" * 64),
    *([], {}, [[]], [None], [1], ["x"], [1e308], [[["x", "y"]]], {"": None}, {"x": 1}, {"n": 1}, {"layer": 0}),
    *([0] * 1000, {str(k): k for k in range(300)}, {"layer": 10**9, "position": "-1"}),
)
NUMBERS = (
    *(0.0, -0.0, 1.0, -1.0, 5e-324, 1e-310, 1e30, 1e99, 1e100, 1.1e100, -1e101, 1e308, -1e308),
    *(np.inf, -np.inf, np.nan),
)
DTYPES = (
    *("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U64", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "C64", "F4"),
    *("", "f64", "O", "object", "X" * 1000),
)
DTYPE_BYTES = {"F64": 8, "I64": 8, "U64": 8, "C64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2}
Files = dict[str, bytes]
"""File name -> content."""


@cache
def valid_detectors() -> list[Files]:
    """Return three valid detectors: Platt scaling with a fallback, isotonic calibration, and one without evaluation."""
    rng = np.random.default_rng(0)
    detectors: list[Files] = []
    for n, held_out in ((300, 0.4), (2000, 0.3), (200, None)):
        correct = rng.random(n) < 0.5
        states = rng.normal(size=(n, 2, 2, 3)).astype(np.float32)
        states[:, 1, 0, 0] += 2 * correct
        states[::7, :, 0] = np.nan
        provenance = Provenance(
            model="m",
            task=Task("t", (), "open"),
            prompt_format="chat",
            locator="none",
            name="o/m",
            revision="a" * 40,
            dtype="float32",
            template="b" * 64,
            versions={"x": "1"},
        )
        with tempfile.TemporaryDirectory() as folder:
            positions = ["exact_answer_last", "-1"]
            fit_detector(states, correct, positions=positions, held_out=held_out, provenance=provenance).save(folder)
            detectors.append({path.name: path.read_bytes() for path in Path(folder).iterdir()})
    return detectors


def with_checksums(config: dict[str, Any], tensors: bytes) -> Files:
    """Return the files with recomputed checksums."""
    if isinstance(config, dict):
        config.pop("config_sha256", None)
        if "tensors_sha256" in config:
            config["tensors_sha256"] = hashlib.sha256(tensors).hexdigest()
        # As `files._config_sha256`, but accepts lone surrogates.
        text = json.dumps(config, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass")
        config["config_sha256"] = hashlib.sha256(text).hexdigest()
    # As `files._serialised`.
    content = json.dumps(config, indent=1, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return {"config.json": content, "detector.safetensors": tensors}


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of keys and indices to a JSON value and to everything inside it."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(inner_path for key, inner in items for inner_path in paths_of(inner, (*path, key)))]


def flipped(base: Files, rng: random.Random) -> Files:
    """Bytes changed, inserted or deleted; checksums unchanged."""
    name = rng.choice(("config.json", "detector.safetensors"))
    content = bytearray(base[name])
    for _ in range(rng.choice((1, 1, 1, 2, 8, 40))):
        offset, action = rng.randrange(len(content)), rng.random()
        if action < 0.6:
            content[offset] ^= 1 << rng.randrange(8)
        elif action < 0.8:
            content[offset:offset] = rng.randbytes(rng.choice((1, 2, 9)))
        elif len(content) > 9:
            del content[offset : offset + rng.choice((1, 2, 9))]
    return base | {name: bytes(content)}


def replaced(base: Files, rng: random.Random) -> Files:
    """A file truncated, repeated, swapped, replaced by noise, or missing."""
    name = rng.choice(("config.json", "detector.safetensors"))
    content, action = base[name], rng.randrange(6)
    if action == 0:
        return {key: value for key, value in base.items() if key != name}
    utf16 = content.decode("latin1").encode("utf-16")
    replacements = (
        content[: rng.randrange(len(content))],
        content * 2,
        base["config.json" if name != "config.json" else "detector.safetensors"],
        rng.randbytes(rng.randrange(2000)),
        rng.choice((b"", b"null", b"[]", b"{}", b"\xef\xbb\xbf" + content, utf16)),
    )
    return base | {name: replacements[action - 1]}


def spliced(base: Files, rng: random.Random) -> Files:
    """JSON values replaced, keys deleted, added or renamed."""
    config = json.loads(base["config.json"])
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        path = rng.choice(paths_of(config))
        value, action = deepcopy(rng.choice(VALUES)), rng.random()
        if not path:
            config = value if action < 0.05 else config | {rng.choice(("x", "", "primary", "seed")): value}
            if not isinstance(config, dict):
                break
            continue
        parent: Any = config
        for key in path[:-1]:
            parent = parent[key]
        if action < 0.75:
            parent[path[-1]] = value
        elif action < 0.85:
            del parent[path[-1]]
        elif isinstance(parent, dict):
            parent[rng.choice(("x", "fallback", "primary", "n", "\ud800"))] = parent.pop(path[-1])
        else:
            parent.append(value)
    return with_checksums(config, base["detector.safetensors"])


def texts(base: Files, rng: random.Random) -> Files:
    """JSON on which parsers disagree: duplicate keys, extreme or malformed numbers."""
    text, action = base["config.json"].decode(), rng.randrange(5)
    number = rng.choice(("1e999", "-1e999", "NaN", "-Infinity", "1" + "0" * rng.choice((30, 4000, 5000)), "01", "0x1"))
    if action == 0:
        text = text.replace('"seed": 0', f'"seed": {number}')
    elif action == 1:
        text = text[:-1] + f', "seed": {number}, "heads": {{}}}}'
    elif action == 2:
        text = text.replace('"n": ', f'"n": {number}')
    elif action == 3:
        text = text.replace('"layer": 1', f'"layer": {number}')
    else:
        text = text.replace('"format_version": 2', f'"format_version": {number}')
    try:
        return with_checksums(json.loads(text), base["detector.safetensors"])
    except ValueError:
        return base | {"config.json": text.encode()}


def versions(base: Files, rng: random.Random) -> Files:
    """Another format version."""
    config = json.loads(base["config.json"])
    config["format_version"] = rng.choice((*VALUES, rng.randrange(-9, 10**9)))
    return with_checksums(config, base["detector.safetensors"])


def seeds(base: Files, rng: random.Random) -> Files:
    """Seeds that are huge, negative, or no integers."""
    config = json.loads(base["config.json"])
    config["seed"] = rng.choice((*VALUES, -rng.randrange(1, 10**9), rng.uniform(-1e9, 1e9)))
    return with_checksums(config, base["detector.safetensors"])


def nested(base: Files, rng: random.Random) -> Files:
    """Deeply nested JSON."""
    depth = rng.choice((10, 100, 300, 900, 1100, 5000, 100_000))
    opening, closing = rng.choice((("[", "]"), ('{"a":', "}"), ('[{"heads":', "}]")))
    deep = opening * depth + "0" + closing * rng.choice((depth, depth, 0))
    if rng.random() < 0.3:
        return base | {"config.json": deep.encode()}
    name = rng.choice(("seed", "provenance", "heads", "x", "tensors_sha256", "versions", "evaluation", "cells", "task"))
    text = base["config.json"].decode().replace(f'"{name}":', f'"{name}": {deep}, "was":', 1)
    try:
        return with_checksums(json.loads(text), base["detector.safetensors"])
    except (ValueError, RecursionError):
        return base | {"config.json": text.encode()}


def numbers(base: Files, rng: random.Random) -> Files:
    """Tensors with values that are not finite, too large or too small."""
    tensors = {name: values.copy() for name, values in load(base["detector.safetensors"]).items()}
    for _ in range(rng.choice((1, 2, 5))):
        values = tensors[rng.choice(sorted(tensors))].reshape(-1)
        if rng.random() < 0.3:
            values[:] = rng.choice(NUMBERS)
        else:
            values[rng.randrange(len(values))] = rng.choice((*NUMBERS, rng.uniform(-3, 3)))
    return with_checksums(json.loads(base["config.json"]), save(tensors))


def shapes(base: Files, rng: random.Random) -> Files:
    """Tensors of other shapes or names, missing or additional tensors."""
    tensors = dict(load(base["detector.safetensors"]))
    name, action = rng.choice(sorted(tensors)), rng.random()
    shape = [rng.choice((0, 1, 1, 2, 3, 4, 9, 300)) for _ in range(rng.randrange(5))]
    if action < 0.7:
        tensors[name] = np.full(shape[:3], rng.choice(NUMBERS))
    elif action < 0.8:
        del tensors[name]
    else:
        tensors[rng.choice(("x", "", "fallback.weight", "fallback.bias", "primary.weight2"))] = tensors[name]
    return with_checksums(json.loads(base["config.json"]), save(tensors))


def dimensions(base: Files, rng: random.Random) -> Files:
    """Tensors wider than any hidden state."""
    tensors = dict(load(base["detector.safetensors"]))
    name = rng.choice(sorted(tensors))
    width = rng.choice((1_000_001, 1_000_000, 1_048_576))
    tensors[name] = np.zeros(rng.choice(((1, width), (2, width), (width,), (width, 1))))
    if rng.random() < 0.3 and name.endswith("weight"):
        tensors |= {weight: np.zeros((1, width)) for weight in tensors if weight.endswith("weight")}
    return with_checksums(json.loads(base["config.json"]), save(tensors))


def headers(base: Files, rng: random.Random) -> Files:
    """A safetensors header with an incorrect length, dtype, shape or offset."""
    content = base["detector.safetensors"]
    (length,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    name = rng.choice([key for key in header if key != "__metadata__"])
    entry, action = header[name], rng.randrange(7)
    size = rng.choice((-1, 0, 1, 2**31, 2**32, 2**61, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 1e308))
    if action == 0:
        entry["dtype"] = rng.choice(DTYPES)
        start, count = entry["data_offsets"][0], int(np.prod(entry["shape"]))
        # Mostly with data of the size that the new dtype needs, which only the last tensor can get.
        if rng.random() < 0.8 and name == max(header, key=lambda key: header[key].get("data_offsets", [0])[0]):
            entry["data_offsets"] = [start, start + count * DTYPE_BYTES.get(entry["dtype"], 1)]
            data = (data[:start] + rng.randbytes(count * 8))[: entry["data_offsets"][1]]
    elif action == 1:
        entry["shape"] = rng.choice(
            ([size], [size, size], [0, size], [size, 0, size], [1] * 2000, "3", None, [[1]], [1.0])
        )
    elif action == 2:
        entry["data_offsets"] = rng.choice(
            ([0, size], [size, size], [size, 0], [8, 0], [0], [], None, "x", [0, len(data)])
        )
    elif action == 3:
        header[rng.choice(("__metadata__", "x", "", "primary.weight"))] = rng.choice(VALUES)
    elif action == 4:
        header = rng.choice(([], None, 0, "x", {}, {"x": header}, [header]))
    text = json.dumps(header).encode()
    if action == 5:
        text = rng.choice((b"{" * 5000, b"[" * 100_000, b"\xff" * 9, text + b" " * 9, text[:-1], text[:1] + text, b""))
    length = len(text)
    if action == 6:
        length = rng.choice((0, 1, length - 1, length + 1, 2**32, 2**63, 2**64 - 1, 10**8))
    return with_checksums(json.loads(base["config.json"]), struct.pack("<Q", length) + text + data)


def pickles(base: Files, rng: random.Random) -> Files:
    """A pickle that executes a command."""
    pickle = rng.choice(PICKLES)
    if rng.random() < 0.3:
        pickle = base["detector.safetensors"][: rng.randrange(200)] + pickle
    files = with_checksums(json.loads(base["config.json"]), pickle)
    return files if rng.random() < 0.8 else base | {"config.json": pickle}


Attack = Callable[[Files, random.Random], Files]
ATTACKS: dict[Attack, int] = {
    flipped: 20,
    replaced: 6,
    spliced: 30,
    texts: 3,
    versions: 2,
    seeds: 3,
    nested: 2,
    numbers: 14,
    shapes: 8,
    headers: 10,
    pickles: 2,
}
"""Attacks with their frequencies."""
DIMENSIONS_INTERVAL = 2000
"""One directory in so many is from `dimensions`, whose files are megabytes large."""
DESCRIPTIONS = {
    attack.__name__: (attack.__doc__ or "").partition("\n")[0].rstrip(".") for attack in (*ATTACKS, dimensions)
}


def attacked_files(seed: int) -> tuple[str, Files]:
    """Return the name of an attack and its files; the same for the same seed."""
    rng = random.Random(seed)
    if seed % DIMENSIONS_INTERVAL:
        (attack,) = rng.choices(list(ATTACKS), list(ATTACKS.values()))
    else:
        attack = dimensions
    return attack.__name__, attack(rng.choice(valid_detectors()), rng)
