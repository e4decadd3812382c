"""Time generation, capture and fitting on a GPU: ``python benchmarks/gpu.py TOKENIZER FOLDER [--engines local,vllm]``.

TOKENIZER is a folder with a model whose tokenizer is used.  A model with the shape of a 7B model and random weights is
written to FOLDER; its answers have no meaning, but they take the time of real ones.  ``way_research.py`` follows the
procedure of the research code with the same prompts.  Fits are those of `fit_map`, on the GPU and on all cores of the
CPU, and of scikit-learn on all cores.  Writes ``benchmarks/results/gpu.md``.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import joblib
import numpy as np
import torch
from end_to_end import run_script
from report import machine, row, spread, table_head, write
from speed_problem import FOLDS, Problem, fit_with_sklearn, synthetic_states
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from probemap.maps.fit import fit_map
from probemap.runs.run import Run

SHAPE = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
}
POSITIONS = "last_q,-12..-1"
SEED = 0


def write_model(tokenizer: str, folder: Path) -> None:
    """Write a Llama with random weights in bfloat16."""
    config = AutoConfig.from_pretrained(tokenizer, **SHAPE)
    torch.manual_seed(SEED)
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tokenizer).save_pretrained(folder)


def run_steps(model: Path, folder: Path, engine: str, n: int, batch_size: int) -> dict[str, float]:
    """Return the seconds of the steps answer and capture, each of which loads the model."""
    common = ["--batch-size", batch_size, "--engine", engine]
    answer = ["answer", "cities", "--model", model, "--n", n, "--out", folder, "--dtype", "bfloat16", *common]
    for words in (answer, ["judge", folder], ["capture", folder, "--positions", POSITIONS, *common]):
        command = [sys.executable, "-c", "from probemap.cli.main import main; main()", *map(str, words)]
        finished = subprocess.run(command, capture_output=True, text=True)  # noqa: S603
        if finished.returncode:
            sys.exit(finished.stdout + finished.stderr)
    steps = json.loads((folder / "run.json").read_text(encoding="utf-8"))["steps"]
    return {name: steps[name]["seconds"] for name in ("answer", "capture")}


def measure_model(options: argparse.Namespace) -> list[str]:
    model = options.folder / "model"
    if not model.exists():
        write_model(options.tokenizer, model)
    lines = table_head("way", "questions", "seconds: answers", "states", "questions/s: answers", "states")
    for engine in options.engines:
        for batch_size in options.batch_sizes if engine == "local" else options.batch_sizes[-1:]:
            folder = options.folder / f"{engine}-{batch_size}"
            seconds = run_steps(model, folder, engine, options.n, batch_size)
            rates = [f"{options.n / seconds[name]:.1f}" for name in ("answer", "capture")]
            name = f"probemap, transformers, batches of {batch_size}" if engine == "local" else f"probemap, {engine}"
            lines.append(row(name, options.n, f"{seconds['answer']:.1f}", f"{seconds['capture']:.1f}", *rates))
            print(lines[-1], flush=True)
    rows = options.folder / "rows.jsonl"
    answers = list(Run(folder).answers)[: options.n_research]
    prompts = [
        {"prompt_ids": a.token_ids[: a.n_prompt], "max_new_tokens": len(a.token_ids) - a.n_prompt, "correct": i % 2}
        for i, a in enumerate(answers)
    ]
    rows.write_text("".join(json.dumps(line) + "\n" for line in prompts), encoding="utf-8")
    arguments = argparse.Namespace(model=str(model), device="cuda", dtype="bfloat16")
    for name in ("research code", "careful script"):
        seconds = run_script(name, arguments, rows)
        rates = [f"{len(prompts) / seconds[part]:.1f}" for part in ("answers", "states")]
        lines.append(row(name, len(prompts), f"{seconds['answers']:.1f}", f"{seconds['states']:.1f}", *rates))
        print(lines[-1], flush=True)
    return lines


def measure_fits(folder: Path, repeats: int) -> list[str]:
    n_layers, n_positions = 2, 12
    head = ("n", "d", "cells", "GPU", "CPU", "scikit-learn", "CPU / GPU", "scikit-learn / GPU")
    lines = table_head(*head)
    for n, d in ((100, 576), (1000, 576), (1000, 4096)):
        states, correct = synthetic_states(
            folder / f"{n}-{d}.npy", n=n, d=d, decay=1.0, n_layers=n_layers, n_positions=n_positions
        )
        problem = Problem(
            states=states, correct=correct, fold=np.arange(n) % FOLDS, label_sets=correct[None], c_values=(1.0,)
        )
        times: dict[str, list[float]] = {"cuda": [], "cpu": [], "scikit-learn": []}
        with joblib.Parallel(n_jobs=-1) as parallel:
            for repeat in range(repeats + 1):
                for way, values in times.items():
                    started = time.perf_counter()
                    if way == "scikit-learn":
                        fit_with_sklearn(parallel, problem, correct[None], {"max_iter": 100})
                    else:
                        fit_map(states, correct, nested=False, device=way)
                    if repeat:  # the first repetition starts workers and loads libraries
                        values.append(time.perf_counter() - started)
        ratios = [
            spread([a / b for a, b in zip(times[way], times["cuda"], strict=True)], ".1f")
            for way in ("cpu", "scikit-learn")
        ]
        lines.append(row(n, d, len(problem.cells), *(spread(values) for values in times.values()), *ratios))
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tokenizer")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--engines", default="local", type=lambda text: text.split(","))
    parser.add_argument("--batch-sizes", default="32,128", type=lambda text: [int(size) for size in text.split(",")])
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--n-research", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=("model", "fits"))
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    options.folder.mkdir(parents=True, exist_ok=True)
    lines = ["# On a GPU", "", f"{torch.cuda.get_device_name()}.  {machine()}"]
    if options.only != "fits":
        lines += ["", "## A model with 7B weights", "", *measure_model(options)]
    if options.only != "model":
        lines += ["", "## Fits", "", *measure_fits(options.folder, options.repeats)]
    write("gpu", lines)


if __name__ == "__main__":
    main()
