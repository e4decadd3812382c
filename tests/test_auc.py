"""AUC and its uncertainty against hand-computed cases, scikit-learn and simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from probemap.probing.auc import auc_interval, auc_values, aucs
from probemap.probing.inference import (
    sum_by_group,
)


def auc_and_variance(scores: np.ndarray, correct: np.ndarray) -> tuple[float, float]:
    """(AUC, its variance)."""
    made = aucs(scores[:, None], correct)
    return float(made.value[0]), float((made.influence**2).sum())


def test_aucs_hand_computed() -> None:
    # right answers 3, 2, 1; wrong ones 2, 0.  Pairs: 3 beats both, 2 ties and beats, 1 loses and beats.
    value, variance = auc_and_variance(np.array([3.0, 2, 1, 2, 0]), np.array([True, True, True, False, False]))
    assert value == pytest.approx((2 + 1.5 + 1) / 6)
    # placements of right answers 1, .75, .5 (variance 1/16), of wrong ones .5, 1 (variance 1/8)
    assert variance == pytest.approx((1 / 16) / 3 + (1 / 8) / 2)


def test_aucs_compares_within_strata_only() -> None:
    # stratum 0: right 1 against wrong 0; stratum 1: right 10, 30 against wrong 20: auc_and_variance pair of two is won.
    scores = np.array([[1.0], [0], [10], [30], [20]])
    correct = np.array([True, False, True, True, False])
    strata = np.array([0, 0, 1, 1, 1])
    made = aucs(scores, correct, strata)
    assert made.value[0] == pytest.approx(2 / 3), "two of three pairs"
    # n_s V - n_s A: right answers 1 - 2/3, 0 - 2/3, 1 - 2/3; wrong ones 1 - 2/3, 2 (1/2 - 2/3), all over 3 pairs
    expected = np.array([1 / 3, 1 / 3 * np.sqrt(4 / 3), -2 / 3, 1 / 3, -1 / 3 * np.sqrt(4 / 3)]) / 3
    expected[[0, 2, 3]] *= np.sqrt(3 / 2)
    expected[[1, 4]] *= np.sqrt(2) / np.sqrt(4 / 3)
    np.testing.assert_allclose(made.influence[:, 0], expected)
    assert auc_values(scores, correct[:, None], strata)[0] == pytest.approx(2 / 3)
    alone = aucs(scores, correct, np.array([0, 1, 2, 3, 4]))
    assert np.isnan(alone.value[0])
    assert not alone.influence.any()


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans(), st.integers(0, 1)), min_size=2, max_size=40))
def test_aucs_equals_scikit_learn_with_ties(rows: list[tuple[int, bool, int]]) -> None:
    scores = np.array([s for s, _, _ in rows], dtype=float)
    correct = np.array([c for _, c, _ in rows])
    strata = np.array([k for _, _, k in rows])
    whole = aucs(scores[:, None], correct).value[0]
    if correct.all() or not correct.any():
        assert np.isnan(whole)
        return
    assert whole == pytest.approx(roc_auc_score(correct, scores))
    parts, pairs = 0.0, 0
    for k in (0, 1):
        mine = correct[strata == k]
        if mine.any() and not mine.all():
            weight = int(mine.sum() * (~mine).sum())
            parts += weight * roc_auc_score(mine, scores[strata == k])
            pairs += weight
    split = aucs(scores[:, None], correct, strata).value[0]
    assert split == pytest.approx(parts / pairs) if pairs else np.isnan(split)
    labels = np.stack([correct, ~correct], axis=1)
    both = auc_values(np.stack([scores, scores], axis=1), labels, strata)
    assert np.allclose(both, [split, 1 - split], equal_nan=True)


def test_sum_by_group_counts_repeated_questions_once() -> None:
    draw = np.random.default_rng(0)
    correct = draw.random(300) < 0.5
    scores = draw.normal(size=300) + correct
    once = auc_and_variance(scores, correct)[1]
    twice = aucs(np.tile(scores, 2)[:, None], np.tile(correct, 2)).influence
    assert (twice**2).sum() == pytest.approx(once / 2, rel=0.01), "taken as independent answers"
    grouped = sum_by_group(twice, np.tile(np.arange(300), 2))
    assert (grouped**2).sum() == pytest.approx(once, rel=0.01), "as auc_and_variance draw per question"


def test_aucs_covariance_is_delongs() -> None:
    # By the definition: sample covariances of the placement values, S10 / m + S01 / n.
    draw = np.random.default_rng(3)
    correct = draw.random(60) < 0.4
    scores = draw.normal(size=(60, 2)) + correct[:, None]
    scores[:, 1] += scores[:, 0]
    made = aucs(scores, correct)
    right, wrong = scores[correct], scores[~correct]
    wins = (right[:, None, :] > wrong[None, :, :]).astype(float)
    s10, s01 = np.cov(wins.mean(1).T), np.cov(wins.mean(0).T)
    np.testing.assert_allclose(made.influence.T @ made.influence, s10 / len(right) + s01 / len(wrong))


def test_auc_interval_covers_the_truth() -> None:
    draw = np.random.default_rng(1)
    truth = 0.8555  # of N(1.5, 1) against N(0, 1): Φ(1.5 / √2)
    hits = 0
    for _ in range(1000):
        correct = draw.random(200) < 0.4
        value, variance = auc_and_variance(draw.normal(size=200) + 1.5 * correct, correct)
        low, high = auc_interval(value, variance, int(correct.sum()), int((~correct).sum()))
        hits += low <= truth <= high
    assert 0.93 <= hits / 1000 <= 0.97


def test_auc_interval_with_perfect_separation() -> None:
    low, high = auc_interval(1.0, 0.0, 12, 40)
    assert high == 1.0
    assert low == pytest.approx(0.025 ** (1 / 12))
    assert auc_interval(0.5, 0.0, 12, 40) == (0.0, 1.0), "all scores are the same: nothing is known"
    assert auc_interval(0.0, 0.0, 12, 40) == pytest.approx((0.0, 1 - low))
