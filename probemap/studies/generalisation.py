"""Generalisation matrix: evaluate one run's probe on another run's answers.

Figure 3 of Orgad et al. 2024 (arXiv 2410.02707) shows max(AUC, 1 - AUC).  Here, the AUC itself is reported as well,
because a probe that ranks the other run's answers in reverse is useful only if the reversal is known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from probemap.probing.auc import MIN_PER_CLASS, Aucs, Bools, Floats, Ints, auc_interval, aucs
from probemap.probing.inference import estimate_difference, sum_by_group
from probemap.probing.nested import NestedScores, nested_auc
from probemap.records import MapError, RunError
from probemap.tables import NO_INTERVAL, Interval, PairMatrix, Table, Value, enumerated

if TYPE_CHECKING:
    from probemap.maps.probe_map import ProbeMap

COLUMNS = (
    "trained on",
    "tested on",
    "layer",
    "position",
    "n",
    "auc",
    "low",
    "high",
    "folded",
    "folded low",
    "folded high",
    "baseline",
    "gain",
    "gain low",
    "gain high",
)


@dataclass(frozen=True, kw_only=True)
class RunData:
    """The data from one run that are needed to compute the generalisation matrix."""

    name: str
    probe_map: ProbeMap
    questions: Sequence[tuple[str, str]]
    """Question and context of each answer in the map.  Answers to questions that also occur in the training run are not
    used for testing."""
    logprobs: Mapping[str, Floats]
    """Log-probabilities used as baselines.  The keys are their names, and the values are arrays of shape (n,), with NaN
    for answers without a log-probability.  Higher values indicate that the answer is more likely to be correct."""
    states: Callable[[int, str], npt.NDArray[np.float32]]
    """Callable ``(layer, position) -> ndarray`` that returns hidden states of shape (n, d), with NaN for answers that
    do not have the position."""


Fit = Callable[[npt.NDArray[np.float32], Bools, float], Floats]
"""Callable ``(states, verdicts, c) -> weights`` that fits a probe to states of shape (n, d) and verdicts of shape (n,),
with the regularisation parameter C set to `c`.  It returns the weights and the bias as an array of shape (d + 1,)."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One row of the table: one run's probe, evaluated on the answers from the same run or from another run."""

    trained_on: str
    tested_on: str
    layer: int | None
    """Layer of the probe, or None if each fold selected its own cell."""
    position: str
    n: int
    """Number of test answers."""
    auc: Interval | None = None
    """AUC of the probe, or None if there are too few test answers."""
    baseline: str = ""
    """Name of the log-probability with the highest AUC in the training run."""
    gain: Interval | None = None
    """AUC of the probe minus the AUC of the baseline, computed on the same answers."""

    @property
    def folded(self) -> Interval | None:
        """max(AUC, 1 - AUC) with its interval, which starts at 0.5 if the interval of the AUC contains 0.5."""
        if self.auc is None:
            return None
        value, low, high = self.auc
        folded_low = 0.5 if low <= 0.5 <= high else min(abs(low - 0.5), abs(high - 0.5)) + 0.5
        return Interval(max(value, 1 - value), folded_low, max(high, 1 - low))

    def cells(self) -> tuple[Value, ...]:
        """Return the values in the order of `COLUMNS`."""
        return (
            self.trained_on,
            self.tested_on,
            self.layer,
            self.position,
            self.n,
            *(self.auc or NO_INTERVAL),
            *(self.folded or NO_INTERVAL),
            self.baseline,
            *(self.gain or NO_INTERVAL),
        )


def generalisation_table(
    runs: Sequence[RunData],
    fit: Fit,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
    checkpoint: Callable[[str, Callable[[], Pair]], Pair] = lambda name, evaluate: evaluate(),
) -> Table:
    """Evaluate every run's probe on every run's answers.

    Parameters
    ----------
    runs : sequence of RunData
    fit : callable
        Function that fits a probe; see `Fit`.
    progress : callable
        Function called with the number of finished pairs and the total number of pairs.
    checkpoint : callable
        Function called with two arguments: the name of a pair, and a function that evaluates the pair.  It may return a
        stored result instead of calling that function.

    Returns
    -------
    Table
        One row per pair of runs; `pairs_of` converts the rows to `Pair` objects.

    Raises
    ------
    MapError
        If a map was fitted without nested CV, or if two runs have no layers or no positions in common.
    """
    pairs: list[Pair] = []
    for train in runs:
        for test in runs:
            evaluate = partial(evaluate_within, train) if train is test else partial(evaluate_across, train, test, fit)
            pairs.append(checkpoint(f"{train.name} on {test.name}", evaluate))
            progress(len(pairs), len(runs) ** 2)
    cells = tuple(pair.cells() for pair in pairs)
    return Table("Generalisation: trained on one run, tested on another", COLUMNS, cells, tuple(_sentences(pairs)))


