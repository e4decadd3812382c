"""The export step: from a run folder to a detector's folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from probemap.detectors.detector import Detector
from probemap.detectors.fit import fit_detector
from probemap.logger import SILENT, Logger
from probemap.records import DetectorError
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
    graded = run.graded
    store = run.states_of(graded)
    made = fit_detector(
        store,
        graded.correct,
        cells=cells,
        held_out=held_out,
        groups=graded.groups,
        c=c,
        false_alarms=false_alarms,
        seed=seed,
        provenance=run.provenance,
        progress=lambda done, total: logger.progress("layers", done, total),
    )
    made.save(out)
    return made
