"""Thresholds with guarantees: hand-computed cases, invariances, and simulations in which a wrong threshold fails."""

import doctest
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, norm

from probemap.detectors import guarantees
from probemap.detectors.guarantees import acceptance_threshold, conformal_threshold
from probemap.probing import bootstrap, selective
from probemap.probing.auc import Bools, Floats, Ints
from probemap.records import DetectorError, MapError


@pytest.mark.parametrize("module", [guarantees, selective, bootstrap])
def test_examples_run(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize(
    ("n", "false_alarms", "rank"),
    [(99, 0.05, 5), (98, 0.05, 4), (19, 0.05, 1), (18, 0.05, 0), (99, 0.29, 29), (9, 0.5, 5), (1, 0.5, 1), (0, 0.5, 0)],
)
def test_conformal_threshold_is_an_order_statistic(n: int, false_alarms: float, rank: int) -> None:
    scores = np.random.default_rng(0).normal(size=n)
    expected = np.sort(scores)[rank - 1] if rank else -math.inf
    assert conformal_threshold(scores, None, false_alarms) == expected


def test_conformal_threshold_with_several_answers_hand_computed() -> None:
    # Three questions have the weight 1/4 each.  Cumulative weights, with 1/4 at -∞: 3/8, 5/8, 3/4, 7/8, 1 (score 5).
    scores, groups = np.array([1.0, 4.0, 2.0, 3.0, 5.0]), ["a", "a", "b", "c", "c"]
    cases = ((0.24, -math.inf), (0.25, 1), (0.374, 1), (0.375, 2), (0.62, 2), (0.63, 3), (0.75, 4), (0.9, 5))
    assert [conformal_threshold(scores, groups, rate) for rate, _ in cases] == [score for _, score in cases]


ANSWERS = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 5)), min_size=1, max_size=30)


@given(ANSWERS, st.floats(0.01, 0.99))
def test_conformal_threshold_definition(answers: list[tuple[int, int]], false_alarms: float) -> None:
    """The weight below the threshold, with the new question at -∞, is at most the rate, and that up to it is larger."""
    scores, groups = np.array([s for s, _ in answers], float), np.array([g for _, g in answers])
    threshold = conformal_threshold(scores, groups, false_alarms)
    names = np.unique(groups)

    def weight(cut: Bools) -> float:
        return (1 + sum(float(cut[groups == name].mean()) for name in names)) / (len(names) + 1)

    if threshold == -math.inf:
        assert 1 / (len(names) + 1) > false_alarms - 1e-9
    else:
        assert weight(scores < threshold) <= false_alarms + 1e-9
        assert weight(scores <= threshold) > false_alarms - 1e-9
    order = np.random.default_rng(0).permutation(len(scores))
    assert conformal_threshold(scores[order], groups[order], false_alarms) == threshold
    assert conformal_threshold(2 * scores + 1, groups, false_alarms) == 2 * threshold + 1
    repeated = conformal_threshold(np.repeat(scores, 3), np.repeat(groups, 3), false_alarms)
    assert repeated == threshold, "copies of all answers of a question change nothing"


def flagged_share(draw_questions: "Draw", n_questions: int, false_alarms: float, *, grouped: bool) -> Floats:
    """Return, for each of many calibration sets, whether a random answer to a new question is flagged."""
    flagged = []
    for seed in range(3000):
        scores, groups = draw_questions(np.random.default_rng(seed), n_questions + 1)
        new = groups == n_questions
        threshold = conformal_threshold(scores[~new], groups[~new] if grouped else None, false_alarms)
        flagged.append((scores[new] < threshold).mean())
    return np.array(flagged)


class Draw:
    """Scores of correct answers to questions, of which some have many similar answers with low scores."""

    def __init__(self, *, several: bool, ties: bool) -> None:
        self.several, self.ties = several, ties

    def __call__(self, rng: np.random.Generator, n: int) -> tuple[Floats, Ints]:
        hard = rng.random(n) < 0.3
        size = np.where(hard, 1, 8) if self.several else np.ones(n, np.int64)
        groups = np.repeat(np.arange(n), size)
        scores = np.repeat(rng.normal(size=n) - 2 * hard, size) + 0.3 * rng.normal(size=len(groups))
        return (np.round(scores) if self.ties else scores), groups


