"""Time runs that share the cores with another run: ``python benchmarks/shared_cores.py MODEL [--trials 10]``.

Writes ``benchmarks/results/shared_cores.md``.  In each trial, a run is timed alone, and then two runs are started at
the same time.  If they share the cores fairly, each takes twice as long as one alone.

With ``--alone``, runs alone are timed with several settings of OpenMP, and ``benchmarks/results/waiting_threads.md`` is
written.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from report import machine, row, spread, table_head, write

SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


@dataclass(frozen=True, kw_only=True)
class Way:
    """A way to execute runs."""

    name: str
    n_runs: int = 1
    """Number of runs that start at the same time."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Environment variables.  ``probemap`` sets GOMP_SPINCOUNT to 2000 if it is not set."""


SHARED = (Way(name="one run"), Way(name="two runs at the same time", n_runs=2))
ALONE = (
    Way(name="probemap (GOMP_SPINCOUNT=2000)"),
    Way(name="default of GNU OpenMP (GOMP_SPINCOUNT=300000)", settings={"GOMP_SPINCOUNT": "300000"}),
    Way(name="OMP_WAIT_POLICY=PASSIVE", settings={"OMP_WAIT_POLICY": "PASSIVE"}),
)


def start_run(options: argparse.Namespace, folder: Path, settings: Mapping[str, str]) -> subprocess.Popen[str]:
    """Start ``probemap run`` in a new process."""
    environment = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    words = ["run", options.task, "--model", options.model, "--n", options.n, "--out", folder]
    command = [sys.executable, "-c", "from probemap.cli.main import main; main()", *map(str, words)]
    return subprocess.Popen(  # noqa: S603
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env={**environment, **settings}
    )


def time_runs(options: argparse.Namespace, way: Way) -> float:
    """Return the seconds until the last of the runs has ended."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        processes = [start_run(options, Path(folder) / str(i), way.settings) for i in range(way.n_runs)]
        for process in processes:
            _, errors = process.communicate()
            if process.returncode:
                sys.exit(errors)
        return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--task", default="cities")
    parser.add_argument("--n", type=int, default=60)
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--alone", action="store_true")
    options = parser.parse_args()
    ways = ALONE if options.alone else SHARED
    seconds: dict[str, list[float]] = {way.name: [] for way in ways}
    for trial in range(options.trials):
        for way in ways:
            seconds[way.name].append(time_runs(options, way))
            print(trial, way.name, f"{seconds[way.name][-1]:.1f} s", flush=True)
    first = np.array(seconds[ways[0].name])
    lines = [
        "# Settings of waiting threads" if options.alone else "# Runs that share the cores",
        "",
        f"`probemap run {options.task} --model {Path(options.model).name} --n {options.n}`, whole process, "
        f"{options.trials} trials.  Median (minimum to maximum).  The ratio is that of the times within a trial.",
        "",
        machine(),
        "",
        *table_head("runs", "seconds until the last has ended", f"relative to {ways[0].name}"),
        *(row(name, spread(values, ".1f"), spread(values / first)) for name, values in seconds.items()),
    ]
    write("waiting_threads" if options.alone else "shared_cores", lines)


if __name__ == "__main__":
    main()
