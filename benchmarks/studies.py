"""Results of the studies on several runs: ``python benchmarks/studies.py RUN…``; writes ``results/studies.md``.

Requires the steps ``resample``, ``errors``, ``choose`` and ``baselines`` of every run, and ``transfer`` of all runs,
which writes its result into the first run.
"""

import shutil
import sys
from pathlib import Path

from report import head, machine, row, write

from probemap.runs.definitions import ANSWER, RESAMPLE
from probemap.runs.run import Run
from probemap.tables import Table, compact

STUDIES = ("baselines", "errors", "choose")
OMITTED_COLUMNS = {"meaning"}
"""Columns that are too wide for a Markdown page."""


def lines_of(table: Table) -> list[str]:
    columns, rows = compact(table)
    kept = [k for k, name in enumerate(columns) if name not in OMITTED_COLUMNS]
    lines = [*head(*(columns[k] for k in kept)), *(row(*(line[k] for k in kept)) for line in rows)]
    return ["", *lines, "", *(f"- {line}" for line in table.words)]


def facts(run: Run) -> str:
    """Return a line about the answers and the samples of a run."""
    verdicts = run.graded.correct
    options = run.record(RESAMPLE).options
    decided = [verdict for verdict in verdicts if verdict is not None]
    return (
        f"{len(verdicts)} questions, {len(decided)} answers decided, {sum(decided) / len(decided):.0%} of them "
        f"correct; {options.k} samples per question at temperature {options.temperature:g}."
    )


def main() -> None:
    runs = [Run.open(path) for path in sys.argv[1:]]
    model = runs[0].record(ANSWER).facts.model
    lines = [f"{model} (weights in 4 bits), {machine()}  Each table is the output of one command.", ""]
    for run in runs:
        lines += [f"## {run.task.name}", "", facts(run)]
        for study in STUDIES:
            table = run.read_table(study)
            lines += ["", f"### {table.title} (`probemap {study}`)", *lines_of(table)]
        lines.append("")
    table = runs[0].read_table("transfer")
    results = Path(__file__).parent / "results"
    shutil.copy(runs[0].path / "transfer.png", results / "transfer.png")
    lines += [f"## {table.title} (`probemap transfer`)", "", "![transfer](transfer.png)", *lines_of(table)]
    write("studies", lines)


if __name__ == "__main__":
    main()
