"""Draws for an audit, error rates of verdicts, and the corrected AUC: hand-computed cases and simulations."""

import math
from typing import Any

import numpy as np
import pytest
from audit_simulation import Setting, Simulation, covers, simulate
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, norm

from probemap.probing.auc import auc_interval
from probemap.records import DataError, MapError, Verdict
from probemap.studies.audit_draw import allocate, draw_audit
from probemap.studies.label_errors import LabelAudit, audit_labels

# --- draws ---

REASONS = st.sampled_from(["names", "numbers", "cut"])
VERDICTS = st.lists(st.builds(Verdict, st.sampled_from([True, False, None]), REASONS), min_size=1, max_size=120)


def test_draw_audit_is_proportional_with_at_least_one_answer_of_each_stratum() -> None:
    verdicts = [Verdict(True, "a")] * 60 + [Verdict(True, "b")] * 2 + [Verdict(False, "a")] * 38
    draw = draw_audit(verdicts, 20)
    assert [(s.correct, s.reason, s.answers, s.drawn) for s in draw.strata] == [
        (True, "a", 60, 12),
        (False, "a", 38, 7),
        (True, "b", 2, 1),
    ]
    assert [s.weight for s in draw.strata] == [5.0, 38 / 7, 2.0]
    # 60, 38 and 2 answers are represented.
    assert sum(draw.weights) == pytest.approx(100)


def test_draw_audit_takes_few_undecided_answers() -> None:
    verdicts = [Verdict(True, "a")] * 20 + [Verdict(False, "a")] * 20 + [Verdict(None, str(k % 7)) for k in range(160)]
    draw = draw_audit(verdicts, 30)
    assert [(s.correct, s.reason, s.answers, s.drawn) for s in draw.strata] == [
        (True, "a", 20, 12),
        (False, "a", 20, 12),
        (None, "undecided", 160, 6),
    ]
    assert draw_audit(verdicts[:44], 11).strata[-1].drawn == 1  # in proportion: 4 of 44


@given(VERDICTS, st.integers(1, 150), st.integers(0, 3))
def test_draw_audit_properties(verdicts: list[Verdict], n: int, seed: int) -> None:
    decided = [v for v in verdicts if v.correct is not None]
    if n < len({(v.correct, v.reason) for v in decided}) or not decided:
        with pytest.raises(DataError):
            draw_audit(verdicts, n, seed=seed)
        return
    draw = draw_audit(verdicts, n, seed=seed)
    assert draw == draw_audit(verdicts, n, seed=seed)
    assert len(set(draw.rows)) == len(draw.rows) <= min(n, len(verdicts))
    for stratum, number in zip(draw.strata, range(len(draw.strata)), strict=True):
        rows = [row for row, k in zip(draw.rows, draw.stratum, strict=True) if k == number]
        assert len(rows) == stratum.drawn
        assert 1 <= stratum.drawn <= stratum.answers
        assert {verdicts[row].correct for row in rows} == {stratum.correct}
        assert stratum.correct is None or {verdicts[row].reason for row in rows} == {stratum.reason}
    n_undecided = sum(s.drawn for s in draw.strata if s.correct is None)
    assert n_undecided <= n / 5
    assert len(draw.rows) - n_undecided == min(len(decided), n - n_undecided)
    represented = sum(w for w, row in zip(draw.weights, draw.rows, strict=True) if verdicts[row].correct is not None)
    assert represented == pytest.approx(len(decided))
    assert set(draw.rows) <= set(draw_audit(verdicts, n + 1, seed=seed).rows)


@given(st.lists(st.integers(1, 300), min_size=1, max_size=8), st.integers(0, 200))
def test_allocate_never_takes_a_draw_back(sizes: list[int], more: int) -> None:
    n = len(sizes) + more
    counts = allocate(sizes, n)
    assert sum(counts) == min(n, sum(sizes))
    assert all(1 <= count <= size for count, size in zip(counts, sizes, strict=True))
    assert all(a <= b for a, b in zip(counts, allocate(sizes, n + 1), strict=True))


