"""Fit a detector to a run and save it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from probemap.detectors.fit import fit_detector
from probemap.logger import SILENT, Logger
from probemap.records import DetectorError

if TYPE_CHECKING:
    from probemap.detectors.detector import Detector
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
    """Fit a detector to a run's states and verdicts, and save it.

    Parameters
    ----------
    run : Run
        A run directory with verdicts and captured states.
    out : Path
        Directory to which the detector is saved.
    cells, held_out, c, false_alarms, seed
        See `fit_detector`.
    logger : Logger
        Logger that reports the progress.

    Returns
    -------
    Detector

    Raises
    ------
    DetectorError
        If `out` already contains a detector, or if the detector cannot be fitted; see `fit_detector`.
    RunError, StoreError, MapError
        If verdicts or states are missing or are inconsistent with each other.
    """
    if (out / "config.json").exists():
        raise DetectorError(
            f"{out} already contains a config.json", "use a different directory: nothing is overwritten"
        )
    graded = run.graded
    detector = fit_detector(
        run.states_of(graded),
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
    detector.save(out)
    return detector
