"""Are the probes those of scikit-learn, run to convergence?  ``python benchmarks/exactness.py [RUN] [--all]``.

Made-up states of three widths and three lengths, and cells of a run's own states: every fifth layer, or all.  Both
sides have the same five folds; out-of-fold decision values are compared within folds.

The reference is StandardScaler and LogisticRegression in float64, by Newton's method to the end of float64's patience.
With fewer training rows than features it is solved in the space that the rows span: an L2 penalty does not see a
rotation, and at the optimum nothing points out of that space (`check_rotation` asserts it).  How far the reference can
be from the optimum is bounded from its own gradient and reported.
"""

import os
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch
from probemap.runs.integrity import read_answers
from report import head, machine, row, write
from scipy.linalg import qr
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from states import synthetic
from threadpoolctl import threadpool_limits

from probemap.activations.store import ActivationStore
from probemap.probing.auc import aucs
from probemap.probing.cell_scores import Plan, score_cells
from probemap.probing.folds import assign_folds
from probemap.runs.run import Run

STRENGTHS = (1e-4, 1e-2, 1.0, 100.0)
WIDTHS, LENGTHS = (576, 2048, 4096), (300, 1000, 5000)
AUC_LIMIT, CORRELATION_LIMIT = 0.002, 0.9999


def reference(
    train: np.ndarray, y: np.ndarray, test: np.ndarray, strengths: tuple[float, ...], rotate: bool = True
) -> Iterator[tuple[np.ndarray, float]]:
    """For each strength, decision values of the test rows, and a bound on their relative error; inputs standardised."""
    if rotate and len(train) < train.shape[1]:
        basis = qr(train.T, mode="economic", check_finite=False)[0]
        train, test = train @ basis, test @ basis
    for c in strengths:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # how near it came is measured, not believed
            model = LogisticRegression(C=c, solver="newton-cholesky", tol=1e-11, max_iter=1000).fit(train, y)
        f = model.decision_function(test)
        pull = c * (1 / (1 + np.exp(-model.decision_function(train))) - y)
        # J curves by at least 1 in every direction of w, so |w - optimum| is at most |gradient|.
        gradient = np.linalg.norm(pull @ train + model.coef_[0])
        yield f, float(gradient * np.linalg.norm(test, axis=1).max() / np.abs(f).max())


def default_fit(train: np.ndarray, y: np.ndarray, test: np.ndarray, c: float) -> np.ndarray:
    """What scikit-learn gives who asks for nothing: lbfgs, tol 1e-4, at most 100 steps."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=c).fit(train, y)
    return model.decision_function(test)


def standardised(states: np.ndarray, training: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x = states.astype(np.float64)
    scaler = StandardScaler().fit(x[training])
    return scaler.transform(x[training]), scaler.transform(x[~training])


def check_rotation() -> None:
    """Solved among the rows or among the features: the same decision values."""
    x, correct = synthetic(120, 200, 1)
    training = np.arange(120) < 90
    train, test = standardised(x, training)
    for c, (f, _), (g, _) in zip(
        STRENGTHS,
        reference(train, correct[training], test, STRENGTHS),
        reference(train, correct[training], test, STRENGTHS, rotate=False),
        strict=True,
    ):
        assert np.abs(f - g).max() < 1e-7 * np.abs(g).max(), (c, np.abs(f - g).max())


@dataclass
class Compared:
    """One cell at one strength: ours against the reference, and scikit-learn's default against it."""

    c: float
    fits: int
    auc: float
    """|ΔAUC|"""
    correlations: list[float]
    errors: list[float]
    """Per fold, the largest difference of decision values, relative to the largest of them."""
    bound: float
    converged: bool
    default_auc: float
    default_correlations: list[float]


def compare(states: np.ndarray, correct: np.ndarray, fold: np.ndarray, parts: list[int]) -> list[Compared]:
    """One cell at all strengths; of our five folds those in `parts` are compared."""
    present = ~np.isnan(states[:, 0])
    none = np.empty((0, len(correct)), bool)
    made = [score_cells(states[None], correct, Plan(fold, (c,), inner=False), none) for c in STRENGTHS]
    if any(cells is None for cells in made):
        return []
    right, part, x = correct[present], fold[present], states[present]
    ours = np.stack([cells[0].scores[present] for cells in made if cells is not None]).astype(np.float64)
    theirs, default = np.full(ours.shape, np.nan), np.full(ours.shape, np.nan)
    bounds = np.zeros((len(STRENGTHS), len(parts)))
    for column, k in enumerate(parts):
        train, test = standardised(x, part != k)
        y = right[part != k]
        for i, (f, bound) in enumerate(reference(train, y, test, STRENGTHS)):
            theirs[i, part == k], bounds[i, column] = f, bound
            default[i, part == k] = default_fit(train, y, test, STRENGTHS[i])
    rows = np.isin(part, parts)

    def auc(scores: np.ndarray) -> np.ndarray:
        return aucs(scores[:, rows].T, right[rows], part[rows]).value

    def correlations(scores: np.ndarray, i: int) -> list[float]:
        return [float(np.corrcoef(scores[i, part == k], theirs[i, part == k])[0, 1]) for k in parts]

    def errors(i: int) -> list[float]:
        gaps = [(np.abs(ours[i] - theirs[i])[part == k], np.abs(theirs[i])[part == k]) for k in parts]
        return [float(gap.max() / size.max()) for gap, size in gaps]

    ours_auc, their_auc, default_auc = auc(ours), auc(theirs), auc(default)
    return [
        Compared(
            c,
            len(parts),
            abs(ours_auc[i] - their_auc[i]),
            correlations(ours, i),
            errors(i),
            float(bounds[i].max()),
            bool(cells is not None and cells[0].converged),
            abs(default_auc[i] - their_auc[i]),
            correlations(default, i),
        )
        for i, (c, cells) in enumerate(zip(STRENGTHS, made, strict=True))
    ]