def test_draws_are_unbiased_and_their_order_does_not_reveal_the_verdict() -> None:
    verdicts = [Verdict(k < 50, "rare" if k % 10 == 0 else "common") for k in range(100)]
    wrong = np.array([k % 10 == 0 for k in range(100)])  # the rare reasons
    draws = [draw_audit(verdicts, 15, seed=seed) for seed in range(400)]
    estimates = [np.dot(wrong[list(draw.rows)], draw.weights) for draw in draws]
    assert np.mean(estimates) == pytest.approx(10)
    counts = np.bincount([row for draw in draws for row in draw.rows], minlength=100)
    assert counts[1:10].min() > 0.5 * counts[1:10].mean()  # all answers of a stratum are drawn
    first = [draw.rows[0] < 50 for draw in draws]
    assert 0.4 < np.mean(first) < 0.6


def test_draw_audit_refuses_what_it_cannot_draw() -> None:
    with pytest.raises(DataError, match="none of 3 answers is decided"):
        draw_audit([Verdict(None, "refusal")] * 3)
    with pytest.raises(DataError, match=r"1 answers are too few for an audit of 2 combinations(.|\n)*at least 2"):
        draw_audit([Verdict(True, "a"), Verdict(True, "b")], 1)


# --- error rates ---


def test_error_rates_computed_by_hand() -> None:
    # Eight verdicts "correct", of which three are labelled, one of them wrong and with weight 2.
    verdicts = [True] * 8 + [False] * 4 + [None]
    labels = [False, True, True, *[None] * 5, False, True, True, None, True]
    weights = [2, 3, 3, *[math.nan] * 5, 1, 1, 2, math.nan, 5]
    audit = audit_labels(verdicts, labels, weights=weights)
    assert (audit.alpha.n, audit.alpha.errors, audit.alpha.value) == (3, 1, 0.25)
    assert (audit.beta.n, audit.beta.errors, audit.beta.value) == (3, 2, 0.75)
    # Kish's effective size 8² / (4 + 9 + 9), increased because 3 of 8 answers were labelled.
    assert audit.alpha.effective == pytest.approx(64 / 22 / (1 - 3 / 8))
    effective = 64 / 22 / (5 / 8)
    expected = [float(beta.ppf(level, 0.25 * effective + 0.5, 0.75 * effective + 0.5)) for level in (0.025, 0.975)]
    assert list(audit.alpha.interval[1:]) == pytest.approx(expected)
    assert math.isnan(audit.corrected.value)
    assert math.isnan(audit.p)


def test_error_rates_without_errors_have_an_upper_limit() -> None:
    labels = [True] * 40 + [None] * 360
    audit = audit_labels([True] * 400, labels)
    assert audit.alpha.interval[:2] == (0.0, 0.0)
    assert 0.03 < audit.alpha.interval.high < 0.08  # about 3 / 40, the rule of three
    assert (audit.beta.n, math.isnan(audit.beta.interval.value)) == (0, True)
    everything_wrong = audit_labels([True] * 400, [False] * 40 + [None] * 360)
    assert everything_wrong.alpha.interval[::2] == (1.0, 1.0)


def test_strata_with_different_error_rates_make_the_interval_narrower() -> None:
    verdicts, strata = [True] * 1000, ["a"] * 900 + ["b"] * 100
    labels: list[bool | None] = [None] * 1000
    labels[:90], labels[900:910] = [True] * 90, [False] * 5 + [True] * 5
    without, with_strata = audit_labels(verdicts, labels), audit_labels(verdicts, labels, strata=strata)
    assert without.alpha.value == with_strata.alpha.value == 0.05
    # Variances: 0.1² · 0.25 / 10 from stratum b, against 0.05 · 0.95 / 100.
    assert 1.4 < with_strata.alpha.effective / without.alpha.effective < 1.9


# --- AUC ---


def made(n: int = 2000, alpha: float = 0.1, beta: float = 0.2, seed: int = 0) -> tuple[Any, Any, Any]:
    """Return verdicts, truth, and scores with an AUC of 0.8 against the truth."""
    rng = np.random.default_rng(seed)
    verdict = rng.random(n) < 0.5
    truth = verdict ^ (rng.random(n) < np.where(verdict, alpha, beta))
    return verdict, truth, rng.normal(size=n) + np.sqrt(2) * norm.ppf(0.8) * truth


