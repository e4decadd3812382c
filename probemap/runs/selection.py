"""Counts of verdicts, and warnings if the undecided answers differ from the decided ones.

The map excludes undecided answers.  If they differ from the decided answers in a property that hidden states encode,
such as their length, the map is not representative of all answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from probemap.records import Answer, Verdict

_DIFFERENCE = 0.2
"""The user is warned if two shares, or an AUC and 0.5, differ by more than this value."""
_MINIMUM = 20
"""Minimum number of decided and of undecided answers for a comparison of their lengths and log-probabilities."""


def describe_verdicts(verdicts: Sequence[Verdict]) -> str:
    """Return the numbers of correct, incorrect and undecided answers, and the reasons of the undecided ones.

    Examples
    --------
    >>> from probemap import Verdict
    >>> from probemap.runs.selection import describe_verdicts
    >>> describe_verdicts([Verdict(True, "names an accepted answer"), Verdict(None, "refusal")])
    '2 answers: 1 correct, 0 incorrect, 1 undecided (refusal: 1)'
    """
    n_correct = sum(verdict.correct is True for verdict in verdicts)
    n_incorrect = sum(verdict.correct is False for verdict in verdicts)
    reasons = Counter(verdict.reason for verdict in verdicts if verdict.correct is None)
    listed = ", ".join(f"{reason}: {n}" for reason, n in reasons.most_common())
    return f"{len(verdicts)} answers: {n_correct} correct, {n_incorrect} incorrect, {reasons.total()} undecided" + (
        f" ({listed})" if listed else ""
    )


def selection_warnings(verdicts: Sequence[Verdict], answers: Sequence[Answer]) -> list[str]:
    """Return a warning for each property in which the undecided answers differ clearly from the decided ones.

    The properties are whether an answer was cut off, its number of tokens, and its mean log-probability per token.  For
    the first property, there is a warning if the share of decided answers is more than 20 percentage points lower among
    the answers that were cut off than among the others.  For each of the other two, there is a warning if the property
    separates undecided from decided answers with an AUC above 0.7 or below 0.3 (p < 0.01, Mann-Whitney U test).  These
    two are compared only if there are at least 20 decided and 20 undecided answers.
    """
    decided = np.array([verdict.correct is not None for verdict in verdicts], dtype=bool)
    facts = [(answer.stopped, len(answer.produced_ids), sum(answer.logprobs)) for answer in answers]
    warnings = []
    cut = np.array([not stopped for stopped, _, _ in facts], dtype=bool)
    if cut.any() and not cut.all():
        share_cut, share_complete = decided[cut].mean(), decided[~cut].mean()
        if share_cut < share_complete - _DIFFERENCE:
            warnings.append(
                f"{cut.sum()} answers were cut off, and only {100 * share_cut:.0f} % of them are decided "
                f"({100 * share_complete:.0f} % of the others)\nhint: the map leaves out long answers; "
                "use a higher --max-new-tokens, or ask for short answers"
            )
    decided, complete = decided[~cut], [fact for fact in facts if fact[0]]
    if min(decided.sum(), (~decided).sum()) < _MINIMUM:
        return warnings
    lengths = np.array([n for _, n, _ in complete], dtype=float)
    means = np.array([total / n if n else 0.0 for _, n, total in complete])
    for values, high, low in ((lengths, "longer", "shorter"), (means, "more probable", "less probable")):
        if (auc := _separates(values[~decided], values[decided])) is not None:
            warnings.append(
                f"the undecided answers are {high if auc > 0.5 else low} than the decided ones (AUC "
                f"{max(auc, 1 - auc):.2f})\nhint: the map describes the decided answers only; --explain lists the "
                "reasons, and `probemap audit` estimates how many undecided answers are correct"
            )
    return warnings


def _separates(undecided: npt.NDArray[np.float64], decided: npt.NDArray[np.float64]) -> float | None:
    """Return the AUC with which a value separates undecided from decided answers, or None if it is close to 0.5."""
    from scipy.stats import mannwhitneyu

    test = mannwhitneyu(undecided, decided)
    auc = float(test.statistic) / (len(undecided) * len(decided))
    return auc if abs(auc - 0.5) > _DIFFERENCE and test.pvalue < 0.01 else None
