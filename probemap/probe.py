"""One linear probe per cell, judged on answers that it was not fitted on.

An L2-regularised logistic regression on standardised states, the scaling learnt from the training rows; all folds,
strengths and label sets of a cell are solved at once.  Any scikit-learn classifier with ``decision_function`` can take
its place, one fit after the other.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import clone
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from threadpoolctl import threadpool_limits

from probemap.records import MapError
from probemap.solver import Fits, fit_logistic
from probemap.stats import auc_values

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MIN_PER_CLASS = 10
"""Fewer right or fewer wrong answers than this in a column: too few to say, no value is given."""

AUTO_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
"""What ``c="auto"`` chooses from."""

HELD_OUT = -1
"""The fold number of answers that are judged but never trained on."""

_BATCH_NUMBERS = 2e7
"""Of a batch of problems: problems × (rows + features), so that the solver's dozen copies stay near 1 GB."""


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
    if len(np.unique(groups)) < folds:
        raise MapError(
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


@dataclass(frozen=True)
class Plan:
    """What is fitted in every cell."""

    fold: Ints
    """(n,): the fold of each answer; `HELD_OUT` where some are kept apart, and then only these are judged."""
    strengths: tuple[float, ...] = (1.0,)
    """Of more than one, each part that is judged chooses its own, by the AUC of folds inside its training rows."""
    inner: bool = True
    """Also judge inside the training rows of each part: what choosing a strength or the best cell needs."""
    probe: Any = None
    """A scikit-learn classifier instead; it sees the states unscaled, and `strengths` do not matter."""
    device: str = "cpu"

    @property
    def parts(self) -> list[int]:
        """The folds that are judged."""
        numbers: list[int] = np.unique(self.fold).tolist()
        return [HELD_OUT] if HELD_OUT in numbers else numbers

    def left_out(self) -> list[frozenset[int]]:
        """The training sets, each by the folds that it leaves out: the parts first, then pairs for the inner ones."""
        sets = [frozenset({k}) for k in self.parts]
        if self.inner:
            pairs = combinations(np.unique(self.fold).tolist(), 2)
            sets += [frozenset(pair) for pair in pairs if set(pair) & set(self.parts)]
        return sets


@dataclass(frozen=True)
class CellScores:
    """One cell judged."""

    scores: npt.NDArray[np.float32]
    """(n,): decision values, higher means "right", from the probe fitted without the answer's fold; NaN where the
    position is missing, or where the answer is not judged."""
    inner: Floats
    """(n_parts,): AUC inside the training rows of each part, by folds of their own; NaN if the plan has none."""
    strength: Floats
    """(n_parts,): the strength that each part chose."""
    noise: float
    """Share of the scores' variance that comes from the probe's own error, 0 to 1; see `noise_share`."""
    converged: bool
    shuffled: Floats
    """(n_label_sets,): the AUC for each shuffled label set."""


def score_cell(states: npt.NDArray[np.float32], correct: Bools, plan: Plan, shuffled: Bools) -> CellScores | None:
    """Fit and judge the probes of one cell.

    Parameters
    ----------
    states: (n, d), finite, or NaN rows where the position is missing.
    correct: (n,).
    shuffled: (n_label_sets, n): labels to judge instead, for the floor; may be empty.

    Returns
    -------
    None if there are too few right or wrong answers to say: fewer than `MIN_PER_CLASS`, or none in some training set.
    """
    present = ~np.isnan(states[:, 0])
    right, part = correct[present], plan.fold[present]
    sets = plan.left_out()
    training = np.stack([~np.isin(part, list(out)) for out in sets])
    if min(right.sum(), (~right).sum()) < MIN_PER_CLASS:
        return None
    if not ((training & right).any(1) & (training & ~right).any(1)).all():
        return None
    labels = shuffled[:, present]
    # A label set without both classes in some training set is no draw of the floor.
    usable = np.array([bool((training & y).any(1).all() and (training & ~y).any(1).all()) for y in labels], bool)
    sure, strengths, n_parts = True, (plan.strengths if plan.probe is None else (1.0,)), len(plan.parts)
    if plan.probe is None:
        design = _Design(states[present], training, plan.device)
        every = np.repeat(np.arange(len(sets)), len(strengths))
        fits = design.fit(right[None, :], np.zeros(len(every), np.int64), every, np.tile(strengths, len(sets)))
        sure = bool(fits.converged.all())
        values = fits.scores.reshape(len(sets), len(strengths), -1).cpu().numpy()
    else:
        scored, sure = _one_by_one(states[present], right, training, plan.probe)
        values = scored[:, None, :]
    inner = np.full((n_parts, len(strengths)), np.nan)
    if plan.inner:
        inner = np.stack([_inner_aucs(values, sets, part, right, k) for k in plan.parts])
    known = np.nan_to_num(inner, nan=-1)
    choice = known.argmax(1)  # of equals the smallest strength
    scores = np.full(len(correct), np.nan, np.float32)
    here = np.full(len(part), np.nan, np.float32)
    for row, k in enumerate(plan.parts):
        here[part == k] = values[row, choice[row], part == k]
    scores[present] = here
    floor = np.full(len(labels), np.nan)
    if usable.any() and plan.probe is None:
        typical = float(np.median(np.array(strengths)[choice]))
        floor[usable] = design.floor(labels[usable], plan, part, typical)
    picked = inner[np.arange(n_parts), choice]
    noise = noise_share(values, sets, part, right, plan, choice)
    return CellScores(scores, picked, np.array(strengths)[choice], noise, sure, floor)


def _inner_aucs(
    values: npt.NDArray[np.floating], sets: Sequence[frozenset[int]], part: Ints, right: Bools, k: int
) -> Floats:
    """(n_strengths,): AUC over the folds inside the training rows of part k, each judged by the probe without both."""
    rows = part != k
    scores = np.empty((int(rows.sum()), values.shape[1]))
    for j in np.unique(part[rows]).tolist():
        scores[part[rows] == j] = values[sets.index(frozenset({k, j}))][:, part == j].T
    return auc_values(scores, np.repeat(right[rows, None], scores.shape[1], axis=1), part[rows])


def noise_share(
    values: npt.NDArray[np.floating],
    sets: Sequence[frozenset[int]],
    part: Ints,
    right: Bools,
    plan: Plan,
    choice: Ints,
) -> float:
    """Share of a probe's variance of scores, within right and within wrong answers, that is the probe's own error.

    In cross-validation the answers that judge one probe train the others, so the errors of the parts move together.
    To first order a probe is w = Σ_l (δ + e_l) over its training folds, l, with δ what all folds have in common and e_l
    the fold's own.  The deviation of the summed AUC from that of these very probes is then Σ_k w_k · e_k, with variance
    K (K-1)² δ² + 2 K (K-1) e²; the placement values of one part, given its probe, account for K (K-1)² δ² + K (K-1) e².
    The true variance is therefore 1 + ρ times theirs, with ρ = e² / ((K-1) δ² + e²), the share that is returned: 1 on
    noise (and where the plan has no inner sets), near 0 where the probe is sure.

    It shows in how far probes agree on answers that trained neither: two that leave out k and j, and k and j', have
    K - 2 folds each and K - 3 in common, so that 1 - their correlation is a = e² / ((K-2)² δ² + (K-2) e²).  Without
    coupling (held-out answers only) there is nothing to add: 0.
    """
    if plan.parts == [HELD_OUT]:
        return 0.0
    if not plan.inner:
        return 1.0
    folds = len(plan.parts)
    own = total = 0.0
    for row, k in enumerate(plan.parts):
        mine = part == k
        pairs = [sets.index(frozenset({k, j})) for j in plan.parts if j != k]
        scores = values[pairs, choice[row]][:, mine].astype(np.float64)
        for side in (True, False):
            if (here := right[mine] == side).sum() > 1:
                centred = scores[:, here] - scores[:, here].mean(1, keepdims=True)
                total += float((centred**2).mean(0).sum())
                # What is left of each after the mean of all: the unbiased variance between probes.
                own += float(centred.var(axis=0, ddof=1).sum())
    a = min(max(own / total, 0.0), 1 / (folds - 2)) if total > 0 else 1 / (folds - 2)
    return float(a * (folds - 2) ** 2 / ((folds - 1) * (1 - (folds - 2) * a) + a * (folds - 2) ** 2))


class _Design:
    """One cell's states, standardised once, with the deviations over each training set."""

    def __init__(self, states: npt.NDArray[np.float32], training: Bools, device: str) -> None:
        # All in torch: numpy's matrix products bring their own threads, which fight torch's for the cores.
        x = torch.from_numpy(states).to(device).double()
        self.training = torch.from_numpy(training).to(device)
        spread, mean = torch.std_mean(x, dim=0, correction=0)
        z = (x - mean) / torch.where(spread > 0, spread, 1)
        # StandardScaler's deviations over each set's training rows, by sums of squares.
        weight = self.training.double() / self.training.sum(1, keepdim=True)
        scale = (weight @ (z * z) - (weight @ z) ** 2).clamp(min=0).sqrt()
        self.scale = torch.where(scale > 1e-6, scale, 0).float()
        self.x = z.float()

    def fit(self, labels: Bools, label: Ints, training: Ints, strength: npt.ArrayLike) -> Fits:
        """Problem i: label set ``label[i]``, training set ``training[i]``, ``strength[i]``."""
        y = torch.from_numpy(labels).to(self.x.device)
        c = torch.as_tensor(np.asarray(strength, np.float32), device=self.x.device)
        size = max(1, int(_BATCH_NUMBERS / sum(self.x.shape)))
        made = [
            fit_logistic(self.x, y[label[i : i + size]], self.training[rows], self.scale[rows], c[i : i + size])
            for i in range(0, len(label), size)
            for rows in [training[i : i + size]]
        ]
        return Fits(torch.cat([m.scores for m in made]), torch.cat([m.converged for m in made]))

    def floor(self, labels: Bools, plan: Plan, part: Ints, strength: float) -> Floats:
        """(n_label_sets,): the AUC of each label set, judged as the real labels are."""
        n_parts = len(plan.parts)
        which, sets = np.divmod(np.arange(len(labels) * n_parts), n_parts)
        fits = self.fit(labels, which, sets, np.full(len(which), strength))
        scores = fits.scores.reshape(len(labels), n_parts, -1).cpu().numpy()
        judged = np.isin(part, plan.parts)
        row = np.searchsorted(plan.parts, part[judged])
        mine = scores[:, row, np.flatnonzero(judged)]
        return auc_values(mine.T, labels[:, judged].T, part[judged])


def _one_by_one(
    x: npt.NDArray[np.float32], right: Bools, training: Bools, probe: Any
) -> tuple[npt.NDArray[np.float64], bool]:
    """Scores (n_sets, n), and whether no fit stopped at its limit of steps."""
    with threadpool_limits(1):  # cells run side by side; many small fits lose by sharing the cores
        fitted = [clone(probe).fit(x[rows], right[rows]) for rows in training]
        scores = np.stack([f.decision_function(x) for f in fitted]).astype(np.float64)
    steps = [(getattr(f, "n_iter_", 0), getattr(f, "max_iter", getattr(f, "max_iter_", None))) for f in fitted]
    sure = all(limit is None or int(np.max(taken)) < limit for taken, limit in steps)
    return scores, sure