def test_corrected_auc_is_the_formula_of_menon() -> None:
    verdict, truth, scores = made()
    labels = [bool(label) if row % 10 == 0 else None for row, label in enumerate(truth)]
    audit = audit_labels(verdict, labels, scores)
    expected = (audit.auc.value - 0.5) / (1 - audit.alpha.value - audit.beta.value) + 0.5
    assert audit.corrected.value == pytest.approx(expected)
    assert audit.auc.high < 0.75 < audit.corrected.low < 0.8 < audit.corrected.high
    assert audit.audited.low < 0.8 < audit.audited.high
    assert not audit.depends
    assert audit.problem == ""


def test_a_census_without_errors_changes_nothing() -> None:
    _, truth, scores = made()
    audit = audit_labels(truth, truth, scores)
    assert (audit.alpha.interval, audit.beta.interval) == ((0, 0, 0), (0, 0, 0))
    assert audit.corrected == pytest.approx(audit.auc, abs=0.001)  # the interval is drawn
    assert audit.audited == pytest.approx(audit.auc, abs=1e-6)
    assert math.isnan(audit.p)


def test_scores_are_compared_within_folds_and_averaged_over_repeats() -> None:
    verdict, truth, scores = made()
    fold = np.arange(len(scores)) % 5
    shifted = scores + 10 * fold
    labels = [bool(label) if row % 7 == 0 else None for row, label in enumerate(truth)]
    pooled = audit_labels(verdict, labels, shifted)
    by_fold = audit_labels(verdict, labels, [shifted, shifted], folds=[fold, fold])
    plain = audit_labels(verdict, labels, scores)
    assert pooled.auc.value < 0.6 < plain.auc.value == pytest.approx(by_fold.auc.value, abs=0.01)
    assert by_fold.audited.value == pytest.approx(plain.audited.value, abs=0.01)


def test_answers_without_a_score_are_left_out_of_all_estimates() -> None:
    verdict, truth, scores = made()
    truth = np.where(np.arange(len(truth)) < 1000, verdict, truth)  # the first half has no errors
    scores[1000:] = np.nan
    audit = audit_labels(verdict, truth, scores)
    assert (audit.alpha.value, audit.beta.value) == (0, 0)
    assert audit.alpha.n + audit.beta.n == 1000


def test_weights_make_the_audited_auc_unbiased() -> None:
    scores, truth = [3.0, 2.0, 1.0] * 40, [True, False, True] * 40
    # The correct answers with the high score count three times, so the AUC is 0.75 instead of 0.5.
    audit = audit_labels(truth, truth, scores, weights=[3, 1, 1] * 40)
    assert audit.audited.value == pytest.approx(0.75)
    assert audit_labels(truth, truth, scores).audited.value == pytest.approx(0.5)


def test_groups_and_the_variance_factor_widen_the_intervals() -> None:
    verdict, truth, scores = made(400)
    plain = audit_labels(verdict, truth, scores)
    twice = audit_labels(*(np.repeat(x, 2) for x in (verdict, truth, scores)), groups=np.repeat(np.arange(400), 2))
    assert twice.auc == pytest.approx(plain.auc, abs=0.001)
    assert twice.audited == pytest.approx(plain.audited, abs=0.001)
    wide = audit_labels(verdict, truth, scores, variance_factor=4.0)
    assert wide.auc.high - wide.auc.low == pytest.approx(2 * (plain.auc.high - plain.auc.low), rel=0.05)
    assert wide.corrected.high - wide.corrected.low > 1.5 * (plain.corrected.high - plain.corrected.low)


def test_no_number_is_given_where_the_formula_has_none() -> None:
    rng = np.random.default_rng(0)
    verdict = rng.random(400) < 0.5
    labels = rng.random(400) < 0.5  # verdicts are guesses
    audit = audit_labels(verdict, [bool(x) if k < 60 else None for k, x in enumerate(labels)], rng.normal(size=400))
    assert math.isnan(audit.corrected.value)
    assert "which is not clearly positive" in audit.problem
    # The probe reads the verdict, wrong or not: no AUC of correct labels explains that.
    truth = verdict ^ (rng.random(400) < 0.3)
    audit = audit_labels(verdict, truth, verdict + 0.01 * rng.normal(size=400))
    assert math.isnan(audit.corrected.value)
    assert "which is not possible" in audit.problem
    assert audit.depends
    no_incorrect = audit_labels([True] * 20 + [False] * 20, [True] * 20 + [None] * 20, list(range(40)))
    assert no_incorrect.problem == 'no answer with the verdict "incorrect" was labelled'
    assert audit_labels([True] * 20, [True] * 20, list(range(20))).problem == "there is no AUC to correct"
    assert math.isnan(audit_labels(verdict, [True] * 9 + [False] * 391, rng.normal(size=400)).audited.value)


