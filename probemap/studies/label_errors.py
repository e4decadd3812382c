"""Estimate how often verdicts are wrong, and the AUC that correct verdicts would give.

The estimates use the labels that a person has assigned to a random sample of the answers.  The formula for the
corrected AUC is from Menon et al. 2015 (Learning from corrupted binary labels via class-probability estimation, ICML).
It holds if, among answers with the same label, the distribution of scores does not depend on the verdict.  A stratified
rank test (van Elteren 1960) checks this: it compares the scores of answers with the same label but different verdicts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit, logit
from scipy.stats import beta as beta_distribution
from scipy.stats import norm, rankdata

from probemap.probing.auc import LEVEL, MIN_PER_CLASS, auc_interval, aucs, expand_rows
from probemap.probing.folds import group_numbers
from probemap.probing.inference import sum_by_group
from probemap.probing.inputs import Column, Labels, elements, parse_labels
from probemap.records import MapError
from probemap.tables import Interval

if TYPE_CHECKING:
    import numpy.typing as npt

    from probemap.probing.auc import Bools, Floats, Ints

DRAWS = 20_000
"""Number of random values that are drawn from the distributions of the AUC and of the error rates."""

_NONE = Interval(math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class ErrorRate:
    """Share of the verdicts of one kind that are wrong, estimated from a sample.

    The posterior distribution of the true share is the beta distribution that follows from Jeffreys's prior and a
    simple random sample of `effective` answers (Franco et al. 2019, J. Surv. Stat. Methodol. 7:334).
    """

    value: float
    """Weighted share of wrong verdicts.  NaN if no answer with a verdict of this kind was labelled."""
    n: int
    """Number of labelled answers."""
    errors: int
    """Number of labelled answers with a wrong verdict."""
    effective: float
    """Size of a simple random sample with the same precision.  Infinite if all answers of this kind were labelled."""

    @property
    def interval(self) -> Interval:
        """The share and its 95 % interval.  All values are NaN if no answer was labelled."""
        if not self.n:
            return _NONE
        if math.isinf(self.effective):
            return Interval(self.value, self.value, self.value)
        tail = (1 - LEVEL) / 2
        low, high = (float(beta_distribution.ppf(level, *self._parameters)) for level in (tail, 1 - tail))
        return Interval(self.value, low if self.errors else 0.0, high if self.errors < self.n else 1.0)

    def draw(self, rng: np.random.Generator) -> Floats:
        """Draw `DRAWS` values from the distribution of the true share."""
        if math.isinf(self.effective):
            return np.full(DRAWS, self.value)
        return rng.beta(*self._parameters, DRAWS)

    @property
    def _parameters(self) -> tuple[float, float]:
        return self.value * self.effective + 0.5, (1 - self.value) * self.effective + 0.5


@dataclass(frozen=True, kw_only=True)
class LabelAudit:
    """Error rates of verdicts, and their consequences for an AUC.  Values that cannot be estimated are NaN.

    Examples
    --------
    A person has labelled 20 of 100 answers with the verdict "correct", and one of these verdicts is wrong:

    >>> import probemap
    >>> audit = probemap.audit_labels([True] * 100, [False, *[True] * 19, *[None] * 80])
    >>> audit.alpha.errors, audit.alpha.interval.text
    (1, '0.050 [0.007, 0.188]')
    """

    alpha: ErrorRate
    """Share of the verdicts "correct" that are wrong."""
    beta: ErrorRate
    """Share of the verdicts "incorrect" that are wrong."""
    auc: Interval = _NONE
    """AUC of the scores against the verdicts, with its 95 % confidence interval."""
    corrected: Interval = _NONE
    """AUC that correct verdicts would give, with its 95 % confidence interval.  It is valid only if label errors do not
    depend on the scores."""
    audited: Interval = _NONE
    """AUC against the person's labels, computed from the labelled answers only, with its 95 % confidence interval.  It
    is valid even if label errors depend on the scores."""
    p: float = math.nan
    """P-value for the hypothesis that label errors do not depend on the scores.  NaN if no errors were found."""
    problem: str = ""
    """Reason why `corrected` is NaN, or an empty string."""

    @property
    def depends(self) -> bool:
        """True if label errors depend on the scores (p < 0.05).  In this case, `corrected` is not valid."""
        return self.p < 1 - LEVEL


def audit_labels(
    verdicts: Labels,
    labels: Labels,
    scores: npt.ArrayLike | None = None,
    *,
    weights: npt.ArrayLike | None = None,
    strata: Column | None = None,
    folds: npt.ArrayLike | None = None,
    groups: Column | None = None,
    variance_factor: float = 1.0,
) -> LabelAudit:
    """Estimate how often verdicts are wrong, and the AUC that correct verdicts would give.

    α is the share of the verdicts "correct" that the person calls incorrect, and β is the share of the verdicts
    "incorrect" that the person calls correct.  The corrected AUC is (AUC - 0.5) / (1 - α - β) + 0.5.

    Parameters
    ----------
    verdicts : array-like of shape (n,)
        The verdicts: True, False, or None for undecided answers, which are ignored.
    labels : array-like of shape (n,)
        The person's labels: True, False, or None for answers that the person did not label or could not decide.
    scores : array-like of shape (n,) or (n_repeats, n), optional
        Out-of-fold scores of a probe, NaN for answers without a score.  If given, all estimates refer to the answers
        that have a score.
    weights : array-like of shape (n,), optional
        Inverse of the probability with which each labelled answer was drawn; see `draw_audit`.  The weights of other
        answers are ignored.  Default: equal weights.
    strata : array-like of shape (n,), optional
        Stratum from which each answer was drawn.  If errors are more common in some strata than in others, passing the
        strata makes the intervals of the error rates narrower.  Default: a single stratum.
    folds : array-like of shape (n,) or (n_repeats, n), int, optional
        Fold of each answer.  Only scores in the same fold are on the same scale.  Default: a single fold.
    groups : array-like of shape (n,), optional
        Group of each answer, e.g. its question.  Default: each answer is its own group.
    variance_factor : float, default=1.0
        Factor by which the variance of the AUC is multiplied, to account for cross-validation.

    Returns
    -------
    LabelAudit

    Raises
    ------
    MapError
        If the arguments have different lengths, or if a weight is not positive.

    Examples
    --------
    A tenth of the verdicts is wrong at random, and a person has labelled 200 of the 1000 answers:

    >>> import numpy as np
    >>> import probemap
    >>> rng = np.random.default_rng(0)
    >>> truth = rng.random(1000) < 0.5
    >>> scores = rng.normal(size=1000) + 1.5 * truth  # the AUC is 0.856
    >>> verdicts = truth ^ (rng.random(1000) < 0.1)
    >>> labels = [bool(label) if k < 200 else None for k, label in enumerate(truth)]
    >>> audit = probemap.audit_labels(verdicts, labels, scores)
    >>> audit.auc.high < 0.856, audit.corrected.low < 0.856 < audit.corrected.high
    (True, True)
    >>> audit.depends
    False
    """
    values = elements(verdicts, "verdicts")
    n = len(values)
    verdict_of = parse_labels(values, n)
    label_of = parse_labels(labels, n)
    weight = np.ones(n) if weights is None else _column(weights, n, "weights")[0]
    stratum = np.zeros(n, np.int64) if strata is None else group_numbers(strata, n)
    group = group_numbers(groups, n)
    decided = np.array([verdict is not None for verdict in verdict_of], np.bool_)
    verdict = np.array([value is True for value in verdict_of], np.bool_)
    label = np.array([value is True for value in label_of], np.bool_)
    labelled = decided & np.array([value is not None for value in label_of], np.bool_)
    if labelled.any() and not (weight[labelled] > 0).all():
        raise MapError(
            "the weight of a labelled answer is not positive",
            "pass the inverse of the probability with which the answer was drawn",
        )
    if scores is None:
        alpha, beta = _error_rates(decided, labelled, verdict, verdict != label, weight, stratum)
        return LabelAudit(alpha=alpha, beta=beta)
    score = _column(scores, n, "scores")
    score[:, ~decided] = np.nan
    fold = np.zeros(score.shape, np.int64) if folds is None else _column(folds, n, "folds").astype(np.int64)
    if len(fold) != len(score):
        raise MapError(f"got folds for {len(fold)} repeats and scores for {len(score)}", "pass one row per repeat")
    scored = np.asarray(~np.isnan(score).all(axis=0), np.bool_)
    labelled = labelled & scored
    alpha, beta = _error_rates(scored, labelled, verdict, verdict != label, weight, stratum)
    value, variance = _auc(score, fold, verdict, group)
    counts = int((scored & verdict).sum()), int((scored & ~verdict).sum())
    auc = Interval(value, *auc_interval(value, variance * variance_factor, *counts))
    corrected, problem = _corrected(auc, variance * variance_factor, min(counts), alpha, beta)
    percentile = _percentiles(score, fold)
    # In cross-validation, the answers on which one probe is evaluated are training data of the other probes.  For
    # scores without information, this doubles the variance of a statistic that uses all answers.  If the statistic uses
    # only a part of the answers, the increase is proportional to the share that it uses.
    is_cross_validated = any(len(np.unique(folds[scored])) > 1 for folds in fold)
    inflation = 1 + labelled.sum() / max(scored.sum(), 1) if is_cross_validated else 1.0
    return LabelAudit(
        alpha=alpha,
        beta=beta,
        auc=auc,
        corrected=corrected,
        audited=_weighted_auc(percentile[labelled], label[labelled], weight[labelled], group[labelled]),
        p=dependence(percentile[labelled], verdict[labelled], label[labelled], inflation),
        problem=problem,
    )


def _column(values: npt.ArrayLike, n: int, name: str) -> Floats:
    """Return numbers as an array of shape (n_repeats, n), with one repeat if the input has one dimension."""
    array = np.atleast_2d(np.array(values, np.float64))
    if array.ndim != 2 or array.shape[1] != n:
        raise MapError(
            f"{name} has shape {np.shape(values)}, but there are {n} verdicts", f"pass {name} with one value per answer"
        )
    return array


def _error_rates(
    rows: Bools, labelled: Bools, verdict: Bools, is_error: Bools, weight: Floats, stratum: Ints
) -> tuple[ErrorRate, ErrorRate]:
    """Return α and β for the verdicts in `rows`, estimated from the labelled answers among them."""
    samples = [(labelled & (verdict == side), int((rows & (verdict == side)).sum())) for side in (True, False)]
    alpha, beta = (_error_rate(is_error[s], weight[s], stratum[s], n_answers) for s, n_answers in samples)
    return alpha, beta


def _error_rate(is_error: Bools, weight: Floats, stratum: Ints, n_answers: int) -> ErrorRate:
    n, errors = len(is_error), int(is_error.sum())
    if not n:
        return ErrorRate(math.nan, 0, 0, 0.0)
    value = float(weight @ is_error / weight.sum())
    if n == n_answers:
        return ErrorRate(value, n, errors, math.inf)
    effective = float(weight.sum() ** 2 / (weight**2).sum()) / (1 - n / n_answers)
    # The design effect is the ratio of the variances with and without strata.  The error rate of each stratum is shrunk
    # towards the overall error rate.
    numbers = np.unique(stratum, return_inverse=True)[1]
    counts = np.bincount(numbers)
    share = (np.bincount(numbers, is_error) + value) / (counts + 1)
    size = np.bincount(numbers, weight) / weight.sum()
    overall = float(size @ share)
    stratified = float((size**2 * share * (1 - share) / counts).sum())
    simple = float((size**2 * overall * (1 - overall) / counts).sum())
    return ErrorRate(value, n, errors, effective * simple / stratified if stratified > 0 else effective)


def _auc(score: Floats, fold: Ints, correct: Bools, group: Ints) -> tuple[float, float]:
    """Return the AUC, averaged over repeats, and its variance."""
    values, influences = [], []
    for scores, folds in zip(score, fold, strict=True):
        rows = np.asarray(~np.isnan(scores), np.bool_)
        estimate = aucs(scores[rows, None], correct[rows], folds[rows])
        values.append(float(estimate.value[0]))
        influences.append(expand_rows(estimate.influence, rows))
    return float(np.mean(values)), float((sum_by_group(np.mean(influences, axis=0), group) ** 2).sum())


def _corrected(
    auc: Interval, variance: float, smaller_class: int, alpha: ErrorRate, beta: ErrorRate
) -> tuple[Interval, str]:
    """Return the corrected AUC with its interval, or NaN and the reason why there is no corrected AUC.

    The interval is obtained by drawing the AUC and both error rates from their distributions.
    """
    if math.isnan(auc.value):
        return _NONE, "there is no AUC to correct"
    for rate, verdict in ((alpha, "correct"), (beta, "incorrect")):
        if not rate.n:
            return _NONE, f'no answer with the verdict "{verdict}" was labelled'
    rng = np.random.default_rng(0)
    tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    share = 1 - alpha.draw(rng) - beta.draw(rng)
    value = 1 - alpha.value - beta.value
    low, high = (float(end) for end in np.quantile(share, tails))
    if low <= 0:
        low, high = min(low, value), max(high, value)
        return _NONE, f"1 - α - β is {value:.2f} [{low:.2f}, {high:.2f}], which is not clearly positive"
    draws = (_draw_auc(auc.value, variance, smaller_class, rng) - 0.5) / share + 0.5
    low, high = (float(end) for end in np.quantile(draws, tails))
    if low > 1 or high < 0:
        return _NONE, f"the formula gives an AUC of {(auc.value - 0.5) / value + 0.5:.2f}, which is not possible"
    ends = np.clip([(auc.value - 0.5) / value + 0.5, low, high], 0, 1)
    return Interval(*(float(end) for end in ends)), ""


def _draw_auc(value: float, variance: float, smaller_class: int, rng: np.random.Generator) -> Floats:
    """Draw from the distribution on which `auc_interval` is based."""
    if variance <= 0 and 0 < value < 1:  # all scores are equal
        return rng.random(DRAWS)
    if variance <= 0 or not 0 < value < 1:
        edge = rng.random(DRAWS) ** (1 / max(smaller_class, 1))
        return edge if value >= 0.5 else 1 - edge
    error = math.sqrt(variance) / (value * (1 - value))
    return np.asarray(expit(logit(value) + error * rng.standard_normal(DRAWS)))


def _percentiles(score: Floats, fold: Ints) -> Floats:
    """Return the rank of each score within its fold, between 0 and 1, averaged over repeats."""
    ranks = np.full(score.shape, np.nan)
    for repeat, folds in enumerate(fold):
        for number in np.unique(folds):
            rows = (folds == number) & ~np.isnan(score[repeat])
            ranks[repeat, rows] = rankdata(score[repeat, rows]) / (rows.sum() + 1)
    scored = ~np.isnan(ranks).all(axis=0)
    mean = np.full(score.shape[1], np.nan)
    mean[scored] = np.nanmean(ranks[:, scored], axis=0)
    return mean


def _weighted_auc(score: Floats, correct: Bools, weight: Floats, group: Ints) -> Interval:
    """Return the AUC of weighted answers and its interval, or NaN if a class has fewer than `MIN_PER_CLASS` answers."""
    counts = int(correct.sum()), int((~correct).sum())
    if min(counts) < MIN_PER_CLASS:
        return _NONE
    positive, negative = score[correct], score[~correct]
    share = [weight[rows] / weight[rows].sum() for rows in (correct, ~correct)]
    above = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    placement = above @ share[1], share[0] @ above
    value = float(share[0] @ placement[0])
    influence = np.zeros((len(score), 1))
    for rows, count, shares, placements in zip((correct, ~correct), counts, share, placement, strict=True):
        influence[rows, 0] = shares * (placements - value) * math.sqrt(count / (count - 1))
    variance = float((sum_by_group(influence, group) ** 2).sum())
    return Interval(value, *auc_interval(value, variance, *counts))


def dependence(score: Floats, verdict: Bools, label: Bools, inflation: float = 1.0) -> float:
    """Return the p-value of van Elteren's test, which compares the scores of answers with the same label.

    The null hypothesis is that the scores depend on the label only.  Under this hypothesis, the verdicts of answers
    with the same label are exchangeable.

    Parameters
    ----------
    score : ndarray of shape (n,)
        Scores that are comparable with each other.
    verdict, label : ndarray of shape (n,), bool
        Whether the verdict and the person call each answer correct.
    inflation : float, default=1.0
        Factor by which the variance of the statistic is multiplied.

    Returns
    -------
    float
        The two-sided p-value from a normal approximation with continuity correction, or NaN if all answers with the
        same label have the same verdict.
    """
    total = variance = half_step = 0.0
    for side in (True, False):
        rows = label == side
        n, n_correct = int(rows.sum()), int(verdict[rows].sum())
        if not 0 < n_correct < n:
            continue
        ranks = (rankdata(score[rows]) - (n + 1) / 2) / (n + 1)
        total += float(ranks[verdict[rows]].sum())
        variance += float((ranks**2).sum()) * n_correct * (n - n_correct) / (n * (n - 1))
        half_step = max(half_step, 0.5 / (n + 1))
    if variance <= 0:
        return math.nan
    # The half step is the continuity correction.
    return float(2 * norm.sf(max(abs(total) - half_step, 0) / math.sqrt(variance * inflation)))
