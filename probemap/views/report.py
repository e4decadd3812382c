"""One page that opens anywhere: maps that can be asked.

Everything is computed here; the page's scripts only show it.  Texts travel as JSON and become text nodes, never markup;
the page's content-security policy allows its own scripts, by their hashes, and no request.
"""

import base64
import hashlib
import json
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt

from probemap.probing.cell_map import CellMap
from probemap.probing.metrics import VALUES, Measured, measure, subtract
from probemap.records import Answer, Example, Judgement, MapError
from probemap.tables import PairMatrix, Table, compact
from probemap.views.diagnostics import FALSE_ALARMS, HEAPS, portraits, probabilities
from probemap.views.printable import printable
from probemap.views.words import describe

MOST_ANSWERS = 1000
"""That a page lists of one run."""
MOST_SCORES = 1_000_000
"""Answers × cells that a page holds of one run: 2 MB."""
MOST_CHARACTERS = 4000
"""Of one text; what is left out of its middle is counted."""

MOST_ACCEPTED = 20
"""Accepted answers that are written out."""

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'"
"""Plotly writes styles, and turns a picture into PNG by way of an image."""

_MISSING = 65535
"""For a probability; others are multiples of 1 / 65534."""


@dataclass(frozen=True)
class Leaf:
    """One answer as the page shows it."""

    example: Example
    answer: Answer
    judgement: Judgement
    tokens: npt.NDArray[Any]
    """(n_positions,): the index into `answer.token_ids` of each of the map's positions, -1 where it is missing."""


@dataclass(frozen=True)
class Study:
    """The result of a study, as the page shows it."""

    table: Table
    matrix: PairMatrix | None = None
    """The values of a generalisation table, shown as a matrix above the table."""


@dataclass(frozen=True)
class Sheet:
    """What a report shows of one run."""

    probe_map: CellMap
    title: str = "map"
    leaves: Sequence[Leaf] = ()
    """Of the map's answers, in its order; empty: the page lists none."""
    made_by: dict[str, str] = field(default_factory=dict)
    """What made it, as shown: model, revision, seed, versions."""
    dropped: dict[str, int] = field(default_factory=dict)
    """Why answers are not in the map, or in some columns only -> how many."""
    studies: Sequence[Study] = ()
    """What else the run was asked."""
    note: str = ""
    """What a reader must know first, e.g. that verdicts have changed since."""


