"""Read JSONL, CSV and Parquet files, and create tasks from user files.

Every row of a user file is checked when a task is created.  Error messages name the file, the row and its fields.
"""

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from probemap.reading.folding import same_name
from probemap.records import DataError, Example, Task
from probemap.tasks.kinds import infer_kinds


def read_rows(path: Path) -> Iterable[Any]:
    """Read the rows of a JSONL, CSV or Parquet file, without checking them.

    Parameters
    ----------
    path : Path
        Path of the file, whose extension determines the format.

    Returns
    -------
    Iterable
        The rows.  They are usually mappings, but a row of a JSONL file can be any JSON value.

    Raises
    ------
    DataError
        If the file does not exist, has an unknown extension, or cannot be read in the corresponding format.
    """
    if not path.is_file():
        raise DataError(f"the file {path} does not exist", "check the path")
    readers = {".jsonl": _read_jsonl, ".csv": _read_csv, ".parquet": _read_parquet}
    if path.suffix.lower() not in readers:
        raise DataError(f"{path} is not a .jsonl, .csv or .parquet file", "convert it to one of these formats")
    return readers[path.suffix.lower()](path)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text", "save it as UTF-8") from None


def _read_jsonl(path: Path) -> Iterable[Mapping[str, Any]]:
    for number, line in enumerate(_read_text(path).split("\n"), start=1):
        if line.strip():
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(
                    f"{path}, line {number} is not valid JSON ({error.msg})", "write one JSON object per line"
                ) from None


def _read_csv(path: Path) -> Iterable[Mapping[str, Any]]:
    try:
        yield from csv.DictReader(io.StringIO(_read_text(path), newline=""), strict=True)
    except csv.Error as error:
        raise DataError(f"{path} is not a valid CSV file ({error})", "check the quotation marks") from None


def _read_parquet(path: Path) -> Iterable[Mapping[str, Any]]:
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise DataError(
            "reading Parquet files requires the pyarrow package, which is not installed",
            "pip install 'probemap[parquet]'",
        ) from None
    try:
        rows: list[Mapping[str, Any]] = parquet.read_table(path).to_pylist()
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not a valid Parquet file ({error})", "write the file again") from None
    return rows


def task_from_file(path: Path, *, require_answers: bool = True) -> Task:
    """Create a task from a user file; see `load_task` for the format.

    Parameters
    ----------
    path : Path
    require_answers : bool
        Whether every row must have accepted answers.

    Returns
    -------
    Task
        The task, which is named after the file.

    Raises
    ------
    DataError
        If the file cannot be read, has no rows, or has an invalid row.
    """
    examples = tuple(
        _example(row, f"{path}, row {number}", number, require_answers)
        for number, row in enumerate(read_rows(path), start=1)
    )
    if not examples:
        raise DataError(
            f"{path} contains no questions", "write one row per question, with the fields 'question' and 'answers'"
        )
    prompt = "{context}\n\n{question}" if any(e.context for e in examples) else "{question}"
    return infer_kinds(Task(path.stem, examples, "open", prompt=prompt, source=str(path.name)))


def _example(row: Any, location: str, number: int, require_answers: bool) -> Example:
    if not isinstance(row, Mapping):
        raise DataError(f"{location}: expected an object, got {type(row).__name__}", "write one object per row")
    row = {str(key).strip().lower(): value for key, value in row.items() if key is not None}
    question = row.get("question")
    if not isinstance(question, str) or not question.strip():
        raise DataError(
            f"{location}: the field 'question' must be a non-empty string (fields: {', '.join(row) or 'none'})",
            "each row requires the string field 'question'",
        )
    answers = _strings(row.get("answers", row.get("answer")), location, "answers")
    if require_answers and not answers:
        raise DataError(
            f"{location}: there are no accepted answers to {question[:60]!r}",
            "each row requires the field 'answers', a string or a list of strings",
        )
    choices = _strings(row.get("choices"), location, "choices")
    if choices and answers and not any(same_name(c, a) for c in choices for a in answers):
        raise DataError(
            f"{location}: none of the answers {list(answers)} is among the choices {list(choices)}",
            "spell one of the answers like the correct choice",
        )
    id_ = row.get("id")
    return Example(
        f"row-{number}" if id_ in (None, "") else str(id_),
        question,
        answers,
        choices,
        str(row.get("context") or ""),
    )


def _strings(value: Any, location: str, field: str) -> tuple[str, ...]:
    """Convert a list, a string that contains a JSON list, a single string or a single number to a tuple of strings."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            raise DataError(
                f"{location}: {field} {value[:60]!r} starts like a list but is not valid JSON",
                'write a list as ["Paris", "City of Paris"]',
            ) from None
    items = value if isinstance(value, list | tuple) else [value]
    texts = []
    for item in items:
        if item is None or (isinstance(item, str) and not item.strip()):
            continue
        is_number = isinstance(item, int) and not isinstance(item, bool)
        is_number = is_number or (isinstance(item, float) and math.isfinite(item))
        if not (is_number or isinstance(item, str)):
            raise DataError(
                f"{location}: {field!r} must contain only strings and numbers, got {item!r}", "correct this row"
            )
        texts.append(str(int(item)) if isinstance(item, float) and item.is_integer() else str(item).strip())
    return tuple(texts)
