"""`fit_detector`: from hidden states and labels to a detector.

One part of the questions chooses, fits and calibrates the detector; the held-out part evaluates it.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from probemap.activations.source import ActivationSource, as_source
from probemap.detectors.detector import Detector
from probemap.detectors.head_fit import HeadFitter, has_all_cells
from probemap.detectors.provenance import Provenance
from probemap.maps.fit import fit_map
from probemap.probing.c_values import parse_c
from probemap.probing.folds import group_numbers, hold_out
from probemap.probing.inputs import Column, Labels, elements, parse_labels
from probemap.records import DetectorError


def fit_detector(
    activations: Any,
    correct: Labels,
    *,
    cells: Literal["best"] | Sequence[tuple[int, str]] = "best",
    held_out: float | npt.ArrayLike | None = 0.2,
    groups: Column | None = None,
    layers: Column | None = None,
    positions: Column | None = None,
    c: float | str | Sequence[float] = "auto",
    false_alarms: Sequence[float] = (0.05, 0.2),
    fallback: tuple[int, str] | Literal["best"] | None = "best",
    seed: int = 0,
    provenance: Provenance | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Detector:
    """Fit a detector to hidden states and labels.

    The held-out answers are set aside.  On the others, a map chooses the cell, out-of-fold scores calibrate it (see
    `calibrate`) and set its thresholds, and the probe is then fitted to all of them.  The held-out answers evaluate
    the result.

    Parameters
    ----------
    activations : ActivationStore or array-like of shape (n, n_layers, n_positions, d)
        Hidden states, as for `fit_map`.
    correct : array-like of shape (n,)
        One label per answer, as for `fit_map`.  Undecided answers are excluded.
    cells : "best" or sequence of (int, str)
        ``best``: the cell with the highest AUC.  Otherwise the cells, as (layer, position), whose scores are averaged.
    held_out : float, array-like of shape (n,) of bool, or None
        The share of the groups that evaluates the detector, or which answers do.  None: no answer is held out, and the
        detector is not evaluated.
    groups : array-like of shape (n,), optional
        The group of each answer, for example its question.  A group is never split.
    layers, positions : array-like, optional
        As for `fit_map`.
    c : float, str or sequence of float
        The inverse strength of the L2 penalty, as for `fit_map`.  If there are several values (``auto``: 1e-4 to 100),
        the probes of the chosen cells select one of them by cross-validation; the map that chooses the cells uses 1.
    false_alarms : sequence of float
        The false-alarm rates to set thresholds for, as shares of the correct answers, between 0 and 1.
    fallback : (int, str), "best" or None
        The cell for answers that lack a position of `cells`.  ``best``: the cell with the highest AUC among the
        positions that all answers have, positions of the exact answer excluded, because a new answer may lack them.
        None: such answers get no score.  The fallback is fitted and evaluated on all answers; its calibration takes
        into account how often answers that lack a position of `cells` are correct, which is mostly less often.
    seed : int
        Seed of the held-out questions and of the folds.
    provenance : Provenance, optional
        The model and the task that the states come from; see `Provenance.of`.  Without it, the detector can score
        states but not texts: the score of a text depends on the prompt, the hook point and the locator.
    progress : callable
        Called with the number of layers that are done, and their total number.

    Returns
    -------
    Detector

    Raises
    ------
    MapError
        As for `fit_map`.
    DetectorError
        If a cell does not exist, a false-alarm rate is not between 0 and 1, or there are fewer than 20 correct or
        incorrect held-out answers.

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
    if any(not 0 <= rate <= 1 for rate in false_alarms):
        raise DetectorError(
            f"false_alarms are {list(false_alarms)}", "false-alarm rates are shares of the correct answers, from 0 to 1"
        )
    c_values = parse_c(c)
    source = as_source(
        activations,
        None if layers is None else elements(layers, "layers"),
        None if positions is None else elements(positions, "positions"),
    )
    if provenance is not None:
        _check_provenance(activations, provenance)
    group = group_numbers(groups, source.n)
    is_held_out = hold_out(held_out, group, seed)
    labels = parse_labels(correct, source.n)
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
        false_alarms=tuple(false_alarms),
        seed=seed,
    )
    primary_cells = [(cell.layer, cell.position) for cell in probe_map.best()] if cells == "best" else list(cells)
    primary = heads.fit(primary_cells, np.zeros(source.n, bool))
    complete = _complete_positions(source)
    if fallback is None or {position for _, position in primary_cells} <= set(complete):
        return Detector(primary, None, provenance, seed)
    if not isinstance(fallback, str):
        fallback_cell = fallback
    elif complete:
        (best,) = probe_map.only(complete).best()
        fallback_cell = (best.layer, best.position)
    else:
        raise DetectorError(
            "every position is missing in some answer, or depends on the exact answer: none can serve as fallback",
            "capture last_q or -1 as well, or use fallback=None",
        )
    needs_fallback = ~has_all_cells(heads.states(primary_cells))
    return Detector(primary, heads.fit([fallback_cell], needs_fallback), provenance, seed)


def _check_provenance(activations: Any, provenance: Provenance) -> None:
    """Raise an error if the activations, where they record it, come from another model or hook point."""
    layout = getattr(activations, "layout", None)
    for name, captured, expected in (
        ("hook point", getattr(layout, "site", ""), provenance.site),
        ("model revision", getattr(activations, "revision", ""), provenance.revision),
        ("chat template", getattr(activations, "template", ""), provenance.template),
    ):
        if captured and expected and captured != expected:
            raise DetectorError(
                f"the {name} of the activations is {captured[:16]!r}, that of the provenance {expected[:16]!r}",
                "use Provenance.of(activations, task)",
            )


def _complete_positions(source: ActivationSource) -> list[str]:
    """Return the positions that every answer has, undecided ones included, and that do not need an exact answer."""
    missing = np.isnan(source.read(source.layers[0])[:, :, 0])
    return [p for k, p in enumerate(source.positions) if not missing[:, k].any() and "exact_answer" not in p]