@pytest.mark.parametrize(("several", "ties"), [(False, False), (False, True), (True, False), (True, True)])
def test_conformal_threshold_keeps_the_rate(several: bool, ties: bool) -> None:
    draw, rate = Draw(several=several, ties=ties), 0.2
    flagged = flagged_share(draw, 24, rate, grouped=True)
    error = float(flagged.std()) / math.sqrt(len(flagged))
    assert flagged.mean() <= rate + 3 * error
    if not several and not ties:
        assert flagged.mean() >= rate - 3 * error, "the rate is attained: floor(0.2 * 25) / 25"
    if several and not ties:  # answers as if they were independent: questions with few answers are neglected
        pooled = flagged_share(draw, 24, rate, grouped=False)
        assert pooled.mean() > rate + 3 * error


@pytest.mark.parametrize(("risk", "confidence", "needed"), [(0.05, 0.95, 59), (0.1, 0.9, 22), (0.5, 0.75, 2)])
def test_acceptance_threshold_needs_enough_answers(risk: float, confidence: float, needed: int) -> None:
    for n, found in ((needed - 1, False), (needed, True)):
        scores = np.arange(n, dtype=float)
        accepted = acceptance_threshold(scores, np.ones(n, bool), None, risk=risk, confidence=confidence)
        assert accepted.score == (-math.inf if found else None)
        assert accepted.coverage.value == float(found)
        assert accepted.n == n
        assert np.isnan(accepted.observed_risk.value) != found


def test_acceptance_threshold_hand_computed() -> None:
    # A risk of 50 % and a confidence of 75 % need 2 answers without an error; the sequence starts at 6 answers.
    scores = np.arange(20.0)[::-1]
    correct = np.ones(20, bool)
    correct[8:] = False
    rejected = [k for k in range(6, 21) if binom.cdf(max(k - 8, 0), k, 0.5) <= 0.25]
    accepted = acceptance_threshold(scores, correct, None, risk=0.5, confidence=0.75)
    assert rejected == list(range(6, rejected[-1] + 1))
    assert accepted.n_accepted == rejected[-1]
    assert accepted.score == scores[rejected[-1] - 1]
    assert accepted.observed_risk.value == (rejected[-1] - 8) / rejected[-1]
    assert accepted.coverage.low < accepted.coverage.value < accepted.coverage.high
    # Six errors at the top: the first test fails, and later ones do not count.
    correct = np.ones(20, bool)
    correct[:4] = False
    assert binom.cdf(4, 20, 0.5) < 0.25
    assert acceptance_threshold(scores, correct, None, risk=0.5, confidence=0.75).score is None


def test_acceptance_threshold_without_answers_and_of_one_class() -> None:
    empty = acceptance_threshold(np.zeros(0), np.zeros(0, bool), None, risk=0.1)
    assert empty.score is None
    assert empty.n == 0
    assert np.isnan(empty.coverage.value)
    scores = np.arange(300.0)
    assert acceptance_threshold(scores, np.zeros(300, bool), None, risk=0.1).score is None
    assert acceptance_threshold(scores, np.ones(300, bool), None, risk=0.1).score == -math.inf


def test_acceptance_threshold_accepts_tied_scores_together() -> None:
    scores = np.repeat([3.0, 2.0, 1.0], 100)
    correct = np.repeat([True, True, False], 100)
    accepted = acceptance_threshold(scores, correct, None, risk=0.1)
    assert (accepted.score, accepted.n_accepted) == (2.0, 200)
    same = acceptance_threshold(np.ones(300), np.arange(300) > 3, None, risk=0.1)
    assert (same.score, same.n_accepted) == (-math.inf, 300)


@given(st.integers(0, 10**6), st.sampled_from([1.0, 0.5]))
def test_acceptance_threshold_invariances(seed: int, grain: float) -> None:
    rng = np.random.default_rng(seed)
    scores = np.round(rng.normal(size=120) / grain, 1)
    correct = rng.random(120) < 1 / (1 + np.exp(-2 - scores))
    accepted = acceptance_threshold(scores, correct, None, risk=0.2, confidence=0.9)
    order = rng.permutation(120)
    assert acceptance_threshold(scores[order], correct[order], None, risk=0.2, confidence=0.9) == accepted
    scaled = acceptance_threshold(4 * scores, correct, None, risk=0.2, confidence=0.9)
    assert (scaled.n_accepted, scaled.score) == (
        accepted.n_accepted,
        None if accepted.score is None else 4 * accepted.score,
    )
    if accepted.score is not None:
        rows = np.asarray(scores >= accepted.score)
        assert rows.sum() == accepted.n_accepted
        assert binom.cdf((~correct[rows]).sum(), rows.sum(), 0.2) <= 0.1 + 1e-9
    laxer = acceptance_threshold(scores, correct, None, risk=0.3, confidence=0.9)
    assert accepted.score is None or accepted.n_accepted <= 120
    assert laxer.score is None or laxer.observed_risk.value < 0.3


