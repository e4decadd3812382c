"""Rank all predictors of correctness on the same answers, as in table 1 of Orgad et al. 2024 (arXiv 2410.02707).

Predictors that need no training are evaluated directly; higher values indicate that the answer is more likely to be
correct.  Probes are evaluated out of fold, and the best cell for each fold is selected using the other folds.  For
every predictor, the AUC is computed by comparing only answers in the same fold, and the metrics of selective prediction
from the ranks of the answers in their fold; see `fold_ranking`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from probemap.probing.auc import LEVEL, MIN_PER_CLASS, Bools, Floats, Ints, auc_interval
from probemap.probing.fold_ranking import FoldRanking
from probemap.probing.inference import estimate_difference, simultaneous_quantile, sum_by_group
from probemap.probing.nested import NestedScores, nested_auc
from probemap.probing.resampling import question_copies
from probemap.records import MapError, TooFewError
from probemap.tables import Interval, Table, Value, enumerated

if TYPE_CHECKING:
    import xarray as xr

    from probemap.maps.probe_map import ProbeMap

PROBES: dict[str, tuple[str, tuple[str, ...]]] = {
    "probe_last_q": ("the probe at the end of the prompt", ("last_q",)),
    "probe_before_last": ("the probe at the second to last token", ("-2",)),
    "probe_last": ("the probe at the last token", ("-1",)),
    "probe_exact_answer": (
        "the probe at the exact answer, or next to it",
        (
            "exact_answer_before_first",
            "exact_answer_first",
            "exact_answer_last",
            "exact_answer_after_last",
        ),
    ),
}
"""Mapping from the name of each probe to its description and its positions.  In each fold, the probe uses the best cell
at these positions."""

MAX_MISSING = 0.2
"""Maximum fraction of answers for which a predictor may have no value.  Predictors that exceed this fraction are not
ranked, because predictors can only be compared on answers for which all of them have a value."""

METRICS = ("prr", "auprc", "aurc", "excess aurc")
"""Names of the metrics of selective prediction; see `fold_ranking.FoldRanking`."""

COLUMNS = (
    *("method", "meaning", "n", "auc", "low", "high", "rank", "rank from", "rank to"),
    *(f"{metric}{end}" for metric in METRICS for end in ("", " low", " high")),
)


@dataclass(frozen=True)
class Predictor:
    """One number per answer that predicts correctness without training."""

    meaning: str
    """Description, as shown in the table."""
    values: Floats
    """ndarray of shape (n,), with NaN for answers without a value.  Higher values indicate that the answer is more
    likely to be correct."""


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """One row of the table: a predictor and its rank."""

    name: str
    meaning: str
    n: int
    """Number of answers on which all predictors are compared."""
    auc: Interval
    rank: int
    """Rank of the predictor; the predictor with the highest AUC has rank 1."""
    rank_from: int
    """Lower end of the confidence interval for the rank; `rank_to` is the upper end.  The confidence level holds for
    all predictors simultaneously."""
    rank_to: int
    metrics: tuple[Interval, ...]
    """The metrics in the order of `METRICS`, each with an interval from a bootstrap over the questions."""

    def cells(self) -> tuple[Value, ...]:
        """Return the values in the order of `COLUMNS`."""
        metrics = [value for metric in self.metrics for value in metric]
        return (self.name, self.meaning, self.n, *self.auc, self.rank, self.rank_from, self.rank_to, *metrics)


@dataclass(frozen=True)
class _Evaluated:
    """The AUCs of the compared predictors, and the influence of each group of answers on them."""

    names: list[str]
    value: Floats
    """ndarray of shape (m,)."""
    influence: Floats
    """ndarray of shape (n_groups, m); see `inference.sum_by_group`."""

    @property
    def order(self) -> list[int]:
        """Indices of the predictors, from the highest AUC to the lowest."""
        return sorted(range(len(self.value)), key=lambda i: -self.value[i])


def rank_predictors(probe_map: ProbeMap, predictors: Mapping[str, Predictor]) -> Table:
    """Rank the probes of a map and other predictors on the answers for which all of them have a value.

    Parameters
    ----------
    probe_map : ProbeMap
    predictors : mapping of str to Predictor
        Mapping from name to predictor.  The values of each predictor must be in the same order as the answers in the
        map.

    Returns
    -------
    Table
        One row per predictor, from the highest AUC to the lowest.  ``rank from`` and ``rank to`` are the ends of
        simultaneous 95 % confidence intervals for the ranks.  The intervals are computed by a multiplier bootstrap of
        the AUC differences between all pairs of predictors.

    Raises
    ------
    TooFewError
        If too few answers have a value for every predictor.
    """
    data = probe_map.data
    repeats, n = data.sizes["repeat"], data.sizes["answer"]
    meanings = {name: predictor.meaning for name, predictor in predictors.items()}
    scores = {name: NestedScores(np.tile(p.values, (repeats, 1)), (), 1.0) for name, p in predictors.items()}
    for name, (meaning, positions) in PROBES.items():
        if (probe := _nested(probe_map, positions)) is not None:
            meanings[name], scores[name] = meaning, probe
    evaluated = ~np.isnan(data["scores"].values).all(axis=(0, 2, 3))
    has_value = {name: evaluated & ~np.isnan(nested.scores).any(axis=0) for name, nested in scores.items()}
    kept = [name for name in scores if has_value[name].sum() >= (1 - MAX_MISSING) * evaluated.sum()]
    rows = np.logical_and.reduce([has_value[name] for name in kept]) if kept else np.zeros(n, bool)
    correct, group = data["correct"].values.astype(bool), data["group"].values.astype(np.int64)
    n_correct, n_incorrect = int(correct[rows].sum()), int((~correct[rows]).sum())
    if min(n_correct, n_incorrect) < MIN_PER_CLASS:
        raise TooFewError(
            f"only {n_correct} correct and {n_incorrect} incorrect answers have a value for all {len(kept)} "
            f"predictors; ranking requires at least {MIN_PER_CLASS} of each",
            "use more questions",
        )
    aucs = {name: auc for name in kept if (auc := nested_auc(scores[name], data, rows)) is not None}
    result = _Evaluated(
        names=list(aucs),
        value=np.array([float(auc.value[0]) for auc in aucs.values()]),
        influence=sum_by_group(np.concatenate([auc.influence for auc in aucs.values()], axis=1), group),
    )
    first, last = rank_ranges(result.value, result.influence, int(data.attrs["seed"]))
    variance = (result.influence**2).sum(axis=0)
    copies = question_copies(group, correct, seed=int(data.attrs["seed"]))
    ranking = []
    for rank, i in enumerate(result.order, start=1):
        value = float(result.value[i])
        ranking.append(
            Ranked(
                name=result.names[i],
                meaning=meanings[result.names[i]],
                n=int(rows.sum()),
                auc=Interval(value, *auc_interval(value, float(variance[i]), n_correct, n_incorrect)),
                rank=rank,
                rank_from=int(first[i]),
                rank_to=int(last[i]),
                metrics=_metrics(scores[result.names[i]], data, rows, copies),
            )
        )
    sentences = _sentences(ranking, result)
    if incomplete := [name for name in scores if name not in kept]:
        reason = "more than a fifth of the answers have no value"
        sentences.append(f"Not ranked, because {reason}: {enumerated(incomplete)}.")
    sentences += _missing_probes(probe_map, [name for name in PROBES if name not in scores])
    cells = tuple(row.cells() for row in ranking)
    return Table("Predictors of correctness", COLUMNS, cells, tuple(sentences), details=METRICS[1:])


def rank_ranges(value: Floats, influence: Floats, seed: int, level: float = LEVEL) -> tuple[Ints, Ints]:
    """Compute simultaneous confidence intervals for ranks.

    Parameters
    ----------
    value : ndarray of shape (m,)
        The values to rank; the highest value has rank 1.
    influence : ndarray of shape (n_groups, m)
        Influence of each group of answers on each value; see `inference.sum_by_group`.
    seed : int
        Random seed for the multiplier bootstrap.
    level : float
        Confidence level: the probability that all intervals contain the true ranks.

    Returns
    -------
    best, worst : ndarray of shape (m,), int64
        Lower and upper ends of the confidence interval for the rank of each value.
    """
    first, second = np.triu_indices(len(value), 1)
    differences = influence[:, first] - influence[:, second]
    standard_error = np.sqrt((differences**2).sum(0))
    half_width = (simultaneous_quantile(differences, level, seed) if len(first) else 0.0) * standard_error
    # The tolerance gives the same rank to predictors that differ only by rounding.
    above = value[first] - value[second] > half_width + 1e-12
    below = value[second] - value[first] > half_width + 1e-12
    n_worse = np.bincount(first[above], minlength=len(value)) + np.bincount(second[below], minlength=len(value))
    n_better = np.bincount(second[above], minlength=len(value)) + np.bincount(first[below], minlength=len(value))
    return (1 + n_better).astype(np.int64), (len(value) - n_worse).astype(np.int64)


def rows_of_map(probe_map: ProbeMap, ids: Sequence[str]) -> Ints:
    """For each answer in the map, return its index in a list of answer ids.

    Parameters
    ----------
    probe_map : ProbeMap
    ids : sequence of str

    Returns
    -------
    ndarray of shape (n,), int64

    Raises
    ------
    MapError
        If an answer in the map is not in `ids`.
    """
    row_of = {name: row for row, name in enumerate(ids)}
    names = [str(name) for name in probe_map.data["answer"].values]
    if missing := [name for name in names if name not in row_of]:
        raise MapError(
            f"the map contains the answer {missing[0]!r}, which the run does not contain", "fit the map again"
        )
    return np.array([row_of[name] for name in names], np.int64)


def _nested(probe_map: ProbeMap, positions: Sequence[str]) -> NestedScores | None:
    """Return the nested-CV scores of the best cell at the given positions.

    Return None if the map has none of these positions, has too few answers at them, or was fitted without nested CV.
    """
    available = [p for p in positions if p in probe_map.positions]
    try:
        return probe_map.only(available).nested_scores() if available else None
    except MapError:
        return None


def _metrics(nested: NestedScores, data: xr.Dataset, rows: Bools, copies: Ints) -> tuple[Interval, ...]:
    """Return the metrics of some of the answers, in the order of `METRICS`."""
    ranking = FoldRanking.of_scores(
        nested.scores[:, rows],
        data["correct"].values[rows].astype(bool),
        data["fold"].values[:, rows],
        copies[rows],
        variance_factor=nested.variance_factor,
    )
    return ranking.prr, ranking.auprc_incorrect, ranking.aurc, ranking.excess_aurc


def _missing_probes(probe_map: ProbeMap, probes: Sequence[str]) -> list[str]:
    """Return a list with one sentence that explains why `probes` are not ranked; the list is empty if `probes` is
    empty."""
    if not probes:
        return []
    reason = "the map has none of their positions, or too few answers at them"
    if not probe_map.has_nested:
        reason = "the map was fitted without nested CV (fewer than 3 folds, or the paper's protocol)"
    return [f"Not ranked, because {reason}: {enumerated(probes)}."]


def _sentences(ranking: Sequence[Ranked], result: _Evaluated) -> list[str]:
    top = ranking[0]
    sentences = [f"The best predictor is {top.name}, {top.meaning}: AUC {top.auc.text}."]
    probes = [i for i in result.order if result.names[i] in PROBES]
    untrained = [i for i in result.order if result.names[i] not in PROBES]
    if not probes or not untrained:
        return sentences
    probe, reference = probes[0], untrained[0]
    influence = result.influence[:, probe] - result.influence[:, reference]
    gap = estimate_difference(float(result.value[probe] - result.value[reference]), influence)
    comparison = "is better than" if gap.low > 0 else "is worse than" if gap.high < 0 else "is not distinguishable from"
    sentences.append(
        f"The best probe ({result.names[probe]}) {comparison} the best predictor without a probe "
        f"({result.names[reference]}): {Interval(gap.value, gap.low, gap.high).signed_text}."
    )
    by_name = {row.name: row.metrics[0].text for row in ranking}
    sentences.append(
        "The prediction rejection ratio, which is 1 for a perfect order and 0 for a random one, is "
        f"{by_name[result.names[probe]]} for this probe and {by_name[result.names[reference]]} for this predictor."
    )
    return sentences
