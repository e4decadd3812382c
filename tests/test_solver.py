"""The solver finds the same optimum as scikit-learn run to convergence, whatever the shape and the penalty."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from probemap.probe import out_of_fold_scores
from probemap.solver import fit_logistic


def problem(n: int, d: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Correlated features with means of a thousand, one a thousand times larger; labels they half explain."""
    draw = np.random.default_rng(seed)
    states = draw.normal(size=(n, d)) @ (np.eye(d) + 0.3 * draw.normal(size=(d, d)) / np.sqrt(d))
    correct = states[:, 0] + draw.normal(size=n) > 0.3
    states *= draw.uniform(0.5, 2, d)
    states[:, -1] *= 1000
    return (states + 1000 * draw.normal(size=d)).astype(np.float32), correct, draw.integers(0, 5, n)


@pytest.mark.parametrize(("n", "d"), [(120, 300), (300, 40), (200, 160), (60, 1)])
@pytest.mark.parametrize("c", [1e-4, 1e-2, 1.0, 100.0])
def test_out_of_fold_scores_are_scikit_learn_s(n: int, d: int, c: float) -> None:
    states, correct, fold = problem(n, d)
    mine = out_of_fold_scores(states, correct, fold, c=c)
    assert mine is not None
    theirs = np.zeros(n)
    for k in range(5):
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=100_000, tol=1e-9))
        probe.fit(states[fold != k].astype(float), correct[fold != k])
        theirs[fold == k] = probe.decision_function(states[fold == k].astype(float))
    assert np.abs(mine - theirs).max() < 2e-3 * np.abs(theirs).max()
    assert np.corrcoef(mine, theirs)[0, 1] > 0.9999


def test_one_problem_by_hand() -> None:
    # Two points at ±1 of opposite classes: by symmetry b = 0, and w minimises 2c log(1 + exp(-w)) + w²/2.
    x = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    fits = fit_logistic(
        x,
        torch.tensor([[False, True]]),
        torch.tensor([[True, True]]),
        torch.ones(1, 1, dtype=torch.float64),
        torch.tensor([3.0], dtype=torch.float64),
    )
    w = float(fits.scores[0, 1])
    assert float(fits.scores[0, 0]) == pytest.approx(-w)
    assert w == pytest.approx(2 * 3.0 / (1 + np.exp(w)), rel=1e-5), "the gradient is zero"
    assert bool(fits.converged.all())


def test_left_out_rows_do_not_touch_the_fit() -> None:
    states, correct, fold = problem(120, 30)
    changed = states.copy()
    changed[fold == 0] += np.random.default_rng(5).normal(size=changed[fold == 0].shape).astype(np.float32) * 100
    one, two = (out_of_fold_scores(s, correct, fold) for s in (states, changed))
    assert one is not None
    assert two is not None
    shared = np.corrcoef(one[fold == 0], two[fold == 0])[0, 1]
    assert shared < 0.99, "their own scores change"
    training = np.stack([fold != 0])
    from probemap.probe import _logistic

    kept = [_logistic(s.astype(float), correct, training, 1.0)[0][fold != 0] for s in (states, changed)]
    np.testing.assert_allclose(kept[0], kept[1], atol=2e-3)


def test_constant_features_are_no_trouble() -> None:
    states, correct, fold = problem(120, 30)
    flat = states.copy()
    flat[:, 3] = 1e3
    rest = np.delete(states, 3, axis=1)
    one, two = out_of_fold_scores(flat, correct, fold), out_of_fold_scores(rest, correct, fold)
    assert one is not None
    assert two is not None
    np.testing.assert_allclose(one, two, atol=1e-3)


def test_any_classifier_can_be_the_probe() -> None:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    states, correct, fold = problem(200, 10)
    scores = out_of_fold_scores(states, correct, fold, probe=LinearDiscriminantAnalysis())
    assert scores is not None
    expected = LinearDiscriminantAnalysis().fit(states[fold != 2], correct[fold != 2])
    np.testing.assert_allclose(scores[fold == 2], expected.decision_function(states[fold == 2]), rtol=1e-3, atol=1e-3)


def test_a_fold_whose_training_rows_have_one_class_gives_no_scores() -> None:
    states, _, _ = problem(60, 5)
    correct = np.arange(60) < 12
    assert out_of_fold_scores(states, correct, (~correct).astype(np.int64)) is None
    assert out_of_fold_scores(states, np.arange(60) < 9, np.arange(60) % 5) is None
