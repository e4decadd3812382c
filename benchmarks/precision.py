"""Compare a run in reduced precision with one in float32: ``python benchmarks/precision.py RUN REDUCED``.

Both are run directories of the same questions and the same model.  Writes ``benchmarks/results/precision.md``.
"""

import argparse
import json

import numpy as np
from report import machine, row, table_head, write

from probemap.runs.run import Run


def seconds(run: Run) -> dict[str, float]:
    """Return the seconds that each step of a run took."""
    steps = json.loads((run.path / "run.json").read_text(encoding="utf-8"))["steps"]
    return {name: float(step["seconds"]) for name, step in steps.items()}


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
    first, second = seconds(run), seconds(reduced)
    dtype = json.loads((reduced.path / "run.json").read_text(encoding="utf-8"))["steps"]["answer"]["options"]["dtype"]
    return [
        f"# {dtype} instead of float32",
        "",
        f"{maps[0].data.attrs['model']}, {maps[0].data.attrs['task']}, {len(pairs)} questions.  One run each, one "
        "after the other on an idle machine.",
        "",
        machine(),
        "",
        *table_head("step", "float32, s", f"{dtype}, s", "ratio"),
        *(
            row(name, f"{first[name]:.1f}", f"{second[name]:.1f}", f"{second[name] / first[name]:.2f}")
            for name in first
            if name in second
        ),
        "",
        f"- {same_tokens.mean():.1%} of the answers consist of the same tokens.",
        f"- The verdict (correct, incorrect or undecided) is the same for "
        f"{np.mean([a == b for a, b in verdicts]):.1%} of the answers.",
        f"- AUC over {np.isfinite(change).sum()} cells, change from float32: mean {np.nanmean(change):+.3f}, mean of "
        f"the absolute values {np.nanmean(abs(change)):.3f}, largest {np.nanmax(abs(change)):.3f}.  "
        f"{inside.mean():.1%} of the cells are within the 95 % confidence interval of float32.",
        f"- Highest cell: {describe_highest(run)} in float32, {describe_highest(reduced)} in {dtype}.",
    ]


def describe_highest(run: Run) -> str:
    auc = run.read_current_map().auc
    layer, column = np.unravel_index(int(np.nanargmax(auc.values)), auc.shape)
    return f"layer {int(auc.layer[layer])}, {auc.position.values[column]}, AUC {float(auc.values[layer, column]):.3f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("reduced")
    options = parser.parse_args()
    write("precision", compare(Run.open(options.run), Run.open(options.reduced)))
