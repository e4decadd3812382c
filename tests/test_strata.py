"""AUCs within strata of a covariate: values, intervals, files and figures."""

import re
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from synthetic import from_scores, some_scores

from probemap.maps.fit import fit_map
from probemap.maps.probe_map import ProbeMap
from probemap.maps.strata import NOT_COMPARED, strata_of, with_strata, within_strata
from probemap.probing.cells import cell_aucs
from probemap.probing.metrics import measure, value_names
from probemap.records import MapError
from probemap.views.terminal import map_summary


def stratified_auc(scores: np.ndarray, correct: np.ndarray, strata: Sequence[tuple[int, ...]]) -> float:
    """Return the AUC over all pairs in the same stratum, from scikit-learn's AUC of each stratum."""
    total = pairs = 0.0
    for stratum in set(strata):
        rows = np.array([s == stratum for s in strata])
        n = correct[rows].sum() * (~correct[rows]).sum()
        if n:
            total += n * roc_auc_score(correct[rows], scores[rows])
            pairs += n
    return float(total / pairs)


def test_within_strata_compares_answers_of_one_stratum_and_fold() -> None:
    scores, correct = some_scores()
    probe_map = from_scores(scores, correct, names=("a", "b"), folds=3)
    strata = np.random.default_rng(0).integers(0, 4, len(correct))
    strata[::7] = NOT_COMPARED
    value, influence = within_strata(probe_map.data, strata)
    fold = probe_map.data["fold"].values[0]
    for layer in range(3):
        for position in range(2):
            rows = (strata != NOT_COMPARED) & ~np.isnan(scores[:, layer, position])
            pairs = list(zip(fold[rows].tolist(), strata[rows].tolist(), strict=True))
            expected = stratified_auc(scores[rows, layer, position], correct[rows], pairs)
            assert value[2 * layer + position] == pytest.approx(expected)
            assert not influence[~rows, 2 * layer + position].any()
    assert influence.shape == (300, 6)


def test_within_one_stratum_is_the_auc_of_the_map() -> None:
    scores, correct = some_scores()
    probe_map = from_scores(scores, correct, names=("a", "b"), folds=3)
    for strata in (np.zeros(300, int), np.ones((300, 2), int)):
        for within, plain in zip(within_strata(probe_map.data, strata), cell_aucs(probe_map.data), strict=True):
            np.testing.assert_array_equal(within, plain)
    data = with_strata(probe_map, "all", ["x"] * 300, probe_map.data["answer"].values).data
    for variable in ("auc", "low", "high", "band_low", "band_high"):
        name = "auc_within" if variable == "auc" else f"auc_within_{variable}"
        np.testing.assert_allclose(data[name].values[0], data[variable].values, atol=1e-12)


def test_within_strata_of_each_column() -> None:
    scores, correct = some_scores()
    probe_map = from_scores(scores, correct, names=("a", "b"), folds=3)
    strata = np.random.default_rng(1).integers(0, 3, (300, 2))
    both, _ = within_strata(probe_map.data, strata)
    single = [within_strata(probe_map.data, strata[:, column])[0] for column in range(2)]
    np.testing.assert_array_equal(
        both.reshape(3, 2), np.stack([s.reshape(3, 2)[:, k] for k, s in enumerate(single)], 1)
    )
    for wrong in (strata[:, :1], strata[:-1], strata[:, 0] * 1.0):
        with pytest.raises(MapError, match=r"but the map has 300 answers and 2 positions\nhint: pass one integer"):
            within_strata(probe_map.data, wrong)


def test_within_strata_needs_ten_comparable_answers_of_each_class() -> None:
    scores, correct = some_scores()
    probe_map = from_scores(scores, correct, names=("a", "b"))
    strata = np.where(correct, 0, 1)
    paired = np.concatenate([np.flatnonzero(correct)[:10], np.flatnonzero(~correct)[:10]])
    strata[paired] = 2
    strata[np.flatnonzero(np.isnan(scores[:, 0, 1]))] = 3  # not in the second column
    value, _ = within_strata(probe_map.data, strata)
    assert np.isnan(value.reshape(3, 2)[:, 1]).all(), (
        "fewer than ten answers of the second column are in a mixed stratum"
    )
    strata = np.where(correct, 0, 1)
    strata[paired] = 2
    assert not np.isnan(within_strata(probe_map.data, strata)[0].reshape(3, 2)[:, 0]).any()
    strata[paired[0]] = 0
    value, influence = within_strata(probe_map.data, strata)
    assert np.isnan(value).all()
    assert not influence.any()


