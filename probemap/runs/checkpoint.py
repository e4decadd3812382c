"""Checkpoint files, which store the intermediate results of a step so that an interrupted step can be resumed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from probemap.records import RunError
from probemap.runs.answer_file import RESTORE

if TYPE_CHECKING:
    from probemap.runs.directory import RunDirectory

_T = TypeVar("_T")


class Checkpoint(Generic[_T]):
    """Named intermediate results of a step, which are stored in a file in the run directory.

    Each line of the file contains one result as JSON.

    Parameters
    ----------
    run : RunDirectory
        The run directory.
    file : str
        Name of the file.
    field : str
        Name of the JSON field that contains the result.  The ``id`` field contains the name of the result.
    kind : type
        Type of the results.

    Raises
    ------
    RunError
        If a line is damaged.  An incomplete last line is removed without an error.
    """

    def __init__(self, run: RunDirectory, file: str, field: str, kind: Any) -> None:
        self.run, self.file, self.field = run, file, field
        self._kind: TypeAdapter[_T] = TypeAdapter(kind)
        self.results: dict[str, _T] = dict(self._read())

    def add(self, name: str, value: _T) -> None:
        """Store a result and flush it to disk."""
        row = {"id": name, self.field: self._kind.dump_python(value, mode="json")}
        self.run.append(self.file, json.dumps(row, ensure_ascii=False) + "\n")
        self.results[name] = value

    def get_or_compute(self, name: str, compute: Callable[[], _T]) -> _T:
        """Return the result with the given name.  If it does not exist, compute and store it first."""
        if name not in self.results:
            self.add(name, compute())
        return self.results[name]

    def _read(self) -> Iterator[tuple[str, _T]]:
        path = self.run.path / self.file
        for number, line in enumerate(self.run.complete_lines(self.file), start=1):
            try:
                row = json.loads(line)
                yield str(row["id"]), self._kind.validate_python(row[self.field])
            except (ValueError, KeyError, TypeError, ValidationError) as error:
                problem = str(error).splitlines()[0]
                raise RunError(f"{path}, line {number} is damaged: {problem}", RESTORE) from None
