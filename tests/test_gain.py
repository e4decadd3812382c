"""Baselines beside the map: on the same answers, with the gain, and never where a value is lacking."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from probemap.maps.fit import fit_map
from probemap.maps.gain import with_baselines
from probemap.maps.probe_map import ProbeMap
from probemap.probing.auc import auc_values
from probemap.probing.baselines import Baseline
from probemap.records import MapError

NAMES = ("last_q", "exact_answer_last")
IDS = [f"q{i}" for i in range(300)]


def planted_map() -> tuple[ProbeMap, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    correct = draw.random(300) < 0.4
    states = draw.normal(size=(300, 2, 2, 5)).astype(np.float32)
    states[:, 1, 1, 0] += 2.5 * correct
    states[:40, :, 1] = np.nan
    return fit_map(states, correct, positions=NAMES, ids=IDS), correct, states


def test_with_baselines_gain_is_over_the_best_baseline_of_the_column() -> None:
    probe_map, correct, _ = planted_map()
    draw = np.random.default_rng(1)
    good, poor = draw.normal(size=300) + 1.0 * correct, draw.normal(size=300)
    partly = np.where(np.arange(300) < 40, np.nan, draw.normal(size=300) + 1.5 * correct)
    known = [Baseline("good", "", good), Baseline("poor", "", -poor), Baseline("partly", "", partly)]
    data = with_baselines(probe_map, known, IDS).data
    assert data["best_baseline"].values.tolist() == ["good", "partly"]
    column = data["baseline_auc"].sel(baseline="partly").values
    assert np.isnan(column[0]), "it lacks a value for forty answers of this column"
    fold = probe_map.data["fold"].values[0]
    rows = np.arange(300) >= 40
    pairs = [(rows & (fold == k) & correct).sum() * (rows & (fold == k) & ~correct).sum() for k in range(5)]
    parts = [roc_auc_score(correct[rows & (fold == k)], partly[rows & (fold == k)]) for k in range(5)]
    assert column[1] == pytest.approx(np.average(parts, weights=pairs))
    gain = data.sel(layer=1, position="exact_answer_last")
    assert float(gain["gain"]) == pytest.approx(float(gain["auc"]) - column[1])
    assert 0 < float(gain["gain_low"]) < float(gain["gain"]) < float(gain["gain_high"])
    noise = data.sel(layer=0, position="last_q")
    assert float(noise["gain_high"]) < 0, "a probe on noise is worse than the good baseline"
    assert float(data["baseline_low"].sel(baseline="poor", position="last_q")) < 0.5


def test_with_baselines_learns_the_direction() -> None:
    probe_map, correct, _ = planted_map()
    length = np.random.default_rng(2).normal(size=300) - 2.0 * correct
    data = with_baselines(probe_map, [Baseline("length", "", length)], IDS).data
    assert float(data["baseline_auc"].sel(baseline="length", position="last_q")) > 0.85


def test_with_baselines_of_vectors_matches_ids_and_needs_all_of_them() -> None:
    probe_map, correct, _ = planted_map()
    vectors = np.random.default_rng(3).normal(size=(300, 6))
    vectors[:, 2] += 2 * correct
    vectors[:40, 4] = np.nan
    data = with_baselines(probe_map, [Baseline("vectors", "", vectors[::-1])], IDS[::-1]).data
    aucs = data["baseline_auc"].sel(baseline="vectors").values
    assert np.isnan(aucs[0]), "forty answers of this column have no vector"
    assert 0.88 < aucs[1] < 0.96  # Φ(2 / √2) = 0.92


def test_with_baselines_of_texts_matches_ids() -> None:
    probe_map, correct, _ = planted_map()
    words: list[str | None] = [("Austria" if c else "France") if i % 10 else "Chad" for i, c in enumerate(correct)]
    data = with_baselines(probe_map, [Baseline("words", "", words)], IDS).data
    assert float(data["baseline_auc"].sel(baseline="words", position="last_q")) > 0.9
    turned = with_baselines(probe_map, [Baseline("words", "", words[::-1])], IDS[::-1]).data
    np.testing.assert_array_equal(turned["baseline_auc"].values, data["baseline_auc"].values)
    with pytest.raises(MapError, match="the baselines have no value for the answer 'q299'"):
        with_baselines(probe_map, [Baseline("words", "", words[:-1])], IDS[:-1])


def test_with_baselines_stores_the_scores_of_the_best_baseline() -> None:
    probe_map, correct, _ = planted_map()
    draw = np.random.default_rng(1)
    baselines = [Baseline("noise", "", draw.normal(size=300)), Baseline("good", "", draw.normal(size=300) + correct)]
    data = with_baselines(probe_map, baselines, IDS).data
    assert set(data["best_baseline"].values) == {"good"}
    for k, auc in enumerate(data["baseline_auc"].sel(baseline="good").values):
        scores = data["best_baseline_scores"].values[0, :, k]
        evaluated = ~np.isnan(scores)
        np.testing.assert_array_equal(evaluated, data["scores"].notnull().values[0, :, 0, k])
        fold = data["fold"].values[0][evaluated]
        assert auc_values(scores[evaluated, None], correct[evaluated, None], fold)[0] == pytest.approx(auc)
    assert (data["best_baseline_inflation"].values > -1).all()


def test_with_baselines_is_saved_and_loaded(tmp_path) -> None:  # type: ignore[no-untyped-def]
    probe_map, correct, states = planted_map()
    full = with_baselines(probe_map, [Baseline("good", "", np.random.default_rng(1).normal(size=300) + correct)], IDS)
    full.save(tmp_path / "map.nc")
    again = ProbeMap.load(tmp_path / "map.nc")
    assert again.data.equals(full.data)
    assert "gain_low" in again.to_frame()
    held = fit_map(states, correct, positions=NAMES, ids=IDS, held_out=0.3)
    judged = with_baselines(held, [Baseline("good", "", np.random.default_rng(1).normal(size=300) + correct)], IDS)
    assert float(judged.data["baseline_auc"].sel(position="last_q").item()) > 0.6


def test_with_baselines_without_values_has_no_gain() -> None:
    probe_map, _, _ = planted_map()
    data = with_baselines(probe_map, [Baseline("none", "", np.full(300, np.nan))], IDS).data
    assert data["gain"].isnull().all()
    assert data["best_baseline"].values.tolist() == ["", ""]
