"""Joint inference against hand-computed cases, theory and simulation."""

import numpy as np
import pytest
from scipy.stats import norm

from probemap.probing.auc import aucs
from probemap.probing.inference import (
    Estimate,
    adjusted_p,
    confidence_set,
    estimate_difference,
    holm,
    means,
    selection_coupling,
    simultaneous_quantile,
    standardised_differences,
)


def test_simultaneous_quantile_of_independent_cells() -> None:
    # 20 independent normal cells: P(all |z| < q) = (2 Φ(q) - 1)^20 = 0.95.
    influence = np.eye(20)
    expected = norm.ppf((0.95 ** (1 / 20) + 1) / 2)
    assert simultaneous_quantile(influence) == pytest.approx(expected, abs=0.08)
    # twenty times the same cell is one cell
    same = np.random.default_rng(0).normal(size=(300, 1)) @ np.ones((1, 20))
    assert simultaneous_quantile(same) == pytest.approx(1.96, abs=0.08)
    assert simultaneous_quantile(np.zeros((5, 3))) == pytest.approx(1.96, abs=1e-3), "no variance anywhere"


def test_estimate_difference_hand_computed() -> None:
    made = estimate_difference(0.1, np.array([0.03, -0.04]))
    assert (made.low, made.high) == pytest.approx((0.1 - 1.96 * 0.05, 0.1 + 1.96 * 0.05), abs=1e-5)
    assert made.p == pytest.approx(0.0455, abs=1e-4), "two standard errors"
    assert estimate_difference(0.0, np.zeros(3)).p == 1.0
    assert estimate_difference(0.2, np.zeros(3)).p == 0.0


def test_confidence_set_contains_the_best_and_excludes_distant_cells() -> None:
    draw = np.random.default_rng(0)
    correct = np.arange(400) % 2 == 0
    included, excluded = 0, 0
    for _ in range(200):
        noise = draw.normal(size=(400, 1))
        # truths: two cells equally best, one close, one far
        scores = noise + 0.5 * draw.normal(size=(400, 4)) + correct[:, None] * np.array([1.5, 1.5, 1.4, 0.5])
        made = aucs(scores, correct)
        cells = confidence_set(made.value, made.influence)
        included += bool(cells[0])
        excluded += not cells[3]
        assert cells[int(np.argmax(made.value))]
    assert included / 200 >= 0.93
    assert excluded / 200 > 0.99


def test_confidence_set_with_equal_and_missing_cells() -> None:
    influence = np.random.default_rng(0).normal(size=(50, 1)) * np.ones((1, 3)) * 0.01
    cells = confidence_set(np.array([0.7, 0.7, np.nan]), influence)
    assert cells.tolist() == [True, True, False]


def test_confidence_set_compares_each_cell_with_all_others() -> None:
    # 40 independent cells of variance 1.  The statistic of a cell is its distance from the best cell, divided by √2.
    draw = np.random.default_rng(1).normal(size=(20_000, 40))
    critical = np.quantile((draw[:, 1:] - draw[:, :1]).max(1) / np.sqrt(2), 0.95)
    assert critical == pytest.approx(2.9, abs=0.1), "it would be 1.64 for two cells"
    value = np.linspace(-4.5 * np.sqrt(2), 0, 40)
    expected = -value / np.sqrt(2) <= critical
    close = np.abs(-value / np.sqrt(2) - critical) < 0.1
    assert (confidence_set(value, np.eye(40)) == expected)[~close].all()
    assert 15 < expected.sum() < 30
    assert close.sum() <= 2


@pytest.mark.parametrize(("m", "largest"), [(2, 1 / np.sqrt(np.pi)), (3, 3 / (2 * np.sqrt(np.pi))), (50, 2.249)])
def test_selection_coupling_equals_theory(m: int, largest: float) -> None:
    # m independent cells of variance 1.  Each part is judged in the cell that is highest in the other.  Same cell
    # (1 of m): the product of both errors is on average E[max]².  Different cells: each error is that of a cell that
    # is not the highest, -E[max] / (m - 1) on average.  Together E[max]² / (m - 1).
    draw = np.random.default_rng(0)
    folds = [np.linalg.qr(draw.normal(size=(400, m)))[0] for _ in range(2)]
    assert selection_coupling(folds, [0.5, 0.5]) == pytest.approx(largest**2 / (m - 1), abs=0.09)


def test_selection_coupling_is_zero_without_selection() -> None:
    draw = np.random.default_rng(0)
    cell = draw.normal(size=(50, 1))
    assert selection_coupling([cell, cell], [0.5, 0.5]) == 0, "one cell"
    assert selection_coupling([draw.normal(size=(50, 4))], [1.0]) == 0, "one part, included out"
    twins = np.repeat(cell, 3, axis=1)
    assert selection_coupling([twins, twins], [0.5, 0.5]) == pytest.approx(0, abs=0.1), "twins"


def test_standardised_differences_interval_covers_the_truth() -> None:
    included = 0
    for seed in range(400):
        draw = np.random.default_rng(seed)
        correct = draw.random(120) < 0.3
        made = standardised_differences((draw.normal(size=120) * 3 + 2.4 * correct)[:, None], correct)
        low, high = made.interval(None)
        included += bool(low[0] <= 0.8 <= high[0])
    assert 0.92 <= included / 400 <= 0.98


def test_means_hand_computed() -> None:
    made = means(np.array([[1.0, np.nan], [2, 5], [6, np.nan]]))
    assert made.value[0] == 3
    assert np.isnan(made.value[1])
    assert (made.influence[:, 0] ** 2).sum() == pytest.approx(7 / 3)  # the variance, 7, by n
    low, high = Estimate(np.array([3.0]), np.array([[1.0]])).interval(None)
    assert (low[0], high[0]) == pytest.approx((3 - 1.959964, 3 + 1.959964))


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.001]) == pytest.approx([0.6, 0.002])
    assert holm([0.7, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
    assert holm([0.02, float("nan"), 0.03]) == pytest.approx([0.04, float("nan"), 0.04], nan_ok=True)


def test_adjusted_p_agrees_with_the_band() -> None:
    draw = np.random.default_rng(0)
    influence = draw.normal(size=(200, 30)) / 200
    value = np.append(draw.normal(size=29) * 0.15, np.nan)
    p = adjusted_p(value, influence)
    half = simultaneous_quantile(influence) * np.sqrt((influence**2).sum(0))
    assert np.isnan(p[-1])
    assert ((p[:-1] <= 0.05) == (value > half)[:-1]).all()
    assert 0 < (p[:-1] <= 0.05).sum() < 20
    assert p[:-1].min() >= 1 / 2001
