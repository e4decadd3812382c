"""`Guard`: limits on the size and the duration of a request, and authentication."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest
from serving import connect, serve_scorer

from probemap.detectors.detector import Detector
from probemap.detectors.scorer import Scorer
from probemap.models.model import Model
from probemap.server.middleware import Limits


@pytest.fixture(scope="module")
def scorer(detector: Detector, chat_model: Model) -> Scorer:
    return Scorer(detector, chat_model)


def test_guard_rejects_large_bodies_with_and_without_declared_size(scorer: Scorer) -> None:
    def chunks() -> Iterator[bytes]:  # sent without a content-length
        for _ in range(30):
            yield b" " * 1000

    with serve_scorer(scorer, limits=Limits(body=20_000, new_tokens=64)) as client:
        response = client.post("/v1/score", json={"question": "a", "answer": "b" * 30_000})
        assert (response.status_code, response.json()["error"]["code"]) == (413, "request_entity_too_large")
        assert client.post("/v1/score", content=chunks()).status_code == 413
        assert client.get("/healthz").json() == {"status": "ok", "model": "tiny-chat"}


@pytest.mark.parametrize(("token", "status"), [(None, 413), ("geheim", 401)])
def test_guard_error_reaches_clients_that_send_everything_first(scorer: Scorer, token: str | None, status: int) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(50):
            yield b" " * 100_000

    async def post(url: str) -> list[int]:
        async with httpx2.AsyncClient(base_url=url, timeout=60) as client:
            posts = [await client.post("/v1/score", content=content) for content in (b" " * 5_000_000, chunks())]
            return [response.status_code for response in posts]

    with serve_scorer(scorer, token=token) as client:
        for _ in range(3):  # without the discarding, a client sees the error only sometimes
            assert asyncio.run(post(str(client.base_url))) == [status, status]


def test_guard_does_not_read_bodies_far_above_the_limit(scorer: Scorer) -> None:
    with serve_scorer(scorer, limits=Limits(body=1000)) as client:
        for start in (
            b"content-length: 99999999\r\n\r\n",
            b"transfer-encoding: chunked\r\n\r\nffffff\r\n" + b"x" * 20_000,
        ):
            with connect(client) as connection:
                connection.sendall(b"POST /v1/score HTTP/1.1\r\nhost: a\r\n" + start)
                assert b" 413 " in connection.recv(1000)


def test_guard_rejects_slow_bodies_while_others_are_served(scorer: Scorer) -> None:
    with serve_scorer(scorer, limits=Limits(seconds=0.5)) as client:
        slow = connect(client)
        slow.sendall(b"POST /v1/score HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n{")
        assert client.post("/v1/score", json={"question": "a", "answer": "b"}).status_code == 200
        assert b" 408 " in slow.recv(1000)
        slow.close()


def test_guard_requires_token(scorer: Scorer) -> None:
    with serve_scorer(scorer, token="geheim") as client:
        body = {"question": "a", "answer": "b"}
        for headers in (
            {},
            {"authorization": "Bearer falsch"},
            {"authorization": "Basic geheim"},
            {"authorization": "x"},
            {"authorization": "Bearer"},
            {"authorization": "Bearer geheim2"},
        ):
            response = client.post("/v1/score", json=body, headers=headers)
            assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
            assert response.json()["error"]["message"].startswith("a bearer token is required")
        assert client.get("/metrics").status_code == 401
        assert client.get("/nothing").status_code == 401
        assert client.post("/v1/score", content=b"{").status_code == 401, "nothing is parsed without a token"
        assert client.get("/healthz").status_code == 200
        assert client.post("/v1/score", json=body, headers={"authorization": "Bearer geheim"}).status_code == 200
        assert client.post("/v1/score", json=body, headers={"authorization": "bearer geheim"}).status_code == 200


def test_guard_compares_tokens_as_bytes(scorer: Scorer) -> None:
    with serve_scorer(scorer, token="Schlüssel") as client:
        for token, status in (("Schlüssel", 200), ("Schlussel", 401)):
            headers = [(b"authorization", f"Bearer {token}".encode())]
            assert client.get("/v1/models", headers=headers).status_code == status
