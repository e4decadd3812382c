"""Table 2 of Orgad et al. 2024 (arXiv 2410.02707): can it be read which kind of error a question brings out?

One map per kind, of the states of the run's own answers: this kind against all others.
"""

from collections.abc import Callable, Sequence
from typing import Any

from probemap.maps.fit import fit_map
from probemap.maps.gain import with_baselines
from probemap.maps.probe_map import ProbeMap
from probemap.probing.baselines import Baseline
from probemap.records import MapError, TooFewError
from probemap.studies.error_types import KINDS, Sampled, counts
from probemap.tables import Table, Value, listed, ranged

COLUMNS = (
    "kind",
    "questions",
    "their answers wrong",
    "right at least once",
    "auc",
    "low",
    "high",
    "layer",
    "position",
    "gain",
    "gain low",
    "gain high",
)


Found = tuple[Value, ...]
"""Of a kind, the last eight columns."""


def study(
    states: Any,
    kinds: Sequence[str],
    sampled: Sequence[Sampled],
    correct: Sequence[bool | None],
    baselines: Sequence[Baseline],
    groups: Sequence[str],
    *,
    folds: int = 5,
    c: str = "1",
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
    remember: Callable[[str, Callable[[], Found]], Found] = lambda kind, make: make(),
) -> Table:
    """A row per kind of error, with how many questions are of it and how well it can be read.

    Parameters
    ----------
    states: as for `fit.fit_map`, (n, n_layers, n_positions, d).
    kinds: (n,), as from `kinds.kinds_of`.
    correct: (n,), the verdicts on the run's own answers, one per question.
    remember: called with a kind and what finds it; may know it from before.

    Returns
    -------
    ``auc`` is that of the best cell, chosen on some questions and judged on others; layer, position and gain over the
    best baseline are those of the highest cell, the gain's interval that of the whole map's band.  None where too few
    questions are of the kind, or not of it.

    Raises
    ------
    MapError: fewer than 3 folds, which leave none inside others to choose a cell by.
    """
    if folds < 3:
        raise MapError(f"{folds} folds leave none inside others to choose a cell by", "give 3 folds or more")
    rows: list[tuple[Value, ...]] = []
    wholes: dict[str, tuple[float, float, float]] = {}
    ids = [one.id for one in sampled]
    for done, (kind, meaning) in enumerate(KINDS.items()):
        labels = [kind in mine for mine in kinds]
        chosen = [i for i, is_one in enumerate(labels) if is_one]

        def find(labels: list[bool] = labels) -> Found:
            try:
                made = fit_map(states, labels, groups=groups, ids=ids, folds=folds, c=c, seed=seed)
            except TooFewError:
                return (None,) * 8
            return _found(with_baselines(made, baselines, ids))

        found = remember(kind, find)
        if all(isinstance(value, float) for value in found[:3]):
            wholes[kind] = tuple(found[:3])  # type: ignore[assignment]
        rows.append((f"{kind}: {meaning}", *_counted(chosen, sampled, correct), *found))
        progress(done + 1, len(KINDS))
    none = [i for i, mine in enumerate(kinds) if not mine]
    rows.append(("none of them", *_counted(none, sampled, correct), *[None] * 8))
    return Table("Kinds of errors", COLUMNS, tuple(rows), tuple(_words(rows, wholes, kinds, correct)))


def _counted(rows: Sequence[int], sampled: Sequence[Sampled], correct: Sequence[bool | None]) -> tuple[int, int, int]:
    """Of some questions how many there are, how many are answered wrongly, and how many rightly in some sample."""
    return len(rows), sum(correct[i] is False for i in rows), sum(sampled[i].right > 0 for i in rows)


def _found(made: ProbeMap) -> Found:
    honest, best = made.honest_best(), made.best()[0]
    auc: tuple[Value, ...] = (honest.auc, honest.low, honest.high) if honest else (None,) * 3
    at = made.data.sel(layer=best.layer, position=best.position)
    gain = [float(at[name]) for name in ("gain", "gain_band_low", "gain_band_high")]
    known: tuple[Value, ...] = tuple(gain) if gain[0] == gain[0] else (None,) * 3
    return (*auc, best.layer, best.position, *known)


def _words(
    rows: Sequence[tuple[Value, ...]],
    wholes: dict[str, tuple[float, float, float]],
    kinds: Sequence[str],
    correct: Sequence[bool | None],
) -> list[str]:
    wrong = [k for k, c in zip(kinds, correct, strict=True) if c is False]
    table = counts(wrong)
    most = sorted((name for name in KINDS if table[name]), key=lambda name: -table[name])
    said = []
    if most:
        shares = listed([f"{name} in {table[name] / len(wrong):.0%}" for name in most])
        said.append(
            f"Of {len(wrong)} questions that are answered wrongly, kind {shares} (a question may be of several)."
        )
    seen = [k for k, (_, low, _) in wholes.items() if low > 0.5]
    unseen = [k for k in wholes if k not in seen]
    if seen:
        said.append(f"It can be read from the states: {listed([f'{k} ({ranged(*wholes[k])})' for k in seen])}.")
    if unseen:
        said.append(f"It cannot be shown to be readable: {listed([f'{k} ({ranged(*wholes[k])})' for k in unseen])}.")
    above = [str(row[0])[0] for row in rows if isinstance(row[10], float) and row[10] > 0]
    if seen:
        more = f"of {listed(above)}" if above else "of none of them"
        said.append(f"More than log-probabilities, lengths and words say of it is shown {more}.")
    if few := [k for k in KINDS if k not in wholes]:
        said.append(f"Too few questions to say anything of {listed(few)}.")
    return said
