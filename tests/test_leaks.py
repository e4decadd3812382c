"""Accepted answers in their own prompts: planted ones are reported, occurrences by chance are not."""

from collections.abc import Callable, Sequence
from math import comb

import numpy as np
import pytest

from probemap.records import Example, Kind, Task
from probemap.tasks.builtin import TASKS
from probemap.tasks.leaks import LeakCheck, _tail, find_leaks

Draw = np.random.Generator

_SYLLABLES = "ba be bo da de do ka ke ko la le lo ma me mo na ne no ra re ro sa se so ta te to".split()


def _words(draw: Draw, n: int) -> list[str]:
    return ["".join(draw.choice(_SYLLABLES, draw.integers(2, 4))) for _ in range(n)]


def _names(draw: Draw, n: int) -> tuple[list[str], list[str]]:
    """Return names of two words as answers, and texts that mention other names and single words of names."""
    names = [f"{a} {b}".title() for a, b in zip(_words(draw, n), _words(draw, n), strict=True)]
    return names, [f"Some say {draw.choice(names)}, others {draw.choice(_words(draw, 3))}." for _ in range(n)]


def _small_numbers(draw: Draw, n: int) -> tuple[list[str], list[str]]:
    texts = [f"Of {a} boxes, {b} are in {c} rooms." for a, b, c in draw.integers(1, 21, (n, 3)).tolist()]
    return [str(k) for k in draw.integers(1, 31, n)], texts


def _yes_no(draw: Draw, n: int) -> tuple[list[str], list[str]]:
    """Return answers of which two thirds are no, and texts of which a third contain no and few contain yes."""
    fillers = draw.choice(
        ["There is no doubt.", "They said yes.", "They met.", "It rained."], n, p=[0.3, 0.02, 0.4, 0.28]
    )
    return draw.choice(["yes", "no"], n, p=[0.35, 0.65]).tolist(), fillers.tolist()


def _categories(draw: Draw, n: int) -> tuple[list[str], list[str]]:
    labels = ["city", "river", "person", "film"]
    places = [*labels, *["house"] * 4]
    return draw.choice(labels, n).tolist(), [f"It is near a {draw.choice(places)}." for _ in range(n)]


KINDS: dict[str, tuple[Callable[[Draw, int], tuple[list[str], list[str]]], Kind, Sequence[float]]] = {
    "names": (_names, "open", (0.02, 0.1, 0.5)),
    "numbers": (_small_numbers, "numbers", (0.1, 0.2, 0.5)),
    "yes or no": (_yes_no, "names", (0.2, 0.3, 0.6)),
    "categories": (_categories, "names", (0.15, 0.3, 0.5)),
}
"""For each kind of answer, the function that draws answers and texts, the kind of task, and the shares of leaks."""


def drawn_task(name: str, seed: int, share: float, n: int = 400) -> Task:
    """Return a task in which the given share of the questions state their accepted answer."""
    draw = np.random.default_rng(seed)
    make, kind, _ = KINDS[name]
    answers, texts = make(draw, n)
    for k in draw.permutation(n)[: round(share * n)].tolist():
        texts[k] += f" The answer is {answers[k].upper()}."
    rows = zip(answers, texts, strict=True)
    examples = [Example(str(k), f"Which one is it, in case {k}?", (a,), context=t) for k, (a, t) in enumerate(rows)]
    return Task(name, tuple(examples), kind, prompt="{context}\n\n{question}")


def test_planted_answers_are_reported_in_40_of_40_sets_and_clean_sets_never() -> None:
    planted = [(name, seed) for seed in range(10) for name in KINDS]
    reported = [find_leaks(drawn_task(name, seed, KINDS[name][2][seed % 3])).is_leak for name, seed in planted]
    assert reported == [True] * 40
    clean = [find_leaks(drawn_task(name, 100 + seed, 0.0)).is_leak for name, seed in planted]
    assert clean == [False] * 40


@pytest.mark.parametrize("name", list(KINDS))
def test_find_leaks_of_clean_sets_has_valid_p_values(name: str) -> None:
    checks = [find_leaks(drawn_task(name, 200 + seed, 0.0, n=150)) for seed in range(60)]
    assert sum(check.p < 0.1 for check in checks) <= 12
    assert np.mean([check.count - check.expected for check in checks]) == pytest.approx(0, abs=2)


def task_of(rows: Sequence[tuple[str, str, str]], kind: Kind = "open", choices: Sequence[str] = ()) -> Task:
    examples = [Example(str(k), q, (a,), tuple(choices), context=c) for k, (q, a, c) in enumerate(rows)]
    return Task("t", tuple(examples), kind)


def test_find_leaks_compares_folded_whole_words() -> None:
    rows = [
        ("Who wrote of ŁÓDŹ?", "Lodz", ""),
        ("Where is Parisian bread made?", "Paris", ""),
        ("What won World War II?", "world war 2", ""),
        ("How many are 1,500 men?", "1500", ""),
        ("What is 1.5 times five?", "5", ""),
        ("What is 1.5?", "15", ""),
        ("Who sang it?", "The Who", ""),
        ("Which band?", "The Beatles", "Beatles sang it."),
        ("Which sign?", "∞", "∞"),
    ]
    occurs = [find_leaks(task_of([row])).count for row in rows]
    assert occurs == [1, 0, 1, 1, 1, 0, 0, 1, 0]
    assert find_leaks(task_of(rows)).n == 8, "a sign without letters and digits is not searched"


