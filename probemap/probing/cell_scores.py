"""One linear probe per cell, judged on answers that it was not fitted on.

An L2-regularised logistic regression on standardised states, the scaling learnt from the training rows; all folds,
strengths and label sets of a cell are solved at once.  Any scikit-learn classifier with ``decision_function`` can take
its place, one fit after the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import clone
from threadpoolctl import threadpool_limits

from probemap.probing.auc import auc_values
from probemap.probing.folds import HELD_OUT
from probemap.probing.logistic.solver import Fits, fit_logistic

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MIN_PER_CLASS = 10
"""Fewer right or fewer wrong answers than this in a column: too few to say, no value is given."""

AUTO_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
"""What ``c="auto"`` chooses from."""

_NOISE_LIMIT = 1.5  # of an estimated share of 1; higher ones are chance

_BATCH_NUMBERS = 2e7
"""Of a batch of problems: cells × problems × (rows + features), so that the solver's dozen copies stay near 1 GB."""


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
    """Share of the scores' variance that comes from the probe's own error, estimated; see `noise_share`."""
    converged: bool
    shuffled: Floats
    """(n_label_sets,): the AUC for each shuffled label set."""


def score_cells(
    states: npt.NDArray[np.float32], correct: Bools, plan: Plan, shuffled: Bools
) -> list[CellScores] | None:
    """Fit and judge the probes of a few cells in which the same answers have the position.

    Parameters
    ----------
    states: (cells, n, d), finite, or NaN rows where the position is missing, the same in all cells.
    correct: (n,).
    shuffled: (n_label_sets, n): labels to judge instead, for the floor; may be empty.

    Returns
    -------
    None if there are too few right or wrong answers to say: fewer than `MIN_PER_CLASS`, or none in some training set.
    """
    present = ~np.isnan(states[0, :, 0])
    right, part = correct[present], plan.fold[present]
    sets = plan.left_out()
    training = np.stack([~np.isin(part, list(out)) for out in sets])
    if min(right.sum(), (~right).sum()) < MIN_PER_CLASS:
        return None
    if not ((training & right).any(1) & (training & ~right).any(1)).all():
        return None
    here = states if present.all() else np.ascontiguousarray(states[:, present])
    if plan.probe is not None:
        fitted = [_one_by_one(cell, right, training, plan.probe) for cell in here]
        none = np.full(len(shuffled), np.nan)
        return [_judge(values[:, None], sure, plan, present, right, none) for values, sure in fitted]
    design = _Designs(here, training, plan.device)
    every, strengths = np.repeat(np.arange(len(sets)), len(plan.strengths)), np.tile(plan.strengths, len(sets))
    fits = design.fit(right[None, :], np.zeros_like(every), every, np.tile(strengths, (len(here), 1)))
    values = fits.scores.reshape(len(here), len(sets), len(plan.strengths), -1).cpu().numpy()
    sure = fits.converged.all(1).tolist()
    none = np.empty(0)
    made = [_judge(cell, ok, plan, present, right, none) for cell, ok in zip(values, sure, strict=True)]
    typical = np.array([np.median(cell.strength) for cell in made])
    floors = design.floor(shuffled[:, present], plan, part, typical)
    return [replace(cell, shuffled=floor) for cell, floor in zip(made, floors, strict=True)]


def _judge(
    values: npt.NDArray[np.floating], sure: bool, plan: Plan, present: Bools, right: Bools, shuffled: Floats
) -> CellScores:
    """One cell, given the scores of all its probes, (n_sets, n_strengths, n_present)."""
    part, sets, n_parts = plan.fold[present], plan.left_out(), len(plan.parts)
    inner = np.full((n_parts, values.shape[1]), np.nan)
    if plan.inner:
        inner = np.stack([_inner_aucs(values, sets, part, right, k) for k in plan.parts])
    choice = np.nan_to_num(inner, nan=-1).argmax(1)  # of equals the smallest strength
    here = np.full(len(part), np.nan, np.float32)
    for row, k in enumerate(plan.parts):
        here[part == k] = values[row, choice[row], part == k]
    scores = np.full(len(present), np.nan, np.float32)
    scores[present] = here
    picked = inner[np.arange(n_parts), choice]
    strength = np.array(plan.strengths if plan.probe is None else (1.0,))[choice]
    return CellScores(scores, picked, strength, noise_share(values, sets, part, right, plan, choice), sure, shuffled)


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
    coupling (held-out answers only) there is nothing to add: 0.  It is an estimate, and on noise comes out above 1 as
    often as below; cut off there, intervals would be too short on average, so it may go to 1.5.
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
    a = own / total if total > 0 else 1 / (folds - 2)
    return float(min(a * (folds - 2) ** 2 / (folds - 1 - (folds - 2) * a), _NOISE_LIMIT))


