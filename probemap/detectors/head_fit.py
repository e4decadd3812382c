"""Fit, calibrate and evaluate a detector's heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from probemap.detectors.calibration import calibrate, calibration_noise
from probemap.detectors.head import Cell, Evaluation, Head
from probemap.maps.layers import fit_cell
from probemap.probing.auc import Bools, Floats, Ints, auc_interval, aucs
from probemap.probing.bootstrap import selective_metrics
from probemap.probing.folds import assign_folds, group_numbers
from probemap.probing.inference import sum_by_group
from probemap.probing.metrics import calibration_errors
from probemap.probing.plan import ProbePlan
from probemap.records import DetectorError, TooFewError

if TYPE_CHECKING:
    from probemap.activations.source import ActivationSource
    from probemap.maps.probe_map import ProbeMap
    from probemap.probing.cell_scores import CellScores

FOLDS = 5
"""Number of cross-validation folds used to compute out-of-fold scores."""
MIN_HELD_OUT = 20
"""An evaluation requires at least this many correct and this many incorrect held-out answers."""

_NAN = float("nan")
_NOT_EVALUATED = Evaluation(
    n=0,
    n_correct=0,
    auc=_NAN,
    auc_low=_NAN,
    auc_high=_NAN,
    brier=_NAN,
    calibration_error=_NAN,
    calibration_noise=_NAN,
)


@dataclass(frozen=True, kw_only=True)
class HeadFitter:
    """Fits, calibrates and evaluates the heads of one detector.  All heads use the same held-out answers."""

    source: ActivationSource
    probe_map: ProbeMap
    labels: Floats
    """ndarray of shape (n,), float64; 1 for correct, 0 for incorrect and NaN for undecided answers."""
    held_out: Bools
    """ndarray of shape (n,), bool; whether each answer is held out."""
    evaluate: bool
    """Whether to evaluate the heads on the held-out answers.  An error is raised if there are too few of them."""
    group: Ints
    """ndarray of shape (n,), int64; the group of each answer."""
    c_values: tuple[float, ...]
    seed: int

    def fit(self, cells: Sequence[tuple[int, str]], subset: Bools) -> Head:
        """Fit a head with the given cells.

        Parameters
        ----------
        cells : sequence of (int, str)
            The cells, as pairs (layer, position).
        subset : ndarray of shape (n,), bool
            A mask of the answers that need the head because it is their fallback; all False for the primary head.
        """
        self._check_cells(cells)
        states, correct = self.states(cells), self.labels == 1
        usable = has_all_cells(states) & ~np.isnan(self.labels)
        training = usable & ~self.held_out
        out_of_fold = [self._out_of_fold_scores(states[:, k]) for k in range(len(cells))]
        scores = np.mean([cell_scores for cell_scores, _ in out_of_fold], axis=0)
        probes = np.stack(
            [fit_probe(states[training, k], correct[training], c) for k, (_, c) in enumerate(out_of_fold)]
        )
        calibration = calibrate(scores[training], correct[training], subset[training])
        head = Head(
            cells=tuple(Cell(*cell) for cell in cells),
            weight=probes[:, :-1],
            bias=probes[:, -1],
            calibration=calibration.parameters,
            calibration_method=calibration.method,
            evaluation=_NOT_EVALUATED,
            thresholds=(),
        )
        if self.evaluate:
            rows = usable & self.held_out
            new_scores = head.scores(states[rows]) + calibration.shift * subset[rows]
            head = _evaluated(head, new_scores, correct[rows], self.group[rows])
        # A fallback scores only answers in the subset, so the shift can be included in the bias.
        return replace(head, bias=head.bias + calibration.shift)

    def _check_cells(self, cells: Sequence[tuple[int, str]]) -> None:
        layers, positions = self.probe_map.layers, self.probe_map.positions
        unknown = [cell for cell in cells if cell[0] not in layers or cell[1] not in positions]
        if not cells or unknown:
            raise DetectorError(
                f"the map has no cell {unknown[0]}" if unknown else "the sequence of cells is empty",
                f"the layers are {layers[0]} to {layers[-1]}; the positions are {', '.join(positions)}",
            )
        if any(bool(self.probe_map.auc.sel(layer=layer, position=position).isnull()) for layer, position in cells):
            raise DetectorError(
                f"too few answers have the positions of the cells {cells}", "ask more questions, or use different cells"
            )

    def _out_of_fold_scores(self, states: npt.NDArray[np.float32]) -> tuple[Floats, float]:
        """Return the out-of-fold scores for one cell and the C value of its probes.

        Parameters
        ----------
        states : ndarray of shape (n, d), float32

        Returns
        -------
        tuple of (ndarray of shape (n,), float)
            The scores, with NaN for answers that are held out or undecided or that lack the position, and the C value.
        """
        training = ~self.held_out & ~np.isnan(self.labels)
        correct = self.labels[training] == 1
        fold = assign_folds(correct, group_numbers(self.group[training], len(correct)), FOLDS, self.seed)

        def fit(c_values: tuple[float, ...]) -> CellScores:
            plan = ProbePlan(fold=fold, c_values=c_values, nested=len(c_values) > 1, device="auto")
            cell = fit_cell(states[training], correct, plan)
            if cell is None:
                raise TooFewError(
                    "too few answers have the position of the cell to fit its probes by cross-validation",
                    "ask more questions, or use different cells",
                )
            return cell

        c = self.c_values[0] if len(self.c_values) == 1 else float(np.median(fit(self.c_values).c))
        scores = np.full(len(training), np.nan)
        # All folds use the C value of the final probe, so that the out-of-fold scores are on the scale of its scores.
        scores[training] = fit((c,)).scores
        return scores, c

    def states(self, cells: Sequence[tuple[int, str]]) -> npt.NDArray[np.float32]:
        """Return the states at the cells as an array of shape (n, n_cells, d), with NaN where a position is missing."""
        columns = [(layer, self.source.positions.index(position)) for layer, position in cells]
        return np.stack([self.source.read(layer)[:, column] for layer, column in columns], axis=1)


def _evaluated(head: Head, scores: Floats, correct: Bools, group: Ints) -> Head:
    """Evaluate a head, and return a copy that includes the results.

    Parameters
    ----------
    scores, correct, group : ndarray of shape (n_held_out,)
    """
    n_correct, n_incorrect = int(correct.sum()), int((~correct).sum())
    if min(n_correct, n_incorrect) < MIN_HELD_OUT:
        raise DetectorError(
            f"{n_correct} correct and {n_incorrect} incorrect answers are held out, but the evaluation requires at "
            f"least {MIN_HELD_OUT} of each",
            "ask more questions, or hold out a larger share",
        )
    p = head.probabilities(scores)
    estimate = aucs(scores[:, None], correct)
    auc, variance = float(estimate.value[0]), float((sum_by_group(estimate.influence, group) ** 2).sum())
    low, high = auc_interval(auc, variance, n_correct, n_incorrect)
    evaluation = Evaluation(
        n=len(correct),
        n_correct=n_correct,
        auc=auc,
        auc_low=low,
        auc_high=high,
        brier=float(((p - correct) ** 2).mean()),
        calibration_error=float(calibration_errors(p[:, None], correct)[0]),
        calibration_noise=calibration_noise(p),
        metrics=selective_metrics(scores, p, correct, groups=group),
    )
    return replace(head, evaluation=evaluation)


def has_all_cells(states: npt.NDArray[np.float32]) -> Bools:
    """Return a boolean mask of the answers that have the positions of all cells.

    Parameters
    ----------
    states : ndarray of shape (n, n_cells, d), float32
    """
    return np.asarray(~np.isnan(states[:, :, 0]).any(axis=1))


def fit_probe(states: npt.NDArray[np.float32], correct: Bools, c: float) -> Floats:
    """Fit a logistic regression to standardised states and fold the standardisation into its weights.

    Parameters
    ----------
    states : ndarray of shape (n, d), float32
    correct : ndarray of shape (n,), bool
    c : float
        Inverse strength of the L2 penalty.

    Returns
    -------
    ndarray of shape (d + 1,), float64
        The weights followed by the bias, both for unscaled states.
    """
    x = states.astype(np.float64)
    mean, scale = x.mean(axis=0), x.std(axis=0)
    divisor = np.where(scale > 0, scale, np.inf)  # a constant feature gets the weight 0
    probe = LogisticRegression(C=c, tol=1e-8, max_iter=10_000).fit((x - mean) / divisor, correct)
    weight = probe.coef_[0] / divisor
    return np.append(weight, probe.intercept_[0] - weight @ mean)
