"""The detector over HTTP: a score for an answer that is there, and chat completions that carry their score.

OpenAI's protocol, so that any client of it works.  The answers are this model's own, or those of a server that stands
behind this one; then this model only reads them.
"""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException

from probemap.detectors.scorer import Said, Score, Scorer
from probemap.records import DataError, DetectorError, Example, ProbemapError
from probemap.server.batching import ClosingError, Dispatcher, QueueFullError, ToSay, ToScore
from probemap.server.middleware import Guard, Limits, problem
from probemap.server.relay import Relay
from probemap.server.schemas import (
    ChatRequest,
    Problem,
    Rating,
    ScoreRequest,
    ScoreResponse,
    chunk,
    completion,
    last_question,
    usage,
)
from probemap.server.telemetry import Metrics, Observer, Rated
from probemap.server.upstream import Upstream, UpstreamError

_T = TypeVar("_T")

PATHS = ("/v1/score", "/v1/chat/completions", "/v1/models", "/healthz", "/metrics")


class _GoneError(Exception):
    """The client has hung up."""


class ModelNotServedError(ProbemapError):
    """Another model was asked for than this server has."""


_STATUS: dict[type[ProbemapError], int] = {
    DataError: 400,
    ModelNotServedError: 404,
    DetectorError: 409,
    QueueFullError: 429,
    ClosingError: 503,
}


