"""fit_map recovers planted_states signals, finds none in noise, and rejects inputs that allow no map."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from synthetic import NAMES, planted_states

from probemap.maps.fit import fit_map
from probemap.probing.folds import assign_folds
from probemap.records import MapError


def test_fit_map_recovers_the_planted_cell() -> None:
    states, correct = planted_states()
    probe_map = fit_map(states, correct, positions=NAMES)
    best = probe_map.best()[0]
    assert (best.layer, best.position, best.n) == (1, "exact_answer_last", 240)
    truth = 0.9615  # Φ(2.5 / √2)
    assert best.low < truth < best.high
    others = np.delete(probe_map.auc.values.ravel(), 4)
    assert np.all(np.abs(others - 0.5) < 0.15)
    assert abs(others.mean() - 0.5) < 0.05


def test_fit_map_equals_scikit_learn_with_the_same_folds() -> None:
    states, correct = planted_states()
    probe_map = fit_map(states, correct, positions=NAMES, seed=3)
    fold = assign_folds(correct, np.arange(240), 5, 3)
    scores = np.zeros(240)
    for k in range(5):
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=5000))
        probe.fit(states[fold != k, 1, 1].astype(float), correct[fold != k])
        scores[fold == k] = probe.decision_function(states[fold == k, 1, 1].astype(float))
    # Only answers of one fold are compared: the mean over folds, weighted by their pairs.
    pairs = [int(correct[fold == k].sum() * (~correct[fold == k]).sum()) for k in range(5)]
    parts = [roc_auc_score(correct[fold == k], scores[fold == k]) for k in range(5)]
    assert float(probe_map.auc.sel(layer=1, position="exact_answer_last")) == pytest.approx(
        np.average(parts, weights=pairs), abs=1e-3
    )


def test_fit_map_of_permuted_labels_is_at_chance() -> None:
    states, correct = planted_states()
    shuffled = np.random.default_rng(9).permutation(correct)
    probe_map = fit_map(states, shuffled, positions=NAMES)
    assert abs(float(probe_map.auc.mean()) - 0.5) < 0.05
    assert float(probe_map.auc.max()) < 0.65


def test_fit_map_excludes_missing_positions_and_undecided_answers() -> None:
    states, correct = planted_states()
    states[:30, :, 2] = np.nan
    verdicts = [None if i >= 230 else bool(c) for i, c in enumerate(correct)]
    probe_map = fit_map(states, verdicts, positions=NAMES)
    assert probe_map.data["n"].values.tolist() == [230, 230, 200]
    assert probe_map.data["n_right"].values.tolist() == [
        int(correct[:230].sum()),
        int(correct[:230].sum()),
        int(correct[30:230].sum()),
    ]
    assert (probe_map.data.attrs["answers"], probe_map.data.attrs["decided"]) == (240, 230)


def test_fit_map_gives_no_value_with_too_few_answers() -> None:
    states, correct = planted_states()
    keep = np.flatnonzero(correct)[:9]
    states[~np.isin(np.arange(240), np.concatenate([keep, np.flatnonzero(~correct)])), :, 0] = np.nan
    probe_map = fit_map(states, correct, positions=NAMES)
    assert np.isnan(probe_map.auc.sel(position="last_q").values).all()
    assert not np.isnan(probe_map.auc.sel(position="-1").values).any()
    assert (int(probe_map.data["n_right"][0]), int(probe_map.data["n"][0])) == (9, 9 + int((~correct).sum())), "how few"
    states[:, :, 2] = np.nan
    probe_map = fit_map(states, correct, positions=NAMES)
    assert int(probe_map.data["n"].sel(position="-1")) == 0
    assert np.isnan(probe_map.auc.sel(position="-1").values).all()


def test_assign_folds_keeps_groups_together() -> None:
    groups = np.repeat(np.arange(60), 2)
    correct = np.repeat(np.random.default_rng(0).random(60) < 0.5, 2)
    fold = assign_folds(correct, groups, 5, 0)
    assert (fold[::2] == fold[1::2]).all()
    assert set(fold) == set(range(5))
    # Each question has its own random point: memorising it would give 1.0.
    states = np.repeat(np.random.default_rng(1).normal(size=(60, 1, 3, 20)), 2, axis=0)
    probe_map = fit_map(states, correct, groups=[f"q{g}" for g in groups], positions=NAMES)
    assert float(probe_map.auc.max()) < 0.7


@pytest.mark.parametrize(
    ("correct", "message"),
    [
        (
            [True] * 40,
            "all 40 decided answers are correct: a map requires both correct and incorrect answers\n"
            "hint: use questions",
        ),
        ([False] * 40, "all 40 decided answers are incorrect"),
        ([None] * 40, "no answer is decided"),
        ([True] * 3 + [False] * 37, "5 folds require 5 answers of each class, got 3 correct and 37 incorrect"),
        ([True] * 39, "39 labels for 40 answers"),
    ],
)
def test_fit_map_rejects_labels_of_one_class(correct: list[bool | None], message: str) -> None:
    states = np.random.default_rng(0).normal(size=(40, 2, 3, 4))
    with pytest.raises(MapError) as raised:
        fit_map(states, correct, positions=NAMES)
    assert message in str(raised.value)


def test_fit_map_rejects_invalid_labels_and_states() -> None:
    states, correct = planted_states()
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
    with pytest.raises(MapError, match="no column has at least 10 correct and 10 incorrect answers"):
        fit_map(planted_states()[0], few, positions=NAMES)


def test_fit_map_of_constant_states() -> None:
    probe_map = fit_map(np.zeros((100, 1, 1, 4)), np.arange(100) % 2 == 0, positions=("-1",))
    assert (probe_map.best()[0].auc, probe_map.best()[0].low, probe_map.best()[0].high) == (0.5, 0.0, 1.0)


def test_fit_map_rejects_other_shapes() -> None:
    with pytest.raises(
        MapError,
        match=r"the states have shape \(4, 5\), expected 4 dimensions\nhint: the expected shape is \(n, n_layers",
    ):
        fit_map(np.zeros((4, 5)), [True] * 4)
    with pytest.raises(MapError, match="2 position names for 3 positions"):
        fit_map(np.zeros((4, 1, 3, 2)), [True] * 4, positions=("last_q", "-1"))


def test_variance_inflation_separates_noise_from_signal() -> None:
    states, correct = planted_states(600)
    noise = fit_map(states, correct, positions=NAMES).data["variance_inflation"]
    assert float(noise.sel(layer=1, position="exact_answer_last")) < 0.1
    assert float(noise.sel(layer=0).mean()) > 0.6


def test_fit_map_selects_c_in_inner_folds() -> None:
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
    with pytest.raises(MapError, match="several C values require inner folds"):
        fit_map(states, correct, positions=["-1"], c="auto", folds=2)
    for wrong in ("many", "1,,2", "-1", "0", ""):
        with pytest.raises(MapError, match="invalid value for c: "):
            fit_map(states, correct, positions=["-1"], c=wrong)


def test_fit_map_repeats_average_over_folds() -> None:
    states, correct = planted_states()
    single = [fit_map(states, correct, positions=NAMES, seed=seed).auc.values for seed in (5, 6)]
    twice = fit_map(states, correct, positions=NAMES, seed=5, repeats=2)
    np.testing.assert_allclose(twice.auc.values, np.mean(single, axis=0), atol=1e-6)
    assert twice.data.sizes["repeat"] == 2
    nested = twice.nested_best()
    assert nested is not None
    assert len(nested.selected) == 10


def test_fit_map_evaluates_held_out_answers_only() -> None:
    states, correct = planted_states()
    held_out = np.arange(240) % 3 == 0
    probe_map = fit_map(states, correct, positions=NAMES, held_out=held_out)
    scored = ~np.isnan(probe_map.data["scores"].values[0, :, 0, 0])
    assert (scored == held_out).all()
    assert probe_map.data["n"].values.tolist() == [80] * 3
    assert (probe_map.data["variance_inflation"].values == 0).all(), "one split: nothing is coupled"
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))
    probe.fit(states[~held_out, 1, 1].astype(float), correct[~held_out])
    theirs = roc_auc_score(correct[held_out], probe.decision_function(states[held_out, 1, 1].astype(float)))
    assert probe_map.best()[0].auc == pytest.approx(theirs, abs=2e-3)
    nested = probe_map.nested_best()
    assert nested is not None
    assert nested.selected == ((1, "exact_answer_last"),)
    share = fit_map(states, correct, positions=NAMES, held_out=0.25)
    assert share.data.attrs["held_out"] == 60
    for wrong, message in (
        (1.5, "held_out must be between 0 and 1, got 1.5"),
        (held_out[:5], "held_out has shape"),
        (np.arange(240), "held_out has shape"),
    ):
        with pytest.raises(MapError, match=message):
            fit_map(states, correct, positions=NAMES, held_out=wrong)
    with pytest.raises(MapError, match="1 groups contain both held-out and other answers"):
        fit_map(states, correct, positions=NAMES, held_out=held_out, groups=[0] * 6 + list(range(6, 240)))
    with pytest.raises(MapError, match="all held-out answers belong to one class"):
        fit_map(states, correct, positions=NAMES, held_out=correct & (np.arange(240) < 90))


def test_fit_map_common_rows() -> None:
    states, correct = planted_states()
    states[:30, :, 2] = np.nan
    states[200:, :, 0] = np.nan
    probe_map = fit_map(states, correct, positions=NAMES, common_rows=True)
    assert probe_map.data["n"].values.tolist() == [170] * 3
    present = np.ones((240, 3), bool)
    present[:30, 2] = present[200:, 0] = False
    same = fit_map(planted_states()[0], correct, positions=NAMES, present=present)
    other = fit_map(states, correct, positions=NAMES)
    np.testing.assert_array_equal(same.auc.values, other.auc.values)
    with pytest.raises(MapError, match=r"present has shape \(240, 2\)"):
        fit_map(states, correct, positions=NAMES, present=present[:, :2])


def test_fit_map_is_the_same_for_every_kind_of_array(tmp_path: Path) -> None:
    import torch
    import zarr

    states, correct = planted_states()
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
def test_fit_map_with_few_answers_gives_values_or_raises(n_right: int, n_wrong: int, folds: int) -> None:
    correct = [True] * n_right + [False] * n_wrong
    states = np.random.default_rng(n_right).normal(size=(len(correct), 1, 1, 2))
    try:
        probe_map = fit_map(states, correct, positions=["-1"], folds=folds)
    except MapError as error:
        assert min(n_right, n_wrong) < 10, error
        return
    assert min(n_right, n_wrong) >= 10
    cell = probe_map.best()[0]
    assert 0 <= cell.low <= cell.auc <= cell.high <= 1
    assert cell.low < cell.high


def test_fit_map_groups_repeated_questions() -> None:
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


def test_fit_map_is_deterministic() -> None:
    states, correct = planted_states(100)
    group = np.arange(100) // 2
    correct = np.repeat(correct[::2], 2)
    first = fit_map(states, correct, positions=NAMES, groups=group, permutations=3)
    assert first.to_bytes() == fit_map(states, correct, positions=NAMES, groups=group, permutations=3).to_bytes()
    assert first.to_bytes() != fit_map(states, correct, positions=NAMES, groups=group, seed=1).to_bytes()


def test_fit_map_reports_float16_overflow() -> None:
    states, correct = planted_states()
    with np.errstate(over="ignore"):
        small = (states * 1000).astype(np.float16)
    with pytest.raises(MapError, match=r"the state of answer \d+ at layer 0, last_q, contains .*\n.*65504"):
        fit_map(small, correct, positions=NAMES)


def test_fit_map_rejects_unusable_devices_and_names() -> None:
    states, correct = planted_states()
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


def test_fit_map_rejects_a_device_that_is_not_a_name() -> None:
    states, labels = np.random.default_rng(0).normal(size=(60, 1, 1, 4)), [True, False] * 30
    with pytest.raises(MapError, match=r"device must be a string, got None\nhint: use auto, cpu, cuda or cuda:1"):
        fit_map(states, labels, device=None)  # type: ignore[arg-type]