def parts_for(d: int, n: int) -> list[int]:
    """Which folds: fewer where the reference takes minutes per fit."""
    return [0] if n > 1000 and d > 576 else [0, 1, 2, 3, 4]


def made_up(d: int, n: int) -> list[Compared]:
    states, correct = synthetic(n, d, 0)
    return compare(states, correct, assign_folds(correct, np.arange(n), 5, 0), parts_for(d, n))


def run_cells(folder: str, every: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, list[int]]]:
    """The jobs of a run: (states, correct, fold, parts) per cell."""
    run = Run.open(folder)
    _, _, judgements = read_answers(run)
    verdicts = [j.verdict.correct for j in judgements]
    kept = np.flatnonzero([v is not None for v in verdicts])
    correct = np.array([bool(verdicts[i]) for i in kept])
    fold = assign_folds(correct, np.arange(len(kept)), 5, 0)
    store = ActivationStore.open(run.path / "activations")
    for layer in range(0, store.layout.n_layers, every):
        states = store.read_layer(layer)[kept]
        for column in range(states.shape[1]):
            yield np.ascontiguousarray(states[:, column]), correct, fold, [0, 1, 2, 3, 4]


def one_thread() -> None:
    torch.set_num_threads(1)
    threadpool_limits(1)


def _made_up(size: tuple[int, int]) -> list[Compared]:
    return made_up(*size)


def _compare(job: Any) -> list[Compared]:
    return compare(*job)


def table_row(name: str, cells: list[Compared]) -> str:
    correlations = [r for cell in cells for r in cell.correlations]
    errors = [e for cell in cells for e in cell.errors]
    auc, lowest = max(cell.auc for cell in cells), min(correlations)
    unsure = sum(not cell.converged for cell in cells)
    default_auc = max(cell.default_auc for cell in cells)
    default = min(r for cell in cells for r in cell.default_correlations)
    met = auc <= AUC_LIMIT and lowest > CORRELATION_LIMIT and not unsure
    return row(
        name,
        f"{cells[0].c:g}",
        sum(cell.fits for cell in cells),
        f"{np.median([cell.auc for cell in cells]):.1e}, {auc:.1e}",
        f"1 - {1 - lowest:.1e}",
        f"{np.median(errors):.1e}, {max(errors):.1e}",
        f"{max(cell.bound for cell in cells):.0e}",
        ("yes" if met else "**no**") + (f" ({unsure} not converged)" if unsure else ""),
        f"{default_auc:.1e}",
        f"1 - {1 - default:.1e}",
    )


def main(folder: str | None, every: int) -> None:
    check_rotation()
    lines = [
        "Out-of-fold decision values of `probemap.probing.cell_scores.score_cells` against StandardScaler and "
        "LogisticRegression in float64, run to convergence on the same folds (in the space of the training rows where "
        "these are fewer than "
        "the features: an L2 penalty does not see a rotation; asserted on a small case).  |ΔAUC| is that of the AUC "
        "within folds; correlations are within a fold; a score's error is relative to the largest score of its fold.  "
        'Two numbers in a field: the median, and the largest.  "Reference\'s own": a bound on the relative error of '
        "the reference's scores, from its gradient.  Last two columns: scikit-learn as it comes (lbfgs, tol 1e-4, at "
        "most 100 steps) against the same reference.  "
        f"Met: |ΔAUC| ≤ {AUC_LIMIT} and correlation > {CORRELATION_LIMIT}, everywhere.",
        "",
        machine(),
        "",
        *head(
            *("states", "C", "fits", "ΔAUC", "lowest correlation", "score error", "reference's own", "met"),
            *("default: largest ΔAUC", "default: lowest correlation"),
        ),
    ]
    sizes = [(d, n) for d in WIDTHS for n in LENGTHS]
    with ProcessPoolExecutor(
        len(os.sched_getaffinity(0)), mp_context=get_context("spawn"), initializer=one_thread
    ) as pool:
        # The longest first, so that no core waits for another at the end.
        waiting = {size: pool.submit(_made_up, size) for size in sorted(sizes, key=np.prod, reverse=True)}
        cells = [] if folder is None else [made for made in pool.map(_compare, run_cells(folder, every)) if made]
        for (d, n), made in ((size, waiting[size].result()) for size in sizes):
            lines += [table_row(f"made up, d {d}, n {n}", [cell]) for cell in made]
    if cells:
        lines += [table_row(f"{len(cells)} cells of a run", list(same)) for same in zip(*cells, strict=True)]
    print("\n".join(lines))
    reduced = [f"d {d}, n {n}" for d, n in sizes if len(parts_for(d, n)) < 5]
    lines += ["", f"One fold of the five was compared, not all, where the reference is slow: {'; '.join(reduced)}."]
    write("exactness", lines)


if __name__ == "__main__":
    given = [a for a in sys.argv[1:] if a != "--all"]
    main(given[0] if given else None, 1 if "--all" in sys.argv else 5)