def test_find_leaks_counts_any_accepted_answer_once() -> None:
    examples = [Example("a", "Bach or J. S. Bach?", ("Bach", "J. S. Bach")), Example("b", "Who?", ("Mozart",))]
    check = find_leaks(Task("t", tuple(examples), "open"))
    assert (check.n, check.count, check.expected) == (2, 1, 0.5)


def test_find_leaks_ignores_worked_examples_and_choices_that_are_all_named() -> None:
    rows = [(f"Is {a} or {b} larger?", a, "") for a, b in (("Peru", "Chad"), ("Mali", "Cuba"), ("Oman", "Laos"))]
    examples = [Example(str(k), q, (a,), (a, q.split()[3])) for k, (q, a, _) in enumerate(rows)]
    check = find_leaks(Task("t", tuple(examples), "names"))
    assert check == LeakCheck(n=0, n_skipped=3, count=0, expected=0, p=1.0)
    assert check.counts == "0 of 0 (0.0 expected by chance; 3 questions name all of their choices)"
    listed = Task("t", tuple(Example(str(k), "Which?", (a,), ("x", a)) for k, (_, a, _) in enumerate(rows)), "choices")
    with_shots = Task("t", listed.examples, "choices", prompt="{question}\n{letters}", shots=(("Which?", "Peru"),))
    assert (find_leaks(with_shots).n, find_leaks(with_shots).count) == (3, 0)
    named = task_of([("Is it positive or negative?", a, "") for a in ("positive", "negative") * 50])
    check = find_leaks(named)
    assert (check.count, check.expected, check.p, check.is_leak) == (100, 100.0, 1.0, False)


def test_find_leaks_compares_questions_of_the_same_kind() -> None:
    """Small numbers often occur in questions whose answers are small numbers, but names do not."""
    draw = np.random.default_rng(0)
    answers, texts = _small_numbers(draw, 300)
    numbers = [Example(f"n{k}", t, (a,), kind="numbers") for k, (a, t) in enumerate(zip(answers, texts, strict=True))]
    names = [Example(f"o{k}", "Who is it?", (name,)) for k, name in enumerate(_names(draw, 300)[0])]
    check = find_leaks(Task("t", (*numbers, *names), "open"))
    assert check.n == 600
    assert check.count == pytest.approx(check.expected, abs=15)
    assert not check.is_leak


def test_a_significant_share_below_one_percent_is_not_reported() -> None:
    rows = [(f"Which county is Kreis {k}?", f"Stadt {k}", "") for k in range(1000)]
    rows[:9] = [(f"{q} It is {a}.", a, c) for q, a, c in rows[:9]]
    check = find_leaks(task_of(rows))
    assert (check.count, check.p < 1e-6, check.is_leak) == (9, True, False)
    rows[9:12] = [(f"{q} It is {a}.", a, c) for q, a, c in rows[9:12]]
    check = find_leaks(task_of(rows))
    assert check.is_leak
    assert check.counts == "12 of 1000 (0.0 expected by chance)"
    assert check.warning == (
        "The accepted answer occurs in the question or context of 12 of 1000 questions (0.0 expected by chance).  "
        "A probe can use it: it may detect which answers repeat the prompt, instead of which answers are correct."
    )


def test_a_leak_is_a_share_of_all_questions_also_of_those_that_name_all_choices() -> None:
    assert LeakCheck(n=11, count=5, expected=0.6, p=1e-4).is_leak
    assert not LeakCheck(n=11, n_skipped=1485, count=5, expected=0.6, p=1e-4).is_leak


def test_find_leaks_without_questions_or_answers() -> None:
    for task in (Task("t", (), "open"), Task("t", (Example("a", "Who?", ()),), "open")):
        check = find_leaks(task)
        assert check == LeakCheck(n=0, count=0, expected=0, p=1.0)
        assert not check.is_leak
        assert check.warning == ""


def test_tail_is_that_of_a_binomial_distribution() -> None:
    exact = sum(comb(12, k) * 0.3**k * 0.7 ** (12 - k) for k in range(5, 13))
    assert _tail([0.3] * 12, 5) == pytest.approx(exact)
    assert _tail([0.3] * 12, 0) == 1.0
    assert _tail([1.0, 1.0], 2) == 1.0
    assert _tail([0.5, 0.0], 2) == 0.0


def test_attributes_of_a_map_contain_the_check() -> None:
    check = LeakCheck(n=500, n_skipped=7, count=120, expected=3.25, p=1e-9)
    assert LeakCheck.from_attrs({**check.to_attrs(), "seed": 0}) == check
    assert LeakCheck.from_attrs({"seed": 0}) is None


@pytest.mark.parametrize("name", list(TASKS))
def test_builtin_tasks_have_no_leaks(name: str) -> None:
    assert not find_leaks(TASKS[name].load()).is_leak
