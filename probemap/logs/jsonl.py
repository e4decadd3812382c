"""Read the lines of a log one at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from probemap.logs.samples import Refusal
from probemap.records import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the location and the JSON value of each line that is not empty.

    A line that is not valid JSON yields a `Refusal` instead of a value.

    Raises
    ------
    DataError
        If the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield f"line {number}", _parsed(line, f"line {number}")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})", "check the path") from None


def _parsed(line: bytes, location: str) -> Any:
    try:
        return from_json(line)
    except ValueError as error:
        return Refusal(location, f"not valid JSON: {error}")
