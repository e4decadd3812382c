"""Named token positions: each name resolves to one token index of an answer, or to nothing.

Nothing ever falls back to another token: a position that an answer lacks is missing, which lowers `n`
under its column.  Names follow Orgad et al. 2024 (arXiv 2410.02707), section 3.2 and figure 2.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from probemap.records import Answer, DataError, Span


@dataclass(frozen=True)
class Position:
    """A rule that names one token."""

    description: str
    """One line for ``probemap positions``."""
    index: Callable[[Answer, Span | None], int | None]
    """(answer, exact answer) -> index into ``Answer.token_ids``, or None."""


POSITIONS: dict[str, Position] = {
    "last_q": Position(
        "the last token before the answer: the prompt's last, template included",
        lambda answer, span: answer.n_prompt - 1,
    ),
    "first_answer": Position(
        "the answer's first token, behind a thinking model's reasoning", lambda answer, span: answer.answer_start
    ),
    "second_answer": Position("the answer's second token", lambda answer, span: answer.answer_start + 1),
    "exact_answer_before_first": Position(
        "the token before the exact answer (the prompt's last if the answer begins with it)",
        lambda answer, span: None if span is None else span.start - 1,
    ),
    "exact_answer_first": Position(
        "the exact answer's first token", lambda answer, span: None if span is None else span.start
    ),
    "exact_answer_last": Position(
        "the exact answer's last token", lambda answer, span: None if span is None else span.stop - 1
    ),
    "exact_answer_after_last": Position(
        "the token after the exact answer", lambda answer, span: None if span is None else span.stop
    ),
    "first_reasoning": Position(
        "the first token of a thinking model's reasoning",
        lambda answer, span: answer.n_prompt if answer.n_reasoning else None,
    ),
    "last_reasoning": Position(
        "the last token of a thinking model's reasoning",
        lambda answer, span: answer.answer_start - 1 if answer.n_reasoning else None,
    ),
}
"""Name -> rule.  Besides these, any negative integer counts from the end: ``-1`` is the last produced
token, the token that ended the answer (if one came) included."""

DEFAULT_POSITIONS: tuple[str, ...] = (
    *(name for name in POSITIONS if not name.endswith("_reasoning")),
    *(str(i) for i in range(-8, 0)),
)
"""The fifteen columns of the paper's open-question panels, in their order."""

_FROM_END = re.compile(r"-[1-9]\d*")
_RANGE = re.compile(r"(-[1-9]\d*)\.\.(-[1-9]\d*)")


def parse_positions(text: str | None) -> tuple[str, ...]:
    """Read ``last_q,exact_answer_first,-8..-1`` as names, ranges spelt out, in the given order; None: the default ones.

    Raises
    ------
    DataError: an unknown name, a range that runs backwards, or a name given twice.
    """
    if text is None:
        return DEFAULT_POSITIONS
    names: list[str] = []
    for part in (p.strip() for p in text.split(",")):
        if span := _RANGE.fullmatch(part):
            first, last = int(span[1]), int(span[2])
            if first > last:
                raise DataError(f"the range {part!r} runs backwards", f"write it as {last}..{first}")
            names += [str(i) for i in range(first, last + 1)]
        else:
            check_position(part)
            names.append(part)
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise DataError(f"position {twice[0]!r} is given twice", "name each position once")
    return tuple(names)


def check_position(name: str) -> None:
    """Raise DataError unless `name` is a line of POSITIONS or a negative integer."""
    if name not in POSITIONS and not _FROM_END.fullmatch(name):
        raise DataError(
            f"there is no position {name!r}; there are {', '.join(POSITIONS)} and -1, -2, …",
            "`probemap positions` says what each one means",
        )


def resolve(name: str, answer: Answer, span: Span | None) -> int | None:
    """The index into ``answer.token_ids`` that `name` means for this answer, or None if it has none.

    A position counted from the end that would lie in the prompt, or in the reasoning, is missing.

    Raises
    ------
    DataError: `name` is no position.
    """
    check_position(name)
    if name in POSITIONS:
        index = POSITIONS[name].index(answer, span)
    else:
        index = len(answer.token_ids) + int(name)
        index = index if index >= answer.answer_start else None
    return index if index is not None and 0 <= index < len(answer.token_ids) else None


def positions_of(names: Sequence[str], answer: Answer, span: Span | None) -> dict[int, list[str]]:
    """Token index -> the names that resolve to it, for showing an answer token by token."""
    held: dict[int, list[str]] = {}
    for name in names:
        if (index := resolve(name, answer, span)) is not None:
            held.setdefault(index, []).append(name)
    return held


Indices = npt.NDArray[np.int32]
"""(n, n_positions): the token index of each position in each answer, -1 where it is missing."""


def token_indices(answers: Sequence[Answer], spans: Sequence[Span | None], names: Sequence[str]) -> Indices:
    """Every named position of every answer as an index into its token ids, -1 where it is missing."""
    rows = [
        [-1 if (index := resolve(name, answer, span)) is None else index for name in names]
        for answer, span in zip(answers, spans, strict=True)
    ]
    return np.array(rows, dtype=np.int32).reshape(len(answers), len(names))


def digest(answers: Sequence[Answer], indices: Indices) -> str:
    """SHA-256 over token ids and probed indices: all that decides which states are captured."""
    total = hashlib.sha256(indices.tobytes())
    for answer in answers:
        total.update(np.array(answer.token_ids, dtype=np.int64).tobytes() + b"|")
    return total.hexdigest()
