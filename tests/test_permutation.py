"""The permutation null of the maximum AUC."""

import numpy as np
import pytest
from synthetic import NAMES, planted_states

from probemap.maps.fit import fit_map
from probemap.probing.auc import auc_values
from probemap.probing.cell_scores import score_cells
from probemap.probing.permutation import permuted_labels
from probemap.probing.plan import ProbePlan


def test_permuted_labels_moves_whole_groups() -> None:

    group = np.array([0, 0, 1, 1, 2, 2, 3, 4, 5])
    labels = np.array([1, 0, 1, 0, 1, 0, 1, 0, 0], bool)
    label_sets = permuted_labels(labels, group, 50, 0)
    assert (label_sets.sum(1) == 4).all()
    assert label_sets[:, [0, 2, 4]].all() and not label_sets[:, [1, 3, 5]].any(), "pairs keep both classes"
    assert len({tuple(row) for row in label_sets.tolist()}) == 3, "single answers exchange labels"


def test_permutation_null_is_the_maximum_over_cells() -> None:
    states, correct = planted_states()
    probe_map = fit_map(states, correct, positions=NAMES, permutations=40)
    null = probe_map.data["permutation_null"].values
    assert null.shape == (40,)
    assert 0.5 < np.median(null) < 0.62
    assert null.max() < probe_map.best()[0].auc
    # one shuffled label set alone, fitted as real labels, gives the same maximum

    labels = permuted_labels(correct, np.arange(240), 40, 0)[0]
    plan_fold = probe_map.data["fold"].values[0]

    highest = 0.0
    for layer in range(3):
        for column in range(3):
            cells = score_cells(
                states[None, :, layer, column],
                labels,
                ProbePlan(plan_fold.astype(np.int64), nested=False),
                np.empty((0, 240), bool),
            )
            assert cells is not None
            value = auc_values(cells[0].scores[:, None], labels[:, None], plan_fold.astype(np.int64))[0]
            highest = max(highest, float(value))
    assert null[0] == pytest.approx(highest, abs=2e-3)