def render(sheets: Sequence[Sheet]) -> str:
    """A self-contained HTML page.

    Raises
    ------
    MapError: no sheet.
    """
    if not sheets:
        raise MapError("a report of nothing was asked for", "give at least one run")
    from jinja2 import Environment, PackageLoader, StrictUndefined

    scripts = [_asset(f"{name}.js") for name in ("plotly-cartesian.min", "charts", "answers", "studies", "page")]
    environment = Environment(
        loader=PackageLoader("probemap.views", "page"), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template("page.html").render(
        title=" and ".join(_visible(sheet.title) for sheet in sheets),
        style=_asset("page.css"),
        scripts=scripts,
        policy=f"{_POLICY}; script-src {' '.join(_hash(script) for script in scripts)}",
        content=_embedded(_content(sheets)),
        version=version("probemap"),
    )


def _asset(name: str) -> str:
    return (files("probemap.views") / "page" / name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _embedded(content: Any) -> str:
    """JSON that ends no script element, whatever it holds."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))  # non-ASCII characters are escaped
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _content(sheets: Sequence[Sheet]) -> dict[str, Any]:
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    def colours(name: str) -> list[str]:
        return [to_hex(colormaps[name](x)) for x in np.linspace(0, 1, 33)]

    return {
        "runs": [_run(sheet) for sheet in sheets],
        "differences": [
            {"one": i, "other": j, **_grid(subtract(one.probe_map, other.probe_map))}
            for i, one in enumerate(sheets)
            for j, other in enumerate(sheets)
            if i < j and _comparable(one.probe_map, other.probe_map)
        ],
        "falseAlarms": _rounded(FALSE_ALARMS),
        "heaps": _rounded(HEAPS),
        "scales": {"plain": colours("Blues"), "signed": colours("PuOr")},
        "missing": _MISSING,
    }


def _comparable(one: CellMap, other: CellMap) -> bool:
    return bool(set(one.layers) & set(other.layers) and set(one.positions) & set(other.positions))


def _run(sheet: Sheet) -> dict[str, Any]:
    probe_map, data = sheet.probe_map, sheet.probe_map.data
    described = describe(probe_map)
    honest = probe_map.nested_best()
    return {
        "title": _visible(sheet.title),
        "layers": probe_map.layers,
        "positions": probe_map.positions,
        "n": data["n"].values.tolist(),
        "nRight": data["n_right"].values.tolist(),
        "counts": {name: int(data.attrs.get(name, 0)) for name in ("answers", "decided", "right", "held_out")},
        "notes": [_visible(text) for text in (str(data.attrs.get("protocol", "")), sheet.note) if text],
        # Only the default probe's scores are log-odds.
        "areOdds": not data.attrs.get("probe"),
        "values": _values(probe_map),
        "best": _cell(probe_map, [(c.layer, c.position) for c in probe_map.best()]),
        "equal": np.argwhere(probe_map.confidence_set().values).tolist(),
        "honest": None if honest is None else _rounded([honest.auc, honest.low, honest.high]),
        "portraits": [
            [None if p is None else [_rounded(p.roc), _rounded(p.reliability), p.heaps.tolist()] for p in row]
            for row in portraits(probe_map)
        ],
        "observations": [_visible(observation.text) for observation in described.observations],
        "madeBy": {_visible(k): _visible(v) for k, v in sheet.made_by.items()},
        "dropped": {_visible(k): n for k, n in sheet.dropped.items()},
        "studies": [_study(study) for study in sheet.studies],
        "answers": _answers(sheet),
    }


def _study(study: Study) -> dict[str, Any]:
    table = study.table
    columns, rows = compact(table)
    return {
        "title": _visible(table.title),
        "columns": [_visible(name) for name in columns],
        "rows": [[_visible(value) for value in row] for row in rows],
        "words": [_visible(line) for line in table.words],
        "matrix": _matrix(study.matrix) if study.matrix else None,
    }


def _matrix(matrix: PairMatrix) -> dict[str, Any]:
    auc, low, high = matrix.auc
    texts = [
        ["–" if math.isnan(a) else f"{a:.2f} [{b:.2f}, {c:.2f}]" for a, b, c in zip(*row, strict=True)]
        for row in zip(auc.tolist(), low.tolist(), high.tolist(), strict=True)
    ]
    return {"names": [_visible(name) for name in matrix.names], "folded": _rounded(matrix.folded[0]), "texts": texts}


def _values(probe_map: CellMap) -> dict[str, Any]:
    """Every value that the map holds."""
    made = {}
    for name in VALUES:
        with suppress(MapError):
            made[name] = _grid(measure(probe_map, name))
    return made


def _cell(probe_map: CellMap, cells: Sequence[tuple[int, str]]) -> list[list[int]]:
    return [[probe_map.layers.index(layer), probe_map.positions.index(position)] for layer, position in cells]


def _grid(measured: Measured) -> dict[str, Any]:
    cells = measured.cells
    return {
        "label": measured.kind.label,
        "signed": measured.kind.signed,
        "limits": _rounded(measured.limits),
        "layers": [int(layer) for layer in cells["layer"].values],
        "positions": [str(p) for p in cells["position"].values],
        "n": cells["n"].values.tolist(),
        **{name: _rounded(cells[name].values) for name in ("value", "low", "high")},
    }


def _rounded(values: Any) -> Any:
    """Numbers to five significant digits, nested as the array is; None for NaN."""
    if isinstance(values, float):
        return None if math.isnan(values) else float(f"{values:.5g}")
    return [_rounded(one) for one in np.asarray(values, np.float64).tolist()]


def _answers(sheet: Sheet) -> dict[str, Any]:
    """The answers that are listed, by a stated rule, and every cell's probability for each."""
    chances = probabilities(sheet.probe_map)
    most = max(1, min(MOST_ANSWERS, MOST_SCORES // math.prod(chances.shape[1:])))
    drawn = np.arange(len(sheet.leaves))
    if len(drawn) > most:
        drawn = np.sort(np.random.default_rng(0).permutation(len(drawn))[:most])
    cut = (
        ""
        if len(drawn) == len(sheet.leaves)
        else f"{len(drawn)} of {len(sheet.leaves)} answers are listed, drawn at random."
    )
    steps = np.where(np.isnan(chances), _MISSING, np.rint(np.nan_to_num(chances) * (_MISSING - 1))).astype("<u2")
    return {
        "rule": cut,
        "rows": [_leaf(sheet.leaves[i]) for i in drawn.tolist()],
        "chances": base64.b64encode(steps[drawn].tobytes()).decode() if len(drawn) else "",
    }


def _leaf(leaf: Leaf) -> dict[str, Any]:
    answer, verdict = leaf.answer.final, leaf.judgement.verdict
    return {
        "id": _visible(leaf.example.id),
        "question": _visible(leaf.example.question),
        "context": _visible(leaf.example.context),
        "accepted": [_visible(one) for one in leaf.example.answers[:MOST_ACCEPTED]],
        "more": max(0, len(leaf.example.answers) - MOST_ACCEPTED),
        "choices": [_visible(one) for one in leaf.example.choices],
        "correct": verdict.correct,
        "reason": _visible(verdict.reason),
        "place": _visible(leaf.judgement.no_span),
        "pieces": _pieces(answer, leaf.judgement, leaf.tokens),
    }


def _pieces(answer: Answer, judgement: Judgement, tokens: npt.NDArray[Any]) -> list[list[Any]]:
    """[text, columns, part] of the answer in order: a probed token alone, all tokens between two probed ones together.

    Part is 0 in the prompt, 1 in the answer, 2 in the exact answer.
    """
    columns: dict[int, list[int]] = {}
    for column, index in enumerate(tokens.tolist()):
        if index >= 0:
            columns.setdefault(index, []).append(column)
    made: list[list[Any]] = []
    for index in sorted(i for i in columns if i < answer.n_prompt):
        start, stop = answer.offsets[index]
        made.append([_visible(answer.prompt[start:stop]), columns[index], 0])
    span = judgement.span
    for index, text in enumerate(answer.token_texts, answer.n_prompt):
        start, stop = answer.offsets[index]
        mine, part = columns.get(index, []), 2 if span and span.start <= index < span.stop else 1
        if not mine and made and not made[-1][1] and made[-1][2] == part:
            made[-1][0] += text
        else:
            # A token without characters ended the answer; one that shares a character shows a ditto mark.
            made.append([text or ("⟨end⟩" if start == stop else "〃") if mine else text, mine, part])
    return [[_visible(text) if part else text, mine, part] for text, mine, part in made]


def _visible(text: str) -> str:
    """Text with control characters and direction marks written as escapes, and its middle left out if it is long."""
    if len(text) > MOST_CHARACTERS:
        half = MOST_CHARACTERS // 2
        text = f"{text[:half]} [… {len(text) - 2 * half} characters left out …] {text[-half:]}"
    return "\n".join(printable(line) for line in text.split("\n"))
