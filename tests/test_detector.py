"""A detector finds what was planted, and is judged on what took no part."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planting import NAMES, of_cells, planted
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from probemap.detectors import card as cards
from probemap.detectors import fit as detecting
from probemap.detectors.detector import Detector
from probemap.detectors.fit import fit_detector
from probemap.detectors.head import Branch, Cell, Quality, Threshold
from probemap.records import DetectorError, MapError

QUALITY = Quality(0, 0, *[float("nan")] * 6)


@pytest.fixture(scope="module")
def made() -> Detector:
    return fit_detector(*planted(), positions=NAMES)


def test_the_planted_cell_and_a_fallback_are_chosen(made: Detector) -> None:
    assert made.main.cells == (Cell(1, "exact_answer_last"),)
    assert made.fallback is not None
    assert made.fallback.cells == (Cell(2, "-1"),)
    truth = {2.0: 0.9214, 1.0: 0.7602}  # Φ(δ / √2)
    for branch, auc in ((made.main, truth[2.0]), (made.fallback, truth[1.0])):
        assert branch.quality.auc_low < auc < branch.quality.auc_high
        assert branch.quality.calibration_error < 0.1
        assert branch.quality.calibration_noise < 0.08
    assert made.fallback.quality.n == 240, "a fifth of the questions"
    assert 180 < made.main.quality.n < 204, "and of these four fifths, which have an exact answer"


def test_what_it_is_worth_is_measured_on_what_took_no_part() -> None:
    states, correct = planted()
    apart = np.arange(1200) >= 900
    made = fit_detector(states, correct, positions=NAMES, held_out=apart)
    rows = apart & ~np.isnan(states[:, 0, 1, 0])
    p = made.p_correct(of_cells(made, states))[rows]
    assert made.main.quality.n == rows.sum()
    assert made.main.quality.auc == pytest.approx(roc_auc_score(correct[rows], p))
    assert made.main.quality.brier == pytest.approx(((p - correct[rows]) ** 2).mean())
    for share, one in zip((0.05, 0.2), made.main.thresholds, strict=True):
        flagged = made.main.scores(of_cells(made, states)[rows][:, :1]) < one.score
        assert one.flagged_right == pytest.approx(flagged[correct[rows]].mean())
        assert one.flagged_wrong == pytest.approx(flagged[~correct[rows]].mean())
        assert one.precision == pytest.approx((~correct[rows])[flagged].mean())
        assert one.flagged_right == pytest.approx(share, abs=0.08)
    # Answers that took no part change nothing but what it is worth.
    other = states.copy()
    other[apart] += 100
    assert np.array_equal(fit_detector(other, correct, positions=NAMES, held_out=apart).main.weight, made.main.weight)


def test_the_probe_is_scikit_learn_s_with_its_scaling_folded_in() -> None:
    states, correct = planted()
    apart = np.arange(1200) >= 900
    made = fit_detector(states, correct, positions=NAMES, held_out=apart, cells=[(1, "exact_answer_last")], c=0.1)
    rows = ~apart & ~np.isnan(states[:, 0, 1, 0])
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, tol=1e-10, max_iter=10_000))
    probe.fit(states[rows, 1, 1].astype(float), correct[rows])
    x = states[~np.isnan(states[:, 0, 1, 0]), 1, 1]
    np.testing.assert_allclose(made.main.scores(x[:, None]), probe.decision_function(x.astype(float)), atol=1e-5)


def test_an_answer_without_the_exact_answer_is_judged_by_the_fallback_and_says_so(made: Detector) -> None:
    states, _ = planted()
    seen = of_cells(made, states)[:10]
    assert made.branch_of(seen) == ["fallback" if i % 5 == 0 else "main" for i in range(10)]
    p = made.p_correct(seen)
    assert made.fallback is not None
    np.testing.assert_allclose(p[::5], made.fallback.probabilities(made.fallback.scores(seen[::5, 1:])))
    np.testing.assert_allclose(p[1:5], made.main.probabilities(made.main.scores(seen[1:5, :1])))
    alone = replace(made, fallback=None)
    assert np.isnan(alone.p_correct(seen[:, :1])[0])
    assert alone.branch_of(seen[:1, :1]) == ["none"]


def without_exact(n: int, seed: int, share: float) -> tuple[np.ndarray, np.ndarray]:
    """As `planted`; of the fifth without an exact answer this share is right, and the states say nothing of that."""
    states, correct = planted(n, seed)
    correct[::5] = np.random.default_rng([seed, 1]).random(len(correct[::5])) < share
    return states, correct


@pytest.mark.parametrize("n", [700, 3000])
def test_the_fallback_knows_how_often_those_that_it_is_for_are_right(n: int) -> None:
    rare = fit_detector(*without_exact(n, 1, 0.06), positions=NAMES)
    assert rare.fallback is not None
    fresh, truth = without_exact(5000, 2, 0.06)
    p = rare.p_correct(of_cells(rare, fresh))[::5]
    assert truth[::5].mean() == pytest.approx(0.06, abs=0.02)
    assert p.mean() == pytest.approx(0.06, abs=0.04)
    # It flags where it doubts, as the main cells do: few of those that lack an exact answer are right.
    threshold = rare.fallback.thresholds[1]
    flagged = rare.fallback.scores(of_cells(rare, fresh)[::5, 1:]) < threshold.score
    assert p[flagged].max() <= threshold.p_correct <= p[~flagged].min()
    assert flagged.mean() > 0.8
    card = cards.card(rare.main, rare.fallback, rare.provenance)
    assert "Its probabilities count in how often answers that lack one were right." in card
    # Judged with all others, whose probabilities are their own.
    assert rare.fallback.quality.n > 100
    assert rare.fallback.quality.calibration_error < 0.08 + rare.fallback.quality.calibration_noise


def test_where_those_without_an_exact_answer_are_like_others_the_fallback_is_what_it_was() -> None:
    same = fit_detector(*planted(), positions=NAMES)
    states, correct = planted()
    alone = fit_detector(states, correct, positions=NAMES, cells=[(2, "-1")])
    assert same.fallback is not None
    assert np.array_equal(same.fallback.weight, alone.main.weight)
    unit = float(np.std(alone.main.scores(states[:, 2, 2][:, None])))
    assert same.fallback.bias == pytest.approx(alone.main.bias, abs=0.25 * unit)


@pytest.mark.parametrize("n", [300, 3000])
@pytest.mark.parametrize("signal", [-1.0, 0.0, 0.05, 0.3, 2.0])
def test_a_few_that_are_all_wrong_do_not_make_the_next_one_certainly_wrong(n: int, signal: float) -> None:
    draw = np.random.default_rng(0)
    special = np.arange(n) < 17
    right = (draw.random(n) < 0.5) & ~special
    scores = draw.normal(size=n) + signal * right + 40
    kind, ((slope,), (level,)), shift = detecting._calibrate(scores, right, special)
    assert kind == "platt", "a curve would end at what the few were"
    p = expit(slope * (scores + shift * special) + level)
    assert 0.01 < p[special].mean() < 0.12, "1 in 19 if of two more one were right"
    assert p[~special].mean() == pytest.approx(right[~special].mean(), abs=0.01)
    assert slope > 0


def test_what_says_nothing_but_of_which_kind_an_answer_is_still_says_that() -> None:
    special = np.arange(1000) % 4 == 0
    right = np.where(special, np.arange(1000) % 40 == 0, np.arange(1000) % 2 == 1)
    _, ((slope,), (level,)), shift = detecting._calibrate(np.full(1000, 0.25), right, special)
    assert expit(slope * (0.25 + shift) + level) == pytest.approx(0.1, abs=0.01)
    assert expit(slope * 0.25 + level) == pytest.approx(2 / 3, abs=0.01)
    for seed in range(8):
        states, correct = without_exact(1000, seed, 0.05)
        states[:, 2, 2] = np.random.default_rng(seed).normal(size=(1000, 6))
        made = fit_detector(states, correct, positions=NAMES, fallback=(0, "last_q"))
        p = made.p_correct(of_cells(made, states))[::5]
        assert p.mean() == pytest.approx(correct[::5].mean(), abs=0.05)


def test_the_probes_that_are_kept_choose_their_strength() -> None:
    draw = np.random.default_rng(0)
    correct = draw.random(500) < 0.5
    states = draw.normal(size=(500, 2, 1, 80)).astype(np.float32)
    states[:, 1, 0] += 0.25 * correct[:, None]
    options: dict[str, Any] = {"positions": ["-1"], "held_out": np.arange(500) >= 400}
    auto, loose = fit_detector(states, correct, **options), fit_detector(states, correct, c=1.0, **options)
    assert auto.main.cells == loose.main.cells == (Cell(1, "-1"),)
    made = [fit_detector(states, correct, c=c, **options) for c in (1e-4, 1e-3, 1e-2)]
    (chosen,) = (one for one in made if np.array_equal(one.main.weight, auto.main.weight))
    assert repr(chosen.main) == repr(auto.main), "calibration, thresholds and worth are those of this strength"
    assert auto.main.quality.auc > loose.main.quality.auc
    assert auto.main.quality.brier < loose.main.quality.brier - 0.01
    with pytest.raises(MapError, match=r"c is 'much'\nhint: give a number, several numbers with commas, or auto"):
        fit_detector(states, correct, c="much")


def test_several_cells_are_averaged() -> None:
    states, correct = planted()
    cells = [(1, "exact_answer_last"), (2, "-1")]
    both = fit_detector(states, correct, positions=NAMES, cells=cells, fallback=(0, "last_q"))
    assert both.main.cells == (Cell(1, "exact_answer_last"), Cell(2, "-1"))
    assert both.fallback is not None
    assert both.fallback.cells == (Cell(0, "last_q"),)
    seen = of_cells(both, states)[1:2]
    one = seen[0, :2].astype(float)
    by_hand = np.mean([one[k] @ both.main.weight[k] + both.main.bias[k] for k in range(2)])
    assert both.main.scores(seen[:, :2])[0] == pytest.approx(by_hand)
    single = fit_detector(states, correct, positions=NAMES, cells=[(1, "exact_answer_last")])
    assert both.main.quality.auc > single.main.quality.auc


@pytest.mark.parametrize(("n", "kind"), [(600, "platt"), (3000, "isotonic")])
def test_probabilities_can_be_believed(n: int, kind: str) -> None:
    states, correct = planted(n, seed=1)
    made = fit_detector(states, correct, positions=NAMES, held_out=0.3)
    assert made.main.kind == kind
    fresh, truth = planted(20_000, seed=2)
    p, has = made.p_correct(of_cells(made, fresh)), ~np.isnan(fresh[:, 0, 1, 0])
    for low in (0.1, 0.3, 0.5, 0.7):
        rows = has & (p >= low) & (p < low + 0.2)
        assert truth[rows].mean() == pytest.approx(p[rows].mean(), abs=0.1)


def test_scores_that_go_the_wrong_way_say_nothing() -> None:
    draw = np.random.default_rng(0)
    for _ in range(20):
        correct = draw.random(300) < 0.3
        made = fit_detector(draw.normal(size=(300, 1, 1, 8)), correct, positions=["-1"], held_out=0.4)
        slope, level = made.main.calibration[:, 0]
        assert slope >= 0
        if slope == 0:
            p = made.p_correct(draw.normal(size=(5, 1, 8)))
            assert p == pytest.approx(np.full(5, 1 / (1 + np.exp(-level))))
            assert 0.2 < p[0] < 0.4, "the share of right answers"
            return
    raise AssertionError("noise went the right way 20 times")


def test_the_promised_interval_holds_what_fresh_answers_show_as_often_as_it_says() -> None:
    fresh, truth = planted(4000, seed=999)
    has = ~np.isnan(fresh[:, 0, 1, 0])
    held = 0
    for seed in range(60):
        made = fit_detector(*planted(400, seed), positions=NAMES, layers=[0, 1, 2], fallback=None, held_out=0.3)
        reached = roc_auc_score(truth[has], made.p_correct(of_cells(made, fresh))[has])
        held += made.main.quality.auc_low < reached < made.main.quality.auc_high
    assert held >= 52


def test_the_exact_answer_is_no_fallback_even_if_all_answers_had_one() -> None:
    states, correct = planted()
    states[::5, :, 1] = 7
    made = fit_detector(states, correct, positions=NAMES)
    assert made.main.cells == (Cell(1, "exact_answer_last"),)
    assert made.fallback is not None
    assert made.fallback.cells == (Cell(2, "-1"),)


def test_an_answer_that_took_no_part_counts_for_what_all_have() -> None:
    states, correct = planted()
    states[0, :, 2] = np.nan
    made = fit_detector(states, correct, positions=NAMES, held_out=np.arange(1200) < 240)
    assert made.fallback is not None
    assert made.fallback.cells[0].position == "last_q"


def test_no_fallback_where_every_answer_has_the_cell_or_none_is_wanted() -> None:
    states, correct = planted()
    assert fit_detector(states, correct, positions=NAMES, cells=[(2, "-1")]).fallback is None
    assert fit_detector(states, correct, positions=NAMES, fallback=None).fallback is None


def test_questions_stay_on_one_side() -> None:
    states, correct = planted(600)
    twice, verdicts, groups = np.repeat(states, 2, 0), np.repeat(correct, 2), np.repeat(np.arange(600), 2)
    made = fit_detector(twice, verdicts, groups=groups, positions=NAMES)
    assert made.main.quality.n % 2 == 0
    apart = np.arange(600) < 200
    one = fit_detector(states, correct, positions=NAMES, held_out=apart)
    two = fit_detector(twice, verdicts, groups=groups, positions=NAMES, held_out=np.repeat(apart, 2))
    widths = [m.main.quality.auc_high - m.main.quality.auc_low for m in (one, two)]
    assert widths[0] == pytest.approx(widths[1], rel=0.05), "two answers of one question are one draw"


def test_what_cannot_be_made_is_refused() -> None:
    states, correct = planted(600)
    for options, message in (
        ({"cells": [(7, "-1")]}, r"there is no cell \(7, '-1'\)\nhint: layers 0 to 2; positions last_q"),
        ({"cells": []}, "there is no cell"),
        ({"held_out": 0.05}, "answers are left to judge on: fewer than 20"),
    ):
        with pytest.raises(DetectorError, match=message):
            fit_detector(states, correct, positions=NAMES, **options)
    splits: list[tuple[dict[str, Any], str]] = [
        ({"held_out": 2.0}, "held_out is 2.0"),
        ({"held_out": [True]}, r"held_out has shape \(1,\)"),
        (
            {"held_out": np.arange(600) < 201, "groups": np.arange(600) // 2},
            "1 groups have answers both in and out of the held-out part",
        ),
    ]
    for split, message in splits:
        with pytest.raises(MapError, match=message):
            fit_detector(states, correct, positions=NAMES, **split)
    with pytest.raises(MapError, match="a map needs right and wrong answers"):
        fit_detector(states, [True] * 600, positions=NAMES)
    states[:, :, 0::2] = np.nan
    with pytest.raises(DetectorError, match="no position is there in every answer"):
        fit_detector(states, correct, positions=NAMES)


def test_states_of_another_width_are_refused(made: Detector) -> None:
    with pytest.raises(DetectorError, match=r"states have shape \(3, 2, 5\), expected \(n, 2, 6\)"):
        made.p_correct(np.zeros((3, 2, 5)))


def test_both_calibrations_by_hand() -> None:
    branch = Branch((Cell(0, "-1"),), np.ones((1, 2)), np.zeros(1), np.array([[2.0], [-1.0]]), "platt", QUALITY, ())
    assert branch.probabilities(np.array([0.5]))[0] == expit(0.0)
    steps = replace(branch, kind="isotonic", calibration=np.array([[0.0, 1.0, 2.0], [0.1, 0.5, 0.9]]))
    assert steps.probabilities(np.array([-5, 0.5, 1.5, 9])).tolist() == pytest.approx([0.1, 0.3, 0.7, 0.9])
    with pytest.raises(DetectorError, match=r"has no threshold\nhint: make it with false_alarms"):
        branch.threshold(0.5)
    two = replace(branch, thresholds=(Threshold(0.2, 1, 0.7, 0, 0, 0), Threshold(0.05, 0, 0.3, 0, 0, 0)))
    assert two.threshold().false_alarms == 0.05, "the lowest"
    with pytest.raises(
        DetectorError, match=r"no threshold for 0\.5 of right answers\nhint: there are those for 0\.2, 0"
    ):
        two.threshold(0.5)


def test_scores_between_two_that_almost_touch_have_a_probability() -> None:
    curve = np.array([[0.0, 1e-310], [0.25, 0.75]])
    branch = Branch((Cell(0, "-1"),), np.ones((1, 1)), np.zeros(1), curve, "isotonic", QUALITY, ())
    p = branch.probabilities(np.array([-1, 0, 5e-311, 1e-310, 1, np.nan]))
    assert p[[0, 1, 3, 4]].tolist() == [0.25, 0.25, 0.75, 0.75]
    assert 0.25 <= p[2] <= 0.75, "the slope is too large for a number"
    assert np.isnan(p[5])


def test_a_curve_of_one_point_gives_nothing_to_what_is_missing() -> None:
    point = np.array([[0.5], [0.25]])
    branch = Branch((Cell(0, "-1"),), np.ones((1, 1)), np.zeros(1), point, "isotonic", QUALITY, ())
    assert branch.probabilities(np.array([-1.0, 0.5, 9])).tolist() == [0.25] * 3
    assert np.isnan(branch.probabilities(np.array([np.nan]))).all()


# --- nothing kept apart ---


def test_all_answers_may_make_it_and_then_nothing_judges_it(tmp_path: Path) -> None:
    states, correct = planted()
    whole = fit_detector(states, correct, positions=NAMES, held_out=None)
    assert whole.main.cells == (Cell(1, "exact_answer_last"),)
    rows = ~np.isnan(states[:, 0, 1, 0])
    probe = make_pipeline(StandardScaler(), LogisticRegression(tol=1e-8, max_iter=10_000))
    probe.fit(states[rows, 1, 1].astype(float), correct[rows])
    mine = whole.main.scores(states[rows, 1, 1][:, None])
    np.testing.assert_allclose(mine, probe.decision_function(states[rows, 1, 1].astype(float)), atol=1e-5)
    assert whole.fallback is not None
    for branch in (whole.main, whole.fallback):
        quality = branch.quality
        assert (quality.n, quality.n_right) == (0, 0)
        assert np.isnan([quality.auc, quality.auc_low, quality.auc_high, quality.brier]).all()
        assert np.isnan([quality.calibration_error, quality.calibration_noise]).all()
        assert [one.false_alarms for one in branch.thresholds] == [0.05, 0.2]
        assert branch.thresholds[0].score < branch.thresholds[1].score
        for one in branch.thresholds:
            assert one.p_correct == branch.probabilities(np.array([one.score]))[0]
            assert np.isnan([one.flagged_right, one.flagged_wrong, one.precision]).all()
    flagged = mine[correct[rows]] < whole.main.thresholds[1].score
    assert flagged.mean() == pytest.approx(0.2, abs=0.04)

    whole.save(tmp_path)
    strict = json.loads((tmp_path / "config.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert strict["branches"]["main"]["quality"]["auc"] is None
    assert strict["branches"]["main"]["thresholds"][0]["precision"] is None
    again = Detector.load(tmp_path)
    assert np.array_equal(again.p_correct(of_cells(whole, states)), whole.p_correct(of_cells(whole, states)))
    assert repr(again.main.quality) == repr(whole.main.quality)
    assert repr(again.main.thresholds) == repr(whole.main.thresholds)
    card = (tmp_path / "README.md").read_text()
    assert f"Not judged: every answer took part in choosing, fitting and calibrating it ({whole.main.kind})" in card
    assert "It was not judged: nobody has measured what it is worth" in card
    assert "nan" not in card.lower()
    assert "judged on" not in card


def test_a_mask_that_keeps_nothing_apart_is_still_refused() -> None:
    states, correct = planted(400)
    with pytest.raises(DetectorError, match="0 right and 0 wrong answers are left to judge on"):
        fit_detector(states, correct, positions=NAMES, held_out=np.zeros(400, bool))
    with pytest.raises(DetectorError, match=r"false_alarms are \[5\]\nhint: give shares between 0 and 1"):
        fit_detector(states, correct, positions=NAMES, false_alarms=[5])