def test_perfect_and_constant_scores_have_intervals() -> None:
    truth = [True] * 30 + [False] * 30
    perfect = audit_labels(truth, truth, [float(label) for label in truth])
    assert perfect.corrected[1:] == pytest.approx(auc_interval(1.0, 0.0, 30, 30), abs=0.01)
    constant = audit_labels(truth, truth, [0.0] * 60)
    assert (constant.corrected.value, constant.corrected.high - constant.corrected.low > 0.9) == (0.5, True)


def test_dependence_is_tested_among_answers_with_the_same_label() -> None:
    # Within a verdict, errors have other scores than the rest, because they are of the other class; this is no
    # dependence.
    verdict, truth, scores = made(n=4000)
    assert not audit_labels(verdict, truth, scores).depends
    audit = audit_labels(verdict, truth, scores + 0.5 * verdict)
    assert audit.p < 1e-6
    # By hand: labels True, verdicts T T F with scores 3 2 1; ranks / 4 are centred to 0.25, 0, -0.25.
    p = audit_labels([True, True, False], [True] * 3, [3.0, 2.0, 1.0]).p
    variance = 2 * 0.25**2 * 2 * 1 / (3 * 2)
    assert p == pytest.approx(2 * norm.sf((0.25 - 0.5 / 4) / math.sqrt(variance)))


def test_the_test_of_dependence_accounts_for_cross_validation() -> None:
    verdict, truth, scores = made(400)
    fold = np.arange(400) // 200  # all labelled answers are in one fold, so their ranks do not change
    labels = [bool(label) if row < 100 else None for row, label in enumerate(truth)]
    z = {
        name: norm.isf(audit_labels(verdict, labels, scores + 0.4 * verdict, folds=folds).p / 2)
        for name, folds in (("one", 0 * fold), ("two", fold))
    }
    # A quarter of the answers is labelled, so the variance is 1.25 times as large.
    assert z["one"] / z["two"] == pytest.approx(math.sqrt(1.25))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": [True]}, "got 1 labels for 2 answers"),
        ({"scores": [1.0, 2.0, 3.0]}, r"scores has shape \(3,\), but there are 2 verdicts"),
        ({"weights": [1.0, 0.0]}, "the weight of a labelled answer is not positive"),
        ({"weights": [1.0, math.nan]}, "the weight of a labelled answer is not positive"),
        ({"scores": [[1.0, 2.0]] * 2, "folds": [0, 0]}, "got folds for 1 repeats and scores for 2"),
        ({"labels": ["yes", "no"]}, "label 0 is 'yes'"),
    ],
)
def test_audit_labels_refuses_invalid_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(MapError, match=message):
        audit_labels(**{"verdicts": [True, False], "labels": [True, False], **arguments})


# --- simulations; benchmarks/results/label_audit.md has more settings ---


@pytest.fixture(scope="module")
def independent() -> list[Simulation]:
    return [simulate(Setting(0.05, 0.1, 80, answers=300), seed) for seed in range(200)]


def test_intervals_cover_the_truth(independent: list[Simulation]) -> None:
    audits = [simulation.audit for simulation in independent]
    assert covers([audit.auc for audit in audits], 0.8) < 0.7  # the labels are wrong too often
    assert 0.91 <= covers([audit.corrected for audit in audits], 0.8) <= 0.99
    assert 0.91 <= covers([audit.audited for audit in audits], 0.8) <= 0.99
    assert covers([audit.alpha.interval for audit in audits], [s.alpha for s in independent]) > 0.9
    assert covers([audit.beta.interval for audit in audits], [s.beta for s in independent]) > 0.9


def test_the_warning_fires_if_and_only_if_errors_depend_on_the_scores(independent: list[Simulation]) -> None:
    def fired(audits: list[LabelAudit]) -> float:
        return float(np.mean([audit.depends for audit in audits]))

    assert fired([simulation.audit for simulation in independent]) < 0.1
    dependent = Setting(0.1, 0.1, 80, shift=1.8, answers=300)
    assert fired([simulate(dependent, seed).audit for seed in range(100)]) > 0.85