def pairs_of(table: Table) -> list[Pair]:
    """Convert the rows of a table returned by `generalisation_table` to `Pair` objects.

    Raises
    ------
    RunError
        If the columns of the table are not `COLUMNS`.
    """
    if table.columns != COLUMNS:
        raise RunError(f"{table.title!r} is not a generalisation table: its columns are {', '.join(table.columns)}")
    pairs = []
    for row in table.rows:
        cell: dict[str, Any] = dict(zip(COLUMNS, row, strict=True))
        pairs.append(
            Pair(
                trained_on=cell["trained on"],
                tested_on=cell["tested on"],
                layer=cell["layer"],
                position=cell["position"],
                n=cell["n"],
                auc=_interval(cell["auc"], cell["low"], cell["high"]),
                baseline=cell["baseline"],
                gain=_interval(cell["gain"], cell["gain low"], cell["gain high"]),
            )
        )
    return pairs


def matrix_of(pairs: Sequence[Pair]) -> PairMatrix:
    """Arrange the estimates for all pairs of runs in matrices."""
    names = tuple(dict.fromkeys(pair.trained_on for pair in pairs))
    shape = (3, len(names), len(names))
    auc, folded, gain = (np.full(shape, np.nan) for _ in range(3))
    for pair in pairs:
        cell = (slice(None), names.index(pair.trained_on), names.index(pair.tested_on))
        for array, estimate in ((auc, pair.auc), (folded, pair.folded), (gain, pair.gain)):
            if estimate is not None:
                array[cell] = estimate
    return PairMatrix(names=names, auc=auc, folded=folded, gain=gain)


def evaluate_within(run: RunData) -> Pair:
    """Evaluate a run's probe on the run's own answers by nested CV.

    Raises
    ------
    MapError
        If the map was fitted without nested CV.
    """
    data = run.probe_map.data
    nested = run.probe_map.nested_scores()
    if nested is None:
        raise MapError(f"the map of {run.name} was fitted without nested CV", "fit it with 3 or more folds")
    rows: Bools = np.asarray(~np.isnan(nested.scores).any(axis=0))
    probe = nested_auc(nested, data, rows)
    baseline = best_logprob(run, _complete(run, rows))
    position = " or ".join(sorted({position for _, position in nested.selected}))
    pair = Pair(trained_on=run.name, tested_on=run.name, layer=None, position=position, n=int(rows.sum()))
    if probe is None:
        return pair
    # Scores of different folds come from different probes, so only answers in the same fold are compared.  The same is
    # done for the baseline, so that both AUCs are computed from the same pairs of answers.
    reference = None
    if baseline:
        values = np.where(rows, run.logprobs[baseline], np.nan)
        reference = nested_auc(NestedScores(np.tile(values, (len(nested.scores), 1)), (), 1.0), data, rows)
    return _with_aucs(pair, run, rows, probe=probe, baseline=baseline, reference=reference)


def evaluate_across(train: RunData, test: RunData, fit: Fit) -> Pair:
    """Fit a probe to all answers from one run and evaluate it on the answers from another run.

    The probe is fitted at the best cell of the training run, among the layers and positions that both runs have.

    Raises
    ------
    MapError
        If the runs have no layers or no positions in common.
    """
    shared = [p for p in train.probe_map.positions if p in test.probe_map.positions]
    ranked = train.probe_map.only(shared).best(10**6) if shared else []
    cells = [cell for cell in ranked if cell.layer in test.probe_map.layers]
    if not cells:
        raise MapError(
            f"{train.name} and {test.name} have no cells in common",
            "capture the same positions and layers in both runs",
        )
    best = cells[0]
    train_states, train_correct = train.states(best.layer, best.position), _correct(train.probe_map)
    has_position = ~np.isnan(train_states[:, 0])
    c = float(train.probe_map.data["c"].sel(layer=best.layer, position=best.position))
    weights = fit(train_states[has_position], train_correct[has_position], c)
    test_states, test_correct = test.states(best.layer, best.position).astype(np.float64), _correct(test.probe_map)
    rows = ~np.isnan(test_states[:, 0]) & ~_in_training(train.questions, test.questions)
    baseline = best_logprob(train, _complete(test, rows))
    pair = Pair(trained_on=train.name, tested_on=test.name, layer=best.layer, position=best.position, n=int(rows.sum()))
    if min(test_correct[rows].sum(), (~test_correct[rows]).sum()) < MIN_PER_CLASS:
        return pair
    probe = _auc(test_states @ weights[:-1] + weights[-1], test_correct, rows)
    reference = _auc(test.logprobs[baseline], test_correct, rows) if baseline else None
    return _with_aucs(pair, test, rows, probe=probe, baseline=baseline, reference=reference)


