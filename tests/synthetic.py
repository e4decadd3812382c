"""Synthetic states with a planted_states signal, and maps of given scores."""

from typing import Any

import numpy as np

from probemap.maps.probe_map import ProbeMap
from probemap.probing.dataset import MapScores, map_dataset

NAMES = ("last_q", "exact_answer_last", "-1")


def planted_states(n: int = 240, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return noise in which layer 1 at exact_answer_last shifts correct answers by 2.5 deviations, and the labels."""
    draw = np.random.default_rng(seed)
    correct = draw.random(n) < 0.4
    states = draw.normal(size=(n, 3, 3, 6)).astype(np.float32) * 5 + 100
    states[:, 1, 1, 2] += 12.5 * correct
    return states, correct


def from_scores(
    scores: Any, correct: Any, groups: Any = None, names: Any = ("-1",), ids: Any = None, folds: int = 1
) -> ProbeMap:
    """Return a map of given out-of-fold scores of shape (n, n_layers, n_positions)."""
    scores, correct = np.asarray(scores, np.float32), np.asarray(correct, bool)
    n = len(correct)
    map_scores = MapScores(
        scores=scores[None],
        correct=correct,
        fold=np.arange(n)[None] % folds,
        group=np.arange(n) if groups is None else np.asarray(groups),
        variance_inflation=np.zeros(scores.shape[1:]),
        answers=[str(i) for i in range(n)] if ids is None else ids,
        layers=range(scores.shape[1]),
        positions=names,
        present=~np.isnan(scores[:, 0]),
    )
    attrs = {"seed": 0, "probe": "", "answers": n, "decided": n, "right": int(correct.sum())}
    return ProbeMap(map_dataset(map_scores, attrs))


def some_scores(n: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return scores of shape (n, 3, 2), more informative in each layer, half of the second column NaN; and labels."""
    draw = np.random.default_rng(seed)
    correct = draw.random(n) < 0.4
    scores = draw.normal(size=(n, 3, 2)) + (correct[:, None, None] - 0.4) * np.arange(3)[:, None]
    scores[::2, :, 1] = np.nan
    return scores.astype(np.float32), correct
