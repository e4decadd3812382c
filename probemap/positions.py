"""Named token positions, each of which selects one token of an answer or its prompt.

An answer may lack some of the positions, for example because it contains no exact answer.  A missing position is never
replaced by another one.  In a map, the column for a position is computed only from the answers that have that position.
The number of these answers is stored in the map's variable ``n``.  The names of the positions follow section 3.2 and
figure 2 of Orgad et al. 2024 (arXiv 2410.02707).
"""

import hashlib
import operator
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from probemap.records import Answer, DataError, Span

Rule = Callable[[Answer, Span | None], int | None]
"""Callable that takes an answer and the span of its exact answer (or None), and returns an index into
``Answer.token_ids``, or None if the answer does not have the position."""


@dataclass(frozen=True)
class Position:
    """A rule that selects one token of an answer or its prompt.

    Examples
    --------
    >>> from probemap import Position
    >>> third = Position("the third token of the answer", lambda answer, span: answer.answer_start + 2)
    >>> third.description
    'the third token of the answer'
    """

    description: str
    """Description printed by ``probemap list positions``."""
    index: Rule


POSITIONS: dict[str, Position] = {
    "last_q": Position(
        "the last token of the prompt, including the chat template",
        lambda answer, span: answer.n_prompt - 1,
    ),
    "first_answer": Position(
        "the first token of the answer, after the reasoning of a thinking model, if any",
        lambda answer, span: answer.answer_start,
    ),
    "second_answer": Position("the second token of the answer", lambda answer, span: answer.answer_start + 1),
    "exact_answer_before_first": Position(
        "the token before the exact answer (the last token of the prompt if the answer starts with the exact answer)",
        lambda answer, span: None if span is None else span.start - 1,
    ),
    "exact_answer_first": Position(
        "the first token of the exact answer", lambda answer, span: None if span is None else span.start
    ),
    "exact_answer_last": Position(
        "the last token of the exact answer", lambda answer, span: None if span is None else span.stop - 1
    ),
    "exact_answer_after_last": Position(
        "the token after the exact answer", lambda answer, span: None if span is None else span.stop
    ),
    "first_reasoning": Position(
        "the first token of the reasoning of a thinking model",
        lambda answer, span: answer.n_prompt if answer.n_reasoning else None,
    ),
    "last_reasoning": Position(
        "the last token of the reasoning of a thinking model",
        lambda answer, span: answer.answer_start - 1 if answer.n_reasoning else None,
    ),
}
"""Mapping from names to the built-in positions.  Negative integers are also valid names.  They count from the end:
``-1`` is the last produced token, which is the end token if there is one."""

DEFAULT_POSITIONS: tuple[str, ...] = (
    *("last_q", "first_answer", "second_answer"),
    *("exact_answer_before_first", "exact_answer_first", "exact_answer_last", "exact_answer_after_last"),
    *("-8", "-7", "-6", "-5", "-4", "-3", "-2", "-1"),
)
"""The fifteen positions shown for open questions in the figures of Orgad et al. 2024, in the order used there."""

PositionsLike = str | Sequence[str] | Mapping[str, str | Position | Rule] | None
"""Positions in any of the forms that `parse_positions` accepts."""

_FROM_END = re.compile(r"-[1-9][0-9]{0,8}")
_RANGE = re.compile(rf"({_FROM_END.pattern})\.\.({_FROM_END.pattern})")
_MAX_RANGE = 10_000
"""Maximum number of positions in a range.  Larger ranges are likely to be typos and could exhaust memory."""


def needs_last_token(positions: Iterable[str], ended: bool) -> bool:
    """Return whether a position is likely to fall on the last token of an answer.

    Generation does not require the state at that token, and recording it takes an additional forward pass.  In rare
    cases, a position falls on the last token even though this function returns False, for example if the answer was cut
    off at the end of its exact answer.  The state must then be computed later.

    Parameters
    ----------
    positions : iterable of str
    ended : bool
        True if the model ended the answer with this token, False if the answer was cut off.
    """
    return any(name == "-1" or (ended and name == "exact_answer_after_last") for name in positions)


