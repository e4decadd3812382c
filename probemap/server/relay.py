"""Proxied chat completions: an upstream server generates the answers, and the detector's model scores them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, TypeGuard

from probemap.models.replies import is_complete
from probemap.records import Example, ProbemapError, TextAnswer
from probemap.server.jobs import ScoreJob
from probemap.server.schemas import AnswerScore, ChatCompletionRequest, last_question, to_chat_messages

if TYPE_CHECKING:
    from probemap.detectors.scores import Score
    from probemap.server.batching import Dispatcher
    from probemap.server.upstream import Upstream


class ProxiedCompletion:
    """A chat completion request that is answered by the upstream server.

    If a choice cannot be scored, it is passed on without a probability, and the ``why`` field of its score gives the
    reason.

    Parameters
    ----------
    upstream : Upstream
    dispatcher : Dispatcher
    request : ChatCompletionRequest
    body : dict
        The request as the client sent it.  It is forwarded unchanged, except that the token usage is always requested
        for streamed completions.
    on_score : callable
        Called for each scored choice, with the identifier of the completion, the score and the name of the upstream
        model.
    """

    def __init__(
        self,
        upstream: Upstream,
        dispatcher: Dispatcher,
        request: ChatCompletionRequest,
        *,
        body: dict[str, Any],
        on_score: Callable[[str, Score, str], None],
    ) -> None:
        self.upstream, self.dispatcher, self.request = upstream, dispatcher, request
        self.body, self.on_score = body, on_score

    async def complete(self) -> dict[str, Any]:
        """Return the completion from the upstream server, with a score added to each choice.

        Raises
        ------
        UpstreamError
            See `Upstream.complete`.
        """
        completion = await self.upstream.complete(self.body)
        prompt_tokens = _prompt_tokens(completion)
        for choice in completion["choices"]:
            message = choice.get("message") or {}
            choice["probemap"] = await self._score(completion, choice, message, prompt_tokens)
        return completion

    async def stream(self) -> AsyncIterator[dict[str, Any]]:
        """Yield the chunks from the upstream server as they arrive, but hold back the last chunk of each choice until
        the choice has a score.

        Raises
        ------
        UpstreamError
            See `Upstream.stream`.
        """
        messages: dict[int, dict[str, Any]] = {}
        final_chunks: list[dict[str, Any]] = []
        prompt_tokens = None
        # The usage is always requested, because the number of prompt tokens shows whether the upstream server uses a
        # different chat template.  It is removed from the chunks if the client did not request it.
        stream_options = {**(self.body.get("stream_options") or {}), "include_usage": True}
        async for chunk in self.upstream.stream({**self.body, "stream_options": stream_options}):
            prompt_tokens = _prompt_tokens(chunk) or prompt_tokens
            if not self.request.include_usage and chunk.pop("usage", None) and not chunk.get("choices"):
                continue
            choices = chunk.get("choices") or ()
            for choice in choices:
                _add_delta(messages.setdefault(_index(choice), {}), choice.get("delta") or {})
            if final_chunks or any(choice.get("finish_reason") for choice in choices):
                final_chunks.append(chunk)
            else:
                yield chunk
        for chunk in final_chunks:
            for choice in chunk.get("choices") or ():
                if choice.get("finish_reason"):
                    choice["probemap"] = await self._score(chunk, choice, messages[_index(choice)], prompt_tokens)
            yield chunk

    async def _score(
        self, completion: dict[str, Any], choice: dict[str, Any], message: dict[str, Any], prompt_tokens: int | None
    ) -> dict[str, Any]:
        text = message.get("content")
        if not _is_plain_text(text) or message.get("tool_calls"):
            return _unscored("the message is not plain text")
        reasoning = message.get("reasoning_content") or message.get("reasoning")
        completion_id = str(completion.get("id", ""))
        id_ = completion_id or "1"
        try:
            job = ScoreJob(
                example=Example(id_, last_question(self.request.messages), ("",)),
                answer=TextAnswer(
                    id_,
                    text,
                    is_complete(choice.get("finish_reason")),
                    reasoning=reasoning if isinstance(reasoning, str) else "",
                    max_new_tokens=self.request.token_limit,
                ),
                conversation=to_chat_messages(self.request.messages),
                prompt_tokens=prompt_tokens,
            )
            score = await self.dispatcher.score(job)
        except ProbemapError as error:
            return _unscored(error.problem)
        self.on_score(completion_id, score, str(completion.get("model", "")))
        return AnswerScore.model_validate(score).model_dump()


def _is_plain_text(content: Any) -> TypeGuard[str]:
    """Return whether the content is text without lone surrogates, which JSON allows but which cannot be tokenised."""
    if not isinstance(content, str):
        return False
    try:
        content.encode()
    except UnicodeEncodeError:
        return False
    return True


def _index(choice: dict[str, Any]) -> int:
    return int(choice.get("index") or 0)


def _add_delta(message: dict[str, Any], delta: dict[str, Any]) -> None:
    for name, value in delta.items():
        if isinstance(value, str):
            message[name] = message.get(name, "") + value
        elif value:
            message[name] = value


def _prompt_tokens(completion: dict[str, Any]) -> int | None:
    """Return the number of prompt tokens that the upstream server reported, or None if it reported none."""
    count = (completion.get("usage") or {}).get("prompt_tokens")
    return count if isinstance(count, int) else None


def _unscored(why: str) -> dict[str, Any]:
    return AnswerScore(p_correct=None, flagged=None, exact_answer=None, judged_by="none", why=why).model_dump()
