"""Infer the kind of answer that each question requires from its choices and its accepted answers."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from probemap.reading.numbers import as_number
from probemap.records import DataError, Example, Kind, Task

_ROWS_PER_LABEL = 5
"""Minimum average number of rows per distinct answer in a closed set.

With fewer rows, the set could reveal the answers to individual questions.
"""


def infer_kinds(task: Task) -> Task:
    """Return a task whose examples have the kinds inferred from their choices and accepted answers.

    The kind is ``names`` for an example with choices, and ``numbers`` if all accepted answers are numbers.  The kind of
    the remaining examples is ``names`` if they have at least two distinct answers, each of which occurs at least five
    times on average, and otherwise ``open``.  The most frequent kind becomes the kind of the task.

    Examples
    --------
    >>> from probemap import Example, Task
    >>> from probemap.tasks.kinds import infer_kinds
    >>> rows = (Example("a", "Who wrote Emma?", ("Jane Austen",)), Example("b", "In which year?", ("1815",)))
    >>> task = infer_kinds(Task("t", rows, "open"))
    >>> [task.kind_of(example) for example in task.examples]
    ['open', 'numbers']
    """
    kinds = [_kind(example) for example in task.examples]
    others = [example for example, kind in zip(task.examples, kinds, strict=True) if kind == "open"]
    labels = sorted({example.answers for example in others})
    is_closed = 2 <= len(labels) <= len(others) / _ROWS_PER_LABEL and () not in labels
    if is_closed:
        kinds = ["names" if kind == "open" else kind for kind in kinds]
    return _with_kinds(replace(task, possible=tuple(labels) if is_closed else ()), kinds)


def separate_numbers(task: Task) -> Task:
    """Return an open task in which the questions whose accepted answers are all numbers are of the kind ``numbers``."""
    is_number = [example.kind is None and _kind(example) == "numbers" for example in task.examples]
    return _with_kinds(task, ["numbers" if numeric else task.kind for numeric in is_number])


def set_kind(task: Task, kind: Kind) -> Task:
    """Return a task in which all examples are of the given kind.

    For the kind ``names``, the possible answers are the choices of each question or, if there are none, the accepted
    answers of all questions.

    Raises
    ------
    DataError
        If `kind` is ``numbers`` and an accepted answer is not a number, or if `kind` is ``choices`` and a question has
        no choices.
    """
    lacking: list[str] = []
    if kind == "numbers":
        lacking = [f"{a!r} is not a number" for e in task.examples for a in e.answers if as_number(a) is None]
    elif kind == "choices":
        lacking = [f"{e.question[:60]!r} has no choices" for e in task.examples if not e.choices]
    if lacking:
        raise DataError(
            f"the questions of {task.name} do not fit the kind {kind!r}: {lacking[0]}, and {len(lacking) - 1} more",
            f"correct the questions, or use a different kind; the inferred kind is {describe_kinds(task)}",
        )
    has_set = {task.kind_of(e) for e in task.examples} == {"names"} or all(e.choices for e in task.examples)
    if kind == "names" and not has_set:
        task = replace(task, possible=tuple(sorted({e.answers for e in task.examples})))
    elif kind != "names":
        task = replace(task, possible=())
    return replace(task, kind=kind, examples=tuple(replace(e, kind=None) for e in task.examples))


def describe_kinds(task: Task) -> str:
    """Return the kind of a task or, if its examples are of several kinds, each kind with the number of examples.

    Examples
    --------
    >>> import probemap
    >>> from probemap.tasks.kinds import describe_kinds
    >>> describe_kinds(probemap.load_task("cities", n=10))
    'names'
    """
    counts = Counter(task.kind_of(example) for example in task.examples)
    if len(counts) < 2:
        return next(iter(counts), task.kind)
    return ", ".join(f"{kind}: {n}" for kind, n in counts.most_common())


def _kind(example: Example) -> Kind:
    if example.choices:
        return "names"
    is_number = bool(example.answers) and all(as_number(answer) is not None for answer in example.answers)
    return "numbers" if is_number else "open"


def _with_kinds(task: Task, kinds: list[Kind]) -> Task:
    """Return the task with the given kinds of its examples; the most frequent one becomes the kind of the task."""
    kind = Counter(kinds).most_common(1)[0][0] if kinds else task.kind
    examples = []
    for example, inferred in zip(task.examples, kinds, strict=True):
        example_kind = None if inferred == kind else inferred
        examples.append(example if example.kind == example_kind else replace(example, kind=example_kind))
    return replace(task, kind=kind, examples=tuple(examples))
