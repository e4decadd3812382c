"""What a step has found so far, a JSON line each, so that what was interrupted goes on where it stopped."""

import json
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from probemap.records import RunError
from probemap.runs.answer_file import MEND
from probemap.runs.run import Run

_T = TypeVar("_T")


class Checkpoint(Generic[_T]):
    """Findings by name, in a file of the run folder.

    Raises
    ------
    RunError: a line is damaged; a torn last one does not count, and is cut off.
    """

    def __init__(self, run: Run, file: str, field: str, kind: Any) -> None:
        self.run, self.file, self.field = run, file, field
        self._kind: TypeAdapter[_T] = TypeAdapter(kind)
        self.found: dict[str, _T] = dict(self._read())

    def add(self, name: str, value: _T) -> None:
        """Keep a finding, on disk when this returns."""
        row = {"id": name, self.field: self._kind.dump_python(value, mode="json")}
        self.run.append(self.file, json.dumps(row, ensure_ascii=False) + "\n")
        self.found[name] = value

    def once(self, name: str, make: Callable[[], _T]) -> _T:
        """The finding of that name, made now if it is not there."""
        if name not in self.found:
            self.add(name, make())
        return self.found[name]

    def _read(self) -> Iterator[tuple[str, _T]]:
        path = self.run.path / self.file
        for number, line in enumerate(self.run.whole_lines(self.file), start=1):
            try:
                row = json.loads(line)
                yield str(row["id"]), self._kind.validate_python(row[self.field])
            except (ValueError, KeyError, TypeError, ValidationError) as error:
                what = str(error).splitlines()[0]
                raise RunError(f"{path}, line {number} is damaged: {what}", MEND) from None
