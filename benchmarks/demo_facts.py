"""Compute the numbers of the demo: ``python benchmarks/demo_facts.py demo``; writes ``benchmarks/results/demo.md``.

The argument is the run directory of the demo.  The result file compares groups of positions, C = 1 with C values that
are selected in inner folds, and the map with the baselines; it contains the permutation null of the maximum, and checks
that the tokens of each exact answer decode to its text.
"""

import argparse

import numpy as np
from report import row, table_head, write

from probemap.maps.fit import fit_map
from probemap.maps.gain import with_baselines
from probemap.maps.probe_map import ProbeMap
from probemap.models.model import load_model
from probemap.probing.baselines import compute_baselines
from probemap.probing.cell_map import Cell
from probemap.runs.definitions import ANSWER
from probemap.runs.graded import GradedAnswers
from probemap.runs.run import Run
from probemap.tables import Interval

EXACT_ANSWER = ["exact_answer_first", "exact_answer_last", "exact_answer_after_last"]
LAST_TOKENS = [str(i) for i in range(-8, 0)]
COMPARED = (
    ("exact-answer positions", EXACT_ANSWER, "last tokens", LAST_TOKENS),
    ("exact-answer positions", EXACT_ANSWER, "last_q", ["last_q"]),
    ("exact_answer_before_first", ["exact_answer_before_first"], "exact_answer_last", ["exact_answer_last"]),
)
"""Groups of positions with their descriptions."""
BASELINE_POSITIONS = ["last_q", "exact_answer_last", "-1"]
PERMUTATIONS = 100


def describe_cell(cell: Cell) -> str:
    return f"layer {cell.layer}, {cell.position}: {Interval(cell.auc, cell.low, cell.high).text}, n = {cell.n}"


def describe_map(probe_map: ProbeMap) -> list[str]:
    nested, (best,) = probe_map.nested_best(), probe_map.best()
    assert nested is not None
    return [
        f"- mean of the map {np.nanmean(probe_map.auc.values):.3f}; highest cell {describe_cell(best)}",
        f"- nested-CV estimate of the best cell: {Interval(nested.auc, nested.low, nested.high).text}",
        f"- cells not distinguishable from the best: {int(probe_map.confidence_set().sum())}; above chance in the "
        f"simultaneous band: {int(probe_map.above_chance.sum())} of {probe_map.auc.size}",
    ]


def compare_columns(probe_map: ProbeMap) -> list[str]:
    lines = []
    for name, columns, reference_name, reference in COMPARED:
        gap = probe_map.compare_columns(columns, reference)
        text = Interval(gap.value, gap.low, gap.high).signed_text
        lines.append(f"- {name} minus {reference_name}, mean over layers: {text}")
    return lines


def compare_c_values(auto: ProbeMap, fixed: ProbeMap) -> list[str]:
    change, c = auto.difference(fixed), auto.data["c"].values
    return [
        f"- compared with C = 1: mean change {float(change.difference.mean()):+.4f}; better in "
        f"{int((change.low > 0).sum())} cells and worse in {int((change.high < 0).sum())} by their own intervals; "
        f"better in {int((change.band_low > 0).sum())} and worse in {int((change.band_high < 0).sum())} in the "
        "simultaneous band",
        "- selected C, median over folds: "
        + ", ".join(f"{value:g} in {int((c == value).sum())} cells" for value in np.unique(c)),
    ]


def baseline_table(probe_map: ProbeMap) -> list[str]:
    lines = table_head("baseline", *BASELINE_POSITIONS)
    for name in probe_map.data["baseline"].values:
        data = probe_map.data.sel(baseline=name, position=BASELINE_POSITIONS)
        estimates = zip(data.baseline_auc.values, data.baseline_low.values, data.baseline_high.values, strict=True)
        cells = ["missing for some answers" if np.isnan(auc) else Interval(auc, *ends).text for auc, *ends in estimates]
        lines.append(row(name, *cells))
    return lines


def gain_table(probe_map: ProbeMap) -> list[str]:
    lines = table_head("position", "best baseline", "highest gain", "layer", "layers with a gain above 0")
    for position in probe_map.positions:
        column = probe_map.data.sel(position=position)
        cell = column.isel(layer=int(np.nanargmax(column.gain.values)))
        gain = Interval(cell.gain.item(), cell.gain_low.item(), cell.gain_high.item())
        n_above = int((column.gain_low > 0).sum())
        lines.append(
            row(
                position,
                column.best_baseline.item(),
                gain.signed_text,
                cell.layer.item(),
                f"{n_above} of {len(probe_map.layers)}",
            )
        )
    return lines


def check_decoding(run: Run, graded: GradedAnswers) -> str:
    tokenizer = load_model(run.record(ANSWER).options.model).tokenizer
    located = [(answer, span) for answer, span in zip(graded.answers, graded.spans, strict=True) if span]
    n_equal = sum(
        span.text in tokenizer.decode(answer.token_ids[span.start : span.stop], clean_up_tokenization_spaces=False)
        for answer, span in located
    )
    return f"Exact answers whose tokens decode to their text: {n_equal} of {len(located)}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    run = Run.open(parser.parse_args().run)
    graded = run.graded
    states, ids, correct, groups = run.states_of(graded), graded.ids, graded.correct, graded.groups
    p_true = run.p_true(graded.answers)
    measured = compute_baselines(
        graded.task,
        graded.answers,
        graded.judgements,
        None if p_true is None else np.array(p_true),
        input_embeddings=states.input_embeddings(),
    )
    fixed = fit_map(states, correct, groups=groups, permutations=PERMUTATIONS, ids=ids)
    fixed = with_baselines(fixed, measured, ids)
    auto = fit_map(states, correct, groups=groups, c="auto", ids=ids)
    null = fixed.data["permutation_null"].values
    attrs = fixed.data.attrs
    lines = [
        "# The demo in numbers",
        "",
        f"{run.record(ANSWER).facts.model} on {graded.task.name}: {len(ids)} answers, {attrs['decided']} decided, "
        f"{attrs['right']} of them correct.  Intervals are 95 % confidence intervals of single values.",
        "",
        "## C = 1",
        "",
        *describe_map(fixed),
        *compare_columns(fixed),
        f"- permutation null of the maximum ({PERMUTATIONS} permutations): median {np.median(null):.3f}, 95 % quantile "
        f"{np.quantile(null, 0.95):.3f}, maximum {null.max():.3f}",
        "",
        '## c = "auto"',
        "",
        *describe_map(auto),
        *compare_c_values(auto, fixed),
        "",
        "## AUC of the baselines",
        "",
        *baseline_table(fixed),
        "",
        "## Gain of the map over the best baseline",
        "",
        *gain_table(fixed),
        "",
        check_decoding(run, graded),
    ]
    print("\n".join(lines))
    write("demo", lines)


if __name__ == "__main__":
    main()
