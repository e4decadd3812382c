"""Compare the states of the model that gave the answers with the states of another model that reads the same answers.

If a probe on the states of the other model, the peer, predicts correctness as well, the answers' own model need not
have any privileged knowledge of whether they are correct: the difficulty of the question or the text of the answer may
suffice (Masked by Consensus, ACL 2026, arXiv 2604.12373).  Two models are often correct on the same questions.  The
comparison is therefore repeated on the questions that only one of them answers correctly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from probemap.probing.auc import LEVEL, MIN_PER_CLASS, Aucs, Bools, Floats, Ints, auc_interval
from probemap.probing.inference import estimate_difference, holm, simultaneous_quantile, sum_by_group
from probemap.probing.nested import NestedScores, nested_auc
from probemap.records import MapError
from probemap.tables import NO_INTERVAL, Interval, Table, Value, enumerated

if TYPE_CHECKING:
    import xarray as xr

    from probemap.maps.probe_map import ProbeMap

COLUMNS = (
    "questions",
    "position",
    "n",
    "correct",
    "own auc",
    "own low",
    "own high",
    "peer auc",
    "peer low",
    "peer high",
    "premium",
    "premium low",
    "premium high",
    "interval",
    "p",
    "adjusted p",
)

ALL, AGREE, DISAGREE = "all", "both correct or both incorrect", "only one correct"
"""Names of the sets of questions: all of them, those on which the models agree, and those on which they differ."""

ANY_POSITION = "best cell"
POINTWISE, SIMULTANEOUS = "95 %", "95 %, all positions at once"

_SUBSETS = {
    ALL: "On all questions",
    AGREE: "Where both models are correct or both are incorrect",
    DISAGREE: "Where only one of the models is correct",
}
"""Beginning of the sentence about each set of questions."""


@dataclass(frozen=True, kw_only=True)
class Premium:
    """One row of the table: the AUC of both models' states on the same answers, and their difference."""

    questions: str
    position: str
    n: int
    """Number of answers that have a score in both maps."""
    n_correct: int
    own: Interval | None = None
    """AUC of the states of the model that gave the answers, or None if there are too few answers."""
    peer: Interval | None = None
    """AUC of the states of the peer, on the same answers."""
    premium: Interval | None = None
    """AUC of the own states minus that of the peer's states.  Over positions, the interval is a simultaneous band."""
    p: float | None = None
    """Two-sided p-value for the hypothesis that the premium is 0."""
    adjusted_p: float | None = None
    """The p-value after Holm's correction over the sets of questions.  None for the rows of positions, for which the
    simultaneous band takes this role."""
    influence: Floats = field(default_factory=lambda: np.zeros(0), repr=False, compare=False)
    """ndarray of shape (n_groups,): influence of each group of answers on the premium; empty if there is none."""

    def cells(self) -> tuple[Value, ...]:
        """Return the values in the order of `COLUMNS`."""
        return (
            self.questions,
            self.position,
            self.n,
            self.n_correct,
            *(self.own or NO_INTERVAL),
            *(self.peer or NO_INTERVAL),
            *(self.premium or NO_INTERVAL),
            POINTWISE if self.position == ANY_POSITION else SIMULTANEOUS,
            self.p,
            self.adjusted_p,
        )


@dataclass(frozen=True)
class _Pair:
    """Two maps of the same answers, and for each map the rows of the answers that both contain, in the same order."""

    own: ProbeMap
    peer: ProbeMap
    own_rows: Ints
    peer_rows: Ints

    @property
    def own_data(self) -> xr.Dataset:
        return self.own.data.isel(answer=self.own_rows)

    @property
    def peer_data(self) -> xr.Dataset:
        return self.peer.data.isel(answer=self.peer_rows)

    @property
    def ids(self) -> list[str]:
        return [str(name) for name in self.own_data["answer"].values]

    def scores(self, positions: Sequence[str]) -> tuple[NestedScores, NestedScores] | None:
        """Return the nested-CV scores of the best cell of each map at the given positions, for the common answers.

        Return None if one of the maps has too few answers at all of these positions.
        """
        try:
            own, peer = (item.only(positions).nested_scores() for item in (self.own, self.peer))
        except MapError:
            return None
        if own is None or peer is None:
            return None
        return (
            replace(own, scores=own.scores[:, self.own_rows]),
            replace(peer, scores=peer.scores[:, self.peer_rows]),
        )


