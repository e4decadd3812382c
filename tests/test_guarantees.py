"""Guarantees of thresholds: by hand, with ties and groups, and by simulation."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from probemap.detectors.guarantees import acceptance_threshold, conformal_threshold
from probemap.records import DetectorError, MapError


@pytest.mark.parametrize(
    ("n", "rate", "threshold"),
    [
        (18, 0.05, -math.inf),  # ⌊0.05 × 19⌋ = 0
        (19, 0.05, 0.0),
        (38, 0.05, 0.0),
        (39, 0.05, 1.0),
        (99, 0.29, 28.0),  # 0.29 × 100 is 28.999999999999996 in floating point
        (4, 0.2, 0.0),
        (3, 0.2, -math.inf),
    ],
)
def test_conformal_threshold_is_an_order_statistic(n: int, rate: float, threshold: float) -> None:
    scores = np.random.default_rng(0).permutation(n).astype(float)
    assert conformal_threshold(scores, None, rate) == threshold


def test_conformal_threshold_of_groups_by_hand() -> None:
    # Four questions have a weight of 1/5 each; the answers of question a share theirs.
    scores, groups = np.array([1.0, 2.0, 3.0, 4.0, 5.0]), list("aabcd")
    assert conformal_threshold(scores, groups, 0.29) == 1.0  # 1/5 + 1/10 exceeds 0.29 at the first score
    assert conformal_threshold(scores, groups, 0.3) == 2.0  # 3/10 does not exceed 0.3, and 4/10 does
    assert conformal_threshold(scores, groups, 0.4) == 3.0
    assert conformal_threshold(scores, groups, 0.19) == -math.inf


def test_conformal_threshold_with_ties_flags_no_more_than_without() -> None:
    scores = np.array([0.0] * 30 + [1.0] * 69)
    threshold = conformal_threshold(scores, None, 0.2)
    assert threshold == 0.0
    assert not (scores < threshold).any()


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60), st.floats(0.01, 0.99))
def test_conformal_threshold_flags_at_most_its_rate_of_the_calibration_answers(
    values: list[float], rate: float
) -> None:
    scores = np.array(values)
    flagged = int((scores < conformal_threshold(scores, None, rate)).sum())
    assert flagged <= max(rate * (len(scores) + 1) - 1 + 1e-6, 0)


@pytest.mark.parametrize("n", [25, 100])
def test_conformal_threshold_keeps_its_rate_for_new_questions(n: int) -> None:
    draw = np.random.default_rng(n)
    flagged = []
    for _ in range(3000):
        sizes = draw.integers(1, 5, n + 1)
        group = np.repeat(np.arange(n + 1), sizes)
        scores = draw.normal(size=n + 1)[group] + draw.normal(size=len(group))
        old = group < n
        flagged.append(float((scores[~old] < conformal_threshold(scores[old], group[old], 0.2)).mean()))
    error = np.std(flagged) / math.sqrt(len(flagged))
    assert 0.2 - 1 / n - 3 * error < np.mean(flagged) < 0.2 + 3 * error


def test_acceptance_threshold_by_hand() -> None:
    scores = np.arange(200.0)
    accepted = acceptance_threshold(scores, scores >= 100, None, risk=0.1, confidence=0.95)
    assert accepted.score is not None
    errors = int(100 - accepted.score)
    # With one more error, the hypothesis of a risk above 10 % would not be rejected.
    assert binom.cdf(errors, 100 + errors, 0.1) <= 0.05 < binom.cdf(errors + 1, 101 + errors, 0.1)
    assert accepted.n_accepted == 100 + errors
    assert accepted.coverage.value == pytest.approx((100 + errors) / 200)
    assert accepted.observed_risk.value == pytest.approx(errors / (100 + errors))


def test_acceptance_threshold_accepts_all_or_nothing() -> None:
    scores = np.arange(100.0)
    everything = acceptance_threshold(scores, np.ones(100, bool), None, risk=0.1, confidence=0.9)
    assert everything.score == -math.inf
    assert everything.coverage.value == 1
    for correct, n in ((np.zeros(100, bool), 100), (np.ones(21, bool), 21), (np.ones(0, bool), 0)):
        nothing = acceptance_threshold(np.arange(float(n)), correct, None, risk=0.1, confidence=0.9)
        assert nothing.score is None, "22 answers without an error are needed"
        assert nothing.n_accepted == 0


@pytest.mark.parametrize("grouped", [False, True])
def test_acceptance_threshold_keeps_its_risk_with_its_confidence(grouped: bool) -> None:
    draw = np.random.default_rng(1)
    exceeded, coverage = [], []
    for seed in range(1500):
        sizes = draw.integers(1, 4, 200) if grouped else np.ones(200, int)
        group = np.repeat(np.arange(200), sizes)
        difficulty = draw.normal(size=200)[group]
        scores = difficulty + draw.normal(size=len(group))
        correct = draw.random(len(group)) < 1 / (1 + np.exp(-1.0 - 2 * scores))
        accepted = acceptance_threshold(scores, correct, group, risk=0.1, confidence=0.9, seed=seed)
        coverage.append(accepted.coverage.value)
        exceeded.append(accepted.score is not None and _risk(accepted.score) > 0.1)
    assert np.mean(exceeded) <= 0.1 + 3 * math.sqrt(0.1 * 0.9 / 1500)
    assert np.mean(coverage) > 0.3


def _risk(threshold: float) -> float:
    """Return the share of incorrect answers among those with a score of at least the threshold."""
    grid = np.linspace(max(threshold, -12), 12, 4001)
    density = np.exp(-(grid**2) / 4)
    return float((density / (1 + np.exp(1.0 + 2 * grid))).sum() / density.sum())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: conformal_threshold(np.ones(3), None, 1.5), DetectorError, "false_alarms must be between 0 and 1"),
        (lambda: conformal_threshold(np.array([np.nan]), None, 0.1), DetectorError, "1 of 1 scores are not finite"),
        (lambda: conformal_threshold(np.ones(3), ["a"], 0.1), MapError, "got 1 groups for 3 answers"),
        (
            lambda: acceptance_threshold(np.ones(3), np.ones(2, bool), None, risk=0.1),
            DetectorError,
            "got 2 labels for 3 scores",
        ),
        (lambda: acceptance_threshold(np.ones(3), np.ones(3, bool), None, risk=0), DetectorError, "risk must be"),
    ],
)
def test_guarantees_reject_invalid_input(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
