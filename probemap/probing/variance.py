"""Variance inflation of cross-validated AUCs, which is caused by errors in the probes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from probemap.probing.plan import HELD_OUT

if TYPE_CHECKING:
    from probemap.probing.auc import Bools, Ints
    from probemap.probing.plan import ProbePlan

_LIMIT = 1.5  # the true share is at most 1, but an estimate may exceed 1 by chance


def variance_inflation(
    values: npt.NDArray[np.floating], plan: ProbePlan, *, fold: Ints, correct: Bools, choice: Ints
) -> float:
    """Return the share of the within-class variance in the scores that is due to errors in the probe.

    In cross-validation, the answers on which one probe is evaluated are also used to train the other probes.  The
    errors of the K outer folds are therefore correlated.  To first order, the weights of a probe are w = Σ_l (δ + e_l),
    where l runs over its training folds, δ is common to all folds, and e_l is specific to fold l.  If w_k are the
    weights of the probe that is evaluated on fold k, the deviation of the summed AUC from the true AUC of the same
    probes is then Σ_k w_k · e_k, with variance K (K-1)² δ² + 2 K (K-1) e².  The variance that is computed from the
    placement values of each fold treats the probe as fixed, and includes only K (K-1)² δ² + K (K-1) e².  The true
    variance is therefore 1 + ρ times the computed variance, with ρ = e² / ((K-1) δ² + e²).  This function returns ρ,
    which is 1 if the states contain no signal and close to 0 if the probe is precise.

    ρ is estimated from the agreement between probes on answers that were used to train neither of them.  The probe
    fitted without folds k and j and the probe fitted without folds k and j' have K - 2 training folds each, of which
    they share K - 3.  Therefore, 1 minus the correlation of their scores is a = e² / ((K-2)² δ² + (K-2) e²), from which
    ρ follows.  If there are no inner folds, ρ is assumed to be 1.  If answers are held out, ρ is 0, because no probe is
    trained on the evaluated answers.

    If the states contain no signal, the estimate is above 1 as often as it is below 1.  Truncating it at 1 would make
    the intervals too short on average.  It is therefore truncated at 1.5.

    Parameters
    ----------
    values : ndarray of shape (n_sets, n_c_values, n)
        Scores of all answers, computed with the probe of each training set and C value.
    plan : ProbePlan
    fold : ndarray of shape (n,), int
        Fold of each answer that has a token at the position.
    correct : ndarray of shape (n,), bool
    choice : ndarray of shape (n_outer_folds,), int
        Index of the C value selected for each outer fold.

    Returns
    -------
    float
        Between 0 and 1.5.
    """
    outer_folds, excluded = plan.outer_folds, plan.excluded_folds
    if outer_folds == [HELD_OUT]:
        return 0.0
    if not plan.nested:
        return 1.0
    n_folds = len(outer_folds)
    between_probes = total = 0.0
    for row, k in enumerate(outer_folds):
        evaluated = fold == k
        pairs = [excluded.index(frozenset({k, j})) for j in outer_folds if j != k]
        scores = values[pairs, choice[row]][:, evaluated].astype(np.float64)
        for side in (True, False):
            if (in_class := correct[evaluated] == side).sum() > 1:
                centred = scores[:, in_class] - scores[:, in_class].mean(1, keepdims=True)
                total += float((centred**2).mean(0).sum())
                # Unbiased variance between the probes: deviations of their scores from the mean over the probes.
                between_probes += float(centred.var(axis=0, ddof=1).sum())
    a = between_probes / total if total > 0 else 1 / (n_folds - 2)
    return float(min(a * (n_folds - 2) ** 2 / (n_folds - 1 - (n_folds - 2) * a), _LIMIT))
