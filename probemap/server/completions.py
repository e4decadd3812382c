"""Chat completions that are generated and scored by the detector's model."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from openai.types.chat.chat_completion_chunk import ChoiceDelta

from probemap.detectors.scores import GenerationResult
from probemap.records import DataError, Example
from probemap.server.jobs import GenerationJob
from probemap.server.schemas import (
    ChatCompletionRequest,
    ScoredChoice,
    ScoredChunk,
    ScoredChunkChoice,
    ScoredCompletion,
    last_question,
    to_chat_messages,
    usage,
)

if TYPE_CHECKING:
    from probemap.server.batching import Dispatcher


class LocalCompletion:
    """A chat completion request that is answered by the detector's model.

    Parameters
    ----------
    dispatcher : Dispatcher
    request : ChatCompletionRequest
    model : str
        Name of the model to report in the response.
    max_new_tokens : int
        Maximum number of tokens that a request may ask for.
    on_results : callable
        Called with the identifier of the completion and the results of all its choices.

    Raises
    ------
    DataError
        If the request has no user message or asks for more than `max_new_tokens` tokens.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        request: ChatCompletionRequest,
        *,
        model: str,
        max_new_tokens: int,
        on_results: Callable[[str, list[GenerationResult]], None],
    ) -> None:
        self.dispatcher, self.request, self.on_results = dispatcher, request, on_results
        self.id = f"chatcmpl-{uuid.uuid4().hex}"
        self._fields: dict[str, Any] = {"id": self.id, "created": int(time.time()), "model": model}
        self._jobs = _jobs(request, max_new_tokens)

    async def complete(self) -> dict[str, Any]:
        """Return the completion, including the score of each choice.

        Raises
        ------
        DataError, QueueFullError, ServerClosingError
            See `Dispatcher.generate`.
        """
        tasks = [asyncio.create_task(self.dispatcher.generate_result(job)) for job in self._jobs]
        try:
            results = await asyncio.gather(*tasks)
        finally:
            # After the first error, the results of the other choices are no longer needed.
            for task in tasks:
                task.cancel()
        self.on_results(self.id, results)
        completion = ScoredCompletion(
            **self._fields,
            object="chat.completion",
            choices=[ScoredChoice.from_result(index, result) for index, result in enumerate(results)],
            usage=usage(results),
        )
        return completion.to_dict(mode="json")

    async def stream(self) -> AsyncIterator[dict[str, Any]]:
        """Yield the chunks of the completion.  The last chunk of each choice contains its score.

        Raises
        ------
        DataError, QueueFullError, ServerClosingError
            See `Dispatcher.generate`.
        """
        results: list[GenerationResult] = []
        is_first = True
        async for index, event in self._events():
            if is_first:
                for choice in range(len(self._jobs)):
                    yield self._delta(choice, ChoiceDelta(role="assistant", content=""))
                is_first = False
            if isinstance(event, str):
                yield self._delta(index, ChoiceDelta(content=event))
            else:
                results.append(event)
                yield self._chunk(ScoredChunkChoice.last(index, event))
        self.on_results(self.id, results)
        if self.request.include_usage:
            yield self._chunk(usage=usage(results))

    def _delta(self, index: int, delta: ChoiceDelta) -> dict[str, Any]:
        return self._chunk(ScoredChunkChoice(index=index, delta=delta, finish_reason=None))

    def _chunk(self, *choices: ScoredChunkChoice, **fields: Any) -> dict[str, Any]:
        chunk = ScoredChunk(**self._fields, object="chat.completion.chunk", choices=list(choices), **fields)
        return chunk.to_dict(mode="json")

    async def _events(self) -> AsyncIterator[tuple[int, str | GenerationResult]]:
        """Yield the text and the results of all choices as they arrive, each paired with the index of its choice."""
        events: asyncio.Queue[tuple[int, str | GenerationResult | BaseException]] = asyncio.Queue()

        async def forward(index: int, job: GenerationJob) -> None:
            try:
                async for event in self.dispatcher.generate(job):
                    await events.put((index, event))
            except Exception as error:
                await events.put((index, error))

        tasks = [asyncio.create_task(forward(index, job)) for index, job in enumerate(self._jobs)]
        try:
            n_unfinished = len(tasks)
            while n_unfinished:
                index, event = await events.get()
                if isinstance(event, BaseException):
                    raise event
                n_unfinished -= isinstance(event, GenerationResult)
                yield index, event
        finally:
            for task in tasks:
                task.cancel()


def _jobs(request: ChatCompletionRequest, max_new_tokens: int) -> list[GenerationJob]:
    """Return one job per choice."""
    if request.token_limit is not None and request.token_limit > max_new_tokens:
        raise DataError(
            f"the request asks for up to {request.token_limit} tokens, but this server allows at most {max_new_tokens}",
            "send a lower max_completion_tokens, or start the server with a higher --max-new-tokens",
        )
    question = last_question(request.messages)
    return [
        GenerationJob(
            example=Example(str(index), question, ("",)),
            conversation=to_chat_messages(request.messages),
            max_new_tokens=request.token_limit,
            temperature=request.temperature or 0.0,
            seed=None if request.seed is None else (request.seed + index) % 2**63,
        )
        for index in range(request.n or 1)
    ]
