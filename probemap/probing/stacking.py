"""Combine several scores of each answer in a logistic regression that is fitted and evaluated on different folds.

This is stacked generalisation (Wolpert 1992, Neural Networks 5:241).  The scores must come from probes or regressions
that were fitted without the labels of the outer fold and of the answer itself; see `plan.scores_without_fold`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from probemap.probing.logistic.solver import fit_logistic

if TYPE_CHECKING:
    from collections.abc import Sequence

    from probemap.probing.auc import Bools, Floats, Ints

_C = 1.0  # inverse strength of the L2 penalty, which hardly matters for a few standardised features


def stacked_scores(features: Floats, correct: Bools, fold: Ints, outer_folds: Sequence[int]) -> Floats:
    """Return out-of-fold scores of logistic regressions on a few features.

    Parameters
    ----------
    features : ndarray of shape (m, n_outer_folds, n, p), float64
        For m regressions and each outer fold, p features of each answer.  The features of the answers outside the fold
        are used to fit the regression, and those in the fold to evaluate it.
    correct : ndarray of shape (n,), bool
    fold : ndarray of shape (n,), int
        Fold of each answer.
    outer_folds : sequence of int

    Returns
    -------
    ndarray of shape (m, n), float64
        Out-of-fold scores.  A higher value indicates that the answer is more likely to be correct.  NaN for answers
        that are in none of the outer folds.
    """
    scores = np.full((len(features), len(correct)), np.nan)
    for k, outer_fold in enumerate(outer_folds):
        x = features[:, k].copy()
        # The scores of each fold come from a separate probe with its own intercept, so they are centred by fold.
        for number in np.unique(fold):
            x[:, fold == number] -= x[:, fold == number].mean(axis=1, keepdims=True)
        training, evaluated = fold != outer_fold, fold == outer_fold
        spread = x[:, training].std(axis=1, keepdims=True)
        x /= np.where(spread > 0, spread, np.inf)  # a constant feature becomes 0
        fits = fit_logistic(
            torch.from_numpy(x),
            torch.from_numpy(correct[None]),
            torch.from_numpy(training[None]),
            torch.ones(len(x), 1, x.shape[2], dtype=torch.float64),
            torch.full((len(x), 1), _C, dtype=torch.float64),
        )
        scores[:, evaluated] = fits.scores[:, 0].numpy()[:, evaluated]
    return scores
