"""Create the HTML report, a self-contained page that can be opened without a server or a network connection.

All values are computed in Python; the page's scripts only display them.  Texts are passed to the page as JSON and
inserted as text nodes, never as markup.  The page's content security policy allows no network requests and no scripts
other than the page's own, which are identified by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from probemap.probing.difference import difference
from probemap.probing.metrics import CellValues, measure, value_names
from probemap.records import Answer, Example, Judgement, MapError
from probemap.tables import PairMatrix, Table, compact
from probemap.tasks.leaks import LeakCheck
from probemap.views.diagnostics import (
    FALSE_POSITIVE_RATES,
    HISTOGRAM_EDGES,
    CellDiagnostics,
    cell_diagnostics,
    probabilities,
)
from probemap.views.printable import printable
from probemap.views.risk_coverage import COVERAGES, RiskCoverage, baseline_risks, cell_risks
from probemap.views.verdicts import verdict_text
from probemap.views.words import describe

if TYPE_CHECKING:
    from jinja2 import Environment

    from probemap.probing.cell_map import CellMap

MAX_ANSWERS = 1000
"""Maximum number of answers listed per run."""
MAX_PROBABILITIES = 1_000_000
"""Maximum number of probabilities (answers × cells) per run; each one takes 2 bytes."""
MAX_CHARACTERS = 4000
"""Maximum length of a text in characters; longer texts are shortened in the middle."""
MAX_ACCEPTED = 20
"""Maximum number of accepted answers listed per question."""

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'"
"""Content security policy, to which the hashes of the scripts are added.

Plotly needs inline styles, and it needs images to convert a figure to PNG."""

_SCRIPTS = ("plotly-cartesian.min", "charts", "answers", "studies", "page")

_MISSING = 65535
"""16-bit code for a missing probability.  The code for any other probability is its value multiplied by 65534 and
rounded."""

_PROMPT, _ANSWER, _EXACT_ANSWER = 0, 1, 2
"""Codes for the location of a piece of text: in the prompt, in the answer, or in the exact answer."""


@dataclass(frozen=True, kw_only=True)
class AnswerView:
    """An answer as listed on the page."""

    example: Example
    answer: Answer
    judgement: Judgement
    tokens: npt.NDArray[Any]
    """Integer array of shape (n_positions,).  For each position in the map, it contains the index of the token in
    `answer.token_ids`, or -1 if the answer lacks the position."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """The result of a study as shown on the page."""

    table: Table
    matrix: PairMatrix | None = None
    """The values that are shown as a matrix above the table if the study is a generalisation study, otherwise None."""


@dataclass(frozen=True, kw_only=True)
class RunView:
    """A run as shown on the page."""

    probe_map: CellMap
    title: str = "map"
    answers: Sequence[AnswerView] = ()
    """The answers in the map, in the order in which the map stores them.  Empty if the page does not list answers."""
    provenance: dict[str, str] = field(default_factory=dict)
    """Facts about where the map comes from, such as the model, its revision, the seed and the versions."""
    excluded: dict[str, int] = field(default_factory=dict)
    """Mapping from each reason for exclusion to the number of excluded answers.  Answers that are missing from only
    some of the columns are also counted."""
    studies: Sequence[Study] = ()
    note: str = ""
    """A warning shown at the top of the page, for example that verdicts have changed since the map was fitted."""


def render(runs: Sequence[RunView]) -> str:
    """Render runs as one self-contained HTML page.

    Parameters
    ----------
    runs : sequence of RunView
        The runs to show.  The page shows one run at a time and can compare it with any other.

    Returns
    -------
    str
        The HTML page.

    Raises
    ------
    MapError
        If the sequence is empty.
    """
    if not runs:
        raise MapError("a report needs at least one run, got none", "specify one or more runs")
    scripts = [asset(f"{name}.js") for name in _SCRIPTS]
    return (
        environment()
        .get_template("page.html")
        .render(
            title=" and ".join(_visible(run.title) for run in runs),
            style=asset("page.css"),
            scripts=scripts,
            policy=policy(scripts),
            content=_content(runs),
            version=version("probemap"),
        )
    )


def environment() -> Environment:
    """Return the Jinja environment for the page.  It encodes JSON compactly, keeps the order of keys, and rejects
    NaN."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("probemap.views", "page")
    jinja = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    jinja.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":"), "sort_keys": False}
    return jinja


def asset(name: str) -> str:
    """Return the content of a style sheet or script of the pages."""
    return (files("probemap.views") / "page" / name).read_text(encoding="utf-8")


def policy(scripts: Sequence[str]) -> str:
    """Return the content security policy of a page, which allows the given scripts and no others."""
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    return f"{_POLICY}; script-src " + " ".join(f"'sha256-{content}'" for content in hashes)


