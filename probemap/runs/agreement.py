"""Agreement of two graders (with Cohen's kappa and its interval), and agreement of two locators."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from probemap.records import Span

Pair = tuple[bool | None, bool | None]
"""The verdicts of two graders on an answer: True for correct, False for incorrect, None for undecided."""

_MIN_ANSWERS = 30
"""Minimum number of answers that are needed to state that two graders agree no better than by chance."""

_CATEGORIES = (True, False, None)
_Z = 1.959963984540054
"""The 97.5 % quantile of the standard normal distribution."""


@dataclass(frozen=True)
class Agreement:
    """How well two graders agree."""

    n: int = 0
    """Number of answers that both graders have graded as correct, incorrect or undecided."""
    n_same: int = 0
    """Number of answers with the same verdict."""
    n_decided: int = 0
    """Number of answers that both graders have decided, i.e. graded as correct or incorrect."""
    n_decided_same: int = 0
    """Number of answers that both graders have decided in the same way."""
    kappa: float | None = None
    """Cohen's kappa (Cohen 1960) for the three categories correct, incorrect and undecided.  None if there are no
    answers, or if all verdicts are the same."""
    interval: tuple[float, float] | None = None
    """95 % interval of `kappa`.  None if it is undefined, e.g. because the graders never disagree."""

    @property
    def is_chance(self) -> bool:
        """True if there are at least 30 answers, and the agreement is not significantly better than chance."""
        if self.kappa is None or self.n < _MIN_ANSWERS:
            return False
        return (self.interval or (self.kappa,))[0] <= 0

    def describe(self) -> str:
        """Return the predicate of a sentence whose subject is the two graders.

        Examples
        --------
        >>> from probemap.runs.agreement import agreement
        >>> agreement([(True, True), (True, True), (False, None)]).describe()
        "agree on 2 of 3 verdicts, Cohen's kappa 0.40 (95 % interval 0.21 to 0.59); on 2 of 2 that both decide"
        """
        if self.kappa is None:
            kappa = ""
        else:
            kappa = f", Cohen's kappa {self.kappa:.2f}"
            if self.interval is not None:
                kappa += f" (95 % interval {self.interval[0]:.2f} to {self.interval[1]:.2f})"
        decided = f"; on {self.n_decided_same} of {self.n_decided} that both decide"
        return f"agree on {self.n_same} of {self.n} verdicts{kappa}{decided}"


def agreement(pairs: Sequence[Pair]) -> Agreement:
    """Compare the verdicts of two graders.

    Parameters
    ----------
    pairs : sequence of (bool or None, bool or None)
        For each answer, the verdicts of both graders.

    Examples
    --------
    >>> from probemap.runs.agreement import agreement
    >>> result = agreement([(True, True)] * 4 + [(True, False)] + [(False, False)] * 5)
    >>> result.n_same, round(result.kappa, 2)
    (9, 0.8)
    """
    counts = [[sum(pair == (a, b) for pair in pairs) for b in _CATEGORIES] for a in _CATEGORIES]
    kappa, interval = cohen_kappa(counts)
    return Agreement(
        n=len(pairs),
        n_same=sum(a == b for a, b in pairs),
        n_decided=sum(a is not None and b is not None for a, b in pairs),
        n_decided_same=sum(a is not None and a == b for a, b in pairs),
        kappa=kappa,
        interval=interval,
    )


def cohen_kappa(counts: Sequence[Sequence[int]]) -> tuple[float | None, tuple[float, float] | None]:
    """Return Cohen's kappa and its 95 % interval.

    The interval is symmetric around kappa and is clipped to [-1, 1].  It uses the large-sample standard error of
    Fleiss, Cohen and Everitt (1969, Psychological Bulletin 72, 323-327).  With fewer than about 50 items, it is too
    narrow.

    Parameters
    ----------
    counts : k sequences of k ints
        Confusion matrix: number of items that the first grader assigned to the category of the row, and the second
        grader to the category of the column.

    Returns
    -------
    kappa : float or None
        None if there are no items, or if all verdicts are the same.
    interval : (float, float) or None
        None if the standard error is 0 or `kappa` is None.

    Examples
    --------
    >>> from probemap.runs.agreement import cohen_kappa
    >>> kappa, (low, high) = cohen_kappa([[75, 1, 4], [5, 4, 1], [0, 0, 10]])
    >>> round(kappa, 3), round((high - low) / (2 * 1.96), 3)
    (0.676, 0.088)
    """
    n, indices = sum(map(sum, counts)), range(len(counts))
    if n == 0:
        return None, None
    p = [[count / n for count in row] for row in counts]
    rows, columns = [sum(row) for row in p], [sum(column) for column in zip(*p, strict=True)]
    observed = sum(p[i][i] for i in indices)
    expected = sum(rows[i] * columns[i] for i in indices)
    if expected > 1 - _ROUNDING:
        return None, None
    kappa = (observed - expected) / (1 - expected)
    same = sum(p[i][i] * (1 - (rows[i] + columns[i]) * (1 - kappa)) ** 2 for i in indices)
    different = sum(p[i][j] * (columns[i] + rows[j]) ** 2 for i in indices for j in indices if i != j)
    variance = same + (1 - kappa) ** 2 * different - (kappa - expected * (1 - kappa)) ** 2
    if variance < _ROUNDING:
        return kappa, None
    error = math.sqrt(variance / n) / (1 - expected)
    return kappa, (max(kappa - _Z * error, -1.0), min(kappa + _Z * error, 1.0))


_ROUNDING = 1e-12
"""Differences below this value are attributed to rounding."""


MIN_SPAN_AGREEMENT = 0.9
"""Exact answers are considered unreliable if two locators find the same one in a smaller share of the answers.

The value is based on 342 answers of three small models, which were labelled by hand.  The share was 0.88 for the model
for which 66 % of the located parts were the exact answer.  It was 0.91 and 1.00 for the other two models, for which
89 % and 96 % of the located parts were the exact answer.
"""
MIN_SPANS = 20
"""Minimum number of answers in which both locators must find an exact answer before their agreement is evaluated."""


@dataclass(frozen=True)
class SpanAgreement:
    """The number of answers in which two locators find the same exact answer.

    Two overlapping spans count as the same, because an exact answer may be stated more or less completely.

    Examples
    --------
    >>> from probemap.records import Span
    >>> from probemap.runs.agreement import SpanAgreement
    >>> SpanAgreement.of([Span(0, 2, "Jane Austen"), Span(5, 6, "1815")], [Span(1, 2, "Austen"), None])
    SpanAgreement(n_same=1, n_both=1)
    """

    n_same: int
    """Number of answers in which both locators find the same exact answer."""
    n_both: int
    """Number of answers in which both locators find an exact answer."""

    @classmethod
    def of(cls, first: Sequence[Span | None], second: Sequence[Span | None]) -> SpanAgreement:
        """Compare the spans that two locators have found in the same answers."""
        both = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
        return cls(sum(a.start < b.stop and b.start < a.stop for a, b in both), len(both))

    @property
    def is_low(self) -> bool:
        """True if the locators disagree so often that many exact answers of at least one of them are probably wrong."""
        return self.n_both >= MIN_SPANS and self.n_same < MIN_SPAN_AGREEMENT * self.n_both
