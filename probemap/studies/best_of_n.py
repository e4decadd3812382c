"""Best-of-n: choose one of several sampled answers with the probe, and compare this rule with rules that need no probe.

The comparison follows tables 13 and 14 of Orgad et al. 2024 (arXiv 2410.02707).  If the verdict on the chosen answer is
undecided, e.g. because the answer is a refusal or was truncated, the choice does not count as correct.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import norm

from probemap.probing.auc import LEVEL, Floats
from probemap.studies.error_types import ERROR_TYPES, SampledQuestion
from probemap.tables import NO_INTERVAL, Interval, Table, Value, enumerated

RULES: dict[str, str] = {
    "greedy": "the run's own answer, if it was generated at temperature 0",
    "random": "a random sample: the mean over all samples",
    "majority": "the most frequent answer among the samples; a refusal only if all samples refuse",
    "probe": "the sample with the highest probe score",
    "best possible": "correct if any sample is correct",
}
"""Mapping from the name of each rule to its description, in the order in which the table lists them.  If several
samples are tied, the first one is chosen."""

MIN_QUESTIONS = 10
"""An error type must have at least this many questions for its rates to be reported."""

COLUMNS = ("questions", "n", "picked by", "right", "low", "high", "probe minus it", "difference low", "difference high")


@dataclass(frozen=True)
class ProbeScore:
    """Score of one sample, computed by a probe that was not trained on its question."""

    by: Literal["primary", "fallback", "none"]
    """The detector head that computed the score, or ``"none"`` if no head could score the sample.  Samples without an
    exact answer are scored by the fallback head.  They rank below all samples scored by the primary head, because
    scores of different probes are not comparable."""
    score: float | None

    @property
    def rank_key(self) -> tuple[int, float]:
        """Sort key; higher values indicate samples that are more likely to be correct."""
        return ("none", "fallback", "primary").index(self.by), float("-inf") if self.score is None else self.score


@dataclass(frozen=True)
class Question:
    """One question with the data that the rules need to choose an answer."""

    sampled: SampledQuestion
    greedy: bool | None
    """Verdict on the run's own answer."""
    scores: tuple[ProbeScore, ...]
    """One score per sample."""
    error_types: str
    """Letters of the question's error types; see `error_types.classify`."""
    group: str
    """Group of the question.  Questions in the same group are not independent."""

    @property
    def majority_choice(self) -> int:
        """Index of the sample that the ``majority`` rule chooses."""
        meanings, contents = self.sampled.meanings, self.sampled.contents
        return max(range(len(meanings)), key=lambda i: (contents[i] == "answer", meanings.count(meanings[i]), -i))

    @property
    def probe_choice(self) -> int:
        """Index of the sample that the ``probe`` rule chooses."""
        return max(range(len(self.scores)), key=lambda i: (*self.scores[i].rank_key, -i))

    def correctness(self, rule: str) -> float:
        """Return 1 if the answer that the rule chooses is correct, and 0 otherwise.  For the ``random`` rule, return
        the fraction of correct samples."""
        correct = [verdict is True for verdict in self.sampled.verdicts]
        if rule == "random":
            return sum(correct) / len(correct)
        chosen = {
            "greedy": self.greedy is True,
            "majority": correct[self.majority_choice],
            "probe": correct[self.probe_choice],
            "best possible": any(correct),
        }
        return float(chosen[rule])


@dataclass(frozen=True, kw_only=True)
class RuleResult:
    """One row of the table: the result of one rule for one error type."""

    error_type: str
    """Letter of the error type (a key of `ERROR_TYPES`), or an empty string if the row covers all questions."""
    n: int
    """Number of questions."""
    rule: str | None = None
    """Name of the rule, or None if the error type has too few questions."""
    correct: Interval | None = None
    """Fraction of questions for which the rule chooses a correct answer."""
    difference: Interval | None = None
    """The value of `correct` for the probe minus that for this rule, or None if this rule is the probe itself."""

    def cells(self) -> tuple[Value, ...]:
        """Return the values in the order of `COLUMNS`."""
        label = f"{self.error_type}: {ERROR_TYPES[self.error_type].split(' (')[0]}" if self.error_type else "all"
        return (label, self.n, self.rule, *(self.correct or NO_INTERVAL), *(self.difference or NO_INTERVAL))


def proportion(values: Floats, groups: Sequence[str], level: float = LEVEL) -> Interval:
    """Return the mean of `values`, all of which lie between 0 and 1, and its confidence interval.

    Two values of 1 and two values of 0 are added before a normal interval is computed (Agresti & Coull 1998), so that
    the interval has a positive width even if all values are equal.

    Parameters
    ----------
    values : ndarray of shape (n,)
    groups : sequence of str, of length n
        Group of each value.  Values in the same group are not independent, so the variance is computed from group sums.
    level : float
        Confidence level.
    """
    low, high = _normal_interval(values, groups, [(1.0, 2.0), (0.0, 2.0)], level)
    return Interval(float(values.mean()), max(low, 0.0), min(high, 1.0))


