"""Compare the probes with scikit-learn run to convergence: ``python benchmarks/exactness.py [RUN] [--all]``.

The states are synthetic, of three widths and three numbers of answers, and those of RUN, a run directory: the cells of
every fifth layer, or with ``--all`` of every layer.  Both sides use the same five folds; out-of-fold scores are
compared within folds.  Writes ``benchmarks/results/exactness.md``.

The reference is StandardScaler and LogisticRegression in float64, with Newton's method to the limit of float64.  With
fewer training rows than features it is solved in the span of the rows: an L2 penalty is invariant to rotations, and at
the optimum the weights are in that span (`check_rotation` asserts the equality).  The distance of the reference from
the optimum is bounded by its gradient, and reported.
"""

import argparse
import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
import numpy.typing as npt
import torch
from report import machine, row, table_head, write, yes_no
from scipy.linalg import qr
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from states import synthetic
from threadpoolctl import threadpool_limits

from probemap.probing.auc import aucs
from probemap.probing.cell_scores import score_cells
from probemap.probing.folds import assign_folds
from probemap.probing.plan import ProbePlan
from probemap.runs.run import Run

C_VALUES = (1e-4, 1e-2, 1.0, 100.0)
WIDTHS, LENGTHS = (576, 2048, 4096), (300, 1000, 5000)
FOLDS = (0, 1, 2, 3, 4)
AUC_LIMIT, CORRELATION_LIMIT = 0.002, 0.9999

Floats = npt.NDArray[np.float64]
States = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


def reference_scores(
    train: Floats, y: Bools, test: Floats, c_values: Sequence[float], *, project: bool = True
) -> Iterator[tuple[Floats, float]]:
    """Yield, for each C, the scores of the test rows and a bound on their relative error.

    The states are standardised.  With `project`, problems with fewer rows than features are solved in the span of the
    rows.
    """
    if project and len(train) < train.shape[1]:
        basis = qr(train.T, mode="economic", check_finite=False)[0]
        train, test = train @ basis, test @ basis
    for c in c_values:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # convergence is measured below
            model = LogisticRegression(C=c, solver="newton-cholesky", tol=1e-11, max_iter=1000).fit(train, y)
        scores = model.decision_function(test)
        residual = c * (1 / (1 + np.exp(-model.decision_function(train))) - y)
        # The curvature of the objective is at least 1 in every direction of w, so that the distance from the optimum is
        # at most the norm of the gradient.
        gradient = np.linalg.norm(residual @ train + model.coef_[0])
        yield scores, float(gradient * np.linalg.norm(test, axis=1).max() / np.abs(scores).max())


def default_scores(train: Floats, y: Bools, test: Floats, c: float) -> Floats:
    """Return the scores of scikit-learn with its default options: lbfgs, tol 1e-4, at most 100 iterations."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=c).fit(train, y)
    return np.asarray(model.decision_function(test))


def standardised(states: States, training: Bools) -> tuple[Floats, Floats]:
    """Return the training rows and the test rows, standardised over the training rows."""
    x = states.astype(np.float64)
    scaler = StandardScaler().fit(x[training])
    return scaler.transform(x[training]), scaler.transform(x[~training])


def check_rotation() -> None:
    """Assert that a solution in the span of the rows has the same scores as one over the features."""
    x, correct = synthetic(120, 200, 1)
    training = np.arange(120) < 90
    train, test = standardised(x, training)
    for c, (f, _), (g, _) in zip(
        C_VALUES,
        reference_scores(train, correct[training], test, C_VALUES),
        reference_scores(train, correct[training], test, C_VALUES, project=False),
        strict=True,
    ):
        assert np.abs(f - g).max() < 1e-7 * np.abs(g).max(), (c, np.abs(f - g).max())


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Probes of one cell with one C, and scikit-learn's default, each compared with the reference."""

    c: float
    n_fits: int
    auc_error: float
    """|ΔAUC|."""
    correlations: list[float]
    """Per fold."""
    score_errors: list[float]
    """Per fold: the largest difference of scores, relative to the largest score."""
    reference_bound: float
    converged: bool
    default_auc_error: float
    default_correlations: list[float]


