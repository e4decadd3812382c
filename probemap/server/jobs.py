"""Requests that are processed by the model's thread, which checks and tokenises them and emits their results."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from probemap.models.engine import GenerationRequest
from probemap.models.prompts import Prompt, chat_prompt, check_lengths
from probemap.records import Answer, ChatMessage, DataError, DetectorError, Example, TextAnswer

if TYPE_CHECKING:
    from probemap.detectors.scorer import Scorer


@dataclass(eq=False, kw_only=True)
class Job:
    """A queued request, with the callback that receives its results.

    `Dispatcher` sets the fields that are not arguments of the constructor.
    """

    emit: Callable[[Any], None] = field(init=False, repr=False)
    """Callback that receives the generated text, followed by the result or an error.  It may be called in the model's
    thread."""
    cancelled: threading.Event = field(init=False, repr=False, default_factory=threading.Event)
    """Set when the client is no longer waiting for the result."""
    has_output: bool = field(init=False, default=False)
    """Whether generated text has already been emitted.  If so, the job cannot be repeated."""
    is_alone: bool = field(init=False, default=False)
    """Whether the job is processed in a batch of its own."""

    def prepare(self, scorer: Scorer) -> Any:
        """Convert the request to an input for the scorer.  This method is called in the model's thread."""
        raise NotImplementedError


@dataclass(eq=False, kw_only=True)
class ScoreJob(Job):
    """A request to score an existing answer."""

    example: Example
    answer: TextAnswer
    conversation: Sequence[ChatMessage] | None = None
    """The conversation that precedes `answer`.  If None, the example's question or the answer's own prompt is used."""
    prompt_tokens: int | None = None
    """Number of prompt tokens reported by the server that generated the answer, or None if it is unknown.

    If the detector's model counts a different number, that server uses a different model or chat template.
    """

    def prepare(self, scorer: Scorer) -> Answer:
        """Tokenise the prompt and the answer.

        Parameters
        ----------
        scorer : Scorer

        Returns
        -------
        Answer

        Raises
        ------
        DataError
            If the tokenizer does not reproduce the text, if neither the prompt nor the answer has any tokens, if they
            do not fit in the context window, or if a required prompt is missing.
        DetectorError
            If the prompt does not have `prompt_tokens` tokens.
        """
        context: Example | Prompt = self.example
        if self.conversation is not None:
            context = _prompt(scorer, self.example, self.conversation)
        (answer,) = scorer.retokenise([(context, self.answer)])
        if not answer.token_ids:
            raise DataError("the prompt and the answer have no tokens", "send a non-empty prompt or answer")
        if self.prompt_tokens not in (None, answer.n_prompt):
            raise DetectorError(
                f"the upstream server counted {self.prompt_tokens} prompt tokens, but the detector's model counts "
                f"{answer.n_prompt}, so the server uses a different model or chat template",
                "let the upstream server use the detector's model with its own chat template",
            )
        return answer


@dataclass(eq=False, kw_only=True)
class GenerationJob(Job):
    """A request to generate an answer and score it."""

    example: Example
    conversation: Sequence[ChatMessage]
    max_new_tokens: int | None = None
    """Maximum number of generated tokens.  If None, the limit of the detector's task applies."""
    temperature: float = 0.0
    """Sampling temperature; 0 selects greedy decoding."""
    seed: int | None = None
    """Random seed for sampling.

    A sample with a seed is generated in a batch of its own so that it is reproducible.  If None, every call generates a
    different sample.
    """

    def __post_init__(self) -> None:
        self.is_alone = self.seed is not None and self.temperature > 0

    def prepare(self, scorer: Scorer) -> GenerationRequest:
        """Tokenise the prompt.

        Parameters
        ----------
        scorer : Scorer

        Returns
        -------
        GenerationRequest

        Raises
        ------
        DataError
            If the chat template rejects the conversation, if the prompt has no tokens, or if the prompt and the answer
            do not fit in the context window.
        """
        limit = self.max_new_tokens or scorer.provenance.task.max_new_tokens
        prompt = _prompt(scorer, self.example, self.conversation)
        if not prompt.token_ids:
            raise DataError("the prompt has no tokens", "send a non-empty question")
        check_lengths(scorer.engine.model, [(self.example.id, prompt)], limit)
        return GenerationRequest(self.example.id, prompt, limit, self.temperature)


def _prompt(scorer: Scorer, example: Example, conversation: Sequence[ChatMessage]) -> Prompt:
    if scorer.provenance.prompt_format == "chat":
        return chat_prompt(scorer.engine.model, conversation)
    roles = [message["role"] for message in conversation]
    if roles != ["user"]:
        raise DataError(
            f"the messages have the roles {', '.join(roles)}, but a detector without a chat template accepts only a "
            "single user message",
            "send the question as a single user message",
        )
    return scorer.prompt(example)
