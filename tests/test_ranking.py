"""Ranking of predictors: values by hand, coverage of the ranks, missing values."""

import io

import numpy as np
import pytest
from rich.console import Console

from probemap import fit_map
from probemap.maps.probe_map import ProbeMap
from probemap.probing.auc import auc_values
from probemap.probing.fold_ranking import fractional_ranks
from probemap.probing.selective import aurc, prediction_rejection_ratio
from probemap.records import TooFewError
from probemap.studies.ranking import PROBES, Predictor, rank_predictors, rank_ranges, rows_of_map
from probemap.tables import Value
from probemap.views.terminal import table_text


@pytest.fixture(scope="module")
def mapped() -> tuple[ProbeMap, np.ndarray]:
    """Return a map with signal at the exact answer (strong) and at the last token (weak), and its labels."""
    rng = np.random.default_rng(0)
    n = 240
    correct = rng.random(n) < 0.5
    states = rng.normal(size=(n, 3, 4, 8)).astype(np.float32)
    states[:, 1, 2, 0] += 2.5 * correct
    states[:, 2, 3, 0] += 0.8 * correct
    probe_map = fit_map(
        states, correct, positions=["last_q", "-2", "exact_answer_last", "-1"], ids=[f"q{i}" for i in range(n)]
    )
    return probe_map, correct


def test_rank_predictors_compares_all_on_the_same_answers(mapped: tuple[ProbeMap, np.ndarray]) -> None:
    probe_map, correct = mapped
    rng = np.random.default_rng(1)
    good, noise = correct + rng.normal(size=240), rng.normal(size=240)
    good[:10] = np.nan
    table = rank_predictors(
        probe_map, {"good": Predictor("informative", good), "noise": Predictor("uninformative", noise)}
    )
    assert table.rows[0][0] == "probe_exact_answer"
    assert {row[2] for row in table.rows} == {230}
    by_name = {row[0]: row for row in table.rows}
    assert set(by_name) == {"good", "noise", *PROBES}
    # The AUC within folds, over the 230 answers with all values.
    fold = probe_map.data["fold"].values[0]
    expected = auc_values(good[10:, None], correct[10:, None], fold[10:])[0]
    assert by_name["good"][3] == pytest.approx(expected)
    assert by_name["good"][1] == "informative"
    assert [row[6] for row in table.rows] == [1, 2, 3, 4, 5, 6]
    assert by_name["probe_exact_answer"][7:9] == (1, 1)
    assert by_name["noise"][8] == 6
    for row in table.rows:
        _, _, _, auc, low, high, rank, first, last, *_ = row
        assert low < auc < high and first <= rank <= last  # type: ignore[operator]
    assert table.words[0].startswith(
        "The best predictor is probe_exact_answer, the probe at the exact answer, or next to it: AUC 0.9"
    )
    assert (
        "The best probe (probe_exact_answer) is better than the best predictor without a probe (good): +0."
        in table.words[1]
    )


def test_rank_predictors_reports_metrics_of_ranks_within_folds(mapped: tuple[ProbeMap, np.ndarray]) -> None:
    probe_map, correct = mapped
    fold = probe_map.data["fold"].values[0]
    perfect = correct + 10.0 * fold  # perfect within each fold, although the folds are not on one scale
    predictors = {
        "perfect": Predictor("in the right order", perfect),
        "constant": Predictor("uninformative", np.zeros(240)),
        "noisy": Predictor("informative", correct + np.random.default_rng(1).normal(size=240)),
    }
    table = rank_predictors(probe_map, predictors)
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    by_name = {str(row["method"]): row for row in rows}
    error_rate = float((~correct).mean())
    assert by_name["perfect"]["prr"] == pytest.approx(1)
    assert by_name["perfect"]["excess aurc"] == pytest.approx(0, abs=0.005), "the folds have slightly different shares"
    assert by_name["perfect"]["auprc"] == pytest.approx(1, abs=0.01)
    assert by_name["constant"]["prr"] == pytest.approx(0, abs=1e-12)
    assert by_name["constant"]["aurc"] == by_name["constant"]["auprc"] == pytest.approx(error_rate)
    ranks = fractional_ranks(predictors["noisy"].values, fold)
    assert by_name["noisy"]["aurc"] == pytest.approx(aurc(ranks, correct))
    assert by_name["noisy"]["prr"] == pytest.approx(prediction_rejection_ratio(ranks, correct))
    for row in rows:
        for metric in ("prr", "auprc", "aurc", "excess aurc"):
            value, low, high = (row[f"{metric}{end}"] for end in ("", " low", " high"))
            assert low <= value <= high  # type: ignore[operator]
    assert table.words[2] == (
        "The prediction rejection ratio, which is 1 for a perfect order and 0 for a random one, is "
        f"{metric_text(by_name['probe_exact_answer'])} for this probe and {metric_text(by_name['perfect'])} for this "
        "predictor."
    )


def metric_text(row: dict[str, Value]) -> str:
    return f"{row['prr']:.3f} [{row['prr low']:.3f}, {row['prr high']:.3f}]"