def proportion_difference(values: Floats, groups: Sequence[str], level: float = LEVEL) -> Interval:
    """Return the mean of paired differences, all of which lie between -1 and 1, and its confidence interval.

    Half a pair is added for each of the four possible outcomes of a pair before a normal interval is computed (Agresti
    & Min 2005, Stat. Med. 24:729).

    Parameters
    ----------
    values : ndarray of shape (n,)
    groups : sequence of str, of length n
        Group of each difference; see `proportion`.
    level : float
        Confidence level.
    """
    low, high = _normal_interval(values, groups, [(-1.0, 0.5), (0.0, 1.0), (1.0, 0.5)], level)
    return Interval(float(values.mean()), max(low, -1.0), min(high, 1.0))


def _normal_interval(
    values: Floats, groups: Sequence[str], pseudo: Sequence[tuple[float, float]], level: float
) -> tuple[float, float]:
    """Return the normal confidence interval for the mean of the values and pseudo-observations taken together.

    Pseudo-observations are given as (value, weight) pairs.
    """
    n = len(values) + sum(weight for _, weight in pseudo)
    mean = (values.sum() + sum(value * weight for value, weight in pseudo)) / n
    group_number = np.unique(list(groups), return_inverse=True)[1]
    variance = float((np.bincount(group_number, values - mean) ** 2).sum())
    variance += sum(weight * (value - mean) ** 2 for value, weight in pseudo)
    half_width = float(norm.ppf(0.5 + level / 2)) * np.sqrt(variance) / n
    return float(mean - half_width), float(mean + half_width)


def compare_rules(questions: Sequence[Question], *, own_label: str = "greedy") -> Table:
    """Compare the probe with the other rules, for all questions and for each error type.

    Parameters
    ----------
    questions : sequence of Question
    own_label : str
        Name of the ``greedy`` rule in the table.  Pass a different name if the run's own answers were not generated at
        temperature 0.

    Returns
    -------
    Table
        One row per error type and rule.
    """
    rows: list[RuleResult] = []
    for letter in ("", *ERROR_TYPES):
        selected = [question for question in questions if letter in question.error_types]
        if len(selected) < MIN_QUESTIONS:
            rows.append(RuleResult(error_type=letter, n=len(selected)))
            continue
        groups = [question.group for question in selected]
        correct = {rule: np.array([q.correctness(rule) for q in selected]) for rule in RULES}
        for rule, values in correct.items():
            rows.append(
                RuleResult(
                    error_type=letter,
                    n=len(selected),
                    rule=own_label if rule == "greedy" else rule,
                    correct=proportion(values, groups),
                    difference=None if rule == "probe" else proportion_difference(correct["probe"] - values, groups),
                )
            )
    return Table(
        "Best-of-n: one of several answers, chosen by the probe",
        COLUMNS,
        tuple(row.cells() for row in rows),
        tuple(_sentences(questions, rows, own_label)),
    )


def _sentences(questions: Sequence[Question], rows: Sequence[RuleResult], own_label: str) -> list[str]:
    overall = {row.rule: row for row in rows if not row.error_type and row.rule}
    if not overall:
        return [f"{len(questions)} questions are too few for a comparison."]
    probe = overall["probe"].correct
    assert probe is not None
    n_samples = len(questions[0].sampled.verdicts)
    sentences = [
        f"From {n_samples} samples per question the probe chooses a correct answer for {probe.text} of "
        f"{len(questions)} questions."
    ]
    baselines = [(name, overall[name].difference) for name in (own_label, "random", "majority")]
    for comparison, differences in _by_sign(baselines).items():
        if differences:
            sentences.append(f"The probe is {comparison} {enumerated(differences)}.")
    by_type = [(row.error_type, row.difference) for row in rows if row.error_type and row.rule == own_label]
    for comparison, differences in _by_sign(by_type).items():
        if differences and comparison != _NO_DIFFERENCE:
            sentences.append(f"By error type, the probe is {comparison} {own_label} for {enumerated(differences)}.")
    return sentences


_NO_DIFFERENCE = "not distinguishable from"


def _by_sign(differences: Sequence[tuple[str, Interval | None]]) -> dict[str, list[str]]:
    """Divide named differences into three groups: those whose interval lies above 0, lies below 0, or contains 0."""
    sorted_: dict[str, list[str]] = {"better than": [], "worse than": [], _NO_DIFFERENCE: []}
    for name, difference in differences:
        if difference is not None:
            sign = "better than" if difference.low > 0 else "worse than" if difference.high < 0 else _NO_DIFFERENCE
            sorted_[sign].append(f"{name} ({difference.signed_text})")
    return sorted_
