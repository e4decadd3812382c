"""The export step: from a run folder to a detector's folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from probemap.activations.store import ActivationStore
from probemap.detectors.detector import Detector
from probemap.detectors.fit import fit_detector
from probemap.detectors.provenance import Provenance
from probemap.logger import SILENT, Logger
from probemap.records import DetectorError
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
        provenance=run_provenance(run),
        progress=lambda done, total: logger.progress("layers", done, total),
    )
    made.save(out)
    return made


def run_provenance(run: Run) -> Provenance:
    """Return the provenance of a detector that is fitted to the states and verdicts of a run.

    Parameters
    ----------
    run : Run
        A run directory with answers, verdicts and captured states.

    Returns
    -------
    Provenance

    Raises
    ------
    RunError
        If a step is missing, or the exact answers were located by the paper's locator.
    StoreError
        If the states are missing.
    """
    answered, judged = run.step("answer"), run.step("judge")
    refuse_paper_locator(run)
    facts = answered["facts"]
    return Provenance(
        model=facts["model"],
        task=run.task(),
        frame=facts["frame"],
        locator=judged["options"]["locator"],
        site=ActivationStore.open(run.path / "activations").layout.site,
        name=answered["options"]["model"],
        revision=facts["revision"],
        dtype=facts["dtype"],
        template=facts.get("template", ""),
        quantize=answered["options"].get("quantize") or "",
        versions=run.record().get("versions", {}),
    )
