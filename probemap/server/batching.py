"""Requests that wait for the model: one thread has it, and takes what waits together.

A request is prepared, tokenised and checked on its own, so that what is wrong with one is said to that one; what is
left is one batch.  The model is in one thread only, and so is the tokenizer, which does not like company.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from probemap.detectors.scorer import Said, Score, Scorer
from probemap.models.generate import GenerationRequest
from probemap.models.prompts import ChatMessage, Prompt, chat_prompt, check_lengths
from probemap.records import Answer, DataError, DetectorError, Example, ProbemapError, TextAnswer


class QueueFullError(ProbemapError):
    """More requests wait than the server was told to keep."""


class ClosingError(ProbemapError):
    """The server is on its way out."""


@dataclass(frozen=True)
class ToScore:
    """An answer that is there."""

    example: Example
    reply: TextAnswer
    turns: Sequence[ChatMessage] | None = None
    """The conversation that it answers; None: the example's question, or the reply's own prompt."""
    prompt_tokens: int | None = None
    """As many as whoever answered counted; another number means another template.  None: not known."""


@dataclass(frozen=True)
class ToSay:
    """An answer that the model is to give."""

    example: Example
    turns: Sequence[ChatMessage]
    max_new_tokens: int | None
    """None: as the detector's own questions."""
    temperature: float = 0.0
    seed: int | None = None
    """None: any; a given one is drawn alone, so that the company does not matter."""


@dataclass(eq=False)
class _Job:
    work: ToScore | ToSay
    log: Callable[[Any], None]
    """Hands over what happens: text as it is said, then a result or an error."""
    gone: threading.Event = field(default_factory=threading.Event)
    """Nobody waits for it any more."""
    begun: bool = False
    """Some of its text has been told."""


