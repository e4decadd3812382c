"""Measure the time and memory of capturing states: ``python benchmarks/capturing.py RUN [--repeats 5]``.

RUN is a run directory with answers and verdicts of a real model.  Writes ``benchmarks/results/capturing.md``.

Time: the same answers in the same batches, in alternation in one process: a forward pass alone; capture into a store
without, and with, a single computation of the prefix that all prompts share.  Memory: the capture step on runs of a
tiny random model with 200 to 20,000 answers.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from report import machine, row, spread, table_head, write

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from conftest import byte_level_tokenizer, save_tiny_model

from probemap.activations.reader import Reader, fill_store, layout_for
from probemap.activations.store import ActivationStore
from probemap.models import transformers_engine
from probemap.models.batching import batches
from probemap.models.prefix import shared_prefix
from probemap.models.transformers_engine import TransformersEngine
from probemap.positions import DEFAULT_POSITIONS
from probemap.runs.execution import run_step
from probemap.runs.run import Run

N_TIMED, BATCH_SIZE, N_SHARDS = 96, 32, 3
SIZES = (200, 2_000, 20_000)
SHARD_BYTES = 2**18
"""Small, so that 200 answers of a tiny model fill several shards."""

# A process inherits the maximum of its parent; writing 5 to clear_refs resets it.
MEASURE_MEMORY = """
import re, sys
from pathlib import Path
Path("/proc/self/clear_refs").write_text("5")
from probemap.runs.execution import run_step
from probemap.runs.run import Run
run_step("capture", Run.open(sys.argv[1]), shard_bytes=int(sys.argv[2]))
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024)
"""


def time_table(run: Run, n_repeats: int) -> list[str]:
    model, graded = run.loader().load({}), run.graded
    answers = graded.answers[:N_TIMED]
    indices = graded.token_indices(DEFAULT_POSITIONS)[:N_TIMED]
    layout = replace(
        layout_for(TransformersEngine(model), answers, indices, DEFAULT_POSITIONS),
        shard_rows=-(-len(answers) // N_SHARDS),
    )
    prefix = shared_prefix(model, answers)

    def forward_only() -> None:
        with torch.inference_mode():
            for shard in range(layout.n_shards):
                shard_answers = answers[layout.rows(shard)]
                for batch in batches([len(a.token_ids) for a in shard_answers], BATCH_SIZE):
                    ids, mask = model.right_padded([shard_answers[i].token_ids for i in batch])
                    model.network.base_model(input_ids=ids, attention_mask=mask, use_cache=False)

    def capture(share_prefix: bool) -> None:
        reader = Reader(
            engine=TransformersEngine(model), answers=answers, indices=indices, layout=layout, batch_size=BATCH_SIZE
        )
        sharing = nullcontext() if share_prefix else patch.object(transformers_engine, "shared_prefix", lambda *_: None)
        with sharing, tempfile.TemporaryDirectory() as folder:
            list(fill_store(ActivationStore.create(f"{folder}/store", layout), reader))

    measured: dict[str, Callable[[], None]] = {
        "forward pass alone": forward_only,
        "capture": lambda: capture(False),
        "capture with shared prefix": lambda: capture(True),
    }
    seconds: dict[str, list[float]] = {name: [] for name in measured}
    for repeat in range(n_repeats + 1):
        for name, work in measured.items():
            started = time.perf_counter()
            work()
            if repeat:  # the first repetition is a warm-up
                seconds[name].append(time.perf_counter() - started)
    mean_length = sum(len(a.token_ids) for a in answers) / len(answers)
    return [
        f"{model.label}, {len(answers)} answers of {mean_length:.0f} tokens on average, of which all share the first "
        f"{prefix.length if prefix else 0}; batches of {BATCH_SIZE}, {layout.n_shards} shards.  Seconds: median "
        f"(minimum to maximum) of {n_repeats} alternating repetitions; ratios are taken within a repetition.",
        "",
        *table_head("work", "seconds", "relative to the forward pass"),
        *(
            row(name, spread(times), spread(np.array(times) / np.array(seconds["forward pass alone"])))
            for name, times in seconds.items()
        ),
    ]


def tiny_run(folder: Path, model: Path, n: int) -> Run:
    """Return a run of a tiny model with `n` given answers."""
    data, texts = folder / f"{n}.jsonl", folder / f"{n}-texts.jsonl"
    questions = [{"id": str(i), "question": f"What is {i} + 5?", "answers": [str(i + 5)]} for i in range(n)]
    answers = [{"id": str(i), "text": f"The answer is {i + 5 + i % 2}."} for i in range(n)]
    data.write_text("".join(json.dumps(question) + "\n" for question in questions))
    texts.write_text("".join(json.dumps(answer) + "\n" for answer in answers))
    run = Run(folder / f"run-{n}")
    run_step("answer", run, data=str(data), model=str(model), answers=str(texts), batch_size=256)
    run_step("judge", run, locator="rules")
    return run


def memory_table() -> list[str]:
    results = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = save_tiny_model(folder / "model", byte_level_tokenizer())
        for n in SIZES:
            run = tiny_run(folder, model, n)
            command = [sys.executable, "-c", MEASURE_MEMORY, str(run.path), str(SHARD_BYTES)]
            output = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603
            layout = ActivationStore.open(run.path / "activations").layout
            n_bytes = 4 * np.prod(layout.shape)
            n_on_disk = sum(path.stat().st_size for path in (run.path / "activations").rglob("*") if path.is_file())
            results.append((n, float(output), n_on_disk / n_bytes))
            shutil.rmtree(run.path)
    first = results[0][1]
    return [
        *table_head("answers", "peak resident MB", "relative to the first", "bytes on disk per byte of states"),
        *(row(n, f"{peak:.0f}", f"{peak / first:.3f}", f"{disk:.4f}") for n, peak, disk in results),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    lines = ["# Capture", "", machine(), "", "## Time", "", *time_table(Run.open(options.run), options.repeats)]
    print(*lines, sep="\n", flush=True)
    lines += [
        "",
        "## Memory",
        "",
        "A tiny random model (4 layers, hidden size 32), 15 positions, the complete capture step in a process of its "
        f"own, shards of {SHARD_BYTES // 1024} KiB; two shards are in memory at once.",
        "",
        *memory_table(),
    ]
    write("capturing", lines)


if __name__ == "__main__":
    main()
