"""Generalisation matrix: planted signals, folded AUCs by hand, and no test answer from a training question."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probemap import fit_map
from probemap.detectors.head_fit import fit_probe
from probemap.probing.auc import Floats
from probemap.records import MapError, RunError
from probemap.studies.generalisation import (
    Pair,
    RunData,
    best_logprob,
    evaluate_across,
    evaluate_within,
    generalisation_table,
    pairs_of,
)
from probemap.tables import Interval, Table

POSITIONS = ["last_q", "exact_answer_last"]


def run_data(name: str, seed: int, sign: float, n: int = 200, logprob: float = 0.0) -> RunData:
    """Return a run whose verdicts are encoded, with a sign, in feature 0 of layer 1 at the exact answer."""
    rng = np.random.default_rng(seed)
    correct = rng.random(n) < 0.5
    states = rng.normal(size=(n, 2, 2, 6)).astype(np.float32)
    states[:, 1, 1, 0] += sign * 2.0 * (correct - 0.5)
    probe_map = fit_map(states, correct, positions=POSITIONS)

    def read(layer: int, position: str) -> npt.NDArray[np.float32]:
        return states[:, layer, POSITIONS.index(position)]

    logprobs: dict[str, Floats] = {
        "logprob_mean": rng.normal(size=n),
        "exact_logprob_min": logprob * correct + rng.normal(size=n),
    }
    questions = [(f"{name} {i}", "") for i in range(n)]
    return RunData(name=name, probe_map=probe_map, questions=questions, logprobs=logprobs, states=read)


def test_generalisation_table_same_noise_and_reversed_signal() -> None:
    same, noise, reversed_ = run_data("one", 0, 1.0), run_data("two", 1, 0.0), run_data("three", 2, -1.0)
    table = generalisation_table([same, noise, reversed_], fit_probe)
    rows = {(row[0], row[1]): dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert len(rows) == 9
    within = rows["one", "one"]
    nested = same.probe_map.nested_best()
    assert nested is not None
    assert (within["auc"], within["low"], within["high"]) == pytest.approx((nested.auc, nested.low, nested.high))
    assert (within["layer"], within["position"], within["n"]) == (None, "exact_answer_last", 200)
    across = rows["one", "three"]
    assert (across["layer"], across["position"]) == (1, "exact_answer_last")
    assert across["auc"] == pytest.approx(1 - across["folded"])  # type: ignore[operator]
    assert across["high"] < 0.2  # type: ignore[operator]
    assert rows["one", "two"]["low"] < 0.5 < rows["one", "two"]["high"]  # type: ignore[operator]
    assert rows["one", "two"]["folded low"] == 0.5
    summary = " ".join(table.words)
    assert "The sign of the probe is reversed, each pair taken alone: one on three (0.0" in summary
    assert "No generalisation is shown: one on two (0." in summary
    assert "The probe generalises" not in summary


def test_generalisation_table_compares_with_log_probabilities() -> None:
    runs = [run_data("one", 0, 1.0), replace(run_data("four", 4, 1.0), name="four")]
    assert generalisation_table(runs, fit_probe).words[-1] == (
        "The probe beats the best log-probability on the same answers in 2 of the 2 generalising pairs that can be "
        "compared."
    )


def test_generalisation_table_uses_the_checkpoint() -> None:
    names: list[str] = []

    def stored(name: str, evaluate: Callable[[], Pair]) -> Pair:
        names.append(name)
        return Pair(trained_on="one", tested_on="two", layer=1, position="-1", n=3)

    generalisation_table([run_data("one", 0, 1.0), run_data("two", 1, 0.0)], fit_probe, checkpoint=stored)
    assert names == ["one on one", "one on two", "two on one", "two on two"]


def test_pairs_of_returns_the_rows_of_the_table() -> None:
    pairs: list[Pair] = []

    def collected(name: str, evaluate: Callable[[], Pair]) -> Pair:
        pairs.append(evaluate())
        return pairs[-1]

    runs = [run_data("one", 0, 1.0, logprob=1.0), run_data("two", 1, 0.0)]
    table = generalisation_table(runs, fit_probe, checkpoint=collected)
    assert pairs_of(table) == pairs
    assert pairs[0].gain is not None
    with pytest.raises(RunError, match="'t' is not a generalisation table: its columns are a, b"):
        pairs_of(Table("t", ("a", "b"), ((1, 2),)))


def test_gain_is_over_the_best_log_probability_of_the_training_run() -> None:
    train, test = run_data("one", 0, 1.0, logprob=1.0), run_data("two", 3, 1.0, logprob=1.0)
    assert best_logprob(train, list(train.logprobs)) == "exact_logprob_min"
    assert best_logprob(train, ["logprob_mean"]) == "logprob_mean"
    pair = evaluate_across(train, test, fit_probe)
    assert pair.baseline == "exact_logprob_min"
    assert pair.auc is not None and pair.gain is not None
    correct = test.probe_map.data["correct"].values
    positive, negative = (test.logprobs["exact_logprob_min"][correct == label] for label in (True, False))
    auc = float((positive[:, None] > negative[None]).mean())
    assert pair.gain.value == pytest.approx(pair.auc.value - auc)
    assert pair.gain.low < pair.gain.value < pair.gain.high
    # If one test answer has no value, another log-probability is compared.
    incomplete = np.where(np.arange(200) == 7, np.nan, test.logprobs["exact_logprob_min"])
    logprobs = dict(test.logprobs) | {"exact_logprob_min": incomplete}
    pair = evaluate_across(train, replace(test, logprobs=logprobs), fit_probe)
    assert (pair.baseline, pair.gain is None) == ("logprob_mean", False)
    missing = replace(test, logprobs={"exact_logprob_min": np.full(200, np.nan)})
    assert evaluate_across(train, missing, fit_probe).gain is None
    assert evaluate_within(train).baseline == "exact_logprob_min"
    assert best_logprob(train, []) == ""


def test_evaluate_across_excludes_answers_to_training_questions() -> None:
    train, test = run_data("one", 0, 1.0), run_data("two", 3, 1.0)
    overlapping = replace(test, questions=[*train.questions[:120], *test.questions[120:]])
    assert evaluate_across(train, overlapping, fit_probe).n == 80
    # The same question in another context is another question; without a context, or in the same one, it is not.
    contexts = [(question, f"page {i}") for i, (question, _) in enumerate(train.questions)]
    other_contexts = [(question, f"other {i}") for i, (question, _) in enumerate(train.questions)]
    with_contexts = replace(train, questions=contexts)
    assert evaluate_across(with_contexts, replace(test, questions=other_contexts), fit_probe).n == 200
    assert evaluate_across(with_contexts, replace(test, questions=train.questions), fit_probe).n == 0
    assert evaluate_across(train, replace(test, questions=contexts), fit_probe).n == 0
    mixed = replace(test, questions=[*contexts[:150], *test.questions[150:]])
    assert evaluate_across(with_contexts, mixed, fit_probe).n == 50
    only_training = replace(test, questions=train.questions)
    assert evaluate_across(train, only_training, fit_probe) == Pair(
        trained_on="one", tested_on="two", layer=1, position="exact_answer_last", n=0
    )


def test_evaluate_across_uses_cells_that_both_runs_have() -> None:
    train, test = run_data("one", 0, 1.0), run_data("two", 3, 1.0)
    last_q = replace(test, probe_map=test.probe_map.only(["last_q"]))
    assert evaluate_across(train, last_q, fit_probe).position == "last_q"
    with pytest.raises(MapError, match=r"one and two have no cells in common\nhint: capture the same positions"):
        evaluate_across(replace(train, probe_map=train.probe_map.only(["exact_answer_last"])), last_q, fit_probe)


def test_evaluate_within_requires_nested_cv() -> None:
    run = run_data("one", 0, 1.0)
    flat = replace(run, probe_map=replace(run.probe_map, data=run.probe_map.data.drop_vars("inner_auc")))
    with pytest.raises(
        MapError, match=r"the map of one was fitted without nested CV\nhint: fit it with 3 or more folds"
    ):
        evaluate_within(flat)


def pair(auc: tuple[float, float, float] | None) -> Pair:
    interval = None if auc is None else Interval(*auc)
    return Pair(trained_on="a", tested_on="b", layer=0, position="-1", n=9, auc=interval)


@pytest.mark.parametrize(
    ("auc", "folded"),
    [
        ((0.7, 0.6, 0.8), (0.7, 0.6, 0.8)),
        ((0.3, 0.2, 0.4), (0.7, 0.6, 0.8)),
        ((0.45, 0.3, 0.6), (0.55, 0.5, 0.7)),
        ((0.5, 0.4, 0.65), (0.5, 0.5, 0.65)),
    ],
)
def test_folded_by_hand(auc: tuple[float, float, float], folded: tuple[float, float, float]) -> None:
    assert pair(auc).folded == pytest.approx(folded)


@given(st.lists(st.floats(0, 1), min_size=3, max_size=3))
def test_folded_is_ordered_and_at_least_chance(three: list[float]) -> None:
    low, value, high = sorted(three)
    folded = pair((value, low, high)).folded
    assert folded is not None
    assert 0.5 <= folded.low <= folded.value + 1e-12
    assert folded.value <= folded.high + 1e-12
    assert folded.high <= 1


def test_folded_of_a_pair_without_auc_is_none() -> None:
    assert pair(None).folded is None
