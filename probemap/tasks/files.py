"""Questions in: built-in tasks, published data sets by name, and files that users bring (JSONL, CSV, Parquet).

Knows nothing of models.  A built-in task is a line in TASKS and a function of about fifteen lines.
"""

import csv
import hashlib
import io
import json
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from probemap.mentions import ADJECTIVE, as_number, same_name
from probemap.records import DataError, Example, Kind, Task
from probemap.tasks.published import PUBLISHED, adapted, from_hub

GEONAMES = "GeoNames (https://www.geonames.org), CC BY 4.0"


def _table(name: str) -> list[dict[str, str]]:
    """A table that ships with the package, its comment lines skipped."""
    text = files("probemap.tasks").joinpath("data", name).read_text(encoding="utf-8")
    return list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))


def _split(cell: str) -> list[str]:
    return cell.split(";") if cell else []


def _cities() -> Task:
    countries = _table("countries.csv")
    names = {row["country"]: (row["country"], *_split(row["other_names"])) for row in countries}
    examples = tuple(
        Example(f"city-{row['city']}", f"In which country is the city of {row['city']}?", names[row["country"]])
        for row in _table("cities.csv")
    )
    possible = tuple(
        (*names[row["country"]], *(word + ADJECTIVE for word in _split(row["adjectives"]))) for row in countries
    )
    return Task("cities", examples, "names", possible=possible, max_new_tokens=28, source=GEONAMES)


