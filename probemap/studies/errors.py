"""Predict the error type of a question from hidden states, as in table 2 of Orgad et al. 2024 (arXiv 2410.02707).

For each error type, a map is fitted to the hidden states of the run's own answers.  Its probes are trained to
distinguish the questions of that type from all other questions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from probemap.maps.fit import fit_map
from probemap.maps.gain import with_baselines
from probemap.records import MapError, TooFewError
from probemap.studies.error_types import ERROR_TYPES, SampledQuestion, count_types
from probemap.tables import Interval, Table, Value, enumerated

if TYPE_CHECKING:
    from probemap.maps.probe_map import ProbeMap
    from probemap.probing.baselines import Baseline

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


class ErrorTypeProbe(NamedTuple):
    """Performance of the probes that predict one error type.  All fields are None if the type has too few questions."""

    auc: float | None = None
    """Nested-CV estimate of the best cell's AUC; `low` and `high` are the ends of its confidence interval."""
    low: float | None = None
    high: float | None = None
    layer: int | None = None
    """Layer of the cell with the highest AUC; `position` is the position of the same cell."""
    position: str | None = None
    gain: float | None = None
    """Gain of the cell at `layer` and `position` over the best baseline; `gain_low` and `gain_high` are the ends of its
    simultaneous band."""
    gain_low: float | None = None
    gain_high: float | None = None

    @property
    def interval(self) -> Interval | None:
        """Nested-CV estimate of the AUC with its confidence interval, or None if there is no estimate."""
        if self.auc is None or self.low is None or self.high is None:
            return None
        return Interval(self.auc, self.low, self.high)


@dataclass(frozen=True, kw_only=True)
class ProbeOptions:
    """Options for fitting the probes; see `fit_map`."""

    folds: int = 5
    c: str = "1"
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class ErrorTypeResult:
    """One row of the table: question counts and probe performance for one error type."""

    letter: str
    """Letter of the error type (a key of `ERROR_TYPES`), or an empty string if the row covers the questions without an
    error type."""
    n: int
    n_incorrect: int
    """Number of questions to which the run's own answer is incorrect."""
    n_once_correct: int
    """Number of questions with at least one correct sample."""
    probe: ErrorTypeProbe

    def cells(self) -> tuple[Value, ...]:
        """Return the values in the order of `COLUMNS`."""
        label = f"{self.letter}: {ERROR_TYPES[self.letter]}" if self.letter else "none of them"
        return (label, self.n, self.n_incorrect, self.n_once_correct, *self.probe)


def predict_error_types(
    states: Any,
    types: Sequence[str],
    sampled: Sequence[SampledQuestion],
    correct: Sequence[bool | None],
    *,
    baselines: Sequence[Baseline],
    groups: Sequence[str],
    options: ProbeOptions = ProbeOptions(),
    progress: Callable[[int, int], None] = lambda done, total: None,
    checkpoint: Callable[[str, Callable[[], ErrorTypeProbe]], ErrorTypeProbe] = lambda letter, fit: fit(),
) -> Table:
    """Count the questions with each error type, and measure how well hidden states predict the type.

    Parameters
    ----------
    states : array of shape (n, n_layers, n_positions, d) or ActivationStore
        Hidden states of the run's own answers; see `fit_map`.
    types : sequence of str, of length n
        Error types of each question, as returned by `error_types.classify`.
    sampled : sequence of SampledQuestion, of length n
    correct : sequence of bool or None, of length n
        Verdicts on the run's own answers.
    baselines : sequence of Baseline
        Baselines against which the gain is measured.
    groups : sequence of str, of length n
        Group of each question.  Questions in the same group are assigned to the same fold.
    options : ProbeOptions
    progress : callable
        Function called with the number of finished error types and the total number of error types.
    checkpoint : callable
        Function called with two arguments: the letter of an error type, and a function that fits its probes.  It may
        return a stored result instead of calling that function.

    Returns
    -------
    Table
        One row per error type, and one row for questions without an error type.  ``auc`` is the nested-CV estimate of
        the best cell's AUC; ``layer``, ``position`` and ``gain`` describe the cell with the highest AUC.  These values
        are None if too few questions have the error type, or if too few questions lack it.

    Raises
    ------
    MapError
        If there are fewer than 3 folds, because nested CV requires inner folds.
    """
    if options.folds < 3:
        raise MapError(f"nested CV is not possible with {options.folds} folds", "use 3 or more folds")
    rows: list[ErrorTypeResult] = []
    ids = [question.id for question in sampled]
    for done, letter in enumerate(ERROR_TYPES, start=1):
        labels = [letter in letters for letters in types]

        def fit(labels: list[bool] = labels) -> ErrorTypeProbe:
            try:
                probe_map = fit_map(
                    states, labels, groups=groups, ids=ids, folds=options.folds, c=options.c, seed=options.seed
                )
            except TooFewError:
                return ErrorTypeProbe()
            return _summary(with_baselines(probe_map, baselines, ids))

        selected = [i for i, label in enumerate(labels) if label]
        rows.append(_result(letter, selected, sampled, correct, checkpoint(letter, fit)))
        progress(done, len(ERROR_TYPES))
    untyped = [i for i, letters in enumerate(types) if not letters]
    rows.append(_result("", untyped, sampled, correct, ErrorTypeProbe()))
    cells = tuple(row.cells() for row in rows)
    return Table("Error types", COLUMNS, cells, tuple(_sentences(rows, types, correct)))


