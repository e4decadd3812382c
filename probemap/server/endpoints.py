"""Endpoints of the HTTP API.  Each public method of `Endpoints` handles one path."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastapi import Request, Response
from openai.types import Model as ServedModel
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from probemap.records import DataError, DetectorError, Example, ProbemapError, TextAnswer
from probemap.server.batching import Dispatcher
from probemap.server.completions import LocalCompletion
from probemap.server.jobs import ScoreJob
from probemap.server.relay import ProxiedCompletion
from probemap.server.schemas import ChatCompletionRequest, ScoreRequest, ScoreResponse, last_question, to_chat_messages
from probemap.server.streaming import event_stream, unless_disconnected
from probemap.server.telemetry import Metrics, Observer, ScoredAnswer

if TYPE_CHECKING:
    from probemap.detectors.scorer import Scorer
    from probemap.detectors.scores import GenerationResult, Score
    from probemap.server.middleware import Limits
    from probemap.server.upstream import Upstream


class ModelNotServedError(ProbemapError):
    """The server does not serve the requested model."""


class Endpoints:
    """The endpoints, which share a queue and metrics.

    The parameters are those of `create_app`.
    """

    def __init__(
        self, scorer: Scorer, *, limits: Limits, upstream: Upstream | None, observers: Sequence[Observer]
    ) -> None:
        self.limits, self.upstream = limits, upstream
        self.provenance, self.label = scorer.provenance, scorer.engine.model.label
        threshold = scorer.detector.primary.threshold(scorer.false_alarms).p_correct
        self.threshold = None if math.isnan(threshold) else threshold
        self.metrics = Metrics(lambda: self.dispatcher.waiting)
        self.observers = (self.metrics.observe, *observers)
        self.dispatcher = Dispatcher(scorer, queue=limits.queue, on_batch=self.metrics.batch.observe)

    async def healthz(self, response: Response) -> dict[str, str]:
        """Return whether the server is healthy."""
        response.status_code = 200 if self.dispatcher.alive else 503
        return {"status": "ok" if self.dispatcher.alive else "the model's thread has terminated", "model": self.label}

    async def prometheus_metrics(self) -> Response:
        """Return the metrics in the Prometheus text format."""
        return Response(generate_latest(self.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def models(self) -> Any:
        """Return the list of models that generate chat completions."""
        if self.upstream is not None:
            return await self.upstream.models()
        model = ServedModel(id=self.label, object="model", created=0, owned_by="probemap")
        return {"object": "list", "data": [model.to_dict()]}

    async def score(self, body: ScoreRequest, request: Request) -> ScoreResponse:
        """Estimate the probability that an existing answer is correct."""
        _check_hash("revision", body.revision, self.provenance.revision)
        _check_hash("chat template", body.template, self.provenance.template)
        score = await unless_disconnected(request, self.dispatcher.score(_score_job(body)))
        self._observe(request, body.id or f"score-{uuid.uuid4().hex}", score, self.label)
        return ScoreResponse.from_score(
            score, threshold=self.threshold, model=self.label, revision=self.provenance.revision
        )

    async def chat_completions(self, body: ChatCompletionRequest, request: Request) -> Response:
        """Generate a chat completion and estimate the probability that each choice is correct."""
        if self.upstream is None:
            completion: LocalCompletion | ProxiedCompletion = self._local_completion(body, request)
        else:
            completion = ProxiedCompletion(
                self.upstream,
                self.dispatcher,
                body,
                body=await request.json(),
                on_score=lambda id_, score, model: self._observe(request, id_, score, model),
            )
        if body.stream:
            return await event_stream(request, completion.stream())
        response = await unless_disconnected(request, completion.complete())
        # Unlike JSONResponse, this passes on NaN and lone surrogates from an upstream server.
        return Response(json.dumps(response), media_type="application/json")

    def _local_completion(self, body: ChatCompletionRequest, request: Request) -> LocalCompletion:
        body.reject_unsupported()
        if body.model not in (None, self.label, self.provenance.model, self.provenance.name):
            raise ModelNotServedError(
                f"the model {body.model!r:.80} does not exist", f"this server serves {self.label}"
            )

        def on_results(id_: str, results: list[GenerationResult]) -> None:
            for result in results:
                self._observe(request, id_, result.score, self.label)
            self.metrics.tokens.inc(sum(len(result.answer.produced_ids) for result in results))

        return LocalCompletion(
            self.dispatcher, body, model=self.label, max_new_tokens=self.limits.new_tokens, on_results=on_results
        )

    def _observe(self, request: Request, id_: str, score: Score, model: str) -> None:
        answer = ScoredAnswer(response_id=id_, score=score, model=model, headers=request.headers)
        for observer in self.observers:
            observer(answer)


def _check_hash(name: str, requested: str | None, detector_hash: str) -> None:
    if requested is not None and requested != detector_hash:
        raise DetectorError(
            f"the answer was generated by a model with the {name} {requested[:80]!r}, but the detector was fitted for "
            f"the {name} {detector_hash!r}",
            "serve a detector that was fitted for the model that generated the answer",
        )


def _score_job(request: ScoreRequest) -> ScoreJob:
    """Create the job for a request.

    Raises
    ------
    DataError
        If neither or both of `question` and `messages` are set.
    """
    if (request.question is None) == (request.messages is None):
        count = "neither" if request.question is None else "both"
        raise DataError(
            f"the request must set exactly one of question and messages, but sets {count}",
            "send either question, which is inserted into the task's prompt, or messages, a complete conversation",
        )
    question = request.question if request.messages is None else last_question(request.messages)
    id_ = request.id or "1"
    return ScoreJob(
        example=Example(id_, question or "", ("",), tuple(request.choices), request.context),
        answer=TextAnswer(id_, request.answer, request.stopped, request.prompt),
        conversation=None if request.messages is None else to_chat_messages(request.messages),
    )
