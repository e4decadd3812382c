"""A detector finds what was planted, is judged on what took no part, and comes back from disk whole or not at all."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from probemap.detectors import detector as room
from probemap.detectors.branch import Branch, Cell, Origin, Quality
from probemap.detectors.detecting import fit_detector
from probemap.detectors.detector import Detector
from probemap.records import DetectorError, MapError

NAMES = ("last_q", "exact_answer_last", "-1")
QUALITY = Quality(0, 0, *[float("nan")] * 6)


def planted(n: int = 1200, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Layer 1 at exact_answer_last knows most (2 deviations), layer 2 at -1 less (1); a fifth has no exact answer."""
    draw = np.random.default_rng(seed)
    correct = draw.random(n) < 0.45
    states = draw.normal(size=(n, 3, 3, 6)).astype(np.float32) * 3 + 7
    states[:, 1, 1, 2] += 6 * correct
    states[:, 2, 2, 4] += 3 * correct
    states[::5, :, 1] = np.nan
    return states, correct


@pytest.fixture(scope="module")
def made() -> Detector:
    return fit_detector(*planted(), positions=NAMES)


def of_cells(made: Detector, states: np.ndarray) -> np.ndarray:
    return np.stack([states[:, cell.layer, NAMES.index(cell.position)] for cell in made.cells], axis=1)


def test_the_planted_cell_and_a_fallback_are_chosen(made: Detector) -> None:
    assert made.main.cells == (Cell(1, "exact_answer_last"),)
    assert made.fallback is not None
    assert made.fallback.cells == (Cell(2, "-1"),)
    truth = {2.0: 0.9214, 1.0: 0.7602}  # Φ(δ / √2)
    for branch, auc in ((made.main, truth[2.0]), (made.fallback, truth[1.0])):
        assert branch.quality.auc_low < auc < branch.quality.auc_high
        assert branch.quality.calibration_error < 0.1
        assert branch.quality.calibration_noise < 0.08
    assert made.fallback.quality.n == 240, "a fifth of the questions"
    assert 180 < made.main.quality.n < 204, "and of these four fifths, which have an exact answer"


def test_what_it_is_worth_is_measured_on_what_took_no_part() -> None:
    states, correct = planted()
    apart = np.arange(1200) >= 900
    made = fit_detector(states, correct, positions=NAMES, held_out=apart)
    rows = apart & ~np.isnan(states[:, 0, 1, 0])
    p = made.p_correct(of_cells(made, states))[rows]
    assert made.main.quality.n == rows.sum()
    assert made.main.quality.auc == pytest.approx(roc_auc_score(correct[rows], p))
    assert made.main.quality.brier == pytest.approx(((p - correct[rows]) ** 2).mean())
    for share, one in zip((0.05, 0.2), made.main.thresholds, strict=True):
        flagged = made.main.scores(of_cells(made, states)[rows][:, :1]) < one.score
        assert one.flagged_right == pytest.approx(flagged[correct[rows]].mean())
        assert one.flagged_wrong == pytest.approx(flagged[~correct[rows]].mean())
        assert one.precision == pytest.approx((~correct[rows])[flagged].mean())
        assert one.flagged_right == pytest.approx(share, abs=0.08)
    # Answers that took no part change nothing but what it is worth.
    other = states.copy()
    other[apart] += 100
    assert np.array_equal(fit_detector(other, correct, positions=NAMES, held_out=apart).main.weight, made.main.weight)


def test_the_probe_is_scikit_learn_s_with_its_scaling_folded_in() -> None:
    states, correct = planted()
    apart = np.arange(1200) >= 900
    made = fit_detector(states, correct, positions=NAMES, held_out=apart, cells=[(1, "exact_answer_last")], c=0.1)
    rows = ~apart & ~np.isnan(states[:, 0, 1, 0])
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, tol=1e-10, max_iter=10_000))
    probe.fit(states[rows, 1, 1].astype(float), correct[rows])
    x = states[~np.isnan(states[:, 0, 1, 0]), 1, 1]
    np.testing.assert_allclose(made.main.scores(x[:, None]), probe.decision_function(x.astype(float)), atol=1e-5)


