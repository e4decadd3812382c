"""Data classes that the steps of a run pass to each other, and the exceptions that the package raises.

The data classes are immutable and do not depend on models, files or arrays.  The package's docstrings use the following
names for dimensions: ``n`` is the number of answers, ``n_layers`` the number of layers, ``n_positions`` the number of
positions, and ``d`` the hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

Kind = Literal["names", "numbers", "choices", "open"]
"""Kind of task, which determines how answers are graded and how exact answers are located; see `Task`."""

Metadata = tuple[tuple[str, str | float], ...]
"""Names and values of the further fields of a question."""

ChatMessage = dict[str, str]
"""A message with the keys ``role`` and ``content``, as expected by chat templates and servers."""


class ProbemapError(Exception):
    """Base class for errors that the user can correct.

    Parameters
    ----------
    problem : str
        One or two sentences that state what was received and what was expected.
    hint : str
        Advice on how to correct the error, printed on a separate line.

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
    """Raised for invalid input data, e.g. a missing file, an invalid row or duplicate ids."""


class ModelError(ProbemapError):
    """Raised if a model or a server cannot be found, loaded or used."""


class RunError(ProbemapError):
    """Raised if the state of a run directory or of the environment prevents the requested operation."""


class StoreError(ProbemapError):
    """Raised if captured states are missing or damaged, or if their values are outside the range of their dtype."""


class MapError(ProbemapError):
    """Raised if a map cannot be fitted, or if it lacks the data that an operation requires."""


class TooFewError(MapError):
    """Raised if there are too few correct or too few incorrect answers to fit a map."""


class DetectorError(ProbemapError):
    """Raised if a detector cannot be fitted or used, e.g. if its file is damaged or it was fitted for a different
    model."""


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
    """Id of the question, unique within a task."""
    question: str
    answers: tuple[str, ...]
    """Accepted answers, with the preferred spelling first.  May be empty only if verdicts are supplied with the model's
    answers."""
    choices: tuple[str, ...] = ()
    """The possible answers if the answer must come from a closed set; otherwise empty."""
    context: str = ""
    """Text that the model reads before it answers.  May be empty."""
    kind: Kind | None = field(default=None, repr=False)
    """Kind of answer that this question requires, if it differs from the kind of the task.  It does not change the
    prompt, so it is not part of the task's fingerprint."""
    metadata: Metadata = field(default=(), repr=False)
    """Further fields of the question, such as a popularity or a relation, as pairs of a name and a text or a number.
    They do not change the prompt and are not part of the task's fingerprint.  `probemap map` can group the folds by a
    field and use fields as covariates."""


