"""The result of an audit of verdicts: a table, and sentences that state the consequences for the map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from probemap.studies.label_errors import ErrorRate, LabelAudit, audit_labels
from probemap.tables import Interval, Table, Value

if TYPE_CHECKING:
    from probemap.maps.probe_map import ProbeMap
    from probemap.probing.auc import Floats
    from probemap.records import Verdict

Label = bool | Literal["cannot tell"] | None
"""A person's label of an answer, or None if the answer is not labelled."""

COLUMNS = ("quantity", "value", "low", "high", "answers", "audited", "errors")
TITLE = "Audit of the labels"
NESTED = "best cell, nested CV"
"""Name of the nested-CV estimate."""

_NAMES = {True: "correct", False: "incorrect", None: "undecided"}


@dataclass(frozen=True, kw_only=True)
class AuditedAnswers:
    """All answers of a run, with the labels of the drawn answers.  All sequences have one element per answer."""

    ids: Sequence[str]
    verdicts: Sequence[Verdict]
    labels: Sequence[Label]
    weights: Sequence[float]
    """Inverse of the probability with which the answer was drawn.  NaN for answers that were not drawn."""
    strata: Sequence[int]
    """Index of the stratum from which the answer was drawn.  -1 for answers that were not drawn."""
    groups: Sequence[str]
    """Cross-validation group of each answer."""

    @property
    def known(self) -> list[bool | None]:
        """The labels.  None for answers without a label, and for answers that the person could not decide."""
        return [label if isinstance(label, bool) else None for label in self.labels]

    @property
    def correct(self) -> list[bool | None]:
        """The verdicts as True, False or None."""
        return [verdict.correct for verdict in self.verdicts]


def audit_table(answers: AuditedAnswers, probe_map: ProbeMap | None) -> Table:
    """Return the error rates of the verdicts and their consequences for the best cell of a map.

    Parameters
    ----------
    answers : AuditedAnswers
        At least one of the answers must be labelled.
    probe_map : ProbeMap or None
        A map that was fitted to these verdicts.  If None, only the error rates are computed.

    Returns
    -------
    Table
        The first two sentences state the error rates and their consequences for the map.
    """
    rates = audit_labels(
        answers.correct, answers.known, weights=answers.weights, strata=answers.strata, groups=answers.groups
    )
    audits = {} if probe_map is None else _audits_of_map(answers, probe_map)
    rows = [*_rate_rows(answers, rates), *_reason_rows(answers), *_undecided_rows(answers)]
    for name, audit in audits.items():
        rows += _auc_rows(name, audit)
    words = [_rate_words(answers, rates), *_consequence(audits), *_reason_words(answers), *_undecided_words(answers)]
    return Table(TITLE, COLUMNS, tuple(rows), tuple(words))


def _audits_of_map(answers: AuditedAnswers, probe_map: ProbeMap) -> dict[str, LabelAudit]:
    """Return the audits of the nested-CV estimate, if there is one, and of the cell with the highest AUC."""
    data = probe_map.data
    row_of = {name: row for row, name in enumerate(answers.ids)}
    rows = [row_of[str(name)] for name in data["answer"].values]
    weights, known = np.array(answers.weights)[rows], answers.known

    def audit(scores: Floats, variance_factor: float) -> LabelAudit:
        return audit_labels(
            data["correct"].values,
            [known[row] for row in rows],
            scores,
            weights=weights,
            strata=[answers.strata[row] for row in rows],
            folds=data["fold"].values,
            groups=data["group"].values,
            variance_factor=variance_factor,
        )

    audits = {}
    if nested := probe_map.nested_scores():
        audits[NESTED] = audit(nested.scores, nested.variance_factor)
    for cell in probe_map.best():
        of_cell = {"layer": cell.layer, "position": cell.position}
        inflation = float(np.nan_to_num(data["variance_inflation"].sel(of_cell)))
        audits[f"layer {cell.layer}, {cell.position}"] = audit(data["scores"].sel(of_cell).values, 1 + inflation)
    return audits


def _row(name: str, interval: Interval, *counts: int | None) -> tuple[Value, ...]:
    ends: list[Value] = [None if math.isnan(end) else float(end) for end in interval]
    return (name, *ends, *counts)


def _rate_rows(answers: AuditedAnswers, rates: LabelAudit) -> list[tuple[Value, ...]]:
    return [
        _row(f'wrong verdicts "{_NAMES[side]}" ({symbol})', rate.interval, n, rate.n, rate.errors)
        for side, symbol, rate in ((True, "α", rates.alpha), (False, "β", rates.beta))
        for n in [answers.correct.count(side)]
    ]


def _by_reason(answers: AuditedAnswers) -> dict[tuple[bool, str], tuple[int, int, int]]:
    """Return the numbers of answers, of labelled answers and of wrong verdicts for each verdict and reason."""
    counts: dict[tuple[bool, str], tuple[int, int, int]] = {}
    for verdict, label in zip(answers.verdicts, answers.known, strict=True):
        if verdict.correct is not None:
            n, audited, errors = counts.get((verdict.correct, verdict.reason), (0, 0, 0))
            is_known = label is not None
            errors += is_known and label != verdict.correct
            counts[verdict.correct, verdict.reason] = (n + 1, audited + is_known, errors)
    return dict(sorted(counts.items(), key=lambda item: (not item[0][0], -item[1][0], item[0][1])))


