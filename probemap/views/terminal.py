"""The map and an answer as text for a terminal: coloured where there is colour, readable where there is none."""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.style import Style
from rich.table import Table as Grid
from rich.text import Text

from probemap.positions import DEFAULT_POSITIONS, positions_by_token
from probemap.probing.cell_map import CellMap
from probemap.records import Answer, Example, Judgement
from probemap.tables import Table, compact
from probemap.views.printable import printable
from probemap.views.words import Description

# matplotlib's Blues at eleven even steps, so that the terminal looks like the picture.
_BLUES = ("#f7fbff #e3eef9 #cfe1f2 #b5d4e9 #93c4de #6baed6 #4a98c9 #2e7ebc #1664ab #084a92 #08306b").split()


def map_text(probe_map: CellMap) -> Text:
    """Layers × positions as numbers on coloured cells; `·` where there are too few answers to say."""
    heads = [name.split("_") if not name.startswith("-") else [name] for name in probe_map.positions]
    deepest = max(map(len, heads))
    counts = [str(int(n)) for n in probe_map.data["n"].values]
    widths = [max(3, len(n), *map(len, head)) + 1 for head, n in zip(heads, counts, strict=True)]
    text = Text(no_wrap=True, overflow="ignore")
    for line in range(deepest):
        cells = [head[line - deepest + len(head)] if line >= deepest - len(head) else "" for head in heads]
        label = "layer" if line == deepest - 1 else ""
        text.append(f"{label:<6}" + "".join(f"{c:>{w}}" for c, w in zip(cells, widths, strict=True)) + "\n")
    for layer, row in zip(probe_map.layers, probe_map.auc.values, strict=True):
        text.append(f"{layer:<6}")
        _cells(text, row, widths)
        text.append("\n")
    text.append(f"{'n':<6}" + "".join(f"{c:>{w}}" for c, w in zip(counts, widths, strict=True)))
    return text


def description_text(made: Description) -> Text:
    """The table, a position per row, and the observations below it."""
    wide = max(len(name) for name, _, _ in made.rows)
    count = max(len(str(n)) for _, n, _ in made.rows)
    text = Text(no_wrap=True, overflow="ignore")
    text.append(f"{'layer':<{wide}} {'n':>{count}} " + "".join(f"{layer:>4}" for layer in made.layers) + "\n")
    for name, n, values in made.rows:
        text.append(f"{printable(name):<{wide}} {n:>{count}} ")
        _cells(text, values, [4] * len(values))
        text.append("\n")
    for observation in made.observations:
        text.append(f"\n- {printable(observation.text)}")
    return text


