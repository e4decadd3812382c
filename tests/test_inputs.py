"""Labels, groups and masks from every kind of container give the same map, by position."""

import shutil
from array import array
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from probemap.detectors.fit import fit_detector
from probemap.maps.fit import fit_map
from probemap.maps.gain import with_baselines
from probemap.maps.paper import fit_paper_map
from probemap.probing.baselines import Baseline
from probemap.probing.inputs import elements, parse_groups, parse_labels, parse_mask, parse_names, parse_values
from probemap.records import MapError, Verdict

N = 60


class Polars:
    """A column with the interface of ``polars.Series``: ``to_list``, ``len``, no index."""

    def __init__(self, values: list[Any]) -> None:
        self._values, self.ndim = values, 1

    def to_list(self) -> list[Any]:
        return list(self._values)

    def __len__(self) -> int:
        return len(self._values)


def columns(values: list[Any]) -> dict[str, Any]:
    """The same values in every kind of container, pandas ones with an index in another order."""
    index = np.random.default_rng(1).permutation(len(values))
    missing = [np.nan if value is None else float(value) for value in values]
    made: dict[str, Any] = {
        "list": values,
        "tuple": tuple(values),
        "generator": (value for value in values),
        "NumPy numbers in a list": [None if value is None else np.bool_(value) for value in values],
        "object array": np.array(values, object),
        "float array": np.array(missing),
        "float list": missing,
        "array.array": array("d", missing),
        "tensor": torch.tensor(missing),
        "tensors in a list": list(torch.tensor(missing)),
        "xarray": xr.DataArray(np.array(missing), dims="answer"),
        "pandas object": pd.Series(values, index=index, dtype=object),
        "pandas float": pd.Series(missing, index=index),
        "pandas boolean": pd.Series(values, index=index, dtype="boolean"),
        "pandas Int64": pd.Series(values, index=index, dtype="Int64"),
        "pandas Index": pd.Index(missing),
        "pandas array": pd.array(values, dtype="boolean"),
        "pyarrow": pa.array(values),
        "pyarrow chunks": pa.chunked_array([values[:7], values[7:]], type=pa.bool_()),
        "polars": Polars(values),
        "verdicts": [Verdict(value, "") for value in values],
    }
    if None not in values:
        made["bool array"] = np.array(values, bool)
        made["int array"] = np.array(values, int)
        made["bool tensor"] = torch.tensor(values)
        made["pandas bool"] = pd.Series(values, index=index)
    return made


@pytest.fixture(scope="module")
def states() -> np.ndarray:
    draw = np.random.default_rng(0)
    made = draw.normal(size=(N, 2, 1, 4)).astype(np.float32)
    made[:, 1, 0, 0] += 3 * (np.arange(N) % 2)
    return made


CORRECT: list[bool | None] = [bool(i % 2) for i in range(N)]


def test_fit_map_takes_a_sorted_column_by_position(states: np.ndarray) -> None:
    # Rows and states in another order: the index says where a row was, its position which state is its.
    order = np.argsort(states[:, 1, 0, 1])
    frame = pd.DataFrame({"correct": CORRECT, "question": [f"q{i}" for i in range(N)]}).iloc[order]
    made = fit_map(states[order], frame["correct"], positions=["-1"], groups=frame["question"], ids=frame["question"])
    expected = fit_map(
        states[order],
        frame["correct"].tolist(),
        positions=["-1"],
        groups=frame["question"].tolist(),
        ids=frame["question"].tolist(),
    )
    assert made.to_bytes() == expected.to_bytes()
    assert made.data["answer"].values.tolist() == frame["question"].tolist()
    assert made.best()[0].auc > 0.9


def test_fit_map_takes_a_filtered_column_by_position(states: np.ndarray) -> None:
    frame = pd.DataFrame({"correct": CORRECT}).iloc[5:]
    assert fit_map(states[5:], frame["correct"], positions=["-1"]).best()[0].auc > 0.9


