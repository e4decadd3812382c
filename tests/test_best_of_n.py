"""Best-of-n: rules on worked examples, intervals against formulas and simulation, and the table."""

import numpy as np
import pytest

from probemap.studies.best_of_n import ProbeScore, Question, compare_rules, proportion, proportion_difference
from probemap.studies.error_types import SampledQuestion
from probemap.studies.semantics import Content

PRIMARY, FALLBACK = "primary", "fallback"


def question(
    verdicts: str,
    meanings: str,
    scores: list[tuple[str, float]] | None = None,
    greedy: bool | None = False,
    error_types: str = "",
    group: str = "",
) -> Question:
    """Verdicts as letters: c(orrect), i(ncorrect), u(ndecided), r(efusal)."""
    contents: tuple[Content, ...] = tuple("refusal" if letter == "r" else "answer" for letter in verdicts)
    sampled = SampledQuestion(
        "q",
        tuple({"c": True, "i": False, "u": None, "r": None}[letter] for letter in verdicts),
        tuple(map(int, meanings)),
        contents,
    )
    probe_scores = scores or [(PRIMARY, 0.0)] * len(verdicts)
    return Question(
        sampled=sampled,
        greedy=greedy,
        scores=tuple(ProbeScore(by, score) for by, score in probe_scores),  # type: ignore[arg-type]
        error_types=error_types,
        group=group,
    )


def correctness(question: Question) -> dict[str, float]:
    rules = ("greedy", "random", "majority", "probe", "best possible")
    return {rule: question.correctness(rule) for rule in rules}


def test_correctness_of_each_rule_by_hand() -> None:
    five = question("iciic", "01021", [(PRIMARY, 0.1), (PRIMARY, 0.9), (PRIMARY, 0.2), (PRIMARY, 0.3), (PRIMARY, 0.8)])
    # Meanings 0 and 1 occur twice each: the first of equals is chosen, which is incorrect.
    assert correctness(five) == {"greedy": 0, "random": 0.4, "majority": 0, "probe": 1, "best possible": 1}
    assert (five.majority_choice, five.probe_choice) == (0, 1)
    assert question("cic", "010", greedy=True).correctness("majority") == 1
    assert correctness(question("iii", "000", greedy=True))["best possible"] == 0


def test_correctness_of_undecided_choices_is_0() -> None:
    undecided = question("uuc", "001", [(PRIMARY, 2.0), (PRIMARY, 1.0), (PRIMARY, 0.0)], greedy=None)
    assert correctness(undecided) == {
        "greedy": 0,
        "random": pytest.approx(1 / 3),
        "majority": 0,
        "probe": 0,
        "best possible": 1,
    }


def test_majority_choice_prefers_answers_to_refusals() -> None:
    assert question("rrrcci", "000112").majority_choice == 3
    assert question("rrr", "000").majority_choice == 0


def test_probe_choice_ranks_main_above_fallback_above_none() -> None:
    assert question("ici", "012", [(FALLBACK, 9.0), (PRIMARY, -3.0), ("none", 0.0)]).probe_choice == 1
    assert question("ii", "01", [("none", 0.0), (FALLBACK, -9.0)]).probe_choice == 1
    assert question("iic", "012", [(PRIMARY, 1.0), (PRIMARY, 1.0), (PRIMARY, 1.0)]).probe_choice == 0


def test_proportion_is_agresti_coull() -> None:
    values = np.array([1.0] * 15 + [0.0] * 5)
    interval = proportion(values, [str(i) for i in range(20)])
    p = 17 / 24
    half = 1.959964 * np.sqrt(p * (1 - p) / 24)
    assert interval == pytest.approx((0.75, p - half, p + half))
    assert proportion(np.ones(4), list("abcd")).low < 0.8, "four of four is not certain"
    assert proportion(np.ones(4), list("abcd")).high == 1


def test_proportion_difference_is_agresti_min() -> None:
    # 8 pairs better, 3 worse, 29 the same.
    values = np.array([1.0] * 8 + [-1.0] * 3 + [0.0] * 29)
    interval = proportion_difference(values, [str(i) for i in range(40)])
    better, worse, n = 8.5, 3.5, 42
    d = (better - worse) / n
    half = 1.959964 * np.sqrt((better + worse) - (better - worse) ** 2 / n) / n
    assert interval == pytest.approx((5 / 40, d - half, d + half))


