"""Rankings of out-of-fold scores: counts of resamples, ranks within folds, intervals by question."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from probemap.probing.auc import Bools, Floats, Ints
from probemap.probing.fold_ranking import FoldRanking, fractional_ranks
from probemap.probing.resampling import question_copies, with_percentiles
from probemap.probing.selective import aurc, best_flagging_threshold, excess_aurc, prediction_rejection_ratio
from probemap.probing.threshold_counts import ThresholdCounts

COVERAGES = np.array([0.05, 0.5, 1.0])


def out_of_fold(n: int, seed: int, shift: float = 1.5) -> tuple[Floats, Bools, Ints]:
    """Return scores whose scale differs between five folds, labels, and folds that are stratified by label."""
    rng = np.random.default_rng(seed)
    correct, fold = rng.random(n) < 0.57, np.empty(n, np.int64)
    fold[np.argsort(correct, kind="stable")] = np.arange(n) % 5
    scores = (rng.normal(size=n) + shift * correct) * np.exp(rng.normal(size=5))[fold] + 3 * rng.normal(size=5)[fold]
    return scores, correct, fold


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans(), st.integers(0, 2)), min_size=4, max_size=20))
def test_threshold_counts_equal_the_metrics_of_repeated_answers(answers: list[tuple[int, bool, int]]) -> None:
    scores, correct, copies = (np.array(values) for values in zip(*answers, strict=True))
    counts = ThresholdCounts.of_scores(scores.astype(float), correct, np.stack([copies, np.ones_like(copies)], axis=1))
    for k, rows in enumerate((np.repeat(np.arange(len(copies)), copies), np.arange(len(copies)))):
        repeated, labels = scores[rows].astype(float), correct[rows]
        np.testing.assert_allclose(counts.aurc[k], aurc(repeated, labels), atol=1e-12)
        np.testing.assert_allclose(counts.excess_aurc[k], excess_aurc(repeated, labels), atol=1e-12)
        for share in (0.5, 1.0):
            expected = prediction_rejection_ratio(repeated, labels, max_rejection=share)
            np.testing.assert_allclose(counts.prediction_rejection_ratio(share)[k], expected, atol=1e-9)
        np.testing.assert_allclose(counts.highest_f1[k], best_flagging_threshold(repeated, labels).f1)
        if labels.any() and not labels.all():
            assert counts.auprc_incorrect[k] == pytest.approx(average_precision_score(~labels, -repeated))
            assert counts.auprc_correct[k] == pytest.approx(average_precision_score(labels, repeated))


def test_prediction_rejection_ratio_equals_the_mean_of_risks() -> None:
    scores, correct, _ = out_of_fold(30, 0)
    counts = ThresholdCounts.of_scores(scores, correct, np.ones((30, 1), int))
    risks, oracle = (counts_.risk_at(np.arange(1, 31) / 30)[-12:, 0].mean() for counts_ in (counts, counts.oracle))
    error_rate = (~correct).mean()
    assert counts.prediction_rejection_ratio(0.4)[0] == pytest.approx((error_rate - risks) / (error_rate - oracle))


def test_risk_at_hand_computed() -> None:
    scores, correct = np.array([4.0, 3.0, 3.0, 1.0]), np.array([True, False, True, False])
    counts = ThresholdCounts.of_scores(scores, correct, np.array([[1, 0], [1, 2], [1, 0], [1, 2]]))
    # Between 1 and 3 accepted answers, the tied answers count half an error each.
    np.testing.assert_allclose(counts.risk_at(np.array([0.25, 0.5, 0.75, 1.0]))[:, 0], [0, 0.5 / 2, 1 / 3, 2 / 4])
    assert counts.risk_at(COVERAGES)[:, 1].tolist() == [1, 1, 1], "the resample contains only errors"


def test_fold_ranking_does_not_depend_on_the_scales_of_the_folds() -> None:
    scores, correct, fold = out_of_fold(100, 0)
    copies = question_copies(np.arange(100), correct, resamples=20)
    ranking = FoldRanking.of_scores(scores[None], correct, fold[None], copies)
    rescaled = FoldRanking.of_scores((np.exp(fold) * scores - 50 * fold)[None], correct, fold[None], copies)
    for metric in ("auprc_incorrect", "aurc", "excess_aurc", "prr"):
        assert getattr(ranking, metric) == getattr(rescaled, metric)
    np.testing.assert_array_equal(ranking.risk_at(COVERAGES), rescaled.risk_at(COVERAGES))
    perfect = FoldRanking.of_scores((correct - 9.0 * fold)[None], correct, fold[None], copies)
    assert perfect.prr.value == pytest.approx(1, abs=0.005)
    assert aurc(correct - 9.0 * fold, correct) > 0.2, "pooled scores are not in a perfect order"


def test_fold_ranking_averages_over_repeats() -> None:
    scores, correct, fold = out_of_fold(100, 0)
    other_fold = np.random.default_rng(0).permutation(fold)
    both = np.stack([scores, -scores]), correct, np.stack([fold, other_fold]), np.ones((100, 1), int)
    expected = (
        aurc(fractional_ranks(scores, fold), correct) + aurc(fractional_ranks(-scores, other_fold), correct)
    ) / 2
    assert FoldRanking.of_scores(*both).aurc.value == pytest.approx(expected)


def test_with_percentiles_is_widened_by_the_variance_factor() -> None:
    values = np.array([0.5, *np.linspace(0.3, 0.7, 41)])
    assert with_percentiles(values) == pytest.approx([0.5, 0.31, 0.69])
    assert with_percentiles(values, 4.0) == pytest.approx([0.5, 0.12, 0.88])
    assert with_percentiles(values, 16.0, (0.0, 1.0)).tolist() == [0.5, 0.0, 1.0]
    np.testing.assert_array_equal(
        with_percentiles(np.stack([values, values])), with_percentiles(values)[:, None] * [1, 1]
    )
    values[1:22] = np.nan
    assert np.isnan(with_percentiles(values)[1:]).all(), "fewer than half of the resamples have a value"


def test_fold_ranking_intervals_cover_the_truth() -> None:
    rng = np.random.default_rng(1)
    correct = rng.random(200_000) < 0.57
    scores = rng.normal(size=200_000) + 1.5 * correct
    truth = FoldRanking.of_scores(scores[None], correct, np.zeros((1, 200_000), int), np.ones((200_000, 1), int))
    expected = [truth.auprc_incorrect.value, truth.aurc.value, truth.prr.value, *truth.risk_at(COVERAGES)[0]]
    covered, n_sets = np.zeros(6), 40
    for seed in range(n_sets):
        scores, correct, fold = out_of_fold(150, seed + 2)
        copies = question_copies(np.arange(150), correct, resamples=80, seed=seed)
        ranking = FoldRanking.of_scores(scores[None], correct, fold[None], copies)
        intervals = [ranking.auprc_incorrect, ranking.aurc, ranking.prr, *ranking.risk_at(COVERAGES).T]
        covered += [low <= value <= high for value, (_, low, high) in zip(expected, intervals, strict=True)]
    # With more data sets, 92 to 94 %, and 94 to 100 % for the curve.
    assert (covered / n_sets >= 0.92 - 3.5 * np.sqrt(0.92 * 0.08 / n_sets)).all()
    assert covered[3] / n_sets > 0.9, "although there is often no error at the lowest coverage"


def test_fold_ranking_counts_answers_of_one_question_once() -> None:
    scores, correct, fold = out_of_fold(120, 0)
    scores, correct, fold, groups = scores.repeat(4), correct.repeat(4), fold.repeat(4), np.arange(120).repeat(4)
    width = {}
    for name, numbers in (("by question", groups), ("by answer", np.arange(480))):
        copies = question_copies(numbers, correct)
        _, low, high = FoldRanking.of_scores(scores[None], correct, fold[None], copies).aurc
        width[name] = high - low
    assert width["by question"] == pytest.approx(2 * width["by answer"], rel=0.25), "the square root of 4"
