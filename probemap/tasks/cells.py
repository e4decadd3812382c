"""Convert the values of table cells, which depend on the program that wrote the table.

A spreadsheet writes true as ``TRUE``, ``1``, ``yes`` or a word of its language, and an integer as ``3.0``.  Each
function raises ValueError with the received value if it cannot be converted; no value is guessed.
"""

import json
import math
import unicodedata
from collections.abc import Iterable
from typing import Any

_TRUE = "true t yes y 1 1.0 correct wahr ja vrai oui verdadero sí si verdadeiro sim vero sì waar".split()
_FALSE = "false f no n 0 0.0 incorrect falsch nein faux non falso não nao onwaar nee".split()
EMPTY = ("", "null", "none", "nan", "na", "n/a", "<na>")
"""Empty cells as spreadsheets and data frames write them, in lower case."""
_TRUTH: dict[str, bool | None] = {
    **dict.fromkeys(_TRUE, True),
    **dict.fromkeys(_FALSE, False),
    **dict.fromkeys(EMPTY, None),
}
"""Truth values as spreadsheets and data frames write them, in lower case, in seven languages."""

_SIGNS = frozenset("%&*#@/\\§")
"""Characters that Unicode classifies as punctuation although they have a meaning of their own."""


def parse_truth(value: Any) -> bool | None:
    """Convert a truth value, or an equivalent text or number, to a bool, or to None if the cell is empty.

    Examples
    --------
    >>> from probemap.tasks.cells import parse_truth
    >>> [parse_truth(value) for value in (True, "TRUE", 1, "yes", "FALSCH", "0", "", None)]
    [True, True, True, True, False, False, None, None]
    """
    if value is None or isinstance(value, bool):
        return value
    spelling = str(value).strip().lower()
    if spelling not in _TRUTH:
        raise ValueError(f"must be true or false, got {value!r:.60}")
    return _TRUTH[spelling]


def parse_index(value: Any, n: int, *, first: int = 0) -> int | None:
    """Convert a number that selects one of `n` items to an index, or to None if the cell is empty or -1.

    Published data sets write -1 for an item without a label.

    Raises
    ------
    ValueError
        If the value is not a whole number from `first` to ``first + n - 1``.

    Examples
    --------
    >>> from probemap.tasks.cells import parse_index
    >>> [parse_index(value, 4) for value in (2, "2", "2.0", -1, "")]
    [2, 2, 2, None, None]
    """
    if str(value).strip().lower() in EMPTY:
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if number == -1:
        return None
    if not (number.is_integer() and first <= number < first + n):
        raise ValueError(f"must be a whole number from {first} to {first + n - 1}, got {value!r:.60}")
    return int(number) - first


def parse_list(value: Any) -> list[Any]:
    """Return the items of a list, or of a text that contains a JSON list.

    Examples
    --------
    >>> from probemap.tasks.cells import parse_list
    >>> parse_list('["Rome", "Paris"]')
    ['Rome', 'Paris']
    """
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise ValueError(f"{value[:60]!r} starts like a list but is not valid JSON") from None
    elif hasattr(value, "tolist"):
        value = value.tolist()
    if not isinstance(value, list | tuple):
        raise ValueError(f"must be a list, got {value!r:.60}")
    return list(value)


def parse_texts(value: Any) -> tuple[str, ...]:
    """Convert a list, a text that contains a JSON list, a single text or a single number to a tuple of texts.

    Empty texts are left out, e.g. empty aliases.

    Examples
    --------
    >>> from probemap.tasks.cells import parse_texts
    >>> parse_texts('["Italy", "", "Italia"]'), parse_texts(7.0), parse_texts(None)
    (('Italy', 'Italia'), ('7',), ())
    """
    if isinstance(value, str) and not value.lstrip().startswith("["):
        items = [value]
    elif isinstance(value, str | list | tuple) or hasattr(value, "tolist"):
        items = parse_list(value)
    else:
        items = [value]
    return tuple([text for item in items if (text := _text(item))])


def _text(item: Any) -> str:
    if isinstance(item, str):
        return item.strip()
    if item is None:
        return ""
    if isinstance(item, bool) or not isinstance(item, int | float) or not math.isfinite(item):
        raise ValueError(f"must contain only strings and numbers, got {item!r:.60}")
    return str(int(item)) if isinstance(item, float) and item.is_integer() else str(item)


def is_punctuation(texts: Iterable[str]) -> bool:
    """Return True if the texts consist of punctuation marks only, or if there are none.

    Punctuation marks occur in answers regardless of their content.

    Examples
    --------
    >>> from probemap.tasks.cells import is_punctuation
    >>> is_punctuation([".", "-"]), is_punctuation(["C++"]), is_punctuation(["€"]), is_punctuation([".", "full stop"])
    (True, False, False, False)
    """
    return all(
        char.isspace() or (char not in _SIGNS and unicodedata.category(char).startswith("P"))
        for text in texts
        for char in text
    )
