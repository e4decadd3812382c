"""The paper's other questions, answered: ``python benchmarks/studies.py RUN…``; writes ``results/studies.md``.

Every RUN has been resampled, and ``probemap errors``, ``choose`` and ``baselines`` are done; ``probemap transfer RUN…``
wrote its result into the first.
"""

import shutil
import sys
from pathlib import Path

from report import head, machine, row, write

from probemap.runs.run import Run
from probemap.tables import Table, compact

STUDIES = ("baselines", "errors", "choose")
LEAVES_OUT = {"meaning"}
"""Columns that a narrow page has no room for."""


def table(made: Table) -> list[str]:
    columns, rows = compact(made)
    kept = [k for k, name in enumerate(columns) if name not in LEAVES_OUT]
    lines = [*head(*(columns[k] for k in kept)), *(row(*(line[k] for k in kept)) for line in rows)]
    return ["", *lines, "", *(f"- {line}" for line in made.words)]


def facts(run: Run) -> str:
    judged = [j.verdict.correct for j in run.judgements()]
    options = run.step("resample")["options"]
    decided = [one for one in judged if one is not None]
    return (
        f"{len(judged)} questions, {len(decided)} answers decided, {sum(decided) / len(decided):.0%} of them right; "
        f"{options['k']} samples of each at temperature {options['temperature']:g}."
    )


def main() -> None:
    runs = [Run.open(path) for path in sys.argv[1:]]
    model = runs[0].step("answer")["facts"]["model"]
    lines = [f"{model} (weights in 4 bits), {machine()}  Every table is what one command wrote.", ""]
    for run in runs:
        lines += [f"## {run.task().name}", "", facts(run)]
        for study in STUDIES:
            made = run.table(study)
            lines += ["", f"### {made.title} (`probemap {study}`)", *table(made)]
        lines.append("")
    found = runs[0].table("transfer")
    results = Path(__file__).parent / "results"
    shutil.copy(runs[0].path / "transfer.png", results / "transfer.png")
    lines += [f"## {found.title} (`probemap transfer`)", "", "![transfer](transfer.png)", *table(found)]
    write("studies", lines)


if __name__ == "__main__":
    main()
