"""The protocol of the paper's published code, for comparison with published maps; not for findings.

The code published with Orgad et al. 2024 (arXiv 2410.02707) uses one split, 80 % to fit and 20 % to evaluate, drawn
from all answers with the seed and neither stratified nor grouped.  After the split, only answers with an exact answer
are kept, in every column.  States are not scaled.  The probe is ``LogisticRegression(random_state=seed)`` of
scikit-learn with its defaults, converged or not; each cell has one AUC, computed from predicted probabilities.  The
exact answer is located with knowledge of the verdict (`grading.locate`), and the states are those of the MLP (site
``mlp_out``); both are chosen before the map is fitted.

Confidence intervals are computed as for any other map; with only 20 % of the answers to evaluate on, they are wide.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from probemap.activations.source import ActivationSource, as_source
from probemap.maps.fit import fit_map
from probemap.maps.probe_map import ProbeMap
from probemap.probing.inputs import Column, Labels, elements, parse_labels, parse_mask, parse_names

LABEL = "paper protocol: one 80/20 split, unscaled, for comparison only"
"""Shown on every output of a map that was fitted by this protocol."""


class PaperProbe(BaseEstimator):  # type: ignore[misc]
    """``LogisticRegression(random_state=seed)``, scored by its probabilities, which tie where they saturate."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def fit(self, x: npt.NDArray[np.float32], y: npt.NDArray[np.bool_]) -> "PaperProbe":
        """Fit on states of shape (n, d) and labels of shape (n,)."""
        self.classifier_ = LogisticRegression(random_state=self.seed).fit(x, y)
        self.n_iter_, self.max_iter_ = self.classifier_.n_iter_, self.classifier_.max_iter
        return self

    def decision_function(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return the probability of "correct" minus 0.5, of shape (n,)."""
        p_incorrect: npt.NDArray[np.float64] = self.classifier_.predict_proba(x)[:, 0]
        return 0.5 - p_incorrect


def paper_split(correct: Sequence[bool | None], seed: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the rows to fit on and the rows to evaluate, in the order of the split, without undecided answers."""
    decided = np.flatnonzero([label is not None for label in correct])
    train, test = train_test_split(decided, test_size=0.2, random_state=seed)
    return train, test


class _Reordered:
    """States with their answers in another order, as an array of shape (n, n_layers, n_positions, d)."""

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
    """Fit a map by the protocol of the paper's published code.

    Parameters
    ----------
    activations, correct, positions, ids, attrs, progress
        As for `fit_map`.
    located : array-like of shape (n,), bool
        Which answers have an exact answer; the other answers are removed after the split.
    seed : int, default=0
        Seed of the split and of the probe.

    Returns
    -------
    ProbeMap

    Raises
    ------
    MapError
        As for `fit_map`.
    """
    source = as_source(activations, None, None if positions is None else elements(positions, "positions"))
    labels = parse_labels(correct, source.n)
    has_names = ids is not None or source.ids is not None
    names = parse_names(range(source.n) if not has_names else source.ids if ids is None else ids, source.n, "ids")
    has_span = parse_mask(located, (source.n,), "located")
    train, test = paper_split(labels, seed)
    # lbfgs stops early on unscaled states, at a point that depends on the order of the rows: use that of the split.
    order = np.concatenate([train, test])
    with warnings.catch_warnings():
        # That lbfgs stops at 100 steps is part of the protocol; the map records it for every cell.
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