def test_acceptance_threshold_draws_one_answer_per_question() -> None:
    scores, correct, groups = np.repeat(np.arange(100.0), 5), np.ones(500, bool), np.repeat(np.arange(100), 5)
    assert acceptance_threshold(scores, correct, groups, risk=0.1).n == 100
    # 20 questions are too few, however many answers they have.
    assert acceptance_threshold(scores[:100], correct[:100], groups[:100], risk=0.1).score is None
    noisy = np.random.default_rng(0).random(500) < 0.97
    first = acceptance_threshold(scores, noisy, groups, risk=0.1)
    assert first == acceptance_threshold(scores, noisy, groups, risk=0.1)
    assert len({acceptance_threshold(scores, noisy, groups, risk=0.1, seed=s).n_accepted for s in range(20)}) > 1


@pytest.mark.parametrize("shape", ["crossing", "constant", "several crossings"])
def test_acceptance_threshold_keeps_the_risk(shape: str) -> None:
    """The risk exceeds the level in at most 10 % of calibration sets; the lowest accepted threshold would exceed it in
    more."""
    risk, confidence, n, n_sets = 0.2, 0.9, 150, 1000
    grid = np.linspace(0, 1, 2001)[1:]
    error_rate = {
        "crossing": norm.cdf(1.5 - 4 * grid),
        "constant": np.full(len(grid), risk + 0.001),
        "several crossings": np.where((grid * 8).astype(int) % 2, 0.0, 2.3 * risk),
    }[shape]
    risk_above = np.cumsum(error_rate[::-1])[::-1] / np.arange(len(grid), 0, -1)
    exceeded, greedy = 0, 0
    for seed in range(n_sets):
        rng = np.random.default_rng(seed)
        rows = rng.integers(len(grid), size=n)
        correct = rng.random(n) >= error_rate[rows]
        accepted = acceptance_threshold(grid[rows], correct, None, risk=risk, confidence=confidence)
        if accepted.score is not None:
            first = 0 if accepted.score == -math.inf else int(np.searchsorted(grid, accepted.score))
            exceeded += bool(risk_above[first] > risk)
        order = np.argsort(-grid[rows])
        valid = np.asarray(binom.cdf(np.cumsum(~correct[order]), np.arange(1, n + 1), risk) <= 1 - confidence)
        if valid.any():
            greedy += bool(risk_above[rows[order[np.flatnonzero(valid)[-1]]]] > risk)
    limit = 1 - confidence + 3 * math.sqrt(confidence * (1 - confidence) / n_sets)
    assert exceeded / n_sets <= limit
    if shape == "constant":
        assert greedy / n_sets > limit, "without a sequence, the guarantee fails"


@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, math.nan])
def test_shares_outside_0_to_1_are_refused(value: float) -> None:
    scores, correct = np.zeros(3), np.ones(3, bool)
    with pytest.raises(DetectorError, match="false_alarms must be between"):
        conformal_threshold(scores, None, value)
    with pytest.raises(DetectorError, match="risk must be between"):
        acceptance_threshold(scores, correct, None, risk=value)
    with pytest.raises(DetectorError, match="confidence must be between"):
        acceptance_threshold(scores, correct, None, risk=0.1, confidence=value)


def test_invalid_scores_and_groups_are_refused() -> None:
    with pytest.raises(DetectorError, match="1 of 2 scores are not finite"):
        conformal_threshold(np.array([1.0, np.nan]), None, 0.1)
    with pytest.raises(DetectorError, match="2 of 2 scores are not finite"):
        acceptance_threshold(np.array([np.inf, np.nan]), np.ones(2, bool), None, risk=0.1)
    with pytest.raises(DetectorError, match="one label per score"):
        acceptance_threshold(np.zeros(3), np.ones(2, bool), None, risk=0.1)
    with pytest.raises(MapError):
        conformal_threshold(np.zeros(3), ["a"], 0.1)
