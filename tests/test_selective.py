"""Metrics of scores as predictors of correct answers: hand-computed cases, scikit-learn, invariances, intervals."""

import itertools
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, brier_score_loss, f1_score, log_loss

from probemap.probing.auc import Bools, Floats
from probemap.probing.bootstrap import selective_metrics
from probemap.probing.selective import (
    aurc,
    best_flagging_threshold,
    calibration_gaps,
    excess_aurc,
    prediction_rejection_ratio,
    risk_coverage_curve,
)
from probemap.records import MapError
from probemap.tables import Interval

EMPTY, NO_LABELS = np.zeros(0), np.zeros(0, bool)

ANSWERS = st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=1, max_size=30)
"""Scores with ties, and labels."""


def arrays(answers: list[tuple[int, bool]]) -> tuple[Floats, Bools]:
    return np.array([score for score, _ in answers], np.float64), np.array([label for _, label in answers], bool)


def simulated(n: int, seed: int = 0) -> tuple[Floats, Floats, Bools]:
    """Return scores, calibrated probabilities and labels."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(scale=2, size=n)
    p = 1 / (1 + np.exp(-scores))
    return scores, p, rng.random(n) < p


def test_aurc_hand_computed() -> None:
    scores, correct = np.array([4.0, 3.0, 2.0, 1.0]), np.array([True, False, True, False])
    # Risks among the first 1, 2, 3 and 4 answers: 0, 1/2, 1/3, 1/2; of the oracle: 0, 0, 1/3, 1/2.
    assert aurc(scores, correct) == pytest.approx((1 / 2 + 1 / 3 + 1 / 2) / 4)
    assert excess_aurc(scores, correct) == pytest.approx(1 / 8)
    # Areas 1 - 1/3 and 1 - 5/24; random 1/2.
    assert prediction_rejection_ratio(scores, correct) == pytest.approx((2 / 3 - 1 / 2) / (19 / 24 - 1 / 2))
    # At most half rejected: 3 and 4 answers remain; scores and oracle are equal there.
    assert prediction_rejection_ratio(scores, correct, max_rejection=0.5) == pytest.approx(1)
    assert np.isnan(prediction_rejection_ratio(scores, correct, max_rejection=0.2)), "no answer may be rejected"


def test_risk_coverage_curve_has_one_point_per_distinct_score() -> None:
    curve = risk_coverage_curve(np.array([1.0, 5.0, 5.0, 2.0]), np.array([False, True, False, True]))
    np.testing.assert_allclose(curve.threshold, [5, 2, 1])
    np.testing.assert_allclose(curve.coverage, [0.5, 0.75, 1])
    np.testing.assert_allclose(curve.risk, [1 / 2, 1 / 3, 1 / 2])
    assert len(risk_coverage_curve(EMPTY, NO_LABELS).risk) == 0


def test_ties_count_as_the_mean_over_their_orders() -> None:
    scores, correct = np.array([2.0, 1.0, 1.0, 1.0, 0.0]), np.array([True, True, False, False, True])
    orders = [aurc(scores + 0.01 * np.array([0, *order, 0]), correct) for order in itertools.permutations(range(3))]
    assert aurc(scores, correct) == pytest.approx(np.mean(orders))
    assert prediction_rejection_ratio(np.zeros(5), correct) == pytest.approx(0), "constant scores are random"


@given(ANSWERS, st.randoms(use_true_random=False))
def test_metrics_depend_on_ranks_only_and_not_on_the_order_of_answers(
    answers: list[tuple[int, bool]], random: "np.random.RandomState"
) -> None:
    scores, correct = arrays(answers)
    shuffled = list(answers)
    random.shuffle(shuffled)
    other_scores, other_correct = arrays(shuffled)
    for metric in (aurc, excess_aurc, prediction_rejection_ratio):
        expected = metric(scores, correct)
        np.testing.assert_allclose(metric(other_scores, other_correct), expected, atol=1e-12)
        np.testing.assert_allclose(metric(np.exp(scores) - 7, correct), expected, atol=1e-12)
    assert -1e-12 <= excess_aurc(scores, correct) <= aurc(scores, correct) <= 1
    ratio = prediction_rejection_ratio(scores, correct)
    assert np.isnan(ratio) == (len(set(correct.tolist())) == 1)
    assert np.isnan(ratio) or ratio <= 1 + 1e-12
    if not np.isnan(ratio):  # both normalise the same area
        assert ratio == pytest.approx(1 - excess_aurc(scores, correct) / excess_aurc(np.zeros(len(scores)), correct))


@given(ANSWERS)
def test_best_flagging_threshold_is_the_best_of_all_thresholds(answers: list[tuple[int, bool]]) -> None:
    scores, correct = arrays(answers)
    best = best_flagging_threshold(scores, correct)
    if correct.all() or not correct.any():
        assert np.isnan([best.score, best.f1, best.precision, best.recall]).all()
        return
    cuts = [*np.unique(scores), np.inf]
    values = [f1_score(~correct, scores < cut, zero_division=0) for cut in cuts]
    assert best.f1 == pytest.approx(max(values))
    assert best.score == cuts[int(np.flatnonzero(np.isclose(values, max(values)))[0])], "the lowest of the best"
    flagged = scores < best.score
    assert best.precision == pytest.approx((~correct)[flagged].mean())
    assert best.recall == pytest.approx(flagged[~correct].mean())


def test_calibration_gaps_hand_computed() -> None:
    p, correct = np.array([0.0, 0.1, 0.1000001, 1.0]), np.array([False, True, False, True])
    # Bins: [0, 0.1] holds two answers (mean 0.05, half correct), (0.1, 0.2] one, (0.9, 1] one.
    expected, maximum = calibration_gaps(p, correct)
    assert expected == pytest.approx((2 * 0.45 + 0.1000001) / 4)
    assert maximum == pytest.approx(0.45)
    assert calibration_gaps(p, correct, bins=1)[0] == pytest.approx(abs(p.mean() - 0.5))


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=30))
def test_calibration_gaps_are_ordered(answers: list[tuple[float, bool]]) -> None:
    p, correct = np.array([p for p, _ in answers]), np.array([label for _, label in answers])
    expected, maximum = calibration_gaps(p, correct)
    assert abs(p.mean() - correct.mean()) - 1e-12 <= expected <= maximum + 1e-12
    assert maximum <= 1 + 1e-12


@pytest.mark.parametrize("tied", [False, True])
def test_selective_metrics_equal_scikit_learn(tied: bool) -> None:
    scores, p, correct = simulated(300)
    if tied:
        scores, p = np.round(scores), np.round(p, 1)
    metrics = selective_metrics(scores, p, correct, resamples=0)
    assert metrics.auprc_incorrect.value == pytest.approx(average_precision_score(~correct, -scores), abs=1e-12)
    assert metrics.auprc_correct.value == pytest.approx(average_precision_score(correct, scores), abs=1e-12)
    assert metrics.log_loss.value == pytest.approx(log_loss(correct, p), abs=1e-12)
    assert metrics.brier.value == pytest.approx(brier_score_loss(correct, p), abs=1e-12)
    assert metrics.f1.value == pytest.approx(f1_score(~correct, scores < metrics.f1_threshold), abs=1e-12)
    assert (metrics.ece, metrics.mce) == calibration_gaps(p, correct)
    assert np.isnan([metrics.prr.low, metrics.prr.high]).all(), "no resamples"


def test_selective_metrics_of_one_class_and_of_no_answers() -> None:
    p = np.array([0.5, 1.0, 1.0])
    for metrics in (
        selective_metrics(p, p, np.ones(3, bool)),
        selective_metrics(EMPTY, EMPTY, NO_LABELS),
    ):
        for interval in (metrics.auprc_incorrect, metrics.auprc_correct, metrics.prr, metrics.f1):
            assert np.isnan(interval).all()
        assert np.isnan([metrics.aurc.low, metrics.log_loss.high, metrics.f1_threshold]).all()
    metrics = selective_metrics(p, p, np.ones(3, bool))
    assert metrics.aurc.value == 0
    assert metrics.log_loss.value == pytest.approx(np.log(2) / 3)
    assert selective_metrics(p, p, np.zeros(3, bool)).aurc.value == 1
    assert np.isfinite(selective_metrics(p, p, np.zeros(3, bool)).log_loss.value), "p = 1 for an incorrect answer"


def test_selective_metrics_intervals_contain_the_values_and_are_reproducible() -> None:
    scores, p, correct = simulated(1000)
    start = time.process_time()
    metrics = selective_metrics(scores, p, correct)
    assert time.process_time() - start < 10, "about 1 s on an idle core"
    assert metrics == selective_metrics(scores, p, correct)
    assert metrics != selective_metrics(scores, p, correct, seed=1)
    for name in "auprc_incorrect auprc_correct aurc excess_aurc prr prr_half f1 log_loss brier".split():
        interval: Interval = getattr(metrics, name)
        assert interval.low < interval.value < interval.high
        assert interval.high - interval.low < 0.25


def test_selective_metrics_intervals_cover_the_truth() -> None:
    held, n_sets = np.zeros(3), 40
    scores, p, correct = simulated(200_000, seed=1)
    truth = aurc(scores, correct), prediction_rejection_ratio(scores, correct), float(((p - correct) ** 2).mean())
    for seed in range(n_sets):
        metrics = selective_metrics(*simulated(200, seed + 2), resamples=60)
        held += [i.low <= t <= i.high for i, t in zip((metrics.aurc, metrics.prr, metrics.brier), truth, strict=True)]
    assert (held / n_sets >= 0.95 - 3.5 * np.sqrt(0.95 * 0.05 / n_sets)).all()


def test_selective_metrics_count_answers_of_one_question_once() -> None:
    scores, p, correct = simulated(150)
    groups = [f"question {i}" for i in range(150)]
    alone = selective_metrics(scores, p, correct, groups=groups)
    repeated = np.repeat(scores, 4), np.repeat(p, 4), np.repeat(correct, 4)
    copies = selective_metrics(*repeated, groups=np.repeat(groups, 4))
    assert copies.brier == pytest.approx(alone.brier)
    assert copies.aurc == pytest.approx(alone.aurc, abs=0.02)
    narrow = selective_metrics(*repeated)
    assert narrow.brier.high - narrow.brier.low < 0.7 * (copies.brier.high - copies.brier.low)


def test_invalid_values_are_refused() -> None:
    scores, p, correct = simulated(10)
    with pytest.raises(MapError, match="1 of 10 scores are not finite"):
        aurc(np.where(np.arange(10) == 3, np.nan, scores), correct)
    with pytest.raises(MapError, match="one score per label"):
        prediction_rejection_ratio(scores[1:], correct)
    with pytest.raises(MapError, match="must be between 0 and 1"):
        selective_metrics(scores, scores, correct)
    with pytest.raises(MapError):
        selective_metrics(scores, p, correct, groups=["a"])
