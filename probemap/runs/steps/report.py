"""The report step: what one page shows of run folders."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from probemap.logger import SILENT, Logger
from probemap.maps.probe_map import ProbeMap
from probemap.positions import token_indices
from probemap.records import DataError, Judgement, RunError, StoreError, Task
from probemap.runs.integrity import read_answers, read_attention, read_map
from probemap.runs.run import Run
from probemap.studies.generalisation import matrix_of, pairs_of
from probemap.views.report import Leaf, Sheet, Study, render

STUDIES = ("baselines", "errors", "choose", "transfer")
"""In the order of the page."""
CITATION = (
    "Map of {model} on {task} made with probemap {version}, after Orgad et al. 2024, LLMs Know More Than They Show "
    "(arXiv 2410.02707)."
)


def report(runs: Sequence[Run], *, out: Path | None = None, logger: Logger = SILENT) -> Path:
    """Write one self-contained page; `out`, or ``report.html`` in the folder of the one run.

    Raises
    ------
    DataError: `out` is no .html file, or several runs and no `out`.
    RunError, StoreError, MapError: a run has no map, or it belongs to other answers.
    """
    if out is not None and out.suffix != ".html":
        raise DataError(f"{out} is no .html", "name the page report.html, for example")
    if len(runs) > 1 and out is None:
        raise DataError("a page of several runs belongs to none of their folders", "name its file: --out report.html")
    sheets = []
    for done, run in enumerate(runs, start=1):
        sheets.append(sheet(run, logger))
        logger.progress("runs", done, len(runs))
    titles = Counter(one.title for one in sheets)
    for k, run in enumerate(runs):
        if titles[sheets[k].title] > 1:  # what the maps say of themselves does not tell them apart
            sheets[k] = replace(sheets[k], title=f"{sheets[k].title} ({run.path.name})")
    page = render(sheets)
    if out is None:
        runs[0].write("report.html", page)
    else:
        part = out.with_name(f".{out.name}.part")
        part.write_text(page, encoding="utf-8")
        part.replace(out)
    return out or runs[0].path / "report.html"


def sheet(run: Run, logger: Logger = SILENT) -> Sheet:
    """What a page shows of one run; the answers' texts only if they are those that the map was made from."""
    changed: list[str] = []
    probe_map = read_map(run, changed.append)
    if run.is_done("attention"):
        try:
            probe_map = read_attention(run, probe_map)
        except RunError as error:  # the other values do not need it
            logger.log(f"the page is without attention: {error.problem}")
    task, answers, judgements = read_answers(run)
    rows = {e.id: k for k, e in enumerate(task.examples)}
    mine = [rows[str(name)] for name in probe_map.data["answer"].values if str(name) in rows]
    tokens = token_indices(answers, [j.span for j in judgements], probe_map.positions)
    leaves = [Leaf(task.examples[k], answers[k], judgements[k], tokens[k]) for k in mine]
    if len(leaves) != probe_map.data.sizes["answer"]:
        changed.append("the map was made from other answers than the folder now holds")
    for text in changed:
        logger.log(text)
    note = f"{changed[0].splitlines()[0]}: this page lists no answers." if changed else ""
    made_by, dropped = _made_by(run, task, probe_map), _dropped(judgements)
    studies = [study for name in STUDIES if (study := _study_of(run, name, logger))]
    return Sheet(probe_map, _title(probe_map), [] if changed else leaves, made_by, dropped, studies, note)


def _study_of(run: Run, name: str, logger: Logger) -> Study | None:
    """What a study found, if it was made of what the folder now holds."""
    if not run.is_done(name):
        return None
    inputs = run.step(name)["inputs"]
    # Of transfer, the first one is the map of this run; the others lie elsewhere.
    own = {"map.nc": next(iter(inputs.values()))} if name == "transfer" else inputs
    try:
        if changed := [file for file, content in own.items() if _content(run, file) != content]:
            raise RunError(f"{' and '.join(changed)} changed since it was made")
        table = run.table(name)
        return Study(table, matrix_of(pairs_of(table)) if name == "transfer" else None)
    except (RunError, StoreError) as error:  # the rest does not need it
        logger.log(f"the page is without {name}: {error.problem}")
        return None


def _content(run: Run, name: str) -> str:
    """Of a file of the folder, or of its states, as a hash."""
    from probemap.activations.store import ActivationStore

    return ActivationStore.open(run.path / name).content_hash() if name == "activations" else run.sha256(name)


def _title(probe_map: ProbeMap) -> str:
    attrs = probe_map.data.attrs
    site = "" if attrs.get("site", "resid") == "resid" else f", {attrs['site']}"
    return f"{attrs.get('model', 'states')} on {attrs.get('task', 'answers')}{site}"


def _made_by(run: Run, task: Task, probe_map: ProbeMap) -> dict[str, str]:
    attrs, versions = probe_map.data.attrs, run.record().get("versions", {})
    asked = run.step("answer").get("options", {})
    facts = {
        "model": attrs.get("model"),
        "revision": attrs.get("revision"),
        "questions": task.name,
        "source of the questions": task.source,
        "seed of the draw": asked.get("seed"),
        "temperature": asked.get("temperature"),
        "site": attrs.get("site"),
        "exact answer found by": attrs.get("locator"),
        "probes": attrs.get("probe") or "logistic regression on standardised states",
        "inverse strength of the penalty": attrs.get("c"),
        "folds": attrs["folds"],
        "repeats": attrs["repeats"],
        "seed of the folds": attrs["seed"],
        "versions": ", ".join(f"{name} {number}" for name, number in versions.items()),
        "citation": CITATION.format(
            model=attrs.get("model", "a model"),
            task=attrs.get("task", "questions"),
            version=versions.get("probemap", "of unknown version"),
        ),
    }
    return {name: str(value) for name, value in facts.items() if value not in (None, "")}


def _dropped(judgements: Sequence[Judgement]) -> dict[str, int]:
    undecided = Counter(j.verdict.reason for j in judgements if j.verdict.correct is None)
    unplaced = Counter(j.no_span for j in judgements if j.span is None and j.verdict.correct is not None)
    return {f"undecided, {why}" if why else "undecided": n for why, n in undecided.most_common()} | {
        f"not in the exact answer's columns, {why}" if why else "not in the exact answer's columns": n
        for why, n in unplaced.most_common()
    }