def test_an_answer_without_the_exact_answer_is_judged_by_the_fallback_and_says_so(made: Detector) -> None:
    states, _ = planted()
    seen = of_cells(made, states)[:10]
    assert made.branch_of(seen) == ["fallback" if i % 5 == 0 else "main" for i in range(10)]
    p = made.p_correct(seen)
    assert made.fallback is not None
    np.testing.assert_allclose(p[::5], made.fallback.probabilities(made.fallback.scores(seen[::5, 1:])))
    np.testing.assert_allclose(p[1:5], made.main.probabilities(made.main.scores(seen[1:5, :1])))
    alone = replace(made, fallback=None)
    assert np.isnan(alone.p_correct(seen[:, :1])[0])
    assert alone.branch_of(seen[:1, :1]) == ["none"]


def test_several_cells_are_averaged() -> None:
    states, correct = planted()
    cells = [(1, "exact_answer_last"), (2, "-1")]
    both = fit_detector(states, correct, positions=NAMES, cells=cells, fallback=(0, "last_q"))
    assert both.main.cells == (Cell(1, "exact_answer_last"), Cell(2, "-1"))
    assert both.fallback is not None
    assert both.fallback.cells == (Cell(0, "last_q"),)
    seen = of_cells(both, states)[1:2]
    one = seen[0, :2].astype(float)
    by_hand = np.mean([one[k] @ both.main.weight[k] + both.main.bias[k] for k in range(2)])
    assert both.main.scores(seen[:, :2])[0] == pytest.approx(by_hand)
    single = fit_detector(states, correct, positions=NAMES, cells=[(1, "exact_answer_last")])
    assert both.main.quality.auc > single.main.quality.auc


@pytest.mark.parametrize(("n", "kind"), [(600, "platt"), (3000, "isotonic")])
def test_probabilities_can_be_believed(n: int, kind: str) -> None:
    states, correct = planted(n, seed=1)
    made = fit_detector(states, correct, positions=NAMES, held_out=0.3)
    assert made.main.kind == kind
    fresh, truth = planted(20_000, seed=2)
    p, has = made.p_correct(of_cells(made, fresh)), ~np.isnan(fresh[:, 0, 1, 0])
    for low in (0.1, 0.3, 0.5, 0.7):
        rows = has & (p >= low) & (p < low + 0.2)
        assert truth[rows].mean() == pytest.approx(p[rows].mean(), abs=0.1)


def test_scores_that_go_the_wrong_way_say_nothing() -> None:
    draw = np.random.default_rng(0)
    for _ in range(20):
        correct = draw.random(300) < 0.3
        made = fit_detector(draw.normal(size=(300, 1, 1, 8)), correct, positions=["-1"], held_out=0.4)
        slope, level = made.main.calibration[:, 0]
        assert slope >= 0
        if slope == 0:
            p = made.p_correct(draw.normal(size=(5, 1, 8)))
            assert p == pytest.approx(np.full(5, 1 / (1 + np.exp(-level))))
            assert 0.2 < p[0] < 0.4, "the share of right answers"
            return
    raise AssertionError("noise went the right way 20 times")


def test_the_promised_interval_holds_what_fresh_answers_show_as_often_as_it_says() -> None:
    fresh, truth = planted(4000, seed=999)
    has = ~np.isnan(fresh[:, 0, 1, 0])
    held = 0
    for seed in range(60):
        made = fit_detector(*planted(400, seed), positions=NAMES, layers=[0, 1, 2], fallback=None, held_out=0.3)
        reached = roc_auc_score(truth[has], made.p_correct(of_cells(made, fresh))[has])
        held += made.main.quality.auc_low < reached < made.main.quality.auc_high
    assert held >= 52


def test_the_exact_answer_is_no_fallback_even_if_all_answers_had_one() -> None:
    states, correct = planted()
    states[::5, :, 1] = 7
    made = fit_detector(states, correct, positions=NAMES)
    assert made.main.cells == (Cell(1, "exact_answer_last"),)
    assert made.fallback is not None
    assert made.fallback.cells == (Cell(2, "-1"),)


def test_an_answer_that_took_no_part_counts_for_what_all_have() -> None:
    states, correct = planted()
    states[0, :, 2] = np.nan
    made = fit_detector(states, correct, positions=NAMES, held_out=np.arange(1200) < 240)
    assert made.fallback is not None
    assert made.fallback.cells[0].position == "last_q"