@pytest.mark.parametrize("kind", list(columns(CORRECT)))
def test_fit_map_is_the_same_for_every_container_of_labels(states: np.ndarray, kind: str) -> None:
    expected = fit_map(states, CORRECT, positions=["-1"]).to_bytes()
    assert fit_map(states, columns(CORRECT)[kind], positions=["-1"]).to_bytes() == expected


def test_fit_map_is_the_same_for_every_container_with_undecided_labels(states: np.ndarray) -> None:
    undecided = [None if i % 7 == 0 else label for i, label in enumerate(CORRECT)]
    expected = fit_map(states, undecided, positions=["-1"])
    assert expected.data.attrs["decided"] == sum(label is not None for label in undecided)
    for labels in columns(undecided).values():
        assert fit_map(states, labels, positions=["-1"]).to_bytes() == expected.to_bytes()


@given(st.lists(st.sampled_from([True, False, None]), min_size=8, max_size=40))
@settings(max_examples=40)
def test_parse_labels_reads_every_container_alike(labels: list[bool | None]) -> None:
    for kind, column in columns(labels).items():
        assert parse_labels(column, len(labels)) == labels, kind


@given(st.lists(st.integers(0, 120), min_size=2, max_size=30))
@settings(max_examples=40)
def test_parse_groups_partitions_every_container_alike(groups: list[int]) -> None:
    expected = np.unique(parse_groups(groups, len(groups)), return_inverse=True)[1].tolist()
    index = range(len(groups))[::-1]
    for column in (
        np.array(groups),
        torch.tensor(groups),
        pd.Series(groups, index=index),
        pd.Series(groups, index=index, dtype="Int64"),
        pa.array(groups),
        Polars(groups),
    ):
        assert np.unique(parse_groups(column, len(groups)), return_inverse=True)[1].tolist() == expected


def test_fit_map_takes_masks_by_position(states: np.ndarray) -> None:
    held_out = np.arange(N) % 3 == 0
    present = (np.arange(N) % 5 != 0)[:, None]
    expected = fit_map(states, CORRECT, positions=["-1"], held_out=held_out, present=present).to_bytes()
    index = np.arange(N)[::-1]
    for mask, table in (
        (pd.Series(held_out, index=index), pd.DataFrame(present, index=index)),
        (pd.Series(held_out, index=index, dtype="boolean"), torch.from_numpy(present)),
        (held_out.tolist(), present.tolist()),
    ):
        assert fit_map(states, CORRECT, positions=["-1"], held_out=mask, present=table).to_bytes() == expected


def test_fit_map_takes_positions_and_layers_from_a_column(states: np.ndarray) -> None:
    made = fit_map(states, CORRECT, positions=pd.Index(["-1"]), layers=np.array([3, 7]))
    assert (made.positions, made.layers) == (["-1"], [3, 7])
    assert made.only(np.array(["-1"])).positions == ["-1"]


def test_fit_paper_map_takes_columns_by_position(states: np.ndarray) -> None:
    ids = [f"a{i}" for i in range(N)]
    frame = pd.DataFrame({"correct": CORRECT, "located": True, "id": ids}, index=np.arange(N)[::-1])
    expected = fit_paper_map(states, CORRECT, [True] * N, positions=["-1"], ids=ids)
    made = fit_paper_map(states, frame["correct"], frame["located"], positions=["-1"], ids=frame["id"])
    assert made.to_bytes() == expected.to_bytes()


def test_with_baselines_takes_columns_by_position(states: np.ndarray) -> None:
    probe_map = fit_map(states, CORRECT, positions=["-1"])
    values = np.random.default_rng(0).normal(size=N)
    texts: list[str | None] = [f"word{i % 3}" for i in range(N)]
    frame: Any = pd.DataFrame(
        {"value": values, "text": texts, "id": [str(i) for i in range(N)]}, index=np.arange(N)[::-1]
    )
    expected = with_baselines(probe_map, [Baseline("x", "", values), Baseline("y", "", texts)], list(frame["id"]))
    made = with_baselines(probe_map, [Baseline("x", "", frame["value"]), Baseline("y", "", frame["text"])], frame["id"])
    assert made.to_bytes() == expected.to_bytes()
    with pytest.raises(MapError, match=r"x has 59 values for 60 ids\nhint: give one value per id"):
        with_baselines(probe_map, [Baseline("x", "", values[1:])], list(frame["id"]))


