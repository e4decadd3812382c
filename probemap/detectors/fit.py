"""`fit_detector`: fits a detector to hidden states and labels.

The held-out questions are used to evaluate the detector, and all other questions are used to select its cells and to
fit and calibrate its probes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from probemap.activations.source import ActivationSource, as_source
from probemap.detectors.detector import Detector
from probemap.detectors.head_fit import HeadFitter, has_all_cells
from probemap.detectors.thresholds import Limits, with_thresholds
from probemap.maps.fit import fit_map
from probemap.probing.auc import MIN_PER_CLASS
from probemap.probing.c_values import parse_c
from probemap.probing.folds import group_numbers, hold_out
from probemap.probing.inputs import Column, Labels, elements, parse_labels
from probemap.records import DetectorError

if TYPE_CHECKING:
    from probemap.detectors.head import Head
    from probemap.detectors.provenance import Provenance
    from probemap.probing.auc import Bools, Ints


THRESHOLD_SHARE = 0.4
"""Share of the groups from which thresholds are determined."""
MIN_SHARE = 0.05
"""If a larger share than this cannot be held out because there are too few answers, none is."""


def fit_detector(
    activations: Any,
    correct: Labels,
    *,
    cells: Literal["best"] | Sequence[tuple[int, str]] = "best",
    held_out: float | npt.ArrayLike | None = THRESHOLD_SHARE,
    groups: Column | None = None,
    layers: Column | None = None,
    positions: Column | None = None,
    c: float | str | Sequence[float] = "auto",
    false_alarms: Sequence[float] = (0.05, 0.2),
    risks: Sequence[float] = (0.1,),
    confidence: float = 0.9,
    fallback: tuple[int, str] | Literal["best"] | None = "best",
    seed: int = 0,
    provenance: Provenance | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Detector:
    """Fit a detector to hidden states and labels.

    Some answers are held out.  The others, called training answers, are used in three steps.  First, a map is fitted to
    the training answers, and the best cell is selected.  Then, the calibration (see `calibrate`) is computed from the
    out-of-fold scores of this cell.  Finally, its probe is fitted to all training answers.  The held-out answers are
    used to determine the thresholds (see `guarantees`) and to evaluate the detector.

    Parameters
    ----------
    activations : ActivationStore or array-like of shape (n, n_layers, n_positions, d)
        Hidden states; see `fit_map`.
    correct : array-like of shape (n,)
        One label per answer; see `fit_map`.  Undecided answers are excluded.
    cells : "best" or sequence of (int, str)
        The cells of the primary head, as pairs (layer, position).  The head averages the scores of its cells.  ``best``
        selects the cell with the highest AUC.
    held_out : float, array-like of shape (n,) of bool, or None
        The share of the groups to hold out for the thresholds and the evaluation, or a mask of the held-out answers.
        If None, the detector is not evaluated, which permits fewer answers.  The share is then at most
        `THRESHOLD_SHARE`, or 0 if no thresholds are requested.
    groups : array-like of shape (n,), optional
        The group of each answer, for example its question.  All answers in a group are held out together or assigned to
        the same fold.
    layers, positions : array-like, optional
        See `fit_map`.
    c : float, str or sequence of float
        Inverse strength of the L2 penalty; see `fit_map`.  If several values are given (``auto`` stands for 1e-4 to
        100), the value for each selected cell is chosen by cross-validation, whereas the map used to select the cells
        is fitted with a value of 1.
    false_alarms : sequence of float
        False-alarm rates for which to compute thresholds.  Each rate is a number between 0 and 1: the probability with
        which a correct answer to a new question may be flagged.  The rate holds in finite samples, on average over
        detectors; see `guarantees.conformal_threshold`.
    risks : sequence of float
        Risks for which to compute acceptance thresholds.  Each risk is a number between 0 and 1: the share of incorrect
        answers among the accepted answers to new questions.
    confidence : float
        Probability with which an acceptance threshold keeps its risk; see `guarantees.acceptance_threshold`.
    fallback : (int, str), "best" or None
        The cell used to score answers that lack a position of the primary head.  ``best`` selects the cell with the
        highest AUC among the positions that all answers have.  Positions that depend on the exact answer are excluded,
        because new answers may lack them.  If None, answers that lack a position get no score.  The fallback is fitted
        to all training answers and evaluated on all held-out answers.  Its calibration takes into account how often
        answers that lack a position are correct.
    seed : int
        Random seed for selecting the held-out questions and assigning the folds.
    provenance : Provenance, optional
        The model and the task that the states come from; see `Provenance.of`.  Without a provenance, the detector can
        score states but not texts, because the score of a text depends on the prompt, the hook point and the locator.
    progress : callable
        Called with the number of completed layers and the total number of layers.

    Returns
    -------
    Detector

    Raises
    ------
    MapError
        See `fit_map`.
    DetectorError
        If a cell does not exist, if a false-alarm rate is not between 0 and 1, if no position can be used for the
        fallback, or if there are fewer than 20 correct or 20 incorrect held-out answers.

    Examples
    --------
    >>> import numpy as np
    >>> from probemap import fit_detector
    >>> rng = np.random.default_rng(0)
    >>> correct = rng.random(400) < 0.5
    >>> states = rng.normal(size=(400, 3, 2, 8))  # answers, layers, positions, hidden size
    >>> states[correct, 1, 0] += 1.0  # layer 1 encodes correctness at the first position
    >>> detector = fit_detector(states, correct, positions=["last_q", "-1"])
    >>> detector.primary.location
    'layer 1 at last_q'
    >>> detector.primary.evaluation.auc > 0.9
    True
    >>> detector.p_correct(states[:4, 1, [0]]).round() == correct[:4]  # states at (layer 1, last_q)
    array([ True,  True,  True,  True])
    """
    limits = Limits(false_alarms=tuple(false_alarms), risks=tuple(risks), confidence=confidence)
    c_values = parse_c(c)
    source = as_source(
        activations,
        None if layers is None else elements(layers, "layers"),
        None if positions is None else elements(positions, "positions"),
    )
    if provenance is not None:
        _check_provenance(activations, provenance)
    group = group_numbers(groups, source.n)
    labels = parse_labels(correct, source.n)
    # Without an evaluation, thresholds still require answers that have no influence on the probes.
    if held_out is None and (limits.false_alarms or limits.risks):
        is_held_out = _threshold_answers(labels, group, seed)
    else:
        is_held_out = hold_out(held_out, group, seed)
    probe_map = fit_map(
        activations,
        [None if out else label for label, out in zip(labels, is_held_out.tolist(), strict=True)],
        groups=groups,
        layers=layers,
        positions=positions,
        c=c_values[0] if len(c_values) == 1 else 1.0,
        nested=False,
        seed=seed,
        progress=progress,
    )
    heads = HeadFitter(
        source=source,
        probe_map=probe_map,
        labels=np.array([np.nan if label is None else float(label) for label in labels]),
        held_out=is_held_out,
        evaluate=held_out is not None,
        group=group,
        c_values=c_values,
        seed=seed,
    )

    def finished(primary: Head, fallback: Head | None) -> Detector:
        return _with_thresholds(Detector(primary, fallback, provenance, seed), heads, limits)

    primary_cells = [(cell.layer, cell.position) for cell in probe_map.best()] if cells == "best" else list(cells)
    primary = heads.fit(primary_cells, np.zeros(source.n, bool))
    complete = _complete_positions(source)
    if fallback is None or {position for _, position in primary_cells} <= set(complete):
        return finished(primary, None)
    if not isinstance(fallback, str):
        fallback_cell = fallback
    elif complete:
        (best,) = probe_map.only(complete).best()
        fallback_cell = (best.layer, best.position)
    else:
        raise DetectorError(
            "no position can serve as fallback: each one is missing in some answer or depends on the exact answer",
            "also capture last_q or -1, or pass fallback=None",
        )
    needs_fallback = ~has_all_cells(heads.states(primary_cells))
    return finished(primary, heads.fit([fallback_cell], needs_fallback))


def _threshold_answers(labels: Sequence[bool | None], group: Ints, seed: int) -> Bools:
    """Return a mask of the answers from which the thresholds of a detector without evaluation are determined.

    The share is reduced if too few answers would remain to fit the probes.  This depends only on the number of correct
    and incorrect answers, so the remaining correct answers are still exchangeable with those of new questions.
    """
    share = THRESHOLD_SHARE
    while share > MIN_SHARE:
        is_held_out = hold_out(share, group, seed)
        training = [label for label, out in zip(labels, is_held_out.tolist(), strict=True) if not out]
        if min(training.count(True), training.count(False)) >= MIN_PER_CLASS:
            return is_held_out
        share /= 2
    return np.zeros(len(labels), np.bool_)


def _with_thresholds(detector: Detector, heads: HeadFitter, limits: Limits) -> Detector:
    """Return the detector with thresholds that are determined from its scores of the held-out answers."""
    rows = heads.held_out & ~np.isnan(heads.labels)
    states = heads.states([(cell.layer, cell.position) for cell in detector.cells])[rows]
    names: list[Literal["primary", "fallback"]] = ["primary", "fallback"] if detector.fallback else ["primary"]
    complete = with_thresholds(
        {name: detector.head(name) for name in names},
        detector.score_states(states),
        heads.labels[rows] == 1,
        heads.group[rows],
        limits,
    )
    return replace(detector, primary=complete["primary"], fallback=complete.get("fallback"))


def _check_provenance(activations: Any, provenance: Provenance) -> None:
    """Raise an error if the activations are known to come from a different model or hook point."""
    layout = getattr(activations, "layout", None)
    for name, captured, expected in (
        ("hook point", getattr(layout, "site", ""), provenance.site),
        ("model revision", getattr(activations, "revision", ""), provenance.revision),
        ("chat template", getattr(activations, "template", ""), provenance.template),
    ):
        if captured and expected and captured != expected:
            raise DetectorError(
                f"the {name} of the activations is {captured[:16]!r}, but that of the provenance is {expected[:16]!r}",
                "create the provenance with Provenance.of(activations, task)",
            )


def _complete_positions(source: ActivationSource) -> list[str]:
    """Return the positions that do not depend on the exact answer and that all answers have, including undecided
    answers."""
    missing = np.isnan(source.read(source.layers[0])[:, :, 0])
    return [p for k, p in enumerate(source.positions) if not missing[:, k].any() and "exact_answer" not in p]
