"""Other values of a cell against hand-computed cases, scikit-learn and simulation."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from probemap.maps.attention import with_attention
from probemap.maps.fit import fit_map
from probemap.maps.probe_map import ProbeMap
from probemap.probing.dataset import MapScores, map_dataset
from probemap.probing.difference import difference
from probemap.probing.inference import Estimate, means, standardised_differences
from probemap.probing.metrics import VALUES, measure, shared_limits
from probemap.records import MapError


def from_scores(
    scores: Any, correct: Any, groups: Any = None, names: Any = ("-1",), ids: Any = None, folds: int = 1
) -> ProbeMap:
    """A map of given out-of-fold scores, (n, n_layers, n_positions)."""
    scores, correct = np.asarray(scores, np.float32), np.asarray(correct, bool)
    n = len(correct)
    map_scores = MapScores(
        scores=scores[None],
        correct=correct,
        fold=np.arange(n)[None] % folds,
        group=np.arange(n) if groups is None else np.asarray(groups),
        variance_inflation=np.zeros(scores.shape[1:]),
        answers=[str(i) for i in range(n)] if ids is None else ids,
        layers=range(scores.shape[1]),
        positions=names,
        present=~np.isnan(scores[:, 0]),
    )
    attrs = {"seed": 0, "probe": "", "answers": n, "decided": n, "right": int(correct.sum())}
    return ProbeMap(map_dataset(map_scores, attrs))


def some(n: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores (n, 3, 2) that know more and more, half of the second column missing; and verdicts."""
    draw = np.random.default_rng(seed)
    correct = draw.random(n) < 0.4
    scores = draw.normal(size=(n, 3, 2)) + (correct[:, None, None] - 0.4) * np.arange(3)[:, None]
    scores[::2, :, 1] = np.nan
    return scores.astype(np.float32), correct


@pytest.mark.parametrize(
    ("name", "metric"),
    [("accuracy", accuracy_score), ("balanced-accuracy", balanced_accuracy_score), ("f1", f1_score)],
)
def test_what_is_read_from_the_scores_is_scikit_learn_s(name: str, metric: Callable[..., float]) -> None:
    scores, correct = some()
    cells = measure(from_scores(scores, correct, names=("a", "b")), name).cells
    for layer in range(3):
        for column, position in enumerate("ab"):
            rows = ~np.isnan(scores[:, layer, column])
            expected = metric(correct[rows], scores[rows, layer, column] > 0)
            assert float(cells["value"].sel(layer=layer, position=position)) == pytest.approx(expected)
    assert cells["n"].values.tolist() == [300, 150]


def test_the_calibration_error_of_a_case_worked_by_hand() -> None:
    # Ten bins of one answer each: |p - y| averaged.
    scores = np.log(np.arange(1, 11) / np.arange(10, 0, -1))
    correct = np.array([0, 0, 0, 0, 1, 0, 1, 1, 1, 1], bool)
    p = np.arange(1, 11) / 11
    made = measure(from_scores(scores[:, None, None], correct), "calibration-error").cells["value"]
    assert made.item() == pytest.approx(np.abs(p - correct).mean())
    # Twenty answers in pairs: the gaps inside a bin add up before their size is taken.
    pairs, verdicts = np.repeat(scores, 2), np.tile([True, False], 10)
    made = measure(from_scores(pairs[:, None, None], verdicts), "calibration-error").cells["value"]
    assert made.item() == pytest.approx(np.abs(p - 0.5).mean())


@pytest.mark.parametrize(
    ("name", "truth"),
    # Right answers score N(1, 1), wrong ones N(0, 1), half each: above 0 are Φ(1) and half of them.
    [("accuracy", 0.67067), ("balanced-accuracy", 0.67067), ("f1", 0.71871)],
)
def test_intervals_hold_the_truth_as_often_as_they_say(name: str, truth: float) -> None:
    held = 0
    for seed in range(300):
        draw = np.random.default_rng(seed)
        correct = draw.random(200) < 0.5
        cells = measure(from_scores((draw.normal(size=200) + correct)[:, None, None], correct), name).cells
        held += bool(cells["low"].item() <= truth <= cells["high"].item())
    assert 0.92 <= held / 300 <= 0.98


def test_answers_of_one_question_count_as_one_draw() -> None:
    scores, correct = some(100)
    twice = np.repeat(scores, 2, axis=0), np.repeat(correct, 2)
    alone = measure(from_scores(scores, correct, names="ab"), "accuracy").cells
    pairs = measure(from_scores(*twice, np.repeat(np.arange(100), 2), names="ab"), "accuracy").cells
    widths = [(cells["high"] - cells["low"]).values for cells in (alone, pairs)]
    np.testing.assert_allclose(widths[1], widths[0], rtol=0.02)


