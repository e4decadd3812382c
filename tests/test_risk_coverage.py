"""Risk-coverage curves of cells and of the best baselines."""

import numpy as np
import pytest
from synthetic import NAMES, from_scores, planted_states, some_scores

from probemap import fit_map, with_baselines
from probemap.maps.probe_map import ProbeMap
from probemap.probing.baselines import Baseline
from probemap.probing.selective import aurc
from probemap.views.risk_coverage import COVERAGES, baseline_risks, cell_risks


def test_cell_risks_by_hand() -> None:
    # Twenty answers, of which the ten with the highest scores are correct.
    scores, correct = np.arange(20.0), np.arange(20) >= 10
    ((curve,),) = cell_risks(from_scores(scores[:, None, None], correct))
    assert curve is not None
    np.testing.assert_allclose(curve.risk[0], [0] * 10 + [(k - 10) / k for k in range(11, 21)])
    assert (curve.risk[1] <= curve.risk[0]).all() and (curve.risk[0] <= curve.risk[2]).all()
    # No resample contains an error with the highest score, so that the end is the exact binomial limit 1 - 0.025^(1/1).
    assert curve.risk[2][0] == pytest.approx(1 - 0.025)
    assert [curve.excess_aurc.value, curve.prr.value] == pytest.approx([0, 1])
    assert curve.aurc.value == pytest.approx(aurc(scores, correct))


def test_cell_risks_of_cells_without_an_auc_are_none() -> None:
    probe_map = from_scores(*some_scores(), names=("last_q", "-1"))
    probe_map.data["auc"][1, 0] = np.nan
    risks = cell_risks(probe_map)
    assert [[curve is None for curve in row] for row in risks] == [[False, False], [True, False], [False, False]]
    first, half = risks[2]
    assert first is not None and half is not None
    correct = probe_map.data["correct"].values
    assert first.risk[0][-1] == pytest.approx((~correct).mean())
    assert half.risk[0][-1] == pytest.approx((~correct)[1::2].mean()), "half of the answers have this position"
    assert baseline_risks(probe_map) == [None, None]


def with_length(probe_map: ProbeMap, values: np.ndarray) -> ProbeMap:
    ids = [str(name) for name in probe_map.data["answer"].values]
    return with_baselines(probe_map, [Baseline("answer_length", "number of tokens", values)], ids)


def test_baseline_risks_are_those_of_the_best_baseline() -> None:
    states, correct = planted_states(120)
    probe_map = fit_map(states, correct, positions=NAMES, ids=[f"q{i}" for i in range(len(correct))])
    noisy = correct + np.random.default_rng(0).normal(size=len(correct))
    probe_map = with_length(probe_map, noisy)
    data = probe_map.data
    assert data["best_baseline_scores"].dims == ("repeat", "answer", "position")
    ((cell, *_), *_), baseline = cell_risks(probe_map)[1:], baseline_risks(probe_map)[0]
    assert cell is not None and baseline is not None
    assert cell.risk[0][-1] == baseline.risk[0][-1] == pytest.approx((~correct).mean())
    # A regression on one feature keeps its order.
    expected = aurc(noisy, correct)
    assert baseline.aurc.value == pytest.approx(expected, abs=0.02)
    assert baseline.aurc.low < baseline.aurc.value < baseline.aurc.high
    assert len(COVERAGES) == baseline.risk.shape[1]
    best = cell_risks(probe_map)[1][1]
    assert best is not None
    assert best.prr.low > baseline.prr.value
