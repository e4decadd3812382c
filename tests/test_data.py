"""Questions come in whole or not at all, and the built-in tasks are what they say."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probemap.grading.rules import possible_answers
from probemap.mentions import as_number, find_names, same_name
from probemap.records import DataError
from probemap.tasks.files import TASKS, load_examples, load_task


@pytest.mark.parametrize("name", TASKS)
def test_built_in_tasks_are_large_deterministic_and_without_repeats(name: str) -> None:
    task, again = load_task(name), load_task(name)
    assert task == again
    assert len(task.examples) >= 500
    assert len({e.id for e in task.examples}) == len({e.question for e in task.examples}) == len(task.examples)
    for example in task.examples:
        if task.kind == "names":
            groups = possible_answers(task, example)
            right = [g for g in groups if any(same_name(s, a) for s in g for a in example.answers)]
            assert len(right) == 1, example
        else:
            assert as_number(example.answers[0]) is not None


def test_no_city_gives_its_country_away_and_no_country_dominates() -> None:
    task = load_task("cities")
    assert [e.question for e in task.examples if find_names(e.question, task.possible)] == []
    counts = [sum(e.answers == a for e in task.examples) for a in {e.answers for e in task.examples}]
    assert max(counts) <= 14
    vienna = next(e for e in task.examples if e.id == "city-Berlin")
    assert vienna.answers == ("Germany",)


def test_comparisons_are_balanced_and_clear() -> None:
    examples = load_examples("compare")
    first = sum(e.answers[0] == e.choices[0] for e in examples)
    assert 0.45 < first / len(examples) < 0.55
    egypt = [e for e in examples if set(e.choices) == {"Nigeria", "Norway"}]
    assert all(e.answers == ("Nigeria",) for e in egypt)


@pytest.mark.parametrize(
    ("question", "answer"),
    [("+", lambda a, b: a + b), ("-", lambda a, b: a - b), ("times", lambda a, b: a * b)],
)
def test_arithmetic_is_right(question: str, answer: Any) -> None:
    seen = 0
    for example in load_examples("arithmetic"):
        words = example.question.replace("?", "").split()
        if words[0:2] == ["What", "is"] and words[3:4] == [question]:
            assert example.answers == (str(answer(int(words[2]), int(words[4]))),)
            seen += 1
    assert seen >= 120


def test_drawing_is_without_replacement_and_seeded() -> None:
    all_ = load_examples("cities")
    drawn = load_examples("cities", n=50, seed=1)
    assert len({e.id for e in drawn}) == 50
    assert set(drawn) <= set(all_)
    assert drawn == load_examples("cities", n=50, seed=1) != load_examples("cities", n=50, seed=2)


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
def test_the_three_formats_give_the_same_task(tmp_path: Path, ending: str) -> None:
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
def test_how_a_file_is_judged_follows_from_all_of_its_answers(
    tmp_path: Path, answers: list[Any], kind: str, possible: int
) -> None:
    rows = [{"question": f"q{i}?", "answers": a} for i, a in enumerate(answers)]
    task = load_task(write(tmp_path / "t.jsonl", rows))
    assert (task.kind, len(task.possible)) == (kind, possible)
    assert task.examples[2].id == "row-3"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.jsonl", "", "holds no questions"),
        ("t.jsonl", "\n\n", "holds no questions"),
        ("t.csv", "", "holds no questions"),
        ("t.jsonl", "{'question': 1}", "t.jsonl, line 1: not JSON"),
        ("t.jsonl", "[1, 2]", "row 1: expected an object, got list"),
        ("t.jsonl", '{"text": "q"}', "row 1: no question (fields: text)\nhint: each row needs a text field"),
        ("t.jsonl", '{"question": "  "}', "row 1: no question"),
        ("t.jsonl", '{"question": "Who?"}', "row 1: no answers to 'Who?'"),
        ("t.jsonl", '{"question": "Who?", "answers": []}', "no answers to 'Who?'"),
        ("t.jsonl", '{"question": "Who?", "answers": [{"a": 1}]}', "answers holds {'a': 1}"),
        ("t.jsonl", '{"question": "Who?", "answers": "[oops"}', "starts like a list but is not JSON"),
        (
            "t.jsonl",
            '{"question": "Who?", "answers": "a", "choices": ["b", "c"]}',
            "none of the answers ['a'] is among the choices ['b', 'c']",
        ),
        (
            "t.jsonl",
            '{"id": 1, "question": "a?", "answers": "x"}\n' * 2,
            "1 ids stand more than once: '1'\nhint: make ids",
        ),
        ("t.parquet", "no parquet", "is not a Parquet file"),
        ("t.txt", "x", "is no .jsonl, .csv or .parquet file"),
    ],
)
def test_bad_files_get_a_message_that_names_the_row(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError) as raised:
        load_task(tmp_path / name)
    assert message in str(raised.value)


def test_other_bad_requests() -> None:
    with pytest.raises(
        DataError, match=r"no file nothing\.jsonl and no task of that name\nhint: tasks are cities, .*triviaqa"
    ):
        load_task("nothing.jsonl")
    with pytest.raises(DataError, match="9999 questions were asked for; compare has 600"):
        load_task("compare", n=9999)


def test_numbers_keep_all_their_digits(tmp_path: Path) -> None:
    rows = [{"question": "q?", "answers": [1234567.0, 12345.678, 7]}]
    assert load_task(write(tmp_path / "t.jsonl", rows)).examples[0].answers == ("1234567", "12345.678", "7")
    (tmp_path / "t.jsonl").write_text('{"question": "q?", "answers": [NaN]}')
    with pytest.raises(DataError, match="answers holds nan"):
        load_task(tmp_path / "t.jsonl")


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
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
def test_any_row_gives_an_example_or_a_message(tmp_path_factory: pytest.TempPathFactory, row: dict[str, Any]) -> None:
    path = tmp_path_factory.mktemp("rows") / "t.jsonl"
    path.write_text(json.dumps(row), encoding="utf-8")
    try:
        (example,) = load_task(path).examples
    except DataError as error:
        assert "hint:" in str(error)
    else:
        assert example.question.strip()
        assert example.answers
