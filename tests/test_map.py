"""The map finds what was planted, finds nothing in noise, and says what it rests on."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from probemap.map import ProbeMap, fit_map
from probemap.probe import assign_folds
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
    assert float(made.auc.sel(layer=1, position="exact_answer_last")) == pytest.approx(
        roc_auc_score(correct, scores), abs=1e-3
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
            "all 40 decided answers are right: a map needs right and wrong answers\nhint: take questions",
        ),
        ([False] * 40, "all 40 decided answers are wrong"),
        ([None] * 40, "no answer is decided"),
        ([True] * 3 + [False] * 37, "3 answers are right and 37 wrong: 5 folds need at least 5 of each"),
        ([True] * 39, "39 verdicts for 40 answers"),
    ],
)
def test_labels_that_allow_no_map(correct: list[bool | None], message: str) -> None:
    states = np.random.default_rng(0).normal(size=(40, 2, 3, 4))
    with pytest.raises(MapError) as raised:
        fit_map(states, correct, positions=NAMES)
    assert message in str(raised.value)


def test_values_that_are_neither_states_nor_verdicts_are_refused() -> None:
    states, correct = planted()
    with pytest.raises(MapError, match="a verdict is nan"):
        fit_map(states, [float("nan"), *map(bool, correct[1:])], positions=NAMES)  # type: ignore[list-item]
    states[7, 0, 0, 3] = np.inf
    with pytest.raises(MapError, match="row 7 holds values that are not finite"):
        fit_map(states, correct, positions=NAMES)
    few = np.arange(240) < 7
    with pytest.raises(MapError, match="no column has 10 right and 10 wrong answers"):
        fit_map(planted()[0], few, positions=NAMES)


def test_constant_states_say_nothing() -> None:
    made = fit_map(np.zeros((100, 1, 1, 4)), np.arange(100) % 2 == 0, positions=("-1",))
    assert (made.best()[0].auc, made.best()[0].low, made.best()[0].high) == (0.5, 0.0, 1.0)


def test_states_of_another_shape_are_refused() -> None:
    with pytest.raises(MapError, match=r"states of shape \(4, 5\)\nhint: the shape is \(n, n_layers"):
        fit_map(np.zeros((4, 5)), [True] * 4)
    with pytest.raises(MapError, match="2 position names for 3 positions"):
        fit_map(np.zeros((4, 1, 3, 2)), [True] * 4, positions=("last_q", "-1"))


def test_saved_maps_come_back_and_others_can_read_them(tmp_path: Path) -> None:
    states, correct = planted()
    states[:, :, 0] = np.nan
    made = fit_map(states, correct, positions=NAMES, attrs={"model": "m", "task": "t"})
    made.save(tmp_path / "map.json")
    again = ProbeMap.load(tmp_path / "map.json")
    xr.testing.assert_identical(again.data.drop_attrs(), made.data.drop_attrs())
    assert again.to_json() == made.to_json()
    # without this package: xarray, or json alone
    content = json.loads((tmp_path / "map.json").read_text())
    assert xr.Dataset.from_dict(content).sizes == {"layer": 3, "position": 3}
    assert content["coords"]["position"]["data"] == list(NAMES)
    assert content["data_vars"]["auc"]["data"][1][1] == float(made.auc.values[1, 1])
    assert content["data_vars"]["auc"]["data"][0][0] is None
    made.to_frame().to_csv(tmp_path / "map.csv", index=False)
    rows = list(csv.DictReader((tmp_path / "map.csv").read_text().splitlines()))
    assert list(rows[0]) == ["layer", "position", "auc", "low", "high", "n", "n_right"]
    assert rows[4]["position"] == "exact_answer_last"
    assert float(rows[4]["auc"]) == made.best()[0].auc


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"attrs": {"schema": 99}}'])
def test_files_that_are_no_maps_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "map.json").write_text(content)
    with pytest.raises(MapError):
        ProbeMap.load(tmp_path / "map.json")
