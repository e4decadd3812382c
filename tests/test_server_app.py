"""`create_app`: scores equal to direct scoring, and errors in OpenAI's form."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
from serving import serve_scorer, user_messages

from probemap.detectors.detector import Detector
from probemap.detectors.scorer import Scorer
from probemap.models.model import Model
from probemap.records import Answer
from probemap.runs.run import Run
from probemap.server.middleware import Limits


@pytest.fixture(scope="module")
def scorer(detector: Detector, chat_model: Model) -> Scorer:
    return Scorer(detector, chat_model)


@pytest.fixture(scope="module")
def client(scorer: Scorer) -> Iterator[httpx2.Client]:
    with serve_scorer(scorer, limits=Limits(body=20_000, new_tokens=64)) as http_client:
        yield http_client


# --- scores ---


def test_score_equals_direct_scoring_alone_and_in_batches(client: httpx2.Client, scorer: Scorer, mapped: Path) -> None:
    run = Run.open(mapped)
    task = run.task
    answers: list[Answer] = list(run.answers)
    direct_scores = scorer.score(task.examples, answers)
    expected = [s.p_correct for s in direct_scores]
    assert len({round(s.score or 0.0, 3) for s in direct_scores}) > 60, "every answer has a score of its own"

    def post(k: int) -> dict[str, Any]:
        body = {"question": task.examples[k].question, "answer": answers[k].text, "id": str(k)}
        response: dict[str, Any] = client.post("/v1/score", json=body).raise_for_status().json()
        return response

    first = post(0)
    assert first == {
        "p_correct": pytest.approx(expected[0], abs=1e-5),
        "flagged": first["score"] < scorer.detector.primary.threshold(0.05).score,
        "exact_answer": "5",
        "judged_by": "primary",
        "why": "",
        "accept": False,
        "risk": 0.1,
        "coverage": 0.0,
        "id": "0",
        "score": pytest.approx(scorer.score(task.examples[:1], answers[:1])[0].score, abs=1e-4),
        "threshold": scorer.detector.primary.threshold(0.05).p_correct,
        "model": "tiny-chat",
        "revision": scorer.engine.model.revision,
    }
    with ThreadPoolExecutor(32) as pool:
        responses = list(pool.map(post, range(80)))
    assert [response["id"] for response in responses] == [str(k) for k in range(80)]
    assert [response["p_correct"] for response in responses] == pytest.approx(expected, abs=1e-5)
    assert [response["score"] for response in responses] == pytest.approx([s.score for s in direct_scores], abs=1e-4)
    metrics = client.get("/metrics").text
    assert 'probemap_batch_size_bucket{le="1.0"}' in metrics
    n_batches = float(metrics.split("probemap_batch_size_count ")[1].split()[0])
    assert n_batches < 81, "requests were combined into batches"


def test_score_of_messages_equals_score_of_question(client: httpx2.Client, scorer: Scorer) -> None:
    question = scorer.provenance.task.prompt.replace("{question}", "What is 3 + 5?")
    of_question = client.post("/v1/score", json={"question": "What is 3 + 5?", "answer": "It is 8."}).json()
    of_messages = client.post("/v1/score", json={"messages": user_messages(question), "answer": "It is 8."}).json()
    assert of_messages == of_question
    parts = [{"role": "user", "content": [{"type": "text", "text": question}]}]
    assert client.post("/v1/score", json={"messages": parts, "answer": "It is 8."}).json() == of_question
    longer = [{"role": "system", "content": "Be short."}, *user_messages(question)]
    assert client.post("/v1/score", json={"messages": longer, "answer": "It is 8."}).json() != of_question


def test_score_names_the_fallback(client: httpx2.Client, detector: Detector) -> None:
    response = client.post("/v1/score", json={"question": "What is 3 + 5?", "answer": "No idea."}).json()
    assert detector.fallback is not None
    assert (response["judged_by"], response["exact_answer"]) == ("fallback", None)
    assert response["why"] == f"no exact answer found; scored by the fallback, {detector.fallback.location}"


# --- errors ---


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("score", {"answer": "8"}, 400, "exactly one of question and messages, but sets neither"),
        (
            "score",
            {"answer": "8", "question": "a", "messages": [{"role": "user", "content": "b"}]},
            400,
            "exactly one of question and messages, but sets both",
        ),
        ("score", {"answer": "8", "messages": [{"role": "system", "content": "b"}]}, 400, "contain no user message"),
        ("score", {"answer": 8, "question": "a"}, 422, "answer: Input should be a valid string"),
        ("score", {"answer": "8", "question": "a", "surprise": 1}, 422, "surprise: Extra inputs are not permitted"),
        ("score", {"answer": "8 " * 400, "question": "a"}, 400, "exceed the context window of tiny-chat (256 tokens"),
        ("score", {"answer": "", "question": "a", "prompt": "", "stopped": False}, 400, "have no tokens"),
        ("score", {"answer": "8", "question": "a", "revision": "abc"}, 409, "'abc', but the detector was fitted for"),
        ("score", {"answer": "8", "question": "a", "template": "abc"}, 409, "'abc', but the detector was fitted for"),
        ("chat/completions", {"messages": []}, 422, "messages: List should have at least 1 item"),
        ("chat/completions", {"messages": [{"role": "tool", "content": "b"}]}, 422, "messages.0.role"),
        ("chat/completions", {"messages": [{"role": "assistant", "content": "b"}]}, 400, "contain no user message"),
        ("chat/completions", {"temperature": 9}, 422, "temperature: Input should be less than"),
        ("chat/completions", {"stop": ["x"]}, 400, "'stop' is not supported by this server"),
        ("chat/completions", {"top_p": 0.5}, 400, "'top_p' is not supported by this server"),
        ("chat/completions", {"max_tokens": 65}, 400, "asks for up to 65 tokens, but this server allows at most 64"),
        ("chat/completions", {"messages": user_messages("b " * 300)}, 400, "exceed the context window"),
        ("chat/completions", {"messages": user_messages("b " * 300), "stream": True}, 400, "exceed the context window"),
        ("chat/completions", {"model": "other"}, 404, "this server serves tiny-chat"),
        ("nothing", {}, 404, "Not Found"),
    ],
)
def test_invalid_request_gets_status_and_message(
    client: httpx2.Client, path: str, body: dict[str, Any], status: int, words: str
) -> None:
    if path == "chat/completions":
        body = {"messages": user_messages("b"), **body}
    response = client.post(f"/v1/{path}", json=body)
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert words in error["message"]
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize("name", ["revision", "template"])
def test_score_rejects_another_model_and_names_both_hashes(client: httpx2.Client, scorer: Scorer, name: str) -> None:
    detector_hash, different_hash = getattr(scorer.provenance, name), "f" * 64
    body = {"question": "What is 3 + 5?", "answer": "8"}
    response = client.post("/v1/score", json={**body, name: different_hash})
    assert response.status_code == 409
    assert detector_hash in response.json()["error"]["message"]
    assert different_hash in response.json()["error"]["message"]
    assert "p_correct" not in response.text
    assert client.post("/v1/score", json={**body, name: detector_hash}).status_code == 200


def test_chat_completions_accepts_parameters_without_effect(client: httpx2.Client) -> None:
    parameters: dict[str, Any] = {
        "top_p": 1,
        "stop": None,
        "user": "me",
        "tools": [],
        "response_format": {"type": "text"},
        "logprobs": False,
    }
    body = {"messages": user_messages("b"), "max_tokens": 2, **parameters}
    assert client.post("/v1/chat/completions", json=body).status_code == 200


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[1, 2]",
        b"[" * 15_000,
        b"\xff\xfe",
        b'{"answer": NaN, "question": "a"}',
        b'{"answer": "\\ud800", "question": "a"}',
        b'{"answer": "a", "question": "a", "choices": [1e999]}',
    ],
)
def test_score_rejects_invalid_json_and_text(client: httpx2.Client, content: bytes) -> None:
    response = client.post("/v1/score", content=content, headers={"content-type": "application/json"})
    assert response.status_code in (400, 422), response.text
    assert response.json()["error"]["message"]


@pytest.mark.parametrize(
    "field", ['"user": NaN', '"metadata": {"a": -Infinity}', '"user": "\\ud800"', '"top_p": 1e999']
)
def test_chat_completions_rejects_invalid_json_in_parameters_without_effect(client: httpx2.Client, field: str) -> None:
    content = f'{{"messages": [{{"role": "user", "content": "a"}}], "max_tokens": 2, {field}}}'
    response = client.post("/v1/chat/completions", content=content, headers={"content-type": "application/json"})
    assert response.status_code == 422, response.text
    assert "contains a value that is not valid JSON" in response.json()["error"]["message"]


def test_openapi_documents_responses_and_authentication(client: httpx2.Client, scorer: Scorer) -> None:
    document = client.get("/openapi.json").json()
    content = document["paths"]["/v1/chat/completions"]["post"]["responses"]["200"]["content"]
    assert content["application/json"]["schema"] == {"$ref": "#/components/schemas/ScoredCompletion"}
    assert "securitySchemes" not in document["components"]
    with serve_scorer(scorer, token="geheim") as with_token:
        document = with_token.get("/openapi.json", headers={"authorization": "Bearer geheim"}).json()
    assert document["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    public_paths = [
        path for path, verbs in document["paths"].items() if all("security" not in v for v in verbs.values())
    ]
    assert public_paths == ["/healthz"]