def test_proportion_accounts_for_groups() -> None:
    values = np.array([1.0, 0.0] * 50)
    independent = proportion(values, [str(i) for i in range(100)])
    mixed = proportion(values, [str(i // 4) for i in range(100)])
    equal = proportion(np.repeat([1.0, 0.0], 50), [str(i // 4) for i in range(100)])
    assert mixed.high - mixed.low < independent.high - independent.low, "each group holds both values"
    assert equal.high - equal.low > 1.5 * (independent.high - independent.low)


def test_proportion_difference_covers_the_truth() -> None:
    rng = np.random.default_rng(0)
    groups = [str(i) for i in range(40)]
    covered = 0
    for _ in range(400):
        p, q = rng.random(40) < 0.6, rng.random(40) < 0.45
        _, low, high = proportion_difference(p.astype(float) - q, groups)
        covered += low <= 0.15 <= high
    assert 0.92 <= covered / 400 <= 0.99


def test_compare_rules_table_and_summary() -> None:
    questions = [question("ci", "01", [(PRIMARY, 1.0), (PRIMARY, 0.0)], False, "DE", str(i)) for i in range(30)]
    questions += [question("ic", "01", [(PRIMARY, 0.0), (PRIMARY, 1.0)], True, "B", str(i)) for i in range(30, 60)]
    table = compare_rules(questions)
    by_rule = {(str(row[0])[0], row[2]): row for row in table.rows}
    assert by_rule["a", "greedy"][1:4] == (60, "greedy", 0.5)
    assert by_rule["a", "probe"][3] == 1.0
    assert by_rule["a", "probe"][6:] == (None, None, None)
    assert by_rule["a", "random"][6] == 0.5
    assert by_rule["D", "majority"][6] == 0.0
    assert by_rule["D", "best possible"][1] == 30
    assert [row for row in table.rows if str(row[0]).startswith("A")] == [(table.rows[5][0], 0, *[None] * 7)]
    assert table.words[0].startswith("From 2 samples per question the probe chooses a correct answer for 1.000 [0.9")
    assert table.words[0].endswith("] of 60 questions.")
    assert table.words[1].startswith("The probe is better than greedy (+0.500 [+0.3")
    assert table.words[2].startswith("By error type, the probe is better than greedy for D (+1.000 [+0.8")
    assert "E (+1.000" in table.words[2] and "B (" not in table.words[2]
    assert len(table.words) == 3


def test_compare_rules_reports_a_worse_probe() -> None:
    questions = [question("ci", "00", [(PRIMARY, 0.0), (PRIMARY, 1.0)], i % 2 == 0, "", str(i)) for i in range(20)]
    assert "The probe is worse than greedy (-0.500" in compare_rules(questions).words[1]


def test_compare_rules_reports_no_difference() -> None:
    questions = [question("ci", "01", [(PRIMARY, i % 2), (PRIMARY, 0.5)], i % 2 == 0, "", str(i)) for i in range(20)]
    last = compare_rules(questions).words[-1]
    assert last.startswith("The probe is not distinguishable from greedy (+0.000 [")


def test_compare_rules_labels_own_answers() -> None:
    questions = [question("ci", "01", [(PRIMARY, 1.0), (PRIMARY, 0.0)], False, "", str(i)) for i in range(30)]
    questions += [question("ic", "01", [(PRIMARY, 0.0), (PRIMARY, 1.0)], True, "", str(i)) for i in range(30, 60)]
    table = compare_rules(questions, own_label="own answer")
    assert [row[2] for row in table.rows[:2]] == ["own answer", "random"]
    assert "better than own answer (+0.500" in table.words[1]


def test_compare_rules_with_too_few_questions() -> None:
    questions = [question("ci", "01", None, False, "", str(i)) for i in range(9)]
    assert compare_rules(questions).words == ("9 questions are too few for a comparison.",)
