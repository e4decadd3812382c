"""The vocabulary of the house: what flows from step to step, as frozen values, and the errors.

Knows nothing of models, files or arrays.  Axis letters used in every docstring of the package:
``n`` answers, ``n_layers``, ``n_positions``, ``d`` width of the hidden states.
"""

from dataclasses import dataclass, replace
from typing import Literal

Kind = Literal["names", "numbers", "choices", "open"]
"""How a task's answers are judged and located, see :class:`Task`."""


class ProbemapError(Exception):
    """Something that the user can mend: what was got, what was expected, and a hint what to do.

    Parameters
    ----------
    problem: what was got and what was expected, one or two sentences.
    hint: what to do next; printed on a line of its own.
    """

    def __init__(self, problem: str, hint: str = "") -> None:
        super().__init__(f"{problem}\nhint: {hint}" if hint else problem)
        self.problem = problem
        self.hint = hint


class DataError(ProbemapError):
    """Questions that cannot be used: a missing file, a bad row, duplicate ids."""


class ModelError(ProbemapError):
    """A model that cannot be found, loaded or read from."""


class RunError(ProbemapError):
    """A run folder whose content does not fit what is asked of it."""


class StoreError(ProbemapError):
    """Captured states that are missing, damaged or not representable."""


class MapError(ProbemapError):
    """Labels or states from which no map can be made."""


class TooFewError(MapError):
    """Too few right or too few wrong answers for a map."""


class DetectorError(ProbemapError):
    """A detector that cannot be made or used: a damaged file, or another model than its own."""


@dataclass(frozen=True)
class Example:
    """One question with its accepted answers."""

    id: str
    """Unique within a task."""
    question: str
    answers: tuple[str, ...]
    """Accepted answers, the preferred spelling first; empty only where verdicts come with the answers."""
    choices: tuple[str, ...] = ()
    """The closed set that the answer comes from, if the question has one of its own."""
    context: str = ""
    """Text to read before answering, if any."""


@dataclass(frozen=True)
class Task:
    """Questions of one kind, with how they are asked, judged and located."""

    name: str
    examples: tuple[Example, ...]
    kind: Kind
    """``names``: the answer is one of a closed set (`possible`, or each example's `choices`);
    ``numbers``: the answer is a number; ``choices``: one of the example's lettered `choices`, by letter or by words;
    ``open``: anything, accepted by alias."""
    possible: tuple[tuple[str, ...], ...] = ()
    """For ``names``: every possible answer as a group of spellings, the preferred one first."""
    prompt: str = "{question}"
    """What is put to the model; fields ``{question}``, ``{context}``, ``{choices}`` ("Rome, Paris") and ``{letters}``
    (a line per choice, "A) Rome")."""
    shots: tuple[tuple[str, str], ...] = ()
    """Worked examples shown before each question: (what is asked, what is answered)."""
    max_new_tokens: int = 64
    """Answers are cut off after this many tokens."""
    source: str = ""
    """Where the questions come from, with the licence."""


@dataclass(frozen=True)
class Verdict:
    """Is the answer right?"""

    correct: bool | None
    """None: undecided.  Undecided answers are dropped from the map and counted, never guessed."""
    reason: str
    """Why, in words that can be counted, e.g. ``names another answer``."""


@dataclass(frozen=True)
class TextAnswer:
    """A text that somebody else produced for a question: another engine, or you, long ago."""

    id: str
    """The example's id."""
    text: str
    stopped: bool = True
    """False if it was cut off."""
    prompt: str | None = None
    """What the model saw, template included; None: what probemap would have put to it."""
    verdict: Verdict | None = None
    """None: to be judged."""


@dataclass(frozen=True)
class Answer:
    """What the model said: the very token ids that it saw and produced, prompt first."""

    id: str
    """The example's id."""
    prompt: str
    """The text whose tokens are ``token_ids[:n_prompt]``, template included."""
    text: str
    """The decoded answer, without the token that ended it."""
    token_ids: tuple[int, ...]
    """Prompt ids, then produced ids, the ending token (if one came) included."""
    n_prompt: int
    """How many of `token_ids` are the prompt."""
    offsets: tuple[tuple[int, int], ...]
    """For each token the characters that it holds at least one byte of, (start, stop): in `prompt` for
    the prompt's tokens, in `text` for the produced ones.  Tokens that share the bytes of one character
    overlap; the ending token holds none."""
    logprobs: tuple[float, ...]
    """Natural-log probability of each produced token, given all before it, at temperature 1."""
    stopped: bool
    """True if the model ended its answer; False if it was cut off at the token limit."""
    verdict: Verdict | None = None
    """Given with the answer by who made it; None: to be judged."""
    n_reasoning: int = 0
    """How many of the produced tokens, from the first on, are a thinking model's reasoning."""

    @property
    def answer_start(self) -> int:
        """Index into `token_ids` of the answer's first token, behind prompt and reasoning."""
        return self.n_prompt + self.n_reasoning

    @property
    def final(self) -> "Answer":
        """The answer behind its reasoning, which counts as part of the prompt; the same token ids."""
        if not self.n_reasoning:
            return self
        start = self.answer_start
        cut = self.offsets[start][0] if start < len(self.offsets) else len(self.text)
        before = len(self.prompt)
        reasoning = tuple((before + a, before + min(b, cut)) for a, b in self.offsets[self.n_prompt : start])
        return replace(
            self,
            prompt=self.prompt + self.text[:cut],
            text=self.text[cut:],
            n_prompt=start,
            offsets=(
                *self.offsets[: self.n_prompt],
                *reasoning,
                *((a - cut, b - cut) for a, b in self.offsets[start:]),
            ),
            logprobs=self.logprobs[self.n_reasoning :],
            n_reasoning=0,
        )

    @property
    def produced_ids(self) -> tuple[int, ...]:
        return self.token_ids[self.n_prompt :]

    @property
    def token_texts(self) -> tuple[str, ...]:
        """`text` cut into the produced tokens; a character that several tokens share belongs to the first of them."""
        made, at = [], 0
        for start, stop in self.offsets[self.n_prompt :]:
            made.append(self.text[max(at, start) : stop])
            at = max(at, stop)
        return tuple(made)


@dataclass(frozen=True)
class Span:
    """The exact answer inside an answer."""

    start: int
    """Index into ``Answer.token_ids`` of its first token."""
    stop: int
    """Index after its last token."""
    text: str
    """The exact answer's characters, as they stand in ``Answer.text``."""


@dataclass(frozen=True)
class PTrueScore:
    """One line of ``p_true.jsonl``: how likely the model holds its own answer for true."""

    id: str
    p_true: float
    """Between 0 and 1."""


@dataclass(frozen=True)
class JudgeResponse:
    """One line of ``opinions.jsonl``: what a model that judges or locates was asked, and what it said."""

    who: str
    about: str
    """What it was asked for, with a mark of the worked examples that it was shown."""
    asked: str
    said: str


@dataclass(frozen=True)
class Judgement:
    """One line of ``verdicts.jsonl``: verdict and exact answer of one answer."""

    id: str
    verdict: Verdict
    span: Span | None
    """None: no exact answer was found; then `no_span` says why."""
    no_span: str = ""
