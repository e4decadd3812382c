"""Evaluate detectors by cross-validation over the questions: ``python benchmarks/detectors.py RUN...``.

Each RUN is a run directory with a map.  Writes ``benchmarks/results/detectors.md``.

Each fifth of a run's questions is held out in turn, and a detector that is fitted on the other four scores it: its
cell, probe, calibration and thresholds are chosen without these answers.  Every answer is thus scored once.  As a
baseline, the log-probability that is best on the other four fifths is calibrated there in the same way.

The rates of false alarms are averaged over more splits, in each of which a random fifth of the questions is held out.
There, the cells are fixed: those with the highest AUC in the map of the run, so that only probes, calibration and
thresholds are fitted.  They are written to ``benchmarks/results/detector_splits.md``; with ``--splits-only``, nothing
else is computed.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from report import machine, row, table_head, write
from sklearn.linear_model import LogisticRegression

from probemap.detectors.fit import fit_detector
from probemap.probing.auc import Bools, Floats, Ints, auc_interval, aucs
from probemap.probing.baselines import compute_baselines
from probemap.probing.folds import assign_folds, group_numbers
from probemap.probing.inference import estimate_difference, sum_by_group
from probemap.probing.metrics import calibration_errors
from probemap.runs.definitions import ANSWER
from probemap.runs.graded import GradedAnswers
from probemap.runs.run import Run
from probemap.tables import Interval

FOLDS, SPLITS = 5, 20
FALSE_ALARMS = (0.05, 0.2)
BINS = 10


def debiased_error(p: Floats, correct: Bools) -> float:
    """Return the calibration error without the part that is due to chance; 0 where chance explains all of it.

    The square is the mean over bins of the squared gap minus its variance (Bröcker 2012; Kumar, Liang & Ma 2019).
    """
    total = 0.0
    for rows in np.array_split(np.argsort(p, kind="stable"), BINS):
        frequency = correct[rows].mean()
        variance = frequency * (1 - frequency) / (len(rows) - 1)
        total += ((p[rows].mean() - frequency) ** 2 - variance) * len(rows) / len(p)
    return float(np.sqrt(max(total, 0.0)))


def error_if_calibrated(p: Floats) -> tuple[float, float]:
    """Return the mean and the 95 % quantile of the calibration error that calibrated probabilities would have."""
    rng = np.random.default_rng(0)
    errors = [calibration_errors(p[:, None], rng.random(len(p)) < p)[0] for _ in range(1000)]
    return float(np.mean(errors)), float(np.quantile(errors, 0.95))


def calibration_error(p: Floats, correct: Bools) -> float:
    return float(calibration_errors(p[:, None], correct)[0])


@dataclass(frozen=True, kw_only=True)
class HeldOutScores:
    """Scores of every answer by the detector that was fitted without its fifth of the questions."""

    fold: Ints
    p_correct: Floats
    """ndarray of shape (n,); NaN for undecided answers and where the detector gives no score."""
    by_primary: Bools
    """ndarray of shape (n,): whether the primary head scored the answer."""
    flagged: Bools
    """ndarray of shape (len(FALSE_ALARMS), n)."""
    baseline: Floats
    """ndarray of shape (n,): calibrated log-probability."""


def held_out_scores(run: Run, graded: GradedAnswers) -> HeldOutScores:
    store, n = run.states_of(graded), len(graded.answers)
    correct = np.array([label is True for label in graded.correct])
    decided = np.array([label is not None for label in graded.correct])
    fold = assign_folds(correct, group_numbers(graded.groups, n), FOLDS, 0)
    logprobs = {
        baseline.name: np.asarray(baseline.values, np.float64)
        for baseline in compute_baselines(graded.task, graded.answers, graded.judgements)
        if "logprob" in baseline.name
    }
    p_correct, calibrated_logprob = np.full(n, np.nan), np.full(n, np.nan)
    flagged, by_primary = np.zeros((len(FALSE_ALARMS), n), bool), np.zeros(n, bool)
    for number in range(FOLDS):
        held_out = fold == number
        rows, train = held_out & decided, ~held_out & decided
        labels = [label if row else None for label, row in zip(graded.correct, train, strict=True)]
        detector = fit_detector(store, labels, groups=graded.groups, false_alarms=FALSE_ALARMS)
        print(f"fold {number}: {detector.primary.location}", flush=True)
        scores = detector.score_states(
            np.stack([store.read(cell.layer, cell.position)[rows] for cell in detector.cells], axis=1)
        )
        p_correct[rows] = scores.p_correct
        by_primary[rows] = [head == "primary" for head in scores.judged_by]
        for alarm, rate in enumerate(FALSE_ALARMS):
            flagged[alarm, rows] = [flag is True for flag in detector.is_flagged(scores, rate)]
        complete = {name: x for name, x in logprobs.items() if not np.isnan(x[train | rows]).any()}
        x = max(complete.values(), key=lambda x: float(aucs(x[train, None], correct[train]).value[0]))
        calibration = LogisticRegression(C=np.inf).fit(x[train, None], correct[train])
        calibrated_logprob[rows] = calibration.predict_proba(x[rows, None])[:, 1]
    return HeldOutScores(
        fold=fold, p_correct=p_correct, by_primary=by_primary, flagged=flagged, baseline=calibrated_logprob
    )


def split_rates(run: Run) -> dict[str, str]:
    """Return the mean rates of the thresholds over the splits, with the standard error over splits, by column."""
    graded, probe_map = run.graded, run.read_current_map()
    store, group = run.states_of(graded), group_numbers(graded.groups, len(graded.answers))
    correct = np.array([label is True for label in graded.correct])
    decided = np.array([label is not None for label in graded.correct])
    without_exact = [position for position in probe_map.positions if "exact_answer" not in position]
    cells = [probe_map.best()[0], probe_map.only(without_exact).best()[0]]
    # A detector fits a map to all states that it gets, so it gets only those of its two cells.
    states = np.stack([store.read(cell.layer, cell.position) for cell in cells], axis=1)
    rates = np.empty((SPLITS, len(FALSE_ALARMS), 2))
    for split in range(SPLITS):
        numbers = np.random.default_rng(split).permutation(int(group.max()) + 1)
        rows = (numbers[group] < len(numbers) / FOLDS) & decided
        detector = fit_detector(
            states[:, None],
            [None if row else label for label, row in zip(graded.correct, rows, strict=True)],
            positions=["primary", "fallback"],
            cells=[(0, "primary")],
            fallback=(0, "fallback"),
            groups=graded.groups,
            false_alarms=FALSE_ALARMS,
            risks=(),
            seed=split,
        )
        scores = detector.score_states(states[rows][:, : len(detector.cells)])
        for k, rate in enumerate(FALSE_ALARMS):
            flagged = np.array([flag is True for flag in detector.is_flagged(scores, rate)])
            rates[split, k] = flagged[correct[rows]].mean(), flagged[~correct[rows]].mean()
    mean, error = rates.mean(axis=0), rates.std(axis=0, ddof=1) / np.sqrt(SPLITS)
    row_cells = {"model": run.record(ANSWER).facts.model, "task": graded.task.name, "answers": str(int(decided.sum()))}
    for k, rate in enumerate(FALSE_ALARMS):
        for number, name in enumerate(("false alarms", "recall")):
            row_cells[f"at {rate:.0%}: {name}"] = f"{mean[k, number]:.1%} ({error[k, number]:.1%})"
    return row_cells


def write_splits(runs: Sequence[Run]) -> None:
    rows = [split_rates(run) for run in runs]
    write(
        "detector_splits",
        [
            f"# False alarms of detectors over {SPLITS} splits",
            "",
            f"Means over {SPLITS} random splits, each with a fifth of the questions held out, and standard errors over "
            "the splits, which share answers.  The cells are those with the highest AUC in the map of the run.",
            "",
            machine(),
            "",
            *table_head(*rows[0]),
            *(row(*cells.values()) for cells in rows),
        ],
    )


def evaluate(run: Run) -> dict[str, str]:
    """Return the cells of the run's rows in both tables, by column."""
    graded = run.graded
    scores = held_out_scores(run, graded)
    scored = ~np.isnan(scores.p_correct)
    correct = np.array([label is True for label in graded.correct])[scored]
    p, fold = scores.p_correct[scored], scores.fold[scored]
    group = group_numbers(graded.groups, len(graded.answers))[scored]
    # Only answers of one fold are compared with each other, because every fold has its own detector.
    detector_auc, baseline_auc = (aucs(x[scored, None], correct, fold) for x in (scores.p_correct, scores.baseline))
    influence = sum_by_group(detector_auc.influence, group)
    auc, n_correct = float(detector_auc.value[0]), int(correct.sum())
    ends = auc_interval(auc, float((influence**2).sum()), n_correct, len(correct) - n_correct)
    gain = estimate_difference(
        auc - float(baseline_auc.value[0]), (influence - sum_by_group(baseline_auc.influence, group))[:, 0]
    )
    nested = run.map.nested_best()
    assert nested is not None
    primary = scores.by_primary[scored]
    primary_auc = float(aucs(p[primary, None], correct[primary], fold[primary]).value[0])
    mean, quantile = error_if_calibrated(p)
    primary_mean, primary_quantile = error_if_calibrated(p[primary])
    cells = {
        "model": run.record(ANSWER).facts.model,
        "task": graded.task.name,
        "answers": str(len(correct)),
        "correct": f"{correct.mean():.0%}",
        "map: nested-CV AUC": Interval(nested.auc, nested.low, nested.high).text,
        "AUC": Interval(auc, *ends).text,
        "AUC of the primary head": f"{primary_auc:.3f} (n = {int(primary.sum())})",
        "inside the interval of the map": "yes" if nested.low <= primary_auc <= nested.high else "no",
        "Brier score": f"{((p - correct) ** 2).mean():.3f}",
        "calibration error": f"{calibration_error(p, correct):.3f}",
        "if calibrated": f"{mean:.3f}, up to {quantile:.3f}",
        "debiased": f"{debiased_error(p, correct):.3f}",
        "of the primary head": f"{calibration_error(p[primary], correct[primary]):.3f} ({primary_mean:.3f}, up to "
        f"{primary_quantile:.3f})",
        "best log-probability": f"{float(baseline_auc.value[0]):.3f}",
        "gain": Interval(gain.value, gain.low, gain.high).signed_text,
    }
    for rate, flagged in zip(FALSE_ALARMS, scores.flagged[:, scored], strict=True):
        cells[f"at {rate:.0%}: false alarms, recall, precision"] = (
            f"{flagged[correct].mean():.1%}, {flagged[~correct].mean():.1%}, {(~correct)[flagged].mean():.1%}"
        )
    return cells


