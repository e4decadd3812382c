"""AUC and its uncertainty against hand-computed cases, scikit-learn and simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from probemap.stats import auc, interval


def test_a_case_worked_by_hand() -> None:
    # right answers 3, 2, 1; wrong ones 2, 0.  Pairs: 3 beats both, 2 ties and beats, 1 loses and beats.
    estimate = auc(np.array([3.0, 2, 1, 2, 0]), np.array([True, True, True, False, False]))
    assert estimate.value == pytest.approx((2 + 1.5 + 1) / 6)
    # placements of right answers 1, .75, .5 (variance 1/16), of wrong ones .5, 1 (variance 1/8)
    assert estimate.variance() == pytest.approx((1 / 16) / 3 + (1 / 8) / 2)


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=40))
def test_ties_count_half_as_in_scikit_learn(rows: list[tuple[int, bool]]) -> None:
    scores = np.array([s for s, _ in rows], dtype=float)
    correct = np.array([c for _, c in rows])
    if correct.all() or not correct.any():
        with pytest.raises(ValueError, match="right and wrong"):
            auc(scores, correct)
        return
    assert auc(scores, correct).value == pytest.approx(roc_auc_score(correct, scores))


def test_asking_each_question_twice_does_not_halve_the_variance() -> None:
    draw = np.random.default_rng(0)
    correct = draw.random(300) < 0.5
    scores = draw.normal(size=300) + correct
    once = auc(scores, correct).variance()
    twice = auc(np.tile(scores, 2), np.tile(correct, 2))
    assert twice.variance() == pytest.approx(once / 2, rel=0.01), "taken as independent answers"
    assert twice.variance(np.tile(np.arange(300), 2)) == pytest.approx(once, rel=0.01), "as one draw per question"


def test_95_percent_intervals_cover_the_truth() -> None:
    draw = np.random.default_rng(1)
    truth = 0.8555  # of N(1.5, 1) against N(0, 1): Φ(1.5 / √2)
    hits = 0
    for _ in range(1000):
        correct = draw.random(200) < 0.4
        estimate = auc(draw.normal(size=200) + 1.5 * correct, correct)
        low, high = interval(estimate.value, estimate.variance(), int(correct.sum()), int((~correct).sum()))
        hits += low <= truth <= high
    assert 0.93 <= hits / 1000 <= 0.97


def test_perfect_separation_is_not_certainty() -> None:
    low, high = interval(1.0, 0.0, 12, 40)
    assert high == 1.0
    assert low == pytest.approx(0.025 ** (1 / 12))
    assert interval(0.5, 0.0, 12, 40) == (0.0, 1.0), "all scores are the same: nothing is known"
    assert interval(0.0, 0.0, 12, 40) == pytest.approx((0.0, 1 - low))