def _reason_rows(answers: AuditedAnswers) -> list[tuple[Value, ...]]:
    return [
        (f"{_NAMES[correct]}: {reason}", errors / audited if audited else None, None, None, n, audited, errors)
        for (correct, reason), (n, audited, errors) in _by_reason(answers).items()
    ]


def _undecided(answers: AuditedAnswers) -> list[Label]:
    """Return the labels of the undecided answers that were labelled."""
    pairs = zip(answers.verdicts, answers.labels, strict=True)
    return [label for verdict, label in pairs if verdict.correct is None and label is not None]


def _undecided_rows(answers: AuditedAnswers) -> list[tuple[Value, ...]]:
    labels = _undecided(answers)
    if not labels:
        return []
    decided = sum(isinstance(label, bool) for label in labels) / len(labels)
    return [("undecided: a person decides", decided, None, None, answers.correct.count(None), len(labels), None)]


def _auc_rows(name: str, audit: LabelAudit) -> list[tuple[Value, ...]]:
    n = audit.alpha.n + audit.beta.n
    corrected = Interval(math.nan, math.nan, math.nan) if audit.depends else audit.corrected
    return [
        _row(f"AUC against the verdicts, {name}", audit.auc, None, None, None),
        _row(f"AUC corrected for label errors, {name}", corrected, None, n, None),
        _row(f"AUC against the person's labels, {name}", audit.audited, None, n, None),
        _row(
            f"p-value, errors depend on the scores, {name}",
            Interval(audit.p, math.nan, math.nan),
            None,
            n,
            audit.alpha.errors + audit.beta.errors,
        ),
    ]


def _rate_words(answers: AuditedAnswers, rates: LabelAudit) -> str:
    labelled = sum(label is not None for label in answers.labels)
    unclear = sum(label == "cannot tell" for label in answers.labels)
    drawn = sum(number >= 0 for number in answers.strata)
    text = f"A person labelled {labelled} of {drawn} drawn answers"
    text += f", {unclear} of them as not decidable.  " if unclear else ".  "
    return (
        f'{text}Of the verdicts "correct", {_percent(rates.alpha)} are wrong (α), and of the verdicts "incorrect", '
        f"{_percent(rates.beta)} (β)."
    )


def _percent(rate: ErrorRate) -> str:
    if not rate.n:
        return "an unknown share"
    value, low, high = (100 * end for end in rate.interval)
    return f"{value:.1f} % [{low:.1f}, {high:.1f}]"


def _consequence(audits: dict[str, LabelAudit]) -> list[str]:
    """Return sentences on the AUC that correct labels would give."""
    if not audits:
        return ["The consequence for the map is not computed, because there is no map of these verdicts."]
    name, audit = next(iter(audits.items()))
    audited = (
        f"Against the person's labels of {audit.alpha.n + audit.beta.n} answers, the AUC is {_text(audit.audited)}."
        if not math.isnan(audit.audited.value)
        else "There are too few labels to compute the AUC against them."
    )
    if audit.depends:
        return [
            f"Label errors depend on what the probe reads (p = {audit.p:.2g}, {name}), so the AUC of "
            f"{_text(audit.auc)} cannot be corrected by their frequency.  {audited}"
        ]
    if audit.problem:
        return [f"The AUC of {_text(audit.auc)} ({name}) cannot be corrected: {audit.problem}.  {audited}"]
    n_errors = audit.alpha.errors + audit.beta.errors
    independence = (
        "No label errors were found."
        if math.isnan(audit.p)
        else f"No dependence of the label errors ({n_errors}) on the probe's scores was found (p = {audit.p:.2g})."
    )
    return [
        f"With correct labels, the AUC would be {_text(audit.corrected)} instead of {_text(audit.auc)} ({name}).",
        f"{independence}  {audited}",
    ]


def _text(interval: Interval) -> str:
    return f"{interval.value:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def _reason_words(answers: AuditedAnswers) -> list[str]:
    listed = [
        f"{errors} of {audited} answers with the verdict {_NAMES[correct]} ({reason})"
        for (correct, reason), (_, audited, errors) in _by_reason(answers).items()
        if errors
    ]
    return [f"Wrong verdicts: {'; '.join(listed)}."] if listed else []


def _undecided_words(answers: AuditedAnswers) -> list[str]:
    labels = _undecided(answers)
    decided = [label for label in labels if isinstance(label, bool)]
    if not labels:
        return []
    text = f"Of {len(labels)} audited answers without a verdict, the person decided {len(decided)}"
    if not decided:
        return [f"{text}."]
    verdicts = [verdict for verdict in answers.correct if verdict is not None]
    return [
        f"{text}, {decided.count(True)} of them as correct ({100 * np.mean(decided):.0f} %, compared with "
        f"{100 * np.mean(verdicts):.0f} % of the verdicts)."
    ]
