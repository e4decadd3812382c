"""From states and verdicts to a detector: chosen, fitted and calibrated on some questions, judged on the others."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from probemap.activations.source import ActivationSource, as_source
from probemap.detectors.detector import Detector
from probemap.detectors.head import Branch, Cell, Quality, Threshold
from probemap.detectors.provenance import Provenance
from probemap.maps.fit import fit_map, parse_strengths
from probemap.maps.probe_map import ProbeMap
from probemap.probing.auc import Bools, Floats, Ints, aucs, by_group, interval
from probemap.probing.folds import group_numbers, hold_out
from probemap.probing.inputs import Column, Labels, elements, parse_labels
from probemap.probing.metrics import calibration_errors
from probemap.records import DetectorError

ISOTONIC = 1000
"""Answers from which on a calibration may follow any rising curve; with fewer it has two parameters."""
LEEWAY = 2.0
"""Log-odds by which answers that lack a position may be expected to differ from others."""
FLATTEST = 0.01
"""Log-odds by which a standard deviation of scores that say nothing moves a probability: so little, but not 0, that
what is said of a kind of answers can be said in scores."""
FEWEST = 20
"""Right, and wrong, answers without which a branch is not judged."""

_NAN = float("nan")


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
    """Choose cells by a map of some of the questions, fit and calibrate there, and judge on the others.

    The chosen cells' scores, out of fold, calibrate: by Platt's two parameters, or from `ISOTONIC` answers on by
    isotonic regression (Niculescu-Mizil & Caruana 2005).  They also set the thresholds.  The probe is then fitted on
    all answers that chose it.

    Parameters
    ----------
    activations, correct, groups, layers, positions, progress: as for `fit.fit_map`.
    cells: ``best``, the highest cell of the map; or the cells (layer, position) whose scores are averaged.
    held_out: the answers that judge, a share of the groups or (n,) bool; None: all answers choose, fit and calibrate,
        and nothing says what the detector is worth.
    c: inverse strength of the L2 penalty, as for `fit.fit_map`: of the map that chooses the cells, and of their probes.
        Of several (``"auto"``: 1e-4 to 100) only the probes of the chosen cells take their own, by folds; the map that
        chooses them has 1.
    false_alarms: shares of right answers that may be flagged, one threshold each.
    fallback: the cell for answers that lack a position of `cells`: ``best`` is the highest among the columns that every
        answer has, the exact answer's left out, because a new answer may come without; None: such answers are not
        judged.  It is fitted and judged on all answers, and knows which of them lack a position of `cells`: mostly
        they are wrong more often than its scores say.
    provenance: the model and the task that the states belong to, see `Provenance.of`.  None: the detector scores states
        only, because the score of a text depends on the prompt, the hook point and the locator.

    Raises
    ------
    MapError: as `fit.fit_map`.
    DetectorError: a cell that is not there, too few answers to judge it on, or a share that is none.
    """
    if any(not 0 <= share <= 1 for share in false_alarms):
        raise DetectorError(f"false_alarms are {list(false_alarms)}", "give shares between 0 and 1")
    strengths = parse_strengths(c)
    source = as_source(
        activations,
        None if layers is None else elements(layers, "layers"),
        None if positions is None else elements(positions, "positions"),
    )
    group = group_numbers(groups, source.n)
    apart = hold_out(held_out, group, seed)
    labels = parse_labels(correct, source.n)
    training = [None if out else label for label, out in zip(labels, apart.tolist(), strict=True)]
    made = fit_map(
        activations,
        training,
        groups=groups,
        layers=layers,
        positions=positions,
        c=strengths[0] if len(strengths) == 1 else 1.0,
        nested=False,
        seed=seed,
        progress=progress,
    )
    verdicts = np.array([np.nan if label is None else float(label) for label in labels])
    job = _Job(source, made, verdicts, apart, held_out is not None, group, strengths, tuple(false_alarms), seed)
    chosen = [(best.layer, best.position) for best in made.best()] if cells == "best" else list(cells)
    main = job.branch(chosen, np.zeros(source.n, bool))
    everywhere = _everywhere(source)
    if fallback is None or {p for _, p in chosen} <= set(everywhere):
        return Detector(main, None, provenance, seed)
    lacking = ~_whole(job.states(chosen))
    if not isinstance(fallback, str):
        return Detector(main, job.branch([fallback], lacking), provenance, seed)
    if not everywhere:
        raise DetectorError(
            "no position is there in every answer, with an exact answer or without",
            "capture last_q or -1 as well, or give fallback=None",
        )
    (spare,) = made.only(everywhere).best()
    return Detector(main, job.branch([(spare.layer, spare.position)], lacking), provenance, seed)


@dataclass(frozen=True)
class _Job:
    source: ActivationSource
    made: ProbeMap
    verdicts: Floats
    """(n,): 1 right, 0 wrong, NaN undecided."""
    apart: Bools
    judging: bool
    """Whether any answers were to be kept apart."""
    group: Ints
    """(n,): the question of each answer."""
    strengths: tuple[float, ...]
    false_alarms: tuple[float, ...]
    seed: int

    def branch(self, cells: Sequence[tuple[int, str]], lacking: Bools) -> Branch:
        """The probes of some cells, from the training answers to what they are worth on the others.

        Parameters
        ----------
        lacking: (n,): which answers a fallback is for; none for the main branch.
        """
        strange = [c for c in cells if c[0] not in self.made.layers or c[1] not in self.made.positions]
        if not cells or strange:
            raise DetectorError(
                f"there is no cell {strange[0] if strange else ''}",
                f"layers {self.made.layers[0]} to {self.made.layers[-1]}; positions {', '.join(self.made.positions)}",
            )
        if any(bool(self.made.auc.sel(layer=layer, position=position).isnull()) for layer, position in cells):
            raise DetectorError(
                f"too few answers have the positions of {cells}", "ask more questions, or choose another cell"
            )
        states, right = self.states(cells), self.verdicts == 1
        there = _whole(states) & ~np.isnan(self.verdicts)
        rows = there & ~self.apart
        found = [self._out_of_fold(states[:, k]) for k in range(len(cells))]
        seen = np.mean([scores for scores, _ in found], axis=0)
        fitted = np.stack([fit_probe(states[rows, k], right[rows], c) for k, (_, c) in enumerate(found)])
        kind, calibration, shift = _calibrate(seen[rows], right[rows], lacking[rows])
        scores = seen + shift * lacking
        unjudged = Quality(0, 0, *[_NAN] * 6)
        places = tuple(Cell(*cell) for cell in cells)
        branch = Branch(places, fitted[:, :-1], fitted[:, -1], calibration, kind, unjudged, ())
        branch = replace(branch, thresholds=self._thresholds(branch, scores[rows], right[rows]))
        if self.judging:
            new = there & self.apart
            branch = self._judged(branch, branch.scores(states[new]) + shift * lacking[new], right[new], new)
        # The answers that it will see are those that it is for.
        return replace(branch, bias=branch.bias + shift)

    def _out_of_fold(self, states: npt.NDArray[np.float32]) -> tuple[Floats, float]:
        """(n,): the scores of a cell, of each training answer by a probe that has not seen it, NaN elsewhere; and the
        strength of these probes.

        Parameters
        ----------
        states: (n, d).
        """
        training = ~self.apart & ~np.isnan(self.verdicts)

        def fitted(strengths: Sequence[float]) -> ProbeMap:
            rows, right, group = states[training], self.verdicts[training] == 1, self.group[training]
            return fit_map(rows[:, None, None], right, groups=group, c=strengths, nested=False, seed=self.seed)

        chosen = self.strengths
        if len(chosen) > 1:
            chosen = (fitted(chosen).data["c"].item(),)
        scores = np.full(len(training), np.nan)
        # All with one strength, that of the probe to come: what it says is as large as what calibrates it.
        scores[training] = fitted(chosen).data["scores"].values.ravel()
        return scores, chosen[0]

    def _thresholds(self, branch: Branch, scores: Floats, correct: Bools) -> tuple[Threshold, ...]:
        """Set on the scores of right answers, out of fold; not judged yet."""
        at = [float(np.quantile(scores[correct], share)) for share in self.false_alarms]
        p = branch.probabilities(np.array(at)).tolist()
        return tuple(Threshold(*one, _NAN, _NAN, _NAN) for one in zip(self.false_alarms, at, p, strict=True))

    def _judged(self, branch: Branch, new: Floats, right: Bools, rows: Bools) -> Branch:
        """The branch with what it and its thresholds are worth on the answers that took no part.

        Parameters
        ----------
        new, right: their scores and verdicts.
        rows: (n,), which they are.
        """
        if min(right.sum(), (~right).sum()) < FEWEST:
            raise DetectorError(
                f"{right.sum()} right and {(~right).sum()} wrong answers are left to judge on: fewer than {FEWEST}",
                "ask more questions, or hold out a larger share",
            )
        p = branch.probabilities(new)
        judged = aucs(new[:, None], right)
        variance = float((by_group(judged.influence, self.group[rows]) ** 2).sum())
        value = float(judged.value[0])
        low, high = interval(value, variance, int(right.sum()), int((~right).sum()))
        brier, error = float(((p - right) ** 2).mean()), float(calibration_errors(p[:, None], right)[0])
        quality = Quality(len(right), int(right.sum()), value, low, high, brier, error, _calibration_noise(p))
        made = []
        for one in branch.thresholds:
            flagged = new < one.score
            made.append(
                replace(
                    one,
                    flagged_right=float(flagged[right].mean()),
                    flagged_wrong=float(flagged[~right].mean()),
                    precision=float((~right)[flagged].mean()) if flagged.any() else _NAN,
                )
            )
        return replace(branch, quality=quality, thresholds=tuple(made))

    def states(self, cells: Sequence[tuple[int, str]]) -> npt.NDArray[np.float32]:
        """(n, cells, d), NaN where an answer lacks the position."""
        columns = [(layer, self.source.positions.index(position)) for layer, position in cells]
        return np.stack([self.source.read(layer)[:, column] for layer, column in columns], axis=1)


def _whole(states: npt.NDArray[np.float32]) -> Bools:
    """(n,): which answers have the positions of all cells, of (n, cells, d)."""
    return np.asarray(~np.isnan(states[:, :, 0]).any(axis=1))


def _everywhere(source: ActivationSource) -> list[str]:
    """The positions that every answer has, right, wrong or undecided, and that need no exact answer."""
    missing = np.isnan(source.read(source.layers[0])[:, :, 0])
    return [p for k, p in enumerate(source.positions) if not missing[:, k].any() and "exact_answer" not in p]


def fit_probe(states: npt.NDArray[np.float32], right: Bools, c: float) -> Floats:
    """(d + 1,): weights and bias of a logistic regression on standardised states, the scaling folded in."""
    x = states.astype(np.float64)
    mean, scale = x.mean(axis=0), x.std(axis=0)
    used = np.where(scale > 0, scale, np.inf)
    probe = LogisticRegression(C=c, tol=1e-8, max_iter=10_000).fit((x - mean) / used, right)
    weight = probe.coef_[0] / used
    return np.append(weight, probe.intercept_[0] - weight @ mean)


def _calibration_noise(p: Floats) -> float:
    draw = np.random.default_rng(0)
    errors = [calibration_errors(p[:, None], draw.random(len(p)) < p)[0] for _ in range(200)]
    return float(np.mean(errors))


_Calibration = tuple[Literal["platt", "isotonic"], Floats, float]
"""Kind and parameters, as `Branch` has them, and what is to be added to the scores of special answers."""


def _calibrate(scores: Floats, correct: Bools, special: Bools) -> _Calibration:
    if special.any():
        return _calibrate_two_kinds(scores, correct, special)
    if len(scores) < ISOTONIC:
        # Without a penalty; the scores are few numbers around 0.
        curve = LogisticRegression(C=np.inf, tol=1e-8, max_iter=10_000).fit(scores[:, None], correct)
        if curve.coef_[0, 0] < 0:
            # Scores that go the wrong way out of fold are noise: they say nothing, not the opposite.
            return "platt", np.array([[0.0], [np.log(correct.mean() / (1 - correct.mean()))]]), 0.0
        return "platt", np.array([[curve.coef_[0, 0]], [curve.intercept_[0]]]), 0.0
    # No finite number of answers makes a probability of 0 or 1.
    edge = 1 / (len(scores) + 2)
    curve = IsotonicRegression(y_min=edge, y_max=1 - edge).fit(scores, correct)
    return "isotonic", np.array([curve.X_thresholds_, curve.y_thresholds_], np.float64), 0.0


def _calibrate_two_kinds(scores: Floats, correct: Bools, special: Bools) -> _Calibration:
    """A logistic regression on score and kind.

    The kind's log-odds have a prior of 0 ± `LEEWAY`, so that a few special answers that are all wrong do not make the
    next one certainly wrong.
    """
    middle, spread = float(scores.mean()), float(scores.std()) or 1.0
    # The penalty is one for both: of a score in small units it asks next to nothing.
    small = 1e-3
    features = np.stack([(scores - middle) / spread / small, LEEWAY * special], axis=1)
    curve = LogisticRegression(C=1.0, solver="newton-cholesky", tol=1e-8, max_iter=10_000)
    if curve.fit(features, correct).coef_[0, 0] < 0:
        # As in `_calibrate`: they say nothing.
        curve.fit(features * [0, 1], correct)
    by_score, by_kind = curve.coef_[0] * [1 / small, LEEWAY]
    slope = max(by_score, FLATTEST) / spread
    return "platt", np.array([[slope], [curve.intercept_[0] - slope * middle]]), float(by_kind / slope)
