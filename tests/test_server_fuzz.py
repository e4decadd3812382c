"""Requests generated from the OpenAPI document, valid and invalid, never cause an internal error."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance
from serving import serve_app

from probemap.detectors.detector import Detector
from probemap.detectors.scorer import Scorer
from probemap.models.model import Model
from probemap.server.app import PATHS, create_app
from probemap.server.middleware import Limits

POST_PATHS = ("/v1/score", "/v1/chat/completions")


@pytest.fixture(scope="module")
def url(detector: Detector, chat_model: Model) -> Iterator[str]:
    app = create_app(Scorer(detector, chat_model), limits=Limits(body=20_000, new_tokens=8))
    with serve_app(app) as client:
        yield str(client.base_url)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize("path", PATHS)
def test_create_app_answers_every_generated_request(url: str, path: str, mode: GenerationMode) -> None:
    document = schemathesis.openapi.from_url(f"{url}openapi.json")
    operation: Any = document[path]["POST" if path in POST_PATHS else "GET"]
    if mode == GenerationMode.NEGATIVE and path not in POST_PATHS:
        return  # a GET request without parameters cannot be invalid
    cases = []

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    def send(case: Any) -> None:
        cases.append(case)
        case.call_and_validate(checks=[not_a_server_error, content_type_conformance, response_schema_conformance])

    send()
    assert cases
