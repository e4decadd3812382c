"""Fit a detector to a run and save it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from probemap.detectors.fit import THRESHOLD_SHARE, fit_detector
from probemap.detectors.head_fit import FOLDS
from probemap.detectors.thresholds import Limits
from probemap.logger import SILENT, Logger
from probemap.records import DetectorError
from probemap.runs.graded import graded_as_mapped

if TYPE_CHECKING:
    from probemap.detectors.detector import Detector
    from probemap.runs.run import Run


DEFAULT_LIMITS = Limits()


def export(
    run: Run,
    out: Path,
    *,
    cells: Literal["best"] | Sequence[tuple[int, str]] = "best",
    held_out: float | None = THRESHOLD_SHARE,
    c: str = "auto",
    limits: Limits = DEFAULT_LIMITS,
    seed: int = 0,
    logger: Logger = SILENT,
) -> Detector:
    """Fit a detector to a run's states and verdicts, and save it.

    The answers are grouped as in the map (``probemap map --group-by``): no group is both in the training and in the
    held-out answers, or in several folds.

    Parameters
    ----------
    run : Run
        A run directory with verdicts and captured states.
    out : Path
        Directory to which the detector is saved.
    cells, held_out, c, seed
        See `fit_detector`.
    limits : Limits
        The limits that the thresholds keep.
    logger : Logger
        Logger that reports the progress.

    Returns
    -------
    Detector

    Raises
    ------
    DetectorError
        If `out` already contains a detector, or if the detector cannot be fitted; see `fit_detector`.
    TooFewError
        If the answers are grouped by a field, and there are fewer groups than folds.
    RunError, StoreError, MapError
        If verdicts or states are missing or are inconsistent with each other.
    """
    if (out / "config.json").exists():
        raise DetectorError(
            f"{out} already contains a config.json", "use a different directory: nothing is overwritten"
        )
    graded = graded_as_mapped(run)
    if graded.group_by is not None:
        graded.check_groups(FOLDS, held_out)
        logger.log(f"the answers are grouped by {graded.group_by}, as in the map: {graded.n_groups} groups")
    detector = fit_detector(
        run.states_of(graded),
        graded.correct,
        cells=cells,
        held_out=held_out,
        groups=graded.groups,
        c=c,
        false_alarms=limits.false_alarms,
        risks=limits.risks,
        confidence=limits.confidence,
        seed=seed,
        provenance=run.provenance,
        progress=lambda done, total: logger.progress("layers", done, total),
    )
    detector.save(out)
    return detector
