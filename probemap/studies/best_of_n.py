"""Picking one of several answers to a question: by the probe, against what needs no probe.

After tables 13 and 14 of Orgad et al. 2024 (arXiv 2410.02707).  An undecided pick (a refusal, an answer cut off) is not
right.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import norm

from probemap.probing.auc import LEVEL, Floats
from probemap.studies.error_types import KINDS, Sampled
from probemap.tables import Table, listed, ranged, signed

RULES: dict[str, str] = {
    "greedy": "the run's own answer, if that was drawn at temperature 0",
    "random": "any of the samples: the mean over all of them",
    "majority": "what most samples answer, of equals the first; refusals only where nothing else is there",
    "probe": "the sample that the probe trusts most, of equals the first",
    "best possible": "right if any sample is",
}
"""Name -> how an answer is picked, in the order in which they are shown."""

FEWEST = 10
"""Questions of a kind, with fewer of which nothing is said about it."""


@dataclass(frozen=True)
class Trust:
    """What a probe that has not seen the question makes of one sample."""

    by: Literal["main", "fallback", "none"]
    """The cells that judged: answers that lack an exact answer are judged by the fallback, and come after the others,
    because scores of different probes are on no common scale."""
    score: float | None

    @property
    def order(self) -> tuple[int, float]:
        """Higher is trusted more."""
        return ("none", "fallback", "main").index(self.by), float("-inf") if self.score is None else self.score


@dataclass(frozen=True)
class Question:
    """One question with all that is chosen from."""

    sampled: Sampled
    greedy: bool | None
    """The verdict on the run's own answer."""
    trust: tuple[Trust, ...]
    """Of each sample."""
    kinds: str
    """See `kinds.kinds_of`."""
    group: str
    """Questions of one group count as one draw."""

    @property
    def majority(self) -> int:
        """The number of the sample that majority picks."""
        meaning, gives = self.sampled.meaning, self.sampled.gives
        return max(range(len(meaning)), key=lambda i: (gives[i] == "answer", meaning.count(meaning[i]), -i))

    @property
    def trusted(self) -> int:
        """The number of the sample that the probe picks."""
        return max(range(len(self.trust)), key=lambda i: (*self.trust[i].order, -i))

    def right(self, rule: str) -> float:
        """How right the pick is: 1 or 0, between them for ``random``."""
        correct = [verdict is True for verdict in self.sampled.correct]
        if rule == "random":
            return sum(correct) / len(correct)
        picks = {
            "greedy": self.greedy is True,
            "majority": correct[self.majority],
            "probe": correct[self.trusted],
            "best possible": any(correct),
        }
        return float(picks[rule])


def share(values: Floats, groups: Sequence[str], level: float = LEVEL) -> tuple[float, float, float]:
    """The mean of values between 0 and 1, with its interval.

    Two values of 1 and two of 0 are added before the normal interval is taken (Agresti & Coull 1998), so that all or
    none of a few are not certain.

    Parameters
    ----------
    groups: values of one group count as one draw.
    """
    low, high = _interval(values, groups, [(1.0, 2.0), (0.0, 2.0)], level)
    return float(values.mean()), max(low, 0.0), min(high, 1.0)


def share_difference(values: Floats, groups: Sequence[str], level: float = LEVEL) -> tuple[float, float, float]:
    """The mean of paired differences between -1 and 1, with its interval.

    One half of a pair of each of the four outcomes is added before (Agresti & Min 2005, Stat. Med. 24:729).
    """
    low, high = _interval(values, groups, [(-1.0, 0.5), (0.0, 1.0), (1.0, 0.5)], level)
    return float(values.mean()), max(low, -1.0), min(high, 1.0)


def _interval(
    values: Floats, groups: Sequence[str], added: Sequence[tuple[float, float]], level: float
) -> tuple[float, float]:
    """Of the mean of `values` and some added ones, each with its weight."""
    n = len(values) + sum(weight for _, weight in added)
    mean = (values.sum() + sum(value * weight for value, weight in added)) / n
    number = np.unique(list(groups), return_inverse=True)[1]
    variance = float((np.bincount(number, values - mean) ** 2).sum())
    variance += sum(weight * (value - mean) ** 2 for value, weight in added)
    half = float(norm.ppf(0.5 + level / 2)) * np.sqrt(variance) / n
    return float(mean - half), float(mean + half)


COLUMNS = ("questions", "n", "picked by", "right", "low", "high", "probe minus it", "difference low", "difference high")


def compare(questions: Sequence[Question], *, own: str = "greedy") -> Table:
    """How often each rule picks a right answer, over all questions and those of each kind, and the probe against it.

    Parameters
    ----------
    own: what the run's own answers are called, where they were not drawn at temperature 0.
    """
    rows: list[tuple[str | int | float | None, ...]] = []
    for kind in ("", *KINDS):
        mine = [q for q in questions if kind in q.kinds]
        groups = [q.group for q in mine]
        name = f"{kind}: {KINDS[kind].split(' (')[0]}" if kind else "all"
        if len(mine) < FEWEST:
            rows.append((name, len(mine), *[None] * (len(COLUMNS) - 2)))
            continue
        picked = {rule: np.array([q.right(rule) for q in mine]) for rule in RULES}
        for rule, values in picked.items():
            against = (None,) * 3 if rule == "probe" else share_difference(picked["probe"] - values, groups)
            rows.append((name, len(mine), own if rule == "greedy" else rule, *share(values, groups), *against))
    return Table("One of several answers, picked", COLUMNS, tuple(rows), tuple(_words(questions, rows, own)))


def _words(questions: Sequence[Question], rows: Sequence[tuple[object, ...]], own: str) -> list[str]:
    of = {str(row[2]): row for row in rows if row[0] == "all" and row[2] is not None}
    if not of:
        return [f"{len(questions)} questions are too few to say anything."]
    k = len(questions[0].sampled.correct)
    value, low, high = (float(str(x)) for x in of["probe"][3:6])
    said = [
        f"Of {k} answers to each of {len(questions)} questions the probe picks a right one in "
        f"{ranged(value, low, high)} of the cases."
    ]
    verdicts: dict[str, list[str]] = {"more often than": [], "less often than": [], "no differently than": []}
    for rule in (own, "random", "majority"):
        difference, low, high = (float(str(x)) for x in of[rule][6:9])
        how = "more often than" if low > 0 else "less often than" if high < 0 else "no differently than"
        verdicts[how].append(f"{rule} ({signed(difference, low, high)})")
    for how, named in verdicts.items():
        if named and how != "no differently than":
            said.append(f"That is {how} by {listed(named)}.")
        elif named:
            said.append(f"No difference can be shown to {listed(named)}.")
    of_kinds: dict[str, list[str]] = {"more": [], "less": []}
    for row in rows:
        if row[0] != "all" and row[2] == own:
            difference, low, high = (float(str(x)) for x in row[6:9])
            if low > 0 or high < 0:
                of_kinds["more" if low > 0 else "less"].append(f"{str(row[0])[0]} ({signed(difference, low, high)})")
    for how, named in of_kinds.items():
        if named:
            said.append(f"Of the kinds of errors it is {how} often right than {own} in {listed(named)}.")
    return said
