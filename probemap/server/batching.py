"""Group queued requests into batches and run them on the model.

A single thread owns the model and the tokenizer, because neither is thread-safe.  Each request is tokenised and checked
separately, so an invalid request does not affect the others.  The valid requests form one batch.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any

from probemap.detectors.scores import GenerationResult, Score
from probemap.models.decoding import TokenDecoder
from probemap.records import ProbemapError
from probemap.server.jobs import GenerationJob, Job, ScoreJob

if TYPE_CHECKING:
    from probemap.detectors.scorer import Scorer
    from probemap.models.engine import GenerationRequest

JOIN_SECONDS = 60
"""Maximum number of seconds that `Dispatcher.close` waits for the batch in progress."""


class QueueFullError(ProbemapError):
    """The queue already holds the maximum number of requests."""


class ServerClosingError(ProbemapError):
    """The server is shutting down."""


class Dispatcher:
    """Runs queued requests on the model in batches, starting with the oldest request.

    Parameters
    ----------
    scorer : Scorer
        The detector and its model, which are used only by the dispatcher's thread.
    queue : int
        Maximum number of waiting requests.
    batch_wait : float
        Number of seconds to wait for more requests before a batch is started.
    on_batch : callable
        Called with the size of each batch.
    """

    def __init__(
        self,
        scorer: Scorer,
        *,
        queue: int = 256,
        batch_wait: float = 0.003,
        on_batch: Callable[[int], None] = lambda size: None,
    ) -> None:
        self.scorer, self.queue, self.batch_wait, self.on_batch = scorer, queue, batch_wait, on_batch
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._n_generated_batches = 0
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Number of requests that the model has not yet started to process."""
        return len(self._waiting)

    @property
    def alive(self) -> bool:
        """Whether the model's thread is running."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Reject the waiting requests and let the model finish the batch in progress."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout=JOIN_SECONDS)

    async def score(self, job: ScoreJob) -> Score:
        """Score an answer.

        Parameters
        ----------
        job : ScoreJob

        Returns
        -------
        Score

        Raises
        ------
        DataError, DetectorError
            See `ScoreJob.prepare`.
        QueueFullError
            If too many requests are waiting.
        ServerClosingError
            If the server is shutting down.
        """
        async for event in self._events(job):
            if isinstance(event, Score):
                return event
        raise _no_result()

    async def generate(self, job: GenerationJob) -> AsyncIterator[str | GenerationResult]:
        """Generate an answer.

        Parameters
        ----------
        job : GenerationJob

        Yields
        ------
        str or GenerationResult
            Pieces of the generated text as they become available, followed by the result with the score.

        Raises
        ------
        DataError
            See `GenerationJob.prepare`.
        QueueFullError
            If too many requests are waiting.
        ServerClosingError
            If the server is shutting down.
        """
        async for event in self._events(job):
            yield event

    async def generate_result(self, job: GenerationJob) -> GenerationResult:
        """Generate an answer and return only the result.

        Raises
        ------
        DataError, QueueFullError, ServerClosingError
            See `generate`.
        """
        async for event in self._events(job):
            if isinstance(event, GenerationResult):
                return event
        raise _no_result()

    async def _events(self, job: Job) -> AsyncIterator[Any]:
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[Any] = asyncio.Queue()
        job.emit = lambda event: _put_threadsafe(loop, events, event)
        self._enqueue(job)
        try:
            while True:
                event = await events.get()
                if isinstance(event, BaseException):
                    raise event
                yield event
                if not isinstance(event, str):
                    return
        finally:
            self._cancel(job)

    def _enqueue(self, job: Job) -> None:
        with self._changed:
            if self._closing:
                raise _closing_error()
            if len(self._waiting) >= self.queue:
                raise QueueFullError(f"the queue is full: {self.queue} requests are waiting", "retry in a moment")
            self._waiting.append(job)
            self._changed.notify()

    def _cancel(self, job: Job) -> None:
        """Cancel a job and remove it from the queue, which frees its place before the model takes the next batch."""
        job.cancelled.set()
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)

    # The methods below run in the model's thread.

    def _work(self) -> None:
        while batch := self._next_batch():
            self._run(batch)

    def _next_batch(self) -> list[Job]:
        """Wait for requests and return a batch of them, or an empty list if the server is shutting down."""
        batch: list[Job] = []
        while not batch:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
            time.sleep(self.batch_wait)
            with self._changed:
                if self._closing:
                    for job in self._waiting:
                        job.emit(_closing_error())
                    return []
                batch = _select_batch(self._waiting, self.scorer.batch_size)
                self._waiting = deque(job for job in self._waiting if job not in batch)
        return batch

    def _run(self, batch: list[Job]) -> None:
        jobs: list[Any] = []
        inputs: list[Any] = []
        for job in batch:
            try:
                inputs.append(job.prepare(self.scorer))
                jobs.append(job)
            except Exception as error:
                job.emit(error)
        if not jobs:
            return
        self.on_batch(len(jobs))
        results: Sequence[Score | GenerationResult]
        try:
            if isinstance(jobs[0], ScoreJob):
                results = self.scorer.score([job.example for job in jobs], inputs)
            else:
                results = self._generate(jobs, inputs)
        except Exception as error:
            for job in jobs:
                # A request that fails must not affect the others, so each one is repeated in a batch of its own.  This
                # is not possible for a request whose text was already sent.
                if len(jobs) == 1 or job.has_output:
                    job.emit(error)
                else:
                    self._run([job])
            return
        for job, result in zip(jobs, results, strict=True):
            job.emit(result)

    def _generate(self, jobs: list[GenerationJob], requests: list[GenerationRequest]) -> list[GenerationResult]:
        model = self.scorer.model
        streamers = [_Streamer(model.tokenizer, model.end_ids, job) for job in jobs]

        def on_token(row: int, token: int) -> bool:
            streamers[row].add(token)
            return not jobs[row].cancelled.is_set()

        self._n_generated_batches += 1
        seed = self._n_generated_batches if jobs[0].seed is None else jobs[0].seed
        results = self.scorer.generate_batch([job.example for job in jobs], requests, seed=seed, on_token=on_token)
        for streamer in streamers:
            streamer.finish()
        return results


class _Streamer:
    """Emits the text of an answer as its tokens arrive, but holds back incomplete characters."""

    def __init__(self, tokenizer: Any, end_ids: frozenset[int], job: Job) -> None:
        self.decoder, self.end_ids, self.job = TokenDecoder(tokenizer), end_ids, job

    def add(self, token: int) -> None:
        if token not in self.end_ids:
            self._emit(self.decoder.push(token))

    def finish(self) -> None:
        self._emit(self.decoder.flush())

    def _emit(self, text: str) -> None:
        if text:
            self.job.has_output = True
            self.job.emit(text)


def _select_batch(waiting: Sequence[Job], batch_size: int) -> list[Job]:
    """Return the next batch: the oldest job, and later jobs of the same class.  A job that draws a reproducible sample
    always gets a batch of its own."""
    if not waiting:
        return []
    first = waiting[0]
    if _is_reproducible_sample(first):
        return [first]
    return [job for job in waiting if type(job) is type(first) and not _is_reproducible_sample(job)][:batch_size]


def _is_reproducible_sample(job: Job) -> bool:
    return isinstance(job, GenerationJob) and job.is_reproducible_sample


def _closing_error() -> ServerClosingError:
    return ServerClosingError("the server is shutting down", "retry in a moment")


def _no_result() -> AssertionError:
    return AssertionError("every job ends with a result or an error")


def _put_threadsafe(loop: asyncio.AbstractEventLoop, events: asyncio.Queue[Any], event: Any) -> None:
    """Pass an event from the model's thread to the event loop, which may have been closed in the meantime."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(events.put_nowait, event)