def test_strength_is_the_norm_of_the_states() -> None:
    draw = np.random.default_rng(0)
    correct = draw.random(200) < 0.5
    states = draw.normal(size=(200, 2, 2, 5)).astype(np.float32)
    states[:, 1, 0] *= 1 + correct[:, None]
    states[::4, :, 1] = np.nan
    made = fit_map(states, correct, positions=("a", "b"), nested=False)
    norms = np.linalg.norm(states.astype(float), axis=3)
    strength, difference = measure(made, "activation-norm"), measure(made, "activation-norm-difference")
    np.testing.assert_allclose(strength.cells["value"].values, np.nanmean(norms, axis=0), rtol=1e-5)
    one = norms[:, 1, 0]
    pooled = np.sqrt((one[correct].var() * correct.sum() + one[~correct].var() * (~correct).sum()) / 198)
    d = float(difference.cells["value"].sel(layer=1, position="a"))
    assert d == pytest.approx((one[correct].mean() - one[~correct].mean()) / pooled, rel=1e-5)
    assert difference.differs_from_zero.tolist() == [[False, False], [True, False]]
    assert difference.limits[0] == -difference.limits[1]


def test_the_interval_of_a_standardised_difference_holds_the_truth() -> None:
    held = 0
    for seed in range(400):
        draw = np.random.default_rng(seed)
        correct = draw.random(120) < 0.3
        made = standardised_differences((draw.normal(size=120) * 3 + 2.4 * correct)[:, None], correct)
        low, high = made.interval(None)
        held += bool(low[0] <= 0.8 <= high[0])
    assert 0.92 <= held / 400 <= 0.98


def test_a_mean_and_its_error_by_hand() -> None:
    made = means(np.array([[1.0, np.nan], [2, 5], [6, np.nan]]))
    assert made.value[0] == 3
    assert np.isnan(made.value[1])
    assert (made.influence[:, 0] ** 2).sum() == pytest.approx(7 / 3)  # the variance, 7, by n
    low, high = Estimate(np.array([3.0]), np.array([[1.0]])).interval(None)
    assert (low[0], high[0]) == pytest.approx((3 - 1.959964, 3 + 1.959964))


def test_attention_is_averaged_over_the_answers_that_the_map_judges() -> None:
    scores, correct = some(60)
    made = from_scores(scores, correct, names=("a", "b"), ids=[f"x{i}" for i in range(60)])
    weights = np.random.default_rng(1).random((80, 3, 2, 2)).astype(np.float32)  # of 80 answers, 20 undecided
    weights[:, :, 1, 1] = np.nan
    ids = [f"x{i}" for i in reversed(range(80))]
    more = with_attention(made, lambda layer: weights[:, layer], ids)
    mine = weights[[ids.index(f"x{i}") for i in range(60)]]
    np.testing.assert_allclose(measure(more, "attention").cells["value"], mine[..., 0].mean(0), rtol=1e-5)
    exact = measure(more, "attention-exact").cells["value"].values
    np.testing.assert_allclose(exact[:, 0], mine[:, :, 0, 1].mean(0), rtol=1e-5)
    assert np.isnan(exact[:, 1]).all()


# --- maps subtracted ---


def test_maps_of_one_run_are_subtracted_on_the_answers_of_both() -> None:
    scores, correct = some()
    one, other = from_scores(scores, correct, names=("a", "b")), from_scores(-scores, correct, names=("b", "a"))
    made, expected = difference(one, other), one.difference(other)
    np.testing.assert_array_equal(made.cells["value"].values, expected["difference"].values)
    np.testing.assert_array_equal(made.cells["low"].values, expected["low"].values)


def test_maps_of_other_answers_have_both_their_errors() -> None:
    (first, right), (second, other_right) = some(), some(seed=1)
    one = from_scores(first, right, names=("a", "b"))
    other = from_scores(second, other_right, names=("a", "b"), ids=[f"o{i}" for i in range(300)])
    made = difference(one, other).cells
    np.testing.assert_allclose(made["value"].values, one.auc.values - other.auc.values)
    variance = [
        ((m.data["high"] - m.data["low"]) ** 2).values for m in (one, other)
    ]  # on the logit scale: about the same
    np.testing.assert_allclose(((made["high"] - made["low"]) ** 2).values, variance[0] + variance[1], rtol=0.1)