def table_text(table: Table) -> RenderableType:
    """A study's table, without its words."""
    columns, rows = compact(table)
    numbers = {
        name for name, *values in zip(columns, *rows, strict=True) if all(v[:1] in "0123456789+-–" for v in values)
    }
    drawn = Grid(title=table.title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for name in columns:
        drawn.add_column(printable(name), justify="right" if name in numbers else "left")
    for row in rows:
        drawn.add_row(*(Text(printable(value)) for value in row))
    return Group(drawn, "")


def scored(tokens: Sequence[str], chances: Sequence[float], p_correct: float | None, flagged: bool) -> Text:
    """An answer whose tokens are the darker the more its probe trusts them, and the probability below it.

    Parameters
    ----------
    chances: for each token but the last, which stays as it is.
    """
    text = Text()
    for token, chance in zip(tokens[:-1], chances, strict=True):
        text.append(printable(token), style=_shade(0.5 + chance / 2))
    text.append(printable("".join(tokens[-1:])))
    if p_correct is None:
        return text.append("\n\nno token at the detector's positions: nothing can be said")
    text.append(f"\n\nright with probability {p_correct:.2f}", "bold")
    return text.append(", flagged" if flagged else "")


def _cells(text: Text, values: Sequence[float], widths: Sequence[int]) -> None:
    """One AUC after the other, on its colour."""
    for value, width in zip(values, widths, strict=True):
        known = value == value
        shown = f"{value:.2f}".removeprefix("0") if known else "·"
        text.append(f"{shown:>{width}}", style=_shade(value) if known else "dim")


def _shade(value: float) -> Style:
    step = round((min(max(value, 0.5), 1.0) - 0.5) * 20)
    return Style(bgcolor=_BLUES[step], color="#000000" if step < 6 else "#ffffff")


def show(probe_map: CellMap, judgements: Sequence[Judgement]) -> RenderableType:
    """All that a reader of the map needs: cells, what is sure about them, baselines, counts, and what was left out."""
    attrs = probe_map.data.attrs
    decided, right = int(attrs["decided"]), int(attrs["right"])
    facts = Text()
    facts.append(
        f"{printable(str(attrs.get('model', 'states')))} on {printable(str(attrs.get('task', 'answers')))}",
        "bold",
    )
    if label := attrs.get("protocol"):
        facts.append(f"\n{printable(str(label))}", "bold")
    facts.append(
        f"\n{attrs['answers']} answers: {right} right, {decided - right} wrong "
        f"({100 * right / decided:.1f} % of the decided ones are right)"
    )
    undecided = Counter(j.verdict.reason for j in judgements if j.verdict.correct is None)
    facts.append(f"\nundecided, left out: {_counts(undecided)}")
    unplaced = Counter(j.no_span for j in judgements if j.span is None)
    facts.append(f"\nwithout an exact answer: {_counts(unplaced)}")
    if attrs["held_out"]:
        facts.append(f"\njudged on {attrs['held_out']} answers that were held out")
    parts: list[RenderableType] = [facts, Text(), map_text(probe_map), Text(), _highest(probe_map)]
    if "gain" in probe_map.data:
        parts += [Text(), _baselines(probe_map)]
    return Group(*parts)


def _highest(probe_map: CellMap) -> Text:
    """The highest cells, and what can be said of them and of the map."""
    text = Text("highest cells (AUC, 95 % interval, n):")
    for cell in probe_map.best(5):
        text.append(
            f"\n  layer {cell.layer:<3} {cell.position:<26} {cell.auc:.3f} "
            f"[{cell.low:.3f}, {cell.high:.3f}]  n = {cell.n}"
        )
    text.append(
        "\nThe highest of many cells is an optimum: chosen and measured on the same answers, it is too high.", "dim"
    )
    if honest := probe_map.nested_best():
        places = Counter(f"layer {layer}, {position}" for layer, position in honest.selected)
        text.append(
            f"\nbest cell, chosen on some answers and judged on others: {honest.auc:.3f} "
            f"[{honest.low:.3f}, {honest.high:.3f}]\n  chosen: {_counted(places)}"
        )
    known = int(probe_map.auc.notnull().sum())
    same = int(probe_map.confidence_set().sum())
    text.append(f"\nnot distinguishable from the best cell: {same} of {known} cells")
    above = int(probe_map.above_chance.sum())
    text.append(
        f"\nbetter than chance, all cells considered at once: {above} of {known} cells"
        if above
        else "\nNo cell is better than chance, all cells considered at once: there is nothing to see."
    )
    if "permutation_null" in probe_map.data:
        floor = probe_map.data["permutation_null"].values
        highest = probe_map.best()[0].auc
        beyond = int((floor >= highest).sum())
        text.append(
            f"\nhighest cell of the map with shuffled labels, {len(floor)} times: median {np.median(floor):.3f}, "
            f"95 % below {np.quantile(floor, 0.95):.3f}; {beyond} of {len(floor)} reach {highest:.3f}"
        )
    few = probe_map.data.sel(position=probe_map.auc.isnull().all("layer").values)
    columns = zip(few["position"].values, few["n"].values, few["n_right"].values, strict=True)
    if told := [f"{printable(str(name))} ({right} right, {n - right} wrong)" for name, n, right in columns]:
        text.append(f"\ntoo few answers to say: {', '.join(told)}")
    if loose := int((~probe_map.data["converged"]).sum()):
        text.append(f"\nprobes that did not converge: in {loose} of {known} cells")
    return text


_SHOWN_BASELINES = 5


def _baselines(probe_map: CellMap) -> Text:
    """The best baselines of the column of the highest cell, and the gain over the best of each column."""
    data, best = probe_map.data, probe_map.best()[0]
    column = data.sel(position=best.position)
    order = [i for i in np.argsort(-column["baseline_auc"].values) if not np.isnan(column["baseline_auc"].values[i])]
    text = Text(f"what needs no hidden states, on the answers of {best.position} (AUC, 95 % interval):")
    for i in order[:_SHOWN_BASELINES]:
        row = column.isel(baseline=i)
        text.append(
            f"\n  {row['baseline'].values!s:<26} {float(row['baseline_auc']):.3f} "
            f"[{float(row['baseline_low']):.3f}, {float(row['baseline_high']):.3f}]"
        )
    gain = column.sel(layer=best.layer)
    text.append(
        f"\ngain of the highest cell over the best of them: {float(gain['gain']):+.3f} "
        f"[{float(gain['gain_low']):+.3f}, {float(gain['gain_high']):+.3f}]"
    )
    above = int((data["gain_low"] > 0).sum())
    text.append(f"\ncells whose gain over the best baseline of their column is above 0: {above}, each taken alone")
    return text


def _counts(reasons: Counter[str]) -> str:
    total = sum(reasons.values())
    return f"{total} ({_counted(reasons)})" if total else "none"


def _counted(things: Counter[str]) -> str:
    return "; ".join(f"{count} {printable(thing)}" for thing, count in things.most_common())


def inspect(
    example: Example,
    answer: Answer,
    judgement: Judgement,
    *,
    positions: Sequence[str] = DEFAULT_POSITIONS,
    width: int = 100,
    prompt_tokens: int = 4,
) -> RenderableType:
    """One answer token by token, with the names of the positions under the tokens that they mean.

    Parameters
    ----------
    width: of the terminal, in characters.
    prompt_tokens: how many of the prompt's last tokens to show before the answer.
    """
    verdict = judgement.verdict
    word = {True: "right", False: "wrong", None: "undecided"}[verdict.correct]
    head = Text()
    head.append(f"{printable(answer.id)}\n", "bold")
    head.append(f"question      {printable(example.question)}\n")
    head.append(f"accepted      {printable(', '.join(example.answers))}\n")
    head.append(f"answer        {printable(answer.text)}\n")
    head.append(f"verdict       {word}: {printable(verdict.reason)}\n")
    span = judgement.span
    place = (
        f"{printable(span.text)}  (tokens {span.start} to {span.stop - 1})"
        if span
        else f"none: {printable(judgement.no_span)}"
    )
    head.append(f"exact answer  {place}\n")
    head.append(
        f"tokens        {len(answer.token_ids)}, the first {answer.n_prompt} of them the prompt; "
        f"{'ended by the model' if answer.stopped else 'cut off at the token limit'}\n"
    )
    return Group(head, *_token_rows(answer, judgement, positions, width, prompt_tokens))


def _token_rows(
    answer: Answer, judgement: Judgement, positions: Sequence[str], width: int, prompt_tokens: int
) -> Iterator[Text]:
    named = positions_by_token(positions, answer, judgement.span)
    shown = range(max(0, answer.n_prompt - prompt_tokens), len(answer.token_ids))
    cells = [_token_cell(answer, judgement, i, named.get(i, [])) for i in shown]
    row: list[list[tuple[str, str]]] = []
    used = 0
    for cell in cells:
        wide = max(cell_len(line) for line, _ in cell) + 1
        if row and used + wide > width:
            yield _join(row)
            row, used = [], 0
        row.append(cell)
        used += wide
    if row:
        yield _join(row)


def _token_cell(answer: Answer, judgement: Judgement, index: int, names: list[str]) -> list[tuple[str, str]]:
    """Lines of one token: its text, its index, the names under it."""
    start, stop = answer.offsets[index]
    text = (answer.prompt if index < answer.n_prompt else answer.text)[start:stop]
    piece = printable(text).replace(" ", "␣") if text else "∅"
    span = judgement.span
    exact = span is not None and span.start <= index < span.stop
    style = "bold reverse" if exact else "dim" if index < answer.n_prompt else "bold"
    return [(piece, style), (str(index), "dim"), *((name, "cyan") for name in names)]


def _join(row: list[list[tuple[str, str]]]) -> Text:
    text = Text(no_wrap=True, overflow="ignore")
    for line in range(max(map(len, row))):
        for cell in row:
            wide = max(cell_len(content) for content, _ in cell) + 1
            content, style = cell[line] if line < len(cell) else ("", "")
            text.append(content, style)
            text.append(" " * (wide - cell_len(content)))
        text.append("\n")
    return text


def print_to(console: Console, what: RenderableType) -> None:
    """Print without wrapping, cropping or reading markup into the user's text."""
    console.print(what, soft_wrap=True, markup=False, highlight=False)