def _result(
    letter: str,
    selected: Sequence[int],
    sampled: Sequence[SampledQuestion],
    correct: Sequence[bool | None],
    probe: ErrorTypeProbe,
) -> ErrorTypeResult:
    return ErrorTypeResult(
        letter=letter,
        n=len(selected),
        n_incorrect=sum(correct[i] is False for i in selected),
        n_once_correct=sum(sampled[i].n_correct > 0 for i in selected),
        probe=probe,
    )


def _summary(probe_map: ProbeMap) -> ErrorTypeProbe:
    nested, best = probe_map.nested_best(), probe_map.best()[0]
    data = probe_map.data.sel(layer=best.layer, position=best.position)
    gain = [float(data[name]) for name in ("gain", "gain_band_low", "gain_band_high")]
    has_gain = gain[0] == gain[0]  # not NaN
    return ErrorTypeProbe(
        auc=nested.auc if nested else None,
        low=nested.low if nested else None,
        high=nested.high if nested else None,
        layer=best.layer,
        position=best.position,
        gain=gain[0] if has_gain else None,
        gain_low=gain[1] if has_gain else None,
        gain_high=gain[2] if has_gain else None,
    )


def _sentences(rows: Sequence[ErrorTypeResult], types: Sequence[str], correct: Sequence[bool | None]) -> list[str]:
    sentences = []
    incorrect = [letters for letters, verdict in zip(types, correct, strict=True) if verdict is False]
    counts = count_types(incorrect)
    if frequent := sorted((letter for letter in ERROR_TYPES if counts[letter]), key=lambda letter: -counts[letter]):
        shares = enumerated([f"{counts[letter] / len(incorrect):.0%} are of type {letter}" for letter in frequent])
        sentences.append(
            f"Of {len(incorrect)} incorrectly answered questions, {shares} (a question may be of several types)."
        )
    estimates = {row.letter: row.probe.interval for row in rows if row.letter}
    predicted = {letter: auc for letter, auc in estimates.items() if auc and auc.low > 0.5}
    unpredicted = {letter: auc for letter, auc in estimates.items() if auc and auc.low <= 0.5}
    if predicted:
        sentences.append(f"Hidden states predict the error type for {_with_auc(predicted)}.")
    if unpredicted:
        sentences.append(f"No prediction better than chance is shown for {_with_auc(unpredicted)}.")
    if predicted:
        gaining = [row.letter for row in rows if row.probe.gain_low is not None and row.probe.gain_low > 0]
        sentences.append(
            f"A gain over log-probabilities, lengths and words is shown for {enumerated(gaining) or 'none of them'}."
        )
    if too_few := [letter for letter, auc in estimates.items() if auc is None]:
        sentences.append(f"Too few questions for an estimate: {enumerated(too_few)}.")
    return sentences


def _with_auc(estimates: Mapping[str, Interval | None]) -> str:
    return enumerated([f"{letter} ({auc.text})" for letter, auc in estimates.items() if auc])
