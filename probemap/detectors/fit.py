"""`fit_detector`: from hidden states and labels to a detector.

One part of the questions chooses, fits and calibrates the detector; the held-out part evaluates it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from probemap.activations.source import ActivationSource, as_source
from probemap.detectors.calibration import calibrate, calibration_noise
from probemap.detectors.detector import Detector
from probemap.detectors.head import Cell, Evaluation, Head, Threshold
from probemap.detectors.provenance import Provenance
from probemap.maps.fit import fit_map
from probemap.maps.probe_map import ProbeMap
from probemap.probing.auc import Bools, Floats, Ints, auc_interval, aucs
from probemap.probing.c_values import parse_c
from probemap.probing.folds import group_numbers, hold_out
from probemap.probing.inference import sum_by_group
from probemap.probing.inputs import Column, Labels, elements, parse_labels
from probemap.probing.metrics import calibration_errors
from probemap.records import DetectorError

MIN_HELD_OUT = 20
"""Minimum number of correct, and of incorrect, held-out answers for an evaluation."""

_NAN = float("nan")
_NOT_EVALUATED = Evaluation(
    n=0,
    n_correct=0,
    auc=_NAN,
    auc_low=_NAN,
    auc_high=_NAN,
    brier=_NAN,
    calibration_error=_NAN,
    calibration_noise=_NAN,
)


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
        The model and the task that the states come from, see `Provenance.of`.  Without it, the detector can score
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
    heads = _HeadFitter(
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
    needs_fallback = ~_has_all_cells(heads.states(primary_cells))
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


@dataclass(frozen=True, kw_only=True)
class _HeadFitter:
    """Fits, calibrates and evaluates the heads of one detector, all on the same split of the answers."""

    source: ActivationSource
    probe_map: ProbeMap
    labels: Floats
    """(n,): 1 correct, 0 incorrect, NaN undecided."""
    held_out: Bools
    """(n,)."""
    evaluate: bool
    """Whether held-out answers were requested.  If so, too few of them are an error."""
    group: Ints
    """(n,)."""
    c_values: tuple[float, ...]
    false_alarms: tuple[float, ...]
    seed: int

    def fit(self, cells: Sequence[tuple[int, str]], subset: Bools) -> Head:
        """Return the head of some cells.

        Parameters
        ----------
        cells : sequence of (int, str)
        subset : ndarray of shape (n,), bool
            The answers that the head is going to score, if it is a fallback; all False for the primary head.
        """
        self._check_cells(cells)
        states, correct = self.states(cells), self.labels == 1
        usable = _has_all_cells(states) & ~np.isnan(self.labels)
        training = usable & ~self.held_out
        out_of_fold = [self._out_of_fold_scores(states[:, k]) for k in range(len(cells))]
        scores = np.mean([cell_scores for cell_scores, _ in out_of_fold], axis=0)
        probes = np.stack(
            [fit_probe(states[training, k], correct[training], c) for k, (_, c) in enumerate(out_of_fold)]
        )
        calibration = calibrate(scores[training], correct[training], subset[training])
        scores = scores + calibration.shift * subset
        head = Head(
            cells=tuple(Cell(*cell) for cell in cells),
            weight=probes[:, :-1],
            bias=probes[:, -1],
            calibration=calibration.parameters,
            calibration_method=calibration.method,
            evaluation=_NOT_EVALUATED,
            thresholds=(),
        )
        head = replace(head, thresholds=self._thresholds(head, scores[training], correct[training]))
        if self.evaluate:
            rows = usable & self.held_out
            new_scores = head.scores(states[rows]) + calibration.shift * subset[rows]
            head = _evaluated(head, new_scores, correct[rows], self.group[rows])
        # The exported head sees answers of the subset only, so that their shift becomes part of the bias.
        return replace(head, bias=head.bias + calibration.shift)

    def _check_cells(self, cells: Sequence[tuple[int, str]]) -> None:
        layers, positions = self.probe_map.layers, self.probe_map.positions
        unknown = [cell for cell in cells if cell[0] not in layers or cell[1] not in positions]
        if not cells or unknown:
            raise DetectorError(
                f"the map has no cell {unknown[0]}" if unknown else "cells is empty",
                f"layers are {layers[0]} to {layers[-1]}; positions are {', '.join(positions)}",
            )
        if any(bool(self.probe_map.auc.sel(layer=layer, position=position).isnull()) for layer, position in cells):
            raise DetectorError(
                f"too few answers have the positions of {cells}", "ask more questions, or use other cells"
            )

    def _out_of_fold_scores(self, states: npt.NDArray[np.float32]) -> tuple[Floats, float]:
        """Return the out-of-fold scores of one cell and the C value of its probes.

        Parameters
        ----------
        states : ndarray of shape (n, d), float32

        Returns
        -------
        tuple of (ndarray of shape (n,), float)
            NaN for answers that are held out, undecided, or lack the position.
        """
        training = ~self.held_out & ~np.isnan(self.labels)

        def fitted(c_values: Sequence[float]) -> ProbeMap:
            rows, right, group = states[training], self.labels[training] == 1, self.group[training]
            return fit_map(rows[:, None, None], right, groups=group, c=c_values, nested=False, seed=self.seed)

        chosen = self.c_values
        if len(chosen) > 1:
            chosen = (fitted(chosen).data["c"].item(),)
        scores = np.full(len(training), np.nan)
        # All folds use the C value of the final probe, so that its scores have the scale of those that calibrate it.
        scores[training] = fitted(chosen).data["scores"].values.ravel()
        return scores, chosen[0]

    def _thresholds(self, head: Head, scores: Floats, correct: Bools) -> tuple[Threshold, ...]:
        """Return the quantiles of the out-of-fold scores of correct answers as thresholds, not evaluated yet."""
        quantiles = [float(np.quantile(scores[correct], rate)) for rate in self.false_alarms]
        probabilities = head.probabilities(np.array(quantiles)).tolist()
        return tuple(
            Threshold(
                false_alarms=rate,
                score=score,
                p_correct=p,
                flagged_correct=_NAN,
                flagged_incorrect=_NAN,
                precision=_NAN,
            )
            for rate, score, p in zip(self.false_alarms, quantiles, probabilities, strict=True)
        )

    def states(self, cells: Sequence[tuple[int, str]]) -> npt.NDArray[np.float32]:
        """Return the states of some cells, ndarray of shape (n, n_cells, d); NaN where an answer lacks the position."""
        columns = [(layer, self.source.positions.index(position)) for layer, position in cells]
        return np.stack([self.source.read(layer)[:, column] for layer, column in columns], axis=1)


def _evaluated(head: Head, scores: Floats, correct: Bools, group: Ints) -> Head:
    """Return the head with its evaluation, and with thresholds that are evaluated.

    Parameters
    ----------
    scores, correct, group : ndarray of shape (n_held_out,)
    """
    n_correct, n_incorrect = int(correct.sum()), int((~correct).sum())
    if min(n_correct, n_incorrect) < MIN_HELD_OUT:
        raise DetectorError(
            f"{n_correct} correct and {n_incorrect} incorrect answers are held out, expected at least {MIN_HELD_OUT} "
            "of each",
            "ask more questions, or hold out a larger share",
        )
    p = head.probabilities(scores)
    estimate = aucs(scores[:, None], correct)
    auc, variance = float(estimate.value[0]), float((sum_by_group(estimate.influence, group) ** 2).sum())
    low, high = auc_interval(auc, variance, n_correct, n_incorrect)
    evaluation = Evaluation(
        n=len(correct),
        n_correct=n_correct,
        auc=auc,
        auc_low=low,
        auc_high=high,
        brier=float(((p - correct) ** 2).mean()),
        calibration_error=float(calibration_errors(p[:, None], correct)[0]),
        calibration_noise=calibration_noise(p),
    )
    thresholds = []
    for threshold in head.thresholds:
        flagged = scores < threshold.score
        thresholds.append(
            replace(
                threshold,
                flagged_correct=float(flagged[correct].mean()),
                flagged_incorrect=float(flagged[~correct].mean()),
                precision=float((~correct)[flagged].mean()) if flagged.any() else _NAN,
            )
        )
    return replace(head, evaluation=evaluation, thresholds=tuple(thresholds))


def _has_all_cells(states: npt.NDArray[np.float32]) -> Bools:
    """Return which answers have the positions of all cells, (n,), from states of shape (n, n_cells, d)."""
    return np.asarray(~np.isnan(states[:, :, 0]).any(axis=1))


def _complete_positions(source: ActivationSource) -> list[str]:
    """Return the positions that every answer has, undecided ones included, and that do not need an exact answer."""
    missing = np.isnan(source.read(source.layers[0])[:, :, 0])
    return [p for k, p in enumerate(source.positions) if not missing[:, k].any() and "exact_answer" not in p]


def fit_probe(states: npt.NDArray[np.float32], correct: Bools, c: float) -> Floats:
    """Fit a logistic regression to standardised states, and fold the standardisation into its weights.

    Parameters
    ----------
    states : ndarray of shape (n, d), float32
    correct : ndarray of shape (n,), bool
    c : float
        The inverse strength of the L2 penalty.

    Returns
    -------
    ndarray of shape (d + 1,), float64
        The weights, then the bias; for unscaled states.
    """
    x = states.astype(np.float64)
    mean, scale = x.mean(axis=0), x.std(axis=0)
    divisor = np.where(scale > 0, scale, np.inf)  # a constant feature gets the weight 0
    probe = LogisticRegression(C=c, tol=1e-8, max_iter=10_000).fit((x - mean) / divisor, correct)
    weight = probe.coef_[0] / divisor
    return np.append(weight, probe.intercept_[0] - weight @ mean)
