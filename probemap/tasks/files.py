"""Read JSONL, CSV and Parquet files, and create tasks from user files.

Every row of a user file is checked when a task is created.  Error messages name the file, the row and its fields.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from numbers import Number
from pathlib import Path
from typing import Any

from probemap.file_content import placeholder
from probemap.reading.folding import same_name
from probemap.records import DataError, Example, Task
from probemap.redact import redacted_message
from probemap.tasks.cells import is_punctuation, parse_texts
from probemap.tasks.kinds import infer_kinds
from probemap.tasks.metadata import parse_metadata

_FIELDS = ("id", "question", "answers", "answer", "choices", "context")
"""Fields of a question file that have a meaning.  All other scalar fields are kept as metadata."""


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
    if found := placeholder(path) if path.stat().st_size else None:
        raise DataError(*found)
    return readers[path.suffix.lower()](path)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text", "save it as UTF-8") from None


def _read_jsonl(path: Path) -> Iterator[Any]:
    for number, line in enumerate(_read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        location = f"{path}, line {number}"
        try:
            row = _DECODER.decode(line)
            if "\\u" in line:  # only an escape sequence can produce a lone surrogate
                json.dumps(row, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"{location}: the text contains {error.object[error.start]!r}, which is half of a character",
                "write the whole character, or remove the half: such halves remain if a text is cut inside an emoji",
            ) from None
        except _RepeatedFieldError as error:
            raise DataError(f"{location}: the field {error.args[0]!r} occurs more than once", _RENAME) from None
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else redacted_message(error)
            raise DataError(f"{location} is not valid JSON ({reason})", "write one JSON object per line") from None
        yield row


class _RepeatedFieldError(Exception):
    """Raised for a JSON object in which a field name occurs more than once.  The argument is the name."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise _RepeatedFieldError(_repeated([name for name, _ in pairs]))
    return row


_DECODER = json.JSONDecoder(object_pairs_hook=_object)

_RENAME = "rename or remove one of them; write a list of several answers as a JSON list in one field"


def _repeated(names: Sequence[str]) -> str:
    """Return the first name that occurs more than once, or an empty string.  Columns without a name may repeat."""
    if len(set(names)) == len(names):
        return ""
    return next((name for name, count in Counter(names).items() if count > 1 and name), "")


def _read_csv(path: Path) -> Iterator[Mapping[str, Any]]:
    text = _read_text(path)
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # a cell may be as long as the file
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(reader, [])
        if len(header) == 1 and (separator := next((s for s in ";\t|" if s in header[0]), "")):
            raise DataError(
                f"the columns of {path} are separated by {separator!r}, expected commas",
                "save it with commas between the columns",
            )
        if name := _repeated(header):
            raise DataError(f"the column {name!r} of {path} occurs more than once", _RENAME)
        for cells in reader:
            if any(cells[len(header) :]):
                raise DataError(
                    f"{path}, line {reader.line_num}: the row has {len(cells)} cells, but the header has {len(header)}",
                    "write a cell that contains a comma in quotation marks",
                )
            if cells:
                yield dict(zip(header, cells, strict=False))
    except csv.Error as error:
        raise DataError(
            f"{path}, line {reader.line_num} is not valid CSV ({error})", "check the quotation marks"
        ) from None


_PARQUET_ROWS = 4096
"""Number of rows that are converted at a time."""


def _read_parquet(path: Path) -> Iterable[Mapping[str, Any]]:
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise DataError(
            "reading Parquet files requires the pyarrow package, which is not installed",
            "pip install 'probemap[parquet]'",
        ) from None
    try:
        if name := _repeated(parquet.read_schema(path).names):
            raise DataError(f"the column {name!r} of {path} occurs more than once", _RENAME)
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(_PARQUET_ROWS):  # not all rows at once, which may contain long lists
                yield from batch.to_pylist()
    except (OSError, ValueError, NotImplementedError) as error:
        raise DataError(f"{path} is not a valid Parquet file ({error})", "write the file again") from None


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
    examples: list[Example] = []
    further: list[dict[str, Any]] = []
    for number, row in enumerate(read_rows(path), start=1):
        location = f"{path}, row {number}"
        fields = _named_fields(row, location)
        examples.append(_example(fields, location, number, require_answers))
        further.append(
            {name: value for name, value in fields.items() if name not in _FIELDS and isinstance(value, str | Number)}
        )
    if not examples:
        raise DataError(
            f"{path} contains no questions", "write one row per question, with the fields 'question' and 'answers'"
        )
    prompt = "{context}\n\n{question}" if any(e.context for e in examples) else "{question}"
    metadata = parse_metadata(further, numbers_as_text=path.suffix.lower() == ".csv")
    rows = tuple(replace(example, metadata=fields) for example, fields in zip(examples, metadata, strict=True))
    return infer_kinds(Task(path.stem, rows, "open", prompt=prompt, source=str(path.name)))


def _named_fields(row: Any, location: str) -> dict[str, Any]:
    """Return the fields of a row, with their names in lower case and without spaces at the ends."""
    if not isinstance(row, Mapping):
        raise DataError(f"{location}: expected an object, got {type(row).__name__}", "write one object per row")
    names = [str(key).strip().lower() for key in row]
    if name := _repeated(names):
        raise DataError(f"{location}: several fields are named {name!r}, apart from spaces and case", _RENAME)
    return dict(zip(names, row.values(), strict=True))


def _example(row: Mapping[str, Any], location: str, number: int, require_answers: bool) -> Example:
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
    if require_answers and not choices and is_punctuation(answers):
        raise DataError(
            f"{location}: the accepted answers {list(answers)} consist of punctuation marks, which occur in any answer",
            'add the answer in words, e.g. ["full stop", "."]',
        )
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
    try:
        return parse_texts(value)
    except ValueError as error:
        raise DataError(f"{location}: {field!r} {error}", 'write a list as ["Paris", "City of Paris"]') from None
