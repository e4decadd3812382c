"""ROC curve, reliability curve and histogram of a cell against hand-computed cases, its AUC, and simulation."""

import numpy as np
import pytest
from synthetic import from_scores, some_scores

from probemap.maps.probe_map import ProbeMap
from probemap.views.diagnostics import (
    FALSE_POSITIVE_RATES,
    HISTOGRAM_EDGES,
    CellDiagnostics,
    cell_diagnostics,
    probabilities,
)


def diagnostics(probe_map: ProbeMap) -> CellDiagnostics:
    """Return the diagnostics of the first cell."""
    first = cell_diagnostics(probe_map)[0][0]
    assert first is not None
    return first


def test_cell_diagnostics_by_hand() -> None:
    # Correct answers score 3 and 1, incorrect ones 2 and 0: at a false positive rate of 0 the true positive rate is
    # 1/2, at a false positive rate of 1/2 it is 1.
    scores, correct = np.array([3.0, 1, 2, 0]), np.array([True, True, False, False])
    cell = diagnostics(from_scores(scores[:, None, None], correct))
    assert dict(zip(FALSE_POSITIVE_RATES.round(2).tolist(), cell.roc[0].tolist(), strict=True))[0.0] == 0.5
    at_40, at_60 = cell.roc[0][10], cell.roc[0][15]
    assert (at_40, at_60) == (0.5, 1.0)
    assert cell.histogram.sum() == 4
    p = 1 / (1 + np.exp(-scores))
    assert cell.histogram[0].tolist() == np.histogram(p[:2], HISTOGRAM_EDGES)[0].tolist()
    np.testing.assert_allclose(cell.reliability[0], np.sort(p))
    assert cell.reliability[1].tolist() == [0, 1, 0, 1]  # in the order of the scores 0, 1, 2, 3


@pytest.mark.parametrize("folds", [1, 5])
def test_roc_area_is_the_auc(folds: int) -> None:
    scores, correct = some_scores(1000)
    probe_map = from_scores(scores, correct, names=("a", "b"), folds=folds)
    for row, layer in enumerate(cell_diagnostics(probe_map)):
        for column, cell in enumerate(layer):
            assert cell is not None
            area = np.trapezoid(cell.roc[0], FALSE_POSITIVE_RATES)
            assert area == pytest.approx(float(probe_map.auc.values[row, column]), abs=0.01)


def test_roc_interval_covers_the_truth() -> None:
    from scipy.stats import norm

    truth = norm.sf(norm.isf(FALSE_POSITIVE_RATES[1:-1]) - 1)
    covered = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        correct = rng.random(400) < 0.4
        cell = diagnostics(from_scores((rng.normal(size=400) + correct)[:, None, None], correct))
        covered.append((cell.roc[1, 1:-1] <= truth) & (truth <= cell.roc[2, 1:-1]))
    assert 0.92 <= np.mean(covered) <= 0.985


def test_roc_interval_is_nan_below_one_incorrect_answer_of_a_fold() -> None:
    rng = np.random.default_rng(0)
    correct = rng.random(200) < 0.5
    cell = diagnostics(from_scores((rng.normal(size=200) + correct)[:, None, None], correct, folds=10))
    unknown = np.isnan(cell.roc[1])
    assert unknown[:2].all()
    assert not unknown[8:].any()
    assert not np.isnan(cell.roc[0]).any()


def test_cell_diagnostics_account_for_groups() -> None:
    rng = np.random.default_rng(0)
    correct = rng.random(200) < 0.5
    scores = (rng.normal(size=200) + correct)[:, None, None]
    diagnostics(from_scores(scores, correct))
    groups = np.repeat(np.arange(100), 2)
    pairs = diagnostics(from_scores(np.repeat(scores[:100], 2, 0), np.repeat(correct[:100], 2), groups))
    half = diagnostics(from_scores(scores[:100], correct[:100]))
    middle = slice(8, 18)
    np.testing.assert_allclose((pairs.roc[2] - pairs.roc[1])[middle], (half.roc[2] - half.roc[1])[middle], rtol=0.1)
    widths = [(p.reliability[3] - p.reliability[2]).mean() for p in (pairs, half)]
    assert widths[0] == pytest.approx(widths[1], rel=0.1)


def test_reliability_of_true_probabilities_is_the_diagonal() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(20_000)
    cell = diagnostics(from_scores(np.log(p / (1 - p))[:, None, None], rng.random(20_000) < p))
    mean, fraction, low, high = cell.reliability
    np.testing.assert_allclose(mean, np.linspace(0.05, 0.95, 10), atol=0.01)
    np.testing.assert_allclose(fraction, mean, atol=0.03)
    assert ((low < fraction) & (fraction < high)).all()
    # Wilson's interval of 5 in 10 by hand, from the formula of his paper: 0.5 ± 0.2634.
    ten = diagnostics(from_scores(np.zeros((100, 1, 1)), np.arange(100) % 2 == 0))
    assert ten.reliability[2:, 0] == pytest.approx([0.2366, 0.7634], abs=1e-4)


def test_cell_diagnostics_are_none_for_cells_with_too_few_answers() -> None:
    scores, correct = some_scores(60)
    probe_map = from_scores(scores, correct, names=("a", "b"))
    probe_map.data["auc"][1, 1] = np.nan
    is_none = [[cell is None for cell in layer] for layer in cell_diagnostics(probe_map)]
    assert is_none == [[False, False], [False, True], [False, False]]
    p = probabilities(probe_map)
    assert np.isnan(p[0, 0, 1])
    assert p[1, 0, 0] == pytest.approx(1 / (1 + np.exp(-float(scores[1, 0, 0]))))
