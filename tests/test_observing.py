"""What happens to scores outside: Prometheus' page, OpenTelemetry's events, Langfuse's scores."""

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
from serving_here import served
from test_serving import turn

from probemap.detectors.detector import Detector
from probemap.detectors.scorer import Scorer
from probemap.models.model import Model
from probemap.server.telemetry import observers_here

TRACE = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}


@pytest.fixture(scope="module")
def scorer(detector: Detector, chat_model: Model) -> Scorer:
    return Scorer(detector, chat_model)


@pytest.fixture(scope="module")
def events() -> InMemoryLogRecordExporter:
    exporter = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
    provider = LoggerProvider()
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    set_logger_provider(provider)
    return exporter


def test_opentelemetry_is_told_in_the_caller_s_trace(
    scorer: Scorer, events: InMemoryLogRecordExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LANGFUSE_PUBLIC_KEY", raising=False)
    with served(scorer, observers=observers_here()) as client:
        asked = {"messages": turn("What is 3 + 5?"), "max_tokens": 4}
        made = client.post("/v1/chat/completions", json=asked, headers=TRACE).json()
        client.post("/v1/score", json={"question": "a", "answer": "8", "id": "mine"})
    first, second = (one.log_record for one in events.get_finished_logs())
    (choice,) = made["choices"]
    assert first.event_name == "gen_ai.evaluation.result"
    assert first.trace_id == 0x0AF7651916CD43DD8448EB211C80319C
    assert first.span_id == 0xB7AD6B7169203331
    assert first.attributes is not None
    assert first.attributes["gen_ai.evaluation.score.value"] == choice["probemap"]["p_correct"]
    assert first.attributes["gen_ai.evaluation.score.label"] in ("flagged", "passed")
    assert first.attributes["gen_ai.response.id"] == made["id"]
    assert second.attributes is not None
    assert second.attributes["gen_ai.response.id"] == "mine"
    assert second.trace_id == 0


RECEIVED: list[Any] = []


class Collector(BaseHTTPRequestHandler):
    """Takes scores, as Langfuse's server does."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/api/public/scores":
            RECEIVED.extend(json.loads(body))
        self.send_response(207)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(b'{"successes": [], "errors": []}')

    def log_message(self, *given: Any) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_langfuse_is_told_of_the_trace_that_the_caller_names(
    scorer: Scorer, collector: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANGFUSE_PUBLIC_KEY", "pk-lf-test")
    monkeypatch.setenv("LANGFUSE_SECRET_KEY", "sk-lf-test")
    monkeypatch.setenv("LANGFUSE_BASE_URL", collector)
    from langfuse import get_client

    with served(scorer, observers=observers_here()) as client:
        made = client.post("/v1/score", json={"question": "a", "answer": "8", "id": "mine"}, headers=TRACE).json()
        client.post("/v1/score", json={"question": "a", "answer": "9"})  # of no trace
    get_client().flush()
    get_client().shutdown()
    (sent,) = RECEIVED
    assert (sent["name"], sent["dataType"]) == ("p_correct", "NUMERIC")
    assert sent["value"] == pytest.approx(made["p_correct"])
    assert sent["traceId"] == "0af7651916cd43dd8448eb211c80319c"
    assert sent["observationId"] == "b7ad6b7169203331"
    assert sent["metadata"] == {"response_id": "mine", "flagged": made["flagged"]}


def test_prometheus_reads_what_happened(scorer: Scorer) -> None:
    with served(scorer) as client:
        for answer in ("8", "No idea."):
            client.post("/v1/score", json={"question": "a", "answer": answer})
        client.post("/v1/chat/completions", json={"messages": turn("a"), "max_tokens": 3})
        client.get("/somewhere/../else")
        response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }
    assert found["probemap_requests_total", "/v1/score", "200"] == 2
    assert found["probemap_requests_total", "other", "404"] == 1, "paths that anybody makes up are one"
    assert found["probemap_answers_total", "main"] >= 1
    assert sum(v for k, v in found.items() if k[0] == "probemap_answers_total") == 3
    assert found["probemap_p_correct_count",] == 3
    assert 1 <= found["probemap_tokens_total",] <= 3
    assert found["probemap_queue",] == 0
    assert found["probemap_request_seconds_count", "/v1/score"] == 2