def best_logprob(run: RunData, names: Sequence[str]) -> str:
    """Return the name of the log-probability with the highest AUC in a run, or an empty string if none can be
    evaluated.

    Parameters
    ----------
    run : RunData
    names : sequence of str
        Names of the log-probabilities to choose from.  Log-probabilities that are missing for at least half of the
        answers are ignored.
    """
    correct = _correct(run.probe_map)
    values = {
        name: float(_auc(logprob, correct, rows).value[0])
        for name, logprob in run.logprobs.items()
        if name in names
        and (rows := ~np.isnan(logprob)).mean() > 0.5
        and min(correct[rows].sum(), (~correct[rows]).sum()) >= MIN_PER_CLASS
    }
    return max(values, key=lambda name: values[name], default="")


def _complete(run: RunData, rows: Bools) -> list[str]:
    """Return the names of the log-probabilities that have a value for every selected answer."""
    return [name for name, values in run.logprobs.items() if not np.isnan(values[rows]).any()]


def _in_training(train: Sequence[tuple[str, str]], test: Sequence[tuple[str, str]]) -> Bools:
    """Return a mask of the test questions that are also training questions.

    A task may ask the same question about several contexts; these count as different questions.  If a question has no
    context in one of the runs, its context in the other run is ignored.
    """
    contexts: dict[str, set[str]] = {}
    for question, context in train:
        contexts.setdefault(question, set()).add(context)
    train_contexts = [contexts.get(question, set()) for question, _ in test]
    return np.array(
        [
            bool(in_training) and (not context or bool(in_training & {context, ""}))
            for in_training, (_, context) in zip(train_contexts, test, strict=True)
        ],
        bool,
    )


def _correct(probe_map: ProbeMap) -> Bools:
    return np.asarray(probe_map.data["correct"].values, bool)


def _groups(probe_map: ProbeMap) -> Ints:
    return np.asarray(probe_map.data["group"].values, np.int64)


def _auc(scores: Floats, correct: Bools, rows: Bools) -> Aucs:
    """Return the AUC for the selected answers, and the influence of every answer, which is 0 for answers that are not
    selected."""
    selected = aucs(np.asarray(scores)[rows, None], correct[rows])
    influence = np.zeros((len(rows), 1))
    influence[rows] = selected.influence
    return Aucs(selected.value, influence)


def _with_aucs(pair: Pair, test: RunData, rows: Bools, *, probe: Aucs, baseline: str, reference: Aucs | None) -> Pair:
    """Return a copy of `pair` that includes the AUC of the probe and its gain over the baseline.  `reference` is the
    AUC of the baseline."""
    correct, group = _correct(test.probe_map)[rows], _groups(test.probe_map)
    influence = sum_by_group(probe.influence, group)
    value, variance = float(probe.value[0]), float((influence**2).sum())
    auc = Interval(value, *auc_interval(value, variance, int(correct.sum()), int((~correct).sum())))
    if reference is None:
        return replace(pair, auc=auc)
    gap = estimate_difference(
        value - float(reference.value[0]), (influence - sum_by_group(reference.influence, group))[:, 0]
    )
    return replace(pair, auc=auc, baseline=baseline, gain=Interval(gap.value, gap.low, gap.high))


def _interval(value: float | None, low: float | None, high: float | None) -> Interval | None:
    return None if value is None or low is None or high is None else Interval(value, low, high)


def _sentences(pairs: Sequence[Pair]) -> list[str]:
    sentences = [
        f"{p.trained_on} on its own answers, out of fold: AUC {p.auc.text}."
        for p in pairs
        if p.trained_on == p.tested_on and p.auc
    ]
    across = [(p, p.auc) for p in pairs if p.trained_on != p.tested_on and p.auc]
    above = [(p, auc) for p, auc in across if auc.low > 0.5]
    below = [(p, auc) for p, auc in across if auc.high < 0.5]
    undecided = [(p, auc) for p, auc in across if auc.low <= 0.5 <= auc.high]
    if above:
        sentences.append(f"The probe generalises, each pair taken alone: {_named(above)}.")
    if below:
        sentences.append(f"The sign of the probe is reversed, each pair taken alone: {_named(below)}.")
    if undecided:
        sentences.append(f"No generalisation is shown: {_named(undecided)}.")
    if above:
        gains = [p.gain for p, _ in above if p.gain]
        sentences.append(
            f"The probe beats the best log-probability on the same answers in {sum(gain.low > 0 for gain in gains)} of "
            f"the {len(gains)} generalising pairs that can be compared."
        )
    return sentences


def _named(pairs: Sequence[tuple[Pair, Interval]]) -> str:
    return enumerated([f"{p.trained_on} on {p.tested_on} ({auc.text})" for p, auc in pairs])
