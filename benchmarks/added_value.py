"""Check what cells add to a baseline, in simulations: ``python benchmarks/added_value.py [MAPS]``.

Each setting is simulated MAPS times (default 400).  Writes ``benchmarks/results/added_value.md``.

Confidence is Gaussian, and higher for correct answers.  The states of every cell contain a noisy copy of confidence,
with noise that decreases from cell to cell.  In some settings, they also contain a second direction, which is
independent of confidence given the label.  It is strongest in the last cell, where confidence and this direction
together have a higher AUC than confidence alone, by the amount in the table.

The true value of ``adds`` is the AUC that the regressions of the folds reach on infinitely many new answers, minus that
of confidence, as in ``coverage.py``.
"""

import argparse

import numpy as np
import numpy.typing as npt
import torch
from report import machine, simulation_table, write
from scipy.stats import norm

from probemap.maps.column_baselines import fit_baseline
from probemap.maps.fit import fit_map
from probemap.maps.gain import with_baselines
from probemap.maps.probe_map import ProbeMap
from probemap.probing.baselines import Baseline
from probemap.probing.stacking import stacked_scores
from probemap.views.words import observe

LAYERS, POSITIONS, WIDTH, FOLDS = 4, 3, 12, 5
CONFIDENCE_SHIFT = 1.0  # an AUC of 0.76
SETTINGS = ((300, 0.0), (1000, 0.0), (300, 0.05), (1000, 0.05))
"""Answers, and the AUC that the second direction adds in the last cell."""

Floats = npt.NDArray[np.float64]


def auc(shift: float | Floats) -> Floats:
    """Return the AUC of a Gaussian score whose means differ by `shift` standard deviations."""
    return np.asarray(norm.cdf(np.asarray(shift) / np.sqrt(2)))


def shift_that_adds(added: float) -> float:
    """Return the shift of a second Gaussian score that raises the AUC of confidence by `added`."""
    together = np.sqrt(2) * norm.ppf(auc(CONFIDENCE_SHIFT) + added)
    return float(np.sqrt(together**2 - CONFIDENCE_SHIFT**2))


def simulate_map(setting: tuple[int, float, int]) -> dict[str, float]:
    """Return, for one simulated map, what the columns of the table average."""
    n, added, seed = setting
    torch.set_num_threads(1)
    rng = np.random.default_rng(seed)
    correct = rng.random(n) < 0.45
    confidence = rng.normal(size=n) + CONFIDENCE_SHIFT * correct
    strength = np.linspace(0.0, 1.0, LAYERS * POSITIONS).reshape(LAYERS, POSITIONS)
    states = rng.normal(size=(n, LAYERS, POSITIONS, WIDTH))
    states[..., 0] = confidence[:, None, None] + (1.2 - strength) * states[..., 0]
    delta = np.zeros((LAYERS, POSITIONS, WIDTH))
    delta[..., 1] = strength * shift_that_adds(added)
    states = states + correct[:, None, None, None] * delta
    ids = [str(i) for i in range(n)]
    plain = fit_map(states.astype(np.float32), correct, folds=FOLDS, seed=seed, ids=ids)
    baseline = Baseline("confidence", "", confidence)
    probe_map = with_baselines(plain, [baseline], ids)
    truth = true_values(states.astype(np.float32), plain, baseline, delta, 1.2 - strength)
    data = probe_map.data
    texts = [item.text for item in observe(probe_map) if item.about == "added"]
    return {
        "a cell adds (band)": float((data.adds_band_low > 0).any()),
        "a cell adds (text)": float(any("Cells add to the baselines" in text for text in texts)),
        "adds, last cell": float(data.adds[-1, -1]),
        "adds minus its truth": float((data.adds - truth).mean()),
        "coverage of a cell": float(((data.adds_low <= truth) & (truth <= data.adds_high)).mean()),
        "coverage of the last cell": float(data.adds_low[-1, -1] <= truth[-1, -1] <= data.adds_high[-1, -1]),
        "coverage of the band": float(((data.adds_band_low <= truth) & (truth <= data.adds_band_high)).all()),
        "absorbed, first cell": float(data.absorbed[0, 0]),
        "absorbed, last cell": float(data.absorbed[-1, -1]),
        "catch, last cell": float(data.catch[-1, -1]),
    }


def true_values(
    states: npt.NDArray[np.float32], probe_map: ProbeMap, baseline: Baseline, delta: Floats, noise: Floats
) -> Floats:
    """Return the true value of ``adds`` for the regressions of each cell, of shape (layers, positions)."""
    data = probe_map.data
    correct, fold = data["correct"].values.astype(bool), data["fold"].values[0].astype(np.int64)
    everything = np.ones(len(correct), bool)
    fitted = fit_baseline(data, baseline, np.arange(len(correct)), everything, everything)
    assert fitted is not None
    confidence = np.asarray(baseline.values, np.float64)
    pairs = np.array([(correct & (fold == k)).sum() * (~correct & (fold == k)).sum() for k in range(FOLDS)], float)
    truth = np.empty((LAYERS, POSITIONS))
    for layer in range(LAYERS):
        for column in range(POSITIONS):
            cell = data["fold_scores"].values[0, :, :, layer, column].astype(np.float64)
            features = np.concatenate([fitted.features[0], cell[..., None]], axis=-1)[None]
            together = stacked_scores(features, correct, fold, list(range(FOLDS)))[0]
            # Given the label, confidence, the noise of its copy and the other directions are independent.
            x = states[:, layer, column].astype(np.float64)
            by_fold = []
            for k in range(FOLDS):
                rows = fold == k
                design = np.c_[confidence[rows], x[rows], np.ones(rows.sum())]
                w = np.linalg.lstsq(design, together[rows], rcond=None)[0][:-1]
                mean = w[0] * CONFIDENCE_SHIFT + w[1] * CONFIDENCE_SHIFT + w[1:] @ delta[layer, column]
                variance = (w[0] + w[1]) ** 2 + (w[1] * noise[layer, column]) ** 2 + (w[2:] ** 2).sum()
                by_fold.append(float(auc(mean / np.sqrt(variance))))
            truth[layer, column] = np.average(by_fold, weights=pairs) - auc(CONFIDENCE_SHIFT)
    return truth


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("maps", type=int, nargs="?", default=400)
    n_maps = parser.parse_args().maps
    lines = [
        "# What cells add to a baseline",
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
            ({"n": n, "added": added or "nothing"}, [(n, added, 10_000 * number + seed) for seed in range(n_maps)])
            for number, (n, added) in enumerate(SETTINGS)
        ],
    )
    write("added_value", lines)


if __name__ == "__main__":
    main()
