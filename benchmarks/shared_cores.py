"""Time runs that share the cores with another run: ``python benchmarks/shared_cores.py MODEL [--trials 10]``.

Writes ``benchmarks/results/shared_cores.md``.  In each trial, a run is timed alone, and then two runs are started at
the same time.  If they share the cores fairly, each takes twice as long as one alone.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from report import machine, row, spread, table_head, write


def start_run(options: argparse.Namespace, folder: Path) -> subprocess.Popen[str]:
    """Start ``probemap run`` in a new process."""
    words = ["run", options.task, "--model", options.model, "--n", options.n, "--out", folder]
    command = [sys.executable, "-c", "from probemap.cli.main import main; main()", *map(str, words)]
    return subprocess.Popen(  # noqa: S603
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def time_runs(options: argparse.Namespace, n_runs: int) -> float:
    """Return the seconds until the last of several runs that start at the same time has ended."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        processes = [start_run(options, Path(folder) / str(i)) for i in range(n_runs)]
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
    options = parser.parse_args()
    os.environ.pop("OMP_WAIT_POLICY", None)
    os.environ.pop("GOMP_SPINCOUNT", None)
    ways = {"one run": 1, "two runs at the same time": 2}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for trial in range(options.trials):
        for name, n_runs in ways.items():
            seconds[name].append(time_runs(options, n_runs))
            print(trial, name, f"{seconds[name][-1]:.1f} s", flush=True)
    alone = np.array(seconds["one run"])
    lines = [
        "# Runs that share the cores",
        "",
        f"`probemap run {options.task} --model {Path(options.model).name} --n {options.n}`, whole process, "
        f"{options.trials} trials.  Median (minimum to maximum).  The ratio is that of the times within a trial.",
        "",
        machine(),
        "",
        *table_head("runs", "seconds until the last has ended", "relative to one run"),
        *(row(name, spread(values, ".1f"), spread(values / alone)) for name, values in seconds.items()),
    ]
    write("shared_cores", lines)


if __name__ == "__main__":
    main()