def test_no_fallback_where_every_answer_has_the_cell_or_none_is_wanted() -> None:
    states, correct = planted()
    assert fit_detector(states, correct, positions=NAMES, cells=[(2, "-1")]).fallback is None
    assert fit_detector(states, correct, positions=NAMES, fallback=None).fallback is None


def test_questions_stay_on_one_side() -> None:
    states, correct = planted(600)
    twice, verdicts, groups = np.repeat(states, 2, 0), np.repeat(correct, 2), np.repeat(np.arange(600), 2)
    made = fit_detector(twice, verdicts, groups=groups, positions=NAMES)
    assert made.main.quality.n % 2 == 0
    apart = np.arange(600) < 200
    one = fit_detector(states, correct, positions=NAMES, held_out=apart)
    two = fit_detector(twice, verdicts, groups=groups, positions=NAMES, held_out=np.repeat(apart, 2))
    widths = [m.main.quality.auc_high - m.main.quality.auc_low for m in (one, two)]
    assert widths[0] == pytest.approx(widths[1], rel=0.05), "two answers of one question are one draw"


def test_what_cannot_be_made_is_refused() -> None:
    states, correct = planted(600)
    for options, message in (
        ({"cells": [(7, "-1")]}, r"there is no cell \(7, '-1'\)\nhint: layers 0 to 2; positions last_q"),
        ({"cells": []}, "there is no cell"),
        ({"held_out": 0.05}, "answers are left to judge on: fewer than 20"),
    ):
        with pytest.raises(DetectorError, match=message):
            fit_detector(states, correct, positions=NAMES, **options)
    splits: list[tuple[dict[str, Any], str]] = [
        ({"held_out": 2.0}, "held_out is 2.0"),
        ({"held_out": [True]}, r"held_out has shape \(1,\)"),
        (
            {"held_out": np.arange(600) < 201, "groups": np.arange(600) // 2},
            "1 groups have answers both in and out of the held-out part",
        ),
    ]
    for split, message in splits:
        with pytest.raises(MapError, match=message):
            fit_detector(states, correct, positions=NAMES, **split)
    with pytest.raises(MapError, match="a map needs right and wrong answers"):
        fit_detector(states, [True] * 600, positions=NAMES)
    states[:, :, 0::2] = np.nan
    with pytest.raises(DetectorError, match="no position is there in every answer"):
        fit_detector(states, correct, positions=NAMES)


def test_states_of_another_width_are_refused(made: Detector) -> None:
    with pytest.raises(DetectorError, match=r"states have shape \(3, 2, 5\), expected \(n, 2, 6\)"):
        made.p_correct(np.zeros((3, 2, 5)))


# --- files ---


def test_it_comes_back_as_it_was(made: Detector, tmp_path: Path) -> None:
    origin = Origin("m", "r", "float32", "t", "chat", versions={"probemap": "0"})
    whole = replace(made, origin=origin)
    whole.save(tmp_path / "d")
    shutil.copytree(tmp_path / "d", tmp_path / "elsewhere")
    again = Detector.load(tmp_path / "elsewhere")
    states, _ = planted()
    seen = of_cells(made, states)
    assert np.array_equal(again.p_correct(seen), whole.p_correct(seen))
    assert (again.origin, again.seed, again.main.thresholds) == (origin, 0, made.main.thresholds)
    card = (tmp_path / "d" / "README.md").read_text()
    assert "Layer 1 at `exact_answer_last`." in card
    assert f"AUC {made.main.quality.auc:.3f}" in card
    assert 'base_model: "m"' in card
    before = {p.name: p.read_bytes() for p in (tmp_path / "d").iterdir()}
    whole.save(tmp_path / "d")
    assert {p.name: p.read_bytes() for p in (tmp_path / "d").iterdir()} == before


def test_every_changed_byte_is_found(made: Detector, tmp_path: Path) -> None:
    made.save(tmp_path)
    draw = np.random.default_rng(0)
    for name in ("config.json", "detector.safetensors"):
        path = tmp_path / name
        whole = path.read_bytes()
        for at in draw.choice(len(whole), min(len(whole), 150), replace=False).tolist():
            changed = bytearray(whole)
            changed[at] ^= 1 << int(draw.integers(8))
            path.write_bytes(changed)
            with pytest.raises(DetectorError, match=r"hint:"):
                Detector.load(tmp_path)
        for cut in (0, 10, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:cut])
            with pytest.raises(DetectorError):
                Detector.load(tmp_path)
        path.write_bytes(whole)
    assert Detector.load(tmp_path).main.cells == made.main.cells