@dataclass(frozen=True)
class Task:
    """A set of questions that share a prompt template and a kind of answer.

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
    """Kind of answer that the questions require, unless an example has its own kind.

    - ``names``: the answer comes from a closed set, given by `possible` or by the `choices` of each example.
    - ``numbers``: the answer is a number.
    - ``choices``: the answer is one of the example's `choices`, identified by its letter or by its text.
    - ``open``: the answer may be any text, and is correct if it contains an accepted answer that is not negated."""
    possible: tuple[tuple[str, ...], ...] = ()
    """Possible answers to the questions in a ``names`` task.  Each one is a tuple of alternative spellings, with the
    preferred spelling first."""
    prompt: str = "{question}"
    """Prompt template.  It may contain the fields ``{question}``, ``{context}``, ``{choices}`` (e.g. "Rome, Paris") and
    ``{letters}`` (one line per choice, e.g. "A) Rome")."""
    shots: tuple[tuple[str, str], ...] = ()
    """Worked examples that precede each question in the prompt, as (prompt, answer) pairs."""
    max_new_tokens: int = 64
    """Maximum number of tokens in an answer."""
    source: str = ""
    """Origin and licence of the questions."""

    def kind_of(self, example: Example) -> Kind:
        """Return the kind of answer that an example requires."""
        return example.kind or self.kind

    def examples_of(self, answers: Sequence[Answer]) -> list[Example]:
        """Return the example to which each answer belongs.

        Raises
        ------
        DataError
            If the id of an answer is not in the task.
        """
        example_of = {example.id: example for example in self.examples}
        if unknown := [answer.id for answer in answers if answer.id not in example_of]:
            raise DataError(
                f"{len(unknown)} of {len(answers)} answers belong to no example of the task {self.name!r}; "
                f"the first one has the id {unknown[0]!r}",
                "pass the task whose questions were answered",
            )
        return [example_of[answer.id] for answer in answers]


@dataclass(frozen=True)
class Verdict:
    """Verdict on whether an answer is correct.

    Examples
    --------
    >>> from probemap import Verdict
    >>> Verdict(False, "names another answer").correct
    False
    """

    correct: bool | None
    """Whether the answer is correct, or None if this is undecided.  Undecided answers are counted but are
    excluded from maps."""
    reason: str
    """Reason for the verdict, e.g. ``names another answer``.  It is one of a few fixed phrases, so that answers can be
    counted by reason."""
    rule: str = ""
    """Name of the rule that found the evidence, e.g. ``announced result``.  Empty if there is no evidence."""
    evidence: tuple[int, int] | None = None
    """Range (start, stop) of the characters in the answer's final text that decided the verdict, e.g. those of the
    answer that the text asserts.  None if no single part of the text decided it, e.g. if nothing was found."""


SUPPLIED = {True: "supplied as correct", False: "supplied as incorrect", None: "supplied as undecided"}
"""Mapping from a verdict supplied with an answer to the reason recorded for it."""


@dataclass(frozen=True)
class TextAnswer:
    """The text of an answer that was not generated in this process but comes from a server or a file."""

    id: str
    """Id of the example."""
    text: str
    stopped: bool | None = True
    """False if the answer was cut off.  If None, an answer of `max_new_tokens` tokens counts as cut off."""
    prompt: str | tuple[ChatMessage, ...] | None = None
    """The prompt that the model received, including the chat template, or the conversation to which the chat template
    was applied.  If None, the prompt is built from the task."""
    verdict: Verdict | None = None
    """A verdict supplied with the answer.  If None, the answer is graded."""
    exact_answer: str | None = None
    """An exact answer supplied with the answer, as it occurs in `text`.  If None, the exact answer is located."""
    max_new_tokens: int | None = None
    """Maximum number of tokens with which the answer was generated, or None if it is unknown."""
    prompt_ids: tuple[int, ...] | None = None
    """Token ids of the prompt, if they are known.  They are used instead of `prompt`."""
    reasoning: str = ""
    """Reasoning that precedes `text` but is not part of it, because a server or a log separates the two."""
    produced_ids: tuple[int, ...] | None = None
    """Token ids that the model produced, if they are known.  They may continue after the end of `text`, e.g. with an
    end token or with a stop string.  If None, the text is tokenised."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A model's answer, with the exact token ids that the model received and produced.

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
    """Text of the prompt, including the chat template.  Its tokens are ``token_ids[:n_prompt]``."""
    text: str
    """The decoded answer, without the end token."""
    token_ids: tuple[int, ...]
    """Token ids of the prompt, followed by those of the answer, including the end token if there is one."""
    n_prompt: int
    """Number of prompt tokens."""
    offsets: tuple[tuple[int, int], ...]
    """For each token, the range (start, stop) of the characters that it encodes, including characters that it encodes
    only in part.  The ranges of prompt tokens refer to `prompt`, and those of produced tokens refer to `text`.  If two
    tokens share a character, their ranges overlap.  The range of the end token is empty."""
    logprobs: tuple[float, ...]
    """Natural logarithm of the probability of each produced token, given all earlier tokens, at temperature 1."""
    stopped: bool
    """True if the model ended its answer; False if it was cut off at the token limit."""
    verdict: Verdict | None = None
    """A verdict supplied with the answer.  If None, the answer is graded."""
    exact_answer: str | None = None
    """An exact answer supplied with the answer, as it occurs in `text`.  If None, the exact answer is located."""
    n_reasoning: int = 0
    """Number of reasoning tokens, which a thinking model produces before its answer."""
    entropies: tuple[float, ...] = ()
    """Entropy in nats of the distribution from which each produced token comes: that of the next token given all
    earlier tokens, over the whole vocabulary, at temperature 1.  Empty if the entropies are unknown."""

    @property
    def answer_start(self) -> int:
        """Index into `token_ids` of the first token of the answer, after the prompt and the reasoning."""
        return self.n_prompt + self.n_reasoning

    @property
    def text_tokens(self) -> slice:
        """The tokens of the answer in `token_ids`, without the reasoning and without an end token that has no text."""
        start = self.answer_start
        has_end = self.stopped and any(a == b for a, b in self.offsets[start:][-1:])
        return slice(start, len(self.token_ids) - has_end)

    @property
    def final(self) -> Answer:
        """A copy of the answer in which the reasoning counts as part of the prompt.  The token ids are unchanged."""
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
            entropies=self.entropies[self.n_reasoning :],
        )

    @property
    def produced_ids(self) -> tuple[int, ...]:
        """Token ids after the prompt, including the reasoning."""
        return self.token_ids[self.n_prompt :]

    @property
    def token_texts(self) -> tuple[str, ...]:
        """The texts of the produced tokens.  If several tokens share a character, it is assigned to the first one."""
        texts, end = [], 0
        for start, stop in self.offsets[self.n_prompt :]:
            texts.append(self.text[max(end, start) : stop])
            end = max(end, stop)
        return tuple(texts)


@dataclass(frozen=True)
class Span:
    """The range of tokens that contain the exact answer.

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
    """Index of the last token, plus one."""
    text: str
    """Text of the exact answer, as it occurs in ``Answer.text``."""


@dataclass(frozen=True)
class PTrueScore:
    """One line of ``p_true.jsonl``: the probability that the model assigns to its own answer being true."""

    id: str
    p_true: float
    """The probability, between 0 and 1."""


@dataclass(frozen=True)
class JudgeResponse:
    """One line of ``opinions.jsonl``: the response of a language model that grades an answer or locates its exact
    answer."""

    who: str
    """Name of the language model, with its revision or address."""
    about: str
    """Name of the task, with a hash of its prompt and worked examples."""
    asked: str
    """Prompt sent to the language model."""
    said: str
    """Response of the language model."""


@dataclass(frozen=True)
class AuditRow:
    """One line of ``audit.jsonl``: an answer that was drawn for an audit, and the label that a person gives it."""

    id: str
    question: str
    context: str
    choices: tuple[str, ...]
    accepted: tuple[str, ...]
    """Accepted answers."""
    answer: str
    """The model's answer."""
    correct: bool | Literal["cannot tell"] | None = None
    """The label, or None if the answer is not labelled yet."""
    note: str = ""
    """The person's remark.  It is kept but not used."""


@dataclass(frozen=True)
class Judgement:
    """One line of ``verdicts.jsonl``: the verdict on an answer, and the location of its exact answer.

    Examples
    --------
    >>> from probemap import Judgement, Verdict
    >>> Judgement("lima", Verdict(None, "refusal"), span=None, no_span="no exact answer found").verdict.correct is None
    True
    """

    id: str
    verdict: Verdict
    span: Span | None
    """Tokens of the exact answer, or None if no exact answer was found."""
    no_span: str = ""
    """Reason why `span` is None, or an empty string if there is a span."""