def _arithmetic() -> Task:
    """Five forms of growing size, 120 distinct questions each, drawn with a fixed seed."""
    forms: list[tuple[str, Callable[[int, int], int], range, range]] = [
        ("What is {a} + {b}?", lambda a, b: a + b, range(1, 15), range(1, 15)),
        ("What is {a} - {b}?", lambda a, b: a - b, range(6, 30), range(1, 6)),
        ("What is {a} times {b}?", lambda a, b: a * b, range(2, 13), range(2, 13)),
        ("What is half of {a}?", lambda a, b: a // 2, range(2, 242, 2), range(1)),
        ("What is {a} + {b}? Give the sum only.", lambda a, b: a + b, range(10, 60, 3), range(2, 20)),
    ]
    draw = random.Random(0)
    examples: list[Example] = []
    for template, result, left, right in forms:
        pairs = [(a, b) for a in left for b in right]
        for a, b in sorted(draw.sample(pairs, 120)):
            question = template.format(a=a, b=b)
            examples.append(Example(f"arithmetic-{len(examples):03d}", question, (str(result(a, b)),)))
    return Task("arithmetic", tuple(examples), "numbers", max_new_tokens=40, source="generated, seed 0")


def _compare() -> Task:
    """Pairs of countries, one with at least twice the inhabitants of the other, in drawn order."""
    countries = [row for row in _table("countries.csv") if row["population_millions"]]
    sizes = [(row["country"], float(row["population_millions"])) for row in countries]
    possible = tuple((row["country"], *_split(row["other_names"]), *_split(row["adjectives"])) for row in countries)
    draw = random.Random(0)
    pairs: dict[frozenset[str], Example] = {}
    while len(pairs) < 600:
        (one, many), (other, few) = draw.sample(sizes, 2)
        if max(many, few) < 2 * min(many, few) or frozenset({one, other}) in pairs:
            continue
        question = f"Which has more inhabitants, {one} or {other}?"
        larger = one if many > few else other
        pairs[frozenset({one, other})] = Example(f"compare-{len(pairs):03d}", question, (larger,), choices=(one, other))
    shots = tuple(
        (
            f"Which has more inhabitants, {a} or {b}?",
            f"{more}, because it is home to more people than {less}.",
        )
        for a, b, more, less in (
            ("Iceland", "Egypt", "Egypt", "Iceland"),
            ("Japan", "Malta", "Japan", "Malta"),
        )
    )
    return Task(
        "compare", tuple(pairs.values()), "names", possible=possible, shots=shots, max_new_tokens=32, source=GEONAMES
    )


@dataclass(frozen=True)
class TaskLine:
    """One line of ``probemap tasks``."""

    meaning: str
    load: Callable[[], Task]


TASKS: dict[str, TaskLine] = {
    "cities": TaskLine("In which country is the city of …? (several accepted names per country)", _cities),
    "arithmetic": TaskLine("sums, differences, products and halves of graded difficulty", _arithmetic),
    "compare": TaskLine("Which has more inhabitants, A or B? (two choices, two worked examples)", _compare),
}
"""Name -> built-in task."""


def load_examples(source: str | Path, *, n: int | None = None, seed: int = 0) -> tuple[Example, ...]:
    """The questions of a built-in task or a file: ``load_task(source, n=n, seed=seed).examples``."""
    return load_task(source, n=n, seed=seed).examples


def load_task(source: str | Path, *, n: int | None = None, seed: int = 0, gold: bool = True) -> Task:
    """A task by name, or made from a JSONL, CSV or Parquet file.

    ``cities`` is built in (`TASKS`); ``triviaqa`` is a published data set (`published.PUBLISHED`), downloaded from the
    hub; ``triviaqa:rows.jsonl`` is the same from a file with its publisher's rows; ``rows.jsonl`` is your own file.

    A file has one row per question with the fields ``question`` and ``answers`` (a list, or one string) and
    optionally ``id``, ``choices`` (a list) and ``context``; in a CSV a list is written as JSON.  How it is
    judged follows from its answers, never row by row: every row has choices, or few distinct answers recur →
    ``names``; every answer is a number → ``numbers``; otherwise ``open``.

    Parameters
    ----------
    n: draw this many questions without replacement, kept in their order; None takes all.
    seed: of that draw.
    gold: False lets rows of your own file do without ``answers``: the verdicts come from elsewhere.

    Raises
    ------
    DataError: no such task or file, an empty or unreadable file, a bad row, duplicate ids, `n` too large.
    """
    task = _load(str(source), gold)
    _refuse_duplicates(task.examples, source)
    if n is None:
        return task
    if not 0 < n <= len(task.examples):
        raise DataError(
            f"{n} questions were asked for; {source} has {len(task.examples)}",
            f"give --n between 1 and {len(task.examples)}, or leave it out",
        )
    drawn = sorted(random.Random(seed).sample(range(len(task.examples)), n))
    return replace(task, examples=tuple(task.examples[i] for i in drawn))


def _load(source: str, gold: bool) -> Task:
    name, colon, file = source.partition(":")
    if source in TASKS:
        return TASKS[source].load()
    if name in PUBLISHED:
        return adapted(name, rows_of(Path(file))) if colon else from_hub(name)
    if not Path(source).is_file():
        raise DataError(
            f"there is no file {source} and no task of that name",
            f"tasks are {', '.join([*TASKS, *PUBLISHED])}; files are .jsonl, .csv or .parquet",
        )
    return _from_file(Path(source), gold)


def rows_of(path: Path) -> Iterable[Any]:
    """The rows of a JSONL, CSV or Parquet file, unchecked.

    Raises
    ------
    DataError: no such file, or not readable as what its name says.
    """
    if not path.is_file():
        raise DataError(f"there is no file {path}", "check the path")
    readers = {".jsonl": _read_jsonl, ".csv": _read_csv, ".parquet": _read_parquet}
    if path.suffix.lower() not in readers:
        raise DataError(f"{path} is no .jsonl, .csv or .parquet file", "convert it to one of these")
    return readers[path.suffix.lower()](path)


def _from_file(path: Path, gold: bool) -> Task:
    examples = tuple(
        _example(row, f"{path}, row {number}", number, gold) for number, row in enumerate(rows_of(path), start=1)
    )
    if not examples:
        raise DataError(f"{path} holds no questions", "one row per question: question, answers")
    kind, possible = _kind(examples)
    prompt = "{context}\n\n{question}" if any(e.context for e in examples) else "{question}"
    return Task(path.stem, examples, kind, possible=possible, prompt=prompt, source=str(path.name))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text", "save it as UTF-8") from None


def _read_jsonl(path: Path) -> Iterable[Mapping[str, Any]]:
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if line.strip():
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(f"{path}, line {number}: not JSON ({error.msg})", "one object per line") from None


def _read_csv(path: Path) -> Iterable[Mapping[str, Any]]:
    try:
        yield from csv.DictReader(io.StringIO(_text(path), newline=""), strict=True)
    except csv.Error as error:
        raise DataError(f"{path} is not a CSV file ({error})", "check its quotes") from None


def _read_parquet(path: Path) -> Iterable[Mapping[str, Any]]:
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise DataError(
            "reading Parquet needs pyarrow, which is not installed", "pip install 'probemap[parquet]'"
        ) from None
    try:
        rows: list[Mapping[str, Any]] = parquet.read_table(path).to_pylist()
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not a Parquet file ({error})", "write it again") from None
    return rows


def _example(row: Any, where: str, number: int, gold: bool) -> Example:
    if not isinstance(row, Mapping):
        raise DataError(f"{where}: expected an object, got {type(row).__name__}", "one object per row")
    row = {str(key).strip().lower(): value for key, value in row.items() if key is not None}
    question = row.get("question")
    if not isinstance(question, str) or not question.strip():
        raise DataError(
            f"{where}: no question (fields: {', '.join(row) or 'none'})",
            "each row needs a text field 'question'",
        )
    answers = _strings(row.get("answers", row.get("answer")), where, "answers")
    if gold and not answers:
        raise DataError(
            f"{where}: no answers to {question[:60]!r}",
            "each row needs 'answers': a string or a list of them",
        )
    choices = _strings(row.get("choices"), where, "choices")
    if choices and answers and not any(same_name(c, a) for c in choices for a in answers):
        raise DataError(
            f"{where}: none of the answers {list(answers)} is among the choices {list(choices)}",
            "spell one answer as its choice",
        )
    given = row.get("id")
    return Example(
        f"row-{number}" if given in (None, "") else str(given),
        question,
        answers,
        choices,
        str(row.get("context") or ""),
    )


def _strings(value: Any, where: str, field: str) -> tuple[str, ...]:
    """A list of texts, from a list, a JSON list in a string, one string or one number."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            raise DataError(
                f"{where}: {field} {value[:60]!r} starts like a list but is not JSON",
                'write a list as ["Paris", "City of Paris"]',
            ) from None
    values = value if isinstance(value, list | tuple) else [value]
    texts = []
    for one in values:
        if one is None or (isinstance(one, str) and not one.strip()):
            continue
        if (
            isinstance(one, bool)
            or not isinstance(one, str | int | float)
            or one in (math.inf, -math.inf)
            or one != one
        ):
            raise DataError(f"{where}: {field} holds {one!r}", "texts or numbers are expected")
        texts.append(str(int(one)) if isinstance(one, float) and one.is_integer() else str(one).strip())
    return tuple(texts)


def _refuse_duplicates(examples: tuple[Example, ...], source: str | Path) -> None:
    twice = [i for i, count in Counter(e.id for e in examples).items() if count > 1]
    if twice:
        shown = ", ".join(repr(i) for i in twice[:5])
        raise DataError(
            f"{source}: {len(twice)} ids stand more than once: {shown}",
            "make ids unique, or leave the field out to number the rows",
        )


def _kind(examples: tuple[Example, ...]) -> tuple[Kind, tuple[tuple[str, ...], ...]]:
    """How a file's answers are judged, and for recurring labels the closed set that they form.

    A closed set is read off the answers only if each label recurs five times on average: then the set says
    nothing about one row's answer.
    """
    if all(e.choices for e in examples):
        return "names", ()
    if not all(e.answers for e in examples):
        return "open", ()
    if all(as_number(a) is not None for e in examples for a in e.answers):
        return "numbers", ()
    labels = sorted({e.answers for e in examples})
    if 2 <= len(labels) <= len(examples) / 5:
        return "names", tuple(labels)
    return "open", ()


def fingerprint(task: Task) -> str:
    """SHA-256 over everything that the task asks and accepts."""
    return hashlib.sha256(repr(task).encode()).hexdigest()
