"""Compare the verdicts and exact answers of run directories with labels given by a person.

Usage::

    python benchmarks/open_labels.py LABELS.jsonl RUN...

Each line of the labels has the fields ``key`` (id of the question), ``label`` ("right", "wrong" or "undecided") and
``exact`` (the exact answer, or null).  The answers in all runs must be the same.
"""

import json
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from probemap.records import Answer, Judgement
from probemap.runs.run import Run

LABELS = {"right": True, "wrong": False, "undecided": None}


def share(part: int, whole: int) -> str:
    return f"{part} of {whole} ({part / whole:.3f})" if whole else "none"


def verdict_lines(labels: Mapping[str, Any], judgements: Mapping[str, Judgement]) -> list[str]:
    """Return the agreement with the labels, and how many answers are kept by label."""
    pairs = Counter((LABELS[row["label"]], judgements[key].verdict.correct) for key, row in labels.items())
    n_same = pairs[True, True] + pairs[False, False]
    lines = [f"agreement where both decide: {share(n_same, n_same + pairs[True, False] + pairs[False, True])}"]
    for name, label in LABELS.items():
        total = sum(n for (person, _), n in pairs.items() if person is label)
        lines.append(f"decided of those that the person calls {name}: {share(total - pairs[label, None], total)}")
    return lines


def cut_line(name: str, correct: Mapping[str, bool | None], answers: Mapping[str, Answer]) -> str:
    """Return how well "the answer was cut off" separates correct from incorrect answers."""
    cut = {
        label: [not answers[key].stopped for key, value in correct.items() if value is label] for label in (True, False)
    }
    shares = [sum(values) / len(values) for values in (cut[True], cut[False])]
    return (
        f"{name}: {len(cut[True])} correct, {len(cut[False])} incorrect; cut off {shares[0]:.3f} and {shares[1]:.3f}; "
        f'AUC of "was not cut off" {0.5 + (shares[1] - shares[0]) / 2:.3f}'
    )


def exact_line(labels: Mapping[str, Any], judgements: Mapping[str, Judgement]) -> str:
    """Return the precision and the recall of the exact answers, among answers in which the person finds one."""
    found: Counter[str] = Counter()
    for key, row in labels.items():
        if row["exact"] is not None:
            span = judgements[key].span
            text = span.text.strip() if span else None
            is_same = text is not None and (text in row["exact"] or row["exact"] in text)
            found["same" if is_same else "none" if text is None else "other"] += 1
    return f"exact answers: precision {share(found['same'], found['same'] + found['other'])}, recall " + share(
        found["same"], found.total()
    )


def main() -> None:
    labels_file, *directories = sys.argv[1:]
    labels = {row["key"]: row for row in map(json.loads, Path(labels_file).read_text("utf-8").splitlines())}
    for directory in directories:
        run = Run.open(Path(directory))
        judgements = {judgement.id: judgement for judgement in run.read_judgements()}
        answers = {answer.id: answer for answer in run.answers}
        print(directory)
        for line in verdict_lines(labels, judgements):
            print(f"  {line}")
        print("  " + cut_line("verdicts", {key: j.verdict.correct for key, j in judgements.items()}, answers))
        print("  " + cut_line("person's labels", {key: LABELS[row["label"]] for key, row in labels.items()}, answers))
        print("  " + exact_line(labels, judgements))


if __name__ == "__main__":
    main()
