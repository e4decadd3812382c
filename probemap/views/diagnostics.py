"""Compute diagnostics of single cells: ROC curve, reliability curve, and histogram of the predicted probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from scipy.stats import norm
from sklearn.metrics import roc_curve

from probemap.probing.auc import LEVEL, Bools, Floats, Ints

if TYPE_CHECKING:
    from probemap.probing.cell_map import CellMap

FALSE_POSITIVE_RATES = np.linspace(0, 1, 26)
"""False positive rates at which ROC curves are evaluated.

The false positive rate is the fraction of incorrect answers that are predicted to be correct."""

N_BINS = 10
"""Number of bins in a reliability curve; all bins contain about the same number of answers."""

HISTOGRAM_EDGES = np.linspace(0, 1, 21)
"""Bin edges of the probability histogram."""


@dataclass(frozen=True, kw_only=True)
class CellDiagnostics:
    """Diagnostics of one cell, computed from out-of-fold scores."""

    roc: Floats
    """ROC curve, as an array of shape (3, 26): the true positive rate at each of `FALSE_POSITIVE_RATES`, and the lower
    and upper ends of its pointwise 95 % confidence interval.  The ends are NaN at false positive rates that correspond
    to less than one incorrect answer per fold."""
    reliability: Floats
    """Reliability curve, as an array of shape (4, n_bins) with at most `N_BINS` bins: the mean predicted probability,
    the fraction of correct answers, and the lower and upper ends of the 95 % confidence interval of that fraction."""
    histogram: Ints
    """Histogram of the predicted probabilities, as an array of shape (2, 20): the number of correct answers (first row)
    and of incorrect answers (second row) in each bin of `HISTOGRAM_EDGES`."""


def probabilities(probe_map: CellMap) -> Floats:
    """Compute the probability that each answer is correct, as predicted by each cell's probe.

    Each out-of-fold score is converted to the probability 1 / (1 + exp(-score)), and the probabilities are averaged
    over repeats.  Only the scores of the default probe are log-odds; for other probes, the result is a score between 0
    and 1 that cannot be interpreted as a probability.

    Parameters
    ----------
    probe_map : CellMap

    Returns
    -------
    ndarray of shape (n, n_layers, n_positions), float64
        Probabilities, with NaN where the answer does not have the position.
    """
    return np.asarray(expit(probe_map.data["scores"].values.astype(np.float64)).mean(axis=0))


def cell_diagnostics(probe_map: CellMap) -> list[list[CellDiagnostics | None]]:
    """Compute the diagnostics of every cell.

    Parameters
    ----------
    probe_map : CellMap

    Returns
    -------
    list of list of CellDiagnostics or None
        Diagnostics indexed by layer, then by position; None for cells with too few answers.
    """
    data = probe_map.data
    scores, fold = data["scores"].values, data["fold"].values
    correct, has_auc = data["correct"].values.astype(bool), data["auc"].notnull().values
    # All answers to one question count as a single observation, and probes that are trained on each other's test
    # answers have correlated errors; both reduce the effective number of answers.
    answers_per_question = len(correct) / len(np.unique(data["group"].values))
    inflation = answers_per_question * (1 + np.nan_to_num(data["variance_inflation"].values))
    p = probabilities(probe_map)

    def diagnose(i: int, j: int) -> CellDiagnostics | None:
        if not has_auc[i, j]:
            return None
        rows = ~np.isnan(p[:, i, j])
        p_cell, labels = p[rows, i, j], correct[rows]
        return CellDiagnostics(
            roc=_roc(scores[:, rows, i, j], fold[:, rows], labels, float(inflation[i, j])),
            reliability=_reliability(p_cell, labels, float(inflation[i, j])),
            histogram=np.stack([np.histogram(p_cell[labels == label], HISTOGRAM_EDGES)[0] for label in (True, False)]),
        )

    n_layers, n_positions = has_auc.shape
    return [[diagnose(i, j) for j in range(n_positions)] for i in range(n_layers)]


def _roc(scores: npt.NDArray[np.float32], fold: Ints, correct: Bools, inflation: float) -> Floats:
    """Return the ROC curve, averaged over folds and repeats at fixed false positive rates, and its confidence interval.

    One curve per fold is computed and the curves are averaged, because scores from different folds are not on the same
    scale (Fawcett 2006, section 8.1).  Each fold is weighted by the number of pairs that can be formed from a correct
    and an incorrect answer, so that the area under the averaged curve is approximately the AUC of the cell.  The
    variance of the curve is the variance of the true positive rate, plus the variance of the false positive rate
    multiplied by the squared slope of the curve (Pepe 2003, section 5.2.2).
    """
    curves, n_pairs, min_incorrect = [], [], len(correct)
    for repeat_scores, fold_of_row in zip(scores, fold, strict=True):
        for k in np.unique(fold_of_row):
            rows = fold_of_row == k
            if correct[rows].all() or not correct[rows].any():
                continue
            fpr, tpr, _ = roc_curve(correct[rows], repeat_scores[rows], drop_intermediate=False)
            curves.append(np.interp(FALSE_POSITIVE_RATES, fpr, tpr))
            n_pairs.append(correct[rows].sum() * (~correct[rows]).sum())
            min_incorrect = min(min_incorrect, int((~correct[rows]).sum()))
    tpr = np.average(curves, axis=0, weights=n_pairs)
    n_correct, n_incorrect = int(correct.sum()), int((~correct).sum())
    # As in Agresti & Coull (1998), two successes and two failures are added: the variance is then positive even at
    # rates of 0 and 1.
    shrunk = (tpr * n_correct + 2) / (n_correct + 4)
    slope = np.gradient(tpr, FALSE_POSITIVE_RATES)
    variance = shrunk * (1 - shrunk) / n_correct
    variance += slope**2 * FALSE_POSITIVE_RATES * (1 - FALSE_POSITIVE_RATES) / n_incorrect
    half_width = norm.ppf(0.5 + LEVEL / 2) * np.sqrt(variance * inflation)
    # At rates that correspond to less than one incorrect answer per fold, the curve is interpolated without data.
    half_width[: np.searchsorted(FALSE_POSITIVE_RATES, 1 / min_incorrect)] = np.nan
    return np.stack([tpr, np.clip(tpr - half_width, 0, 1), np.clip(tpr + half_width, 0, 1)])


def _reliability(p: Floats, correct: Bools, inflation: float) -> Floats:
    """Return the reliability curve with Wilson score intervals (Wilson 1927), which are based on the effective number
    of answers."""
    z = float(norm.ppf(0.5 + LEVEL / 2))
    bins = []
    for rows in np.array_split(np.argsort(p, kind="stable"), min(N_BINS, len(p))):
        n, fraction = len(rows) / inflation, float(correct[rows].mean())
        centre = fraction + z**2 / (2 * n)
        half_width = z * np.sqrt(fraction * (1 - fraction) / n + z**2 / (4 * n**2))
        low, high = ((centre + sign * half_width) / (1 + z**2 / n) for sign in (-1, 1))
        bins.append([float(p[rows].mean()), fraction, low, high])
    return np.array(bins).T
