"""Do the intervals hold?  Simulated maps with known truth: ``python benchmarks/coverage.py [MAPS]``.

States of right and wrong answers are Gaussian with the same covariance, so the true AUC of any linear probe w is
Φ(wᵀδ / √(2 wᵀΣw)).  The truth of a cell is the mean over its folds' probes, weighted as the cell's AUC weighs them:
what these very probes would reach on endless new answers.  Cells share a latent state, as layers of a model do.
"""

import os
import platform
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from scipy.stats import norm

from probemap.maps.fit import fit_map
from probemap.maps.probe_map import ProbeMap
from probemap.probing.cell_scores import Plan, _Designs

LAYERS, POSITIONS, WIDTH = 5, 4, 12
GRADES = np.linspace(0.0, 1.0, LAYERS * POSITIONS)  # from a cell of pure noise to the best cell


def simulate(n: int, signal: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """States (n, layers, positions, d), verdicts, and each cell's shift δ (layers, positions, d)."""
    draw = np.random.default_rng(seed)
    correct = draw.random(n) < 0.45
    shared = draw.normal(size=(n, 1, 1, WIDTH))
    states = 0.6 * shared + 0.8 * draw.normal(size=(n, LAYERS, POSITIONS, WIDTH))
    shift = np.zeros((LAYERS, POSITIONS, WIDTH))
    shift[..., 0] = signal * GRADES.reshape(LAYERS, POSITIONS)
    return (states + correct[:, None, None, None] * shift).astype(np.float32), correct, shift


def true_aucs(states: np.ndarray, made: ProbeMap, shift: np.ndarray) -> np.ndarray:
    """(folds, layers, positions): the true AUC of every fold's probe (Σ is the identity: 0.6² + 0.8²)."""
    fold, correct = made.data["fold"].values[0].astype(np.int64), made.data["correct"].values
    numbers = np.unique(fold)
    plan = Plan(fold, inner=False)
    truth = np.empty((len(numbers), LAYERS, POSITIONS))
    training = np.stack([fold != k for k in numbers])
    every = np.arange(len(plan.parts))
    for layer in range(LAYERS):
        x = np.ascontiguousarray(states[:, layer].swapaxes(0, 1))
        fits = _Designs(x, training, "cpu").fit(correct[None], 0 * every, every, np.ones((POSITIONS, len(every))))
        for column in range(POSITIONS):
            rows = np.c_[x[column], np.ones(len(correct))]
            w = np.linalg.lstsq(rows, fits.scores[column].numpy().T.astype(float), rcond=None)[0][:-1]
            truth[:, layer, column] = norm.cdf((shift[layer, column] @ w) / np.sqrt(2 * (w**2).sum(0)))
    return truth


def one_map(job: tuple[int, float, int]) -> dict[str, float]:
    n, signal, seed = job
    torch.set_num_threads(1)
    states, correct, shift = simulate(n, signal, seed)
    made = fit_map(states, correct, seed=seed)
    by_fold = true_aucs(states, made, shift)
    fold = made.data["fold"].values[0]
    pairs = np.array([(correct & (fold == k)).sum() * (~correct & (fold == k)).sum() for k in range(5)], float)
    truth = np.tensordot(pairs / pairs.sum(), by_fold, 1)
    data = made.data
    best = made.best()[0]
    honest = made.nested_best()
    assert honest is not None
    chosen = [by_fold[k, layer, made.positions.index(position)] for k, (layer, position) in enumerate(honest.chosen)]
    stays = made.confidence_set().values
    honest_truth = float(np.array(chosen) @ pairs / pairs.sum())
    return {
        "per-cell": float(((data.low <= truth) & (truth <= data.high)).mean()),
        "noise share": float(data.noise.mean()),
        "band": float(((data.band_low <= truth) & (truth <= data.band_high)).all()),
        "claims better than chance somewhere": float(made.above_chance.any()),
        "naive best minus its truth": best.auc - float(truth[best.layer, made.positions.index(best.position)]),
        "honest best minus its truth": honest.auc - honest_truth,
        "honest interval": float(honest.low <= honest_truth <= honest.high),
        "holds the best": float(stays.ravel()[int(truth.argmax())]),
        "size of the set": float(stays.sum()),
    }


def main(maps: int) -> None:
    lines = [
        f"Each row {maps} simulated maps of {LAYERS} × {POSITIONS} cells, d = {WIDTH}, five folds, C = 1.  In "
        "brackets: the standard error of the simulation.",
        "",
        f"Machine: {platform.machine()}, {os.cpu_count()} cores; torch {torch.__version__}, numpy {np.__version__}.",
        "",
    ]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for number, (n, signal) in enumerate(((200, 0.0), (1000, 0.0), (200, 1.0), (1000, 1.0))):
            jobs = [(n, signal, 10_000 * number + seed) for seed in range(maps)]
            rows = list(pool.map(one_map, jobs, chunksize=4))
            if not number:
                lines += ["| n | shift | " + " | ".join(rows[0]) + " |", "| --- | --- |" + " --- |" * len(rows[0])]
            cells = []
            for name in rows[0]:
                values = np.array([row[name] for row in rows])
                cells.append(f"{values.mean():.4f} ({values.std() / np.sqrt(len(values)):.4f})")
            lines.append(f"| {n} | {signal} | " + " | ".join(cells) + " |")
            print(lines[-1], flush=True)
    out = Path(__file__).parent / "results" / "coverage.md"
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500)