def test_within_strata_averages_over_repeats() -> None:
    draw = np.random.default_rng(0)
    correct = draw.random(200) < 0.5
    states = draw.normal(size=(200, 1, 1, 4)).astype(np.float32)
    states[:, 0, 0, 0] += correct
    data = fit_map(states, correct, positions=["-1"], repeats=3).data
    strata = draw.integers(0, 2, 200)
    expected = [
        stratified_auc(
            data["scores"].values[k, :, 0, 0],
            correct,
            list(zip(data["fold"].values[k].tolist(), strata.tolist(), strict=True)),
        )
        for k in range(3)
    ]
    assert within_strata(data, strata)[0][0] == pytest.approx(np.mean(expected))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.arange(10.0), [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]),
        (np.array([3.0, 1.0, np.nan, 2.0]), [2, 0, -1, 1]),
        (np.array([0.0] * 6 + [1.0, 2.0, 3.0, 4.0, 5.0]), [0] * 6 + [1, 2, 2, 3, 3]),
        (np.array([7.0, 7.0]), [0, 0]),
        (np.array([np.nan]), [-1]),
        (["b", None, "a", "b"], [1, -1, 0, 1]),
        ([None, None], [-1, -1]),
    ],
)
def test_strata_of(values: np.ndarray | list[str | None], expected: list[int]) -> None:
    assert strata_of(values).tolist() == expected


def test_strata_of_quantiles_have_equal_sizes_and_infinite_values_are_refused() -> None:
    strata = strata_of(np.random.default_rng(0).normal(size=503))
    assert np.bincount(strata).tolist() == [101, 100, 101, 100, 101]
    with pytest.raises(MapError, match="popularity contains infinite values"):
        strata_of(np.array([1.0, np.inf]), "popularity")


def test_intervals_within_strata_cover_the_truth() -> None:
    """The scores depend on the stratum and on the label; within a stratum, the AUC is that of a shift of 0.6."""
    truth, hits = 0.6643, 0
    for seed in range(100):
        draw = np.random.default_rng(seed)
        stratum = draw.integers(0, 10, 150)
        correct = draw.random(150) < 0.3 + 0.04 * stratum
        scores = draw.normal(size=150) + 0.6 * correct + stratum
        probe_map = from_scores(scores[:, None, None], correct, folds=1)
        probe_map = with_strata(probe_map, "s", [str(s) for s in stratum], [str(k) for k in range(150)])
        low, high = (float(probe_map.data[f"auc_within_{end}"][0, 0, 0]) for end in ("low", "high"))
        hits += low <= truth <= high
    assert hits >= 91


def covaried_map() -> tuple[ProbeMap, np.ndarray, list[str | None], list[str]]:
    """Return a map whose probes read only the covariate, the covariate as a number and as a text, and the ids."""
    draw = np.random.default_rng(0)
    popularity = draw.normal(size=600)
    correct = popularity + 0.7 * draw.normal(size=600) > 0
    states = draw.normal(size=(600, 2, 1, 4)).astype(np.float32)
    states[:, 1, 0, 0] += 4 * popularity
    ids = [f"q{k}" for k in range(600)]
    relation: list[str | None] = ["spouse" if k % 3 else "capital" for k in range(600)]
    return fit_map(states, correct, positions=["-1"], ids=ids), popularity, relation, ids


