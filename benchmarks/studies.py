"""Collect the results of the studies of several runs: ``python benchmarks/studies.py RUN...``.

Requires the steps ``resample``, ``errors``, ``choose`` and ``baselines`` of every run, and ``transfer`` of all runs,
which writes its result into the first run.  Writes ``benchmarks/results/studies.md``.
"""

import argparse
import shutil

from report import RESULTS, machine, row, table_head, write

from probemap.runs.definitions import ANSWER, RESAMPLE
from probemap.runs.run import Run
from probemap.tables import Table, compact

STUDIES = ("baselines", "errors", "choose")
OMITTED_COLUMNS = {"meaning"}
"""Columns that are too wide for a Markdown page."""


def lines_of(table: Table) -> list[str]:
    columns, rows = compact(table)
    kept = [k for k, name in enumerate(columns) if name not in OMITTED_COLUMNS]
    lines = [*table_head(*(columns[k] for k in kept)), *(row(*(line[k] for k in kept)) for line in rows)]
    return ["", *lines, "", *(f"- {line}" for line in table.words)]


def facts(run: Run) -> str:
    correct = run.graded.correct
    decided = [label for label in correct if label is not None]
    options = run.record(RESAMPLE).options
    return (
        f"{len(correct)} questions, {len(decided)} answers decided, {sum(decided) / len(decided):.0%} of them correct; "
        f"{options.k} samples per question at temperature {options.temperature:g}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN")
    runs = [Run.open(path) for path in parser.parse_args().runs]
    lines = [
        "# Studies",
        "",
        f"{runs[0].record(ANSWER).facts.model}.  {machine()}  Each table is the output of one command.",
        "",
    ]
    for run in runs:
        lines += [f"## {run.task.name}", "", facts(run)]
        for study in STUDIES:
            table = run.read_table(study)
            lines += ["", f"### {table.title} (`probemap {study}`)", *lines_of(table)]
        lines.append("")
    transfer = runs[0].read_table("transfer")
    shutil.copy(runs[0].path / "transfer.png", RESULTS / "transfer.png")
    lines += [f"## {transfer.title} (`probemap transfer`)", "", "![transfer](transfer.png)", *lines_of(transfer)]
    write("studies", lines)


if __name__ == "__main__":
    main()
