"""The report step: write an HTML page about one or several runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probemap.logger import SILENT, Logger
from probemap.records import DataError, Judgement, RunError, StoreError
from probemap.runs.definitions import ANSWER, ATTENTION, AUDIT, BASELINES, CHOOSE, ERRORS, JUDGE, PEER, TRANSFER, Step
from probemap.runs.study_files import read_current_table
from probemap.tasks.leaks import LeakCheck

if TYPE_CHECKING:  # plotting libraries take seconds to import
    from probemap.maps.probe_map import ProbeMap
    from probemap.runs.graded import GradedAnswers
    from probemap.runs.run import Run
    from probemap.views.report import RunView, Study

STUDIES: tuple[Step[Any, Any], ...] = (AUDIT, BASELINES, ERRORS, CHOOSE, TRANSFER, PEER)
"""The studies, in the order in which they appear on the page."""
CITATION = (
    "Map of {model} on {task} made with probemap {version}, after Orgad et al. 2024, LLMs Know More Than They Show "
    "(arXiv 2410.02707)."
)


def report(runs: Sequence[Run], *, out: Path | None = None, logger: Logger = SILENT) -> Path:
    """Write a self-contained HTML page.

    Parameters
    ----------
    runs : sequence of Run
        The runs to show.  If there are several, the page compares them.
    out : Path, optional
        File to write.  Default: ``report.html`` in the run directory.  Required for several runs.

    Returns
    -------
    Path
        The file that was written.

    Raises
    ------
    DataError
        If `out` does not end in .html, or if several runs are given without `out`.
    RunError, StoreError, MapError
        If a run has no map, or if its files are damaged or inconsistent with each other.
    """
    from probemap.views.report import render

    if out is not None and out.suffix != ".html":
        raise DataError(f"{out} does not end in .html", "use a file name such as report.html")
    if len(runs) > 1 and out is None:
        raise DataError("a page about several runs requires a file name", "pass one, for example --out report.html")
    views = []
    for number, run in enumerate(runs, start=1):
        views.append(run_view(run, logger))
        logger.progress("runs", number, len(runs))
    counts = Counter(view.title for view in views)
    for k, run in enumerate(runs):
        if counts[views[k].title] > 1:  # several runs have this title
            views[k] = replace(views[k], title=f"{views[k].title} ({run.path.name})")
    page = render(views)
    if out is None:
        runs[0].write("report.html", page)
    else:
        temporary = out.with_name(f".{out.name}.part")
        temporary.write_text(page, encoding="utf-8")
        temporary.replace(out)
    return out or runs[0].path / "report.html"


def run_view(run: Run, logger: Logger = SILENT) -> RunView:
    """Return the part of the page that describes one run.

    The answers are included only if the map is up to date.
    """
    from probemap.views.report import AnswerView, RunView

    problems: list[str] = []
    probe_map = run.read_map(problems.append)
    if run.is_done(ATTENTION):
        try:
            probe_map = run.with_attention(probe_map)
        except RunError as error:  # the other values can be shown without attention weights
            logger.log(f"the page does not show attention: {error.problem}")
    graded = run.graded
    row_of = {name: row for row, name in enumerate(graded.ids)}
    rows = [row_of[str(name)] for name in probe_map.data["answer"].values if str(name) in row_of]
    tokens = graded.token_indices(probe_map.positions)
    examples, answers, judgements = graded.task.examples, graded.answers, graded.judgements
    views = [
        AnswerView(example=examples[row], answer=answers[row], judgement=judgements[row], tokens=tokens[row])
        for row in rows
    ]
    if len(views) != probe_map.data.sizes["answer"]:
        problems.append("the map does not match the answers that are now in the directory")
    for text in problems:
        logger.log(text)
    note = f"{problems[0].splitlines()[0]}: this page lists no answers." if problems else ""
    studies = [study for step in STUDIES if (study := _study(run, step, logger))]
    return RunView(
        probe_map=probe_map,
        title=_title(probe_map),
        answers=[] if problems else views,
        provenance=_provenance(run, graded, probe_map),
        excluded=_excluded(judgements),
        studies=studies,
        note=note,
    )


def _study(run: Run, step: Step[Any, Any], logger: Logger) -> Study | None:
    """Return the result of a study, or None if it does not exist or if its inputs have changed."""
    from probemap.studies.generalisation import matrix_of, pairs_of
    from probemap.views.report import Study

    if not run.is_done(step):
        return None
    inputs = run.record(step).inputs
    # The first input of these steps is the map of this run.  The other inputs are in other run directories.
    local = {"map.nc": next(iter(inputs.values()))} if step.name in (TRANSFER.name, PEER.name) else inputs
    try:
        table = read_current_table(run, step, local)
        matrix = matrix_of(pairs_of(table)) if step.name == TRANSFER.name else None
        return Study(table=table, matrix=matrix)
    except (RunError, StoreError) as error:  # the rest of the page can be shown without the study
        logger.log(f"the page does not show {step.name}: {error.problem}")
        return None


def _title(probe_map: ProbeMap) -> str:
    attrs = probe_map.data.attrs
    site = "" if attrs.get("site", "resid") == "resid" else f", {attrs['site']}"
    return f"{attrs.get('model', 'states')} on {attrs.get('task', 'answers')}{site}"


def _provenance(run: Run, graded: GradedAnswers, probe_map: ProbeMap) -> dict[str, str]:
    attrs, versions = probe_map.data.attrs, run.run_json().get("versions", {})
    options, leaks = run.record(ANSWER).options, LeakCheck.from_attrs(attrs)
    facts = {
        "model": attrs.get("model"),
        "revision": attrs.get("revision"),
        "questions": graded.task.name,
        "source of the questions": graded.task.source,
        "seed for the draw": options.seed,
        "temperature": options.temperature,
        "site": attrs.get("site"),
        "judge": _judge(run),
        "locator of the exact answer": attrs.get("locator"),
        "probes": attrs.get("probe") or "logistic regression on standardised states",
        "inverse L2 penalty C": attrs.get("c"),
        "folds": attrs["folds"],
        "folds grouped by": f"{attrs['group_by']} ({attrs['groups']} groups)" if "group_by" in attrs else None,
        "repeats": attrs["repeats"],
        "seed for the folds": attrs["seed"],
        "accepted answers in their own question or context": None if leaks is None else leaks.counts,
        "versions": ", ".join(f"{name} {number}" for name, number in versions.items()),
        "citation": CITATION.format(
            model=attrs.get("model", "a model"),
            task=attrs.get("task", "questions"),
            version=versions.get("probemap", "(unknown version)"),
        ),
    }
    return {name: str(value) for name, value in facts.items() if value not in (None, "")}


def _judge(run: Run) -> str:
    """Return the name of the language model that graded the answers, and its agreement with the rules."""
    record = run.find_record(JUDGE)
    if record is None or record.facts.agreement is None:
        return ""
    return f"{record.facts.judge}; this model and the rules {record.facts.agreement.describe()}"


def _excluded(judgements: Sequence[Judgement]) -> dict[str, int]:
    """Return, for each reason, the number of answers that are missing from the map or from some of its columns."""
    from probemap.views.verdicts import undecided_reasons, without_exact_answer

    undecided = undecided_reasons(judgements)
    return {f"undecided, {why}" if why else "undecided": n for why, n in undecided.items()} | {
        f"not in the exact_answer columns, {why}": n for why, n in without_exact_answer(judgements).items()
    }
