"""Compare a run in reduced precision with one in float32.

Usage: ``python benchmarks/reduced_precision.py FLOAT32_RUN REDUCED_RUN``

Both are run directories of the same questions and the same model.  Writes ``benchmarks/results/reduced_precision.md``.
"""

import argparse
from typing import Any

import numpy as np
from report import machine, row, table_head, write

from probemap.maps.probe_map import ProbeMap
from probemap.runs.definitions import ANSWER, CAPTURE, MAP, P_TRUE, Step
from probemap.runs.run import Run

STEPS: tuple[Step[Any, Any], ...] = (ANSWER, CAPTURE, P_TRUE, MAP)


def compare(run: Run, reduced: Run) -> list[str]:
    """Return the lines of the result file."""
    pairs = list(zip(run.answers, reduced.answers, strict=True))
    same_tokens = np.array([a.token_ids == b.token_ids for a, b in pairs])
    verdicts = [(a.correct, b.correct) for a, b in zip(run.verdicts, reduced.verdicts, strict=True)]
    maps = [each.read_current_map() for each in (run, reduced)]
    aucs = [probe_map.auc.values for probe_map in maps]
    change = aucs[1] - aucs[0]
    low, high = (maps[0].data[end].values for end in ("low", "high"))
    inside = (aucs[1] >= low) & (aucs[1] <= high)
    dtype = reduced.record(ANSWER).options.dtype
    seconds = {step.name: [float(each.record(step).seconds or 0) for each in (run, reduced)] for step in STEPS}
    return [
        f"# {dtype} instead of float32",
        "",
        f"{maps[0].data.attrs['model']}, {maps[0].data.attrs['task']}, {len(pairs)} questions.  One run each, one "
        "after the other on an idle machine.",
        "",
        machine(),
        "",
        *table_head("step", "float32, s", f"{dtype}, s", "ratio"),
        *(row(name, f"{a:.1f}", f"{b:.1f}", f"{b / a:.2f}") for name, (a, b) in seconds.items()),
        "",
        f"- {same_tokens.mean():.1%} of the answers consist of the same tokens.",
        f"- The verdict (correct, incorrect or undecided) is the same for "
        f"{np.mean([a == b for a, b in verdicts]):.1%} of the answers.",
        f"- AUC over {np.isfinite(change).sum()} cells, change from float32: mean {np.nanmean(change):+.3f}, mean of "
        f"the absolute values {np.nanmean(abs(change)):.3f}, largest {np.nanmax(abs(change)):.3f}.  "
        f"{inside.mean():.1%} of the cells are within the 95 % confidence interval of float32.",
        f"- Highest cell: {describe_highest(maps[0])} in float32, {describe_highest(maps[1])} in {dtype}.",
    ]


def describe_highest(probe_map: ProbeMap) -> str:
    (best,) = probe_map.best()
    return f"layer {best.layer}, {best.position}, AUC {best.auc:.3f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("float32_run")
    parser.add_argument("reduced_run")
    options = parser.parse_args()
    write("reduced_precision", compare(Run.open(options.float32_run), Run.open(options.reduced_run)))
