"""Values of cells against hand-computed cases, scikit-learn and simulation."""

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score
from synthetic import from_scores, some_scores

from probemap.maps.attention import with_attention
from probemap.maps.fit import fit_map
from probemap.maps.probe_map import ProbeMap
from probemap.probing.difference import difference
from probemap.probing.metrics import VALUES, measure, shared_limits
from probemap.records import MapError


@pytest.mark.parametrize(
    ("name", "metric"),
    [("accuracy", accuracy_score), ("balanced-accuracy", balanced_accuracy_score), ("f1", f1_score)],
)
def test_measure_equals_scikit_learn(name: str, metric: Callable[..., float]) -> None:
    scores, correct = some_scores()
    cells = measure(from_scores(scores, correct, names=("a", "b")), name).cells
    for layer in range(3):
        for column, position in enumerate("ab"):
            rows = ~np.isnan(scores[:, layer, column])
            expected = metric(correct[rows], scores[rows, layer, column] > 0)
            assert float(cells["value"].sel(layer=layer, position=position)) == pytest.approx(expected)
    assert cells["n"].values.tolist() == [300, 150]


def test_measure_calibration_error_hand_computed() -> None:
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
def test_measure_intervals_cover_the_truth(name: str, truth: float) -> None:
    held = []
    for seed in range(30):
        draw = np.random.default_rng(seed)
        correct = draw.random(200) < 0.5
        scores = draw.normal(size=(200, 10, 1)) + correct[:, None, None]
        cells = measure(from_scores(scores, correct), name).cells
        held.append((cells["low"].values <= truth) & (truth <= cells["high"].values))
    assert 0.92 <= np.mean(held) <= 0.98


def test_measure_counts_answers_of_one_question_once() -> None:
    scores, correct = some_scores(100)
    twice = np.repeat(scores, 2, axis=0), np.repeat(correct, 2)
    alone = measure(from_scores(scores, correct, names="ab"), "accuracy").cells
    pairs = measure(from_scores(*twice, np.repeat(np.arange(100), 2), names="ab"), "accuracy").cells
    widths = [(cells["high"] - cells["low"]).values for cells in (alone, pairs)]
    np.testing.assert_allclose(widths[1], widths[0], rtol=0.02)


def test_measure_activation_norm() -> None:
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


def test_with_attention_averages_over_the_answers_of_the_map() -> None:
    scores, correct = some_scores(60)
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


def test_measure_uses_variance_inflation() -> None:
    scores, correct = some_scores(300)
    plain = from_scores(scores, correct, names=("a", "b"))
    noisy = from_scores(scores, correct, names=("a", "b"))
    noisy.data["variance_inflation"][:] = 1.0
    for value in ("accuracy", "balanced-accuracy", "f1"):
        widths = [(m.cells["high"] - m.cells["low"]).values for m in (measure(noisy, value), measure(plain, value))]
        np.testing.assert_allclose(widths[0], np.sqrt(2) * widths[1])
    assert np.isnan(measure(plain, "calibration-error").cells["low"].values).all()


def test_measure_rejects_missing_values() -> None:
    scores, correct = some_scores()
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


def test_shared_limits_span_all_maps() -> None:
    scores, correct = some_scores()
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


def test_values_have_distinct_labels() -> None:
    labels = [kind.label for kind in VALUES.values()]
    assert len(set(labels)) == len(labels) == 15