def test_two_models_asked_the_same_questions_are_compared_question_by_question() -> None:
    scores, correct = some()
    one, same = (from_scores(scores, correct, names=("a", "b")) for _ in range(2))
    almost = correct.copy()
    almost[0] = not almost[0]  # other verdicts: another model's answers
    other = difference(one, from_scores(scores, almost, names=("a", "b"))).cells
    apart = difference(one, from_scores(scores, almost, names=("a", "b"), ids=[f"o{i}" for i in range(300)])).cells
    assert float((other["high"] - other["low"]).max()) < 0.3 * float((apart["high"] - apart["low"]).min())
    assert difference(one, same).cells["value"].values.tolist() == [[0, 0]] * 3


def test_a_small_overlap_does_not_replace_the_comparison() -> None:
    scores, correct = some(400)
    one = from_scores(scores[:250], correct[:250], names=("a", "b"), ids=[f"q{i}" for i in range(250)])
    other = from_scores(scores[200:], correct[200:], names=("a", "b"), ids=[f"q{i}" for i in range(200, 400)])
    made = difference(one, other).cells
    np.testing.assert_allclose(made["value"].values, one.auc.values - other.auc.values)
    assert made["n"].values.tolist() == [200, 100]


def test_a_question_of_both_maps_ties_all_of_its_answers_together() -> None:
    scores, correct = some(300, seed=3)
    groups = np.arange(300) // 3
    one = from_scores(scores, correct, groups, names=("a", "b"), ids=[f"a{i}" for i in range(300)])
    other = from_scores(
        -scores, correct, groups, names=("a", "b"), ids=[f"a{i}" if i % 3 == 0 else f"b{i}" for i in range(300)]
    )
    tied = difference(one, other).cells
    apart = from_scores(-scores, correct, groups, names=("a", "b"), ids=[f"b{i}" for i in range(300)])
    free = difference(one, apart).cells
    # The same answers with opposite scores: their errors add up instead of their squares.
    assert ((tied["high"] - tied["low"]).values > 1.2 * (free["high"] - free["low"]).values).all()


def test_what_moves_aucs_together_widens_other_values_too() -> None:
    scores, correct = some(300)
    plain = from_scores(scores, correct, names=("a", "b"))
    noisy = from_scores(scores, correct, names=("a", "b"))
    noisy.data["variance_inflation"][:] = 1.0
    for value in ("accuracy", "balanced-accuracy", "f1"):
        widths = [(m.cells["high"] - m.cells["low"]).values for m in (measure(noisy, value), measure(plain, value))]
        np.testing.assert_allclose(widths[0], np.sqrt(2) * widths[1])
    assert np.isnan(measure(plain, "calibration-error").cells["low"].values).all()


def test_what_cannot_be_measured_is_refused() -> None:
    scores, correct = some()
    made = from_scores(scores, correct, names=("a", "b"))
    for value, message in (
        ("auk", "unknown value 'auk'\nhint: known values are auc, accuracy"),
        ("gain", "the map does not contain gain\nhint: `probemap map RUN --redo` without"),
        ("attention", "the map does not contain attention\nhint: `probemap attention RUN`"),
        ("activation-norm", "the map does not contain activation-norm"),
    ):
        with pytest.raises(MapError, match=message):
            measure(made, value)
    made.data.attrs["probe"] = "LinearSVC()"
    with pytest.raises(MapError, match=r"the scores of LinearSVC\(\) are not log-odds"):
        measure(made, "calibration-error")
    with pytest.raises(MapError, match="no cells in common"):
        difference(made, from_scores(scores, ~correct, names=("c", "d")))


def test_scales_are_robust_and_can_be_shared() -> None:
    scores, correct = some()
    made = from_scores(scores, correct, names=("a", "b"))
    assert measure(made).limits == (0.5, 1.0)
    grid = np.linspace(0, 1, 6).reshape(3, 2)
    grid[0, 0] = np.nan
    data = made.data.assign({f"gain{end}": (("layer", "position"), -grid) for end in ("", "_low", "_high")})
    gain = measure(ProbeMap(data), "gain")
    assert gain.limits == pytest.approx((-np.nanpercentile(grid, 98), np.nanpercentile(grid, 98)))
    one, two = measure(made, "accuracy"), measure(from_scores(-scores, correct, names=("a", "b")), "accuracy")
    lowest, highest = min(one.limits[0], two.limits[0]), max(one.limits[1], two.limits[1])
    assert [m.limits for m in shared_limits([one, two])] == [(lowest, highest)] * 2


def test_every_value_has_a_label_of_its_own() -> None:
    labels = [kind.label for kind in VALUES.values()]
    assert len(set(labels)) == len(labels) == 10