def test_fit_detector_takes_a_sorted_column_by_position(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    labels: list[bool | None] = [None if i % 11 == 0 else bool(i % 2) for i in range(400)]
    states = draw.normal(size=(400, 2, 1, 4)).astype(np.float32)
    states[:, 1, 0, 0] += 3 * (np.arange(400) % 2)
    fit_detector(states, labels, positions=["-1"], c=1.0).save(tmp_path / "expected")
    for column in (pd.Series(labels, index=np.arange(400)[::-1], dtype="boolean"), [Verdict(v, "") for v in labels]):
        fit_detector(states, column, positions=["-1"], c=1.0).save(tmp_path / "made")
        for file in (tmp_path / "expected").iterdir():
            assert (tmp_path / "made" / file.name).read_bytes() == file.read_bytes()
        shutil.rmtree(tmp_path / "made")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("right wrong", "correct is a str"),
        ({"a": True}, "correct is a dict"),
        ({True, False}, "correct is a set"),
        (5, "correct is a int"),
        ([True, False, True], "3 labels for 2 answers\nhint: pass one label per answer"),
        ([True, "no"], r"label 1 is 'no' \(str\), which is not a valid label\nhint: pass True or False"),
        ([0.0, 0.5], r"label 1 is 0\.5 \(float\)"),
        ([1, 2], r"label 1 is 2 \(int\)"),
        (np.array([[True], [False]]), r"correct has shape \(2, 1\)"),
        (pd.DataFrame({"correct": [True, False]}), r"correct has shape \(2, 1\)"),
        ([[True], [False]], r"label 0 is \[True\] \(list\)"),
        (pd.Series(["True", "False"]), r"label 0 is 'True' \(str\)"),
    ],
)
def test_parse_labels_rejects_what_is_no_label(labels: Any, message: str) -> None:
    with pytest.raises(MapError, match=message):
        parse_labels(labels, 2)


def test_parse_groups_rejects_missing_groups() -> None:
    for groups in ([1, None], pd.Series([1.0, np.nan]), pd.Series([1, None], dtype="Int64")):
        with pytest.raises(MapError, match="answer 1 has no group"):
            parse_groups(groups, 2)
    with pytest.raises(MapError, match="1 groups for 2 answers"):
        parse_groups(["a"], 2)


def test_parse_names_rejects_duplicates() -> None:
    assert parse_names(pd.Series([3, 4], index=[1, 0]), 2, "ids") == ["3", "4"]
    with pytest.raises(MapError, match="'a' occurs more than once in ids"):
        parse_names(["b", "a", "a"], 3, "ids")
    with pytest.raises(MapError, match="1 ids for 2 answers"):
        parse_names(["a"], 2, "ids")


def test_parse_mask_rejects_other_types() -> None:
    for mask in ([1, 0], [0.0, 1.0], ["a", "b"], [True, None], pd.Series([True, None], dtype="boolean"), [True]):
        with pytest.raises(MapError, match="held_out has shape"):
            parse_mask(mask, (2,), "held_out")


def test_parse_values_keeps_numbers_and_texts_apart() -> None:
    numbers = parse_values(pd.Series([1, None], dtype="Int64"), "x")
    assert isinstance(numbers, np.ndarray)
    np.testing.assert_array_equal(numbers, [1.0, np.nan])
    assert parse_values(pd.Series(["a", None, np.nan], dtype=object), "x") == ["a", None, None]
    assert parse_values([None, None], "x") == [None, None]
    with pytest.raises(MapError, match="x contains 'a'"):
        parse_values([1.0, "a"], "x")


def test_elements_reads_objects_with_array_protocol() -> None:
    class Column(SimpleNamespace):
        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
            return np.array([1, 2])

    assert elements(Column(), "x") == [1, 2]
