"""One linear probe per cell, judged out of fold.

An L2-regularised logistic regression on standardised states, the scaling learnt inside each fold; any
scikit-learn classifier with ``decision_function`` can take its place.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from probemap.records import MapError

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

MIN_PER_CLASS = 10
"""Fewer right or fewer wrong answers than this in a column: too few to say, no value is given."""


def logistic_probe(c: float = 1.0) -> Any:
    """Standardise, then logistic regression with penalty ``|w|² / (2c)``, run to convergence."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=5000))


def assign_folds(correct: Bools, groups: Ints, folds: int, seed: int) -> Ints:
    """The fold of each answer, (n,): stratified by verdict, all answers of one group in one fold.

    Raises
    ------
    MapError: fewer right or wrong answers than folds.
    """
    rarer = int(min(correct.sum(), (~correct).sum()))
    if rarer < folds:
        raise MapError(
            f"{int(correct.sum())} answers are right and {int((~correct).sum())} wrong: "
            f"{folds} folds need at least {folds} of each",
            "ask more questions, or a task that the model gets right more and less often",
        )
    fold = np.empty(len(correct), dtype=np.int64)
    splits = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # Says that a class has fewer groups than folds; the column's own rule decides about that.
        warnings.simplefilter("ignore", UserWarning)
        for number, (_, test) in enumerate(splits.split(correct, correct, groups)):
            fold[test] = number
    return fold


def out_of_fold_scores(
    states: npt.NDArray[np.float32],
    correct: Bools,
    fold: Ints,
    make_probe: Callable[[], Any] = logistic_probe,
) -> npt.NDArray[np.float64] | None:
    """Each answer's score from the probe that was fitted without its fold.

    Parameters
    ----------
    states: (n, d), NaN rows where the position is missing.

    Returns
    -------
    (n,) float64 decision values, higher means "right", NaN where the position is missing; None if there are
    too few right or wrong answers to say.
    """
    present = ~np.isnan(states[:, 0])
    right, wrong = present & correct, present & ~correct
    if min(right.sum(), wrong.sum()) < MIN_PER_CLASS:
        return None
    scores = np.full(len(correct), np.nan)
    probe = make_probe()
    for number in np.unique(fold):
        train, test = present & (fold != number), present & (fold == number)
        if not test.any():
            continue
        if len(np.unique(correct[train])) < 2:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("error", ConvergenceWarning)
            fitted = clone(probe).fit(states[train].astype(np.float64), correct[train])
        scores[test] = fitted.decision_function(states[test].astype(np.float64))
    return scores
