"""What a cell adds to the baselines: a copy of confidence adds nothing, an independent signal does."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from probemap.maps.added_value import _catch, _flagged, _strata
from probemap.maps.column_baselines import ALL_BASELINES, ColumnBaseline
from probemap.maps.fit import fit_map
from probemap.maps.gain import with_baselines
from probemap.maps.probe_map import ProbeMap
from probemap.probing.baselines import Baseline
from probemap.probing.metrics import measure
from probemap.probing.stacking import stacked_scores

N = 600


def planted(seed: int = 0, n: int = N) -> tuple[ProbeMap, dict[str, np.ndarray], np.ndarray]:
    """Layer 0 is a copy of confidence, layer 1 an independent signal, layer 2 both, layer 3 noise."""
    draw = np.random.default_rng(seed)
    correct = draw.random(n) < 0.5
    confidence = draw.normal(size=n) + 1.2 * correct
    other = draw.normal(size=n) + 1.2 * correct
    states = draw.normal(size=(n, 4, 1, 6)).astype(np.float32)
    states[:, 0, 0, 0] = confidence + 0.3 * draw.normal(size=n)
    states[:, 1, 0, 0] = other
    states[:, 2, 0, 0] = confidence + 0.3 * draw.normal(size=n)
    states[:, 2, 0, 1] = other
    ids = [f"q{i}" for i in range(n)]
    probe_map = fit_map(states, correct, positions=["last_q"], ids=ids, seed=seed)
    baselines = [Baseline("confidence", "", confidence), Baseline("length", "", draw.normal(size=n))]
    return with_baselines(probe_map, baselines, ids), {"confidence": confidence, "other": other}, correct


def test_added_value_of_planted_cells() -> None:
    probe_map, values, correct = planted()
    data = probe_map.data.isel(position=0)
    together = LogisticRegression().fit(np.stack(list(values.values()), 1), correct)
    best = roc_auc_score(correct, together.decision_function(np.stack(list(values.values()), 1)))
    possible = best - roc_auc_score(correct, values["confidence"])
    assert data["adds"].values[[1, 2]] == pytest.approx(possible, abs=0.015)
    assert (data["adds_band_low"].values[[1, 2]] > 0).all()
    assert np.abs(data["adds"].values[[0, 3]]).max() < 0.005
    assert (data["adds_band_low"].values[[0, 3]] < 0).all()
    absorbed = data["absorbed"].values
    assert absorbed[0] == pytest.approx(1, abs=0.15), "a copy of confidence is explained by it"
    assert absorbed[1] == pytest.approx(0, abs=0.15), "an independent signal is not"
    assert absorbed[0] > absorbed[2] > absorbed[1]
    assert np.isnan(absorbed[3]), "noise has no signal to explain"
    assert data["absorbed_low"].values[1] < 0 < data["absorbed_high"].values[1]
    catch = data["catch"].values
    assert catch[1] > catch[0] + 0.05
    assert (data["adds_p"].values[[1, 2]] < 0.01).all() and data["adds_p"].values[0] > 0.5
    assert str(data["reference"].values) in {"confidence", ALL_BASELINES}
    assert float(data["reference_auc"]) >= float(data["baseline_auc"].max())


def test_reference_is_all_baselines_together_if_they_complement_each_other() -> None:
    draw = np.random.default_rng(3)
    correct = draw.random(N) < 0.5
    first, second = (draw.normal(size=N) + 1.0 * correct for _ in range(2))
    states = draw.normal(size=(N, 1, 1, 4)).astype(np.float32)
    states[:, 0, 0, 0] = first + second + 0.3 * draw.normal(size=N)
    ids = [f"q{i}" for i in range(N)]
    probe_map = fit_map(states, correct, positions=["last_q"], ids=ids)
    baselines = [Baseline("first", "", first), Baseline("second", "", second)]
    data = with_baselines(probe_map, baselines, ids).data.isel(layer=0, position=0)
    assert str(data["reference"].values) == ALL_BASELINES
    assert float(data["gain_band_low"]) > 0, "the cell is better than each baseline"
    assert abs(float(data["adds"])) < 0.005, "but adds nothing to both"
    assert float(data["absorbed"]) > 0.8


def test_added_value_requires_inner_folds() -> None:
    draw = np.random.default_rng(0)
    correct = draw.random(100) < 0.5
    states = draw.normal(size=(100, 1, 1, 4)).astype(np.float32)
    ids = [str(i) for i in range(100)]
    probe_map = fit_map(states, correct, positions=["-1"], ids=ids, nested=False)
    data = with_baselines(probe_map, [Baseline("length", "", draw.normal(size=100))], ids).data
    assert "gain" in data
    assert "adds" not in data
    assert "fold_scores" not in data


def test_measure_and_to_frame_contain_the_comparisons() -> None:
    probe_map, _, _ = planted()
    for name in ("adds", "absorbed", "catch"):
        measured = measure(probe_map, name)
        np.testing.assert_array_equal(measured.cells["value"], probe_map.data[name])
        assert f"{name}_low" in probe_map.to_frame()
    assert measure(probe_map, "absorbed").limits == (0.0, 1.0)


def test_added_value_with_held_out_answers_and_repeats() -> None:
    draw = np.random.default_rng(1)
    correct = draw.random(N) < 0.5
    confidence = draw.normal(size=N) + correct
    states = draw.normal(size=(N, 2, 1, 4)).astype(np.float32)
    states[:, 1, 0, 0] += 1.5 * correct
    states[:30] = np.nan
    ids = [str(i) for i in range(N)]
    for options in ({"held_out": 0.4}, {"repeats": 3}):
        probe_map = fit_map(states, correct, positions=["-1"], ids=ids, **options)
        data = with_baselines(probe_map, [Baseline("confidence", "", confidence)], ids).data.isel(position=0)
        assert float(data["adds"][1]) > 0.05
        assert abs(float(data["adds"][0])) < 0.01
        assert float(data["adds_band_low"][1]) > 0


def test_stacked_scores_equal_scikit_learn() -> None:
    draw = np.random.default_rng(0)
    n, fold = 90, np.arange(90) % 3
    correct = draw.random(n) < 0.5
    features = draw.normal(size=(2, 3, n, 2)) + correct[:, None]
    scores = stacked_scores(features, correct, fold, [0, 1, 2])
    for m in range(2):
        for k in range(3):
            x = features[m, k].copy()
            for j in range(3):
                x[fold == j] -= x[fold == j].mean(0)
            x /= x[fold != k].std(0)
            probe = LogisticRegression(C=1.0, tol=1e-10, max_iter=1000).fit(x[fold != k], correct[fold != k])
            np.testing.assert_allclose(scores[m, fold == k], probe.decision_function(x[fold == k]), atol=1e-3)


def test_strata_have_equal_sizes_and_similar_scores() -> None:
    scores = np.array([3.0, 1, 2, 5, 4, 6, 8, 7, 9, 10] * 4 + [np.nan])
    strata = _strata(scores + np.arange(41) * 1e-6, np.array([0] * 20 + [1] * 20 + [0]))
    assert np.bincount(strata)[1:].tolist() == [10, 10, 10, 10]
    assert set(scores[strata == 1]) == {1, 2, 3, 4, 5}


def test_catch_counts_incorrect_answers_that_only_the_cell_flags() -> None:
    correct = np.array([False, False, True, True, True, False, True, True, True, True])
    fold = np.zeros((1, 10), np.int64)
    reference = ColumnBaseline("b", np.arange(10.0)[None], np.empty(0), 0.0, correct, fold)
    cell = np.array([5.0, 0, 6, 7, 8, 1, 9, 10, 11, 12])  # flags rows 1 and 5; the reference flags rows 0 and 1
    assert _flagged(cell[:, None], fold[0])[:, 0].nonzero()[0].tolist() == [1, 5]
    estimate = _catch(cell[None, :, None], reference)
    assert estimate.value[0] == pytest.approx(1 / 3)