class _Designs:
    """The states of a few cells, standardised once, with the deviations over each training set."""

    def __init__(self, states: npt.NDArray[np.float32], training: Bools, device: str) -> None:
        # All in torch: numpy's matrix products bring their own threads, which fight torch's for the cores.
        x = torch.from_numpy(states).to(device)
        self.x, self.training = torch.empty_like(x), torch.from_numpy(training).to(device)
        self.scale = x.new_empty(len(x), len(training), x.shape[2])
        for one, z, scale in zip(x, self.x, self.scale, strict=True):
            # float32 loses nothing here: near the mean a difference of float32 is exact, what is left of the mean is
            # taken away once more, and after division by a power of two near the largest no square overflows.
            largest = one.abs().amax(0)
            torch.mul(
                one, torch.ldexp(torch.ones_like(largest), -torch.frexp(largest).exponent.clamp(-126, 126)), out=z
            )
            z -= z.mean(0)
            z -= z.mean(0)
            spread = z.square().mean(0).sqrt()
            z /= torch.where(spread > 0, spread, 1)
            scale[:] = _deviations(z, self.training)
        if bool(((self.scale > 0) & (self.scale < 0.01)).any()):
            # A feature that hardly varies in some training set stands there far from its overall mean, and its weight
            # is a small difference of large numbers.
            self.x = self.x.double()

    def fit(self, labels: Bools, label: Ints, training: Ints, strength: npt.ArrayLike) -> Fits:
        """In every cell problem i: label set ``label[i]``, training set ``training[i]``, ``strength[cell, i]``."""
        y = torch.from_numpy(labels).to(self.x.device)
        c = torch.as_tensor(np.asarray(strength, np.float32), device=self.x.device)
        cells, n, d = self.x.shape
        size = max(1, int(_BATCH_NUMBERS / (cells * (n + d))))
        made = [
            fit_logistic(self.x, y[label[some]], self.training[rows], self.scale[:, rows], c[:, some])
            for some in (slice(i, i + size) for i in range(0, len(label), size))
            for rows in [training[some]]
        ]
        return Fits(torch.cat([m.scores for m in made], 1), torch.cat([m.converged for m in made], 1))

    def floor(self, labels: Bools, plan: Plan, part: Ints, strength: Floats) -> Floats:
        """(cells, n_label_sets): the AUC of each label set, judged as the real labels are, at ``strength[cell]``; NaN
        for a label set without both classes in some training set: it is no draw of the floor."""
        n_parts = len(plan.parts)
        training = self.training[:n_parts].cpu().numpy()
        some = np.array([bool(((training & y).any(1) & (training & ~y).any(1)).all()) for y in labels], bool)
        made = np.full((len(self.x), len(labels)), np.nan)
        if not some.any():
            return made
        labels = labels[some]
        which, sets = np.divmod(np.arange(len(labels) * n_parts), n_parts)
        fits = self.fit(labels, which, sets, np.repeat(strength[:, None], len(which), axis=1))
        scores = fits.scores.cpu().numpy().reshape(len(self.x), len(labels), n_parts, -1)
        judged = np.isin(part, plan.parts)
        row = np.searchsorted(plan.parts, part[judged])
        for cell, mine in zip(made, scores[:, :, row, np.flatnonzero(judged)], strict=True):
            cell[some] = auc_values(mine.T, labels[:, judged].T, part[judged])
        return made


def _deviations(x: torch.Tensor, training: torch.Tensor) -> torch.Tensor:
    """(n_sets, d): the standard deviation over each set's training rows, as StandardScaler's; 0 for a constant."""

    def variances(z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        weight = training.to(z.dtype) / training.sum(1, keepdim=True)
        mean, square = weight @ z, weight @ z.square()
        return square - mean**2, square

    variance, square = variances(x)
    # A feature can be constant in all rows but those left out: where that is near, float32 does not do.
    if len(close := torch.nonzero((variance < 0.01 * square).any(0)).squeeze(1)):
        variance[:, close] = variances(x[:, close].double())[0].to(x.dtype)
    return torch.where(variance > 1e-12, variance, 0).sqrt()


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
