"""Draw the answers whose verdicts a person checks in an audit.

The draw is stratified by verdict and reason, so that rare reasons are represented.  The probability that an answer is
drawn is known, and its weight is the inverse of this probability.  Weighted sums over the drawn answers are therefore
unbiased estimates of sums over all answers.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from probemap.records import DataError, Verdict

MAX_UNDECIDED = 5
"""At most one of this number of drawn answers is undecided."""

POOLED = "undecided"
"""Value of `reason` for the stratum that contains all undecided answers."""


@dataclass(frozen=True)
class AuditStratum:
    """The answers with one verdict and one reason.  All undecided answers form a single stratum."""

    correct: bool | None
    reason: str
    answers: int
    """Number of answers in the stratum."""
    drawn: int
    """Number of answers that were drawn from the stratum."""

    @property
    def weight(self) -> float:
        """Number of answers that each drawn answer represents.  NaN if no answer was drawn from the stratum."""
        return self.answers / self.drawn if self.drawn else math.nan


@dataclass(frozen=True)
class AuditDraw:
    """The answers that were drawn for an audit.

    Examples
    --------
    >>> import probemap
    >>> verdicts = [probemap.Verdict(True, "names an accepted answer")] * 6
    >>> draw = probemap.draw_audit(verdicts, 3)
    >>> len(draw.rows), draw.stratum, draw.weights
    (3, (0, 0, 0), (2.0, 2.0, 2.0))
    """

    strata: tuple[AuditStratum, ...]
    rows: tuple[int, ...]
    """Indices of the drawn answers, in a random order that does not reveal the strata."""
    stratum: tuple[int, ...]
    """For each drawn answer, the index of its stratum in `strata`."""

    @property
    def weights(self) -> tuple[float, ...]:
        """For each drawn answer, the inverse of the probability with which it was drawn."""
        return tuple(self.strata[number].weight for number in self.stratum)


def draw_audit(verdicts: Sequence[Verdict], n: int = 80, *, seed: int = 0) -> AuditDraw:
    """Draw answers for an audit of the verdicts.

    Each combination of verdict and reason is a stratum.  At least one answer is drawn from each stratum of decided
    answers, and the other answers are drawn in proportion to the sizes of the strata.  All undecided answers form a
    single stratum, which contributes at most a fifth of the drawn answers.  A draw with the same seed and a larger `n`
    contains all answers of the smaller draw.

    Parameters
    ----------
    verdicts : sequence of Verdict
        The verdicts of all answers.
    n : int, default=80
        Number of answers to draw.  If there are fewer answers, all decided answers are drawn, and at most ``n / 5`` of
        the undecided ones.
    seed : int, default=0
        Random seed.

    Returns
    -------
    AuditDraw

    Raises
    ------
    DataError
        If `n` is smaller than the number of strata of decided answers, or if no answer is decided.

    Examples
    --------
    >>> import probemap
    >>> verdicts = [probemap.Verdict(True, "names an accepted answer")] * 30
    >>> verdicts += [probemap.Verdict(False, "names another answer")] * 60
    >>> verdicts += [probemap.Verdict(None, "refusal")] * 10
    >>> draw = probemap.draw_audit(verdicts, 20)
    >>> [(stratum.reason, stratum.drawn, stratum.weight) for stratum in draw.strata]
    [('names another answer', 12, 5.0), ('names an accepted answer', 6, 5.0), ('undecided', 2, 5.0)]
    """
    sizes = Counter((verdict.correct, verdict.reason) for verdict in verdicts if verdict.correct is not None)
    if not sizes:
        raise DataError(
            f"none of {len(verdicts)} answers is decided, so there are no verdicts to audit",
            "check the answers with `probemap inspect`, or grade them in another way",
        )
    if n < len(sizes):
        raise DataError(
            f"{n} answers are too few for an audit of {len(sizes)} combinations of verdict and reason",
            f"draw at least {len(sizes)} answers, better 80 or more",
        )
    ordered = sorted(sizes, key=lambda key: (-sizes[key], not key[0], key[1]))
    n_undecided = len(verdicts) - sizes.total()
    share = min(n_undecided, n // MAX_UNDECIDED, n - len(sizes), math.ceil(n * n_undecided / len(verdicts)))
    counts = allocate([sizes[key] for key in ordered], n - share)
    strata = [AuditStratum(*key, sizes[key], count) for key, count in zip(ordered, counts, strict=True)]
    numbers = {key: number for number, key in enumerate(ordered)}
    if share:
        strata.append(AuditStratum(None, POOLED, n_undecided, share))
    members: list[list[int]] = [[] for _ in strata]
    for row, verdict in enumerate(verdicts):
        number = len(ordered) if verdict.correct is None else numbers[verdict.correct, verdict.reason]
        if number < len(strata):
            members[number].append(row)
    # One random order of all answers determines which answers of each stratum are drawn, and a second one the order in
    # which they are shown.  Neither depends on n, so that a larger draw contains the smaller one.
    selection, display = (np.random.default_rng([seed, k]).permutation(len(verdicts)) for k in range(2))
    drawn = [
        (int(display[row]), row, number)
        for number, (stratum, rows) in enumerate(zip(strata, members, strict=True))
        for row in sorted(rows, key=lambda row: int(selection[row]))[: stratum.drawn]
    ]
    drawn.sort()
    return AuditDraw(tuple(strata), tuple(row for _, row, _ in drawn), tuple(number for *_, number in drawn))


def allocate(sizes: Sequence[int], n: int) -> list[int]:
    """Distribute `n` draws over strata.  Each stratum gets one draw, and the others are in proportion to the sizes.

    The method of Sainte-Laguë is used.  Unlike the largest remainder method, it never removes a draw from a stratum
    when `n` increases.

    Parameters
    ----------
    sizes : sequence of int
        Number of answers in each stratum.  It must be at least 1.
    n : int
        Number of draws.  It must be at least the number of strata.

    Returns
    -------
    list of int
        Number of draws from each stratum.  It does not exceed the size of the stratum.

    Examples
    --------
    >>> from probemap.studies.audit_draw import allocate
    >>> allocate([60, 30, 1], 10)
    [6, 3, 1]
    """
    counts = [1] * len(sizes)
    queue = [(-size / 3, k) for k, size in enumerate(sizes) if size > 1]
    heapq.heapify(queue)
    for _ in range(min(n, sum(sizes)) - len(sizes)):
        _, k = heapq.heappop(queue)
        counts[k] += 1
        if counts[k] < sizes[k]:
            heapq.heappush(queue, (-sizes[k] / (2 * counts[k] + 1), k))
    return counts
