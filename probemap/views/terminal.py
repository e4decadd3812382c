"""Format maps and tables as text for the terminal, in colour if the terminal supports it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.style import Style
from rich.table import Table as RichTable
from rich.text import Text

from probemap.tables import Interval, Table, compact
from probemap.tasks.leaks import LeakCheck
from probemap.views.printable import printable
from probemap.views.verdicts import undecided_reasons, without_exact_answer

if TYPE_CHECKING:
    from probemap.probing.cell_map import CellMap
    from probemap.records import Judgement
    from probemap.views.words import Description

# Eleven equally spaced colours of matplotlib's colour map Blues, so that the table looks like the heatmap.
_BLUES = ("#f7fbff #e3eef9 #cfe1f2 #b5d4e9 #93c4de #6baed6 #4a98c9 #2e7ebc #1664ab #084a92 #08306b").split()
_N_BEST = 5
"""How many of the best cells, and how many of the best baselines, to list."""


def print_to(console: Console, content: RenderableType) -> None:
    """Print content without wrapping or cropping it, and without interpreting markup in the text."""
    console.print(content, soft_wrap=True, markup=False, highlight=False)


def shade(value: float) -> Style:
    """Return the colours of a cell with the given AUC, which is clipped to the range from 0.5 to 1."""
    step = round((min(max(value, 0.5), 1.0) - 0.5) * 20)
    return Style(bgcolor=_BLUES[step], color="#000000" if step < 6 else "#ffffff")


def map_summary(probe_map: CellMap, judgements: Sequence[Judgement]) -> Text:
    """Return a complete summary of a map: answer counts, excluded answers, all cells, the best cells, and baselines.

    Parameters
    ----------
    probe_map : CellMap
    judgements : sequence of Judgement
        Judgements on all of the run's answers, including those that are not in the map.
    """
    sections = [_counts(probe_map, judgements), map_text(probe_map), _best(probe_map)]
    if "gain" in probe_map.data:
        sections.append(_baselines(probe_map))
    if "auc_within" in probe_map.data:
        sections.append(_within(probe_map))
    return Text("\n\n").join(sections)


def map_text(probe_map: CellMap) -> Text:
    """Return the AUCs as a coloured table with one row per layer and one column per position.  Cells with too few
    answers are shown as ``·``."""
    heads = [name.split("_") if not name.startswith("-") else [name] for name in probe_map.positions]
    n_lines = max(map(len, heads))
    counts = [str(int(n)) for n in probe_map.data["n"].values]
    widths = [max(3, len(n), *map(len, head)) + 1 for head, n in zip(heads, counts, strict=True)]
    text = Text(no_wrap=True, overflow="ignore")
    for line in range(n_lines):
        words = [head[line - n_lines + len(head)] if line >= n_lines - len(head) else "" for head in heads]
        label = "layer" if line == n_lines - 1 else ""
        text.append(f"{label:<6}" + "".join(f"{word:>{w}}" for word, w in zip(words, widths, strict=True)) + "\n")
    for layer, row in zip(probe_map.layers, probe_map.auc.values, strict=True):
        text.append(f"{layer:<6}")
        _append_cells(text, row, widths)
        text.append("\n")
    return text.append(f"{'n':<6}" + "".join(f"{n:>{w}}" for n, w in zip(counts, widths, strict=True)))


def description_text(description: Description) -> Text:
    """Return a summary as text: a table with one row per position, followed by the observations."""
    name_width = max(len(name) for name, _, _ in description.rows)
    n_width = max(len(str(n)) for _, n, _ in description.rows)
    text = Text(no_wrap=True, overflow="ignore")
    text.append(
        f"{'layer':<{name_width}} {'n':>{n_width}} " + "".join(f"{layer:>4}" for layer in description.layers) + "\n"
    )
    for name, n, values in description.rows:
        text.append(f"{printable(name):<{name_width}} {n:>{n_width}} ")
        _append_cells(text, values, [4] * len(values))
        text.append("\n")
    for observation in description.observations:
        text.append(f"\n- {printable(observation.text)}")
    return text


def table_text(table: Table) -> RenderableType:
    """Return the table of a study as text, without its summary and without its details."""
    columns, rows = compact(table, details=False)
    numeric = {
        name for name, *values in zip(columns, *rows, strict=True) if all(v[:1] in "0123456789+-–" for v in values)
    }
    drawn = RichTable(title=table.title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for name in columns:
        drawn.add_column(printable(name), justify="right" if name in numeric else "left")
    for row in rows:
        drawn.add_row(*(Text(printable(value)) for value in row))
    return Group(drawn, "")


def _append_cells(text: Text, values: Sequence[float], widths: Sequence[int]) -> None:
    """Append one row of AUCs, each with the background colour of its value."""
    for value, width in zip(values, widths, strict=True):
        is_known = value == value  # not NaN
        formatted = f"{value:.2f}".removeprefix("0") if is_known else "·"
        text.append(f"{formatted:>{width}}", style=shade(value) if is_known else "dim")


def _counts(probe_map: CellMap, judgements: Sequence[Judgement]) -> Text:
    """Return the model, the task, the answer counts, and the number of excluded answers by reason."""
    attrs = probe_map.data.attrs
    decided, correct = int(attrs["decided"]), int(attrs["right"])
    text = Text()
    text.append(
        f"{printable(str(attrs.get('model', 'states')))} on {printable(str(attrs.get('task', 'answers')))}", "bold"
    )
    if label := attrs.get("protocol"):
        text.append(f"\n{printable(str(label))}", "bold")
    text.append(
        f"\n{attrs['answers']} answers: {correct} correct, {decided - correct} incorrect "
        f"({100 * correct / decided:.1f} % of the decided answers are correct)"
    )
    text.append(f"\nundecided and excluded: {_total(undecided_reasons(judgements))}")
    text.append(f"\nwithout an exact answer: {_total(without_exact_answer(judgements))}")
    if attrs["held_out"]:
        text.append(f"\nevaluated on {attrs['held_out']} held-out answers")
    if "group_by" in attrs:
        text.append(f"\nfolds grouped by {printable(str(attrs['group_by']))}: {attrs['groups']} groups")
    if leaks := LeakCheck.from_attrs(attrs):
        if leaks.is_leak:
            text.append(f"\n{leaks.warning}", "bold")
        else:
            text.append(f"\naccepted answer in the question or context: {leaks.counts}")
    return text


def _best(probe_map: CellMap) -> Text:
    """Return the cells with the highest AUCs, the nested-CV estimate, and the results of tests over the whole map."""
    data = probe_map.data
    text = Text("cells with the highest AUC (AUC, 95 % CI, n):")
    for cell in probe_map.best(_N_BEST):
        text.append(
            f"\n  layer {cell.layer:<3} {cell.position:<26} {cell.auc:.3f} "
            f"[{cell.low:.3f}, {cell.high:.3f}]  n = {cell.n}"
        )
    text.append(
        "\nThe highest of many AUCs is biased upwards, because it is selected and evaluated on the same answers.", "dim"
    )
    if nested := probe_map.nested_best():
        counts = Counter(f"layer {layer}, {printable(position)}" for layer, position in nested.selected)
        selected = "; ".join(f"{cell} ({count}×)" for cell, count in counts.most_common())
        text.append(
            f"\nbest cell, nested CV: {nested.auc:.3f} [{nested.low:.3f}, {nested.high:.3f}]"
            f"\n  cells selected in the outer folds: {selected}"
        )
    n_cells = int(probe_map.auc.notnull().sum())
    n_candidates = int(probe_map.confidence_set().sum())
    text.append(f"\nnot distinguishable from the best cell: {n_candidates} of {n_cells} cells")
    n_above = int(probe_map.above_chance.sum())
    text.append(
        f"\nbetter than chance (simultaneous 95 % band): {n_above} of {n_cells} cells"
        if n_above
        else "\nNo cell is better than chance (simultaneous 95 % band)."
    )
    if "permutation_null" in data:
        null, highest = data["permutation_null"].values, probe_map.best()[0].auc
        text.append(
            f"\nhighest AUC with permuted labels ({len(null)} permutations): median {np.median(null):.3f}, "
            f"95th percentile {np.quantile(null, 0.95):.3f}; {int((null >= highest).sum())} of {len(null)} reach "
            f"{highest:.3f}"
        )
    small = data.sel(position=probe_map.auc.isnull().all("layer").values)
    columns = [
        f"{printable(str(name))} ({correct} correct, {n - correct} incorrect)"
        for name, n, correct in zip(small["position"].values, small["n"].values, small["n_right"].values, strict=True)
    ]
    if columns:
        text.append(f"\ntoo few answers: {', '.join(columns)}")
    if n_not_converged := int((~data["converged"]).sum()):
        text.append(f"\nprobes that did not converge: {n_not_converged} of {n_cells} cells")
    return text


def _baselines(probe_map: CellMap) -> Text:
    """Return the best baselines in the column of the best cell, the gain of this cell, and the number of cells with a
    significant gain."""
    data, best = probe_map.data, probe_map.best()[0]
    column = data.sel(position=best.position)
    auc = column["baseline_auc"].values
    order = [i for i in np.argsort(-auc) if not np.isnan(auc[i])]
    text = Text(f"baselines without hidden states, on the answers that have {best.position} (AUC, 95 % CI):")
    for i in order[:_N_BEST]:
        baseline = column.isel(baseline=i)
        text.append(
            f"\n  {baseline['baseline'].values!s:<26} {float(baseline['baseline_auc']):.3f} "
            f"[{float(baseline['baseline_low']):.3f}, {float(baseline['baseline_high']):.3f}]"
        )
    gain = column.sel(layer=best.layer)
    text.append(
        f"\ngain of the best cell over the best baseline: {float(gain['gain']):+.3f} "
        f"[{float(gain['gain_low']):+.3f}, {float(gain['gain_high']):+.3f}]"
    )
    if "adds" in gain and bool(gain["adds"].notnull()):
        # Its interval would be too narrow, because the cell was selected from the whole map.
        adds = Interval(*(float(gain[name]) for name in ("adds", "adds_band_low", "adds_band_high")))
        text.append(
            f"\nAUC that the best cell adds to {printable(str(gain['reference'].values))} "
            f"(AUC {float(gain['reference_auc']):.3f}): {adds.signed_text} (simultaneous 95 % band)"
        )
    n_above = int((data["gain_low"] > 0).sum())
    return text.append(
        f"\ncells with a gain over the best baseline of their column (95 % CI of each cell above 0): {n_above}"
    )


def _within(probe_map: CellMap) -> Text:
    """Return the AUC of the best cell within strata of each covariate."""
    data, (best,) = probe_map.data, probe_map.best()
    text = Text("AUC of the best cell, comparing only answers in the same stratum of a covariate (AUC, 95 % CI):")
    for covariate in data["covariate"].values:
        cell = data.sel(covariate=covariate, layer=best.layer, position=best.position)
        value, low, high = (float(cell[f"auc_within{end}"]) for end in ("", "_low", "_high"))
        numbers = f"{value:.3f} [{low:.3f}, {high:.3f}]" if value == value else "too few answers can be compared"
        n_strata = int(cell["n_strata"])
        text.append(
            f"\n  {printable(str(covariate)):<26} {numbers}  {n_strata} {'stratum' if n_strata == 1 else 'strata'}"
        )
    return text.append(f"\n  {'without strata':<26} {best.auc:.3f} [{best.low:.3f}, {best.high:.3f}]")


def _total(reasons: Mapping[str, int]) -> str:
    n = sum(reasons.values())
    listed = "; ".join(f"{count} {printable(name)}" for name, count in reasons.items())
    return f"{n} ({listed})" if n else "none"
