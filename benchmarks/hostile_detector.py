"""Load malicious detector directories: ``python benchmarks/hostile_detector.py [N] [--seed SEED]``.

Small valid detectors are changed in N ways (default 1,000,000), most of them with recomputed checksums, as an attacker
would.  Each directory must either be rejected with a DetectorError that has a hint, or load and give finite
probabilities, NaN only where a position is missing, without a warning.  Anything else is a failure, which is printed
with its seed; ``--seed SEED`` repeats one directory.  Writes ``benchmarks/results/hostile_detector.md``; the exit
status is 1 after a failure.
"""

import argparse
import os
import sys
import tempfile
import time
import warnings
from collections import Counter
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import numpy as np
from detector_attacks import DESCRIPTIONS, attacked_files, valid_detectors
from report import machine, row, table_head, write

from probemap.detectors.card import model_card
from probemap.detectors.detector import Detector
from probemap.records import DetectorError

CHUNK = 1000
"""Directories per task of the process pool."""
N_PROCESSES = 2
MAX_SECONDS = 10.0
"""CPU time that a directory may take."""


def use_detector(detector: Detector, directory: Path, rng: np.random.Generator) -> None:
    """Score with a detector, write its card, save it and load it again.

    Raises
    ------
    AssertionError
        A result is not a probability, or differs after loading.
    """
    k, d = len(detector.primary.cells), detector.primary.weight.shape[1]
    states = rng.normal(size=(6, len(detector.cells), d)).astype(np.float32)
    states[1] *= np.finfo(np.float32).max / 10
    states[2] = 0
    states[3, :k] = np.nan
    states[4] = np.nan
    scores = detector.score_states(states)
    p, judged_by = scores.p_correct, scores.judged_by
    fallback = "fallback" if detector.fallback else "none"
    assert judged_by == ["primary"] * 3 + [fallback, "none", "primary"], judged_by
    assert [bool(np.isnan(value)) for value in p] == [name == "none" for name in judged_by], p
    assert ((p >= 0) & (p <= 1))[~np.isnan(p)].all(), p
    for detector_head in (detector.primary, detector.fallback):
        if detector_head and detector_head.thresholds:
            assert 0 <= detector_head.threshold().p_correct <= 1
    card = model_card(detector.primary, detector.fallback, detector.provenance)
    assert card.startswith("---\nlibrary_name: probemap\n")
    detector.save(directory)
    np.testing.assert_array_equal(Detector.load(directory).p_correct(states), p)


Outcome = Literal["rejected", "loaded", "failed"]
OUTCOMES: tuple[Outcome, ...] = ("rejected", "loaded", "failed")


def attack_loader(seed: int, directory: Path) -> tuple[str, Outcome, str]:
    """Return the name of the attack, its outcome, and a description of the failure."""
    name, files = attacked_files(seed)
    for path in directory.iterdir():
        path.unlink()
    for file, content in files.items():
        (directory / file).write_bytes(content)
    started = time.process_time()
    outcome: Outcome = "loaded"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                detector = Detector.load(directory)
            except DetectorError as error:
                assert error.hint and len(str(error)) < 1000, str(error)[:2000]
                outcome = "rejected"
            else:
                use_detector(detector, directory, np.random.default_rng(seed))
    except Exception as error:
        return name, "failed", f"seed {seed}, {name}: {type(error).__name__}: {str(error)[:300]}"
    seconds = time.process_time() - started
    if seconds > MAX_SECONDS:
        return name, "failed", f"seed {seed}, {name}: {seconds:.0f} s"
    return name, outcome, ""


Counts = Counter[tuple[str, Outcome]]
"""Number of directories per attack and outcome."""


def attack_chunk(start: int, stop: int) -> tuple[Counts, list[str]]:
    """Return the outcomes of a range of seeds, and the failures."""
    counts: Counts = Counter()
    failures = []
    with tempfile.TemporaryDirectory() as directory:
        for seed in range(start, stop):
            name, outcome, failure = attack_loader(seed, Path(directory))
            counts[name, outcome] += 1
            failures += [failure] if failure else []
    return counts, failures


def attack_all(n: int) -> tuple[Counts, list[str]]:
    """Return the outcomes of the seeds 0 to n - 1, and the failures."""
    valid_detectors()  # fitted once, before the processes fork
    counts: Counts = Counter()
    failures: list[str] = []
    # A pickle that is executed leaves a trace in the working directory.
    with (
        tempfile.TemporaryDirectory() as directory,
        get_context("fork").Pool(N_PROCESSES, os.chdir, (directory,)) as pool,
    ):
        pending = [pool.apply_async(attack_chunk, (start, min(start + CHUNK, n))) for start in range(0, n, CHUNK)]
        for result in pending:
            chunk_counts, chunk_failures = result.get()
            counts += chunk_counts
            failures += chunk_failures
            for failure in chunk_failures:
                print(failure, flush=True)
        if traces := sorted(path.name for path in Path(directory).iterdir()):
            failures.append(f"a pickle was executed: {traces}")
    return counts, failures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("n", type=int, nargs="?", default=1_000_000)
    parser.add_argument("--seed", type=int)
    options = parser.parse_args()
    if options.seed is not None:
        with tempfile.TemporaryDirectory() as directory:
            print(attack_loader(options.seed, Path(directory)))
        return
    started = time.perf_counter()
    counts, failures = attack_all(options.n)
    minutes = (time.perf_counter() - started) / 60
    totals = [sum(counts[name, outcome] for name in DESCRIPTIONS) for outcome in OUTCOMES]
    lines = [
        "# Malicious detector directories",
        "",
        f"{options.n:,} directories, made from three small valid detectors by `hostile_detector.py`, most with valid "
        "checksums.  Each must be rejected with a DetectorError that has a hint, or load, give probabilities between 0 "
        "and 1, NaN only where a position is missing, and be unchanged after saving and loading; without a warning, "
        f"and in less than {MAX_SECONDS:.0f} s of CPU time.",
        "",
        f"{machine()}  {minutes:.0f} minutes with {N_PROCESSES} processes.",
        "",
        *table_head("attack", "directories", *OUTCOMES),
    ]
    for name, description in DESCRIPTIONS.items():
        values = [counts[name, outcome] for outcome in OUTCOMES]
        if sum(values):
            lines.append(row(description, *(f"{value:,}" for value in (sum(values), *values))))
    lines += [row("all", *(f"{value:,}" for value in (options.n, *totals))), ""]
    if failures:
        lines += ["Failures:", "", *(f"- {failure}" for failure in failures[:50])]
    else:
        lines.append("No failure; no pickle was executed.")
    write("hostile_detector", lines)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