def test_a_probe_that_reads_the_covariate_has_a_low_auc_within_strata() -> None:
    probe_map, popularity, relation, ids = covaried_map()
    data = with_strata(with_strata(probe_map, "s_pop", popularity, ids), "relation", relation, ids).data
    assert data["auc_within"].dims == ("covariate", "layer", "position")
    assert data["covariate"].values.tolist() == ["s_pop", "relation"]
    assert data["n_strata"].values.tolist() == [5, 2]
    auc = data["auc_within"].sel(layer=1, position="-1").values
    assert float(data["auc"].sel(layer=1, position="-1")) > 0.85
    assert auc[0] < 0.65
    assert auc[1] > 0.85, "the relation explains nothing"
    ends = [data[f"auc_within_{end}"].values for end in ("band_low", "low", "high", "band_high")]
    assert (ends[0] < ends[1]).all()
    assert (ends[1] < data["auc_within"].values).all()
    assert (data["auc_within"].values < ends[2]).all()
    assert (ends[2] < ends[3]).all()


def test_with_strata_matches_ids_replaces_and_rejects() -> None:
    probe_map, popularity, _, ids = covaried_map()
    once = with_strata(probe_map, "s_pop", popularity, ids)
    turned = with_strata(probe_map, "s_pop", popularity[::-1], ids[::-1])
    assert turned.data.equals(once.data)
    again = with_strata(with_strata(once, "other", popularity**2, ids), "s_pop", popularity, ids)
    assert again.data["covariate"].values.tolist() == ["other", "s_pop"]
    np.testing.assert_array_equal(again.data["auc_within"].sel(covariate="s_pop"), once.data["auc_within"][0])
    with pytest.raises(MapError, match="s_pop has 599 values for 600 ids"):
        with_strata(probe_map, "s_pop", popularity[:-1], ids)
    with pytest.raises(MapError, match="s_pop has no value for the answer 'q599'"):
        with_strata(probe_map, "s_pop", popularity[:-1], ids[:-1])


def test_strata_in_file_table_figures_and_summary(tmp_path: Path) -> None:
    probe_map, popularity, relation, ids = covaried_map()
    one = with_strata(probe_map, "s_pop", popularity, ids)
    two = with_strata(one, "relation $x", relation, ids)
    two.save(tmp_path / "map.nc")
    assert ProbeMap.load(tmp_path / "map.nc").data.equals(two.data)
    frame = two.to_frame()
    assert list(frame.columns[-6:]) == [
        f"{name}_{covariate}"
        for covariate in ("s_pop", "relation $x")
        for name in ("auc_within", "auc_within_low", "auc_within_high")
    ]
    assert frame["auc_within_s_pop"].tolist() == two.data["auc_within"].values[0].ravel().tolist()
    assert "auc-within:s_pop" in value_names(one.data)
    assert measure(one, "auc-within").kind.label == "AUC within strata of s_pop"
    assert (
        measure(two, "auc-within:relation $x")
        .cells["value"]
        .equals(two.data["auc_within"].sel(covariate="relation $x"))
    )
    display = two.plot(value="auc-within:relation $x")
    assert r"AUC within strata of relation \$x" in [axes.get_ylabel() for axes in display.figure.axes]
    plt.close(display.figure)
    for value, message in (
        ("auc-within", "the map has 2 covariates\nhint: use auc-within:s_pop or auc-within:relation"),
        ("auc-within:x", "the map has no covariate 'x'\nhint: use auc-within:s_pop"),
        ("auc:s_pop", "unknown value 'auc:s_pop'"),
    ):
        with pytest.raises(MapError, match=re.escape(message)):
            measure(two, value)
    with pytest.raises(
        MapError, match="does not contain auc-within\nhint: `probemap map RUN --covariate FIELD --redo`"
    ):
        measure(probe_map, "auc-within")
    best = two.best()[0]
    cell = two.data.sel(layer=best.layer, position=best.position, covariate="s_pop")
    shown = map_summary(two, []).plain
    numbers = f"{float(cell.auc_within):.3f} [{float(cell.auc_within_low):.3f}, {float(cell.auc_within_high):.3f}]"
    assert f"\n  {'s_pop':<26} {numbers}  5 strata" in shown
    assert f"\n  {'without strata':<26} {best.auc:.3f}" in shown
