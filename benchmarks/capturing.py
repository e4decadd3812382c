"""What capturing costs beside the model's own pass, and how much memory; ``python benchmarks/capturing.py RUN``.

RUN is a run folder with answers and verdicts of a real model.  Time: the same answers in the same batches, alternating
in one process: a bare pass over the tokens; capturing into a store without, and with, the beginning that all prompts
share computed once.  Memory: `probemap capture` on run folders of a tiny random model, 200 to 20,000 answers.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from conftest import byte_level_tokenizer, save_tiny_model
from probemap.runs.integrity import loader_of, read_answers
from report import head, machine, row, spread, write

from probemap.activations.prefix import shared_prefix
from probemap.activations.reader import Reader, fill_store, layout_for
from probemap.activations.store import ActivationStore
from probemap.models.batching import batches
from probemap.models.loading import Loader
from probemap.positions import DEFAULT_POSITIONS, token_indices
from probemap.runs.options import Answering, Judging
from probemap.runs.pipeline import answer
from probemap.runs.run import Run
from probemap.runs.steps.judge import judge

TIMED, BATCH = 96, 32
SIZES = (200, 2_000, 20_000)
SHARD_BYTES = 2**18
"""Two shards are in memory at once: small ones, so that 200 answers of a tiny model fill several."""

# A process inherits the highest memory of the one that started it, so that mark is set back first.
PEAK = """
import re, sys
from pathlib import Path
Path("/proc/self/clear_refs").write_text("5")
from probemap.activations import layout
from probemap.cli.main import main
layout.SHARD_BYTES = int(sys.argv[2])
sys.argv = ["probemap", "capture", sys.argv[1]]
try:
    main()
finally:
    print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024)
"""


def time_table(run: Run, repeats: int) -> list[str]:
    model = loader_of(run).load({})
    _, answers, judgements = read_answers(run)
    answers = answers[:TIMED]
    indices = token_indices(answers, [j.span for j in judgements[:TIMED]], DEFAULT_POSITIONS)
    layout = replace(layout_for(model, answers, indices, DEFAULT_POSITIONS), shard_rows=TIMED // 3)
    prefix = shared_prefix(model, answers)

    def bare() -> None:
        with torch.inference_mode():
            for shard in range(layout.n_shards):
                inside = answers[layout.rows(shard)]
                for batch in batches([len(a.token_ids) for a in inside], BATCH):
                    ids, mask = model.right_padded([inside[i].token_ids for i in batch])
                    model.network.base_model(input_ids=ids, attention_mask=mask, use_cache=False)

    def captured(shared: bool) -> None:
        reader = Reader(model=model, answers=answers, indices=indices, layout=layout, batch_size=BATCH)
        if not shared:
            reader.__dict__["_prefix"] = None
        with tempfile.TemporaryDirectory() as folder:
            list(fill_store(ActivationStore.create(f"{folder}/store", layout), reader))

    timed: dict[str, Callable[[], None]] = {
        "a bare pass": bare,
        "captured": lambda: captured(False),
        "captured, shared beginning once": lambda: captured(True),
    }
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for repeat in range(repeats + 1):
        for name, work in timed.items():
            started = time.perf_counter()
            work()
            if repeat:  # the first warms up
                seconds[name].append(time.perf_counter() - started)
    tokens = sum(len(a.token_ids) for a in answers)
    return [
        f"{model.label}, {TIMED} answers of {tokens / TIMED:.0f} tokens on average, of which all share the first "
        f"{prefix.length if prefix else 0}; batches of {BATCH}, {layout.n_shards} shards written.  Seconds, median "
        f"(lowest to highest) of {repeats} alternating repetitions; ratios are taken within a repetition.",
        "",
        *head("what", "seconds", "to a bare pass"),
        *(
            row(name, spread(took), spread(np.array(took) / np.array(seconds["a bare pass"])))
            for name, took in seconds.items()
        ),
    ]


def memory_table() -> list[str]:
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = save_tiny_model(folder / "model", byte_level_tokenizer())
        for n in SIZES:
            data, texts = folder / f"{n}.jsonl", folder / f"{n}-texts.jsonl"
            questions = [{"id": str(i), "question": f"What is {i} + 5?", "answers": [str(i + 5)]} for i in range(n)]
            data.write_text("".join(json.dumps(q) + "\n" for q in questions))
            said = [{"id": str(i), "text": f"The answer is {i + 5 + i % 2}."} for i in range(n)]
            texts.write_text("".join(json.dumps(t) + "\n" for t in said))
            run = answer(data, Loader(str(model)), folder / f"run-{n}", Answering(answers=str(texts), batch_size=256))
            judge(run, Judging("numbers"))
            command = [sys.executable, "-c", PEAK, str(run.path), str(SHARD_BYTES)]
            made = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
            store = ActivationStore.open(run.path / "activations")
            whole = n * store.layout.n_layers * len(store.layout.positions) * store.layout.d * 4
            disk = sum(p.stat().st_size for p in (run.path / "activations").rglob("*") if p.is_file())
            rows.append((n, float(made.stdout), disk / whole))
            shutil.rmtree(run.path)
    first = rows[0][1]
    return [
        *head("answers", "peak resident MB", "to the first", "bytes on disk to bytes of states"),
        *(row(n, f"{peak:.0f}", f"{peak / first:.3f}", f"{disk:.4f}") for n, peak, disk in rows),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    lines = ["# Capturing", "", machine(), "", "## Time", "", *time_table(Run.open(options.run), options.repeats)]
    print(*lines, sep="\n", flush=True)
    lines += [
        "",
        "## Memory",
        "",
        "A tiny random model (4 layers, width 32), 15 positions, all of `probemap capture`, in",
    ]
    lines += [f"shards of {SHARD_BYTES // 1024} KiB; of larger shards two are in memory at once."]
    write("capturing", [*lines, "", *memory_table()])


if __name__ == "__main__":
    main()