def parse_positions(positions: PositionsLike = None) -> tuple[str, ...]:
    """Check positions and return their names.

    Parameters
    ----------
    positions : str, sequence of str, mapping, or None
        The positions, in one of the following forms:

        - a string such as ``"last_q,exact_answer_first,-8..-1"``,
        - a sequence of names,
        - a mapping from names to `Position` objects, callables, or the names of built-in positions,
        - None, which selects `DEFAULT_POSITIONS`.

    Returns
    -------
    tuple of str
        The names in the given order, with ranges expanded.

    Raises
    ------
    DataError
        If a name is unknown, is repeated or is not a string, if a range is reversed or too large, or if no positions
        are given.

    Examples
    --------
    >>> from probemap import parse_positions
    >>> parse_positions("last_q, exact_answer_first, -3..-1")
    ('last_q', 'exact_answer_first', '-3', '-2', '-1')
    >>> parse_positions({"middle": lambda answer, span: (answer.n_prompt + len(answer.token_ids)) // 2})
    ('middle',)
    """
    return tuple(position_rules(positions))


def position_rules(positions: PositionsLike = None) -> dict[str, Rule]:
    """Return a mapping from the name of each position to its rule.

    See `parse_positions` for the accepted values of `positions`.
    """
    if isinstance(positions, Mapping):
        rules = {name: _as_rule(rule) for name, rule in positions.items()}
        if invalid := [name for name, rule in rules.items() if not (isinstance(name, str) and name and callable(rule))]:
            raise DataError(
                f"the position {invalid[0]!r:.60} is {positions[invalid[0]]!r:.60}, expected a Position or a callable",
                "pass a mapping such as {'name': lambda answer, span: index}",
            )
        return _not_empty(rules)
    names: list[str] = []
    for name in _split(positions):
        if match := _RANGE.fullmatch(name):
            first, last = int(match[1]), int(match[2])
            if first > last:
                raise DataError(f"the range {name!r} runs backwards", f"write it as {last}..{first}")
            if last - first >= _MAX_RANGE:
                raise DataError(
                    f"the range {name!r} has {last - first + 1} positions, but at most {_MAX_RANGE} are allowed",
                    "use a shorter range",
                )
            names += [str(number) for number in range(first, last + 1)]
        else:
            check_position(name)
            names.append(name)
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise DataError(f"the position {repeated[0]!r} occurs twice", "pass each position only once")
    return _not_empty({name: _rule(name) for name in names})


def _not_empty(rules: dict[str, Rule]) -> dict[str, Rule]:
    if not rules:
        raise DataError("no positions were passed", "pass at least one name, or None for the default positions")
    return rules


def _split(positions: str | Sequence[str] | None) -> list[str]:
    if positions is None:
        return list(DEFAULT_POSITIONS)
    names = positions.split(",") if isinstance(positions, str) else list(positions)
    if invalid := [name for name in names if not isinstance(name, str)]:
        raise DataError(
            f"a position is {invalid[0]!r:.60}, expected a string", "pass names such as 'last_q' or '-1' as strings"
        )
    return [name.strip() for name in names]


def check_position(name: str) -> None:
    """Raise DataError unless `name` is a key of `POSITIONS` or a negative integer."""
    if name not in POSITIONS and not _FROM_END.fullmatch(name):
        raise DataError(
            f"there is no position {name!r:.60}; the positions are {', '.join(POSITIONS)} and -1, -2, …",
            "run `probemap list positions` for a description of each position",
        )


def _as_rule(rule: str | Position | Rule) -> Rule:
    if isinstance(rule, str):
        check_position(rule)
        return _rule(rule)
    return rule.index if isinstance(rule, Position) else rule


def _rule(name: str) -> Rule:
    if name in POSITIONS:
        return POSITIONS[name].index
    offset = int(name)

    def from_end(answer: Answer, span: Span | None) -> int | None:
        index = len(answer.token_ids) + offset
        return index if index >= answer.answer_start else None

    return from_end


