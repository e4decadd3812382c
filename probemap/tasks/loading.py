"""Load a task by name or from a file."""

import hashlib
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

from probemap.records import DataError, Example, Kind, Task
from probemap.tasks.builtin import TASKS
from probemap.tasks.files import read_rows, task_from_file
from probemap.tasks.kinds import separate_numbers, set_kind
from probemap.tasks.published import PUBLISHED, adapt_rows, load_from_hub


def load_task(
    source: str | Path,
    *,
    n: int | None = None,
    seed: int = 0,
    kind: Kind | None = None,
    require_answers: bool = True,
) -> Task:
    """Load a task by name, or from a JSONL, CSV or Parquet file.

    Parameters
    ----------
    source : str or Path
        One of the following:

        * the name of a built-in task, e.g. ``cities``; see `TASKS`;
        * the name of a published data set, e.g. ``triviaqa``, which is downloaded from the Hugging Face hub; `probemap
          list tasks` lists the names;
        * the name of a published data set, followed by a colon and the path of a file with its original rows, e.g.
          ``triviaqa:rows.jsonl``;
        * the path of a user file, e.g. ``rows.jsonl``.

        A user file has one row per question, with the fields ``question`` and ``answers`` (a list or a single string),
        and optionally ``id``, ``choices`` (a list) and ``context``.  In CSV files, lists are written as JSON.  The kind
        of each row is inferred.  It is ``names`` if the row has choices, and ``numbers`` if all of its accepted answers
        are numbers.  The other rows are ``names`` if each of their distinct answers occurs at least five times on
        average, and otherwise ``open``.  All further fields with a text, a number or a truth value, e.g. a popularity
        or a relation, are kept in ``Example.metadata``.  In CSV files, a column is numeric if all of its values are
        numbers.
    n : int, optional
        Number of questions to draw at random, without replacement.  The drawn questions keep their original order.  By
        default, all questions are used.
    seed : int
        Random seed for drawing the questions.
    kind : {"open", "numbers", "names", "choices"}, optional
        Kind of all questions, which determines how answers are graded; see `grade`.  By default, it is that of the data
        set, except that questions with numbers as accepted answers are of the kind ``numbers`` in an open data set.
        For a user file, the kind of each row is inferred.
    require_answers : bool
        Whether every row of a user file must have the ``answers`` field.  Pass False if verdicts are supplied with the
        model's answers.

    Returns
    -------
    Task

    Raises
    ------
    DataError
        If the task or file does not exist, if a file is empty or unreadable, if a row is invalid, if an id occurs more
        than once, if the questions do not fit `kind`, or if `n` is not between 1 and the number of questions.

    Examples
    --------
    >>> import probemap
    >>> task = probemap.load_task("cities", n=50, seed=1)
    >>> len(task.examples), task.kind
    (50, 'names')
    >>> task.examples[0].question
    'In which country is the city of Abomey-Calavi?'
    """
    return select_questions(_load(str(source), require_answers), source, n=n, seed=seed, kind=kind)


def select_questions(
    task: Task, source: str | Path, *, n: int | None = None, seed: int = 0, kind: Kind | None = None
) -> Task:
    """Check the ids of a task's questions, set their kind, and draw some of them; see `load_task`."""
    _check_ids(task.examples, source)
    if kind is not None:
        task = set_kind(task, kind)
    if n is None:
        return task
    if not 0 < n <= len(task.examples):
        raise DataError(
            f"{n} questions were requested, but {source} has {len(task.examples)}",
            f"set --n to a number between 1 and {len(task.examples)}, or omit it",
        )
    rows = sorted(random.Random(seed).sample(range(len(task.examples)), n))
    return replace(task, examples=tuple(task.examples[row] for row in rows))


def _load(source: str, require_answers: bool) -> Task:
    name, colon, file = source.partition(":")
    if source in TASKS:
        return TASKS[source].load()
    if name in PUBLISHED:
        task = adapt_rows(name, read_rows(Path(file))) if colon else load_from_hub(name)
        return separate_numbers(task) if task.kind == "open" else task
    if not Path(source).is_file():
        raise DataError(
            f"no file or task named {source!r}",
            f"the tasks are {', '.join([*TASKS, *PUBLISHED])}; a file must be a .jsonl, .csv or .parquet file, "
            "and a log is passed as lm-eval:FILE, inspect:FILE, lighteval:FILE or every-eval-ever:FILE",
        )
    return task_from_file(Path(source), require_answers=require_answers)


def _check_ids(examples: tuple[Example, ...], source: str | Path) -> None:
    repeated = [id_ for id_, count in Counter(e.id for e in examples).items() if count > 1]
    if repeated:
        shown = ", ".join(repr(id_) for id_ in repeated[:5])
        raise DataError(
            f"{source}: {len(repeated)} ids occur more than once: {shown}",
            "make the ids unique, or omit the field to number the rows",
        )


def fingerprint(task: Task) -> str:
    """Return the SHA-256 hash of a task and its examples, without the examples' kinds and metadata."""
    return hashlib.sha256(repr(task).encode()).hexdigest()
