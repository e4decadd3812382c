"""Group queued requests into batches and run them on the engine of a scorer.

A single thread owns the engine and the tokenizer, because neither is thread-safe.  Each request is tokenised and
checked separately, so an invalid request does not affect the others.  The valid requests form one batch.

The engine takes the next batch as soon as it can start more requests.  With transformers, this is after the previous
batch; with vLLM, after any forward pass, so requests do not wait for each other.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Any

from probemap.detectors.scores import GenerationResult, Score
from probemap.models.decoding import TokenDecoder
from probemap.models.engine import EngineEndedError, GenerationBatch
from probemap.records import ProbemapError
from probemap.server.jobs import GenerationJob, Job, ScoreJob

if TYPE_CHECKING:
    from probemap.detectors.scorer import Scorer
    from probemap.models.engine import Generation, GenerationRequest
    from probemap.models.model import Model
    from probemap.records import Answer

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
        The detector and the engine of its model, which are used only by the dispatcher's thread.
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
        self._refusal: Exception = ServerClosingError("the server is shutting down", "retry in a moment")
        """The error of requests that are not processed after the server closes."""
        self._running: dict[int, _Running] = {}
        self._finished: list[tuple[_Running, Generation]] = []
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
                raise self._refuse()
            if len(self._waiting) >= self.queue:
                raise QueueFullError(f"the queue is full: {self.queue} requests are waiting", "retry in a moment")
            self._waiting.append(job)
            self._changed.notify()

    def _refuse(self) -> Exception:
        """Return a new error, because a traceback is added to an error whenever it is raised."""
        error = self._refusal
        return type(error)(error.problem, error.hint) if isinstance(error, ProbemapError) else error

    def _cancel(self, job: Job) -> None:
        """Cancel a job and remove it from the queue, which frees its place before the model takes the next batch."""
        job.cancelled.set()
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)

    # The methods below run in the model's thread.

    def _work(self) -> None:
        try:
            while not self._closing:
                self._generate()
        except Exception as error:
            self._refusal = error
            if not isinstance(error, EngineEndedError):
                raise
        finally:
            self._reject_waiting()

    def _generate(self) -> None:
        """Process requests until the server is shutting down or the engine raises an error."""
        scorer, self._running = self.scorer, {}
        try:
            for generation in scorer.engine.generate(
                self._batches(), stop_ids=scorer.stop_ids, recording=scorer.recording, on_token=self._on_token
            ):
                self._finished.append((self._running.pop(generation.row), generation))
        except Exception as error:
            failed = [running.job for running in self._running.values()]
            self._repeat(failed, error)
            self._score_generations()
            if not failed or isinstance(error, EngineEndedError):
                raise

    def _batches(self) -> Iterator[GenerationBatch]:
        """Yield the answers to generate next, which may be none, until the server is shutting down.

        In between, answers are scored.
        """
        rows, seeds = count(), count(1)
        while True:
            self._score_generations()
            jobs = self._next_jobs()
            if self._closing and not self._running:
                return
            pairs = self._prepare(jobs)
            if pairs:
                self.on_batch(len(pairs))
            if pairs and isinstance(jobs[0], ScoreJob):
                self._emit_results(pairs, self._score)
                pairs = []  # the engine continues before more answers are scored
            self._running.update({next(rows): _Running(*pair, self.scorer.engine.model) for pair in pairs})
            seed = pairs[0][0].seed if pairs and jobs[0].is_alone else None
            yield GenerationBatch([request for _, request in pairs], next(seeds) if seed is None else seed)

    def _next_jobs(self) -> list[Job]:
        """Return the next batch of requests.  It may be empty if answers are being generated or the server closes."""
        if not self._running:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
            time.sleep(self.batch_wait)
        if self._closing:
            self._reject_waiting()
        with self._changed:
            batch = _select_batch(self._waiting, self.scorer.batch_size)
            self._waiting = deque(job for job in self._waiting if job not in batch)
        return batch

    def _reject_waiting(self) -> None:
        with self._changed:
            self._closing = True
            for job in self._waiting:
                job.emit(self._refuse())
            self._waiting.clear()

    def _prepare(self, jobs: Sequence[Job]) -> list[tuple[Any, Any]]:
        """Return each request with its input for the scorer, and report the errors of invalid requests."""
        pairs = []
        for job in jobs:
            try:
                pairs.append((job, job.prepare(self.scorer)))
            except Exception as error:
                job.emit(error)
        return pairs

    def _score(self, pairs: Sequence[tuple[ScoreJob, Answer]]) -> list[Score]:
        return self.scorer.score([job.example for job, _ in pairs], [answer for _, answer in pairs])

    def _score_generations(self) -> None:
        """Score the generated answers whose clients are still waiting, and emit the results."""
        pairs = []
        for running, generation in self._finished:
            if not running.job.cancelled.is_set():
                running.flush()
                pairs.append((running.job, (running.request, generation)))
        self._finished = []
        if pairs:
            self._emit_results(pairs, self._score_generated)

    def _score_generated(
        self, pairs: Sequence[tuple[GenerationJob, tuple[GenerationRequest, Generation]]]
    ) -> list[GenerationResult]:
        requests, generations = zip(*(pair for _, pair in pairs), strict=True)
        return self.scorer.score_generations([job.example for job, _ in pairs], requests, generations)

    def _emit_results(
        self, pairs: Sequence[tuple[Job, Any]], score: Callable[[Sequence[Any]], Sequence[Score | GenerationResult]]
    ) -> None:
        try:
            results = score(pairs)
        except Exception as error:
            is_ended = isinstance(error, EngineEndedError)
            if len(pairs) == 1 or is_ended:
                for job, _ in pairs:
                    job.emit(error)
            else:  # a request that fails must not affect the others
                for pair in pairs:
                    self._emit_results([pair], score)
            if is_ended:
                raise
            return
        for (job, _), result in zip(pairs, results, strict=True):
            job.emit(result)

    def _repeat(self, jobs: Sequence[Job], error: Exception) -> None:
        """Repeat each request in a batch of its own, unless it was, or its text has been sent."""
        for job in jobs:
            if job.has_output or job.is_alone or isinstance(error, EngineEndedError):
                job.emit(error)
            else:
                job.is_alone = True
                with self._changed:
                    self._waiting.appendleft(job)

    def _on_token(self, row: int, token: int) -> bool:
        running = self._running[row]
        running.add(token)
        return not running.job.cancelled.is_set()


class _Running:
    """An answer that is being generated.  Its text is emitted as its tokens arrive, without incomplete characters."""

    def __init__(self, job: GenerationJob, request: GenerationRequest, model: Model) -> None:
        self.job, self.request = job, request
        self._decoder, self._end_ids = TokenDecoder(model.tokenizer), model.end_ids

    def add(self, token: int) -> None:
        if token not in self._end_ids:
            self._emit(self._decoder.push(token))

    def flush(self) -> None:
        self._emit(self._decoder.flush())

    def _emit(self, text: str) -> None:
        if text:
            self.job.has_output = True
            self.job.emit(text)


def _select_batch(waiting: Sequence[Job], batch_size: int) -> list[Job]:
    """Return the next batch: the oldest job, and later jobs of the same class, unless they need a batch of their
    own."""
    if not waiting:
        return []
    first = waiting[0]
    if first.is_alone:
        return [first]
    return [job for job in waiting if type(job) is type(first) and not job.is_alone][:batch_size]


def _no_result() -> AssertionError:
    return AssertionError("every job ends with a result or an error")


def _put_threadsafe(loop: asyncio.AbstractEventLoop, events: asyncio.Queue[Any], event: Any) -> None:
    """Pass an event from the model's thread to the event loop, which may have been closed in the meantime."""
    with suppress(RuntimeError):  # raised by a closed loop
        loop.call_soon_threadsafe(events.put_nowait, event)
