"""Malicious detector directories: ``python benchmarks/hostile_detector.py [N | seed K]``.

Small valid detectors are changed in N ways, most of them with recomputed checksums, as an attacker would.  Each
directory must either be rejected with a DetectorError that has a hint, or load and give finite probabilities, NaN only
where a position is missing, without a warning.  Anything else is a failure, which is printed with the seed that
reproduces it.
Writes ``benchmarks/results/hostile_detector.md``.
"""

import hashlib
import json
import random
import shutil
import struct
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from report import head, machine, row, write
from safetensors.numpy import load, save

from probemap.detectors.card import model_card
from probemap.detectors.detector import Detector
from probemap.detectors.fit import fit_detector
from probemap.detectors.provenance import Provenance
from probemap.records import DetectorError, Task

CHUNK = 1000
SLOW = 10.0
"""Seconds of CPU time that no directory may take."""
RAN = "ran-from-a-pickle"
PICKLES = (
    b"cos\nmkdir\n(S'" + RAN.encode() + b"'\ntR.",
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
Files = dict[str, bytes]
"""File name -> content."""


@cache
def bases() -> list[Files]:
    """Return three valid detectors: Platt scaling with a fallback, isotonic calibration, and one without evaluation."""
    draw = np.random.default_rng(0)
    detectors: list[Files] = []
    for n, held_out in ((300, 0.4), (2000, 0.3), (200, None)):
        correct = draw.random(n) < 0.5
        states = draw.normal(size=(n, 2, 2, 3)).astype(np.float32)
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


def sealed(config: dict[str, Any], tensors: bytes) -> Files:
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
    """Return the paths of a JSON value and of all values inside it."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(nested for key, item in items for nested in paths_of(item, (*path, key)))]


def flipped(base: Files, draw: random.Random) -> Files:
    """Bytes changed, added or removed, with the original checksums."""
    name = draw.choice(("config.json", "detector.safetensors"))
    content = bytearray(base[name])
    for _ in range(draw.choice((1, 1, 1, 2, 8, 40))):
        index, kind = draw.randrange(len(content)), draw.random()
        if kind < 0.6:
            content[index] ^= 1 << draw.randrange(8)
        elif kind < 0.8:
            content[index:index] = draw.randbytes(draw.choice((1, 2, 9)))
        elif len(content) > 9:
            del content[index : index + draw.choice((1, 2, 9))]
    return base | {name: bytes(content)}


def cut(base: Files, draw: random.Random) -> Files:
    """Files truncated, duplicated, swapped, replaced by noise, or missing."""
    name = draw.choice(("config.json", "detector.safetensors"))
    content, kind = base[name], draw.randrange(6)
    if kind == 0:
        return {key: value for key, value in base.items() if key != name}
    return base | {
        name: (
            content[: draw.randrange(len(content))],
            content * 2,
            base["config.json" if name != "config.json" else "detector.safetensors"],
            draw.randbytes(draw.randrange(2000)),
            draw.choice(
                (b"", b"null", b"[]", b"{}", b"\xef\xbb\xbf" + content, content.decode("latin1").encode("utf-16"))
            ),
        )[kind - 1]
    }


def spliced(base: Files, draw: random.Random) -> Files:
    """Arbitrary values at arbitrary paths; keys removed, added or renamed."""
    config = json.loads(base["config.json"])
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        path = draw.choice(paths_of(config))
        value, kind = deepcopy(draw.choice(VALUES)), draw.random()
        if not path:
            config = value if kind < 0.05 else config | {draw.choice(("x", "", "primary", "seed")): value}
            if not isinstance(config, dict):
                break
            continue
        parent: Any = config
        for key in path[:-1]:
            parent = parent[key]
        if kind < 0.75:
            parent[path[-1]] = value
        elif kind < 0.85:
            del parent[path[-1]]
        elif isinstance(parent, dict):
            parent[draw.choice(("x", "fallback", "primary", "n", "\ud800"))] = parent.pop(path[-1])
        else:
            parent.append(value)
    return sealed(config, base["detector.safetensors"])


def texts(base: Files, draw: random.Random) -> Files:
    """JSON that parsers reject or interpret differently."""
    text, kind = base["config.json"].decode(), draw.randrange(5)
    number = draw.choice(
        ("1e999", "-1e999", "NaN", "-Infinity", "1" + "0" * draw.choice((30, 4000, 5000)), "01", "0x1")
    )
    if kind == 0:
        text = text.replace('"seed": 0', f'"seed": {number}')
    elif kind == 1:
        text = text[:-1] + f', "seed": {number}, "heads": {{}}}}'
    elif kind == 2:
        text = text.replace('"n": ', f'"n": {number}')
    elif kind == 3:
        text = text.replace('"layer": 1', f'"layer": {number}')
    else:
        text = text.replace('"format_version": 2', f'"format_version": {number}')
    try:
        return sealed(json.loads(text), base["detector.safetensors"])
    except ValueError:
        return base | {"config.json": text.encode()}


def versions(base: Files, draw: random.Random) -> Files:
    """Another format version."""
    config = json.loads(base["config.json"])
    config["format_version"] = draw.choice((*VALUES, draw.randrange(-9, 10**9)))
    return sealed(config, base["detector.safetensors"])


def seeds(base: Files, draw: random.Random) -> Files:
    """Seeds that are infinite, negative or not numbers."""
    config = json.loads(base["config.json"])
    config["seed"] = draw.choice((*VALUES, -draw.randrange(1, 10**9), draw.uniform(-1e9, 1e9)))
    return sealed(config, base["detector.safetensors"])


def nested(base: Files, draw: random.Random) -> Files:
    """Deeply nested JSON."""
    depth = draw.choice((10, 100, 300, 900, 1100, 5000, 100_000))
    opening, closing = draw.choice((("[", "]"), ('{"a":', "}"), ('[{"heads":', "}]")))
    deep = opening * depth + "0" + closing * draw.choice((depth, depth, 0))
    if draw.random() < 0.3:
        return base | {"config.json": deep.encode()}
    name = draw.choice(
        ("seed", "provenance", "heads", "x", "tensors_sha256", "versions", "evaluation", "cells", "task")
    )
    text = base["config.json"].decode().replace(f'"{name}":', f'"{name}": {deep}, "was":', 1)
    try:
        return sealed(json.loads(text), base["detector.safetensors"])
    except (ValueError, RecursionError):
        return base | {"config.json": text.encode()}


def numbers(base: Files, draw: random.Random) -> Files:
    """Array values that are not finite, too large or too small."""
    tensors = {name: values.copy() for name, values in load(base["detector.safetensors"]).items()}
    for _ in range(draw.choice((1, 2, 5))):
        values = tensors[draw.choice(sorted(tensors))].reshape(-1)
        if draw.random() < 0.3:
            values[:] = draw.choice(NUMBERS)
        else:
            values[draw.randrange(len(values))] = draw.choice((*NUMBERS, draw.uniform(-3, 3)))
    return sealed(json.loads(base["config.json"]), save(tensors))


def shapes(base: Files, draw: random.Random) -> Files:
    """Arrays of other shapes or names; additional or missing arrays."""
    tensors = dict(load(base["detector.safetensors"]))
    name, kind = draw.choice(sorted(tensors)), draw.random()
    shape = [draw.choice((0, 1, 1, 2, 3, 4, 9, 300)) for _ in range(draw.randrange(5))]
    if kind < 0.7:
        tensors[name] = np.full(shape[:3], draw.choice(NUMBERS))
    elif kind < 0.8:
        del tensors[name]
    else:
        tensors[draw.choice(("x", "", "fallback.weight", "fallback.bias", "primary.weight2"))] = tensors[name]
    return sealed(json.loads(base["config.json"]), save(tensors))


def dimensions(base: Files, draw: random.Random) -> Files:
    """Arrays wider than any hidden state."""
    tensors = dict(load(base["detector.safetensors"]))
    name = draw.choice(sorted(tensors))
    wide = draw.choice((1_000_001, 1_000_000, 1_048_576))
    tensors[name] = np.zeros(draw.choice(((1, wide), (2, wide), (wide,), (wide, 1))))
    if draw.random() < 0.3 and name.endswith("weight"):
        tensors |= {key: np.zeros((1, wide)) for key in tensors if key.endswith("weight")}
    return sealed(json.loads(base["config.json"]), save(tensors))


def headers(base: Files, draw: random.Random) -> Files:
    """Headers with false lengths, types, shapes or offsets."""
    content = base["detector.safetensors"]
    (length,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    name = draw.choice([key for key in header if key != "__metadata__"])
    entry, kind = header[name], draw.randrange(7)
    big = draw.choice((-1, 0, 1, 2**31, 2**32, 2**61, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 1e308))
    if kind == 0:
        entry["dtype"] = draw.choice(DTYPES)
        size = {"F64": 8, "I64": 8, "U64": 8, "C64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2}
        count = int(np.prod(entry["shape"]))
        start = entry["data_offsets"][0]
        if draw.random() < 0.8 and name == max(header, key=lambda key: header[key].get("data_offsets", [0])[0]):
            entry["data_offsets"] = [start, start + count * size.get(entry["dtype"], 1)]
            data = (data[:start] + draw.randbytes(count * 8))[: entry["data_offsets"][1]]
    elif kind == 1:
        entry["shape"] = draw.choice(([big], [big, big], [0, big], [big, 0, big], [1] * 2000, "3", None, [[1]], [1.0]))
    elif kind == 2:
        entry["data_offsets"] = draw.choice(
            ([0, big], [big, big], [big, 0], [8, 0], [0], [], None, "x", [0, len(data)])
        )
    elif kind == 3:
        header[draw.choice(("__metadata__", "x", "", "primary.weight"))] = draw.choice(VALUES)
    elif kind == 4:
        header = draw.choice(([], None, 0, "x", {}, {"x": header}, [header]))
    text = json.dumps(header).encode()
    if kind == 5:
        text = draw.choice((b"{" * 5000, b"[" * 100_000, b"\xff" * 9, text + b" " * 9, text[:-1], text[:1] + text, b""))
    stated = len(text)
    if kind == 6:
        stated = draw.choice((0, 1, stated - 1, stated + 1, 2**32, 2**63, 2**64 - 1, 10**8))
    return sealed(json.loads(base["config.json"]), struct.pack("<Q", stated) + text + data)


def pickles(base: Files, draw: random.Random) -> Files:
    """Pickles, which execute code if they are loaded."""
    payload = draw.choice(PICKLES)
    if draw.random() < 0.3:
        payload = base["detector.safetensors"][: draw.randrange(200)] + payload
    files = sealed(json.loads(base["config.json"]), payload)
    return files if draw.random() < 0.8 else base | {"config.json": payload}


ATTACKS: dict[Callable[[Files, random.Random], Files], int] = {
    flipped: 20,
    cut: 6,
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
"""Attack -> relative frequency."""
WIDE_EVERY = 2000
"""Every so many directories, `dimensions` is used; they are several megabytes large."""


def attacked(seed: int) -> tuple[str, Files]:
    """Return the name of an attack and its files; the same for the same seed."""
    draw = random.Random(seed)
    attack = dimensions if seed % WIDE_EVERY == 0 else draw.choices(list(ATTACKS), list(ATTACKS.values()))[0]
    return attack.__name__, attack(draw.choice(bases()), draw)


def exercise(detector: Detector, folder: Path, draw: np.random.Generator) -> None:
    """Score with a detector, build its card, save it and load it again.

    Raises
    ------
    AssertionError
        If a result is not a probability, or the loaded detector gives different ones.
    """
    k, width = len(detector.primary.cells), detector.primary.weight.shape[1]
    states = draw.normal(size=(6, len(detector.cells), width)).astype(np.float32)
    states[1] *= np.finfo(np.float32).max / 10
    states[2] = 0
    states[3, :k] = np.nan
    states[4] = np.nan
    scores = detector.score_states(states)
    p, by = scores.p_correct, scores.judged_by
    assert by == ["primary"] * 3 + ["fallback" if detector.fallback else "none", "none", "primary"], by
    assert [bool(np.isnan(value)) for value in p] == [name == "none" for name in by], p
    assert ((p >= 0) & (p <= 1))[~np.isnan(p)].all(), p
    for detector_head in (detector.primary, detector.fallback):
        if detector_head and detector_head.thresholds:
            assert 0 <= detector_head.threshold().p_correct <= 1
    assert model_card(detector.primary, detector.fallback, detector.provenance).startswith(
        "---\nlibrary_name: probemap\n"
    )
    detector.save(folder)
    np.testing.assert_array_equal(Detector.load(folder).p_correct(states), p)


def outcome(seed: int, folder: Path) -> tuple[str, str, str]:
    """Return the attack, the outcome (refused, used or failed), and the description of a failure."""
    name, files = attacked(seed)
    for path in folder.iterdir():
        path.unlink()
    for file, data in files.items():
        (folder / file).write_bytes(data)
    before = time.process_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                detector = Detector.load(folder)
            except DetectorError as error:
                assert error.hint and len(str(error)) < 1000, str(error)[:2000]
                result = "refused"
            else:
                exercise(detector, folder, np.random.default_rng(seed))
                result = "used"
    except Exception as error:
        return name, "failed", f"seed {seed}, {name}: {type(error).__name__}: {str(error)[:300]}"
    if (seconds := time.process_time() - before) > SLOW:
        return name, "failed", f"seed {seed}, {name}: {seconds:.0f} s"
    return name, result, ""


def chunk(start: int, stop: int) -> tuple[Counter[tuple[str, str]], list[str]]:
    """Return the outcomes of a range of seeds, and the failures."""
    counts: Counter[tuple[str, str]] = Counter()
    failures = []
    folder = Path(tempfile.mkdtemp())
    try:
        for seed in range(start, stop):
            name, result, failure = outcome(seed, folder)
            counts[name, result] += 1
            failures += [failure] if failure else []
    finally:
        shutil.rmtree(folder)
    return counts, failures


def main() -> None:
    if sys.argv[1:2] == ["seed"]:
        with tempfile.TemporaryDirectory() as folder:
            print(outcome(int(sys.argv[2]), Path(folder)))
        return
    n = int(sys.argv[1]) if sys.argv[1:] else 1_000_000
    bases()
    counts: Counter[tuple[str, str]] = Counter()
    failures: list[str] = []
    start_time = time.perf_counter()
    with tempfile.TemporaryDirectory() as working, get_context("fork").Pool(2, _enter, (working,)) as pool:
        pending = [pool.apply_async(chunk, (start, min(start + CHUNK, n))) for start in range(0, n, CHUNK)]
        for chunk_result in pending:
            chunk_counts, chunk_failures = chunk_result.get()
            counts += chunk_counts
            failures += chunk_failures
            for line in chunk_failures:
                print(line, flush=True)
        if list(Path(working).iterdir()):
            failures.append(f"a pickle was executed: {sorted(path.name for path in Path(working).iterdir())}")
    minutes = (time.perf_counter() - start_time) / 60
    names = [attack.__name__ for attack in (*ATTACKS, dimensions)]
    sums = {result: sum(counts[name, result] for name in names) for result in ("refused", "used", "failed")}
    descriptions = {attack.__name__: (attack.__doc__ or "").strip().rstrip(".") for attack in (*ATTACKS, dimensions)}
    lines = [
        "# Malicious detector directories",
        "",
        f"{n:,} directories, made from three small valid detectors by `hostile_detector.py`, most of them with valid "
        "checksums. Each must either be refused with a DetectorError that has a hint, or load, give probabilities "
        "between 0 and 1, NaN only where a position is missing, and be equal after it is saved and loaded again; "
        f"without a warning, and in less than {SLOW:.0f} s of CPU time.",
        "",
        f"{machine()} {minutes:.0f} minutes with 2 processes.",
        "",
        *head("attack", "directories", "refused", "loaded and used", "failed"),
        *(
            row(descriptions[name], *(f"{value:,}" for value in (sum(results), *results)))
            for name in names
            if sum(results := [counts[name, result] for result in sums])
        ),
        row("all", *(f"{value:,}" for value in (n, *sums.values()))),
        "",
        *(
            ["Failures:", "", *(f"- {line}" for line in failures[:50])]
            if failures
            else ["No failure; no pickle was executed."]
        ),
    ]
    write("hostile_detector", lines)
    sys.exit(1 if failures else 0)


def _enter(folder: str) -> None:
    """Change to the working directory, where an executed pickle creates a file."""
    import os

    os.chdir(folder)


if __name__ == "__main__":
    main()
