"""Requests in the form that the model's thread takes: checked, tokenised, and with a channel for their results."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from probemap.detectors.scorer import Scorer
from probemap.models.generate import GenerationRequest
from probemap.models.prompts import ChatMessage, Prompt, chat_prompt, check_lengths
from probemap.records import Answer, DataError, DetectorError, Example, TextAnswer


@dataclass(eq=False, kw_only=True)
class Job:
    """A request in the queue, and the delivery of its results; `Dispatcher` sets the fields that are not arguments."""

    emit: Callable[[Any], None] = field(init=False, repr=False)
    """Callback for generated text, then for the result or the error; safe to call from the model's thread."""
    cancelled: threading.Event = field(init=False, repr=False, default_factory=threading.Event)
    """Set when the client no longer waits."""
    has_output: bool = field(init=False, default=False)
    """Whether some generated text was emitted, so that the job cannot be repeated."""

    def prepare(self, scorer: Scorer) -> Any:
        """Convert the request to the input of the scorer; runs in the model's thread."""
        raise NotImplementedError


@dataclass(eq=False, kw_only=True)
class ScoreJob(Job):
    """A request for the score of an existing answer."""

    example: Example
    answer: TextAnswer
    conversation: Sequence[ChatMessage] | None = None
    """The conversation that `answer` ends; None: the example's question, or the answer's own prompt."""
    prompt_tokens: int | None = None
    """Length of the prompt according to the server that generated the answer.  A different length than the detector's
    model gives shows a different chat template.  None: unknown."""

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
            If the text cannot be tokenised reversibly, has no tokens, does not fit the context window, or has no
            prompt.
        DetectorError
            If the prompt does not have `prompt_tokens` tokens.
        """
        context: Example | Prompt = self.example
        if self.conversation is not None:
            context = _prompt(scorer, self.example, self.conversation)
        (answer,) = scorer.retokenise([(context, self.answer)])
        if not answer.token_ids:
            raise DataError("the prompt and the answer have no tokens", "send a prompt or an answer that is not empty")
        if self.prompt_tokens not in (None, answer.n_prompt):
            raise DetectorError(
                f"the upstream server counted {self.prompt_tokens} prompt tokens, the detector's model gives "
                f"{answer.n_prompt}: the server uses a different model or chat template",
                "serve the detector's model with its own chat template",
            )
        return answer


@dataclass(eq=False, kw_only=True)
class GenerationJob(Job):
    """A request for a generated answer and its score."""

    example: Example
    conversation: Sequence[ChatMessage]
    max_new_tokens: int | None = None
    """Maximum number of generated tokens.  If None, the limit of the detector's task applies."""
    temperature: float = 0.0
    """Sampling temperature; 0 is greedy decoding."""
    seed: int | None = None
    """Random seed for sampling.  A seeded sample is generated in a batch of its own, so that it can be reproduced.
    None: different samples at each call."""

    @property
    def is_reproducible_sample(self) -> bool:
        return self.seed is not None and self.temperature > 0

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
            If the template rejects the conversation, the prompt has no tokens, or prompt and answer do not fit the
            context window.
        """
        limit = self.max_new_tokens or scorer.provenance.task.max_new_tokens
        prompt = _prompt(scorer, self.example, self.conversation)
        if not prompt.token_ids:
            raise DataError("the prompt has no tokens", "send a question that is not empty")
        check_lengths(scorer.model, [(self.example.id, prompt)], limit)
        return GenerationRequest(self.example.id, prompt, limit, self.temperature)


def _prompt(scorer: Scorer, example: Example, conversation: Sequence[ChatMessage]) -> Prompt:
    if scorer.provenance.prompt_format == "chat":
        return chat_prompt(scorer.model, conversation)
    roles = [message["role"] for message in conversation]
    if roles != ["user"]:
        raise DataError(
            f"the messages have the roles {', '.join(roles)}; a detector without a chat template accepts one user "
            "message",
            "send the question as a single user message",
        )
    return scorer.prompt(example)
