"""One linear probe per cell, judged out of fold.

An L2-regularised logistic regression on standardised states, the scaling learnt inside each fold, all folds of a cell
solved at once; any scikit-learn classifier with ``decision_function`` can take its place, fold by fold.
"""

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import clone
from sklearn.model_selection import StratifiedGroupKFold

from probemap.records import MapError
from probemap.solver import fit_logistic

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

MIN_PER_CLASS = 10
"""Fewer right or fewer wrong answers than this in a column: too few to say, no value is given."""


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
    states: npt.NDArray[np.float32], correct: Bools, fold: Ints, *, c: float = 1.0, probe: Any = None
) -> npt.NDArray[np.float64] | None:
    """Each answer's score from the probe that was fitted without its fold.

    Parameters
    ----------
    states: (n, d), NaN rows where the position is missing.
    c: inverse strength of the L2 penalty, as scikit-learn's ``C``.
    probe: a scikit-learn classifier instead; it sees the states unscaled.

    Returns
    -------
    (n,) float64 decision values, higher means "right", NaN where the position is missing; None if there are
    too few right or wrong answers to say, in all or in some fold's training rows.

    Raises
    ------
    MapError: a fit did not converge, or a state is partly NaN or infinite.
    """
    present = ~np.isnan(states[:, 0])
    bad = present & ~np.isfinite(states).all(axis=1)
    if bad.any():
        raise MapError(
            f"row {int(np.flatnonzero(bad)[0])} holds values that are not finite",
            "a missing position is NaN in all of its values; everything else must be finite",
        )
    x, right, part = states[present].astype(np.float64), correct[present], fold[present]
    if min(right.sum(), (~right).sum()) < MIN_PER_CLASS:
        return None
    parts = np.unique(part)
    training = part[None, :] != parts[:, None]
    if not ((training & right).any(1) & (training & ~right).any(1)).all():
        return None
    scores = np.full(len(correct), np.nan)
    fitted = _logistic(x, right, training, c) if probe is None else _by_fold(x, right, training, probe)
    scores[present] = fitted[np.searchsorted(parts, part), np.arange(len(part))]
    return scores


def _logistic(x: npt.NDArray[np.float64], right: Bools, training: Bools, c: float) -> npt.NDArray[np.float64]:
    """(folds, n): the score of every row by each fold's probe."""
    # All in torch: numpy's matrix products bring their own threads, which fight torch's for the cores.
    rows, t = torch.from_numpy(x), torch.from_numpy(training)
    spread, mean = torch.std_mean(rows, dim=0, correction=0)
    z = (rows - mean) / torch.where(spread > 0, spread, 1)
    # StandardScaler's deviations over each fold's training rows, by sums of squares.
    weight = t.double() / t.sum(1, keepdim=True)
    scale = (weight @ (z * z) - (weight @ z) ** 2).clamp(min=0).sqrt()
    try:
        fits = fit_logistic(
            z.float(),
            torch.from_numpy(right).expand(t.shape),
            t,
            torch.where(scale > 1e-6, scale, 0),
            torch.full((len(t),), c),
        )
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        raise MapError(f"a probe cannot be computed at c = {c:g}", "give a smaller --c") from None
    if not bool(fits.converged.all()):
        raise MapError(f"a probe did not converge at c = {c:g}", "give a smaller --c")
    return fits.scores.double().numpy()


def _by_fold(x: npt.NDArray[np.float64], right: Bools, training: Bools, probe: Any) -> npt.NDArray[np.float64]:
    return np.stack([clone(probe).fit(x[rows], right[rows]).decision_function(x) for rows in training])
