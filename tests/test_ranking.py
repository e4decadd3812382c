"""All methods on the same answers: values by hand, ranks that hold, what lacks too much left out."""

import numpy as np
import pytest

from probemap import fit_map
from probemap.maps.probe_map import ProbeMap
from probemap.probing.auc import auc_values
from probemap.records import TooFewError
from probemap.studies.ranking import PROBES, Plain, map_rows, rank, rank_ranges


@pytest.fixture(scope="module")
def known() -> tuple[ProbeMap, np.ndarray]:
    """A map in which the exact answer knows much, the last token a little, the question's end nothing."""
    draw = np.random.default_rng(0)
    n = 240
    correct = draw.random(n) < 0.5
    states = draw.normal(size=(n, 3, 4, 8)).astype(np.float32)
    states[:, 1, 2, 0] += 2.5 * correct
    states[:, 2, 3, 0] += 0.8 * correct
    made = fit_map(
        states, correct, positions=["last_q", "-2", "exact_answer_last", "-1"], ids=[f"q{i}" for i in range(n)]
    )
    return made, correct


def test_every_method_on_the_same_answers(known: tuple[ProbeMap, np.ndarray]) -> None:
    made, correct = known
    draw = np.random.default_rng(1)
    good, noise = correct + draw.normal(size=240), draw.normal(size=240)
    good[:10] = np.nan
    table = rank(made, {"good": Plain("a good one", good), "noise": Plain("nothing", noise)})
    assert table.rows[0][0] == "probe_exact_answer"
    assert {row[2] for row in table.rows} == {230}
    of = {row[0]: row for row in table.rows}
    assert set(of) == {"good", "noise", *PROBES}
    # The AUC within the folds, of the 230 answers that have all.
    fold = made.data["fold"].values[0]
    expected = auc_values(good[10:, None], correct[10:, None], fold[10:])[0]
    assert of["good"][3] == pytest.approx(expected)
    assert of["good"][1] == "a good one"
    assert [row[6] for row in table.rows] == [1, 2, 3, 4, 5, 6]
    assert of["probe_exact_answer"][7:] == (1, 1)
    assert of["noise"][8] == 6
    for row in table.rows:
        _, _, _, auc, low, high, place, first, last = row
        assert low < auc < high and first <= place <= last  # type: ignore[operator]
    assert table.words[0].startswith(
        "The best is probe_exact_answer, the probe at the exact answer, or next to it: AUC 0.9"
    )
    assert (
        "The best probe (probe_exact_answer) is better than the best of what needs no probe (good): +0."
        in table.words[1]
    )


def test_what_many_lack_is_left_out_and_said(known: tuple[ProbeMap, np.ndarray]) -> None:
    made, correct = known
    half = np.where(np.arange(240) % 2 == 0, 1.0, np.nan)
    table = rank(made, {"half": Plain("of every second", half), "all": Plain("of all", correct.astype(float))})
    assert {row[2] for row in table.rows} == {240}
    assert "half" not in [row[0] for row in table.rows]
    assert table.words[-1] == "Left out, because more than a fifth of the answers lack it: half."
    assert "cannot be told apart" not in " ".join(table.words)
    assert "is worse than the best of what needs no probe (all)" in table.words[1]


def test_too_few_answers_are_refused(known: tuple[ProbeMap, np.ndarray]) -> None:
    made, correct = known
    few = np.where(correct & (np.cumsum(correct) > 9), np.nan, 1.0)
    only = ProbeMap(made.data.isel(answer=np.flatnonzero(~np.isnan(few) | (np.arange(240) % 9 < 0))))
    with pytest.raises(TooFewError, match=r"9 right and \d+ wrong answers have all of 4 methods.*\nhint: ask more"):
        rank(only, {})


def test_ranks_by_hand() -> None:
    # Three values, independent, each with a standard error of 0.01.
    influence = np.eye(3) * 0.01
    first, last = rank_ranges(np.array([0.9, 0.6, 0.61]), influence, seed=0)
    assert (first.tolist(), last.tolist()) == ([1, 2, 2], [1, 3, 3])
    first, last = rank_ranges(np.array([0.9, 0.6, 0.7]), influence, seed=0)
    assert (first.tolist(), last.tolist()) == ([1, 3, 2], [1, 3, 2])
    first, last = rank_ranges(np.array([0.7]), np.ones((4, 1)), seed=0)
    assert (first.tolist(), last.tolist()) == ([1], [1])
    # Twins are equal, however little they vary.
    first, last = rank_ranges(np.array([0.7, 0.7]), np.ones((4, 2)), seed=0)
    assert (first.tolist(), last.tolist()) == ([1, 1], [2, 2])


def test_ranks_hold_the_true_ones_at_once() -> None:
    draw = np.random.default_rng(0)
    truth = np.array([0.8, 0.75, 0.75, 0.6])
    held = 0
    for _ in range(300):
        error = draw.normal(size=(50, 4)) * 0.004
        first, last = rank_ranges(truth + error.sum(0), error, seed=1)
        held += bool((first <= [1, 2, 2, 4]).all() and (last >= [1, 3, 3, 4]).all())
    assert held / 300 >= 0.93


def test_rows_of_a_map_are_found_by_name(known: tuple[ProbeMap, np.ndarray]) -> None:
    made, _ = known
    ids = [f"q{i}" for i in reversed(range(240))]
    assert map_rows(made, ids).tolist() == list(reversed(range(240)))
    with pytest.raises(Exception, match="the map was made of other answers: 'q0' is not there"):
        map_rows(made, ids[:-1])


def test_maps_without_inner_folds_and_maps_that_judge_some_answers(known: tuple[ProbeMap, np.ndarray]) -> None:
    made, correct = known
    plain = {"all": Plain("of all", correct + np.random.default_rng(0).normal(size=240))}
    flat = rank(ProbeMap(made.data.drop_vars("inner")), plain)
    assert [row[0] for row in flat.rows] == ["all"]
    assert flat.words[-1] == (
        "Not ranked, because the map was made without folds inside folds (fewer than 3, or the paper's protocol): "
        "probe_last_q, probe_before_last, probe_last and probe_exact_answer."
    )
    draw = np.random.default_rng(3)
    states = draw.normal(size=(240, 2, 2, 6)).astype(np.float32)
    states[:, 1, 1, 0] += 2 * correct
    some = fit_map(states, correct, positions=["last_q", "exact_answer_last"], held_out=0.3)
    table = rank(some, plain)
    assert {row[2] for row in table.rows} == {72}
    assert [row[0] for row in table.rows][:2] == ["probe_exact_answer", "all"]
    assert table.words[-1] == (
        "Not ranked, because the map has none of their positions, or too few answers there: "
        "probe_before_last and probe_last."
    )
