"""A cell's ROC, reliability and histogram against hand-computed cases, its AUC, and simulation."""

import numpy as np
import pytest
from test_values import from_scores, some

from probemap.views.diagnostics import FALSE_ALARMS, HEAPS, portraits, probabilities


def test_a_case_worked_by_hand() -> None:
    # Right answers 3, 1; wrong ones 2, 0: at no false alarm half of the right ones are recognised, at half of them all.
    scores, correct = np.array([3.0, 1, 2, 0]), np.array([True, True, False, False])
    made = portraits(from_scores(scores[:, None, None], correct))[0][0]
    assert made is not None
    assert dict(zip(FALSE_ALARMS.round(2).tolist(), made.roc[0].tolist(), strict=True))[0.0] == 0.5
    at_40, at_60 = made.roc[0][10], made.roc[0][15]
    assert (at_40, at_60) == (0.5, 1.0)
    assert made.heaps.sum() == 4
    p = 1 / (1 + np.exp(-scores))
    assert made.heaps[0].tolist() == np.histogram(p[:2], HEAPS)[0].tolist()
    np.testing.assert_allclose(made.reliability[0], np.sort(p))
    assert made.reliability[1].tolist() == [0, 1, 0, 1]  # in the order of their probabilities: 0, 1, 2, 3


@pytest.mark.parametrize("folds", [1, 5])
def test_the_area_below_the_roc_is_the_auc(folds: int) -> None:
    scores, correct = some(1000)
    made = from_scores(scores, correct, names=("a", "b"), folds=folds)
    for row, layer in enumerate(portraits(made)):
        for column, portrait in enumerate(layer):
            assert portrait is not None
            area = np.trapezoid(portrait.roc[0], FALSE_ALARMS)
            assert area == pytest.approx(float(made.auc.values[row, column]), abs=0.01)


def test_the_roc_s_interval_holds_the_truth_as_often_as_it_says() -> None:
    from scipy.stats import norm

    truth = norm.sf(norm.isf(FALSE_ALARMS[1:-1]) - 1)
    held = []
    for seed in range(200):
        draw = np.random.default_rng(seed)
        correct = draw.random(400) < 0.4
        made = portraits(from_scores((draw.normal(size=400) + correct)[:, None, None], correct))[0][0]
        assert made is not None
        held.append((made.roc[1, 1:-1] <= truth) & (truth <= made.roc[2, 1:-1]))
    assert 0.92 <= np.mean(held) <= 0.985


def test_a_curve_says_nothing_below_one_wrong_answer_of_a_fold() -> None:
    draw = np.random.default_rng(0)
    correct = draw.random(200) < 0.5
    made = portraits(from_scores((draw.normal(size=200) + correct)[:, None, None], correct, folds=10))[0][0]
    assert made is not None
    unknown = np.isnan(made.roc[1])
    assert unknown[:2].all()
    assert not unknown[8:].any()
    assert not np.isnan(made.roc[0]).any()


def test_answers_of_one_question_widen_both_pictures() -> None:
    draw = np.random.default_rng(0)
    correct = draw.random(200) < 0.5
    scores = (draw.normal(size=200) + correct)[:, None, None]
    alone = portraits(from_scores(scores, correct))[0][0]
    groups = np.repeat(np.arange(100), 2)
    pairs = portraits(from_scores(np.repeat(scores[:100], 2, 0), np.repeat(correct[:100], 2), groups))[0][0]
    half = portraits(from_scores(scores[:100], correct[:100]))[0][0]
    assert alone is not None and pairs is not None and half is not None
    middle = slice(8, 18)
    np.testing.assert_allclose((pairs.roc[2] - pairs.roc[1])[middle], (half.roc[2] - half.roc[1])[middle], rtol=0.1)
    widths = [(p.reliability[3] - p.reliability[2]).mean() for p in (pairs, half)]
    assert widths[0] == pytest.approx(widths[1], rel=0.1)


def test_the_reliability_of_true_probabilities_lies_on_the_diagonal() -> None:
    draw = np.random.default_rng(0)
    p = draw.random(20_000)
    made = portraits(from_scores(np.log(p / (1 - p))[:, None, None], draw.random(20_000) < p))[0][0]
    assert made is not None
    mean, share, low, high = made.reliability
    np.testing.assert_allclose(mean, np.linspace(0.05, 0.95, 10), atol=0.01)
    np.testing.assert_allclose(share, mean, atol=0.03)
    assert ((low < share) & (share < high)).all()
    # Wilson's interval of 5 in 10, from his paper's formula by hand: 0.5 ± 0.2634.
    ten = portraits(from_scores(np.zeros((100, 1, 1)), np.arange(100) % 2 == 0))[0][0]
    assert ten is not None
    assert ten.reliability[2:, 0] == pytest.approx([0.2366, 0.7634], abs=1e-4)


def test_too_few_answers_have_no_portrait_and_repeats_are_averaged() -> None:
    scores, correct = some(60)
    made = from_scores(scores, correct, names=("a", "b"))
    made.data["auc"][1, 1] = np.nan
    assert [[p is None for p in layer] for layer in portraits(made)] == [[False, False], [False, True], [False, False]]
    chances = probabilities(made)
    assert np.isnan(chances[0, 0, 1])
    assert chances[1, 0, 0] == pytest.approx(1 / (1 + np.exp(-float(scores[1, 0, 0]))))
