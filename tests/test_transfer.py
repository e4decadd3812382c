"""One run's probe on another's answers: planted truths, folding by hand, and no answer to a question that trained."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probemap import fit_map
from probemap.detectors.fit import fit_probe
from probemap.probing.auc import Floats
from probemap.records import MapError
from probemap.studies.generalisation import Pair, Subject, at_home, best_logits, elsewhere, matrix

POSITIONS = ["last_q", "exact_answer_last"]


def subject(name: str, seed: int, sign: float, n: int = 200, logit: float = 0.0, asked: str = "") -> Subject:
    """Answers whose verdict stands, with a sign, in feature 0 of layer 1 at the exact answer."""
    draw = np.random.default_rng(seed)
    correct = draw.random(n) < 0.5
    states = draw.normal(size=(n, 2, 2, 6)).astype(np.float32)
    states[:, 1, 1, 0] += sign * 2.0 * (correct - 0.5)
    made = fit_map(states, correct, positions=POSITIONS)

    def read(layer: int, position: str) -> npt.NDArray[np.float32]:
        return states[:, layer, POSITIONS.index(position)]

    logits: dict[str, Floats] = {
        "logprob_mean": draw.normal(size=n),
        "exact_logprob_min": logit * correct + draw.normal(size=n),
    }
    return Subject(name, made, [(f"{asked or name} {i}", "") for i in range(n)], logits, read)


def test_what_carries_over_what_does_not_and_what_is_the_other_way_round() -> None:
    same, noise, turned = subject("one", 0, 1.0), subject("two", 1, 0.0), subject("three", 2, -1.0)
    table = matrix([same, noise, turned], fit_probe)
    of = {(row[0], row[1]): dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert len(of) == 9
    home = of["one", "one"]
    honest = same.probe_map.honest_best()
    assert honest is not None
    assert (home["auc"], home["low"], home["high"]) == pytest.approx((honest.auc, honest.low, honest.high))
    assert (home["layer"], home["position"], home["n"]) == (None, "exact_answer_last", 200)
    there = of["one", "three"]
    assert (there["layer"], there["position"]) == (1, "exact_answer_last")
    assert there["auc"] == pytest.approx(1 - there["folded"])  # type: ignore[operator]
    assert there["high"] < 0.2  # type: ignore[operator]
    assert of["one", "two"]["low"] < 0.5 < of["one", "two"]["high"]  # type: ignore[operator]
    assert of["one", "two"]["folded low"] == 0.5
    words = " ".join(table.words)
    assert "It reads the other way round, each pair taken alone: one on three (0.0" in words
    assert "It cannot be shown to carry over: one on two (0." in words
    assert "What the probe reads carries over" not in words
    told = matrix([same, replace(subject("four", 4, 1.0), name="four")], fit_probe).words
    assert told[-1] == (
        "Of 2 of these pairs that can be compared with the best of the logits on the same answers, 2 lie above it."
    )
    known: list[str] = []

    def remember(name: str, make: Callable[[], Pair]) -> Pair:
        known.append(name)
        return Pair("one", "two", 1, "-1", 3, None)

    matrix([same, noise], fit_probe, remember=remember)
    assert known == ["one on one", "one on two", "two on one", "two on two"]


def test_the_gain_is_over_the_logits_that_are_best_where_it_trained() -> None:
    one, two = subject("one", 0, 1.0, logit=1.0), subject("two", 3, 1.0, logit=1.0)
    assert best_logits(one, list(one.logits)) == "exact_logprob_min"
    assert best_logits(one, ["logprob_mean"]) == "logprob_mean"
    pair = elsewhere(one, two, fit_probe)
    assert pair.baseline == "exact_logprob_min"
    assert pair.auc is not None and pair.gain is not None
    correct = two.probe_map.data["correct"].values
    right, wrong = (two.logits["exact_logprob_min"][correct == side] for side in (True, False))
    logits = float((right[:, None] > wrong[None]).mean())
    assert pair.gain[0] == pytest.approx(pair.auc[0] - logits)
    assert pair.gain[1] < pair.gain[0] < pair.gain[2]
    # One answer lacks it: another is compared, and no gain is lost.
    one_lacks = np.where(np.arange(200) == 7, np.nan, two.logits["exact_logprob_min"])
    holed = elsewhere(one, replace(two, logits=dict(two.logits) | {"exact_logprob_min": one_lacks}), fit_probe)
    assert (holed.baseline, holed.gain is None) == ("logprob_mean", False)
    lacking = replace(two, logits={"exact_logprob_min": np.full(200, np.nan)})
    assert elsewhere(one, lacking, fit_probe).gain is None
    assert at_home(one).baseline == "exact_logprob_min"
    assert best_logits(one, []) == ""


def test_answers_to_questions_that_trained_do_not_judge() -> None:
    one, two = subject("one", 0, 1.0), subject("two", 3, 1.0)
    half = replace(two, asked=[*one.asked[:120], *two.asked[120:]])
    pair = elsewhere(one, half, fit_probe)
    assert pair.n == 80
    # The same question about another page is another one; without a page, or about the same one, it is not.
    page = [(question, f"page {i}") for i, (question, _) in enumerate(one.asked)]
    other_pages = [(question, f"other {i}") for i, (question, _) in enumerate(one.asked)]
    assert elsewhere(replace(one, asked=page), replace(two, asked=other_pages), fit_probe).n == 200
    assert elsewhere(replace(one, asked=page), replace(two, asked=one.asked), fit_probe).n == 0
    assert elsewhere(one, replace(two, asked=page), fit_probe).n == 0
    assert elsewhere(replace(one, asked=page), replace(two, asked=page[:150] + two.asked[150:]), fit_probe).n == 50  # type: ignore[operator]
    nobody = replace(two, asked=one.asked)
    assert elsewhere(one, nobody, fit_probe) == Pair("one", "two", 1, "exact_answer_last", 0, None)


def test_only_cells_that_both_have() -> None:
    one, two = subject("one", 0, 1.0), subject("two", 3, 1.0)
    last = replace(two, probe_map=two.probe_map.only(["last_q"]))
    assert elsewhere(one, last, fit_probe).position == "last_q"
    with pytest.raises(MapError, match=r"one and two have no cells in common\nhint: capture the same ones in both"):
        elsewhere(
            replace(one, probe_map=one.probe_map.only(["exact_answer_last"])),
            last,
            fit_probe,
        )


def test_a_map_without_inner_folds_is_refused() -> None:
    one = subject("one", 0, 1.0)
    plain = replace(one, probe_map=replace(one.probe_map, data=one.probe_map.data.drop_vars("inner")))
    with pytest.raises(
        MapError, match=r"the map of one was made without folds inside folds\nhint: make it with 3 folds"
    ):
        at_home(plain)


@pytest.mark.parametrize(
    ("auc", "folded"),
    [
        ((0.7, 0.6, 0.8), (0.7, 0.6, 0.8)),
        ((0.3, 0.2, 0.4), (0.7, 0.6, 0.8)),
        ((0.45, 0.3, 0.6), (0.55, 0.5, 0.7)),
        ((0.5, 0.4, 0.65), (0.5, 0.5, 0.65)),
    ],
)
def test_folding_by_hand(auc: tuple[float, float, float], folded: tuple[float, float, float]) -> None:
    assert Pair("a", "b", 0, "-1", 9, auc).folded == pytest.approx(folded)


@given(st.lists(st.floats(0, 1), min_size=3, max_size=3))
def test_folding_keeps_order_and_lies_above_chance(three: list[float]) -> None:
    low, value, high = sorted(three)
    folded = Pair("a", "b", 0, "-1", 9, (value, low, high)).folded
    assert folded is not None
    assert 0.5 <= folded[1] <= folded[0] + 1e-12
    assert folded[0] <= folded[2] + 1e-12
    assert folded[2] <= 1


def test_too_few_to_judge_say_nothing() -> None:
    assert Pair("a", "b", 0, "-1", 3, None).folded is None
