"""What passes through on its way from another server, with its scores: this model reads along."""

from collections.abc import AsyncIterator, Callable
from typing import Any

from probemap.detectors.scorer import Score
from probemap.models.endpoint import join_reasoning
from probemap.records import Example, ProbemapError, TextAnswer
from probemap.server.batching import Dispatcher, ToScore
from probemap.server.schemas import ChatRequest, Rating, last_question
from probemap.server.upstream import Upstream


class Relay:
    """One request to the server behind this one.

    A completion that cannot be scored is passed on as it is, and says why it has no score.

    Parameters
    ----------
    observe: called with (id, score, model) of every choice that was scored.
    """

    def __init__(self, upstream: Upstream, dispatcher: Dispatcher, observe: Callable[[str, Score, str], None]) -> None:
        self.upstream, self.dispatcher, self.observe = upstream, dispatcher, observe

    async def complete(self, asked: ChatRequest, body: dict[str, Any]) -> dict[str, Any]:
        """Raises UpstreamError."""
        made = await self.upstream.complete(body)
        counted = _counted(made)
        for choice in made["choices"]:
            message = choice.get("message") or {}
            choice["probemap"] = await self._rating(asked, made, choice, message, counted)
        return made

    async def stream(self, asked: ChatRequest, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """The pieces as they come; the last of each choice waits for its score.

        Raises
        ------
        UpstreamError
        """
        messages: dict[int, dict[str, Any]] = {}
        held: list[dict[str, Any]] = []
        counted = None
        told = asked.stream_options is not None and asked.stream_options.include_usage
        # Its count of the prompt's tokens shows another template; who did not ask for it does not get it.
        body = {**body, "stream_options": {**(body.get("stream_options") or {}), "include_usage": True}}
        async for piece in self.upstream.stream(body):
            counted = _counted(piece) or counted
            if not told and piece.pop("usage", None) and not piece.get("choices"):
                continue
            for choice in piece.get("choices") or ():
                message = messages.setdefault(int(choice.get("index") or 0), {})
                for name, value in (choice.get("delta") or {}).items():
                    if isinstance(value, str):
                        message[name] = message.get(name, "") + value
                    elif value:
                        message[name] = value
            if held or any(choice.get("finish_reason") for choice in piece.get("choices") or ()):
                held.append(piece)
            else:
                yield piece
        for piece in held:
            for choice in piece.get("choices") or ():
                if choice.get("finish_reason"):
                    message = messages[int(choice.get("index") or 0)]
                    choice["probemap"] = await self._rating(asked, piece, choice, message, counted)
            yield piece

    async def _rating(
        self,
        asked: ChatRequest,
        made: dict[str, Any],
        choice: dict[str, Any],
        message: dict[str, Any],
        counted: int | None,
    ) -> dict[str, Any]:
        text, stopped = message.get("content"), choice.get("finish_reason") == "stop"
        if not isinstance(text, str) or message.get("tool_calls"):
            return _unrated("the message is no text")
        thought = message.get("reasoning_content") or message.get("reasoning")
        id_ = str(made.get("id", ""))
        try:
            example = Example(id_ or "1", last_question(asked.messages), ("",))
            work = ToScore(
                example, TextAnswer(example.id, join_reasoning(thought, text, stopped), stopped), asked.turns(), counted
            )
            score = await self.dispatcher.score(work)
        except ProbemapError as error:
            return _unrated(error.problem)
        self.observe(id_, score, str(made.get("model", "")))
        return Rating.of(score).model_dump()


def _counted(made: dict[str, Any]) -> int | None:
    """The prompt's tokens as the server counts them."""
    tokens = (made.get("usage") or {}).get("prompt_tokens")
    return tokens if isinstance(tokens, int) else None


def _unrated(why: str) -> dict[str, Any]:
    return Rating(p_correct=None, flagged=None, exact_answer=None, judged_by="none", why=why).model_dump()
