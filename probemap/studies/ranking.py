"""Everything that tells right from wrong answers, on the same answers, in one order: table 1 of Orgad et al. 2024.

A number that needs no training is taken as it is (higher means "right"); a probe is judged out of fold, its cell chosen
on the other folds.  Only answers of one fold are compared, for all alike.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from probemap.maps.probe_map import ProbeMap
from probemap.probing.auc import LEVEL, Floats, Ints, by_group, difference, interval, simultaneous_quantile
from probemap.probing.cells import Nested, auc_of_nested
from probemap.records import MapError, TooFewError
from probemap.tables import Table, listed, ranged, signed

PROBES: dict[str, tuple[str, tuple[str, ...]]] = {
    "probe_last_q": ("the probe at the question's end", ("last_q",)),
    "probe_before_last": ("the probe at the token before the last", ("-2",)),
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
"""Name -> meaning, and the positions of which each fold takes the best, with its layer."""

MOST_LACKING = 0.2
"""Share of the answers that a method may lack; one that more lack is left out, for the others to keep their answers."""

FEWEST = 10
"""Right, and wrong, answers with fewer of which nothing is ranked."""

COLUMNS = ("method", "meaning", "n", "auc", "low", "high", "rank", "rank from", "rank to")


@dataclass(frozen=True)
class Plain:
    """A number per answer that needs no training."""

    meaning: str
    values: Floats
    """(n,), higher means "right"; NaN where an answer lacks it."""


def rank(probe_map: ProbeMap, plain: Mapping[str, Plain]) -> Table:
    """All methods on the answers that have all of them, from the best on.

    Parameters
    ----------
    plain: name -> values of the map's answers, in its order.

    Returns
    -------
    A row per method.  ``rank from`` to ``rank to`` holds the true rank of every method at once, with 95 %: of the
    differences of all pairs (multiplier bootstrap).

    Raises
    ------
    TooFewError: too few answers have all methods.
    """
    data = probe_map.data
    repeats, n = data.sizes["repeat"], data.sizes["answer"]
    methods: dict[str, tuple[str, Nested]] = {
        name: (one.meaning, Nested(np.tile(one.values, (repeats, 1)), (), 1.0)) for name, one in plain.items()
    }
    for name, (meaning, positions) in PROBES.items():
        if (probe := _probe(probe_map, positions)) is not None:
            methods[name] = meaning, probe
    judged = ~np.isnan(data["scores"].values).all(axis=(0, 2, 3))
    known = {name: judged & ~np.isnan(made.scores).any(axis=0) for name, (_, made) in methods.items()}
    kept = [name for name in methods if known[name].sum() >= (1 - MOST_LACKING) * judged.sum()]
    dropped = [name for name in methods if name not in kept]
    rows = np.logical_and.reduce([known[name] for name in kept]) if kept else np.zeros(n, bool)
    correct, group = data["correct"].values.astype(bool), data["group"].values.astype(np.int64)
    right, wrong = int(correct[rows].sum()), int((~correct[rows]).sum())
    if min(right, wrong) < FEWEST:
        raise TooFewError(
            f"{right} right and {wrong} wrong answers have all of {len(kept)} methods: too few to rank them",
            "ask more questions",
        )
    found = {name: auc_of_nested(methods[name][1], data, rows) for name in kept}
    aucs = {name: made for name, made in found.items() if made is not None}
    value = np.array([float(made.value[0]) for made in aucs.values()])
    influence = by_group(np.concatenate([made.influence for made in aucs.values()], axis=1), group)
    low, high = zip(
        *(interval(v, float(variance), right, wrong) for v, variance in zip(value, (influence**2).sum(0), strict=True)),
        strict=True,
    )
    first, last = rank_ranges(value, influence, int(data.attrs["seed"]))
    order = sorted(range(len(value)), key=lambda i: -value[i])
    names = list(aucs)
    made = tuple(
        (
            names[i],
            methods[names[i]][0],
            int(rows.sum()),
            float(value[i]),
            low[i],
            high[i],
            place,
            int(first[i]),
            int(last[i]),
        )
        for place, i in enumerate(order, start=1)
    )
    words = [
        *_words(names, value, influence, made, order),
        *([f"Left out, because more than a fifth of the answers lack it: {listed(dropped)}."] if dropped else []),
        *_absent(probe_map, [name for name in PROBES if name not in methods]),
    ]
    return Table("What tells right answers from wrong ones", COLUMNS, made, tuple(words))


def rank_ranges(value: Floats, influence: Floats, seed: int, level: float = LEVEL) -> tuple[Ints, Ints]:
    """(m,) each: the best and the worst rank that every value may have, all at once.

    Parameters
    ----------
    influence: (n_groups, m), see `stats.by_group`.
    """
    one, other = np.triu_indices(len(value), 1)
    apart = influence[:, one] - influence[:, other]
    error = np.sqrt((apart**2).sum(0))
    half = (simultaneous_quantile(apart, level, seed) if len(one) else 0.0) * error
    above = value[one] - value[other] > half + 1e-12
    below = value[other] - value[one] > half + 1e-12
    worse = np.bincount(one[above], minlength=len(value)) + np.bincount(other[below], minlength=len(value))
    better = np.bincount(other[above], minlength=len(value)) + np.bincount(one[below], minlength=len(value))
    return (1 + better).astype(np.int64), (len(value) - worse).astype(np.int64)


def _probe(probe_map: ProbeMap, positions: Sequence[str]) -> Nested | None:
    """The best cell of these columns, chosen inside; None if the map has none of them, or none with enough answers."""
    there = [p for p in positions if p in probe_map.positions]
    try:
        return probe_map.only(there).nested() if there else None
    except MapError:
        return None


def _absent(probe_map: ProbeMap, probes: Sequence[str]) -> list[str]:
    """Why probes are not among the methods."""
    if not probes:
        return []
    why = "the map has none of their positions, or too few answers there"
    if not probe_map.has_nested:
        why = "the map was made without folds inside folds (fewer than 3, or the paper's protocol)"
    return [f"Not ranked, because {why}: {listed(probes)}."]


def _words(
    names: Sequence[str],
    value: Floats,
    influence: Floats,
    rows: Sequence[tuple[str | int | float | None, ...]],
    order: Sequence[int],
) -> list[str]:
    top = rows[0]
    said = [f"The best is {top[0]}, {top[1]}: AUC {ranged(*(float(str(x)) for x in top[3:6]))}."]
    probes = [i for i in order if names[i] in PROBES]
    others = [i for i in order if names[i] not in PROBES]
    if not probes or not others:
        return said
    a, b = probes[0], others[0]
    found = difference(float(value[a] - value[b]), influence[:, a] - influence[:, b])
    how = "is better than" if found.low > 0 else "is worse than" if found.high < 0 else "cannot be told apart from"
    said.append(
        f"The best probe ({names[a]}) {how} the best of what needs no probe ({names[b]}): "
        f"{signed(found.value, found.low, found.high)}."
    )
    return said


def map_rows(probe_map: ProbeMap, ids: Sequence[str]) -> Ints:
    """(n,): where the map's answers stand among `ids`.

    Raises
    ------
    MapError: one of them is not there.
    """
    row_of = {name: row for row, name in enumerate(ids)}
    names = [str(name) for name in probe_map.data["answer"].values]
    if missing := [name for name in names if name not in row_of]:
        raise MapError(f"the map was made of other answers: {missing[0]!r} is not there", "make it again")
    return np.array([row_of[name] for name in names], np.int64)