def _content(runs: Sequence[RunView]) -> dict[str, Any]:
    """Return the data that the page's scripts display."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    def colours(name: str) -> list[str]:
        return [to_hex(colormaps[name](x)) for x in np.linspace(0, 1, 33)]

    return {
        "runs": [_run(run) for run in runs],
        "differences": [
            {"first": i, "second": j, **_grid(difference(first.probe_map, second.probe_map))}
            for i, first in enumerate(runs)
            for j, second in enumerate(runs)
            if i < j and _share_cells(first.probe_map, second.probe_map)
        ],
        "falsePositiveRates": _rounded(FALSE_POSITIVE_RATES),
        "histogramEdges": _rounded(HISTOGRAM_EDGES),
        "coverages": _rounded(COVERAGES),
        "scales": {"sequential": colours("Blues"), "diverging": colours("PuOr")},
        "missing": _MISSING,
    }


def _share_cells(first: CellMap, second: CellMap) -> bool:
    return bool(set(first.layers) & set(second.layers) and set(first.positions) & set(second.positions))


def _run(run: RunView) -> dict[str, Any]:
    probe_map, data = run.probe_map, run.probe_map.data
    nested = probe_map.nested_best()
    layers, positions = probe_map.layers, probe_map.positions
    return {
        "title": _visible(run.title),
        "layers": layers,
        "positions": positions,
        "n": data["n"].values.tolist(),
        "counts": {name: int(data.attrs.get(name, 0)) for name in ("answers", "decided", "right", "held_out")},
        "notes": [
            _visible(text) for text in (str(data.attrs.get("protocol", "")), run.note, _leak(data.attrs)) if text
        ],
        # Only the scores of the default probe are log-odds.
        "hasLogOdds": not data.attrs.get("probe"),
        "values": _values(probe_map),
        "best": [[layers.index(cell.layer), positions.index(cell.position)] for cell in probe_map.best()],
        "confidenceSet": np.argwhere(probe_map.confidence_set().values).tolist(),
        "nested": None if nested is None else _rounded([nested.auc, nested.low, nested.high]),
        "diagnostics": [[_diagnostics(cell) for cell in row] for row in cell_diagnostics(probe_map)],
        "risks": [[_risk(cell) for cell in row] for row in cell_risks(probe_map)],
        "baselines": _baselines(probe_map),
        "observations": [_visible(observation.text) for observation in describe(probe_map).observations],
        "provenance": {_visible(name): _visible(value) for name, value in run.provenance.items()},
        "excluded": {_visible(reason): n for reason, n in run.excluded.items()},
        "studies": [_study(study) for study in run.studies],
        "answers": _answers(run),
    }


def _leak(attrs: Mapping[str, Any]) -> str:
    """Return the warning that accepted answers occur in their own prompts, or an empty string."""
    check = LeakCheck.from_attrs(attrs)
    return "" if check is None else check.warning


def _diagnostics(cell: CellDiagnostics | None) -> dict[str, Any] | None:
    if cell is None:
        return None
    return {
        "roc": _rounded(cell.roc),
        "reliability": _rounded(cell.reliability),
        "histogram": cell.histogram.tolist(),
    }


def _risk(curve: RiskCoverage | None) -> dict[str, Any] | None:
    if curve is None:
        return None
    metrics = {"AURC": curve.aurc, "excess AURC": curve.excess_aurc, "PRR": curve.prr}
    return {"risk": _rounded(curve.risk), "metrics": {name: _rounded(value) for name, value in metrics.items()}}


def _baselines(probe_map: CellMap) -> list[dict[str, Any] | None]:
    """Return the name and the risk-coverage curve of the best baseline of each column."""
    curves = [_risk(curve) for curve in baseline_risks(probe_map)]
    return [
        None if curve is None else {"name": _visible(str(probe_map.data["best_baseline"].values[k])), **curve}
        for k, curve in enumerate(curves)
    ]


def _study(study: Study) -> dict[str, Any]:
    columns, rows = compact(study.table)
    return {
        "title": _visible(study.table.title),
        "columns": [_visible(name) for name in columns],
        "rows": [[_visible(value) for value in row] for row in rows],
        "words": [_visible(sentence) for sentence in study.table.words],
        "matrix": _matrix(study.matrix) if study.matrix else None,
    }


def _matrix(matrix: PairMatrix) -> dict[str, Any]:
    texts = [
        ["–" if math.isnan(auc) else f"{auc:.2f} [{low:.2f}, {high:.2f}]" for auc, low, high in zip(*row, strict=True)]
        for row in zip(*matrix.auc.tolist(), strict=True)
    ]
    return {"names": [_visible(name) for name in matrix.names], "folded": _rounded(matrix.folded[0]), "texts": texts}


def _values(probe_map: CellMap) -> dict[str, Any]:
    """Return one grid for each kind of value that the map contains."""
    grids = {}
    for name in value_names(probe_map.data):
        with suppress(MapError):
            grids[_visible(name)] = _grid(measure(probe_map, name))
    return grids


def _grid(measured: CellValues) -> dict[str, Any]:
    cells = measured.cells
    return {
        "label": _visible(measured.kind.label),
        "signed": measured.kind.signed,
        "limits": _rounded(measured.limits),
        "layers": [int(layer) for layer in cells["layer"].values],
        "positions": [str(p) for p in cells["position"].values],
        "n": cells["n"].values.tolist(),
        **{name: _rounded(cells[name].values) for name in ("value", "low", "high")},
    }


def _rounded(values: Any) -> Any:
    """Round values to five significant digits and return them as nested lists, with None in place of NaN."""
    if isinstance(values, float):
        return None if math.isnan(values) else float(f"{values:.5g}")
    return [_rounded(value) for value in np.asarray(values, np.float64).tolist()]


def _answers(run: RunView) -> dict[str, Any]:
    """Return the listed answers, and the encoded probabilities that each cell's probe predicts for them."""
    p = probabilities(run.probe_map)
    limit = max(1, min(MAX_ANSWERS, MAX_PROBABILITIES // math.prod(p.shape[1:])))
    n_answers = len(run.answers)
    rows, rule = np.arange(n_answers), ""
    if n_answers > limit:
        rows = np.sort(np.random.default_rng(0).permutation(n_answers)[:limit])
        rule = f"{limit} of {n_answers} answers are listed, drawn at random."
    codes = np.where(np.isnan(p), _MISSING, np.rint(np.nan_to_num(p) * (_MISSING - 1))).astype("<u2")
    return {
        "rule": rule,
        "rows": [_answer(run.answers[i]) for i in rows.tolist()],
        "probabilities": base64.b64encode(codes[rows].tobytes()).decode() if len(rows) else "",
    }


def _answer(view: AnswerView) -> dict[str, Any]:
    example, verdict = view.example, view.judgement.verdict
    return {
        "id": _visible(example.id),
        "question": _visible(example.question),
        "context": _visible(example.context),
        "accepted": [_visible(text) for text in example.answers[:MAX_ACCEPTED]],
        "acceptedLeftOut": max(0, len(example.answers) - MAX_ACCEPTED),
        "choices": [_visible(text) for text in example.choices],
        "correct": verdict.correct,
        "verdict": _visible(verdict_text(verdict, view.answer)),
        "noSpan": _visible(view.judgement.no_span),
        "pieces": _pieces(view.answer.final, view.judgement, view.tokens),
    }


def _pieces(answer: Answer, judgement: Judgement, tokens: npt.NDArray[Any]) -> list[list[Any]]:
    """Split an answer into pieces: each probed token is a separate piece, and the tokens between probed tokens are
    joined.

    Returns
    -------
    list of [text, columns, location]
        The pieces, in the order in which they occur in the text.  ``columns`` are the indices of the map positions that
        fall on the token.  ``location`` is 0 for the prompt, 1 for the answer, and 2 for the exact answer.
    """
    columns_of: dict[int, list[int]] = {}
    for column, index in enumerate(tokens.tolist()):
        if index >= 0:
            columns_of.setdefault(index, []).append(column)
    pieces: list[list[Any]] = []
    for index in sorted(i for i in columns_of if i < answer.n_prompt):
        start, stop = answer.offsets[index]
        pieces.append([_visible(answer.prompt[start:stop]), columns_of[index], _PROMPT])
    span = judgement.span
    for index, text in enumerate(answer.token_texts, answer.n_prompt):
        start, stop = answer.offsets[index]
        columns = columns_of.get(index, [])
        location = _EXACT_ANSWER if span and span.start <= index < span.stop else _ANSWER
        if columns:
            # A token without characters is the end of the answer.  A token that shares its only character with the
            # previous token is shown as a ditto mark.
            pieces.append([text or ("⟨end⟩" if start == stop else "〃"), columns, location])
        elif pieces and not pieces[-1][1] and pieces[-1][2] == location:
            pieces[-1][0] += text
        else:
            pieces.append([text, columns, location])
    return [[_visible(text) if location else text, columns, location] for text, columns, location in pieces]


def _visible(text: str) -> str:
    """Escape control characters and direction marks, but not line breaks, and omit the middle of a long text."""
    if len(text) > MAX_CHARACTERS:
        half = MAX_CHARACTERS // 2
        text = f"{text[:half]} [… {len(text) - 2 * half} characters omitted …] {text[-half:]}"
    return "\n".join(printable(line) for line in text.split("\n"))
