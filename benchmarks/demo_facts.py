"""What the demo shows, in numbers: ``python benchmarks/demo_facts.py demo``; writes ``benchmarks/results/demo.md``.

Columns against each other, with intervals; one strength against strengths chosen inside; baselines and gain; the floor
under shuffled labels; whether the exact answers' tokens decode to them.
"""

import sys
from pathlib import Path

import numpy as np
from probemap.runs.integrity import read_answers, read_p_true

from probemap.activations.store import ActivationStore
from probemap.maps.fit import fit_map
from probemap.maps.gain import with_baselines
from probemap.maps.probe_map import Cell, ProbeMap
from probemap.mentions import fold
from probemap.models.model import load_model
from probemap.probing.baselines import baselines
from probemap.runs.run import Run

EXACT = ["exact_answer_first", "exact_answer_last", "exact_answer_after_last"]
TRAILING = [str(i) for i in range(-8, 0)]
PERMUTATIONS = 100


def span(low: float, high: float) -> str:
    return f"[{low:.3f}, {high:.3f}]"


def cell(it: Cell) -> str:
    return f"layer {it.layer}, {it.position}: {it.auc:.3f} {span(it.low, it.high)}, n = {it.n}"


def best(made: ProbeMap) -> list[str]:
    honest = made.nested_best()
    assert honest is not None
    return [
        f"- mean of the map {np.nanmean(made.auc.values):.3f}; highest cell {cell(made.best()[0])}",
        f"- best cell chosen on some answers and judged on others: {honest.auc:.3f} {span(honest.low, honest.high)}",
        f"- cells not distinguishable from the best: {int(made.confidence_set().sum())}; better than chance, all "
        f"considered at once: {int(made.above_chance.sum())} of {made.auc.size}",
    ]


def columns(made: ProbeMap) -> list[str]:
    lines = []
    for names, one, others, other in (
        ("exact-answer columns", EXACT, "trailing ones", TRAILING),
        ("exact-answer columns", EXACT, "last_q", ["last_q"]),
        ("exact_answer_before_first", ["exact_answer_before_first"], "exact_answer_last", ["exact_answer_last"]),
    ):
        gap = made.compare_columns(one, other)
        lines.append(f"- {names} minus {others}, mean over layers: {gap.value:+.3f} {span(gap.low, gap.high)}")
    return lines


def baseline_table(made: ProbeMap) -> list[str]:
    shown = ["last_q", "exact_answer_last", "-1"]
    lines = ["", "| baseline | " + " | ".join(shown) + " |", "| --- |" + " --- |" * len(shown)]
    for name in made.data["baseline"].values:
        row = made.data.sel(baseline=name, position=shown)
        cells = [
            "no value on some answers" if np.isnan(v) else f"{v:.3f} {span(low, high)}"
            for v, low, high in zip(
                row.baseline_auc.values, row.baseline_low.values, row.baseline_high.values, strict=True
            )
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def gains(made: ProbeMap) -> list[str]:
    lines = [
        "| column | best baseline | highest gain | at layer | layers with a gain above 0 |",
        "| --- |" * 1 + " --- |" * 4,
    ]
    for position in made.positions:
        column = made.data.sel(position=position)
        top = int(np.nanargmax(column.gain.values))
        at = column.isel(layer=top)
        lines.append(
            f"| {position} | {column.best_baseline.item()} | {at.gain.item():+.3f} "
            f"{span(at.gain_low.item(), at.gain_high.item())} | {at.layer.item()} | "
            f"{int((column.gain_low > 0).sum())} of {len(made.layers)} |"
        )
    return [*lines, ""]


def main(folder: str) -> None:
    run = Run.open(folder)
    task, answers, judgements = read_answers(run)
    verdicts, ids = [j.verdict.correct for j in judgements], [a.id for a in answers]
    store = ActivationStore.open(run.path / "activations")
    groups = [" ".join(fold(e.question + e.context)[0].split()) for e in task.examples]
    p_true = read_p_true(run, answers)
    known = baselines(task, answers, judgements, None if p_true is None else np.array(p_true))

    one = fit_map(store, verdicts, groups=groups, permutations=PERMUTATIONS, ids=ids)
    one = with_baselines(one, known, ids)
    auto = fit_map(store, verdicts, groups=groups, c="auto", ids=ids)
    change = auto.difference(one)
    floor = one.data["permutation_null"].values
    lines = [
        "# The demo in numbers",
        "",
        f"{run.step('answer')['facts']['model']} on {task.name}: {len(answers)} answers, "
        f"{one.data.attrs['decided']} decided, {one.data.attrs['right']} of them right.  Intervals are 95 %, each "
        "taken alone.",
        "",
        "## C = 1",
        "",
        *best(one),
        *columns(one),
        f"- {PERMUTATIONS} times shuffled: highest cell of the map, median {np.median(floor):.3f}, 95 % below "
        f"{np.quantile(floor, 0.95):.3f}, highest {floor.max():.3f}",
        "",
        '## c = "auto"',
        "",
        *best(auto),
        f"- against C = 1: mean change {float(change.difference.mean()):+.4f}; better in "
        f"{int((change.low > 0).sum())} cells, worse in {int((change.high < 0).sum())}, each taken alone; all "
        f"considered at once better in {int((change.band_low > 0).sum())}, worse in "
        f"{int((change.band_high < 0).sum())}",
        "- strengths chosen, median over folds: "
        + ", ".join(f"{c:g} in {int((auto.data.c == c).sum())}" for c in np.unique(auto.data.c.values)),
        "",
        "## What needs no hidden states",
        *baseline_table(one),
        "## What the map adds to it",
        "",
        *gains(one),
    ]
    tokenizer = load_model(run.step("answer")["options"]["model"]).tokenizer
    located = [(a, j.span) for a, j in zip(answers, judgements, strict=True) if j.span]
    whole = sum(
        s.text in tokenizer.decode(a.token_ids[s.start : s.stop], clean_up_tokenization_spaces=False)
        for a, s in located
    )
    lines += [f"Exact answers whose tokens decode to them: {whole} of {len(located)}."]
    text = "\n".join(lines) + "\n"
    print(text)
    Path(__file__).parent.joinpath("results", "demo.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