@dataclass(frozen=True, kw_only=True)
class CellStates:
    """States and labels of one cell; the folds that are compared."""

    states: States
    """ndarray of shape (n, d), float32; NaN where the position is missing."""
    correct: Bools
    fold: Ints
    compared_folds: Sequence[int] = FOLDS


def compare_cell(cell: CellStates) -> list[Comparison]:
    """Return one comparison per C; empty if there are too few answers for probes."""
    present, folds = ~np.isnan(cell.states[:, 0]), cell.compared_folds
    no_label_sets = np.empty((0, len(cell.correct)), bool)
    fits = [
        score_cells(cell.states[None], cell.correct, ProbePlan(cell.fold, (c,), nested=False), no_label_sets)
        for c in C_VALUES
    ]
    if any(cells is None for cells in fits):
        return []
    correct, fold, x = cell.correct[present], cell.fold[present], cell.states[present]
    scores = np.stack([cells[0].scores[present] for cells in fits if cells is not None]).astype(np.float64)
    reference, default = np.full(scores.shape, np.nan), np.full(scores.shape, np.nan)
    bounds = np.zeros((len(C_VALUES), len(folds)))
    for column, k in enumerate(folds):
        train, test = standardised(x, fold != k)
        y = correct[fold != k]
        for i, (fold_scores, bound) in enumerate(reference_scores(train, y, test, C_VALUES)):
            reference[i, fold == k], bounds[i, column] = fold_scores, bound
            default[i, fold == k] = default_scores(train, y, test, C_VALUES[i])
    rows = np.isin(fold, folds)

    def auc(scores: Floats) -> Floats:
        return aucs(scores[:, rows].T, correct[rows], fold[rows]).value

    def correlations(scores: Floats, i: int) -> list[float]:
        return [float(np.corrcoef(scores[i, fold == k], reference[i, fold == k])[0, 1]) for k in folds]

    def score_errors(i: int) -> list[float]:
        pairs = [(np.abs(scores[i] - reference[i])[fold == k], np.abs(reference[i])[fold == k]) for k in folds]
        return [float(error.max() / size.max()) for error, size in pairs]

    cell_auc, reference_auc, default_auc = auc(scores), auc(reference), auc(default)
    return [
        Comparison(
            c=c,
            n_fits=len(folds),
            auc_error=float(abs(cell_auc[i] - reference_auc[i])),
            correlations=correlations(scores, i),
            score_errors=score_errors(i),
            reference_bound=float(bounds[i].max()),
            converged=bool(cells is not None and cells[0].converged),
            default_auc_error=float(abs(default_auc[i] - reference_auc[i])),
            default_correlations=correlations(default, i),
        )
        for i, (c, cells) in enumerate(zip(C_VALUES, fits, strict=True))
    ]


def compared_folds(d: int, n: int) -> Sequence[int]:
    """Return the folds that are compared: only one where the reference takes minutes per fit."""
    return (0,) if n > 1000 and d > 576 else FOLDS


def compare_synthetic(size: tuple[int, int]) -> list[Comparison]:
    """Compare on synthetic states of size (d, n)."""
    d, n = size
    states, correct = synthetic(n, d, 0)
    fold = assign_folds(correct, np.arange(n), len(FOLDS), 0)
    return compare_cell(CellStates(states=states, correct=correct, fold=fold, compared_folds=compared_folds(d, n)))


def run_cells(path: str, layer_step: int) -> Iterator[CellStates]:
    """Yield the cells of every `layer_step`-th layer of a run."""
    graded = (run := Run.open(path)).graded
    decided = np.flatnonzero([label is not None for label in graded.correct])
    correct = np.array([graded.correct[i] is True for i in decided])
    fold = assign_folds(correct, np.arange(len(decided)), len(FOLDS), 0)
    store = run.states_of(graded)
    for layer in range(0, store.layout.n_layers, layer_step):
        states = store.read_layer(layer)[decided]
        for column in range(states.shape[1]):
            yield CellStates(states=np.ascontiguousarray(states[:, column]), correct=correct, fold=fold)


