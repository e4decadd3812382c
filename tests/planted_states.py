"""Hidden states with a planted difference between correct and incorrect answers."""

import numpy as np

from probemap.detectors.detector import Detector

POSITIONS = ("last_q", "exact_answer_last", "-1")


def planted(n: int = 1200, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return states of shape (n, 3, 3, 6), and labels.

    Classes differ by 2 standard deviations in layer 1 at exact_answer_last, and by 1 in layer 2 at -1.  One fifth of
    the answers has no exact answer.
    """
    draw = np.random.default_rng(seed)
    correct = draw.random(n) < 0.45
    states = draw.normal(size=(n, 3, 3, 6)).astype(np.float32) * 3 + 7
    states[:, 1, 1, 2] += 6 * correct
    states[:, 2, 2, 4] += 3 * correct
    states[::5, :, 1] = np.nan
    return states, correct


def at_cells(detector: Detector, states: np.ndarray) -> np.ndarray:
    """Return the states at the cells of a detector, of shape (n, n_cells, d)."""
    return np.stack([states[:, cell.layer, POSITIONS.index(cell.position)] for cell in detector.cells], axis=1)
