"""The records in ``run.json``: the options of each step, the hashes of its inputs, and the facts that it determined.

::

    {"versions": {"probemap": "0.1.0", …},
     "steps": {"map": {"options": {…}, "inputs": {"verdicts.jsonl": HASH, …}, "done": true, "facts": {}}}}
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any, Generic

from pydantic import TypeAdapter, ValidationError

from probemap.detectors.provenance import FORMER_LOCATORS
from probemap.records import RunError
from probemap.runs.definitions import Facts, Options, Step
from probemap.runs.options import is_recorded

_PACKAGES = ("probemap", "torch", "transformers", "numpy", "scikit-learn", "zarr", "xarray")


@dataclass(frozen=True)
class StepRecord(Generic[Options, Facts]):
    """Record of one execution of a step."""

    options: Options
    """The options in effect, with defaults resolved."""
    inputs: dict[str, str]
    """Mapping from the name of each input to its hash."""
    done: bool
    """Whether the step has been completed.  False while the step is running, and after it has been interrupted."""
    facts: Facts
    """Facts that the step determined, such as the model's revision."""
    seconds: float | None = None
    """Duration of the step in seconds, or None if it is not done."""

    def differences(self, options: Options, inputs: Mapping[str, str]) -> list[str]:
        """Return a description of each option or input that differs from its recorded value."""
        before, now = _json(self.options), _json(options)
        return [
            f"{name} was {_brief(before.get(name))}, now {_brief(value)}"
            for name, value in now.items()
            if before.get(name) != value
        ] + [f"changed input: {name}" for name, value in inputs.items() if self.inputs.get(name) != value]

    def to_json(self) -> dict[str, Any]:
        """Return the record as an entry of ``run.json``."""
        entry = {
            "options": _json(self.options),
            "inputs": self.inputs,
            "done": self.done,
            "facts": _json(self.facts),
        }
        return entry if self.seconds is None else {**entry, "seconds": self.seconds}

    @classmethod
    def from_json(cls, step: Step[Options, Facts], entry: Mapping[str, Any], path: str) -> StepRecord[Options, Facts]:
        """Create a record from its entry in ``run.json``.

        `path` is the path of ``run.json``, which is shown in error messages.

        Raises
        ------
        RunError
            If a field is missing or has the wrong type.
        """
        try:
            return cls(
                options=_parse(step.options, _current(entry["options"])),
                inputs=_parse(dict[str, str], entry["inputs"]),
                done=_parse(bool, entry["done"]),
                facts=_parse(step.facts, entry["facts"]),
                seconds=_parse(float | None, entry.get("seconds")),
            )
        except (ValidationError, KeyError, TypeError, AttributeError) as error:
            problem = error.errors()[0]["msg"] if isinstance(error, ValidationError) else repr(error)
            raise RunError(
                f"{path} is damaged: step {step.name}: {problem}", "restore the file, or use a new run directory"
            ) from None


def versions() -> dict[str, str]:
    """Return the versions of Python and of all packages that may affect the results."""
    return {name: version(name) for name in _PACKAGES} | {"python": platform.python_version()}


def _parse(kind: Any, value: Any) -> Any:
    return TypeAdapter(kind).validate_python(value)


def _current(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with the present name of the locator if an earlier version recorded its former name."""
    is_former = options.get("locator") in FORMER_LOCATORS
    return {**options, "locator": "rules"} if is_former else dict(options)


def _json(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass as JSON values, leaving out the options that are not recorded."""
    recorded = {name: item for name, item in asdict(value).items() if is_recorded(type(value), name)}
    content: dict[str, Any] = json.loads(json.dumps(recorded))
    return content


def _brief(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"
