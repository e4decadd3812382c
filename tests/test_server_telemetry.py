"""Observers: metrics for Prometheus, events for OpenTelemetry, scores for Langfuse."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from opentelemetry._logs import set_logger_provider
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from prometheus_client.parser import text_string_to_metric_families
from serving import serve_scorer, user_messages

from probemap.detectors.detector import Detector
from probemap.detectors.scorer import Scorer
from probemap.models.model import Model
from probemap.server.telemetry import configured_observers

TRACE = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}


@pytest.fixture(scope="module")
def scorer(detector: Detector, chat_model: Model) -> Scorer:
    return Scorer(detector, chat_model)


@pytest.fixture(scope="module")
def exporter() -> InMemoryLogRecordExporter:
    log_exporter = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
    provider = LoggerProvider()
    provider.add_log_record_processor(SimpleLogRecordProcessor(log_exporter))
    set_logger_provider(provider)
    return log_exporter


def test_opentelemetry_observer_emits_events_in_the_trace_of_the_caller(
    scorer: Scorer, exporter: InMemoryLogRecordExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LANGFUSE_PUBLIC_KEY", raising=False)
    with serve_scorer(scorer, observers=configured_observers()) as client:
        body = {"messages": user_messages("What is 3 + 5?"), "max_tokens": 4}
        completion = client.post("/v1/chat/completions", json=body, headers=TRACE).json()
        client.post("/v1/score", json={"question": "a", "answer": "8", "id": "caller-id"})
    first, second = (log.log_record for log in exporter.get_finished_logs())
    (choice,) = completion["choices"]
    assert first.event_name == "gen_ai.evaluation.result"
    assert first.trace_id == 0x0AF7651916CD43DD8448EB211C80319C
    assert first.span_id == 0xB7AD6B7169203331
    assert first.attributes is not None
    assert first.attributes["gen_ai.evaluation.score.value"] == choice["probemap"]["p_correct"]
    assert first.attributes["gen_ai.evaluation.score.label"] in ("flagged", "passed")
    assert first.attributes["gen_ai.response.id"] == completion["id"]
    assert second.attributes is not None
    assert second.attributes["gen_ai.response.id"] == "caller-id"
    assert second.trace_id == 0


RECEIVED: list[Any] = []
"""Scores that `LangfuseHandler` received."""


class LangfuseHandler(BaseHTTPRequestHandler):
    """The endpoint of Langfuse's server that receives scores."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/api/public/scores":
            RECEIVED.extend(json.loads(body))
        self.send_response(207)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(b'{"successes": [], "errors": []}')

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def langfuse_url() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), LangfuseHandler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_langfuse_observer_creates_scores_on_the_trace_of_the_caller(
    scorer: Scorer, langfuse_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANGFUSE_PUBLIC_KEY", "pk-lf-test")
    monkeypatch.setenv("LANGFUSE_SECRET_KEY", "sk-lf-test")
    monkeypatch.setenv("LANGFUSE_BASE_URL", langfuse_url)
    from langfuse import get_client

    with serve_scorer(scorer, observers=configured_observers()) as client:
        body = {"question": "a", "answer": "8", "id": "caller-id"}
        response = client.post("/v1/score", json=body, headers=TRACE).json()
        client.post("/v1/score", json={"question": "a", "answer": "9"})  # belongs to no trace
    get_client().flush()
    get_client().shutdown()
    (score,) = RECEIVED
    assert (score["name"], score["dataType"]) == ("p_correct", "NUMERIC")
    assert score["value"] == pytest.approx(response["p_correct"])
    assert score["traceId"] == "0af7651916cd43dd8448eb211c80319c"
    assert score["observationId"] == "b7ad6b7169203331"
    assert score["metadata"] == {"response_id": "caller-id", "flagged": response["flagged"]}


def test_metrics_count_requests_and_scores(scorer: Scorer) -> None:
    with serve_scorer(scorer) as client:
        for answer in ("8", "No idea."):
            client.post("/v1/score", json={"question": "a", "answer": answer})
        client.post("/v1/chat/completions", json={"messages": user_messages("a"), "max_tokens": 3})
        client.get("/somewhere/../else")
        response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }
    assert samples["probemap_requests_total", "/v1/score", "200"] == 2
    assert samples["probemap_requests_total", "other", "404"] == 1, "unknown paths share one label"
    assert samples["probemap_answers_total", "primary"] >= 1
    assert sum(v for k, v in samples.items() if k[0] == "probemap_answers_total") == 3
    assert samples["probemap_p_correct_count",] == 3
    assert 1 <= samples["probemap_tokens_total",] <= 3
    assert samples["probemap_queue",] == 0
    assert samples["probemap_request_seconds_count", "/v1/score"] == 2
