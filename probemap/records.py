"""Data classes that are passed from step to step, and the exceptions.

All values are immutable, and independent of models, files and arrays.  Dimensions in the docstrings of the package:
``n`` answers, ``n_layers``, ``n_positions``, ``d`` hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Kind = Literal["names", "numbers", "choices", "open"]
"""How the answers to a task are graded and located; see `Task`."""


class ProbemapError(Exception):
    """Base class of all errors that the user can correct.

    Parameters
    ----------
    problem : str
        What was received and what was expected, in one or two sentences.
    hint : str
        What to do; printed on a separate line.

    Examples
    --------
    >>> import probemap
    >>> try:
    ...     probemap.load_task("capitols")
    ... except probemap.ProbemapError as error:
    ...     print(error.problem)
    no file or task named 'capitols'
    """

    def __init__(self, problem: str, hint: str = "") -> None:
        super().__init__(f"{problem}\nhint: {hint}" if hint else problem)
        self.problem = problem
        self.hint = hint


class DataError(ProbemapError):
    """Invalid input data: a missing file, an invalid row, duplicate ids."""


class ModelError(ProbemapError):
    """A model or a server that cannot be found, loaded or used."""


class RunError(ProbemapError):
    """A run directory or an environment that does not permit the requested operation."""


class StoreError(ProbemapError):
    """Captured states that are missing, damaged, or outside the range of their dtype."""


class MapError(ProbemapError):
    """Labels or states from which no map can be fitted."""


class TooFewError(MapError):
    """Too few correct or too few incorrect answers to fit a map."""


class DetectorError(ProbemapError):
    """A detector that cannot be fitted or used: a damaged file, or a model that it was not made for."""


@dataclass(frozen=True)
class Example:
    """A question with its accepted answers.

    Examples
    --------
    >>> from probemap import Example
    >>> Example("lima", "Of which country is Lima the capital?", ("Peru", "Republic of Peru")).answers[0]
    'Peru'
    """

    id: str
    """Unique within a task."""
    question: str
    answers: tuple[str, ...]
    """Accepted answers, with the preferred spelling first.  May be empty only if verdicts are supplied with the
    answers."""
    choices: tuple[str, ...] = ()
    """The closed set that the answer comes from, if this question has one."""
    context: str = ""
    """Text to read before answering; may be empty."""


@dataclass(frozen=True)
class Task:
    """Questions of one kind, with their prompt and the way in which answers are graded and located.

    Examples
    --------
    >>> from probemap import Example, Task
    >>> questions = (Example("lima", "Of which country is Lima the capital?", ("Peru",)),)
    >>> Task("capitals", questions, "open").prompt
    '{question}'
    """

    name: str
    examples: tuple[Example, ...]
    kind: Kind
    """``names``: the answer is one of a closed set (`possible`, or each example's `choices`);
    ``numbers``: the answer is a number; ``choices``: one of the example's lettered `choices`, by letter or by words;
    ``open``: anything, accepted by alias."""
    possible: tuple[tuple[str, ...], ...] = ()
    """For ``names``: every possible answer as a group of spellings, the preferred one first."""
    prompt: str = "{question}"
    """Template of the prompt, with the fields ``{question}``, ``{context}``, ``{choices}`` ("Rome, Paris") and
    ``{letters}`` (one line per choice, "A) Rome")."""
    shots: tuple[tuple[str, str], ...] = ()
    """Worked examples that precede each question: (prompt, answer)."""
    max_new_tokens: int = 64
    """Length limit of the answers."""
    source: str = ""
    """Origin of the questions, with the licence."""


@dataclass(frozen=True)
class Verdict:
    """Whether an answer is correct.

    Examples
    --------
    >>> from probemap import Verdict
    >>> Verdict(False, "names another answer").correct
    False
    """

    correct: bool | None
    """None: undecided.  Undecided answers are excluded from maps and counted, never guessed."""
    reason: str
    """One of few phrases that can be counted, e.g. ``names another answer``."""


@dataclass(frozen=True)
class TextAnswer:
    """The text of an answer that was not generated in process: from a server or from a file."""

    id: str
    """Id of the example."""
    text: str
    stopped: bool = True
    """False if the answer was cut off."""
    prompt: str | None = None
    """The text that the model saw, template included; None: the prompt that probemap makes for the example."""
    verdict: Verdict | None = None
    """None: to be graded."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The output of a model: the exact token ids that it saw and produced, prompt first.

    Examples
    --------
    >>> from probemap import Answer
    >>> answer = Answer(
    ...     id="sum", prompt="2 + 3?", text=" It is 5", token_ids=(7, 8, 9, 4, 5, 6), n_prompt=3,
    ...     offsets=((0, 1), (1, 3), (3, 6), (0, 3), (3, 6), (6, 8)), logprobs=(-0.1, -0.2, -0.3), stopped=False,
    ... )
    >>> answer.produced_ids, answer.token_texts
    ((4, 5, 6), (' It', ' is', ' 5'))
    """

    id: str
    """Id of the example."""
    prompt: str
    """The text whose tokens are ``token_ids[:n_prompt]``, template included."""
    text: str
    """The decoded answer, without the token that ended it."""
    token_ids: tuple[int, ...]
    """Prompt ids, then produced ids, including the token that ended the answer if there is one."""
    n_prompt: int
    """Number of prompt tokens."""
    offsets: tuple[tuple[int, int], ...]
    """For each token the characters of which it contains at least one byte, (start, stop): in `prompt` for the prompt
    tokens, in `text` for the produced ones.  Tokens that share the bytes of one character overlap; the token that ended
    the answer has an empty range."""
    logprobs: tuple[float, ...]
    """Natural logarithm of the probability of each produced token given all earlier ones, at temperature 1."""
    stopped: bool
    """True if the model ended its answer; False if it was cut off at the token limit."""
    verdict: Verdict | None = None
    """A verdict supplied with the answer; None: to be graded."""
    n_reasoning: int = 0
    """Number of produced tokens, counted from the first, that are the reasoning of a thinking model."""

    @property
    def answer_start(self) -> int:
        """Index into `token_ids` of the first token of the answer, after prompt and reasoning."""
        return self.n_prompt + self.n_reasoning

    @property
    def final(self) -> Answer:
        """The same answer with its reasoning counted as part of the prompt; the token ids are the same."""
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
        """The token ids after the prompt, reasoning included."""
        return self.token_ids[self.n_prompt :]

    @property
    def token_texts(self) -> tuple[str, ...]:
        """`text` split into the produced tokens; a character that several tokens share belongs to the first of them."""
        texts, end = [], 0
        for start, stop in self.offsets[self.n_prompt :]:
            texts.append(self.text[max(end, start) : stop])
            end = max(end, stop)
        return tuple(texts)


@dataclass(frozen=True)
class Span:
    """The tokens of the exact answer inside an answer.

    Examples
    --------
    >>> from probemap import Span
    >>> span = Span(start=7, stop=9, text="Austria")
    >>> span.stop - span.start
    2
    """

    start: int
    """Index into ``Answer.token_ids`` of the first token."""
    stop: int
    """Index after the last token."""
    text: str
    """The characters of the exact answer, as in ``Answer.text``."""


@dataclass(frozen=True)
class PTrueScore:
    """One line of ``p_true.jsonl``: the probability that the model assigns to its own answer being true."""

    id: str
    p_true: float
    """Between 0 and 1."""


@dataclass(frozen=True)
class JudgeResponse:
    """One line of ``opinions.jsonl``: the response of a language model that grades or locates."""

    who: str
    """Name of the language model, with its revision or address."""
    about: str
    """Name of the task, with a hash of its prompt and worked examples."""
    asked: str
    """The prompt."""
    said: str
    """The response."""


@dataclass(frozen=True)
class Judgement:
    """One line of ``verdicts.jsonl``: the verdict on an answer and its exact answer.

    Examples
    --------
    >>> from probemap import Judgement, Verdict
    >>> Judgement("lima", Verdict(None, "refusal"), span=None, no_span="no exact answer found").verdict.correct is None
    True
    """

    id: str
    verdict: Verdict
    span: Span | None
    """None: no exact answer was found."""
    no_span: str = ""
    """Why there is no span; empty if there is one."""