def create_app(
    scorer: Scorer,
    *,
    limits: Limits = Limits(),
    token: str | None = None,
    upstream: Upstream | None = None,
    observers: Sequence[Observer] = (),
) -> FastAPI:
    """The application.

    Parameters
    ----------
    token: what requests must bring as bearer token; None: nobody is asked.
    upstream: the server that answers; None: the scorer's model does.
    observers: are told of every answer that was scored.
    """
    metrics = Metrics(lambda: dispatcher.waiting)
    dispatcher = Dispatcher(scorer, queue=limits.queue, watched=metrics.batch.observe)
    told = [metrics.observe, *observers]
    provenance, label = scorer.provenance, scorer.model.label

    def observe(id_: str, score: Score, request: Request, model: str) -> None:
        for one in told:
            one(Rated(id_, score, model, request.headers))

    @asynccontextmanager
    async def alive(app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(dispatcher.close)
        if upstream is not None:
            await upstream.close()

    app = FastAPI(
        title="probemap",
        description="How likely is this answer right?",
        version=version("probemap"),
        lifespan=alive,
        responses={"4XX": {"model": Problem}, "5XX": {"model": Problem}, 422: {"model": Problem}},
    )

    def counted(path: str, status: int, seconds: float) -> None:
        name = path if path in PATHS else "other"
        metrics.requests.labels(name, str(status)).inc()
        metrics.seconds.labels(name).observe(seconds)

    app.add_middleware(Guard, limits=limits, token=token, counted=counted)

    @app.exception_handler(ProbemapError)
    async def refused(request: Request, error: ProbemapError) -> JSONResponse:
        status = error.status if isinstance(error, UpstreamError) else _STATUS.get(type(error), 503)
        headers = {"retry-after": "1"} if status in (429, 503) else None
        return JSONResponse(problem(error.problem, status, error.hint), status, headers)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part != "body")
        # Without what was sent: it may be no JSON.
        return JSONResponse(problem(f"{where[:200] or 'the body'}: {first['msg'][:300]}", 422), 422)

    @app.exception_handler(_GoneError)
    async def unheard(request: Request, error: _GoneError) -> Response:
        return Response(status_code=499)  # for the numbers; nobody reads it

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse(problem(str(error.detail), error.status_code), error.status_code, error.headers)

    @app.get("/healthz")
    async def healthz(response: Response) -> dict[str, str]:
        """Is the model there?"""
        response.status_code = 200 if dispatcher.alive else 503
        return {"status": "ok" if dispatcher.alive else "the model's thread has ended", "model": label}

    @app.get("/metrics", response_class=PlainTextResponse)
    async def numbers() -> Response:
        """For Prometheus."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/v1/models")
    async def models() -> Any:
        """What answers here."""
        if upstream is not None:
            return await upstream.models()
        return {"object": "list", "data": [{"id": label, "object": "model", "created": 0, "owned_by": "probemap"}]}

    @app.post("/v1/score")
    async def score(asked: ScoreRequest, request: Request) -> ScoreResponse:
        """How likely is this answer right?"""
        for what, theirs, own in (
            ("revision", asked.revision, provenance.revision),
            ("chat template", asked.template, provenance.template),
        ):
            if theirs is not None and theirs != own:
                raise DetectorError(
                    f"the answer is of a model of {what} {theirs[:80]!r}, the detector is for {own!r}",
                    "serve a detector that was made for that model",
                )
        made = await _unless_gone(request, dispatcher.score(ToScore(asked.example(), asked.reply(), asked.turns())))
        observe(asked.id or f"score-{uuid.uuid4().hex}", made, request, label)
        threshold = scorer.detector.main.threshold(scorer.false_alarms).p_correct
        rating = Rating.of(made).model_dump()
        return ScoreResponse(
            **rating, id=made.id, score=made.score, threshold=threshold, model=label, revision=provenance.revision
        )

    @app.post("/v1/chat/completions", responses={200: {"content": {"text/event-stream": {}}}})
    async def chat(asked: ChatRequest, request: Request) -> Any:
        """A chat completion whose choices say how likely they are right."""
        if upstream is not None:
            relay = Relay(upstream, dispatcher, lambda id_, made, model: observe(id_, made, request, model))
            body = await request.json()
            if asked.stream:
                return await _events(request, relay.stream(asked, body))
            return JSONResponse(await _unless_gone(request, relay.complete(asked, body)))
        asked.refuse_unknown()
        if asked.model not in (None, label, provenance.model, provenance.name):
            raise ModelNotServedError(f"there is no model {asked.model!r:.80}", f"this server has {label}")
        id_, created = f"chatcmpl-{uuid.uuid4().hex}", int(time.time())
        works = _works(asked, limits)

        def heard(said: Sequence[Said]) -> dict[str, int]:
            for one in said:
                observe(id_, one.score, request, label)
            produced = sum(len(one.answer.produced_ids) for one in said)
            metrics.tokens.inc(produced)
            return usage(said[0].answer.n_prompt, produced)

        if asked.stream:
            with_usage = asked.stream_options is not None and asked.stream_options.include_usage
            pieces = _chunks(_streamed(dispatcher, works), len(works), id_, label, created, heard, with_usage)
            return await _events(request, pieces)
        said = await _unless_gone(request, _all(dispatcher, works))
        choices = [
            {
                "index": k,
                "message": {"role": "assistant", "content": one.answer.text},
                "finish_reason": _reason(one),
                "logprobs": None,
                "probemap": Rating.of(one.score).model_dump(),
            }
            for k, one in enumerate(said)
        ]
        return JSONResponse(completion(id_, label, created, choices, heard(said)))

    return app


def _works(asked: ChatRequest, limits: Limits) -> list[ToSay]:
    """One piece of work per choice."""
    limit = asked.limit(0)
    if limit > limits.new_tokens:
        raise DataError(f"{limit} tokens are asked for", f"this server gives {limits.new_tokens}")
    question = last_question(asked.messages)
    return [
        ToSay(
            Example(str(k), question, ("",)),
            asked.turns(),
            limit or None,
            asked.temperature or 0.0,
            None if asked.seed is None else (asked.seed + k) % 2**63,
        )
        for k in range(asked.n or 1)
    ]


async def _all(dispatcher: Dispatcher, works: Sequence[ToSay]) -> list[Said]:
    """Every choice, or the first error; then nobody waits for the others."""
    tasks = [asyncio.create_task(_whole(dispatcher, work)) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def _whole(dispatcher: Dispatcher, work: ToSay) -> Said:
    async for event in dispatcher.say(work):
        if isinstance(event, Said):
            return event
    raise AssertionError("a job ends with a result or an error")


async def _streamed(dispatcher: Dispatcher, works: Sequence[ToSay]) -> AsyncIterator[tuple[int, str | Said]]:
    """What happens to several choices, as it happens: (choice, text or result)."""
    happened: asyncio.Queue[tuple[int, str | Said | BaseException]] = asyncio.Queue()

    async def follow(k: int, work: ToSay) -> None:
        try:
            async for event in dispatcher.say(work):
                await happened.put((k, event))
        except Exception as error:
            await happened.put((k, error))

    tasks = [asyncio.create_task(follow(k, work)) for k, work in enumerate(works)]
    try:
        left = len(tasks)
        while left:
            k, event = await happened.get()
            if isinstance(event, BaseException):
                raise event
            left -= isinstance(event, Said)
            yield k, event
    finally:
        for task in tasks:
            task.cancel()


async def _chunks(
    happening: AsyncIterator[tuple[int, str | Said]],
    n: int,
    id_: str,
    label: str,
    created: int,
    heard: Callable[[Sequence[Said]], dict[str, int]],
    with_usage: bool,
) -> AsyncIterator[dict[str, Any]]:
    def piece(k: int, delta: dict[str, Any], **more: Any) -> dict[str, Any]:
        return chunk(id_, label, created, [{"index": k, "delta": delta, "finish_reason": None, **more}])

    said: list[Said] = []
    begun = False
    async for k, what in happening:
        if not begun:
            for one in range(n):
                yield piece(one, {"role": "assistant", "content": ""})
            begun = True
        if isinstance(what, str):
            yield piece(k, {"content": what})
        else:
            said.append(what)
            yield piece(k, {}, finish_reason=_reason(what), probemap=Rating.of(what.score).model_dump())
    counted = heard(said)
    if with_usage:
        yield chunk(id_, label, created, [], usage=counted)


def _reason(said: Said) -> str:
    return "stop" if said.answer.stopped else "length"


async def _events(request: Request, pieces: AsyncIterator[dict[str, Any]]) -> StreamingResponse:
    """Server-sent events, as OpenAI sends them; an error in the middle is the last of them.

    The status is sent with the first piece, so that what is refused before is refused with its own.
    """
    first = await _unless_gone(request, anext(pieces, None))

    async def lines() -> AsyncIterator[str]:
        try:
            if first is not None:
                yield f"data: {json.dumps(first)}\n\n"
            async for piece in pieces:
                yield f"data: {json.dumps(piece)}\n\n"
            yield "data: [DONE]\n\n"
        except ProbemapError as error:
            yield f"data: {json.dumps(problem(error.problem, 503, error.hint))}\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream", headers={"cache-control": "no-cache"})


async def _unless_gone(request: Request, work: Awaitable[_T]) -> _T:
    """The work's result; it is dropped when the client hangs up."""
    task = asyncio.ensure_future(work)
    gone = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise _GoneError
        return task.result()
    finally:
        for one in (task, gone):
            one.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
