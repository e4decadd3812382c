"""Picking one of several answers: rules by hand, shares and differences with intervals that hold."""

import numpy as np
import pytest

from probemap.studies.best_of_n import Question, Trust, compare, share, share_difference
from probemap.studies.error_types import Sampled
from probemap.studies.semantics import Gives

MAIN, SPARE = "main", "fallback"


def question(
    correct: str,
    meaning: str,
    trust: list[tuple[str, float]] | None = None,
    greedy: bool | None = False,
    kinds: str = "",
    group: str = "",
) -> Question:
    """Verdicts as letters: r(ight), w(rong), u(ndecided), f: a refusal."""
    verdicts = tuple({"r": True, "w": False, "u": None, "f": None}[letter] for letter in correct)
    gives: tuple[Gives, ...] = tuple("refusal" if letter == "f" else "answer" for letter in correct)
    sampled = Sampled("q", verdicts, tuple(map(int, meaning)), gives)
    trusted = tuple(Trust(by, score) for by, score in trust or [(MAIN, 0.0)] * len(correct))  # type: ignore[arg-type]
    return Question(sampled, greedy, trusted, kinds, group)


def rights(one: Question) -> dict[str, float]:
    return {rule: one.right(rule) for rule in ("greedy", "random", "majority", "probe", "best possible")}


def test_the_rules_by_hand() -> None:
    one = question("wrwwr", "01021", [(MAIN, 0.1), (MAIN, 0.9), (MAIN, 0.2), (MAIN, 0.3), (MAIN, 0.8)])
    # The meanings 0 and 1 come twice each: the first of equals, which is wrong.
    assert rights(one) == {"greedy": 0, "random": 0.4, "majority": 0, "probe": 1, "best possible": 1}
    assert (one.majority, one.trusted) == (0, 1)
    assert question("rwr", "010", greedy=True).right("majority") == 1
    assert rights(question("www", "000", greedy=True))["best possible"] == 0


def test_what_is_undecided_is_not_right() -> None:
    one = question("uur", "001", [(MAIN, 2.0), (MAIN, 1.0), (MAIN, 0.0)], greedy=None)
    assert rights(one) == {
        "greedy": 0,
        "random": pytest.approx(1 / 3),
        "majority": 0,
        "probe": 0,
        "best possible": 1,
    }


def test_majority_takes_an_answer_where_there_is_one() -> None:
    assert question("fffrrw", "000112").majority == 3
    assert question("fff", "000").majority == 0


def test_the_detector_s_own_cells_come_before_the_fallback_s_and_none_comes_last() -> None:
    one = question("wrw", "012", [(SPARE, 9.0), (MAIN, -3.0), ("none", 0.0)])
    assert one.trusted == 1
    assert question("ww", "01", [("none", 0.0), (SPARE, -9.0)]).trusted == 1
    assert question("wwr", "012", [(MAIN, 1.0), (MAIN, 1.0), (MAIN, 1.0)]).trusted == 0


def test_a_share_is_agresti_and_coull_s() -> None:
    values = np.array([1.0] * 15 + [0.0] * 5)
    value, low, high = share(values, [str(i) for i in range(20)])
    p = 17 / 24
    half = 1.959964 * np.sqrt(p * (1 - p) / 24)
    assert (value, low, high) == pytest.approx((0.75, p - half, p + half))
    assert share(np.ones(4), list("abcd"))[1] < 0.8  # all of four is not certain
    assert share(np.ones(4), list("abcd"))[2] == 1


def test_a_difference_is_agresti_and_min_s() -> None:
    # 8 pairs better, 3 worse, 29 the same.
    values = np.array([1.0] * 8 + [-1.0] * 3 + [0.0] * 29)
    value, low, high = share_difference(values, [str(i) for i in range(40)])
    better, worse, n = 8.5, 3.5, 42
    d = (better - worse) / n
    half = 1.959964 * np.sqrt((better + worse) - (better - worse) ** 2 / n) / n
    assert (value, low, high) == pytest.approx((5 / 40, d - half, d + half))


def test_questions_of_one_group_count_as_one_draw() -> None:
    values = np.array([1.0, 0.0] * 50)
    apart = share(values, [str(i) for i in range(100)])
    together = share(values, [str(i // 4) for i in range(100)])
    twins = share(np.repeat([1.0, 0.0], 50), [str(i // 4) for i in range(100)])
    assert together[2] - together[1] < apart[2] - apart[1]  # each group holds both: the mean is surer
    assert twins[2] - twins[1] > 1.5 * (apart[2] - apart[1])


def test_intervals_hold_what_they_promise() -> None:
    draw = np.random.default_rng(0)
    groups = [str(i) for i in range(40)]
    held = 0
    for _ in range(400):
        p, q = draw.random(40) < 0.6, draw.random(40) < 0.45
        _, low, high = share_difference(p.astype(float) - q, groups)
        held += low <= 0.15 <= high
    assert 0.92 <= held / 400 <= 0.99


def test_the_table_and_its_words() -> None:
    rows = [question("rw", "01", [(MAIN, 1.0), (MAIN, 0.0)], False, "DE", str(i)) for i in range(30)]
    rows += [question("wr", "01", [(MAIN, 0.0), (MAIN, 1.0)], True, "B", str(i)) for i in range(30, 60)]
    made = compare(rows)
    of = {(str(row[0])[0], row[2]): row for row in made.rows}
    assert of["a", "greedy"][1:4] == (60, "greedy", 0.5)
    assert of["a", "probe"][3] == 1.0
    assert of["a", "probe"][6:] == (None, None, None)
    assert of["a", "random"][6] == 0.5
    assert of["D", "majority"][6] == 0.0
    assert of["D", "best possible"][1] == 30
    assert [row for row in made.rows if str(row[0]).startswith("A")] == [(made.rows[5][0], 0, *[None] * 7)]
    assert made.words[0].startswith("Of 2 answers to each of 60 questions the probe picks a right one in 1.000 [0.9")
    assert made.words[1].startswith("That is more often than by greedy (+0.500 [+0.3")
    assert made.words[2].startswith("Of the kinds of errors it is more often right than greedy in D (+1.000 [+0.8")
    assert "E (+1.000" in made.words[2] and "B" not in made.words[2]
    assert len(made.words) == 3
    same = compare([question("rw", "00", [(MAIN, 0.0), (MAIN, 1.0)], i % 2 == 0, "", str(i)) for i in range(20)])
    assert "That is less often than by greedy (-0.500" in same.words[1]
    named = compare(rows, own="own answer")
    assert [row[2] for row in named.rows[:2]] == ["own answer", "random"]
    assert "by own answer (+0.500" in named.words[1]
    few = compare(rows[:9])
    assert few.words == ("9 questions are too few to say anything.",)
    level = compare([question("rw", "01", [(MAIN, i % 2), (MAIN, 0.5)], i % 2 == 0, "", str(i)) for i in range(20)])
    assert level.words[-1].startswith("No difference can be shown to greedy (+0.000 [")
