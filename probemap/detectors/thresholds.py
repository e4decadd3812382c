"""Determine the thresholds of a detector from the scores that the exported probes assign to held-out answers.

A guarantee requires scores that are exchangeable with those of new answers.  Out-of-fold scores are not: they come from
other probes, and from answers that were used to select the cell.  The thresholds are therefore determined from held-out
answers, which have no influence on the probes.  The answers of both heads are pooled in the order of their calibrated
probabilities, because a guarantee concerns the whole detector, and few answers are scored by the fallback.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from probemap.detectors.guarantees import acceptance_threshold, conformal_threshold
from probemap.detectors.head import Acceptance, Head, Threshold
from probemap.records import DetectorError

if TYPE_CHECKING:
    from probemap.detectors.detector import StateScores
    from probemap.probing.auc import Bools, Floats, Ints

_NAN = float("nan")
_ALL = 1e100  # a threshold above every score; see files.MAX_ABS


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits that the thresholds of a detector keep; see `fit_detector`."""

    false_alarms: tuple[float, ...] = (0.05, 0.2)
    risks: tuple[float, ...] = (0.1,)
    confidence: float = 0.9

    def __post_init__(self) -> None:
        for name, shares, meaning in (
            ("false_alarms", self.false_alarms, "false-alarm rates as shares of the correct answers"),
            ("risks", self.risks, "risks as shares of the accepted answers"),
            ("confidence", (self.confidence,), "the confidence as a probability"),
        ):
            if any(not 0 < share < 1 for share in shares):
                raise DetectorError(f"{name} must be between 0 and 1, got {list(shares)}", f"pass {meaning}")


def with_thresholds(
    heads: dict[Literal["primary", "fallback"], Head],
    scores: StateScores,
    correct: Bools,
    group: Ints,
    limits: Limits,
) -> dict[Literal["primary", "fallback"], Head]:
    """Return the heads of a detector with their thresholds.

    Parameters
    ----------
    heads : dict of str to Head
        The primary head and, if there is one, the fallback.
    scores : StateScores
        The detector's scores of the held-out answers.
    correct : ndarray of shape (n_held_out,), bool
    group : ndarray of shape (n_held_out,), int
        The question of each answer.
    limits : Limits
    """
    names = np.array(scores.judged_by, object)
    order = np.lexsort((scores.score, scores.p_correct))  # by probability, and by score if probabilities are equal
    rank = np.empty(len(order))
    rank[order] = np.arange(len(order), dtype=np.float64)
    used = names != "none"
    positive = used & correct
    flagged_below = [_known(conformal_threshold(rank[positive], group[positive], rate)) for rate in limits.false_alarms]
    accepted_from = [
        acceptance_threshold(rank[used], correct[used], group[used], risk=risk, confidence=limits.confidence).score
        for risk in limits.risks
    ]

    def boundary(head: Head, name: str, value: float | None) -> tuple[float, float]:
        """Return the score of a head, and the probability, that correspond to a rank, or NaN if there is none."""
        if value is None:
            return _NAN, _NAN
        if value == -np.inf:
            return -_ALL, 0.0
        (row,) = np.flatnonzero(rank == value)
        p = float(scores.p_correct[row])
        score = float(scores.score[row]) if names[row] == name else head.score_at(p)
        return float(np.clip(score, -_ALL, _ALL)), p

    complete = {}
    for name, head in heads.items():
        rows = names == name
        complete[name] = replace(
            head,
            thresholds=tuple(
                _threshold(rate, *boundary(head, name, value), scores.score[rows], correct[rows])
                for rate, value in zip(limits.false_alarms, flagged_below, strict=True)
            ),
            acceptances=tuple(
                _acceptance((risk, limits.confidence), *boundary(head, name, value), scores.score[rows], correct[rows])
                for risk, value in zip(limits.risks, accepted_from, strict=True)
            ),
        )
    return complete


def _known(rank: float) -> float | None:
    return None if rank == -np.inf else rank


def _threshold(false_alarms: float, score: float, p_correct: float, scores: Floats, correct: Bools) -> Threshold:
    flagged = scores < score
    return Threshold(
        false_alarms=false_alarms,
        score=score,
        p_correct=p_correct,
        flagged_correct=_mean(flagged[correct]),
        flagged_incorrect=_mean(flagged[~correct]),
        precision=_mean(~correct[flagged]),
    )


def _acceptance(
    guarantee: tuple[float, float], score: float, p_correct: float, scores: Floats, correct: Bools
) -> Acceptance:
    accepted = scores >= score
    return Acceptance(
        risk=guarantee[0],
        confidence=guarantee[1],
        score=score,
        p_correct=p_correct,
        coverage=_mean(accepted),
        incorrect=_mean(~correct[accepted]),
    )


def _mean(values: Bools) -> float:
    return float(values.mean()) if len(values) else _NAN
