"""The map finds what was planted, finds nothing in noise, and says what it rests on."""

import csv
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from probemap.maps.fit import fit_map
from probemap.maps.probe_map import ProbeMap
from probemap.probing.folds import assign_folds
from probemap.records import MapError

NAMES = ("last_q", "exact_answer_last", "-1")


def planted(n: int = 240, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise but for layer 1, exact_answer_last: along one direction right answers lie 2.5 further."""
    draw = np.random.default_rng(seed)
    correct = draw.random(n) < 0.4
    states = draw.normal(size=(n, 3, 3, 6)).astype(np.float32) * 5 + 100
    states[:, 1, 1, 2] += 12.5 * correct
    return states, correct


def test_the_planted_cell_is_found_and_the_others_are_noise() -> None:
    states, correct = planted()
    made = fit_map(states, correct, positions=NAMES)
    best = made.best()[0]
    assert (best.layer, best.position, best.n) == (1, "exact_answer_last", 240)
    truth = 0.9615  # Φ(2.5 / √2)
    assert best.low < truth < best.high
    others = np.delete(made.auc.values.ravel(), 4)
    assert np.all(np.abs(others - 0.5) < 0.15)
    assert abs(others.mean() - 0.5) < 0.05


def test_a_cell_equals_scikit_learn_with_the_same_folds() -> None:
    states, correct = planted()
    made = fit_map(states, correct, positions=NAMES, seed=3)
    fold = assign_folds(correct, np.arange(240), 5, 3)
    scores = np.zeros(240)
    for k in range(5):
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=5000))
        probe.fit(states[fold != k, 1, 1].astype(float), correct[fold != k])
        scores[fold == k] = probe.decision_function(states[fold == k, 1, 1].astype(float))
    # Only answers of one fold are compared: the mean over folds, weighted by their pairs.
    pairs = [int(correct[fold == k].sum() * (~correct[fold == k]).sum()) for k in range(5)]
    parts = [roc_auc_score(correct[fold == k], scores[fold == k]) for k in range(5)]
    assert float(made.auc.sel(layer=1, position="exact_answer_last")) == pytest.approx(
        np.average(parts, weights=pairs), abs=1e-3
    )


def test_shuffled_labels_leave_the_map_at_one_half() -> None:
    states, correct = planted()
    shuffled = np.random.default_rng(9).permutation(correct)
    made = fit_map(states, shuffled, positions=NAMES)
    assert abs(float(made.auc.mean()) - 0.5) < 0.05
    assert float(made.auc.max()) < 0.65


def test_missing_positions_and_undecided_answers_lower_n() -> None:
    states, correct = planted()
    states[:30, :, 2] = np.nan
    verdicts = [None if i >= 230 else bool(c) for i, c in enumerate(correct)]
    made = fit_map(states, verdicts, positions=NAMES)
    assert made.data["n"].values.tolist() == [230, 230, 200]
    assert made.data["n_right"].values.tolist() == [
        int(correct[:230].sum()),
        int(correct[:230].sum()),
        int(correct[30:230].sum()),
    ]
    assert (made.data.attrs["answers"], made.data.attrs["decided"]) == (240, 230)


def test_too_few_answers_to_say_give_no_value() -> None:
    states, correct = planted()
    keep = np.flatnonzero(correct)[:9]
    states[~np.isin(np.arange(240), np.concatenate([keep, np.flatnonzero(~correct)])), :, 0] = np.nan
    made = fit_map(states, correct, positions=NAMES)
    assert np.isnan(made.auc.sel(position="last_q").values).all()
    assert not np.isnan(made.auc.sel(position="-1").values).any()
    assert (int(made.data["n_right"][0]), int(made.data["n"][0])) == (9, 9 + int((~correct).sum())), "how few"
    states[:, :, 2] = np.nan
    made = fit_map(states, correct, positions=NAMES)
    assert int(made.data["n"].sel(position="-1")) == 0
    assert np.isnan(made.auc.sel(position="-1").values).all()


def test_questions_asked_twice_stay_in_one_fold() -> None:
    groups = np.repeat(np.arange(60), 2)
    correct = np.repeat(np.random.default_rng(0).random(60) < 0.5, 2)
    fold = assign_folds(correct, groups, 5, 0)
    assert (fold[::2] == fold[1::2]).all()
    assert set(fold) == set(range(5))
    # Each question has its own random point: memorising it would give 1.0.
    states = np.repeat(np.random.default_rng(1).normal(size=(60, 1, 3, 20)), 2, axis=0)
    made = fit_map(states, correct, groups=[f"q{g}" for g in groups], positions=NAMES)
    assert float(made.auc.max()) < 0.7


@pytest.mark.parametrize(
    ("correct", "message"),
    [
        (
            [True] * 40,
            "all 40 decided answers are correct: a map needs correct and incorrect answers\nhint: use questions",
        ),
        ([False] * 40, "all 40 decided answers are incorrect"),
        ([None] * 40, "no answer is decided"),
        ([True] * 3 + [False] * 37, "3 answers are correct and 37 incorrect: 5 folds need at least 5 of each"),
        ([True] * 39, "39 labels for 40 answers"),
    ],
)
def test_labels_that_allow_no_map(correct: list[bool | None], message: str) -> None:
    states = np.random.default_rng(0).normal(size=(40, 2, 3, 4))
    with pytest.raises(MapError) as raised:
        fit_map(states, correct, positions=NAMES)
    assert message in str(raised.value)


def test_values_that_are_neither_states_nor_verdicts_are_refused() -> None:
    states, correct = planted()
    with pytest.raises(MapError, match=r"label 0 is 0\.5 \(float\)"):
        fit_map(states, [0.5, *map(bool, correct[1:])], positions=NAMES)
    states[7, 0, 0, 3] = np.inf
    with pytest.raises(MapError, match="the state of answer 7 at layer 0, last_q, contains values that"):
        fit_map(states, correct, positions=NAMES)
    states[7, 0, 0] = np.nan
    states[7, 0, 0, 3] = 1.0
    with pytest.raises(MapError, match="the state of answer 7 at layer 0, last_q, contains values that"):
        fit_map(states, correct, positions=NAMES)
    few = np.arange(240) < 7
    with pytest.raises(MapError, match="no column has 10 correct and 10 incorrect answers"):
        fit_map(planted()[0], few, positions=NAMES)


def test_constant_states_say_nothing() -> None:
    made = fit_map(np.zeros((100, 1, 1, 4)), np.arange(100) % 2 == 0, positions=("-1",))
    assert (made.best()[0].auc, made.best()[0].low, made.best()[0].high) == (0.5, 0.0, 1.0)


def test_states_of_another_shape_are_refused() -> None:
    with pytest.raises(MapError, match=r"the states have shape \(4, 5\)\nhint: the shape is \(n, n_layers"):
        fit_map(np.zeros((4, 5)), [True] * 4)
    with pytest.raises(MapError, match="2 position names for 3 positions"):
        fit_map(np.zeros((4, 1, 3, 2)), [True] * 4, positions=("last_q", "-1"))


def test_saved_maps_come_back_and_others_can_read_them(tmp_path: Path) -> None:
    states, correct = planted()
    states[:, :, 0] = np.nan
    made = fit_map(states, correct, positions=NAMES, attrs={"model": "m", "task": "t"}, permutations=3)
    made.save(tmp_path / "map.nc")
    again = ProbeMap.load(tmp_path / "map.nc")
    xr.testing.assert_equal(again.data, made.data)
    assert again.data.attrs == made.data.attrs
    assert again.nested_best() == made.nested_best()
    # without this package: xarray
    with xr.open_dataset(tmp_path / "map.nc") as content:
        assert dict(content.sizes) == {
            "layer": 3,
            "position": 3,
            "repeat": 1,
            "answer": 240,
            "outer_fold": 5,
            "permutation": 3,
        }
        assert float(content.auc.sel(layer=1, position="exact_answer_last")) == float(made.auc.values[1, 1])
        assert np.isnan(content.auc.values[0, 0])
    made.to_frame().to_csv(tmp_path / "map.csv", index=False)
    rows = list(csv.DictReader((tmp_path / "map.csv").read_text().splitlines()))
    assert list(rows[0]) == "layer position auc low high band_low band_high n n_right".split()
    assert rows[4]["position"] == "exact_answer_last"
    assert float(rows[4]["auc"]) == made.best()[0].auc


@pytest.mark.parametrize("content", [b"", b"{}", b"CDF\x01" + b"\xff" * 200, b"CDF\x02\x00\x00\x00\x00" + b"\x00" * 64])
def test_files_that_are_no_maps_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "map.nc").write_bytes(content)
    with pytest.raises(MapError, match="is not a map"):
        ProbeMap.load(tmp_path / "map.nc")
    with pytest.raises(MapError, match=r"the map .* does not exist"):
        ProbeMap.load(tmp_path / "other.nc")
    xr.Dataset(attrs={"schema": 99}).to_netcdf(tmp_path / "map.nc", engine="scipy")
    with pytest.raises(MapError, match="has schema 99, expected 4"):
        ProbeMap.load(tmp_path / "map.nc")


def test_the_band_is_wider_than_the_intervals_and_chance_is_claimed_where_it_is_planted() -> None:
    states, correct = planted()
    made = fit_map(states, correct, positions=NAMES)
    data = made.data
    assert ((data.band_low <= data.low) & (data.high <= data.band_high)).all()
    assert int(made.above_chance.sum()) == 1
    assert bool(made.above_chance.sel(layer=1, position="exact_answer_last"))
    assert made.confidence_set().values.sum() == 1
    assert bool(made.confidence_set().sel(layer=1, position="exact_answer_last"))


def test_probes_that_are_all_noise_are_told_apart_from_sure_ones() -> None:
    states, correct = planted(600)
    noise = fit_map(states, correct, positions=NAMES).data["variance_inflation"]
    assert float(noise.sel(layer=1, position="exact_answer_last")) < 0.1
    assert float(noise.sel(layer=0).mean()) > 0.6


def test_the_best_cell_is_judged_on_answers_that_did_not_choose_it() -> None:
    draw = np.random.default_rng(0)
    correct = np.arange(160) % 2 == 0
    noise = draw.normal(size=(160, 10, 10, 3)).astype(np.float32)
    made = fit_map(noise, correct)
    honest = made.nested_best()
    assert honest is not None
    assert made.best()[0].auc > 0.6, "the luckiest of a hundred"
    assert honest.low < 0.5 < honest.high
    assert len(honest.selected) == 5
    assert not made.above_chance.any()
    states, correct = planted()
    honest = fit_map(states, correct, positions=NAMES).nested_best()
    assert honest is not None
    assert set(honest.selected) == {(1, "exact_answer_last")}
    assert honest.auc == pytest.approx(fit_map(states, correct, positions=NAMES).best()[0].auc, abs=1e-6)
    assert fit_map(states, correct, positions=NAMES, nested=False).nested_best() is None


def test_differences_of_cells_columns_and_maps() -> None:
    states, correct = planted()
    made = fit_map(states, correct, positions=NAMES)
    gap = made.compare((1, "exact_answer_last"), (0, "last_q"))
    auc = made.auc.values
    assert gap.value == pytest.approx(auc[1, 1] - auc[0, 0])
    assert gap.low > 0.2
    assert gap.p < 1e-6
    columns = made.compare_columns(["exact_answer_last"], ["last_q", "-1"])
    assert columns.value == pytest.approx(auc[:, 1].mean() - auc[:, [0, 2]].mean())
    assert columns.low < columns.value < columns.high
    weaker = states.copy()
    weaker[:, 1, 1, 2] -= 6.0 * correct
    other = fit_map(weaker, correct, positions=NAMES)
    change = made.difference(other)
    assert change["difference"].values[1, 1] == pytest.approx(auc[1, 1] - other.auc.values[1, 1])
    assert float(change["band_low"].values[1, 1]) > 0
    assert np.delete(change["difference"].values.ravel(), 4).max() == 0.0
    assert change["n"].values.tolist() == [240] * 3
    # half of the answers, other columns: what both have is compared
    half = fit_map(states[:120, :, 1:], correct[:120], positions=NAMES[1:], ids=[str(i) for i in range(120)])
    shared = made.difference(half)
    assert shared.sizes == {"layer": 3, "position": 2}
    assert shared["n"].values.tolist() == [120, 120]
    with pytest.raises(MapError, match="have different labels"):
        made.difference(fit_map(states, ~correct, positions=NAMES))
    with pytest.raises(MapError, match="no answers or no cells in common"):
        made.difference(fit_map(states, correct, positions=NAMES, ids=[f"x{i}" for i in range(240)]))


def test_shuffling_moves_whole_groups() -> None:
    from probemap.probing.permutation import permuted_labels

    group = np.array([0, 0, 1, 1, 2, 2, 3, 4, 5])
    labels = np.array([1, 0, 1, 0, 1, 0, 1, 0, 0], bool)
    made = permuted_labels(labels, group, 50, 0)
    assert (made.sum(1) == 4).all()
    assert made[:, [0, 2, 4]].all() and not made[:, [1, 3, 5]].any(), "pairs stay right and wrong"
    assert len({tuple(row) for row in made.tolist()}) == 3, "the three single ones change places"


def test_the_floor_is_the_highest_cell_under_shuffled_labels() -> None:
    states, correct = planted()
    made = fit_map(states, correct, positions=NAMES, permutations=40)
    floor = made.data["permutation_null"].values
    assert floor.shape == (40,)
    assert 0.5 < np.median(floor) < 0.62
    assert floor.max() < made.best()[0].auc
    # one shuffled label set alone, fitted as real labels, gives the same maximum
    from probemap.probing.permutation import permuted_labels

    labels = permuted_labels(correct, np.arange(240), 40, 0)[0]
    plan_fold = made.data["fold"].values[0]
    from probemap.probing.auc import auc_values
    from probemap.probing.cell_scores import score_cells
    from probemap.probing.plan import ProbePlan

    highest = 0.0
    for layer in range(3):
        for column in range(3):
            cells = score_cells(
                states[None, :, layer, column],
                labels,
                ProbePlan(plan_fold.astype(np.int64), nested=False),
                np.empty((0, 240), bool),
            )
            assert cells is not None
            value = auc_values(cells[0].scores[:, None], labels[:, None], plan_fold.astype(np.int64))[0]
            highest = max(highest, float(value))
    assert floor[0] == pytest.approx(highest, abs=2e-3)


def test_each_fold_chooses_its_own_strength_without_looking() -> None:
    draw = np.random.default_rng(0)
    correct = draw.random(300) < 0.5
    # Many weak features: little penalty overfits.
    states = draw.normal(size=(300, 1, 1, 150)) + 0.12 * correct[:, None, None, None]
    one = fit_map(states, correct, positions=["-1"], c=100.0)
    auto = fit_map(states, correct, positions=["-1"], c="auto")
    assert auto.auc.item() > one.auc.item() + 0.03
    assert auto.data["c"].item() <= 1e-2
    assert auto.data.attrs["c"] == "auto"
    several = fit_map(states, correct, positions=["-1"], c="1e-3, 100")
    assert several.data["c"].item() == 1e-3
    assert several.data.attrs["c"] == "0.001, 100"
    noise = fit_map(draw.normal(size=(300, 4, 4, 20)), correct, c="auto")
    assert abs(float(noise.auc.mean()) - 0.5) < 0.04, "choosing gains nothing on noise"
    with pytest.raises(MapError, match="several C values need inner folds"):
        fit_map(states, correct, positions=["-1"], c="auto", folds=2)
    for wrong in ("many", "1,,2", "-1", "0", ""):
        with pytest.raises(MapError, match="c is"):
            fit_map(states, correct, positions=["-1"], c=wrong)


def test_repeats_average_over_folds() -> None:
    states, correct = planted()
    single = [fit_map(states, correct, positions=NAMES, seed=seed).auc.values for seed in (5, 6)]
    twice = fit_map(states, correct, positions=NAMES, seed=5, repeats=2)
    np.testing.assert_allclose(twice.auc.values, np.mean(single, axis=0), atol=1e-6)
    assert twice.data.sizes["repeat"] == 2
    honest = twice.nested_best()
    assert honest is not None
    assert len(honest.selected) == 10


def test_held_out_answers_are_judged_and_the_others_are_not() -> None:
    states, correct = planted()
    apart = np.arange(240) % 3 == 0
    made = fit_map(states, correct, positions=NAMES, held_out=apart)
    scored = ~np.isnan(made.data["scores"].values[0, :, 0, 0])
    assert (scored == apart).all()
    assert made.data["n"].values.tolist() == [80] * 3
    assert (made.data["variance_inflation"].values == 0).all(), "one split: nothing is coupled"
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))
    probe.fit(states[~apart, 1, 1].astype(float), correct[~apart])
    theirs = roc_auc_score(correct[apart], probe.decision_function(states[apart, 1, 1].astype(float)))
    assert made.best()[0].auc == pytest.approx(theirs, abs=2e-3)
    honest = made.nested_best()
    assert honest is not None
    assert honest.selected == ((1, "exact_answer_last"),)
    share = fit_map(states, correct, positions=NAMES, held_out=0.25)
    assert share.data.attrs["held_out"] == 60
    for wrong, message in (
        (1.5, "held_out is 1.5"),
        (apart[:5], "held_out has shape"),
        (np.arange(240), "held_out has shape"),
    ):
        with pytest.raises(MapError, match=message):
            fit_map(states, correct, positions=NAMES, held_out=wrong)
    with pytest.raises(MapError, match="1 groups have both held-out and other answers"):
        fit_map(states, correct, positions=NAMES, held_out=apart, groups=[0] * 6 + list(range(6, 240)))
    with pytest.raises(MapError, match="all held-out answers are of one class"):
        fit_map(states, correct, positions=NAMES, held_out=correct & (np.arange(240) < 90))


def test_common_rows_score_every_column_on_the_same_answers() -> None:
    states, correct = planted()
    states[:30, :, 2] = np.nan
    states[200:, :, 0] = np.nan
    made = fit_map(states, correct, positions=NAMES, common_rows=True)
    assert made.data["n"].values.tolist() == [170] * 3
    present = np.ones((240, 3), bool)
    present[:30, 2] = present[200:, 0] = False
    same = fit_map(planted()[0], correct, positions=NAMES, present=present)
    other = fit_map(states, correct, positions=NAMES)
    np.testing.assert_array_equal(same.auc.values, other.auc.values)
    with pytest.raises(MapError, match=r"present has shape \(240, 2\)"):
        fit_map(states, correct, positions=NAMES, present=present[:, :2])


def test_arrays_of_any_kind_give_the_same_map(tmp_path: Path) -> None:
    import torch
    import zarr

    states, correct = planted()
    expected = fit_map(states, correct, positions=NAMES).to_bytes()
    np.save(tmp_path / "states.npy", states)
    stored = zarr.create_array(str(tmp_path / "states.zarr"), shape=states.shape, dtype="float32")
    stored[:] = states
    for array in (
        np.load(tmp_path / "states.npy", mmap_mode="r"),
        torch.from_numpy(states),
        zarr.open_array(str(tmp_path / "states.zarr"), mode="r"),
    ):
        assert fit_map(array, correct, positions=NAMES).to_bytes() == expected
    named = fit_map(states, correct, positions=NAMES, layers=[4, 8, 12])
    assert named.layers == [4, 8, 12]
    assert named.best()[0].layer == 8


@given(st.integers(0, 12), st.integers(0, 12), st.integers(2, 5))
def test_few_answers_give_a_value_or_say_that_they_are_too_few(n_right: int, n_wrong: int, folds: int) -> None:
    correct = [True] * n_right + [False] * n_wrong
    states = np.random.default_rng(n_right).normal(size=(len(correct), 1, 1, 2))
    try:
        made = fit_map(states, correct, positions=["-1"], folds=folds)
    except MapError as error:
        assert min(n_right, n_wrong) < 10, error
        return
    assert min(n_right, n_wrong) >= 10
    cell = made.best()[0]
    assert 0 <= cell.low <= cell.auc <= cell.high <= 1
    assert cell.low < cell.high


def test_a_question_asked_again_gains_nothing_when_grouped() -> None:
    draw = np.random.default_rng(0)
    once = draw.normal(size=(100, 1, 1, 60))
    correct = draw.random(100) < 0.5
    states, twice = np.concatenate([once, once[:20]]), np.concatenate([correct, correct[:20]])
    question = [*range(100), *range(20)]
    grouped = fit_map(states, twice, positions=["-1"], groups=question, repeats=4)
    alone = fit_map(states, twice, positions=["-1"], repeats=4)
    # What the copies add: a probe that has seen the twin of an answer knows it.
    assert grouped.auc.item() <= 0.55
    assert alone.auc.item() > grouped.auc.item() + 0.05


def test_the_same_seed_gives_the_same_bytes_and_groups_may_agree() -> None:
    states, correct = planted(100)
    group = np.arange(100) // 2
    correct = np.repeat(correct[::2], 2)
    first = fit_map(states, correct, positions=NAMES, groups=group, permutations=3)
    assert first.to_bytes() == fit_map(states, correct, positions=NAMES, groups=group, permutations=3).to_bytes()
    assert first.to_bytes() != fit_map(states, correct, positions=NAMES, groups=group, seed=1).to_bytes()


def test_float16_overflow_is_named() -> None:
    states, correct = planted()
    with np.errstate(over="ignore"):
        small = (states * 1000).astype(np.float16)
    with pytest.raises(MapError, match=r"the state of answer \d+ at layer 0, last_q, contains .*\n.*65504"):
        fit_map(small, correct, positions=NAMES)


def test_devices_and_shapes_that_cannot_be_used() -> None:
    states, correct = planted()
    with pytest.raises(MapError, match="device 'nowhere' cannot be used"):
        fit_map(states, correct, positions=NAMES, device="nowhere")
    with pytest.raises(MapError, match="are empty"):
        fit_map(np.zeros((4, 1, 0, 2)), [True, False] * 2)
    with pytest.raises(MapError, match="duplicate layer"):
        fit_map(states, correct, positions=NAMES, layers=[1, 1, 2])
    with pytest.raises(MapError, match="2 layer numbers for 3 layers"):
        fit_map(states, correct, positions=NAMES, layers=[1, 2])
    with pytest.raises(MapError, match="5 groups for 240 answers"):
        fit_map(states, correct, positions=NAMES, groups=list(range(5)))
    with pytest.raises(MapError, match="3 different questions cannot be split into 5 folds"):
        fit_map(states, correct, positions=NAMES, groups=[i % 3 for i in range(240)])


def test_probe_map_plot_returns_a_display_that_saves_and_shows_itself(tmp_path: Path) -> None:
    import matplotlib.pyplot as plt

    states, correct = planted()
    probe_map = fit_map(states, correct, positions=NAMES).only(NAMES[1:])
    assert isinstance(probe_map, ProbeMap)
    display = probe_map.plot(value="accuracy", cmap="Greens")
    assert plt.get_fignums() == [display.figure.number], "pyplot shows it"
    plt.close(display.figure)
    assert np.asarray(display.axes[0].images[0].get_array()).shape == (3, 2)
    assert display._repr_png_().startswith(b"\x89PNG")
    display.save(tmp_path / "map.svg")
    assert "exact_answer_last" in (tmp_path / "map.svg").read_text()
