"""Export scores to Prometheus, and to OpenTelemetry and Langfuse if they are installed and configured."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

if TYPE_CHECKING:
    from probemap.detectors.scores import Score


@dataclass(frozen=True, kw_only=True)
class ScoredAnswer:
    """An answer that the server has processed, with its score."""

    response_id: str
    score: Score
    model: str
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers of the request; ``traceparent`` identifies the trace that the answer belongs to."""


Observer = Callable[[ScoredAnswer], None]


class Metrics:
    """Metrics that Prometheus reads from ``/metrics``.

    Parameters
    ----------
    waiting : callable
        Function that returns the number of requests waiting for the model.
    """

    def __init__(self, waiting: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        common: dict[str, Any] = {"namespace": "probemap", "registry": self.registry}
        self.requests = Counter("requests", "Requests by path and status.", ["path", "status"], **common)
        self.seconds = Histogram(
            "request_seconds", "Time from the request to the end of the response, in seconds.", ["path"], **common
        )
        self.answers = Counter("answers", "Scored answers by the probe that scored them.", ["judged_by"], **common)
        self.flagged = Counter("flagged", "Answers with a score below the threshold.", **common)
        tenths = [k / 10 for k in range(1, 11)]
        self.p_correct = Histogram("p_correct", "Probability that an answer is correct.", buckets=tenths, **common)
        powers = [2**k for k in range(9)]
        self.batch = Histogram("batch_size", "Requests per batch.", buckets=powers, **common)
        self.tokens = Counter("tokens", "Generated tokens.", **common)
        Gauge("queue", "Requests waiting for the model.", **common).set_function(waiting)

    def observe(self, answer: ScoredAnswer) -> None:
        """Update the metrics with a scored answer."""
        self.answers.labels(answer.score.judged_by).inc()
        if answer.score.p_correct is not None:
            self.p_correct.observe(answer.score.p_correct)
        if answer.score.flagged:
            self.flagged.inc()


def configured_observers() -> list[Observer]:
    """Return observers for OpenTelemetry, if its API is installed, and for Langfuse, if it is installed and
    configured."""
    observers: list[Observer] = []
    if find_spec("opentelemetry") is not None:
        observers.append(_opentelemetry())
    if find_spec("langfuse") is not None and os.environ.get("LANGFUSE_PUBLIC_KEY"):
        observers.append(_langfuse())
    return observers


def _opentelemetry() -> Observer:
    """Return an observer that emits one event per answer in the caller's trace.

    The names of the events and their attributes follow OpenTelemetry's semantic conventions for generative AI.  The
    events are sent to the logger provider of the process, which is configured by ``opentelemetry-instrument``.
    """
    from opentelemetry._logs import get_logger
    from opentelemetry.propagate import extract

    logger = get_logger("probemap", version("probemap"))

    def observe(answer: ScoredAnswer) -> None:
        score = answer.score
        attributes: dict[str, Any] = {
            "gen_ai.evaluation.name": "probemap.p_correct",
            "gen_ai.evaluation.score.label": _label(score),
            "gen_ai.response.id": answer.response_id,
            "gen_ai.response.model": answer.model,
        }
        if score.p_correct is not None:
            attributes["gen_ai.evaluation.score.value"] = score.p_correct
        if score.why:
            attributes["gen_ai.evaluation.explanation"] = score.why
        logger.emit(event_name="gen_ai.evaluation.result", context=extract(dict(answer.headers)), attributes=attributes)

    return observe


def _langfuse() -> Observer:
    """Return an observer that attaches scores to the trace and observation identified by the ``traceparent`` header."""
    from langfuse import get_client
    from opentelemetry.propagate import extract
    from opentelemetry.trace import format_span_id, format_trace_id, get_current_span

    client = get_client()

    def observe(answer: ScoredAnswer) -> None:
        span = get_current_span(extract(dict(answer.headers))).get_span_context()
        if answer.score.p_correct is None or not span.is_valid:
            return
        client.create_score(
            name="p_correct",
            value=answer.score.p_correct,
            trace_id=format_trace_id(span.trace_id),
            observation_id=format_span_id(span.span_id),
            data_type="NUMERIC",
            comment=answer.score.why or None,
            metadata={"response_id": answer.response_id, "flagged": answer.score.flagged},
        )

    return observe


def _label(score: Score) -> str:
    return "not judged" if score.flagged is None else "flagged" if score.flagged else "passed"