def test_table_of_predictors_fits_the_terminal(mapped: tuple[ProbeMap, np.ndarray]) -> None:
    probe_map, correct = mapped
    table = rank_predictors(probe_map, {"exact_logprob_mean": Predictor("mean of something", correct + 0.0)})
    console = Console(width=100, file=io.StringIO())
    console.print(table_text(table))
    _, heading, *lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert heading.split() == ["method", "meaning", "n", "auc", "rank", "prr"]
    assert "exact_logprob_mean" in "".join(lines)
    assert "\u2026" not in "".join(lines), "nothing is cut off"
    assert table.columns[-3:] == ("excess aurc", "excess aurc low", "excess aurc high")


def test_rank_predictors_leaves_out_predictors_with_many_missing_values(mapped: tuple[ProbeMap, np.ndarray]) -> None:
    probe_map, correct = mapped
    half = np.where(np.arange(240) % 2 == 0, 1.0, np.nan)
    table = rank_predictors(
        probe_map,
        {
            "half": Predictor("for half of the answers", half),
            "all": Predictor("for all answers", correct.astype(float)),
        },
    )
    assert {row[2] for row in table.rows} == {240}
    assert "half" not in [row[0] for row in table.rows]
    assert table.words[-1] == "Not ranked, because more than a fifth of the answers have no value: half."
    assert "not distinguishable" not in " ".join(table.words)
    assert "is worse than the best predictor without a probe (all)" in table.words[1]


def test_rank_predictors_rejects_too_few_answers(mapped: tuple[ProbeMap, np.ndarray]) -> None:
    probe_map, correct = mapped
    few = np.where(correct & (np.cumsum(correct) > 9), np.nan, 1.0)
    subset = ProbeMap(probe_map.data.isel(answer=np.flatnonzero(~np.isnan(few) | (np.arange(240) % 9 < 0))))
    with pytest.raises(
        TooFewError, match=r"9 correct and \d+ incorrect answers have a value for all 4 predictors.*\nhint: use more"
    ):
        rank_predictors(subset, {})


def test_rank_ranges_by_hand() -> None:
    # Three values, independent, each with a standard error of 0.01.
    influence = np.eye(3) * 0.01
    first, last = rank_ranges(np.array([0.9, 0.6, 0.61]), influence, seed=0)
    assert (first.tolist(), last.tolist()) == ([1, 2, 2], [1, 3, 3])
    first, last = rank_ranges(np.array([0.9, 0.6, 0.7]), influence, seed=0)
    assert (first.tolist(), last.tolist()) == ([1, 3, 2], [1, 3, 2])
    first, last = rank_ranges(np.array([0.7]), np.ones((4, 1)), seed=0)
    assert (first.tolist(), last.tolist()) == ([1], [1])
    # Twins have equal ranks, however small their variance.
    first, last = rank_ranges(np.array([0.7, 0.7]), np.ones((4, 2)), seed=0)
    assert (first.tolist(), last.tolist()) == ([1, 1], [2, 2])


def test_rank_ranges_cover_all_true_ranks_simultaneously() -> None:
    rng = np.random.default_rng(0)
    truth = np.array([0.8, 0.75, 0.75, 0.6])
    covered = 0
    for _ in range(300):
        error = rng.normal(size=(50, 4)) * 0.004
        first, last = rank_ranges(truth + error.sum(0), error, seed=1)
        covered += bool((first <= [1, 2, 2, 4]).all() and (last >= [1, 3, 3, 4]).all())
    assert covered / 300 >= 0.93


def test_rows_of_map(mapped: tuple[ProbeMap, np.ndarray]) -> None:
    probe_map, _ = mapped
    ids = [f"q{i}" for i in reversed(range(240))]
    assert rows_of_map(probe_map, ids).tolist() == list(reversed(range(240)))
    with pytest.raises(Exception, match="the map contains the answer 'q0', which the run does not contain"):
        rows_of_map(probe_map, ids[:-1])


def test_rank_predictors_without_nested_cv_and_with_held_out_answers(mapped: tuple[ProbeMap, np.ndarray]) -> None:
    probe_map, correct = mapped
    predictors = {"all": Predictor("for all answers", correct + np.random.default_rng(0).normal(size=240))}
    flat = rank_predictors(ProbeMap(probe_map.data.drop_vars("inner_auc")), predictors)
    assert [row[0] for row in flat.rows] == ["all"]
    assert flat.words[-1] == (
        "Not ranked, because the map was fitted without nested CV (fewer than 3 folds, or the paper's protocol): "
        "probe_last_q, probe_before_last, probe_last and probe_exact_answer."
    )
    rng = np.random.default_rng(3)
    states = rng.normal(size=(240, 2, 2, 6)).astype(np.float32)
    states[:, 1, 1, 0] += 2 * correct
    held_out = fit_map(states, correct, positions=["last_q", "exact_answer_last"], held_out=0.3)
    table = rank_predictors(held_out, predictors)
    assert {row[2] for row in table.rows} == {72}
    assert [row[0] for row in table.rows][:2] == ["probe_exact_answer", "all"]
    assert table.words[-1] == (
        "Not ranked, because the map has none of their positions, or too few answers at them: "
        "probe_before_last and probe_last."
    )
