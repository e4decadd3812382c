"""A probe of one run, judged on the answers of another: does it read the same thing there?

After figure 3 of Orgad et al. 2024 (arXiv 2410.02707), which shows max(AUC, 1 - AUC); here that stands beside the AUC
itself, because a probe that is right the wrong way round is of no use to who does not know it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from probemap.maps.probe_map import ProbeMap
from probemap.probing.auc import Aucs, Bools, Floats, Ints, aucs, by_group, difference, interval
from probemap.probing.cells import Nested, auc_of_nested
from probemap.records import MapError
from probemap.tables import Table, listed, ranged

FEWEST = 10
"""Right, and wrong, answers with fewer of which a pair is not judged."""

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


@dataclass(frozen=True)
class Subject:
    """A run, as far as transfer needs it."""

    name: str
    probe_map: ProbeMap
    asked: Sequence[tuple[str, str]]
    """(n,): the question of each of the map's answers, and its context; answers to a question that trained do not
    judge."""
    logits: Mapping[str, Floats]
    """Name -> (n,): what the logits say, higher means "right"; NaN where an answer lacks it."""
    states: Callable[[int, str], npt.NDArray[np.float32]]
    """(n, d) of a layer and a position; NaN where an answer lacks it."""


Fit = Callable[[npt.NDArray[np.float32], Bools, float], Floats]
"""From states (n, d), verdicts and the inverse strength of the penalty to (d + 1,): weights and bias."""


@dataclass(frozen=True)
class Pair:
    """A probe of one run on the answers of one, perhaps the same."""

    trained_on: str
    tested_on: str
    layer: int | None
    """Where the probe reads; None where each fold chose its own."""
    position: str
    n: int
    auc: tuple[float, float, float] | None
    """With its interval; None: too few answers to say."""
    baseline: str = ""
    """The best of the logits, chosen on the run that trained."""
    gain: tuple[float, float, float] | None = None
    """Of the probe over it, on the same answers."""

    @property
    def folded(self) -> tuple[float, float, float] | None:
        """max(AUC, 1 - AUC) with its interval, which begins at 0.5 where that of the AUC holds 0.5."""
        if self.auc is None:
            return None
        value, low, high = self.auc
        least = 0.5 if low <= 0.5 <= high else min(abs(low - 0.5), abs(high - 0.5)) + 0.5
        return max(value, 1 - value), least, max(high, 1 - low)


def at_home(subject: Subject) -> Pair:
    """The run's own answers, out of fold, each fold's cell chosen on the others.

    Raises
    ------
    MapError: the map was made without folds inside folds.
    """
    data = subject.probe_map.data
    made = subject.probe_map.nested()
    if made is None:
        raise MapError(f"the map of {subject.name} was made without folds inside folds", "make it with 3 folds or more")
    rows: Bools = np.asarray(~np.isnan(made.scores).any(axis=0))
    found = auc_of_nested(made, data, rows)
    baseline = best_logits(subject, _complete(subject, rows))
    where = " or ".join(sorted({position for _, position in made.chosen}))
    if found is None:
        return Pair(subject.name, subject.name, None, where, int(rows.sum()), None)
    # Answers of different folds have scores of different probes; the logits are compared in the same way.
    other = None
    if baseline:
        same = np.where(rows, subject.logits[baseline], np.nan)
        other = auc_of_nested(Nested(np.tile(same, (len(made.scores), 1)), (), 1.0), data, rows)
    return _pair(subject, subject, None, where, rows, found, baseline, other)


def elsewhere(trained: Subject, tested: Subject, fit: Fit) -> Pair:
    """The best cell of one run, among the positions that both have, fitted on all its answers, judged on the other's.

    Raises
    ------
    MapError: the runs have no layers or no positions in common.
    """
    shared = [p for p in trained.probe_map.positions if p in tested.probe_map.positions]
    known = trained.probe_map.only(shared).best(10**6) if shared else []
    cells = [cell for cell in known if cell.layer in tested.probe_map.layers]
    if not cells:
        raise MapError(f"{trained.name} and {tested.name} have no cells in common", "capture the same ones in both")
    best = cells[0]
    states, correct = trained.states(best.layer, best.position), _correct(trained.probe_map)
    there = ~np.isnan(states[:, 0])
    strength = float(trained.probe_map.data["c"].sel(layer=best.layer, position=best.position))
    weights = fit(states[there], correct[there], strength)
    new = tested.states(best.layer, best.position).astype(np.float64)
    rows = ~np.isnan(new[:, 0]) & ~_seen(trained.asked, tested.asked)
    judged = _correct(tested.probe_map)
    baseline = best_logits(trained, _complete(tested, rows))
    if min(judged[rows].sum(), (~judged[rows]).sum()) < FEWEST:
        return Pair(trained.name, tested.name, best.layer, best.position, int(rows.sum()), None)
    found = _plain_auc(new @ weights[:-1] + weights[-1], judged, rows)
    other = None
    if baseline:
        other = _plain_auc(tested.logits[baseline], judged, rows)
    return _pair(trained, tested, best.layer, best.position, rows, found, baseline, other)


def best_logits(subject: Subject, among: Sequence[str]) -> str:
    """The name of what the logits say best of a run's answers; empty if there is none.

    Parameters
    ----------
    among: names; those that no answer that judges lacks.
    """
    correct = _correct(subject.probe_map)
    values = {
        name: float(_plain_auc(one, correct, rows).value[0])
        for name, one in subject.logits.items()
        if name in among
        and (rows := ~np.isnan(one)).mean() > 0.5
        and min(correct[rows].sum(), (~correct[rows]).sum()) >= FEWEST
    }
    return max(values, key=lambda name: values[name], default="")


def _complete(subject: Subject, rows: Bools) -> list[str]:
    """The logits that none of some answers lacks."""
    return [name for name, values in subject.logits.items() if not np.isnan(values[rows]).any()]


def _seen(trained: Sequence[tuple[str, str]], tested: Sequence[tuple[str, str]]) -> Bools:
    """Which questions have trained: in the same context, or without any on one of the two sides.

    A task may put one question to many contexts; these are different questions.
    """
    contexts: dict[str, set[str]] = {}
    for question, context in trained:
        contexts.setdefault(question, set()).add(context)
    known = [contexts.get(question, set()) for question, _ in tested]
    return np.array(
        [
            bool(some) and (not context or bool(some & {context, ""}))
            for some, (_, context) in zip(known, tested, strict=True)
        ],
        bool,
    )


def matrix(
    subjects: Sequence[Subject],
    fit: Fit,
    progress: Callable[[int, int], None] = lambda done, total: None,
    remember: Callable[[str, Callable[[], Pair]], Pair] = lambda name, make: make(),
) -> Table:
    """Every run's probe on every run.

    Parameters
    ----------
    remember: called with a pair's name and what finds it; may know it from before.

    Raises
    ------
    MapError: as `at_home` and `elsewhere`.
    """
    pairs = []
    for one in subjects:
        for other in subjects:
            find = partial(at_home, one) if one is other else partial(elsewhere, one, other, fit)
            pairs.append(remember(f"{one.name} on {other.name}", find))
            progress(len(pairs), len(subjects) ** 2)
    return Table("One run's probe on another's answers", COLUMNS, tuple(map(_row, pairs)), tuple(_words(pairs)))


def _correct(probe_map: ProbeMap) -> Bools:
    return np.asarray(probe_map.data["correct"].values, bool)


def _groups(probe_map: ProbeMap) -> Ints:
    return np.asarray(probe_map.data["group"].values, np.int64)


def _plain_auc(scores: Floats, correct: Bools, rows: Bools) -> Aucs:
    """Of some answers, its influences over all of them."""
    made = aucs(np.asarray(scores)[rows, None], correct[rows])
    influence = np.zeros((len(rows), 1))
    influence[rows] = made.influence
    return Aucs(made.value, influence)


def _pair(
    trained: Subject,
    tested: Subject,
    layer: int | None,
    position: str,
    rows: Bools,
    found: Aucs,
    baseline: str,
    other: Aucs | None,
) -> Pair:
    correct, group = _correct(tested.probe_map)[rows], _groups(tested.probe_map)
    influence = by_group(found.influence, group)
    value, variance = float(found.value[0]), float((influence**2).sum())
    low, high = interval(value, variance, int(correct.sum()), int((~correct).sum()))
    gain = None
    if other is not None:
        made = difference(value - float(other.value[0]), (influence - by_group(other.influence, group))[:, 0])
        gain = made.value, made.low, made.high
    named = baseline if gain else ""
    return Pair(trained.name, tested.name, layer, position, int(rows.sum()), (value, low, high), named, gain)


def _row(pair: Pair) -> tuple[str | int | float | None, ...]:
    none = (None, None, None)
    return (
        pair.trained_on,
        pair.tested_on,
        pair.layer,
        pair.position,
        pair.n,
        *(pair.auc or none),
        *(pair.folded or none),
        pair.baseline,
        *(pair.gain or none),
    )


def _words(pairs: Sequence[Pair]) -> list[str]:
    away = [p for p in pairs if p.trained_on != p.tested_on and p.auc]
    said = [
        f"{p.trained_on} on its own answers, out of fold: {ranged(*p.auc)}."
        for p in pairs
        if p.trained_on == p.tested_on and p.auc
    ]

    def named(some: Sequence[Pair]) -> str:
        return listed([f"{p.trained_on} on {p.tested_on} ({ranged(*p.auc)})" for p in some if p.auc])

    over = [p for p in away if p.auc and p.auc[1] > 0.5]
    under = [p for p in away if p.auc and p.auc[2] < 0.5]
    rest = [p for p in away if p not in over and p not in under]
    if over:
        said.append(f"What the probe reads carries over, each pair taken alone: {named(over)}.")
    if under:
        said.append(f"It reads the other way round, each pair taken alone: {named(under)}.")
    if rest:
        said.append(f"It cannot be shown to carry over: {named(rest)}.")
    if over:
        compared = [p for p in over if p.gain]
        more = [p for p in compared if p.gain and p.gain[1] > 0]
        said.append(
            f"Of {len(compared)} of these pairs that can be compared with the best of the logits on the same answers, "
            f"{len(more)} lie above it."
        )
    return said
