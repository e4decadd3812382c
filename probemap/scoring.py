"""New answers scored by a detector: tokens, exact answer, states, probability."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np

from probemap.assess import assessor_here, extraction, extracts_locator
from probemap.batching import batches, in_halves
from probemap.capture import check_site, hidden_states
from probemap.detector import Detector
from probemap.generate import out_of_memory
from probemap.locate import LOCATORS, Locator, locate
from probemap.model import Model
from probemap.positions import token_indices
from probemap.prompt import Frame, make_prompt, prompt_as_given
from probemap.records import Answer, DataError, DetectorError, Example, Reply
from probemap.replay import tokenise

AT_ONCE = 256
"""Answers that are read, batched and scored together."""


@dataclass(frozen=True)
class Score:
    """What a detector says of one answer."""

    id: str
    p_correct: float | None
    """Probability that the answer is right; None if nothing could judge it."""
    flagged: bool | None
    """Below the threshold that was asked for."""
    score: float | None
    """Log-odds before calibration."""
    judged_by: Literal["main", "fallback", "none"]
    exact_answer: str | None
    why: str
    """Why there is no exact answer, and what that means; empty otherwise."""


@dataclass(frozen=True)
class Scorer:
    """A detector with the model that it belongs to.

    Raises
    ------
    DetectorError: they do not belong together, or there is no threshold for that share.
    """

    detector: Detector
    model: Model
    false_alarms: float = 0.05
    """The share of right answers that may be flagged: one that the detector has a threshold for."""
    batch_size: int = 32

    def __post_init__(self) -> None:
        check_belongs(self.detector, self.model)
        self.detector.main.threshold(self.false_alarms)

    def answers(self, asked: Sequence[tuple[Example, Reply]]) -> list[Answer]:
        """Questions and texts as answers: the prompt as the detector's own questions were put, unless a reply has one.

        Raises
        ------
        DataError: the tokenizer does not give a text back, it does not fit the window, or a prompt is needed.
        """
        origin = self.detector.origin
        if origin.frame == "given" and any(reply.prompt is None for _, reply in asked):
            raise DataError(
                "the detector was made from prompts that came with their answers", "give 'prompt' with each text"
            )
        frame: Frame = "chat" if origin.frame == "chat" else "qa" if origin.frame == "qa" else "none"
        pairs = [
            (
                make_prompt(self.model, origin.asked, example, frame)
                if reply.prompt is None
                else prompt_as_given(self.model, reply.prompt),
                reply,
            )
            for example, reply in asked
        ]
        return tokenise(self.model, pairs, chat=frame == "chat")

    def score(self, examples: Sequence[Example], answers: Sequence[Answer]) -> list[Score]:
        """Scores of answers to these questions, in their order; the same alone and in any batch, but for rounding.

        Raises
        ------
        ModelError: one answer alone does not fit the memory.
        """
        origin, locator = self.detector.origin, self._locator(examples, answers)
        places = [locate(origin.asked, e, a, locator) for e, a in zip(examples, answers, strict=True)]
        names = tuple(dict.fromkeys(cell.position for cell in self.detector.cells))
        indices = token_indices(answers, [span for span, _ in places], names)
        columns = [names.index(cell.position) for cell in self.detector.cells]
        layers = sorted({cell.layer for cell in self.detector.cells})
        rows = [layers.index(cell.layer) for cell in self.detector.cells]
        states = np.full((len(answers), len(columns), self.detector.main.weight.shape[1]), np.nan, np.float32)

        def look(some: list[int]) -> np.ndarray:
            return hidden_states(self.model, [answers[i] for i in some], indices[some], origin.site, layers=layers)

        for batch in batches([len(a.token_ids) for a in answers], self.batch_size):
            for some, seen in in_halves(batch, look, lambda text: None):
                if seen is None:
                    raise out_of_memory(self.model, answers[some[0]].id, len(answers[some[0]].token_ids))
                states[some] = seen[:, rows, columns]
        found = [(span.text if span else None, why) for span, why in places]
        return [self._one(answer.id, states[[i]], *found[i]) for i, answer in enumerate(answers)]

    def _one(self, id_: str, state: np.ndarray, exact: str | None, why: str) -> Score:
        (by,) = self.detector.branch_of(state)
        if by == "none":
            return Score(id_, None, None, None, by, exact, why or "no token at the detector's positions")
        k = len(self.detector.main.cells)
        branch, mine = (self.detector.main, state[:, :k]) if by == "main" else (self.detector.fallback, state[:, k:])
        assert branch is not None
        score = float(branch.scores(mine)[0])
        p = float(branch.probabilities(np.array([score]))[0])
        flagged = score < branch.threshold(self.false_alarms).score
        if by == "fallback":
            cells = ", ".join(f"layer {cell.layer} at {cell.position}" for cell in branch.cells)
            why = f"{why or 'a position is missing'}: judged by {cells}"
        return Score(id_, p, flagged, score, by, exact, why if by == "fallback" else "")

    def _locator(self, examples: Sequence[Example], answers: Sequence[Answer]) -> Locator:
        name = self.detector.origin.locator
        if name != "model":
            return LOCATORS[name or "none"]
        asked = extraction(examples, answers)
        said = {id_: text for batch in assessor_here(self.model).ask(asked) for id_, text in batch}
        pairs = zip(examples, answers, strict=True)
        return extracts_locator({(e.question, a.proper.text): said[a.id] for e, a in pairs})


def in_parts(rows: Iterable[tuple[Example, Reply]], size: int = AT_ONCE) -> Iterator[list[tuple[Example, Reply]]]:
    """Rows a few hundred at a time, so that a file of any length is scored as it is read."""
    waiting = iter(rows)
    while part := list(islice(waiting, size)):
        yield part


def check_belongs(detector: Detector, model: Model) -> None:
    """Refuse a model whose states the detector was not made from.

    Raises
    ------
    DetectorError: other weights, another chat template, too few layers, or states of another width.
    """
    origin = detector.origin
    for what, own, other in (
        ("weights", origin.revision, model.revision),
        ("chat template", origin.template, model.template),
    ):
        if own and own != other:
            raise DetectorError(
                f"the detector was made for {origin.model} with {what} {own[:16]}…, "
                f"this is {model.label} with {other[:16] or 'none'}",
                "load the very model that it was made for, or make a detector for this one",
            )
    deepest, width = max(cell.layer for cell in detector.cells), detector.main.weight.shape[1]
    if deepest >= model.n_layers:
        raise DetectorError(
            f"the detector reads layer {deepest}, {model.label} has {model.n_layers}",
            "load the model that it was made for",
        )
    if (d := check_site(model, origin.site)) != width:
        raise DetectorError(
            f"the detector reads states of width {width}, those of {model.label} have {d}",
            "load the model that it was made for",
        )
