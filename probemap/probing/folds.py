"""Which answers train and which judge: what belongs to one question is never on both sides."""

import warnings

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from probemap.probing.auc import Bools, Ints
from probemap.probing.inputs import Column, parse_groups, parse_mask
from probemap.records import MapError, TooFewError

HELD_OUT = -1
"""The fold number of answers that are judged but never trained on."""


def group_numbers(groups: Column | None, n: int) -> Ints:
    """(n,): the number of each answer's group; None puts each answer on its own.

    Raises
    ------
    MapError: another number of groups than of answers, or an answer without a group.
    """
    if groups is None:
        return np.arange(n)
    return np.unique(parse_groups(groups, n), return_inverse=True)[1].astype(np.int64)


def hold_out(held_out: float | npt.ArrayLike | None, group: Ints, seed: int) -> Bools:
    """(n,): which answers judge only: a share of the groups, drawn by `seed`, or the mask given; None: no answer.

    Raises
    ------
    MapError: no share between 0 and 1; a mask of another length or type, or one that splits a group.
    """
    if held_out is None:
        return np.zeros(len(group), bool)
    if isinstance(held_out, float | int | np.floating) and not isinstance(held_out, bool):
        if not 0 < held_out < 1:
            raise MapError(f"held_out is {held_out}", "give a share between 0 and 1, or one True or False per answer")
        drawn = np.random.default_rng(seed).permutation(int(group.max()) + 1)
        return np.isin(group, drawn[: round(held_out * len(drawn))])
    apart = parse_mask(held_out, group.shape, "held_out")
    if shared := np.intersect1d(group[apart], group[~apart]).size:
        raise MapError(
            f"{shared} groups have answers both in and out of the held-out part", "keep answers of one group together"
        )
    return apart


def assign_folds(correct: Bools, groups: Ints, folds: int, seed: int) -> Ints:
    """The fold of each answer, (n,): stratified by verdict, all answers of one group in one fold.

    Raises
    ------
    MapError: fewer right or wrong answers than folds.
    """
    rarer = int(min(correct.sum(), (~correct).sum()))
    if rarer < folds:
        raise TooFewError(
            f"{int(correct.sum())} answers are right and {int((~correct).sum())} wrong: "
            f"{folds} folds need at least {folds} of each",
            "ask more questions, or a task that the model gets right more and less often",
        )
    if len(np.unique(groups)) < folds:
        raise TooFewError(
            f"{len(np.unique(groups))} different questions cannot be split into {folds} folds", "ask more questions"
        )
    fold = np.empty(len(correct), dtype=np.int64)
    # Without groups to keep together the plain splitter does the same, a thousand times faster.
    alone = len(np.unique(groups)) == len(groups)
    splits = (StratifiedKFold if alone else StratifiedGroupKFold)(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # Says that a class has fewer groups than folds; the column's own rule decides about that.
        warnings.simplefilter("ignore", UserWarning)
        for number, (_, test) in enumerate(splits.split(correct, correct, groups)):
            fold[test] = number
    return fold
