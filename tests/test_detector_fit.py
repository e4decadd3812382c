"""`fit_detector` on states with a planted difference, calibration, and the scores of heads."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planted_states import POSITIONS, at_cells, planted
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from probemap.detectors.calibration import calibrate
from probemap.detectors.card import model_card
from probemap.detectors.detector import Detector
from probemap.detectors.fit import fit_detector
from probemap.detectors.head import Cell, Evaluation, Head, Threshold
from probemap.records import DetectorError, MapError

NOT_EVALUATED = Evaluation(
    n=0,
    n_correct=0,
    auc=np.nan,
    auc_low=np.nan,
    auc_high=np.nan,
    brier=np.nan,
    calibration_error=np.nan,
    calibration_noise=np.nan,
)
PLATT = Head(
    cells=(Cell(0, "-1"),),
    weight=np.ones((1, 2)),
    bias=np.zeros(1),
    calibration=np.array([[2.0], [-1.0]]),
    calibration_method="platt",
    evaluation=NOT_EVALUATED,
    thresholds=(),
)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return fit_detector(*planted(), positions=POSITIONS)


def test_fit_detector_selects_the_planted_cell_and_a_fallback(detector: Detector) -> None:
    assert detector.primary.cells == (Cell(1, "exact_answer_last"),)
    assert detector.fallback is not None
    assert detector.fallback.cells == (Cell(2, "-1"),)
    truth = {2.0: 0.9214, 1.0: 0.7602}  # Φ(δ / √2)
    for head, auc in ((detector.primary, truth[2.0]), (detector.fallback, truth[1.0])):
        assert head.evaluation.auc == pytest.approx(auc, abs=0.06)
        assert head.evaluation.calibration_error < 0.1
        assert head.evaluation.calibration_noise < 0.08
    assert detector.fallback.evaluation.n == 480, "two fifths of the answers"
    assert 360 < detector.primary.evaluation.n < 408, "those with an exact answer, four fifths of them"


def test_fit_detector_evaluates_on_held_out_answers_only() -> None:
    states, correct = planted()
    held_out = np.arange(1200) >= 900
    detector = fit_detector(states, correct, positions=POSITIONS, held_out=held_out)
    rows = held_out & ~np.isnan(states[:, 0, 1, 0])
    p = detector.p_correct(at_cells(detector, states))[rows]
    assert detector.primary.evaluation.n == rows.sum()
    assert detector.primary.evaluation.auc == pytest.approx(roc_auc_score(correct[rows], p))
    assert detector.primary.evaluation.brier == pytest.approx(((p - correct[rows]) ** 2).mean())
    metrics = detector.primary.evaluation.metrics
    assert metrics is not None
    assert metrics.auprc_incorrect.value == pytest.approx(average_precision_score(~correct[rows], 1 - p))
    assert metrics.brier.low < detector.primary.evaluation.brier < metrics.brier.high
    for threshold in detector.primary.thresholds:
        flagged = detector.primary.scores(at_cells(detector, states)[rows][:, :1]) < threshold.score
        assert threshold.flagged_correct == pytest.approx(flagged[correct[rows]].mean())
        assert threshold.flagged_incorrect == pytest.approx(flagged[~correct[rows]].mean())
        assert threshold.precision == pytest.approx((~correct[rows])[flagged].mean())
        assert 0 < threshold.flagged_correct <= threshold.false_alarms
    # Held-out answers affect only the evaluation and the thresholds.
    changed = states.copy()
    changed[held_out] += 100
    refitted = fit_detector(changed, correct, positions=POSITIONS, held_out=held_out)
    assert np.array_equal(refitted.primary.weight, detector.primary.weight)


def test_head_scores_equal_scikit_learn_with_standardisation() -> None:
    states, correct = planted()
    held_out = np.arange(1200) >= 900
    detector = fit_detector(
        states, correct, positions=POSITIONS, held_out=held_out, cells=[(1, "exact_answer_last")], c=0.1
    )
    rows = ~held_out & ~np.isnan(states[:, 0, 1, 0])
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, tol=1e-10, max_iter=10_000))
    probe.fit(states[rows, 1, 1].astype(float), correct[rows])
    x = states[~np.isnan(states[:, 0, 1, 0]), 1, 1]
    np.testing.assert_allclose(detector.primary.scores(x[:, None]), probe.decision_function(x.astype(float)), atol=1e-5)


def test_score_states_uses_the_fallback_if_the_exact_answer_is_missing(detector: Detector) -> None:
    states, _ = planted()
    cell_states = at_cells(detector, states)[:10]
    assert detector.score_states(cell_states).judged_by == ["fallback" if i % 5 == 0 else "primary" for i in range(10)]
    p = detector.p_correct(cell_states)
    fallback = detector.fallback
    assert fallback is not None
    np.testing.assert_allclose(p[::5], fallback.probabilities(fallback.scores(cell_states[::5, 1:])))
    np.testing.assert_allclose(p[1:5], detector.primary.probabilities(detector.primary.scores(cell_states[1:5, :1])))
    without_fallback = replace(detector, fallback=None)
    scores = without_fallback.score_states(cell_states[:2, :1])
    assert np.isnan([scores.p_correct[0], scores.score[0]]).all()
    assert scores.judged_by == ["none", "primary"]
    assert without_fallback.is_flagged(scores)[0] is None
    assert without_fallback.is_flagged(scores)[1] == (scores.score[1] < detector.primary.threshold().score)


def without_exact(n: int, seed: int, share: float) -> tuple[np.ndarray, np.ndarray]:
    """As `planted`, but the answers without an exact answer are correct at this rate, independently of their states."""
    states, correct = planted(n, seed)
    correct[::5] = np.random.default_rng([seed, 1]).random(len(correct[::5])) < share
    return states, correct


@pytest.mark.parametrize("n", [700, 3000])
def test_fallback_probabilities_match_answers_without_exact_answer(n: int) -> None:
    rare = fit_detector(*without_exact(n, 1, 0.06), positions=POSITIONS)
    assert rare.fallback is not None
    fresh, truth = without_exact(5000, 2, 0.06)
    p = rare.p_correct(at_cells(rare, fresh))[::5]
    assert truth[::5].mean() == pytest.approx(0.06, abs=0.02)
    assert p.mean() == pytest.approx(0.06, abs=0.04)
    # Most of these answers are flagged, because few of them are correct.
    threshold = rare.fallback.thresholds[1]
    flagged = rare.fallback.scores(at_cells(rare, fresh)[::5, 1:]) < threshold.score
    assert p[flagged].max() <= threshold.p_correct <= p[~flagged].min(initial=1.0)
    assert flagged.mean() > 0.8
    card = model_card(rare.primary, rare.fallback, rare.provenance)
    assert "Its probabilities take into account how often answers that lack a position were correct." in card
    # The evaluation includes the other answers, with their own probabilities.
    assert rare.fallback.evaluation.n > 100
    assert rare.fallback.evaluation.calibration_error < 0.08 + rare.fallback.evaluation.calibration_noise


def test_fallback_is_unchanged_if_answers_without_exact_answer_are_like_the_others() -> None:
    same = fit_detector(*planted(), positions=POSITIONS)
    states, correct = planted()
    alone = fit_detector(states, correct, positions=POSITIONS, cells=[(2, "-1")])
    assert same.fallback is not None
    assert np.array_equal(same.fallback.weight, alone.primary.weight)
    unit = float(np.std(alone.primary.scores(states[:, 2, 2][:, None])))
    assert same.fallback.bias == pytest.approx(alone.primary.bias, abs=0.25 * unit)


@pytest.mark.parametrize("n", [300, 3000])
@pytest.mark.parametrize("signal", [-1.0, 0.0, 0.05, 0.3, 2.0])
def test_calibrate_is_not_certain_after_a_few_incorrect_answers_in_the_subset(n: int, signal: float) -> None:
    draw = np.random.default_rng(0)
    subset = np.arange(n) < 17
    correct = (draw.random(n) < 0.5) & ~subset
    scores = draw.normal(size=n) + signal * correct + 40
    calibration = calibrate(scores, correct, subset)
    assert calibration.method == "platt", "an isotonic curve would end at the share of the few"
    (slope,), (intercept,) = calibration.parameters
    p = expit(slope * (scores + calibration.shift * subset) + intercept)
    assert 0.01 < p[subset].mean() < 0.12, "1 in 19 if one of two more were correct"
    assert p[~subset].mean() == pytest.approx(correct[~subset].mean(), abs=0.01)
    assert slope > 0


def test_calibrate_shifts_the_subset_even_if_scores_carry_no_information() -> None:
    subset = np.arange(1000) % 4 == 0
    labels = np.where(subset, np.arange(1000) % 40 == 0, np.arange(1000) % 2 == 1)
    calibration = calibrate(np.full(1000, 0.25), labels, subset)
    (slope,), (intercept,) = calibration.parameters
    assert expit(slope * (0.25 + calibration.shift) + intercept) == pytest.approx(0.1, abs=0.01)
    assert expit(slope * 0.25 + intercept) == pytest.approx(2 / 3, abs=0.01)
    for seed in range(8):
        states, correct = without_exact(1000, seed, 0.05)
        states[:, 2, 2] = np.random.default_rng(seed).normal(size=(1000, 6))
        detector = fit_detector(states, correct, positions=POSITIONS, fallback=(0, "last_q"))
        p = detector.p_correct(at_cells(detector, states))[::5]
        assert p.mean() == pytest.approx(correct[::5].mean(), abs=0.05)


def test_fit_detector_selects_the_c_value_of_the_final_probes() -> None:
    draw = np.random.default_rng(0)
    correct = draw.random(500) < 0.5
    states = draw.normal(size=(500, 2, 1, 80)).astype(np.float32)
    states[:, 1, 0] += 0.25 * correct[:, None]
    options: dict[str, Any] = {"positions": ["-1"], "held_out": np.arange(500) >= 400}
    auto, loose = fit_detector(states, correct, **options), fit_detector(states, correct, c=1.0, **options)
    assert auto.primary.cells == loose.primary.cells == (Cell(1, "-1"),)
    candidates = [fit_detector(states, correct, c=c, **options) for c in (1e-4, 1e-3, 1e-2)]
    (selected,) = (d for d in candidates if np.array_equal(d.primary.weight, auto.primary.weight))
    assert repr(selected.primary) == repr(auto.primary), "calibration, thresholds and evaluation use this C value"
    assert auto.primary.evaluation.auc > loose.primary.evaluation.auc
    assert auto.primary.evaluation.brier < loose.primary.evaluation.brier - 0.01
    with pytest.raises(
        MapError,
        match=r"invalid value for c: 'much'\nhint: pass a number, several numbers separated by commas, or auto",
    ):
        fit_detector(states, correct, c="much")


def test_fit_detector_averages_several_cells() -> None:
    states, correct = planted()
    cells = [(1, "exact_answer_last"), (2, "-1")]
    both = fit_detector(states, correct, positions=POSITIONS, cells=cells, fallback=(0, "last_q"))
    assert both.primary.cells == (Cell(1, "exact_answer_last"), Cell(2, "-1"))
    assert both.fallback is not None
    assert both.fallback.cells == (Cell(0, "last_q"),)
    cell_states = at_cells(both, states)[1:2]
    row = cell_states[0, :2].astype(float)
    expected = np.mean([row[k] @ both.primary.weight[k] + both.primary.bias[k] for k in range(2)])
    assert both.primary.scores(cell_states[:, :2])[0] == pytest.approx(expected)
    single = fit_detector(states, correct, positions=POSITIONS, cells=[(1, "exact_answer_last")])
    assert both.primary.evaluation.auc > single.primary.evaluation.auc


@pytest.mark.parametrize(("n", "method"), [(600, "platt"), (3000, "isotonic")])
def test_p_correct_is_calibrated_on_new_answers(n: int, method: str) -> None:
    states, correct = planted(n, seed=1)
    detector = fit_detector(states, correct, positions=POSITIONS, held_out=0.3)
    assert detector.primary.calibration_method == method
    fresh, truth = planted(20_000, seed=2)
    p, has_exact = detector.p_correct(at_cells(detector, fresh)), ~np.isnan(fresh[:, 0, 1, 0])
    for low in (0.1, 0.3, 0.5, 0.7):
        rows = has_exact & (p >= low) & (p < low + 0.2)
        assert truth[rows].mean() == pytest.approx(p[rows].mean(), abs=0.1)


def test_calibrate_ignores_scores_that_rank_in_reverse() -> None:
    draw = np.random.default_rng(0)
    for _ in range(20):
        correct = draw.random(300) < 0.3
        detector = fit_detector(draw.normal(size=(300, 1, 1, 8)), correct, positions=["-1"], held_out=0.4)
        slope, intercept = detector.primary.calibration[:, 0]
        assert slope >= 0
        if slope == 0:
            p = detector.p_correct(draw.normal(size=(5, 1, 8)))
            assert p == pytest.approx(np.full(5, 1 / (1 + np.exp(-intercept))))
            assert 0.2 < p[0] < 0.4, "the share of correct answers"
            return
    raise AssertionError("20 times, noise did not rank in reverse")


def test_evaluation_interval_covers_the_auc_on_new_answers() -> None:
    fresh, truth = planted(4000, seed=999)
    has_exact = ~np.isnan(fresh[:, 0, 1, 0])
    n_covered = 0
    for seed in range(60):
        detector = fit_detector(*planted(400, seed), positions=POSITIONS, layers=[0, 1, 2], fallback=None, held_out=0.3)
        auc = roc_auc_score(truth[has_exact], detector.p_correct(at_cells(detector, fresh))[has_exact])
        n_covered += detector.primary.evaluation.auc_low < auc < detector.primary.evaluation.auc_high
    assert n_covered >= 52


def test_fit_detector_never_selects_the_exact_answer_as_fallback() -> None:
    states, correct = planted()
    states[::5, :, 1] = 7
    detector = fit_detector(states, correct, positions=POSITIONS)
    assert detector.primary.cells == (Cell(1, "exact_answer_last"),)
    assert detector.fallback is not None
    assert detector.fallback.cells == (Cell(2, "-1"),)


def test_fit_detector_counts_held_out_answers_when_it_selects_the_fallback() -> None:
    states, correct = planted()
    states[0, :, 2] = np.nan
    detector = fit_detector(states, correct, positions=POSITIONS, held_out=np.arange(1200) < 240)
    assert detector.fallback is not None
    assert detector.fallback.cells[0].position == "last_q"


def test_fit_detector_omits_the_fallback_if_it_is_not_needed_or_not_requested() -> None:
    states, correct = planted()
    assert fit_detector(states, correct, positions=POSITIONS, cells=[(2, "-1")]).fallback is None
    assert fit_detector(states, correct, positions=POSITIONS, fallback=None).fallback is None


def test_fit_detector_does_not_split_groups() -> None:
    states, correct = planted(600)
    pairs, labels, groups = np.repeat(states, 2, 0), np.repeat(correct, 2), np.repeat(np.arange(600), 2)
    detector = fit_detector(pairs, labels, groups=groups, positions=POSITIONS)
    assert detector.primary.evaluation.n % 2 == 0
    held_out = np.arange(600) < 200
    single = fit_detector(states, correct, positions=POSITIONS, held_out=held_out)
    paired = fit_detector(pairs, labels, groups=groups, positions=POSITIONS, held_out=np.repeat(held_out, 2))
    widths = [d.primary.evaluation.auc_high - d.primary.evaluation.auc_low for d in (single, paired)]
    assert widths[0] == pytest.approx(widths[1], rel=0.05), "two answers to one question are one observation"


def test_fit_detector_rejects_invalid_arguments() -> None:
    states, correct = planted(600)
    for options, message in (
        (
            {"cells": [(7, "-1")]},
            r"the map has no cell \(7, '-1'\)\nhint: the layers are 0 to 2; the positions are last_q",
        ),
        ({"cells": []}, "the sequence of cells is empty"),
        ({"held_out": 0.05}, "incorrect answers are held out, but the evaluation requires at least 20 of each"),
    ):
        with pytest.raises(DetectorError, match=message):
            fit_detector(states, correct, positions=POSITIONS, **options)
    splits: list[tuple[dict[str, Any], str]] = [
        ({"held_out": 2.0}, "held_out must be between 0 and 1, got 2.0"),
        ({"held_out": [True]}, r"held_out has shape \(1,\)"),
        (
            {"held_out": np.arange(600) < 201, "groups": np.arange(600) // 2},
            "1 groups contain both held-out and other answers",
        ),
    ]
    for split, message in splits:
        with pytest.raises(MapError, match=message):
            fit_detector(states, correct, positions=POSITIONS, **split)
    with pytest.raises(MapError, match="a map requires both correct and incorrect answers"):
        fit_detector(states, [True] * 600, positions=POSITIONS)
    states[:, :, 0::2] = np.nan
    with pytest.raises(DetectorError, match="each one is missing in some answer or depends on the exact answer"):
        fit_detector(states, correct, positions=POSITIONS)


def test_p_correct_rejects_states_of_another_width(detector: Detector) -> None:
    with pytest.raises(DetectorError, match=r"states have shape \(3, 2, 5\), expected \(n, 2, 6\)"):
        detector.p_correct(np.zeros((3, 2, 5)))


def test_head_probabilities_and_threshold_by_hand() -> None:
    assert PLATT.probabilities(np.array([0.5]))[0] == expit(0.0)
    calibration = np.array([[0.0, 1.0, 2.0], [0.1, 0.5, 0.9]])
    isotonic = replace(PLATT, calibration_method="isotonic", calibration=calibration)
    assert isotonic.probabilities(np.array([-5, 0.5, 1.5, 9])).tolist() == pytest.approx([0.1, 0.3, 0.7, 0.9])
    with pytest.raises(DetectorError, match=r"has no threshold\nhint: fit it with false_alarms"):
        PLATT.threshold(0.5)
    unused = {"flagged_correct": 0.0, "flagged_incorrect": 0.0, "precision": 0.0}
    high = Threshold(false_alarms=0.2, score=1, p_correct=0.7, **unused)
    low = Threshold(false_alarms=0.05, score=0, p_correct=0.3, **unused)
    two = replace(PLATT, thresholds=(high, low))
    assert two.threshold().false_alarms == 0.05, "the lowest"
    with pytest.raises(DetectorError, match=r"no threshold for a false-alarm rate of 0\.5\nhint: use one of 0\.2, 0"):
        two.threshold(0.5)


def test_head_probabilities_between_almost_equal_scores() -> None:
    curve = np.array([[0.0, 1e-310], [0.25, 0.75]])
    head = replace(PLATT, calibration=curve, calibration_method="isotonic")
    p = head.probabilities(np.array([-1, 0, 5e-311, 1e-310, 1, np.nan]))
    assert p[[0, 1, 3, 4]].tolist() == [0.25, 0.25, 0.75, 0.75]
    assert 0.25 <= p[2] <= 0.75, "the slope is not finite"
    assert np.isnan(p[5])


def test_head_probabilities_of_a_single_point_are_nan_for_nan() -> None:
    point = np.array([[0.5], [0.25]])
    head = replace(PLATT, calibration=point, calibration_method="isotonic")
    assert head.probabilities(np.array([-1.0, 0.5, 9])).tolist() == [0.25] * 3
    assert np.isnan(head.probabilities(np.array([np.nan]))).all()


# --- without held-out answers ---


def test_fit_detector_without_held_out_answers_is_not_evaluated(tmp_path: Path) -> None:
    states, correct = planted()
    detector = fit_detector(states, correct, positions=POSITIONS, held_out=None, false_alarms=(), risks=())
    assert detector.primary.cells == (Cell(1, "exact_answer_last"),)
    rows = ~np.isnan(states[:, 0, 1, 0])
    probe = make_pipeline(StandardScaler(), LogisticRegression(tol=1e-8, max_iter=10_000))
    probe.fit(states[rows, 1, 1].astype(float), correct[rows])
    scores = detector.primary.scores(states[rows, 1, 1][:, None])
    np.testing.assert_allclose(scores, probe.decision_function(states[rows, 1, 1].astype(float)), atol=1e-5)
    assert detector.fallback is not None
    for head in (detector.primary, detector.fallback):
        evaluation = head.evaluation
        assert (evaluation.n, evaluation.n_correct) == (0, 0)
        assert np.isnan([evaluation.auc, evaluation.auc_low, evaluation.auc_high, evaluation.brier]).all()
        assert np.isnan([evaluation.calibration_error, evaluation.calibration_noise]).all()
        assert not head.thresholds
        assert not head.acceptances

    detector.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert config["heads"]["primary"]["evaluation"]["auc"] is None
    loaded = Detector.load(tmp_path)
    assert np.array_equal(loaded.p_correct(at_cells(detector, states)), detector.p_correct(at_cells(detector, states)))
    assert repr(loaded.primary.evaluation) == repr(detector.primary.evaluation)
    assert repr(loaded.primary.thresholds) == repr(detector.primary.thresholds)
    card = (tmp_path / "README.md").read_text()
    assert f"Brier score or calibration error is available ({detector.primary.calibration_method})" in card
    assert "The detector was not evaluated: its performance is unknown" in card
    assert "nan" not in card.lower()
    assert "evaluated on" not in card


def test_fit_detector_rejects_an_empty_held_out_mask() -> None:
    states, correct = planted(400)
    with pytest.raises(DetectorError, match="0 correct and 0 incorrect answers are held out"):
        fit_detector(states, correct, positions=POSITIONS, held_out=np.zeros(400, bool))
    with pytest.raises(
        DetectorError, match=r"false_alarms must be between 0 and 1, got \[5\]\nhint: pass false-alarm rates as shares"
    ):
        fit_detector(states, correct, positions=POSITIONS, false_alarms=[5])


# --- thresholds ---


def test_thresholds_come_from_held_out_scores_of_the_exported_probe() -> None:
    states, correct = planted()
    held_out = np.arange(1200) >= 800
    detector = fit_detector(states, correct, positions=POSITIONS, cells=[(2, "-1")], held_out=held_out, fallback=None)
    scores = np.sort(detector.primary.scores(states[held_out & correct, 2, 2][:, None]))
    n = len(scores)
    for threshold in detector.primary.thresholds:
        assert threshold.score == scores[int(threshold.false_alarms * (n + 1)) - 1]
        assert threshold.p_correct == pytest.approx(detector.primary.probabilities(np.array([threshold.score]))[0])


def test_too_few_held_out_answers_flag_and_accept_nothing(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    correct = np.arange(40) % 2 == 0
    states = draw.normal(size=(40, 1, 1, 4)) + 2 * correct[:, None, None, None]
    detector = fit_detector(states, correct, positions=["-1"], held_out=None)
    (low, high), (acceptance,) = detector.primary.thresholds, detector.primary.acceptances
    assert np.isnan([low.score, low.p_correct, acceptance.score, acceptance.p_correct]).all()
    assert not np.isnan(high.score), "six correct answers suffice for 20 %"
    detector.save(tmp_path)
    loaded = Detector.load(tmp_path)
    scores = loaded.score_states(states[:, 0])
    assert loaded.is_flagged(scores) == loaded.is_accepted(scores) == [False] * 40
    assert "nothing is flagged, because fewer than 19 questions" in (tmp_path / "README.md").read_text()


def test_acceptance_keeps_its_risk_and_rejects_unknown_risks() -> None:
    states, correct = planted()
    detector = fit_detector(states, correct, positions=POSITIONS, risks=(0.3, 0.15))
    fresh, truth = planted(4000, 5)
    scores = detector.score_states(at_cells(detector, fresh))
    strict, lax = (np.array(detector.is_accepted(scores, risk)) for risk in (None, 0.3))
    assert 0 < strict.mean() < lax.mean()
    assert (strict <= lax).all()
    assert (~truth[strict]).mean() < 0.15
    assert (~truth[lax]).mean() < 0.3
    with pytest.raises(
        DetectorError, match=r"no acceptance threshold for a risk of 0\.5\nhint: its risks are: 0\.3, 0"
    ):
        detector.is_accepted(scores, 0.5)
    without = fit_detector(states, correct, positions=POSITIONS, risks=())
    assert without.is_accepted(without.score_states(at_cells(without, fresh[:3]))) == [None] * 3
    with pytest.raises(DetectorError, match=r"risks must be between 0 and 1, got \[7\]\nhint: pass risks as shares"):
        fit_detector(states, correct, positions=POSITIONS, risks=[7])


def test_score_at_inverts_the_calibration() -> None:
    assert PLATT.score_at(0.7) == pytest.approx((np.log(0.7 / 0.3) + 1) / 2)
    flat = replace(PLATT, calibration=np.array([[0.0], [0.0]]))
    assert [flat.score_at(p) for p in (0.4, 0.6)] == [-np.inf, np.inf]
    curve = np.array([[0.0, 1.0, 2.0, 4.0], [0.1, 0.5, 0.5, 0.9]])
    isotonic = replace(PLATT, calibration_method="isotonic", calibration=curve)
    assert [isotonic.score_at(p) for p in (0.05, 0.3, 0.5, 0.7, 0.95)] == pytest.approx([-np.inf, 0.5, 1, 3, np.inf])
