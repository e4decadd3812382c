"""Accuracy of the grading rules on 179 answers of SmolLM2-135M-Instruct (Q4_1), labelled by hand.

``labelled_answers.jsonl`` has 40 answers of each built-in task, drawn at random, and a second sample of 20 each, drawn
after the rules were corrected on the first; the rules were corrected on the second sample as well.  One row was dropped
because its question is ambiguous.  ``correct``: true, false, or null if the answer is cut off before it asserts
anything; ``exact``: the words that name a possible answer (a country, a number, one of the two countries) and are given
as the answer, or null.  The labels follow a reader, not the rules: "Lao people" counts as Laos, and incomplete
calculations have no result.
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


def outcomes() -> list[tuple[bool | None, str | None]]:
    """Return the verdict and the exact answer of each row by the rules."""
    results = []
    for row in ROWS:
        task = load_task(row["task"])
        example = next(e for e in task.examples if e.question == row["question"])
        answer = make_answer(row["text"], list(row["text"]), ["?"], stopped=row["stopped"])
        span, _ = locate_answer(task, example, answer)
        results.append((grade_answer(task, example, answer).correct, span.text if span else None))
    return results


def test_grade_and_locate_agree_with_manual_labels() -> None:
    assert len(ROWS) == 179
    pairs = list(zip(ROWS, outcomes(), strict=True))
    verdicts = [row["correct"] == verdict for row, (verdict, _) in pairs]
    exact_answers = [row["exact"] == exact for row, (_, exact) in pairs]
    assert sum(verdicts) / len(ROWS) >= 0.98, [r for r, agrees in zip(ROWS, verdicts, strict=True) if not agrees]
    assert sum(exact_answers) / len(ROWS) >= 0.95, [r for r, a in zip(ROWS, exact_answers, strict=True) if not a]


def test_locate_accuracy_does_not_depend_on_correctness() -> None:
    table = [[0, 0], [0, 0]]
    for row, (_, exact) in zip(ROWS, outcomes(), strict=True):
        if row["correct"] is not None:
            table[row["correct"]][row["exact"] == exact] += 1
    assert min(map(sum, table)) >= 30
    assert fisher_exact(np.array(table)).pvalue > 0.05, table
