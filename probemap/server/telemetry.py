"""Scores handed on: Prometheus' numbers, and OpenTelemetry and Langfuse where they are installed and set up."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from probemap.detectors.scorer import Score


@dataclass(frozen=True)
class Rated:
    """One answer that was scored."""

    response_id: str
    score: Score
    model: str
    headers: Mapping[str, str] = field(default_factory=dict)
    """Of the request: ``traceparent`` says to what trace it belongs."""


Observer = Callable[[Rated], None]


class Metrics:
    """What Prometheus reads at ``/metrics``."""

    def __init__(self, waiting: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        names: dict[str, Any] = {"namespace": "probemap", "registry": self.registry}
        self.requests = Counter("requests", "Requests by path and status.", ["path", "status"], **names)
        self.seconds = Histogram(
            "request_seconds", "From the request to the last byte of the answer.", ["path"], **names
        )
        self.answers = Counter("answers", "Answers scored, by the branch that judged.", ["judged_by"], **names)
        self.flagged = Counter("flagged", "Answers below the threshold.", **names)
        tenths = [k / 10 for k in range(1, 11)]
        self.p_correct = Histogram("p_correct", "Probability of being right.", buckets=tenths, **names)
        powers = [2**k for k in range(9)]
        self.batch = Histogram("batch_size", "Requests that the model took together.", buckets=powers, **names)
        self.tokens = Counter("tokens", "Tokens that the model produced.", **names)
        Gauge("queue", "Requests that wait for the model.", **names).set_function(waiting)

    def observe(self, rated: Rated) -> None:
        self.answers.labels(rated.score.judged_by).inc()
        if rated.score.p_correct is not None:
            self.p_correct.observe(rated.score.p_correct)
        if rated.score.flagged:
            self.flagged.inc()


def observers_here() -> list[Observer]:
    """OpenTelemetry if its API is installed; Langfuse if it is, and has a key."""
    made: list[Observer] = []
    if find_spec("opentelemetry") is not None:
        made.append(_opentelemetry())
    if find_spec("langfuse") is not None and os.environ.get("LANGFUSE_PUBLIC_KEY"):
        made.append(_langfuse())
    return made


def _opentelemetry() -> Observer:
    """An event per answer, as the semantic conventions for generative AI name it, in the caller's trace.

    Whoever runs the server under ``opentelemetry-instrument``, or sets a provider, receives them.
    """
    from opentelemetry._logs import get_logger
    from opentelemetry.propagate import extract

    logger = get_logger("probemap", version("probemap"))

    def observe(rated: Rated) -> None:
        score = rated.score
        attributes: dict[str, Any] = {
            "gen_ai.evaluation.name": "probemap.p_correct",
            "gen_ai.evaluation.score.label": _label(score),
            "gen_ai.response.id": rated.response_id,
            "gen_ai.response.model": rated.model,
        }
        if score.p_correct is not None:
            attributes["gen_ai.evaluation.score.value"] = score.p_correct
        if score.why:
            attributes["gen_ai.evaluation.explanation"] = score.why
        logger.emit(event_name="gen_ai.evaluation.result", context=extract(dict(rated.headers)), attributes=attributes)

    return observe


def _langfuse() -> Observer:
    """A score per answer, on the trace and the observation that the request's ``traceparent`` names."""
    from langfuse import get_client
    from opentelemetry.propagate import extract
    from opentelemetry.trace import format_span_id, format_trace_id, get_current_span

    client = get_client()

    def observe(rated: Rated) -> None:
        span = get_current_span(extract(dict(rated.headers))).get_span_context()
        if rated.score.p_correct is None or not span.is_valid:
            return
        client.create_score(
            name="p_correct",
            value=rated.score.p_correct,
            trace_id=format_trace_id(span.trace_id),
            observation_id=format_span_id(span.span_id),
            data_type="NUMERIC",
            comment=rated.score.why or None,
            metadata={"response_id": rated.response_id, "flagged": rated.score.flagged},
        )

    return observe


def _label(score: Score) -> str:
    return "not judged" if score.flagged is None else "flagged" if score.flagged else "passed"