def resolve(
    name: str, answer: Answer, span: Span | None = None, *, positions: Mapping[str, str | Position | Rule] | None = None
) -> int | None:
    """Return the token index of a position in an answer.

    Parameters
    ----------
    name : str
        A key of `POSITIONS` or of `positions`, or a negative integer that counts from the end.
    answer : Answer
    span : Span, optional
        The exact answer.  If None, the positions that refer to the exact answer are missing.
    positions : mapping of str to Position or callable, optional
        User-defined positions, which take precedence over `POSITIONS`.

    Returns
    -------
    int or None
        Index into ``answer.token_ids``, or None if the position is missing.  A position that counts from the end is
        missing if it would fall in the prompt or the reasoning.  Any position is missing if its index is out of range
        for ``answer.token_ids``.

    Raises
    ------
    DataError
        If the position is unknown, or if a user-defined rule returns something other than an integer or None.

    Examples
    --------
    >>> import probemap
    >>> answer = probemap.Answer(
    ...     id="a", prompt="Q", text="It is 5.", token_ids=(0, 1, 2, 3), n_prompt=1,
    ...     offsets=((0, 1), (0, 5), (5, 7), (7, 8)), logprobs=(-0.1, -0.2, -0.3), stopped=True,
    ... )
    >>> span = probemap.Span(start=2, stop=3, text="5")
    >>> [probemap.resolve(name, answer, span) for name in ("last_q", "exact_answer_last", "-1", "-4")]
    [0, 2, 3, None]
    """
    rules = position_rules({name: positions[name]} if positions and name in positions else [name])
    return _resolve(name, rules[name], answer, span)


def _resolve(name: str, rule: Rule, answer: Answer, span: Span | None) -> int | None:
    index = rule(answer, span)
    if index is None:
        return None
    try:
        index = operator.index(index)
    except TypeError:
        raise DataError(
            f"the position {name!r} returned {index!r:.60} for the answer {answer.id!r}, expected an integer or None",
            "return an index into answer.token_ids, or None if the answer does not have the position",
        ) from None
    return index if 0 <= index < len(answer.token_ids) else None


def positions_by_token(positions: PositionsLike, answer: Answer, span: Span | None) -> dict[int, list[str]]:
    """Return a mapping from each token index to the names of the positions at that index."""
    names_at: dict[int, list[str]] = {}
    for name, rule in position_rules(positions).items():
        if (index := _resolve(name, rule, answer, span)) is not None:
            names_at.setdefault(index, []).append(name)
    return names_at


Indices = npt.NDArray[np.int32]
"""ndarray of shape (n, n_positions) with the token index of each position in each answer, or -1 where the position is
missing."""


def token_indices(answers: Sequence[Answer], spans: Sequence[Span | None], positions: PositionsLike = None) -> Indices:
    """Return the token index of each position in each answer.

    Parameters
    ----------
    answers : sequence of Answer, length n
    spans : sequence of Span or None, length n
        The span of the exact answer in each answer, or None if the answer contains no exact answer.
    positions : str, sequence of str, mapping, or None
        The positions; see `parse_positions`.

    Returns
    -------
    ndarray of shape (n, n_positions), int32
        Indices into ``Answer.token_ids``, with -1 where a position is missing.

    Raises
    ------
    DataError
        See `parse_positions` and `resolve`.
    """
    rules = position_rules(positions)
    indices = np.full((len(answers), len(rules)), -1, dtype=np.int32)
    for row, (answer, span) in enumerate(zip(answers, spans, strict=True)):
        for column, (name, rule) in enumerate(rules.items()):
            index = _resolve(name, rule, answer, span)
            if index is not None:
                indices[row, column] = index
    return indices


def digest(answers: Sequence[Answer], indices: Indices) -> str:
    """Return a SHA-256 hash of the token ids and position indices, which together determine the captured states."""
    total = hashlib.sha256(indices.tobytes())
    for answer in answers:
        total.update(np.array(answer.token_ids, dtype=np.int64).tobytes() + b"|")
    return total.hexdigest()
