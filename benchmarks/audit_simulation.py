"""Simulate an audit of labels, for `label_audit` and for the tests.

Verdicts are given to n answers, and a share α of the verdicts "correct" and a share β of the verdicts "incorrect" are
wrong.  The scores of truly correct and truly incorrect answers are normal with variance 1, and their means differ by μ.
The true AUC is then Φ(μ / √2).  If errors depend on the scores, the mean score of answers with the verdict "correct" is
higher by a shift δ than that of equally correct answers with the verdict "incorrect".  Among answers that are equally
correct, the verdict can then be read from the scores with an AUC of Φ(δ / √2).  The audited answers are drawn by
`draw_audit`, with three reasons per verdict, and 5 % of them cannot be decided.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from probemap.records import Verdict
from probemap.studies.audit_draw import draw_audit
from probemap.studies.label_errors import LabelAudit, audit_labels
from probemap.tables import Interval

REASONS = (0.6, 0.3, 0.1)
"""Share of each reason among the answers with the same verdict."""
UNCLEAR = 0.05
"""Share of the audited answers that the person cannot decide."""


@dataclass(frozen=True)
class Setting:
    """One setting of the simulation."""

    alpha: float
    beta: float
    audited: int
    answers: int = 500
    auc: float = 0.8
    shift: float = 0.0
    """Shift δ of the scores of answers with the verdict "correct"."""
    concentrated: bool = False
    """Whether all wrong verdicts have the rarest reason."""
    correct: float = 0.45
    """Share of the verdicts "correct"."""


@dataclass(frozen=True)
class Simulation:
    """The audit of one simulated set of answers, with the true error rates of these answers."""

    audit: LabelAudit
    alpha: float
    beta: float


def simulate(setting: Setting, seed: int) -> Simulation:
    """Return the audit of one simulated set of answers."""
    rng = np.random.default_rng(seed)
    n = setting.answers
    verdict = rng.random(n) < setting.correct
    reason = rng.choice(len(REASONS), n, p=REASONS)
    rate = np.where(verdict, setting.alpha, setting.beta)
    if setting.concentrated:
        rate = np.where(reason == len(REASONS) - 1, rate / REASONS[-1], 0.0)
    truth = verdict ^ (rng.random(n) < rate)
    scores = rng.normal(size=n) + np.sqrt(2) * norm.ppf(setting.auc) * truth + setting.shift * verdict
    draw = draw_audit(
        [Verdict(bool(v), f"reason {k}") for v, k in zip(verdict, reason, strict=True)], setting.audited, seed=seed
    )
    labels: list[bool | None] = [None] * n
    weights = np.full(n, np.nan)
    for number, weight in zip(draw.rows, draw.weights, strict=True):
        labels[number] = None if rng.random() < UNCLEAR else bool(truth[number])
        weights[number] = weight
    audit = audit_labels(verdict, labels, scores, weights=weights, strata=reason)
    return Simulation(audit, float((~truth[verdict]).mean()), float(truth[~verdict].mean()))


def covers(values: Sequence[Interval], truth: float | Sequence[float]) -> float:
    """Return the share of the intervals that contain the truth, of those that exist."""
    value, low, high = np.array(values).T
    hit = (low <= np.array(truth) + 1e-12) & (np.array(truth) <= high + 1e-12)
    return float(hit[~np.isnan(value)].mean()) if not np.isnan(value).all() else float("nan")