def resealed(folder: Path, change: Any = None, tensors: dict[str, np.ndarray] | None = None) -> None:
    """Somebody who knows how the checksums are made writes other things."""
    import hashlib

    config = json.loads((folder / "config.json").read_text())
    config.pop("check")
    if tensors is not None:
        content = save(tensors)
        (folder / "detector.safetensors").write_bytes(content)
        config["tensors"] = hashlib.sha256(content).hexdigest()
    if change is not None:
        change(config)
    config["check"] = room._check(config)
    (folder / "config.json").write_text(json.dumps(config))


def numbers(folder: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load

    return dict(load((folder / "detector.safetensors").read_bytes()))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("main.weight", np.full((1, 6), np.nan), "numbers that are not finite"),
        ("main.weight", np.zeros((2, 6)), "for 1 cells"),
        ("main.weight", np.zeros((1, 0)), "weights of shape"),
        ("fallback.weight", np.zeros((1, 7)), "states of different widths"),
        ("main.bias", np.zeros(3), "weights of shape"),
        ("main.calibration", np.zeros((3, 1)), "a calibration of shape"),
        ("extra", np.zeros(3), "other branches or tensors"),
    ],
)
def test_numbers_that_no_detector_has_are_refused(
    name: str, value: np.ndarray, message: str, made: Detector, tmp_path: Path
) -> None:
    made.save(tmp_path)
    resealed(tmp_path, tensors=numbers(tmp_path) | {name: value})
    with pytest.raises(DetectorError, match=message):
        Detector.load(tmp_path)


def test_other_schemas_and_other_files_are_refused(made: Detector, tmp_path: Path) -> None:
    made.save(tmp_path)
    resealed(tmp_path, lambda config: config.update(schema=99))
    with pytest.raises(DetectorError, match="has schema 99, expected 1"):
        Detector.load(tmp_path)
    with pytest.raises(DetectorError, match=r"holds no detector .*\nhint: `probemap export"):
        Detector.load(tmp_path / "nothing")
    made.save(tmp_path)
    (tmp_path / "detector.safetensors").write_bytes(b"\x80\x04cos\nsystem\n(S'true'\ntR.")  # a pickle
    with pytest.raises(DetectorError, match="has changed since it was written"):
        Detector.load(tmp_path)


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_any_bytes_are_refused_with_a_message(tmp_path_factory: pytest.TempPathFactory, one: bytes, two: bytes) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "config.json").write_bytes(one)
    (folder / "detector.safetensors").write_bytes(two)
    with pytest.raises(DetectorError):
        Detector.load(folder)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    ),
    st.sampled_from(["branches", "origin", "seed", "tensors", "schema"]),
)
def test_any_json_is_refused_with_a_message(
    made: Detector, tmp_path_factory: pytest.TempPathFactory, value: Any, field: str
) -> None:
    folder = tmp_path_factory.mktemp("any")
    made.save(folder)
    resealed(folder, lambda config: config.update({field: value}))
    try:
        Detector.load(folder)
    except DetectorError:
        return
    assert field in ("seed", "origin") or value == 1, "any number is a seed, an origin may be empty, and True is 1"


def test_both_calibrations_by_hand() -> None:
    branch = Branch((Cell(0, "-1"),), np.ones((1, 2)), np.zeros(1), np.array([[2.0], [-1.0]]), "platt", QUALITY, ())
    assert branch.probabilities(np.array([0.5]))[0] == expit(0.0)
    steps = replace(branch, kind="isotonic", calibration=np.array([[0.0, 1.0, 2.0], [0.1, 0.5, 0.9]]))
    assert steps.probabilities(np.array([-5, 0.5, 1.5, 9])).tolist() == pytest.approx([0.1, 0.3, 0.7, 0.9])
    with pytest.raises(DetectorError, match=r"no threshold for 0\.5 of right answers"):
        branch.threshold(0.5)