def peer_table(
    own: ProbeMap,
    peer: ProbeMap,
    *,
    names: tuple[str, str] = ("the model", "the peer"),
    agreement: Mapping[str, bool | None] | None = None,
) -> Table:
    """Compare the map of a model's own answers with the map of another model's states on the same answers.

    The AUCs are nested-CV estimates: in each map and each fold, the best cell is selected using the other folds.  The
    probes are trained on all questions; for a set of questions, only the evaluation is restricted to it.

    Parameters
    ----------
    own : ProbeMap
        Map of the states of the model that gave the answers.
    peer : ProbeMap
        Map of the states of another model that read the same answers.  Its labels must be those of `own`.
    names : tuple of (str, str), optional
        Names of the two models, for the summary.
    agreement : mapping of str to bool or None, optional
        For the id of each question, whether the answers of both models to it are both correct or both incorrect; None
        if one of them is undecided.  Without it, only the rows of all questions are computed.

    Returns
    -------
    Table
        One row for each set of questions, with the best cells at the common positions, and one row for each position
        that both maps have, with the best layers at this position.  ``premium`` is the AUC of the own states minus that
        of the peer's.  Its interval is computed from the influences of the same answers on both AUCs.  In the rows of
        positions, it is a simultaneous band over the positions.  Values are None if fewer than `auc.MIN_PER_CLASS`
        correct or incorrect answers have a score in both maps.  If both maps have the same layers, the summary also
        counts the cells that differ (see `ProbeMap.difference`).

    Raises
    ------
    MapError
        If a map was fitted without nested CV, if the maps have no answers or positions in common, or if an answer has
        different labels in the two maps.

    Examples
    --------
    >>> import numpy as np
    >>> import probemap
    >>> from probemap.studies.peer import peer_table
    >>> rng = np.random.default_rng(0)
    >>> correct = rng.random(400) < 0.5
    >>> maps = []
    >>> for signal in (2.0, 1.0):
    ...     states = rng.normal(size=(400, 2, 1, 8)).astype(np.float32)
    ...     states[:, 1, 0, 0] += signal * correct
    ...     maps.append(probemap.fit_map(states, correct, positions=["-1"], ids=[f"q{i}" for i in range(400)]))
    >>> table = peer_table(*maps)
    >>> row = dict(zip(table.columns, table.rows[0]))
    >>> row["premium low"] > 0
    True
    """
    pair = _paired(own, peer)
    positions = [p for p in own.positions if p in peer.positions]
    if not positions:
        raise MapError("the maps have no positions in common", "capture the same positions in both runs")
    subsets = _subsets(pair.ids, agreement)
    scores = pair.scores(positions)
    rows = [_premium(pair, scores, mask, questions=name) for name, mask in subsets.items()]
    adjusted = holm([row.p for row in rows if row.p is not None])
    rows = [row if row.p is None else replace(row, adjusted_p=adjusted.pop(0)) for row in rows]
    everything = subsets[ALL]
    by_position = [_premium(pair, pair.scores([p]), everything, position=p) for p in positions]
    by_position = _with_band(by_position, int(own.data.attrs["seed"]))
    words = _sentences(rows, names) + _agreement_words(subsets, agreement) + _position_words(by_position, names)
    if have_same_layers(own, peer):
        words += _cell_words(own.difference(peer), names)
    title = f"States of {names[0]} and of {names[1]} on the answers of {names[0]}"
    return Table(title, COLUMNS, tuple(row.cells() for row in (*rows, *by_position)), tuple(words))


def have_same_layers(own: ProbeMap, peer: ProbeMap) -> bool:
    """Return whether the maps can be compared cell by cell.  Otherwise, they can only be compared at each position."""
    return own.layers == peer.layers


def _paired(own: ProbeMap, peer: ProbeMap) -> _Pair:
    for item, name in ((own, "own"), (peer, "peer")):
        if not item.has_nested:
            raise MapError(f"the map {name!r} was fitted without nested CV", "fit it with 3 or more folds")
    _, own_rows, peer_rows = np.intersect1d(own.data["answer"].values, peer.data["answer"].values, return_indices=True)
    if not len(own_rows):
        raise MapError("the maps have no answers in common", "let the peer read the answers of the model")
    differing = own.data["correct"].values[own_rows] != peer.data["correct"].values[peer_rows]
    if differing.any():
        example = str(own.data["answer"].values[own_rows[differing.argmax()]])
        raise MapError(
            f"{int(differing.sum())} of {len(differing)} answers have different labels in the two maps, e.g. "
            f"{example!r}",
            "fit both maps to the verdicts on the answers of the model",
        )
    return _Pair(own, peer, own_rows, peer_rows)


def _subsets(ids: Sequence[str], agreement: Mapping[str, bool | None] | None) -> dict[str, Bools]:
    """Return a mask of the answers for each set of questions."""
    subsets = {ALL: np.ones(len(ids), bool)}
    if agreement is not None:
        values = [agreement.get(name) for name in ids]
        for name, agree in ((AGREE, True), (DISAGREE, False)):
            subsets[name] = np.array([value is agree for value in values], bool)
    return subsets


