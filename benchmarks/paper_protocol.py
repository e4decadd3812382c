"""Compare the map of the paper's protocol with scikit-learn: ``python benchmarks/paper_protocol.py RUN [SEEDS]``.

RUN is a run directory with captured states; SEEDS is the number of seeds (default 3).  Writes
``benchmarks/results/paper_protocol.md``; the exit status is 1 if a cell differs.

`maps.paper.fit_paper_map` is compared with the loop over all cells that the protocol describes, written out in
`direct_aucs`: the rows stay in the order in which ``train_test_split`` returns them, and the AUC is that of incorrect
answers by their probability.

The order of the rows matters where lbfgs stops after 100 iterations: the result then depends on rounding, and rounding
depends on the order.  The loop is therefore also run with the rows in the order of the answers, to distinguish this
cause from others.  All fits use one BLAS thread, for the same reason.
"""

import argparse
import sys
import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from report import machine, row, table_head, write, yes_no
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits

from probemap.activations.store import ActivationStore
from probemap.maps.paper import fit_paper_map
from probemap.runs.run import Run

LIMIT = 1e-6

Floats = npt.NDArray[np.float64]


def direct_aucs(
    store: ActivationStore,
    correct: Sequence[bool | None],
    has_span: Sequence[bool],
    *,
    seed: int,
    sort_rows: bool,
) -> Floats:
    """Return the AUC of every cell, of shape (n_layers, n_positions)."""
    decided = [i for i, label in enumerate(correct) if label is not None]
    split = train_test_split(decided, test_size=0.2, random_state=seed)
    train, test = ([i for i in (sorted(rows) if sort_rows else rows) if has_span[i]] for rows in split)
    is_correct = np.array([label is True for label in correct])
    auc = np.full((store.layout.n_layers, len(store.layout.positions)), np.nan)
    for layer in range(auc.shape[0]):
        states = store.read_layer(layer)
        for column in range(auc.shape[1]):
            x = states[:, column]
            fit_rows, test_rows = ([i for i in rows if not np.isnan(x[i, 0])] for rows in (train, test))
            classifier = LogisticRegression(random_state=seed).fit(x[fit_rows], is_correct[fit_rows])
            p_incorrect = classifier.predict_proba(x[test_rows])[:, 0]
            auc[layer, column] = roc_auc_score(~is_correct[test_rows], p_incorrect)
    return auc


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("seeds", type=int, nargs="?", default=3)
    options = parser.parse_args()
    graded = (run := Run.open(options.run)).graded
    correct, has_span = graded.correct, [span is not None for span in graded.spans]
    store = run.states_of(graded)
    lines = [
        "# The paper's protocol",
        "",
        "AUC of every cell of a run by the protocol of the research code: `probemap.maps.paper.fit_paper_map` against "
        f"a direct loop over scikit-learn, both with one BLAS thread.  Met: |ΔAUC| ≤ {LIMIT:g} in all cells.",
        "",
        machine(),
        "",
        *table_head(
            *("seed", "cells", "median ΔAUC", "largest ΔAUC", "cells that differ", "met"),
            *("rows in the order of the answers: largest ΔAUC", "cells that differ", "fits stopped at 100 iterations"),
        ),
    ]
    worst = 0.0
    for seed in range(options.seeds):
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            paper_map = fit_paper_map(store, correct, has_span, seed=seed)
            gap, sorted_gap = (
                np.abs(
                    paper_map.auc.values - direct_aucs(store, correct, has_span, seed=seed, sort_rows=sort_rows)
                ).ravel()
                for sort_rows in (False, True)
            )
        n_stopped = int((~paper_map.data["converged"].values.astype(bool)).sum())
        # NaN where only one of the two has a value; the limit is then not met.
        worst = float(np.maximum(worst, gap.max()))
        lines.append(
            row(
                *(seed, gap.size, f"{np.median(gap):.1e}", f"{gap.max():.1e}", int((gap > LIMIT).sum())),
                *(yes_no(bool(gap.max() <= LIMIT)), f"{sorted_gap.max():.1e}", int((sorted_gap > LIMIT).sum())),
                n_stopped,
            )
        )
        print(lines[-1], flush=True)
    print(f"largest |ΔAUC|: {worst:.2e}")
    write("paper_protocol", lines)
    if not worst <= LIMIT:
        sys.exit(1)


if __name__ == "__main__":
    main()
