"""Tasks from files, and the content of the built-in tasks."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probemap.grading.locate import possible_answers
from probemap.reading.folding import same_name
from probemap.reading.names import find_names
from probemap.reading.numbers import as_number
from probemap.records import DataError
from probemap.tasks.builtin import TASKS
from probemap.tasks.cells import parse_index
from probemap.tasks.loading import load_task


@pytest.mark.parametrize("name", TASKS)
def test_builtin_tasks_are_large_deterministic_and_distinct(name: str) -> None:
    task = load_task(name)
    assert task == load_task(name)
    assert len(task.examples) >= 500
    assert len({e.id for e in task.examples}) == len({e.question for e in task.examples}) == len(task.examples)
    for example in task.examples:
        if task.kind == "names":
            groups = possible_answers(task, example)
            accepted = [g for g in groups if any(same_name(s, a) for s in g for a in example.answers)]
            assert len(accepted) == 1, example
        else:
            assert as_number(example.answers[0]) is not None


def test_cities_does_not_reveal_countries_and_no_country_dominates() -> None:
    task = load_task("cities")
    assert [e.question for e in task.examples if find_names(e.question, task.possible)] == []
    counts = [sum(e.answers == a for e in task.examples) for a in {e.answers for e in task.examples}]
    assert max(counts) <= 14
    berlin = next(e for e in task.examples if e.id == "city-Berlin")
    assert berlin.answers == ("Germany",)


def test_compare_is_balanced_and_consistent() -> None:
    examples = load_task("compare").examples
    first_is_larger = sum(e.answers[0] == e.choices[0] for e in examples)
    assert 0.45 < first_is_larger / len(examples) < 0.55
    nigeria_norway = [e for e in examples if set(e.choices) == {"Nigeria", "Norway"}]
    assert all(e.answers == ("Nigeria",) for e in nigeria_norway)


@pytest.mark.parametrize(
    ("operator", "answer"),
    [("+", lambda a, b: a + b), ("-", lambda a, b: a - b), ("times", lambda a, b: a * b)],
)
def test_arithmetic_answers_are_correct(operator: str, answer: Any) -> None:
    n = 0
    for example in load_task("arithmetic").examples:
        words = example.question.replace("?", "").split()
        if words[0:2] == ["What", "is"] and words[3:4] == [operator]:
            assert example.answers == (str(answer(int(words[2]), int(words[4]))),)
            n += 1
    assert n >= 120


def test_load_task_draws_without_replacement_from_seed() -> None:
    cities = load_task("cities").examples
    drawn = load_task("cities", n=50, seed=1).examples
    assert len({e.id for e in drawn}) == 50
    assert set(drawn) <= set(cities)
    assert drawn == load_task("cities", n=50, seed=1).examples != load_task("cities", n=50, seed=2).examples


ROWS: list[dict[str, Any]] = [
    {"id": "a", "question": "Is it good? It is.", "answers": ["yes"], "choices": ["yes", "no"], "context": "c"},
    {"id": "b", "question": "Is it bad?", "answers": ["no"], "choices": ["yes", "no"], "context": ""},
]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    elif path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows([{k: json.dumps(v) if isinstance(v, list) else v for k, v in r.items()} for r in rows])
    else:
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".parquet"])
def test_load_task_reads_three_formats(tmp_path: Path, ending: str) -> None:
    task = load_task(write(tmp_path / f"rows{ending}", ROWS))
    assert [e.id for e in task.examples] == ["a", "b"]
    assert task.examples[0].choices == ("yes", "no")
    assert (task.kind, task.name, task.prompt) == ("names", "rows", "{context}\n\n{question}")


@pytest.mark.parametrize(
    ("answers", "kind", "possible"),
    [
        ([["7"], ["1,200"], ["-3.5"]] * 4, "numbers", 0),
        ([["positive"], ["negative"]] * 6, "names", 2),
        ([[f"name {i}"] for i in range(12)], "open", 0),
        ([[7], [8.5], [1234567.0], [12345.678]] * 6, "numbers", 0),
        ([["Paris", "City of Paris"], ["Rome"]] * 6, "names", 2),
    ],
)
def test_load_task_infers_kind_from_all_answers(tmp_path: Path, answers: list[Any], kind: str, possible: int) -> None:
    rows = [{"question": f"q{i}?", "answers": a} for i, a in enumerate(answers)]
    task = load_task(write(tmp_path / "t.jsonl", rows))
    assert (task.kind, len(task.possible)) == (kind, possible)
    assert task.examples[2].id == "row-3"


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0000\nsize 123\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.jsonl", "", "contains no questions"),
        ("t.jsonl", "\n\n", "contains no questions"),
        ("t.csv", "", "contains no questions"),
        ("t.jsonl", "{'question': 1}", "t.jsonl, line 1 is not valid JSON"),
        ("t.jsonl", "[1, 2]", "row 1: expected an object, got list"),
        (
            "t.jsonl",
            '{"text": "q"}',
            "row 1: the field 'question' must be a non-empty string (fields: text)\nhint: each row requires the",
        ),
        ("t.jsonl", '{"question": "  "}', "row 1: the field 'question' must be a non-empty string"),
        ("t.jsonl", '{"question": "Who?"}', "row 1: there are no accepted answers to 'Who?'"),
        ("t.jsonl", '{"question": "Who?", "answers": []}', "there are no accepted answers to 'Who?'"),
        (
            "t.jsonl",
            '{"question": "Who?", "answers": [{"a": 1}]}',
            "'answers' must contain only strings and numbers, got {'a': 1}",
        ),
        ("t.jsonl", '{"question": "Who?", "answers": "[oops"}', "starts like a list but is not valid JSON"),
        (
            "t.jsonl",
            '{"question": "Who?", "answers": "a", "choices": ["b", "c"]}',
            "none of the answers ['a'] is among the choices ['b', 'c']",
        ),
        (
            "t.jsonl",
            '{"id": 1, "question": "a?", "answers": "x"}\n' * 2,
            "1 ids occur more than once: '1'\nhint: make the ids",
        ),
        ("t.parquet", "no parquet", "is not a valid Parquet file"),
        ("t.csv", "question,answers,answers\nWho?,a,b\n", "the column 'answers' of "),
        (
            "t.csv",
            "question,answers\nWho, then?,a\n",
            "t.csv, line 2: the row has 3 cells, but the header has 2",
        ),
        ("t.csv", "question;answers\nWho?;a\n", "are separated by ';', expected commas"),
        ("t.csv", 'question,answers\nWho?,"a', "t.csv, line 2 is not valid CSV (unexpected end of data)"),
        (
            "t.csv",
            "Question,question \na?,b?\n",
            "row 1: several fields are named 'question', apart",
        ),
        (
            "t.jsonl",
            '{"question": "Who?", "answers": "a", "answers": "b"}',
            "line 1: the field 'answers' occurs",
        ),
        (
            "t.jsonl",
            '{"question": "Who \\ud83d?"}',
            "line 1: the text contains '\\ud83d', which is half of a character",
        ),
        ("t.jsonl", "[" * 100_000, "line 1 is not valid JSON (maximum recursion depth"),
        (
            "t.jsonl",
            '{"question": "Who?", "answers": ' + "9" * 5000 + "}",
            "line 1 is not valid JSON (Exceeds",
        ),
        (
            "t.jsonl",
            '{"question": "Who?", "answers": true}',
            "'answers' must contain only strings and numbers, got True",
        ),
        (
            "t.jsonl",
            '{"question": "Who?", "answers": [".", "-"]}',
            "the accepted answers ['.', '-'] consist of",
        ),
        ("t.jsonl", POINTER, "t.jsonl is a Git LFS pointer, not the file itself\nhint: run `git lfs pull`"),
        ("t.csv", POINTER, "t.csv is a Git LFS pointer"),
        ("t.parquet", POINTER, "t.parquet is a Git LFS pointer"),
        ("t.csv", "<!DOCTYPE html><p>log in", "t.csv is a web page, not the file itself"),
        ("t.txt", "x", "is not a .jsonl, .csv or .parquet file"),
    ],
)
def test_load_task_error_names_row(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError) as raised:
        load_task(tmp_path / name)
    assert message in str(raised.value)


def test_load_task_rejects_unknown_name_and_large_n() -> None:
    with pytest.raises(
        DataError, match=r"no file or task named 'nothing\.jsonl'\nhint: the tasks are cities, .*triviaqa"
    ):
        load_task("nothing.jsonl")
    with pytest.raises(DataError, match="9999 questions were requested, but compare has 600"):
        load_task("compare", n=9999)


def test_load_task_keeps_digits_of_numbers(tmp_path: Path) -> None:
    rows = [{"question": "q?", "answers": [1234567.0, 12345.678, 7]}]
    assert load_task(write(tmp_path / "t.jsonl", rows)).examples[0].answers == ("1234567", "12345.678", "7")
    (tmp_path / "t.jsonl").write_text('{"question": "q?", "answers": [NaN]}')
    with pytest.raises(DataError, match="'answers' must contain only strings and numbers, got nan"):
        load_task(tmp_path / "t.jsonl")


def test_load_task_rejects_text_that_is_not_utf8(tmp_path: Path) -> None:
    for name in ("t.jsonl", "t.csv"):
        (tmp_path / name).write_bytes(b'{"question": "\xff\xfe"}')
        with pytest.raises(DataError, match="is not UTF-8 text"):
            load_task(tmp_path / name)


@given(
    st.dictionaries(
        st.sampled_from(["id", "question", "answers", "choices", "context"]),
        st.none() | st.text(max_size=8) | st.integers() | st.lists(st.text(max_size=4), max_size=3),
        max_size=5,
    )
)
def test_load_task_any_row_gives_example_or_error(
    tmp_path_factory: pytest.TempPathFactory, row: dict[str, Any]
) -> None:
    path = tmp_path_factory.mktemp("rows") / "t.jsonl"
    path.write_text(json.dumps(row), encoding="utf-8")
    try:
        (example,) = load_task(path).examples
    except DataError as error:
        assert "hint:" in str(error)
    else:
        assert example.question.strip()
        assert example.answers


def test_load_task_with_a_given_kind(tmp_path: Path) -> None:
    rows = [{"question": f"q{i}?", "answers": [str(1900 + i)]} for i in range(4)]
    path = write(tmp_path / "t.jsonl", rows)
    assert load_task(path).kind == "numbers"
    assert load_task(path, kind="open").kind == "open"
    names = load_task(path, kind="names", n=2)
    assert (names.kind, names.possible) == ("names", (("1900",), ("1901",), ("1902",), ("1903",)))
    with pytest.raises(DataError, match=r"'choices': 'q0\?' has no choices, and 3 more\nhint: .* kind is numbers"):
        load_task(path, kind="choices")
    path = write(tmp_path / "u.jsonl", [{"question": "q?", "answers": ["Lima", "5"]}])
    with pytest.raises(DataError, match="do not fit the kind 'numbers': 'Lima' is not a number, and 0 more"):
        load_task(path, kind="numbers")
    choices = [{"question": "q?", "answers": ["Lima"], "choices": ["Lima", "Quito"]}]
    assert load_task(write(tmp_path / "v.jsonl", choices), kind="choices").kind == "choices"


def test_load_task_reads_csv_files_of_spreadsheets(tmp_path: Path) -> None:
    context = "word " * 40_000  # 200,000 characters, more than Python's limit of 131,072
    rows = f'question,answers,context,,\nWho?,"[""a"", """"]",{context},,\n\n"Who, then?",b\n'
    (tmp_path / "t.csv").write_text(rows)
    first, second = load_task(tmp_path / "t.csv").examples
    assert (first.question, first.answers, first.context) == ("Who?", ("a",), context)
    assert (second.question, second.answers, second.context) == ("Who, then?", ("b",), "")


@pytest.mark.parametrize("value", [None, "", " ", -1, "-1", float("nan"), "nan", "<NA>"])
def test_index_of_an_empty_cell_is_none(value: Any) -> None:
    assert parse_index(value, 4) is None


@pytest.mark.parametrize("value", [[], {}, "two", True, 1.5, 4, "inf", 10**400])
def test_index_that_is_no_number_of_an_item_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="must be a whole number from 0 to 3, got"):
        parse_index(value, 4)


def test_load_task_reads_pairs_of_surrogates_and_signs(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"question": "Who \\ud83d\\ude00 \\\\ud83d?", "answers": ["%", "€"]}')
    (example,) = load_task(tmp_path / "t.jsonl").examples
    assert (example.question, example.answers) == ("Who 😀 \\ud83d?", ("%", "€"))


def test_load_task_rejects_repeated_columns_of_parquet(tmp_path: Path) -> None:
    table = pyarrow.table([["Who?"], ["a"], ["b"]], names=["question", "answers", "answers"])
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"the column 'answers' of .* occurs more than once"):
        load_task(tmp_path / "t.parquet")
