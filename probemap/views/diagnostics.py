"""One cell in detail: its ROC, how far its probabilities can be believed, and how the scores of its answers lie."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from scipy.stats import norm
from sklearn.metrics import roc_curve

from probemap.probing.auc import LEVEL, Bools, Floats, Ints
from probemap.probing.cell_map import CellMap

FALSE_ALARMS = np.linspace(0, 1, 26)
"""Shares of wrong answers that are taken for right, at which a ROC is given."""

BINS = 10
"""Of equally many answers each, in which probabilities are compared with shares."""

HEAPS = np.linspace(0, 1, 21)
"""Edges of the histogram of probabilities."""


@dataclass(frozen=True)
class Portrait:
    """What the scores of one cell look like.  All scores are out of fold."""

    roc: Floats
    """(3, 26): share of right answers recognised at each of `FALSE_ALARMS`, and its pointwise 95 % interval; NaN where
    folds hold too few wrong answers to say."""
    reliability: Floats
    """(4, up to 10): for each bin the mean probability of "right", the share that is right, and its 95 % interval."""
    heaps: Ints
    """(2, 20): how many right, and how many wrong, answers have a probability between two of `HEAPS`."""


def probabilities(probe_map: CellMap) -> Floats:
    """(n, n_layers, n_positions): each answer's probability of being right, 1 / (1 + exp(-score)), the mean over
    repeats; NaN where the answer lacks the position.

    A score is a log-odds only for the default probe; for others this is a score between 0 and 1.
    """
    return np.asarray(expit(probe_map.data["scores"].values.astype(np.float64)).mean(axis=0))


def portraits(probe_map: CellMap) -> list[list[Portrait | None]]:
    """For every layer, for every position, the cell's portrait; None where there are too few answers to say."""
    data = probe_map.data
    scores, fold = data["scores"].values, data["fold"].values
    correct, known = data["correct"].values.astype(bool), data["auc"].notnull().values
    # Answers of one question count as one, and probes trained on each other's answers move together.
    apart = len(correct) / len(np.unique(data["group"].values)) * (1 + np.nan_to_num(data["variance_inflation"].values))
    chances = probabilities(probe_map)
    return [
        [
            _portrait(scores[:, :, i, j], fold, correct, chances[:, i, j], float(apart[i, j])) if known[i, j] else None
            for j in range(known.shape[1])
        ]
        for i in range(known.shape[0])
    ]


def _portrait(scores: npt.NDArray[np.float32], fold: Ints, correct: Bools, chances: Floats, apart: float) -> Portrait:
    there = ~np.isnan(chances)
    right, p = correct[there], chances[there]
    heaps = np.stack([np.histogram(p[right == side], HEAPS)[0] for side in (True, False)])
    return Portrait(_roc(scores[:, there], fold[:, there], right, apart), _reliability(p, right, apart), heaps)


def _roc(scores: npt.NDArray[np.float32], fold: Ints, right: Bools, apart: float) -> Floats:
    """Averaged over folds and repeats at equal false alarms (Fawcett 2006, section 8.1), as scores of other probes
    have another scale; each fold counts by its pairs, so that the area is about the cell's AUC.

    Its variance is that of Pepe 2003, section 5.2.2: of both shares, the second times the slope.
    """
    curves, pairs, fewest = [], [], len(right)
    for values, part in zip(scores, fold, strict=True):
        for k in np.unique(part):
            rows = part == k
            if right[rows].all() or not right[rows].any():
                continue
            alarms, hits, _ = roc_curve(right[rows], values[rows], drop_intermediate=False)
            curves.append(np.interp(FALSE_ALARMS, alarms, hits))
            pairs.append(right[rows].sum() * (~right[rows]).sum())
            fewest = min(fewest, int((~right[rows]).sum()))
    hits = np.average(curves, axis=0, weights=pairs)
    n_right, n_wrong = int(right.sum()), int((~right).sum())
    # Two of each kind are added, so that where none was missed something may still be (Agresti & Coull 1998).
    shrunk = (hits * n_right + 2) / (n_right + 4)
    slope = np.gradient(hits, FALSE_ALARMS)
    variance = shrunk * (1 - shrunk) / n_right + slope**2 * FALSE_ALARMS * (1 - FALSE_ALARMS) / n_wrong
    half = norm.ppf(0.5 + LEVEL / 2) * np.sqrt(variance * apart)
    # Below one wrong answer of a fold a curve cannot say how many right ones are recognised.
    half[: np.searchsorted(FALSE_ALARMS, 1 / fewest)] = np.nan
    return np.stack([hits, np.clip(hits - half, 0, 1), np.clip(hits + half, 0, 1)])


def _reliability(p: Floats, right: Bools, apart: float) -> Floats:
    """Shares with Wilson's interval (1927), of as many answers as there are independent ones."""
    z = float(norm.ppf(0.5 + LEVEL / 2))
    made = []
    for rows in np.array_split(np.argsort(p, kind="stable"), min(BINS, len(p))):
        n, share = len(rows) / apart, float(right[rows].mean())
        middle, half = share + z**2 / (2 * n), z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
        made.append([float(p[rows].mean()), share, *((middle + side * half) / (1 + z**2 / n) for side in (-1, 1))])
    return np.array(made).T
