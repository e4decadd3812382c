"""Differences of maps of the same and of different answers."""

import numpy as np
import pytest
from synthetic import from_scores, some_scores

from probemap.maps.fit import fit_map
from probemap.probing.difference import difference
from probemap.records import MapError

NAMES = ("a", "b")


def test_difference_of_the_same_answers_is_paired() -> None:
    scores, correct = some_scores()
    minuend = from_scores(scores, correct, names=("a", "b"))
    subtrahend = from_scores(-scores, correct, names=("b", "a"))
    cells, expected = difference(minuend, subtrahend).cells, minuend.difference(subtrahend)
    np.testing.assert_array_equal(cells["value"].values, expected["difference"].values)
    np.testing.assert_array_equal(cells["low"].values, expected["low"].values)


def test_difference_of_different_answers_adds_both_variances() -> None:
    (scores_a, correct_a), (scores_b, correct_b) = some_scores(), some_scores(seed=1)
    minuend = from_scores(scores_a, correct_a, names=NAMES)
    subtrahend = from_scores(scores_b, correct_b, names=NAMES, ids=[f"o{i}" for i in range(300)])
    cells = difference(minuend, subtrahend).cells
    np.testing.assert_allclose(cells["value"].values, minuend.auc.values - subtrahend.auc.values)
    # The intervals of the maps are symmetric on the logit scale, so that this holds approximately.
    squares = [((m.data["high"] - m.data["low"]) ** 2).values for m in (minuend, subtrahend)]
    np.testing.assert_allclose(((cells["high"] - cells["low"]) ** 2).values, squares[0] + squares[1], rtol=0.1)


def test_difference_of_two_models_pairs_questions() -> None:
    scores, correct = some_scores()
    minuend, same = (from_scores(scores, correct, names=NAMES) for _ in range(2))
    other_labels = correct.copy()
    other_labels[0] = not other_labels[0]  # another model answers the same questions
    paired = difference(minuend, from_scores(scores, other_labels, names=NAMES)).cells
    ids = [f"o{i}" for i in range(300)]
    independent = difference(minuend, from_scores(scores, other_labels, names=NAMES, ids=ids)).cells
    widest, narrowest = (
        float((paired["high"] - paired["low"]).max()),
        float((independent["high"] - independent["low"]).min()),
    )
    assert widest < 0.3 * narrowest
    assert difference(minuend, same).cells["value"].values.tolist() == [[0, 0]] * 3


def test_difference_with_a_small_overlap_uses_all_answers() -> None:
    scores, correct = some_scores(400)
    minuend = from_scores(scores[:250], correct[:250], names=NAMES, ids=[f"q{i}" for i in range(250)])
    subtrahend = from_scores(scores[200:], correct[200:], names=NAMES, ids=[f"q{i}" for i in range(200, 400)])
    cells = difference(minuend, subtrahend).cells
    np.testing.assert_allclose(cells["value"].values, minuend.auc.values - subtrahend.auc.values)
    assert cells["n"].values.tolist() == [200, 100]


def test_difference_counts_a_question_of_both_maps_once() -> None:
    scores, correct = some_scores(300, seed=3)
    groups = np.arange(300) // 3
    minuend = from_scores(scores, correct, groups, names=NAMES, ids=[f"a{i}" for i in range(300)])
    shared_ids = [f"a{i}" if i % 3 == 0 else f"b{i}" for i in range(300)]
    subtrahend = from_scores(-scores, correct, groups, names=NAMES, ids=shared_ids)
    dependent = difference(minuend, subtrahend).cells
    unrelated = from_scores(-scores, correct, groups, names=NAMES, ids=[f"b{i}" for i in range(300)])
    independent = difference(minuend, unrelated).cells
    # The same answers with opposite scores: their errors add up instead of their squares.
    widths = [(cells["high"] - cells["low"]).values for cells in (dependent, independent)]
    assert (widths[0] > 1.2 * widths[1]).all()


def test_difference_does_not_match_answers_by_row_number() -> None:
    draw = np.random.default_rng(0)
    correct = np.arange(100) % 2 == 0
    first, second = draw.normal(size=(2, 100, 1, 1, 3)).astype(np.float32)
    second[:, 0, 0, 0] += correct
    numbered = [fit_map(states, correct, positions=["-1"]) for states in (first, second)]
    ids = [[f"{k}-{i}" for i in range(100)] for k in range(2)]
    named = [fit_map(states, correct, positions=["-1"], ids=ids[k]) for k, states in enumerate((first, second))]
    cells, expected = difference(*numbered).cells, difference(*named).cells
    assert cells["low"].values == expected["low"].values, "independent answers"
    paired = difference(*numbered, same_answers=True).cells
    assert paired["low"].values == numbered[0].difference(numbered[1])["low"].values
    shared = [fit_map(states, correct, positions=["-1"], ids=ids[0]) for states in (first, second)]
    assert difference(*shared).cells["low"].values == paired["low"].values, "matched by ids"
    assert difference(*shared, same_answers=False).cells["low"].values == expected["low"].values


def test_difference_rejects_other_labels_of_the_same_answers() -> None:
    scores, correct = some_scores()
    maps = [from_scores(scores, labels, names=NAMES) for labels in (correct, ~correct)]
    with pytest.raises(MapError, match="the same answers have different labels"):
        difference(*maps, same_answers=True)