class Dispatcher:
    """Hands requests to the model in batches, the oldest first.

    Parameters
    ----------
    queue: how many may wait.
    gather: seconds to wait for company before an idle model begins.
    watched: called with the size of each batch.
    """

    def __init__(
        self,
        scorer: Scorer,
        *,
        queue: int = 256,
        gather: float = 0.003,
        watched: Callable[[int], None] = lambda size: None,
    ) -> None:
        self.scorer, self.queue, self.gather, self.watched = scorer, queue, gather, watched
        self._waiting: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._drawn = 0
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Requests that the model has not begun."""
        return len(self._waiting)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def close(self) -> None:
        """Refuse what waits, and let the model end what it has begun."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout=60)

    async def score(self, work: ToScore) -> Score:
        """Raises DataError, QueueFullError, ClosingError."""
        async for event in self._events(work):
            if isinstance(event, Score):
                return event
        raise AssertionError("a job ends with a result or an error")

    async def say(self, work: ToSay) -> AsyncIterator[str | Said]:
        """The answer's text as it comes, in pieces, and at last the answer with its score.

        Raises
        ------
        DataError, QueueFullError, ClosingError
        """
        async for event in self._events(work):
            yield event

    async def _events(self, work: ToScore | ToSay) -> AsyncIterator[Any]:
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[Any] = asyncio.Queue()
        job = _Job(work, lambda event: _handed(loop, events, event))
        self._put(job)
        try:
            while True:
                event = await events.get()
                if isinstance(event, BaseException):
                    raise event
                yield event
                if not isinstance(event, str):
                    return
        finally:
            self._leave(job)

    def _put(self, job: _Job) -> None:
        with self._changed:
            if self._closing:
                raise _closing()
            if len(self._waiting) >= self.queue:
                raise QueueFullError(f"{self.queue} requests wait already", "ask again in a moment")
            self._waiting.append(job)
            self._changed.notify()

    def _leave(self, job: _Job) -> None:
        """Its place is free for others at once, not only when the model looks for work."""
        job.gone.set()
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)

    # in the model's thread

    def _work(self) -> None:
        while batch := self._next():
            self._run(batch)

    def _next(self) -> list[_Job]:
        """What is to be done together; nothing: it is over."""
        together: list[_Job] = []
        while not together:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
            time.sleep(self.gather)
            with self._changed:
                if self._closing:
                    for job in self._waiting:
                        job.log(_closing())
                    return []
                together = _company(self._waiting, self.scorer.batch_size)
                self._waiting = deque(job for job in self._waiting if job not in together)
        return together

    def _run(self, jobs: list[_Job]) -> None:
        prepared = []
        for job in jobs:
            try:
                prepared.append((job, self._prepared(job.work)))
            except Exception as error:
                job.log(error)
        if not prepared:
            return
        self.watched(len(prepared))
        try:
            if isinstance(jobs[0].work, ToScore):
                examples = [job.work.example for job, _ in prepared]
                results: Sequence[Score | Said] = self.scorer.score(examples, [made for _, made in prepared])
            else:
                results = self._said([job for job, _ in prepared], [made for _, made in prepared])
        except Exception as error:
            for job, _ in prepared:
                # The fault of one must not be the fault of all; but what was said cannot be said again.
                if len(prepared) == 1 or job.begun:
                    job.log(error)
                else:
                    self._run([job])
            return
        for (job, _), result in zip(prepared, results, strict=True):
            job.log(result)

    def _prepared(self, work: ToScore | ToSay) -> Any:
        """The answer to be scored, or the prompt to be answered."""
        if isinstance(work, ToSay):
            limit = work.max_new_tokens or self.scorer.provenance.task.max_new_tokens
            prompt = self._prompt(work.example, work.turns)
            check_lengths(self.scorer.model, [(work.example.id, prompt)], limit)
            return GenerationRequest(work.example.id, prompt, limit, work.temperature)
        if work.turns is None:
            (made,) = self.scorer.answers([(work.example, work.reply)])
        else:
            (made,) = self.scorer.replay([(self._prompt(work.example, work.turns), work.reply)])
        if work.prompt_tokens not in (None, made.n_prompt):
            raise DetectorError(
                f"whoever answered counts {work.prompt_tokens} tokens in the prompt, the detector's model "
                f"{made.n_prompt}: another model, or another chat template",
                "serve the detector's own model with its own template",
            )
        return made

    def _prompt(self, example: Example, turns: Sequence[ChatMessage]) -> Prompt:
        if self.scorer.provenance.frame == "chat":
            return chat_prompt(self.scorer.model, turns)
        if [turn["role"] for turn in turns] != ["user"]:
            raise DataError(
                "the detector was made without a chat template, and there is more than one user turn",
                "send one message, the question",
            )
        return self.scorer.prompt(example)

    def _said(self, jobs: list[_Job], wanted: list[GenerationRequest]) -> list[Said]:
        voices = [_Voice(self.scorer.model.tokenizer, self.scorer.model.end_ids(), job) for job in jobs]

        def hear(row: int, token: int) -> bool:
            voices[row].add(token)
            return not jobs[row].gone.is_set()

        self._drawn += 1
        seed = jobs[0].work.seed if isinstance(jobs[0].work, ToSay) else None
        said = self.scorer.speak(
            [job.work.example for job in jobs], wanted, seed=self._drawn if seed is None else seed, hear=hear
        )
        for voice, one in zip(voices, said, strict=True):
            voice.end(one.answer)
        return said


class _Voice:
    """Tells a text while its tokens come; a character of several tokens when it is whole."""

    def __init__(self, tokenizer: Any, ends: frozenset[int], job: _Job) -> None:
        self.tokenizer, self.ends, self.job = tokenizer, ends, job
        self.ids: list[int] = []
        self.told = ""

    def add(self, token: int) -> None:
        if token in self.ends:
            return
        self.ids.append(token)
        text = self.tokenizer.decode(self.ids, clean_up_tokenization_spaces=False)
        if not text.endswith("\ufffd"):
            self._tell(text)

    def end(self, answer: Answer) -> None:
        self._tell(answer.text)

    def _tell(self, text: str) -> None:
        if text.startswith(self.told) and text != self.told:
            self.job.begun = True
            self.job.log(text[len(self.told) :])
            self.told = text


def _company(waiting: Sequence[_Job], most: int) -> list[_Job]:
    """The oldest, and those of its kind; a draw that is to be repeatable goes alone."""
    if not waiting:
        return []
    first = waiting[0]
    if _repeatable(first.work):
        return [first]
    return [job for job in waiting if type(job.work) is type(first.work) and not _repeatable(job.work)][:most]


def _repeatable(work: ToScore | ToSay) -> bool:
    return isinstance(work, ToSay) and work.seed is not None and work.temperature > 0


def _closing() -> ClosingError:
    return ClosingError("the server is closing", "ask again in a moment")


def _handed(loop: asyncio.AbstractEventLoop, events: "asyncio.Queue[Any]", event: Any) -> None:
    """From the model's thread to the loop, which may be gone by now."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(events.put_nowait, event)
