"""A detector: linear probes of a few cells, calibrated, with what they are worth on answers that took no part.

On disk it is a folder: ``detector.safetensors`` (numbers), ``config.json`` (everything else, with checksums of both),
and ``README.md``, a card for people.  Nothing in it is ever run.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from probemap.detectors import hub
from probemap.detectors.card import card
from probemap.detectors.head import Branch, Cell, Quality, Threshold
from probemap.detectors.provenance import Provenance
from probemap.probing.auc import Floats
from probemap.records import DetectorError, Example, TextAnswer

if TYPE_CHECKING:  # a detector's numbers need no model
    from probemap.detectors.scorer import Score
    from probemap.models.model import Model

SCHEMA = 2
WIDEST = 1_000_000
"""A hidden state has fewer numbers."""

LARGEST = 1e100
"""No number of a detector is larger: times the largest state, and summed over `WIDEST`, it still is a number.  A fit on
float32 states stays far below."""

_TENSORS = ("weight", "bias", "calibration")
_RESAVE = "take the folder that was exported, whole and unchanged, or export it again"


class _ChangedError(Exception):
    """A file is not as it was written."""


@dataclass(frozen=True)
class Detector:
    """Scores answers by the probability that they are right."""

    main: Branch
    fallback: Branch | None
    """For answers that lack one of the main branch's positions; None if none did."""
    provenance: Provenance | None = None
    """None: unknown; the detector then scores states, but no texts."""
    seed: int = 0

    @property
    def cells(self) -> list[Cell]:
        """All cells that are read, the main branch's first."""
        return [*self.main.cells, *(self.fallback.cells if self.fallback else ())]

    def required_provenance(self) -> Provenance:
        """Return the provenance, without which no text can be scored.

        Raises
        ------
        DetectorError
            If it is unknown.
        """
        if self.provenance is None:
            raise DetectorError(
                "the detector has no provenance: the prompt, the hook point and the locator that it was fitted with "
                "are unknown, so it can score states, but no texts",
                "fit it with provenance=Provenance.of(model, task, site=..., locator=...), or export it from a run",
            )
        return self.provenance

    def branch_of(self, states: npt.NDArray[np.floating]) -> list[Literal["main", "fallback", "none"]]:
        """Which branch judges each answer, by the states that it has, (n, len(cells), d)."""
        k = len(self.main.cells)
        whole, rest = (~np.isnan(part[:, :, 0]).any(axis=1) for part in (states[:, :k], states[:, k:]))
        spare = rest if self.fallback else np.zeros(len(states), bool)
        return ["main" if a else "fallback" if b else "none" for a, b in zip(whole, spare, strict=True)]

    def p_correct(self, states: npt.NDArray[np.floating]) -> Floats:
        """(n,): the probability of being right, by the main branch where an answer has its positions, else by the
        fallback; NaN where neither can judge.

        Parameters
        ----------
        states: (n, len(cells), d), NaN where a position is missing.

        Raises
        ------
        DetectorError: states of another width.
        """
        expected = (len(self.cells), self.main.weight.shape[1])
        if states.ndim != 3 or states.shape[1:] != expected:
            raise DetectorError(
                f"states have shape {states.shape}, expected (n, {expected[0]}, {expected[1]})",
                "read the states of the model that the detector was made for, at its cells",
            )
        k = len(self.main.cells)
        p = self.main.probabilities(self.main.scores(states[:, :k]))
        if self.fallback:
            p = np.where(np.isnan(p), self.fallback.probabilities(self.fallback.scores(states[:, k:])), p)
        return p

    def score(
        self,
        model: "Model",
        question: str | Example,
        answer: str,
        *,
        prompt: str | None = None,
        stopped: bool = True,
        false_alarms: float | None = None,
    ) -> "Score":
        """How likely is this answer right?  For many answers a `Scorer` is faster: it takes them together.

        Parameters
        ----------
        model: the one that the detector was made for, from `load_model`.
        question: a text, or an example that has a context or choices.
        answer: what the model said to it, as it said it.
        prompt: what the model saw, template included; None: the question as the detector's own were put.
        stopped: False if the answer was cut off.
        false_alarms: the share of right answers that may be flagged; None: the lowest that the detector knows.

        Raises
        ------
        DetectorError: detector and model do not belong together, or there is no threshold for that share.
        DataError: the tokenizer does not give the text back, it does not fit the window, or a prompt is needed.
        """
        from probemap.detectors.scorer import Scorer, as_example

        scorer, example = Scorer(self, model, false_alarms), as_example(question, "1")
        (score,) = scorer.score([example], scorer.answers([(example, TextAnswer(example.id, answer, stopped, prompt))]))
        return score

    # files

    def save(self, folder: str | Path) -> None:
        """Write the folder; an older detector in it is replaced, nothing else is touched."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        tensors = save(
            {
                f"{name}.{what}": np.ascontiguousarray(getattr(branch, what))
                for name, branch in self._branches()
                for what in _TENSORS
            }
        )
        config: dict[str, Any] = {
            "schema": SCHEMA,
            "branches": {name: _described(branch) for name, branch in self._branches()},
            "provenance": self.provenance and asdict(self.provenance),
            "seed": self.seed,
            "tensors": hashlib.sha256(tensors).hexdigest(),
        }
        config["check"] = _check(config)
        for name, content in (
            ("detector.safetensors", tensors),
            ("config.json", _laid_out(config)),
            ("README.md", card(self.main, self.fallback, self.provenance).encode()),
        ):
            part = folder / f".{name}.part"
            part.write_bytes(content)
            part.replace(folder / name)

    def push_to_hub(self, repo: str, *, private: bool = True) -> str:
        """Write the folder to a repository of the Hugging Face hub, which is made if need be; its history is kept.

        Mind that it tells what `Provenance` holds: what the model was loaded by, and where the questions come from.

        Parameters
        ----------
        repo: ``owner/name``.
        private: only who may see the repository can read it.

        Returns
        -------
        The repository's address, to be opened in a browser.

        Raises
        ------
        DetectorError: as `hub.push`.
        """
        with TemporaryDirectory() as folder:
            self.save(folder)
            return hub.push(Path(folder), repo, private=private)

    @classmethod
    def from_hub(cls, repo: str, revision: str | None = None) -> "Detector":
        """Fetch and read what `push_to_hub` wrote: three files, checked as `load` checks them.

        Parameters
        ----------
        repo: ``owner/name``.
        revision: a branch, tag or commit; None: the newest state.

        Raises
        ------
        DetectorError: as `hub.pull` and `load`.
        """
        return cls._load(hub.pull(repo, revision), f"{hub.SCHEME}{repo}{'@' if revision else ''}{revision or ''}")

    def _branches(self) -> list[tuple[str, Branch]]:
        return [("main", self.main)] + ([("fallback", self.fallback)] if self.fallback else [])

    @classmethod
    def load(cls, folder: str | Path) -> "Detector":
        """Read a folder that `save` wrote.

        Raises
        ------
        DetectorError: no such folder, or a file that is not what was written: changed, cut off, of another schema, of
            other shapes, or with numbers that are not finite or larger than `LARGEST`.
        """
        return cls._load(Path(folder), str(folder))

    @classmethod
    def _load(cls, folder: Path, name: str) -> "Detector":
        try:
            config_bytes, tensors = (
                (folder / "config.json").read_bytes(),
                (folder / "detector.safetensors").read_bytes(),
            )
        except OSError as error:
            raise DetectorError(
                f"{name} holds no detector ({error.strerror})", "`probemap export RUN --out FOLDER` makes one"
            ) from None
        try:
            config = json.loads(config_bytes)
            if config["schema"] != SCHEMA:
                raise DetectorError(
                    f"{name} has schema {config['schema']!r:.40}, expected {SCHEMA}",
                    "export it again with this version",
                )
            # The checksum is over what it says, which white space and the last digits of a number do not change.
            if _laid_out(config) != config_bytes or config.pop("check") != _check(config):
                raise _ChangedError("config.json")
            if hashlib.sha256(tensors).hexdigest() != config["tensors"]:
                raise _ChangedError("detector.safetensors")
            numbers = load(tensors)
            branches = {name: _branch(name, entry, numbers) for name, entry in config["branches"].items()}
            if set(branches) - {"main", "fallback"} or len(numbers) != len(_TENSORS) * len(branches):
                raise ValueError("other branches or tensors than a detector has")
            provenance = _PROVENANCE.validate_python(config["provenance"])
            if provenance and provenance.task.max_new_tokens < 1:
                raise ValueError(f"answers of {provenance.task.max_new_tokens} tokens")
            made = cls(branches["main"], branches.get("fallback"), provenance, _SEED.validate_python(config["seed"]))
        except _ChangedError as file:
            raise DetectorError(f"{name}/{file} has changed since it was written", _RESAVE) from None
        except (
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            OverflowError,
            RecursionError,
            ValidationError,
            SafetensorError,
        ) as error:
            reason = _reason(error)
            raise DetectorError(f"{name} is no detector ({reason[:200]})", _RESAVE) from None
        if made.fallback and made.fallback.weight.shape[1] != made.main.weight.shape[1]:
            raise DetectorError(f"{name}: its branches read states of different widths", _RESAVE)
        if made.fallback and made.fallback.asked_for != made.main.asked_for:
            raise DetectorError(f"{name}: its branches have thresholds for different shares", _RESAVE)
        return made


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return (str(error).splitlines() or [type(error).__name__])[0]


def _described(branch: Branch) -> dict[str, Any]:
    return {
        "cells": [asdict(cell) for cell in branch.cells],
        "kind": branch.kind,
        "quality": _written(branch.quality),
        "thresholds": [_written(one) for one in branch.thresholds],
    }


def _written(values: Quality | Threshold) -> dict[str, Any]:
    """JSON has no NaN, the only number that is not itself: null."""
    return {name: None if value != value else value for name, value in asdict(values).items()}


def _read(values: dict[str, Any]) -> dict[str, Any]:
    """What `_written` wrote; folders written before it have NaN itself."""
    return {name: math.nan if value is None else value for name, value in values.items()}


def _branch(name: str, entry: dict[str, Any], numbers: dict[str, npt.NDArray[Any]]) -> Branch:
    tensors = [numbers[f"{name}.{what}"] for what in _TENSORS]
    if any(tensor.dtype.kind != "f" for tensor in tensors):
        raise ValueError(f"{name}: numbers of type {', '.join(str(tensor.dtype) for tensor in tensors)}")
    with np.errstate(invalid="ignore"):  # a signalling NaN of a shorter type warns, and is refused below as any other
        weight, bias, calibration = (np.asarray(tensor, np.float64) for tensor in tensors)
    cells: Sequence[Cell] = _CELLS.validate_python(entry["cells"])
    kind: Literal["platt", "isotonic"] = _KIND.validate_python(entry["kind"])
    if any(cell.layer < 0 for cell in cells):
        raise ValueError(f"{name}: layers {', '.join(str(cell.layer) for cell in cells)}")
    if (
        weight.ndim != 2
        or not cells
        or not 0 < weight.shape[1] <= WIDEST
        or weight.shape[0] != len(cells)
        or bias.shape != (len(cells),)
    ):
        raise ValueError(f"{name}: weights of shape {weight.shape} and {bias.shape} for {len(cells)} cells")
    longest = 1 if kind == "platt" else WIDEST
    if calibration.ndim != 2 or len(calibration) != 2 or not 0 < calibration.shape[1] <= longest:
        raise ValueError(f"{name}: a calibration of shape {calibration.shape}")
    if not all(np.isfinite(part).all() for part in (weight, bias, calibration)):
        raise ValueError(f"{name}: numbers that are not finite")
    if any((abs(part) > LARGEST).any() for part in (weight, bias, calibration)):
        raise ValueError(f"{name}: numbers larger than {LARGEST:g}")
    if (np.diff(calibration) < 0).any() if kind == "isotonic" else calibration[0, 0] < 0:
        raise ValueError(f"{name}: a calibration that falls")
    if kind == "isotonic" and not 0 <= calibration[1, 0] <= calibration[1, -1] <= 1:
        raise ValueError(f"{name}: a calibration to what is no probability")
    quality = _QUALITY.validate_python(_read(entry["quality"]))
    thresholds = _THRESHOLDS.validate_python([_read(one) for one in entry["thresholds"]])
    _check_quality(name, quality)
    for one in thresholds:
        _check_threshold(name, one)
    return Branch(tuple(cells), weight, bias, calibration, kind, quality, tuple(thresholds))


def _check_quality(name: str, quality: Quality) -> None:
    n, right, *values = asdict(quality).values()
    if not 0 <= right <= n or not all(0 <= value <= 1 if n else math.isnan(value) for value in values):
        raise ValueError(f"{name}: a quality that nothing has")


def _check_threshold(name: str, one: Threshold) -> None:
    known, maybe = (one.false_alarms, one.p_correct), (one.flagged_right, one.flagged_wrong, one.precision)
    if not (
        all(0 <= share <= 1 for share in known)
        and all(0 <= share <= 1 or math.isnan(share) for share in maybe)
        and abs(one.score) <= LARGEST
    ):
        raise ValueError(f"{name}: a threshold that nothing has")


def _laid_out(config: dict[str, Any]) -> bytes:
    """`config.json`, byte for byte."""
    return json.dumps(config, indent=1, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _check(config: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


_CELLS: TypeAdapter[list[Cell]] = TypeAdapter(list[Cell])
_KIND: TypeAdapter[Literal["platt", "isotonic"]] = TypeAdapter(Literal["platt", "isotonic"])
_QUALITY = TypeAdapter(Quality)
_THRESHOLDS: TypeAdapter[list[Threshold]] = TypeAdapter(list[Threshold])
_PROVENANCE: TypeAdapter[Provenance | None] = TypeAdapter(Provenance | None)
_SEED: TypeAdapter[int] = TypeAdapter(Annotated[int, Field(ge=0)])
