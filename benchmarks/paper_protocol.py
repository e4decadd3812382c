"""Is the paper's map what scikit-learn alone gives?  ``python benchmarks/paper_protocol.py RUN [SEEDS]``.

Ours: `maps.paper.fit_paper_map`.  Theirs: the loop that the protocol describes, written out, over all cells:
rows stay in the order in which ``train_test_split`` leaves them, and the AUC is that of wrong answers by their
probability.
That order matters where lbfgs stops at 100 steps, since rounding, which depends on it, decides where: so the loop is
also run on rows in the order of the answers, to tell this from other causes.  One BLAS thread for all, for the same
reason.
"""

import sys
import warnings

import numpy as np
from probemap.runs.integrity import read_answers
from report import head, machine, row, write
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits

from probemap.activations.store import ActivationStore
from probemap.maps.paper import fit_paper_map
from probemap.runs.run import Run

LIMIT = 1e-6


def direct(
    store: ActivationStore, correct: list[bool | None], located: list[bool], seed: int, in_order: bool
) -> np.ndarray:
    """(layers, positions): one AUC per cell."""
    decided = [i for i, verdict in enumerate(correct) if verdict is not None]
    split = train_test_split(decided, test_size=0.2, random_state=seed)
    train, test = ([i for i in (sorted(part) if in_order else part) if located[i]] for part in split)
    right = np.array([verdict is True for verdict in correct])
    made = np.full((store.layout.n_layers, len(store.layout.positions)), np.nan)
    for layer in range(made.shape[0]):
        states = store.read_layer(layer)
        for column in range(made.shape[1]):
            x = states[:, column]
            fitted, judged = ([i for i in part if not np.isnan(x[i, 0])] for part in (train, test))
            classifier = LogisticRegression(random_state=seed).fit(x[fitted], right[fitted])
            made[layer, column] = roc_auc_score(~right[judged], classifier.predict_proba(x[judged])[:, 0])
    return made


def main(folder: str, seeds: int) -> None:
    run = Run.open(folder)
    _, _, judgements = read_answers(run)
    correct, located = [j.verdict.correct for j in judgements], [j.span is not None for j in judgements]
    store = ActivationStore.open(run.path / "activations")
    lines = [
        "AUC of every cell of a run by the research code's protocol: `probemap.maps.paper.fit_paper_map` against a "
        f"direct loop over scikit-learn, both with one BLAS thread.  Met: |ΔAUC| ≤ {LIMIT:g} in all cells.",
        "",
        machine(),
        "",
        *head(
            *("seed", "cells", "median ΔAUC", "largest ΔAUC", "cells that differ", "met"),
            *("rows in the answers' order: largest ΔAUC", "cells that differ", "fits stopped at 100 steps"),
        ),
    ]
    worst = 0.0
    for seed in range(seeds):
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            ours = fit_paper_map(store, correct, located, seed=seed)
            gap, ordered = (
                np.abs(ours.auc.values - direct(store, correct, located, seed, in_order)).ravel()
                for in_order in (False, True)
            )
        stopped = int((~ours.data["converged"].values.astype(bool)).sum())
        worst = float(np.maximum(worst, gap.max()))  # NaN where only one of them has a value: then it is not met
        lines.append(
            row(
                *(seed, gap.size, f"{np.median(gap):.1e}", f"{gap.max():.1e}", int((gap > LIMIT).sum())),
                *("yes" if gap.max() <= LIMIT else "**no**", f"{ordered.max():.1e}", int((ordered > LIMIT).sum())),
                stopped,
            )
        )
        print(lines[-1], flush=True)
    print(f"largest |ΔAUC|: {worst:.2e}")
    write("paper_protocol", lines)
    if not worst <= LIMIT:
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3)
