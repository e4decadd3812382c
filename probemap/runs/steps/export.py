"""The export step: from a run folder to a detector's folder."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from probemap.detectors.detector import Detector
from probemap.detectors.fit import fit_detector
from probemap.detectors.head import Origin
from probemap.logger import SILENT, Logger
from probemap.records import DetectorError, Task
from probemap.runs.integrity import question_groups, read_answers, refuse_paper_locator, states_of
from probemap.runs.run import Run


def export(
    run: Run,
    out: Path,
    *,
    cells: Literal["best"] | Sequence[tuple[int, str]] = "best",
    held_out: float | None = 0.2,
    c: str = "auto",
    false_alarms: Sequence[float] = (0.05, 0.2),
    seed: int = 0,
    logger: Logger = SILENT,
) -> Detector:
    """Fit a detector to the run's states and verdicts, judge it on questions that took no part, and write its folder.

    Parameters
    ----------
    cells, held_out, c, false_alarms, seed: as for `detecting.fit_detector`.

    Raises
    ------
    DetectorError: `out` holds a detector already; or as `fit_detector`.
    RunError, StoreError, MapError
    """
    if (out / "config.json").exists():
        raise DetectorError(f"{out} holds a config.json already", "name another folder: nothing is overwritten")
    task, answers, judgements = read_answers(run)
    store = states_of(run, answers, judgements)
    made = fit_detector(
        store,
        [j.verdict.correct for j in judgements],
        cells=cells,
        held_out=held_out,
        groups=question_groups(task),
        c=c,
        false_alarms=false_alarms,
        seed=seed,
        origin=origin_of(run, task, store.layout.site),
        progress=lambda done, total: logger.progress("layers", done, total),
    )
    made.save(out)
    return made


def origin_of(run: Run, task: Task, site: str) -> Origin:
    """What a detector of the run belongs to.

    Raises
    ------
    RunError: the exact answers were located by the paper's locator.
    """
    answered, judged = run.step("answer"), run.step("judge")
    refuse_paper_locator(run)
    facts, locator = answered["facts"], judged["options"]["locator"]
    return Origin(
        model=facts["model"],
        name=answered["options"]["model"],
        revision=facts["revision"],
        dtype=facts["dtype"],
        quantize=answered["options"].get("quantize") or "",
        template=facts.get("template", ""),
        frame=facts["frame"],
        asked=replace(task, examples=()),
        site=site,
        locator=locator,
        versions=run.record().get("versions", {}),
    )
