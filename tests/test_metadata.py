"""Further fields of a question file: which are kept, with which type, and where they are saved."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from probemap.records import DataError, Example, Task
from probemap.runs.folder import Folder
from probemap.tasks.loading import fingerprint, load_task
from probemap.tasks.metadata import field_values, parse_metadata

ROWS: list[dict[str, Any]] = [
    {"question": "a?", "answers": ["x"], "relation": "capital", "s_pop": 12, "is_new": True, "subject": {"id": 1}},
    {"question": "b?", "answers": ["y"], "relation": "spouse", "s_pop": 3.5, "is_new": False, "subject": {"id": 2}},
    {"question": "c?", "answers": ["z"], "relation": " ", "s_pop": None, "is_new": True, "aliases": ["c"]},
]
KEPT = [
    (("relation", "capital"), ("s_pop", 12.0), ("is_new", "true")),
    (("relation", "spouse"), ("s_pop", 3.5), ("is_new", "false")),
    (("is_new", "true"),),
]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_load_task_keeps_scalar_fields(tmp_path: Path, ending: str) -> None:
    task = load_task(write(tmp_path / f"rows{ending}", ROWS))
    assert [example.metadata for example in task.examples] == KEPT


def test_load_task_reads_numbers_in_csv_files_by_column(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(
        "Question,answers,S_Pop,code,year,note,mixed,empty\n"
        "a?,x,1e3,007,1815,NA,3,\n"
        "b?,y,-.5,12,NaN,x,three,\n"
        "c?,z,4,13\n"
    )
    assert [example.metadata for example in load_task(path).examples] == [
        (("s_pop", 1000.0), ("code", "007"), ("year", 1815.0), ("note", "NA"), ("mixed", "3")),
        (("s_pop", -0.5), ("code", "12"), ("note", "x"), ("mixed", "three")),
        (("s_pop", 4.0), ("code", "13")),
    ]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2.5, Decimal("0.25")], [1.0, 2.5, 0.25]),
        ([1, "1"], ["1", "1"]),
        ([2.0, "a"], ["2", "a"]),
        ([True, 1], ["true", "1"]),
        ([float("nan"), float("inf"), 1], [None, None, 1.0]),
        ([2**53 + 1, 1], [str(2**53 + 1), "1"]),
        ([[1], {"a": 1}, None], [None, None, None]),
        (["1", "2"], ["1", "2"]),
    ],
)
def test_parse_metadata_of_typed_values(values: list[Any], expected: list[Any]) -> None:
    assert [dict(row).get("x") for row in parse_metadata([{"x": value} for value in values])] == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["1", "2.50", "+3", "1E2", "nan", "null", ""], [1.0, 2.5, 3.0, 100.0, None, None, None]),
        (["1_000", "2"], ["1_000", "2"]),
        (["1,000", "2"], ["1,000", "2"]),
        (["0x1", "2"], ["0x1", "2"]),
        (["1e999", "2"], ["1e999", "2"]),
        (["inf", "2"], ["inf", "2"]),
        (["9007199254740993", "2"], ["9007199254740993", "2"]),
        (["TRUE", "FALSE"], ["TRUE", "FALSE"]),
        (["0", "0.5", "00.5"], ["0", "0.5", "00.5"]),
    ],
)
def test_parse_metadata_of_texts(values: list[str], expected: list[Any]) -> None:
    rows = parse_metadata([{"x": value} for value in values], numbers_as_text=True)
    assert [dict(row).get("x") for row in rows] == expected


def test_metadata_changes_neither_the_hash_of_the_task_nor_the_example_s_type(tmp_path: Path) -> None:
    task = load_task(write(tmp_path / "rows.jsonl", ROWS))
    bare = load_task(write(tmp_path / "rows.jsonl", [{k: row[k] for k in ("question", "answers")} for row in ROWS]))
    assert fingerprint(task) == fingerprint(bare)
    assert len({*task.examples, *bare.examples}) == 6, "examples are hashable, and differ in their metadata"


def test_metadata_is_saved_with_the_task_and_optional(tmp_path: Path) -> None:
    task = load_task(write(tmp_path / "rows.jsonl", ROWS))
    folder = Folder(tmp_path)
    folder.write("run.json", json.dumps({"steps": {"answer": {"done": True}}}))
    folder.write_task(task)
    assert folder.read_task() == task
    saved = json.loads((tmp_path / "task.json").read_text())
    assert saved["examples"][1]["metadata"] == [["relation", "spouse"], ["s_pop", 3.5], ["is_new", "false"]]
    for example in saved["examples"]:
        del example["metadata"]
    folder.write("task.json", json.dumps(saved))
    assert [example.metadata for example in folder.read_task().examples] == [(), (), ()]


def test_field_values_and_missing_fields() -> None:
    examples = [Example(str(k), "q?", ("a",), metadata=fields) for k, fields in enumerate(KEPT)]
    assert field_values(examples, " S_Pop") == [12.0, 3.5, None]
    assert field_values(examples, "relation") == ["capital", "spouse", None]
    mixed = [Example("a", "q?", ("a",), metadata=(("x", 1.0),)), Example("b", "q?", ("a",), metadata=(("x", "one"),))]
    assert field_values(mixed, "x") == ["1", "one"]
    with pytest.raises(
        DataError, match=r"no field 'popularity'; their fields are is_new, relation, s_pop\nhint: .*new run directory"
    ):
        field_values(examples, "popularity")
    with pytest.raises(DataError, match="no field 'x'; they have no further fields"):
        field_values(Task("t", (Example("a", "q?", ("a",)),), "open").examples, "x")
