"""Random labels: the permutation null of the maximum AUC, and the control task."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from running import execute
from synthetic import NAMES, planted_states

from probemap.maps.fit import fit_map
from probemap.probing.auc import auc_values
from probemap.probing.cell_scores import score_cells
from probemap.probing.plan import ProbePlan
from probemap.probing.random_labels import control_labels, permuted_labels
from probemap.records import MapError
from probemap.runs.definitions import CAPTURE, JUDGE, MAP
from probemap.runs.run import Run


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


def test_control_labels_are_equal_for_equal_identities() -> None:
    labels = np.arange(100) < 30
    identities: list[str | None] = [f"city {i % 10}" for i in range(90)] + [None] * 10
    sets = control_labels(labels, identities, 5, 0)
    assert sets.shape == (5, 100)
    for k in range(10):
        assert (sets[:, k:90:10] == sets[:, [k]]).all()
    assert len({row.tobytes() for row in sets}) == 5
    n_positive = [len({identities[i] or i for i in np.flatnonzero(row)}) for row in sets]
    assert n_positive == [6] * 5, "30 % of 20 identities"
    two = control_labels(np.arange(10) < 9, ["yes", "no"] * 5, 3, 0)
    assert (two.sum(axis=1) == 5).all(), "both labels occur"


def test_selectivity_of_memorised_identities_is_zero() -> None:
    draw = np.random.default_rng(0)
    identity = np.arange(600) % 30
    correct = (draw.random(30) < 0.5)[identity]
    states = draw.normal(size=(600, 2, 1, 40)).astype(np.float32)
    states[np.arange(600), 0, 0, identity] += 8  # layer 0 encodes only the identity
    states[:, 1, 0, 0] += 3 * correct  # layer 1 encodes correctness
    probe_map = fit_map(states, correct, positions=["-1"], identities=[f"city {k}" for k in identity])
    data = probe_map.data.isel(position=0)
    assert float(data["auc"][0]) > 0.95
    assert abs(float(data["selectivity"][0])) <= 0.02
    assert float(data["selectivity"][1]) > 0.4
    assert float(data["selectivity_band_low"][1]) > 0.3
    assert "permutation_null" not in probe_map.data
    np.testing.assert_allclose(data["selectivity"], data["auc"] - data["control_auc"])


def test_identities_must_match_the_answers() -> None:
    with pytest.raises(MapError, match="got 3 identities for 60 answers"):
        fit_map(np.zeros((60, 1, 1, 2), np.float32), [True, False] * 30, identities=["a", "b", "c"])


def test_map_without_exact_answers_has_no_control_task(mapped: Path, tmp_path: Path) -> None:
    run = Run.open(shutil.copytree(mapped, tmp_path / "RUN"))
    assert "selectivity" in run.map.data
    execute(JUDGE, run, locator="none", redo=True)
    for step in (CAPTURE, MAP):
        execute(step, run, redo=True)
    assert "selectivity" not in run.map.data
