"""Verdicts and exact answers against 179 real answers of SmolLM2-135M-Instruct (Q4_1), labelled by hand.

``labelled_answers.jsonl``: 40 answers of each built-in task, drawn at random, and a second round of 20 each, drawn
after the rules had been mended on the first (and which mended them again; one row was dropped, its question being
ambiguous).  ``correct``: right, wrong, or null where the answer is cut off before it says anything; ``exact``: the
words that name one of the possible answers (a country, a number, one of the two) and are given as the answer, or null.
The labels are a reader's, not the rules': they count "Lao people" as Laos and take no number from working that is cut.
"""

import json
from pathlib import Path

import numpy as np
from conftest import make_answer
from scipy.stats import fisher_exact

from probemap.grading.locate import locate_answer
from probemap.grading.rules import grade_answer
from probemap.tasks.loading import load_task

ROWS = [json.loads(line) for line in Path(__file__).with_name("labelled_answers.jsonl").read_text("utf-8").splitlines()]


def outcomes() -> list[tuple[bool | None, str | None, bool | None, str | None]]:
    """(labelled verdict, labelled exact answer, verdict, exact answer) of each row."""
    found = []
    for row in ROWS:
        task = load_task(row["task"])
        example = next(e for e in task.examples if e.question == row["question"])
        answer = make_answer(row["text"], list(row["text"]), ["?"], stopped=row["stopped"])
        span, _ = locate_answer(task, example, answer)
        verdict = grade_answer(task, example, answer)
        found.append((row["correct"], row["exact"], verdict.correct, span.text if span else None))
    return found


def test_verdicts_and_exact_answers_agree_with_a_reader() -> None:
    rows = outcomes()
    assert len(rows) == 179
    verdicts = [mine == theirs for theirs, _, mine, _ in rows]
    exact = [mine == theirs for _, theirs, _, mine in rows]
    assert sum(verdicts) / len(rows) >= 0.98, [r for r, good in zip(ROWS, verdicts, strict=True) if not good]
    assert sum(exact) / len(rows) >= 0.95, [r for r, good in zip(ROWS, exact, strict=True) if not good]


def test_locating_is_as_good_for_wrong_answers_as_for_right_ones() -> None:
    table = [[0, 0], [0, 0]]
    for correct, theirs, _, mine in outcomes():
        if correct is not None:
            table[correct][mine == theirs] += 1
    assert min(map(sum, table)) >= 30
    assert fisher_exact(np.array(table)).pvalue > 0.05, table
