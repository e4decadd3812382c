"""Bootstrap resamples of the questions, and the percentiles of metrics that are computed from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from probemap.probing.auc import Bools, Floats, Ints

RESAMPLES = 300
"""Number of bootstrap resamples for the intervals."""


def question_copies(groups: Ints, correct: Bools, *, resamples: int = RESAMPLES, seed: int = 0) -> Ints:
    """Return how often each answer occurs in the data, which is once, and in each bootstrap resample of the questions.

    Parameters
    ----------
    groups : ndarray of shape (n,), int
        Number of each answer's group, from 0 to the number of groups minus 1.
    correct : ndarray of shape (n,), bool
    resamples : int, default=300
    seed : int, default=0

    Returns
    -------
    ndarray of shape (n, 1 + resamples), int64
        The first column is 1 for each answer.  A resample with only correct or only incorrect answers is 0 for each
        answer, so that its metrics are NaN.
    """
    n_groups = int(groups.max(initial=-1)) + 1
    draw = np.random.default_rng(seed)
    copies = np.ones((1 + resamples, len(correct)), np.int64)
    for resample in copies[1:] if n_groups else ():
        resample[:] = np.bincount(draw.integers(n_groups, size=n_groups), minlength=n_groups)[groups]
        resample *= 0 < int(resample @ ~correct) < resample.sum()
    return np.ascontiguousarray(copies.T)


def with_percentiles(
    values: Floats, variance_factor: float = 1.0, limits: tuple[float, float] = (-np.inf, np.inf)
) -> Floats:
    """Return metrics with the 2.5th and the 97.5th percentiles of their resamples.

    Parameters
    ----------
    values : ndarray of shape (..., 1 + resamples), float64
        The metrics of the data, and those of each resample.
    variance_factor : float, default=1.0
        Factor for the variance of the resamples: their distances from the value are multiplied by its square root.
    limits : (float, float), optional
        Lowest and highest value of the metrics, which the percentiles could exceed because of the factor.

    Returns
    -------
    ndarray of shape (3, ...), float64
        The metrics, and the lower and upper percentiles, which are NaN if a metric is NaN or if fewer than half of the
        resamples have values.
    """
    value, resampled = values[..., 0], values[..., 1:]
    complete = resampled[..., ~np.isnan(resampled).any(axis=tuple(range(values.ndim - 1)))]
    ends = np.full((2, *value.shape), np.nan)
    if complete.shape[-1] and complete.shape[-1] >= resampled.shape[-1] / 2:
        ends = np.quantile(complete, [0.025, 0.975], axis=-1)
    return np.stack([value, *np.clip(value + (ends - value) * np.sqrt(variance_factor), *limits)])
