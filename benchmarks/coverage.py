"""Measure the coverage of the intervals of a map in simulations: ``python benchmarks/coverage.py [MAPS]``.

Each setting is simulated MAPS times (default 500).  Writes ``benchmarks/results/coverage.md``.

The states of correct and incorrect answers are Gaussian with the same covariance Σ and means that differ by δ, so that
the true AUC of a linear probe w is Φ(wᵀδ / √(2 wᵀΣw)).  The true AUC of a cell is the mean over the probes of its
folds, weighted as in the cell's AUC: the value that these probes reach on infinitely many new answers.  The cells share
a latent state, as the layers of a model do.
"""

import argparse

import numpy as np
import numpy.typing as npt
import torch
from report import machine, simulation_table, write
from scipy.stats import norm

from probemap.maps.fit import fit_map
from probemap.maps.probe_map import ProbeMap
from probemap.probing.logistic.solver import DesignMatrices

LAYERS, POSITIONS, WIDTH, FOLDS = 5, 4, 12, 5
RELATIVE_SHIFTS = np.linspace(0.0, 1.0, LAYERS * POSITIONS)
"""Shift of each cell relative to that of the best one; the first cell is pure noise."""
SETTINGS = ((200, 0.0), (1000, 0.0), (200, 1.0), (1000, 1.0))
"""Answers, and shift of the best cell."""

Floats = npt.NDArray[np.float64]


def simulate(n: int, shift: float, seed: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_], Floats]:
    """Return states (n, layers, positions, d), labels (n,), and the mean difference δ of each cell."""
    rng = np.random.default_rng(seed)
    correct = rng.random(n) < 0.45
    shared = rng.normal(size=(n, 1, 1, WIDTH))
    states = 0.6 * shared + 0.8 * rng.normal(size=(n, LAYERS, POSITIONS, WIDTH))
    delta = np.zeros((LAYERS, POSITIONS, WIDTH))
    delta[..., 0] = shift * RELATIVE_SHIFTS.reshape(LAYERS, POSITIONS)
    return (states + correct[:, None, None, None] * delta).astype(np.float32), correct, delta


def true_aucs(states: npt.NDArray[np.float32], probe_map: ProbeMap, delta: Floats) -> Floats:
    """Return the true AUC of the probe of each fold, of shape (folds, layers, positions)."""
    fold, correct = probe_map.data["fold"].values[0].astype(np.int64), probe_map.data["correct"].values
    training = np.stack([fold != k for k in range(FOLDS)])
    sets = np.arange(FOLDS)
    truth = np.empty((FOLDS, LAYERS, POSITIONS))
    for layer in range(LAYERS):
        x = np.ascontiguousarray(states[:, layer].swapaxes(0, 1))
        fits = DesignMatrices(x, training, "cpu").fit(correct[None], 0 * sets, sets, np.ones((POSITIONS, FOLDS)))
        for column in range(POSITIONS):
            # The weights follow from the scores, which are linear in the states.
            with_intercept = np.c_[x[column], np.ones(len(correct))]
            scores = fits.scores[column].numpy().T.astype(np.float64)
            w = np.linalg.lstsq(with_intercept, scores, rcond=None)[0][:-1]
            # Σ is the identity: 0.6² + 0.8² = 1.
            truth[:, layer, column] = norm.cdf((delta[layer, column] @ w) / np.sqrt(2 * (w**2).sum(0)))
    return truth


def simulate_map(setting: tuple[int, float, int]) -> dict[str, float]:
    """Return, for one simulated map, what the columns of the table average."""
    n, shift, seed = setting
    torch.set_num_threads(1)
    states, correct, delta = simulate(n, shift, seed)
    probe_map = fit_map(states, correct, folds=FOLDS, seed=seed)
    truth_of_fold = true_aucs(states, probe_map, delta)
    fold = probe_map.data["fold"].values[0]
    pairs = np.array([(correct & (fold == k)).sum() * (~correct & (fold == k)).sum() for k in range(FOLDS)], float)
    truth = np.tensordot(pairs / pairs.sum(), truth_of_fold, 1)
    data, positions, (best,) = probe_map.data, probe_map.positions, probe_map.best()
    nested = probe_map.nested_best()
    assert nested is not None
    selected = [truth_of_fold[k, layer, positions.index(name)] for k, (layer, name) in enumerate(nested.selected)]
    nested_truth = float(np.array(selected) @ pairs / pairs.sum())
    confidence_set = probe_map.confidence_set().values
    return {
        "coverage of a cell": float(((data.low <= truth) & (truth <= data.high)).mean()),
        "variance inflation": float(data.variance_inflation.mean()),
        "coverage of the band": float(((data.band_low <= truth) & (truth <= data.band_high)).all()),
        "a cell above chance": float(probe_map.above_chance.any()),
        "highest AUC minus its truth": best.auc - float(truth[best.layer, positions.index(best.position)]),
        "nested-CV AUC minus its truth": nested.auc - nested_truth,
        "coverage of nested CV": float(nested.low <= nested_truth <= nested.high),
        "coverage of the confidence set": float(confidence_set.ravel()[int(truth.argmax())]),
        "size of the confidence set": float(confidence_set.sum()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("maps", type=int, nargs="?", default=500)
    n_maps = parser.parse_args().maps
    lines = [
        "# Coverage",
        "",
        f"Each row: means over {n_maps} simulated maps of {LAYERS} × {POSITIONS} cells, d = {WIDTH}, five folds, "
        "C = 1.  In brackets: the standard error of the simulation.",
        "",
        machine(),
        "",
    ]
    lines += simulation_table(
        simulate_map,
        [
            ({"n": n, "shift": shift}, [(n, shift, 10_000 * number + seed) for seed in range(n_maps)])
            for number, (n, shift) in enumerate(SETTINGS)
        ],
    )
    write("coverage", lines)


if __name__ == "__main__":
    main()