def _premium(
    pair: _Pair,
    scores: tuple[NestedScores, NestedScores] | None,
    mask: Bools,
    *,
    questions: str = ALL,
    position: str = ANY_POSITION,
) -> Premium:
    """Return the AUCs of both models on the selected answers that have a score in both maps, and the premium."""
    if scores is None:
        return Premium(questions=questions, position=position, n=0, n_correct=0)
    rows: Bools = mask & ~np.isnan(scores[0].scores).any(axis=0) & ~np.isnan(scores[1].scores).any(axis=0)
    correct, group = pair.own_data["correct"].values.astype(bool), pair.own_data["group"].values.astype(np.int64)
    n, n_correct = int(rows.sum()), int(correct[rows].sum())
    empty = Premium(questions=questions, position=position, n=n, n_correct=n_correct)
    if min(n_correct, n - n_correct) < MIN_PER_CLASS:
        return empty
    # Each AUC compares only answers in the same fold of its own map.  The maps may have different folds, because the
    # influences belong to answers, not to pairs of answers: their difference is the influence on the premium.
    own, peer = nested_auc(scores[0], pair.own_data, rows), nested_auc(scores[1], pair.peer_data, rows)
    if own is None or peer is None:
        return empty
    influence = sum_by_group(own.influence - peer.influence, group)[:, 0]
    gap = estimate_difference(float(own.value[0] - peer.value[0]), influence)

    def interval(estimate: Aucs) -> Interval:
        value, variance = float(estimate.value[0]), float((sum_by_group(estimate.influence, group) ** 2).sum())
        return Interval(value, *auc_interval(value, variance, n_correct, n - n_correct))

    premium = Interval(gap.value, gap.low, gap.high)
    return replace(empty, own=interval(own), peer=interval(peer), premium=premium, p=gap.p, influence=influence)


def _with_band(rows: Sequence[Premium], seed: int) -> list[Premium]:
    """Replace the interval of each premium with a simultaneous band over the rows."""
    influences = [row.influence for row in rows if row.premium is not None]
    if not influences:
        return list(rows)
    quantile = simultaneous_quantile(np.stack(influences, axis=1), LEVEL, seed)

    def band(row: Premium) -> Premium:
        if row.premium is None:
            return row
        value, half = row.premium.value, quantile * float(np.sqrt((row.influence**2).sum()))
        return replace(row, premium=Interval(value, value - half, value + half))

    return [band(row) for row in rows]


def _sentences(rows: Sequence[Premium], names: tuple[str, str]) -> list[str]:
    """Return one sentence for each set of questions."""
    sentences = []
    for row in rows:
        subject = _SUBSETS[row.questions]
        if row.premium is None or row.adjusted_p is None:
            sentences.append(
                f"{subject}, there are too few answers for an estimate: {row.n_correct} correct and "
                f"{row.n - row.n_correct} incorrect ones have a score in both maps, and {MIN_PER_CLASS} of each are "
                "required."
            )
            continue
        numbers = f"{row.premium.signed_text} ({_p_text(row.adjusted_p)}, Holm-corrected)"
        if row.adjusted_p > 1 - LEVEL:
            sentences.append(
                f"{subject}, no difference is shown between the states of {names[0]} and those of {names[1]}: "
                f"premium {numbers}."
            )
            continue
        better, worse = names if row.premium.value > 0 else names[::-1]
        sentences.append(
            f"{subject}, the states of {better} predict the correctness of the answers of {names[0]} better than those "
            f"of {worse}: premium {numbers}."
        )
    return sentences


def _agreement_words(subsets: Mapping[str, Bools], agreement: Mapping[str, bool | None] | None) -> list[str]:
    if agreement is None:
        return []
    n, n_agree = len(subsets[ALL]), int(subsets[AGREE].sum())
    n_decided = n_agree + int(subsets[DISAGREE].sum())
    if not n_decided:
        return ["The models cannot be compared question by question, because no question has two decided answers."]
    text = (
        f"The models are both correct or both incorrect on {n_agree} of {n_decided} questions "
        f"({100 * n_agree / n_decided:.0f} %)."
    )
    if n_decided < n:
        text += f"  {n - n_decided} more questions have no decided answer of the peer."
    return [text]


def _position_words(rows: Sequence[Premium], names: tuple[str, str]) -> list[str]:
    """Return sentences about the positions at which the simultaneous band excludes 0."""
    compared = [(row.position, row.premium) for row in rows if row.premium is not None]
    if len(compared) < 2:
        return []
    higher = [f"{position} ({premium.signed_text})" for position, premium in compared if premium.low > 0]
    lower = [f"{position} ({premium.signed_text})" for position, premium in compared if premium.high < 0]
    sentences = [
        f"At the same position, the states of {name} predict better at {enumerated(positions)}."
        for name, positions in zip(names, (higher, lower), strict=True)
        if positions
    ]
    band = f"95 % band over {len(compared)} positions"
    return sentences or [f"At none of the positions is a difference shown, by the {band}."]


def _cell_words(cells: xr.Dataset, names: tuple[str, str]) -> list[str]:
    """Return sentences about the cells at which the simultaneous band of the premium excludes 0."""
    n_cells = int(cells["difference"].notnull().sum())
    counts = [int((cells["band_low"] > 0).sum()), int((cells["band_high"] < 0).sum())]
    sentences = [
        f"In {count} of {n_cells} cells, the states of {name} predict better than those of the other model in the same "
        "cell, by the 95 % band over all cells."
        for name, count in zip(names, counts, strict=True)
        if count
    ]
    return sentences or [f"In none of the {n_cells} cells is a difference shown, by the 95 % band over all cells."]


def _p_text(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