def tables(rows: Sequence[dict[str, str]]) -> list[str]:
    """Return two tables, because all columns in one would be too wide."""
    names = list(rows[0])
    split = names.index("Brier score")
    first, second = names[:split], ["model", "task", *names[split:]]
    return [
        *table_head(*first),
        *(row(*(cells[name] for name in first)) for cells in rows),
        "",
        *table_head(*second),
        *(row(*(cells[name] for name in second)) for cells in rows),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--splits-only", action="store_true")
    arguments = parser.parse_args()
    runs = [Run.open(path) for path in arguments.runs]
    write_splits(runs)
    if arguments.splits_only:
        return
    rows = [evaluate(run) for run in runs]
    write(
        "detectors",
        [
            "# Detectors on held-out answers",
            "",
            machine(),
            "",
            f"{FOLDS} detectors per run, each evaluated on the fifth of the questions that was held out; AUCs compare "
            "answers of the same fifth.  Map: the nested-CV estimate of the best cell of the run's map.  Primary head: "
            "without the answers that the fallback scores.  Calibration error: ten bins with the same number of "
            "answers; if calibrated: the error that calibrated probabilities would have (mean, and 95 % quantile); "
            "debiased: the root mean square of the gaps without the part that is due to chance.",
            "",
            *tables(rows),
        ],
    )


if __name__ == "__main__":
    main()