def use_one_thread() -> None:
    torch.set_num_threads(1)
    threadpool_limits(1)


def comparison_row(name: str, cells: Sequence[Comparison]) -> str:
    """Return the row of comparisons with the same C."""
    correlations = [r for cell in cells for r in cell.correlations]
    errors = [error for cell in cells for error in cell.score_errors]
    auc_error, lowest = max(cell.auc_error for cell in cells), min(correlations)
    n_unconverged = sum(not cell.converged for cell in cells)
    default_lowest = min(r for cell in cells for r in cell.default_correlations)
    met = yes_no(auc_error <= AUC_LIMIT and lowest > CORRELATION_LIMIT and not n_unconverged)
    return row(
        name,
        f"{cells[0].c:g}",
        sum(cell.n_fits for cell in cells),
        f"{np.median([cell.auc_error for cell in cells]):.1e}, {auc_error:.1e}",
        f"1 - {1 - lowest:.1e}",
        f"{np.median(errors):.1e}, {max(errors):.1e}",
        f"{max(cell.reference_bound for cell in cells):.0e}",
        met + (f" ({n_unconverged} not converged)" if n_unconverged else ""),
        f"{max(cell.default_auc_error for cell in cells):.1e}",
        f"1 - {1 - default_lowest:.1e}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", nargs="?")
    parser.add_argument("--all", action="store_true")
    options = parser.parse_args()
    check_rotation()
    lines = [
        "# Exactness of the probes",
        "",
        "Out-of-fold scores of `probing.cell_scores.score_cells` against StandardScaler and LogisticRegression "
        "in float64, run to convergence on the same folds (in the span of the training rows where there are fewer rows "
        "than features: an L2 penalty is invariant to rotations, which is asserted on a small case).  ΔAUC: absolute "
        "difference of the AUC within folds, median and maximum.  Correlation: within a fold.  Score error: relative "
        "to the largest score of the fold, median and maximum.  Reference error: bound on the relative error of the "
        "reference's scores, from its gradient.  Last two columns: scikit-learn with its default options (lbfgs, tol "
        "1e-4, at most 100 iterations) against the same reference.  "
        f"Met: ΔAUC ≤ {AUC_LIMIT} and correlation > {CORRELATION_LIMIT}, everywhere.",
        "",
        machine(),
        "",
        *table_head(
            *("states", "C", "fits", "ΔAUC", "lowest correlation", "score error", "reference error", "met"),
            *("default: largest ΔAUC", "default: lowest correlation"),
        ),
    ]
    sizes = [(d, n) for d in WIDTHS for n in LENGTHS]
    with ProcessPoolExecutor(
        len(os.sched_getaffinity(0)), mp_context=get_context("spawn"), initializer=use_one_thread
    ) as pool:
        # The longest first, so that no core waits at the end.
        pending = {size: pool.submit(compare_synthetic, size) for size in sorted(sizes, key=np.prod, reverse=True)}
        cells = run_cells(options.run, 1 if options.all else 5) if options.run else []
        of_run = [comparisons for comparisons in pool.map(compare_cell, cells) if comparisons]
        for d, n in sizes:
            lines += [comparison_row(f"synthetic, d {d}, n {n}", [c]) for c in pending[d, n].result()]
    if of_run:
        lines += [comparison_row(f"{len(of_run)} cells of a run", same_c) for same_c in zip(*of_run, strict=True)]
    print("\n".join(lines))
    reduced = [f"d {d}, n {n}" for d, n in sizes if len(compared_folds(d, n)) < len(FOLDS)]
    if reduced:
        lines += ["", f"Only one of the five folds was compared where the reference is slow: {'; '.join(reduced)}."]
    write("exactness", lines)


if __name__ == "__main__":
    main()
