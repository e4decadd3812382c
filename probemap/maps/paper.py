"""The research code's own protocol, for comparison with published maps; not for findings.

As the code published with Orgad et al. 2024 (arXiv 2410.02707) does it: one split, 80 % to fit and 20 % to judge, drawn
from all answers with the seed and neither stratified nor grouped; then only answers with an exact answer are kept, in
every column; states unscaled; scikit-learn's ``LogisticRegression(random_state=seed)`` with its defaults, converged or
not; one AUC per cell, from the probabilities that it gives.  Where it probes depends on the verdict
(`locate.paper_locator`), and what it reads is the MLP (`sites`): both are chosen before the map is made.

What it does not do: show how far 200 answers can be trusted.  The map's intervals are still there.
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
from probemap.activations.store import ActivationStore
from probemap.maps.fit import fit_map
from probemap.maps.probe_map import ProbeMap
from probemap.probing.inputs import Column, Labels, parse_labels, parse_mask, parse_names

LABEL = "paper protocol: one 80/20 split, unscaled, for comparison only"
"""Stands on every output of a map that was made so."""


class PaperProbe(BaseEstimator):  # type: ignore[misc]
    """``LogisticRegression(random_state=seed)``, scored by its probabilities (which tie where they saturate)."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def fit(self, x: npt.NDArray[np.float32], y: npt.NDArray[np.bool_]) -> "PaperProbe":
        self.classifier_ = LogisticRegression(random_state=self.seed).fit(x, y)
        self.n_iter_, self.max_iter_ = self.classifier_.n_iter_, self.classifier_.max_iter
        return self

    def decision_function(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        wrong: npt.NDArray[np.float64] = self.classifier_.predict_proba(x)[:, 0]
        return 0.5 - wrong


def paper_split(correct: Sequence[bool | None], seed: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows to fit on and rows to judge, in the split's order; undecided answers are in neither."""
    decided = np.flatnonzero([verdict is not None for verdict in correct])
    train, test = train_test_split(decided, test_size=0.2, random_state=seed)
    return train, test


class _InOrder:
    """States with their answers in another order, as an array (n, n_layers, n_positions, d)."""

    def __init__(self, source: ActivationSource, order: npt.NDArray[np.int64]) -> None:
        self.source, self.order = source, order
        self.shape = (len(order), len(source.layers), len(source.positions), source.d)

    def __getitem__(self, at: tuple[slice, int]) -> npt.NDArray[np.float32]:
        return self.source.read(self.source.layers[at[1]])[self.order]


def fit_paper_map(
    store: ActivationStore | npt.NDArray[np.float32],
    correct: Labels,
    located: npt.ArrayLike,
    *,
    positions: Sequence[str] | None = None,
    seed: int = 0,
    ids: Column | None = None,
    attrs: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ProbeMap:
    """The map by the research code's protocol.

    Parameters
    ----------
    located: (n,): which answers have an exact answer; the others are dropped after the split.
    The rest, and the errors raised: as for `fit.fit_map`.
    """
    source = as_source(store, None, positions)
    labels = parse_labels(correct, source.n)
    names = [str(i) for i in range(source.n)] if ids is None else parse_names(ids, source.n, "ids")
    has_span = parse_mask(located, (source.n,), "located")
    train, test = paper_split(labels, seed)
    # lbfgs stops early on unscaled states, and then the order of the rows decides where: the split's own.
    order = np.concatenate([train, test])
    with warnings.catch_warnings():
        # That lbfgs stopped at 100 steps is part of the protocol; the map notes it cell by cell.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return fit_map(
            _InOrder(source, order),
            [labels[i] for i in order.tolist()],
            present=np.repeat(has_span[order, None], len(source.positions), axis=1),
            layers=source.layers,
            positions=source.positions,
            held_out=np.arange(len(order)) >= len(train),
            probe=PaperProbe(seed),
            nested=False,
            seed=seed,
            ids=[names[i] for i in order.tolist()],
            attrs={**(attrs or {}), "protocol": LABEL},
            progress=progress,
        )
