"""Measure the audit of labels in simulations: ``python benchmarks/label_audit.py [AUDITS]``.

Each setting is simulated AUDITS times (default 1000).  Writes ``benchmarks/results/label_audit.md``.

`audit_simulation` describes the simulation.
"""

import argparse
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from audit_simulation import Setting, Simulation, covers, simulate
from report import machine, row, table_head, write
from scipy.stats import norm

from probemap.studies.label_errors import dependence

INDEPENDENT = [
    *(
        Setting(alpha, beta, audited, answers=answers)
        for alpha, beta in ((0.0, 0.0), (0.02, 0.05), (0.05, 0.1), (0.15, 0.15), (0.26, 0.1))
        for audited, answers in ((80, 500), (200, 2000))
    ),
    Setting(0.05, 0.1, 40, answers=300),
    Setting(0.15, 0.15, 40, answers=300),
    Setting(0.1, 0.1, 80, auc=0.5),
    Setting(0.1, 0.1, 80, auc=0.65),
    Setting(0.1, 0.1, 80, auc=0.95),
    Setting(0.05, 0.1, 80, correct=0.15),
    Setting(0.03, 0.06, 80, concentrated=True),
    Setting(0.03, 0.06, 200, answers=2000, concentrated=True),
    Setting(0.05, 0.1, 500),
]
DEPENDENT = [
    Setting(alpha, beta, audited, shift=float(np.sqrt(2) * norm.ppf(effect)))
    for alpha, beta, audited in ((0.05, 0.05, 80), (0.1, 0.1, 80), (0.05, 0.05, 200), (0.1, 0.1, 200))
    for effect in (0.7, 0.8, 0.9)
]

TESTS = 20_000
WARNINGS = ((0.15, 0.15, 40), (0.05, 0.1, 80), (0.15, 0.15, 80), (0.26, 0.1, 80), (0.05, 0.1, 200), (0.15, 0.15, 200))
"""α, β and audited answers of the settings in which only the warning is simulated."""


def warning_row(alpha: float, beta: float, n: int) -> str:
    """Return the rate of warnings if all answers are audited and errors do not depend on the scores."""
    rng = np.random.default_rng(n)
    n_warnings = 0
    for _ in range(TESTS):
        verdict = rng.random(n) < 0.45
        truth = verdict ^ (rng.random(n) < np.where(verdict, alpha, beta))
        n_warnings += dependence(rng.normal(size=n) + 1.2 * truth, verdict, truth) < 0.05
    return row(f"{alpha:g}, {beta:g}", n, f"**{100 * n_warnings / TESTS:.2f}**")


def _batch(setting: Setting, seeds: Sequence[int]) -> list[Simulation]:
    return [simulate(setting, seed) for seed in seeds]


def _audits(pool: ProcessPoolExecutor, setting: Setting, seeds: range) -> list[Simulation]:
    batches = [pool.submit(_batch, setting, seeds[start : start + 50]) for start in range(0, len(seeds), 50)]
    return [simulation for batch in batches for simulation in batch.result()]


def _percent(share: float) -> str:
    return "–" if np.isnan(share) else f"{100 * share:.1f}"


def independent_row(setting: Setting, simulations: Sequence[Simulation]) -> str:
    """Return the row of a setting in which the formula holds."""
    audits = [simulation.audit for simulation in simulations]
    values = [audit.corrected for audit in audits if not np.isnan(audit.corrected.value)]
    p = np.array([audit.p for audit in audits])
    return row(
        f"{setting.alpha:g}, {setting.beta:g}" + (" in one reason" if setting.concentrated else ""),
        setting.correct,
        setting.answers,
        setting.audited,
        setting.auc,
        f"{np.mean([audit.auc.value for audit in audits]):.3f}",
        f"{np.median([value.value for value in values]):.3f}",
        f"{np.median([value.high - value.low for value in values]):.3f}",
        _percent(covers([audit.alpha.interval for audit in audits], [s.alpha for s in simulations])),
        _percent(covers([audit.beta.interval for audit in audits], [s.beta for s in simulations])),
        f"**{_percent(covers(values, setting.auc))}**",
        _percent(1 - len(values) / len(audits)),
        _percent(covers([audit.audited for audit in audits], setting.auc)),
        f"{np.nanmedian([audit.audited.high - audit.audited.low for audit in audits]):.3f}",
        f"**{_percent(float((p < 0.05).mean()))}**",
    )


