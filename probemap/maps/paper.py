"""Fit maps with the protocol of Orgad et al. 2024, for comparison with published maps only.

The code published with Orgad et al. 2024 (arXiv 2410.02707) uses a single random split of all answers: 80 % for fitting
and 20 % for evaluation.  The split is neither stratified nor grouped.  After the split, answers without an exact answer
are removed from every column.  States are not scaled.  The probe is scikit-learn's
``LogisticRegression(random_state=seed)`` with default settings; it is used even if it does not converge.  The AUC of a
cell is computed from predicted probabilities.

Two parts of the protocol concern the steps before the map is fitted: the exact answer must be located with knowledge of
the verdict (see `grading.locate.paper_locator`), and the states must be the outputs of the MLPs (site ``mlp_out``).

Confidence intervals are computed as for any other map.  They are wide, because only 20 % of the answers are evaluated.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from probemap.activations.source import ActivationSource, as_source
from probemap.maps.fit import fit_map
from probemap.probing.inputs import Column, Labels, elements, parse_labels, parse_mask, parse_names

if TYPE_CHECKING:
    from probemap.maps.probe_map import ProbeMap

LABEL = "paper protocol: one 80/20 split, unscaled, for comparison only"
"""Note that is shown wherever a map fitted with this protocol is displayed."""


class PaperProbe(BaseEstimator):  # type: ignore[misc]
    """``LogisticRegression(random_state=seed)``, with predicted probabilities as scores.

    Unlike decision values, probabilities can be tied, because they saturate at 0 and 1.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def fit(self, x: npt.NDArray[np.float32], y: npt.NDArray[np.bool_]) -> PaperProbe:
        """Fit the probe to states of shape (n, d) and labels of shape (n,)."""
        self.classifier_ = LogisticRegression(random_state=self.seed).fit(x, y)
        self.n_iter_, self.max_iter_ = self.classifier_.n_iter_, self.classifier_.max_iter
        return self

    def decision_function(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return the predicted probability that each answer is correct, minus 0.5, as an array of shape (n,)."""
        p_incorrect: npt.NDArray[np.float64] = self.classifier_.predict_proba(x)[:, 0]
        return 0.5 - p_incorrect


def paper_split(correct: Sequence[bool | None], seed: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Split the decided answers at random, and return the rows of the training set and of the test set.

    The rows are in the order in which ``train_test_split`` returns them.
    """
    decided = np.flatnonzero([label is not None for label in correct])
    train, test = train_test_split(decided, test_size=0.2, random_state=seed)
    return train, test


class _Reordered:
    """Hidden states with the answers in a different order.

    They can be indexed like an array of shape (n, n_layers, n_positions, d).
    """

    def __init__(self, source: ActivationSource, order: npt.NDArray[np.int64]) -> None:
        self.source, self.order = source, order
        self.shape = (len(order), len(source.layers), len(source.positions), source.d)

    def __getitem__(self, index: tuple[slice, int]) -> npt.NDArray[np.float32]:
        return self.source.read(self.source.layers[index[1]])[self.order]


def fit_paper_map(
    activations: Any,
    correct: Labels,
    located: npt.ArrayLike,
    *,
    positions: Column | None = None,
    seed: int = 0,
    ids: Column | None = None,
    attrs: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ProbeMap:
    """Fit a map with the protocol of the code published with Orgad et al. 2024.

    Parameters
    ----------
    activations, correct, positions, ids, attrs, progress
        See `fit_map`.
    located : array-like of shape (n,), bool
        Mask of the answers that have an exact answer.  The other answers are removed after the split.
    seed : int, default=0
        Random seed for the split and the probe.

    Returns
    -------
    ProbeMap

    Raises
    ------
    MapError
        See `fit_map`.
    """
    source = as_source(activations, None, None if positions is None else elements(positions, "positions"))
    labels = parse_labels(correct, source.n)
    has_names = ids is not None or source.ids is not None
    names = parse_names(range(source.n) if not has_names else source.ids if ids is None else ids, source.n, "ids")
    has_span = parse_mask(located, (source.n,), "located")
    train, test = paper_split(labels, seed)
    # On unscaled states, lbfgs stops before it converges, and its result depends on the order of the rows.  The order
    # of the split is therefore kept.
    order = np.concatenate([train, test])
    with warnings.catch_warnings():
        # In this protocol, lbfgs may stop after 100 steps without converging; the map records for every cell whether
        # the probe converged.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return fit_map(
            _Reordered(source, order),
            [labels[i] for i in order.tolist()],
            present=np.repeat(has_span[order, None], len(source.positions), axis=1),
            layers=source.layers,
            positions=source.positions,
            held_out=np.arange(len(order)) >= len(train),
            probe=PaperProbe(seed),
            nested=False,
            seed=seed,
            ids=[names[i] for i in order.tolist()],
            attrs={**source.attrs, **(attrs or {}), "numbered_answers": int(not has_names), "protocol": LABEL},
            progress=progress,
        )
