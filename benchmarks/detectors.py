"""Does a detector keep what the map promised?  ``python benchmarks/detectors.py RUN…`` writes ``results/detectors.md``.

Each fifth of a run's questions is kept apart in turn, and a detector of the other four judges it: its cell, probe,
calibration and thresholds know nothing of these answers.  Pooled over the fifths, every answer is judged once.  The
log-probability that is best on the other four fifths is calibrated there in the same way, and stands beside it.
"""

import sys

import numpy as np
from probemap.runs.integrity import question_groups, read_answers, states_of
from report import head, machine, row, write
from sklearn.linear_model import LogisticRegression

from probemap.detectors.fit import fit_detector
from probemap.maps.probe_map import ProbeMap
from probemap.probing.auc import Floats, aucs, by_group, difference, interval
from probemap.probing.baselines import baselines
from probemap.probing.folds import assign_folds, group_numbers
from probemap.probing.metrics import calibration_errors
from probemap.runs.run import Run

FIFTHS = 5
FALSE_ALARMS = (0.05, 0.2)


def debiased(p: Floats, right: Floats, bins: int = 10) -> float:
    """Calibration error without what chance adds: root of the mean over bins of the squared gap, less its variance
    (Bröcker 2012; Kumar, Liang & Ma 2019); 0 where chance alone explains it."""
    total = 0.0
    for rows in np.array_split(np.argsort(p, kind="stable"), bins):
        share = right[rows].mean()
        total += ((p[rows].mean() - share) ** 2 - share * (1 - share) / (len(rows) - 1)) * len(rows) / len(p)
    return float(np.sqrt(max(total, 0.0)))


def by_chance(p: Floats) -> tuple[float, float]:
    """The calibration error if every probability were true: its mean, and what it exceeds in one case of twenty."""
    draw = np.random.default_rng(0)
    errors = [calibration_errors(p[:, None], draw.random(len(p)) < p)[0] for _ in range(1000)]
    return float(np.mean(errors)), float(np.quantile(errors, 0.95))


def _alone(p: Floats, right: Floats) -> str:
    """The calibration error of answers that did not go to the fallback, and what it would be if all were true."""
    error, (typical, most) = float(calibration_errors(p[:, None], right)[0]), by_chance(p)
    return f"{error:.3f} ({typical:.3f}, up to {most:.3f})"


def judge(run: Run) -> dict[str, str]:
    task, answers, judgements = read_answers(run)
    store = states_of(run, answers, judgements)
    correct = [j.verdict.correct for j in judgements]
    right = np.array([one is True for one in correct])
    decided = np.array([one is not None for one in correct])
    group = group_numbers(question_groups(task), len(answers))
    part = assign_folds(right, group, FIFTHS, 0)
    logits = {one.name: np.asarray(one.values) for one in baselines(task, answers, judgements) if "logprob" in one.name}
    p, other = np.full(len(right), np.nan), np.full(len(right), np.nan)
    score = np.full(len(right), np.nan)
    flagged = np.zeros((len(FALSE_ALARMS), len(right)), bool)
    cells, by_main = [], np.zeros(len(right), bool)
    for number in range(FIFTHS):
        apart = part == number
        detector = fit_detector(store, correct, held_out=apart, groups=question_groups(task), false_alarms=FALSE_ALARMS)
        cells.append(detector.main.where)
        rows = apart & decided
        states = np.stack([store.read(cell.layer, cell.position)[rows] for cell in detector.cells], axis=1)
        p[rows] = detector.p_correct(states)
        by_main[rows] = [by == "main" for by in detector.branch_of(states)]
        k = len(detector.main.cells)
        for branch, mine, here in (
            (detector.main, states[:, :k], by_main[rows]),
            (detector.fallback, states[:, k:], ~by_main[rows]),
        ):
            if branch is None:
                continue
            found = branch.scores(mine)
            at = np.flatnonzero(rows)[here]
            score[at] = found[here]
            for alarm, share in enumerate(FALSE_ALARMS):
                flagged[alarm, at] = found[here] < branch.threshold(share).score
        train = ~apart & decided
        known = {name: values for name, values in logits.items() if not np.isnan(values[train | rows]).any()}
        best = max(known, key=lambda name: float(aucs(known[name][train, None], right[train]).value[0]))
        curve = LogisticRegression(C=np.inf).fit(known[best][train, None], right[train])
        other[rows] = curve.predict_proba(known[best][rows, None])[:, 1]
    judged = decided & ~np.isnan(p)
    y, n = right[judged], int(judged.sum())
    # Of one fifth each, because each fifth has a detector of its own.
    ours, theirs = (aucs(one[judged, None], y, part[judged]) for one in (p, other))
    numbers = group[judged]
    influence = by_group(ours.influence, numbers)
    low, high = interval(float(ours.value[0]), float((influence**2).sum()), int(y.sum()), int((~y).sum()))
    gain = difference(float(ours.value[0] - theirs.value[0]), (influence - by_group(theirs.influence, numbers))[:, 0])
    honest = ProbeMap.load(run.path / "map.nc").nested_best()
    assert honest is not None
    main = judged & by_main
    of_main = aucs(p[main, None], right[main], part[main])
    ece = float(calibration_errors(p[judged][:, None], y)[0])
    typical, most = by_chance(p[judged])
    made = {
        "model": run.step("answer")["facts"]["model"],
        "task": task.name,
        "answers": str(n),
        "right": f"{y.mean():.0%}",
        "map's promise": f"{honest.auc:.3f} [{honest.low:.3f}, {honest.high:.3f}]",
        "AUC": f"{float(ours.value[0]):.3f} [{low:.3f}, {high:.3f}]",
        "of its own cells": f"{float(of_main.value[0]):.3f} (n = {int(main.sum())})",
        "inside": "yes" if honest.low <= float(of_main.value[0]) <= honest.high else "no",
        "Brier": f"{((p[judged] - y) ** 2).mean():.3f}",
        "calibration error": f"{ece:.3f}",
        "if all were true": f"{typical:.3f}, up to {most:.3f}",
        "without chance": f"{debiased(p[judged], y.astype(float)):.3f}",
        "of its own cells alone": _alone(p[main], right[main]),
        "best log-probability": f"{float(theirs.value[0]):.3f}",
        "gain": f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]",
    }
    for alarm, share in enumerate(FALSE_ALARMS):
        mine = flagged[alarm, judged]
        made[f"at {share:.0%}: false alarms, recall, precision"] = (
            f"{mine[y].mean():.1%}, {mine[~y].mean():.1%}, {(~y)[mine].mean():.1%}"
        )
    print(made, cells, flush=True)
    return made


def main() -> None:
    rows = [judge(Run.open(path)) for path in sys.argv[1:]]
    names = list(rows[0])
    split = names.index("Brier")
    lines = [
        f"Detectors on answers that took no part, {machine()}  {FIFTHS} detectors for each run, each judged on the "
        "fifth of the questions that it knows nothing of; AUCs compare answers of one fifth.  The map's promise is the "
        "AUC of its best cell, chosen on some answers and judged on others; beside it the AUC of the detectors' own "
        "cells, without the answers that go to the fallback.  Calibration error: ten bins of equally many answers; what"
        " it would be if all probabilities were true (mean, and 95 % quantile); and the root mean square of the gaps "
        "without what chance adds to them.",
        "",
        *head(*names[:split]),
        *(row(*(made[name] for name in names[:split])) for made in rows),
        "",
        *head("model", "task", *names[split:]),
        *(row(made["model"], made["task"], *(made[name] for name in names[split:])) for made in rows),
    ]
    write("detectors", lines)


if __name__ == "__main__":
    main()