def dependent_row(setting: Setting, simulations: Sequence[Simulation]) -> str:
    """Return the row of a setting in which errors depend on the scores."""
    audits = [simulation.audit for simulation in simulations]
    errors = [audit.alpha.errors + audit.beta.errors for audit in audits]
    truth = _true_auc(setting)
    return row(
        f"{setting.alpha:g}, {setting.beta:g}",
        setting.audited,
        f"{np.mean(errors):.1f}",
        f"{norm.cdf(setting.shift / np.sqrt(2)):.2f}",
        f"{truth:.3f}",
        f"{np.mean([audit.auc.value for audit in audits]):.3f}",
        _percent(covers([audit.corrected for audit in audits], truth)),
        _percent(covers([audit.audited for audit in audits], truth)),
        f"**{_percent(float(np.mean([audit.depends for audit in audits])))}**",
    )


def _true_auc(setting: Setting) -> float:
    """Return the AUC against the true labels if errors depend on the scores."""
    difference = np.sqrt(2) * norm.ppf(setting.auc)
    correct, incorrect = setting.correct, 1 - setting.correct
    # Truly correct and truly incorrect answers, each with either verdict.
    positive = {1: correct * (1 - setting.alpha), 0: incorrect * setting.beta}
    negative = {1: correct * setting.alpha, 0: incorrect * (1 - setting.beta)}
    return float(
        sum(
            p * q * norm.cdf((difference + setting.shift * (a - b)) / np.sqrt(2))
            for a, p in positive.items()
            for b, q in negative.items()
        )
        / (sum(positive.values()) * sum(negative.values()))
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("audits", type=int, nargs="?", default=1000)
    n = parser.parse_args().audits
    lines = [
        "# Audit of labels",
        "",
        f"Each row summarises {n} simulated audits.  α and β are the shares of wrong verdicts among the verdicts "
        "\"correct\" and \"incorrect\".  Coverage is the percentage of 95 % intervals that contain the true value.  "
        "Warning is the percentage of audits with p < 0.05.  The corrected AUC and the widths of intervals are "
        "medians.  The standard error of a coverage of 95 %, or of a warning rate of 5 %, is "
        f"{100 * np.sqrt(0.05 * 0.95 / n):.1f} percentage points.",
        "",
        machine(),
        "",
        "## Errors that do not depend on the scores",
        "",
        "The warning should appear in at most 5 % of the audits, and the coverage of the corrected AUC should be 93 "
        "to 97 %.",
        "",
        *table_head(
            "α, β", "verdicts correct", "answers", "audited", "true AUC", "mean AUC", "corrected", "its width",
            "coverage α", "coverage β", "coverage corrected", "no value", "coverage audited AUC",
            "its width", "warning",
        ),
    ]  # fmt: skip
    with ProcessPoolExecutor(max(1, len(os.sched_getaffinity(0)) - 1)) as pool:
        warnings: list[bool] = []
        for number, setting in enumerate(INDEPENDENT):
            simulations = _audits(pool, setting, range(number * n, (number + 1) * n))
            lines.append(independent_row(setting, simulations))
            print(lines[-1], flush=True)
            if setting.alpha:  # without errors, there is nothing to test
                warnings += [simulation.audit.depends for simulation in simulations]
        lines += [
            "",
            f"Over all settings with errors, the warning appeared in {_percent(float(np.mean(warnings)))} % of the "
            "audits.",
            "",
            f"The next table estimates the warning rate more precisely, from {TESTS} audits per row.  Only the test is "
            f"simulated.  The standard error is {100 * np.sqrt(0.05 * 0.95 / TESTS):.2f} percentage points.",
            "",
            *table_head("α, β", "audited", "warning"),
            *pool.map(warning_row, *zip(*WARNINGS, strict=True)),
            "",
            "## Errors that depend on the scores",
            "",
            "All settings have 500 answers.  Effect is the AUC with which the scores predict the verdict among answers "
            "with the same label.  The corrected AUC is not valid here, but the AUC against the person's labels is.",
            "",
            *table_head(
                "α, β", "audited", "errors found", "effect", "true AUC", "mean AUC", "coverage corrected",
                "coverage audited AUC", "warning",
            ),
        ]  # fmt: skip
        for number, setting in enumerate(DEPENDENT, start=len(INDEPENDENT)):
            lines.append(dependent_row(setting, _audits(pool, setting, range(number * n, (number + 1) * n))))
            print(lines[-1], flush=True)
    write("label_audit", lines)


if __name__ == "__main__":
    main()
