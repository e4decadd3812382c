"""Time a whole run beside two scripts without the package: ``python benchmarks/end_to_end.py MODEL --n 100,500``.

Writes ``benchmarks/results/end_to_end.md``.  ``way_research.py`` follows the procedure of the research code,
``way_careful.py`` is what a careful user would write.  All three answer the same questions with the same model in
alternation.  The time of the package is that of the process ``probemap run``, with the start of Python, loading,
labels, baselines, error bars, figures and report; the time of a script starts after the model has been loaded.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from report import machine, row, spread, table_head, write

from probemap.runs.run import Run

Seconds = dict[str, float]
"""Times of the parts ``answers``, ``states`` and ``probes``, and the ``total``."""

SCRIPTS = {"research code": "way_research.py", "careful script": "way_careful.py"}
STEPS = {"answers": "answer", "states": "capture", "probes": "map"}


def run_package(options: argparse.Namespace, n: int, folder: Path, engine: str) -> Seconds:
    """Execute ``probemap run`` in a new run directory."""
    words = ["run", options.task, "--model", options.model, "--n", n, "--out", folder, "--dtype", options.dtype]
    words += ["--device", options.device, "--engine", engine]
    started = time.perf_counter()
    command = [sys.executable, "-c", "from probemap.cli.main import main; main()", *map(str, words)]
    finished = subprocess.run(command, capture_output=True, text=True)  # noqa: S603
    total = time.perf_counter() - started
    if finished.returncode:
        sys.exit(finished.stderr)
    steps = json.loads((folder / "run.json").read_text(encoding="utf-8"))["steps"]
    return {part: steps[step]["seconds"] for part, step in STEPS.items()} | {"total": total}


def run_script(name: str, options: argparse.Namespace, rows: Path) -> Seconds:
    script = Path(__file__).with_name(SCRIPTS[name])
    command = [sys.executable, script, options.model, rows, options.device, options.dtype]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603
    seconds: Seconds = json.loads(printed.splitlines()[-1])
    return seconds


def write_rows(run: Run, file: Path, max_new_tokens: int) -> None:
    """Write the prompts of a run and whether their answers are correct, for the scripts."""
    rows = [
        {
            "prompt_ids": answer.token_ids[: answer.n_prompt],
            "max_new_tokens": max_new_tokens,
            "correct": bool(verdict.correct),
        }
        for answer, verdict in zip(run.answers, run.verdicts, strict=True)
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in rows), encoding="utf-8")


def measure(options: argparse.Namespace, n: int, folder: Path) -> dict[str, list[Seconds]]:
    """Return the times of each way, after a first run of the package that is not counted."""
    run_package(options, n, folder / "first", options.engines[0])
    run = Run(folder / "first")
    rows = folder / "rows.jsonl"
    max_new_tokens = json.loads((folder / "first/run.json").read_text())["steps"]["answer"]["options"]["max_new_tokens"]
    write_rows(run, rows, max_new_tokens)
    ways = [*(f"probemap, {engine}" for engine in options.engines), *options.scripts]
    times: dict[str, list[Seconds]] = {way: [] for way in ways}
    for repeat in range(options.repeats):
        for way in ways if repeat % 2 == 0 else reversed(ways):
            if way in SCRIPTS:
                times[way].append(run_script(way, options, rows))
            else:
                engine = way.removeprefix("probemap, ")
                times[way].append(run_package(options, n, folder / f"{engine}-{repeat}", engine))
            print(n, way, json.dumps(times[way][-1]), flush=True)
    return times


def table(n: int, times: Mapping[str, list[Seconds]]) -> list[str]:
    base = next(iter(times.values()))
    lines = []
    for way, runs in times.items():
        part_times = [spread([seconds[part] for seconds in runs], ".1f") for part in (*STEPS, "total")]
        ratios = [seconds["total"] / first["total"] for seconds, first in zip(runs, base, strict=True)]
        lines.append(row(n, way, *part_times, spread(ratios, ".2f")))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="a folder with a model")
    parser.add_argument("--task", default="cities")
    parser.add_argument("--n", default="100,500")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--engines", default="local", type=lambda text: text.split(","))
    parser.add_argument("--scripts", default=list(SCRIPTS), type=lambda text: [s for s in text.split(",") if s])
    parser.add_argument("--name", default="end_to_end")
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    lines = [
        "# A whole run",
        "",
        f"{Path(options.model).name}, {options.dtype}, task {options.task}.  Seconds: median (minimum to maximum) of "
        f"{options.repeats} runs in alternating order; ratios to the first row are taken within a repetition.  The "
        "parts of probemap are its steps answer, capture and map; its total is that of the process, with everything "
        "else.  The totals of the scripts do not contain the start of Python and the loading of the model.",
        "",
        machine() + (f"  {torch.cuda.get_device_name()}." if options.device.startswith("cuda") else ""),
        "",
        *table_head("questions", "way", *STEPS, "total", "total, relative"),
    ]
    for n in map(int, options.n.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            lines += table(n, measure(options, n, Path(folder)))
        write(options.name, lines)


if __name__ == "__main__":
    main()
