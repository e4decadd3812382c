"""Fit calibration curves, which convert scores to probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from probemap.probing.metrics import calibration_errors

if TYPE_CHECKING:
    from probemap.probing.auc import Bools, Floats

MIN_ISOTONIC = 1000
"""Minimum number of answers for isotonic calibration.

If there are fewer, Platt scaling is used, because it has only two parameters.
"""
SHIFT_PRIOR = 2.0
"""Standard deviation, in log-odds, of the normal prior on `Calibration.shift`."""
MIN_SLOPE = 0.01
"""Minimum slope of a calibration with a shift, in log-odds per standard deviation of the scores.

Uninformative scores would yield a slope close to 0, but the slope must be positive, because the shift is divided by the
slope to convert it to the units of the scores.
"""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A monotonic curve, fitted to out-of-fold scores, that maps scores to probabilities."""

    method: Literal["platt", "isotonic"]
    parameters: Floats
    """ndarray of shape (2, k), float64; see `Head.calibration`."""
    shift: float = 0.0
    """Value to add to the scores of the answers in the subset that was passed to `calibrate`."""


def calibrate(scores: Floats, correct: Bools, subset: Bools) -> Calibration:
    """Fit a calibration to out-of-fold scores.

    Platt scaling is used for fewer than `MIN_ISOTONIC` answers, and isotonic regression otherwise (Niculescu-Mizil &
    Caruana 2005).  If any answer belongs to the subset, Platt scaling with a shift is used instead, because an
    answer in the subset may have a different probability of being correct than other answers with the same score.

    Parameters
    ----------
    scores : ndarray of shape (n,), float64
        Out-of-fold scores, in log-odds.
    correct : ndarray of shape (n,), bool
        Whether each answer is correct.
    subset : ndarray of shape (n,), bool
        Whether each answer belongs to the subset whose scores are shifted.  If all values are False, there is no shift.

    Returns
    -------
    Calibration
    """
    if subset.any():
        return _calibrate_with_shift(scores, correct, subset)
    if len(scores) < MIN_ISOTONIC:
        # No penalty is needed, because only two parameters are fitted and the scores are close to 0.
        curve = LogisticRegression(C=np.inf, tol=1e-8, max_iter=10_000).fit(scores[:, None], correct)
        if curve.coef_[0, 0] < 0:
            # A negative slope is due to noise.  The scores are then ignored rather than inverted.
            base_rate = np.log(correct.mean() / (1 - correct.mean()))
            return Calibration(method="platt", parameters=np.array([[0.0], [base_rate]]))
        return Calibration(method="platt", parameters=np.array([[curve.coef_[0, 0]], [curve.intercept_[0]]]))
    # A finite number of answers does not justify a probability of 0 or 1 (Laplace's rule of succession).
    edge = 1 / (len(scores) + 2)
    curve = IsotonicRegression(y_min=edge, y_max=1 - edge).fit(scores, correct)
    parameters = np.array([curve.X_thresholds_, curve.y_thresholds_], np.float64)
    return Calibration(method="isotonic", parameters=parameters)


def _calibrate_with_shift(scores: Floats, correct: Bools, subset: Bools) -> Calibration:
    """Fit a logistic regression with two features: the score and subset membership.

    The coefficient of subset membership has a normal prior with mean 0 and standard deviation `SHIFT_PRIOR`.  Without
    this prior, the answers in a small subset that contains only incorrect answers would get a probability of 0.
    """
    centre, spread = float(scores.mean()), float(scores.std()) or 1.0
    # The L2 penalty is the same for both features.  Dividing the score by a small unit makes its weight small, so that
    # the penalty affects only the coefficient of subset membership.
    unit = 1e-3
    features = np.stack([(scores - centre) / spread / unit, SHIFT_PRIOR * subset], axis=1)
    curve = LogisticRegression(C=1.0, solver="newton-cholesky", tol=1e-8, max_iter=10_000)
    if curve.fit(features, correct).coef_[0, 0] < 0:
        # As in `calibrate`, the scores are ignored if the slope is negative.
        curve.fit(features * [0, 1], correct)
    score_weight, subset_weight = curve.coef_[0] * [1 / unit, SHIFT_PRIOR]
    slope = max(score_weight, MIN_SLOPE) / spread
    parameters = np.array([[slope], [curve.intercept_[0] - slope * centre]])
    return Calibration(method="platt", parameters=parameters, shift=float(subset_weight / slope))


def calibration_noise(p: Floats) -> float:
    """Estimate the expected calibration error that probabilities would have if they were perfectly calibrated.

    Parameters
    ----------
    p : ndarray of shape (n,), float64
        The probabilities.  Labels are drawn from them 200 times, using a fixed seed, and the errors are averaged.
    """
    draw = np.random.default_rng(0)
    errors = [calibration_errors(p[:, None], draw.random(len(p)) < p)[0] for _ in range(200)]
    return float(np.mean(errors))
