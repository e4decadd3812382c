"""Measure the audit of labels with probes fitted to states: ``python benchmarks/label_audit_states.py [AUDITS]``.

Each setting is simulated AUDITS times (default 400).  Writes ``benchmarks/results/label_audit_states.md``.

500 answers have states that are normal with variance 1, and the first dimension differs between truly correct and
incorrect answers.  A share of the verdicts is wrong: at random, or only where the sign of the second dimension agrees
with the wrong verdict.  In the second case, the probe learns from the verdicts to read what leads the grader astray.
The truth is the AUC that the probes of the folds reach against the true labels on infinitely many new answers.
"""

import argparse
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from audit_simulation import covers
from report import machine, row, table_head, write
from scipy.stats import norm

from probemap.maps.fit import fit_map
from probemap.probing.auc import aucs
from probemap.records import Verdict
from probemap.studies.audit_draw import draw_audit
from probemap.studies.label_errors import LabelAudit, audit_labels

N, WIDTH, SHIFT, FOLDS = 500, 8, 1.2, 5
"""Answers, state dimensions, difference between truly correct and incorrect answers, and folds."""
SETTINGS = (
    (0.0, False, 80), (0.1, False, 80), (0.2, False, 80), (0.1, False, 200), (0.2, False, 200),
    (0.1, True, 80), (0.2, True, 80), (0.3, True, 80), (0.2, True, 200),
)  # fmt: skip
"""Share of wrong verdicts, whether errors depend on the states, and number of audited answers."""


class Simulation(NamedTuple):
    """An audit of one simulated probe."""

    audit: LabelAudit
    truth: float
    """AUC against the true labels on infinitely many new answers."""
    effect: float
    """AUC with which the scores predict the verdict among answers that are equally correct."""


def simulate(rate: float, depends: bool, audited: int, seed: int) -> Simulation:
    """Fit a probe to the verdicts, and audit some of them."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(seed)
    truth = rng.random(N) < 0.45
    states = rng.normal(size=(N, WIDTH))
    states[:, 0] += SHIFT * truth
    towards_wrong = (states[:, 1] > 0) != truth
    verdict = truth ^ (rng.random(N) < (2 * rate * towards_wrong if depends else rate))
    data = fit_map(states[:, None, None].astype(np.float32), verdict, folds=FOLDS, seed=seed).data
    scores, fold = data["scores"].values[:, :, 0, 0].astype(np.float64), data["fold"].values
    auc, n_pairs = 0.0, 0
    for number in range(FOLDS):
        rows = fold[0] == number
        # The weights follow from the scores, which are linear in the states.
        weights = np.linalg.lstsq(np.c_[states[rows], np.ones(rows.sum())], scores[0, rows], rcond=None)[0][:-1]
        pairs = int(verdict[rows].sum() * (~verdict[rows]).sum())
        auc += pairs * float(norm.cdf(SHIFT * weights[0] / np.sqrt(2 * weights @ weights)))
        n_pairs += pairs
    labels: list[bool | None] = [None] * N
    for answer in draw_audit([Verdict(bool(v), "") for v in verdict], audited, seed=seed).rows:
        labels[answer] = bool(truth[answer])
    factor = 1 + float(data["variance_inflation"].values[0, 0])
    audit = audit_labels(verdict, labels, scores, folds=fold, variance_factor=factor)
    effect = float(aucs(scores[0][:, None], verdict, 2 * fold[0] + truth).value[0])
    return Simulation(audit, auc / n_pairs, effect)


def setting_row(setting: tuple[float, bool, int], simulations: Sequence[Simulation]) -> str:
    """Return the row of a setting."""
    rate, depends, audited = setting
    audits, truth = [s.audit for s in simulations], [s.truth for s in simulations]
    corrected = [audit.corrected.value for audit in audits]
    warned = [audit.depends for audit in audits]
    return row(
        f"{rate:g}",
        "yes" if depends else "no",
        audited,
        f"{np.mean([audit.alpha.errors + audit.beta.errors for audit in audits]):.1f}",
        f"{np.mean([s.effect for s in simulations]):.2f}" if rate else "–",
        f"{np.mean(truth):.3f}",
        f"{np.mean([audit.auc.value for audit in audits]):.3f}",
        f"{np.nanmedian(corrected):.3f}",
        f"**{100 * covers([audit.corrected for audit in audits], truth):.1f}**",
        f"{100 * covers([audit.audited for audit in audits], truth):.1f}",
        f"**{100 * np.mean(warned):.1f}**",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("audits", type=int, nargs="?", default=400)
    n = parser.parse_args().audits
    lines = [
        "# Audit of labels, with probes fitted to states",
        "",
        f"Each row summarises {n} simulated maps of one cell with {N} answers.  Wrong is the share of wrong verdicts.  "
        "Effect is the AUC with which the scores predict the verdict among answers with the same label; it is 0.5 if "
        "errors do not depend on the scores.  Coverage and warnings are in percent.  The standard error of a coverage "
        f"of 95 % is {100 * np.sqrt(0.05 * 0.95 / n):.1f} percentage points.",
        "",
        machine(),
        "",
        *table_head(
            "wrong", "depends", "audited", "errors found", "effect", "true AUC", "mean AUC", "corrected (median)",
            "coverage corrected", "coverage audited AUC", "warning",
        ),
    ]  # fmt: skip
    with ProcessPoolExecutor(max(1, len(os.sched_getaffinity(0)) - 1)) as pool:
        for number, setting in enumerate(SETTINGS):
            seeds = range(number * n, (number + 1) * n)
            lines.append(setting_row(setting, list(pool.map(partial(simulate, *setting), seeds, chunksize=10))))
            print(lines[-1], flush=True)
    write("label_audit_states", lines)


if __name__ == "__main__":
    main()
