"""A hub in a thread of the test: the endpoints that huggingface_hub uses for small files, and no others."""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from serving import serve_app

TOKEN = "hf_PLANTEDplantedPLANTEDplanted000001"
"""The token of the only user, ``me``.  Public repositories are readable without it."""


@dataclass
class Repository:
    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """Commit -> files, in chronological order."""
    refs: dict[str, str] = field(default_factory=dict)
    """Branch or tag -> commit."""

    def commit(self, files: dict[str, bytes]) -> str:
        merged = {**(self.commits[self.refs["main"]] if self.refs else {}), **files}
        sha = hashlib.sha1(repr((len(self.commits), sorted(merged.items()))).encode()).hexdigest()
        self.commits[sha], self.refs["main"] = merged, sha
        return sha


@dataclass
class Hub:
    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    """Method and path of every request."""
    status: int = 0
    """If not 0, the status of every response, whose body repeats the token; 200: an HTML page."""
    url: str = ""

    def put(self, name: str, files: dict[str, bytes], *, private: bool = False) -> str:
        return self.repositories.setdefault(name, Repository(private)).commit(files)

    @property
    def fetched(self) -> set[str]:
        """The files that were requested."""
        return {line.split("/resolve/")[1].split("/", 1)[1] for line in self.requests if "/resolve/" in line}


def error_response(status: int, code: str, message: str = "") -> Response:
    headers = {"X-Error-Code": code, "X-Error-Message": message or code}
    return JSONResponse({"error": message or code}, status, headers)


def create_app(hub: Hub) -> FastAPI:
    app = FastAPI()

    @app.middleware("http")
    async def record(request: Request, call_next: Any) -> Response:
        hub.requests.append(f"{request.method} {request.url.path}")
        key = request.headers.get("authorization", "")
        if hub.status == 200:
            return Response(f"<html>Log in, {key}</html>")
        if hub.status:
            return error_response(hub.status, "Refused", f"no use for {key}")
        if key and key != f"Bearer {TOKEN}":
            return error_response(401, "Unauthorized", f"Invalid credentials in Authorization header: {key}")
        request.state.user = "me" if key else ""
        return await call_next(request)  # type: ignore[no-any-return]

    def visible_repository(owner: str, name: str, request: Request) -> Repository | None:
        repository = hub.repositories.get(f"{owner}/{name}")
        return repository if repository and (not repository.private or request.state.user == owner) else None

    @app.post("/api/repos/create")
    async def create(request: Request) -> Response:
        body = await request.json()
        owner, name = body["organization"], body["name"]
        if not request.state.user:
            return error_response(401, "Unauthorized")
        if owner != request.state.user:
            return error_response(403, "Forbidden", "You don't have the rights")
        url = {"url": f"{hub.url}/{owner}/{name}"}
        if f"{owner}/{name}" in hub.repositories:
            return JSONResponse(url, 409)
        hub.put(f"{owner}/{name}", {".gitattributes": b"*\n"}, private=body.get("visibility") == "private")
        return JSONResponse(url)

    @app.post("/api/validate-yaml")
    async def validate(request: Request) -> Response:
        import yaml

        try:
            assert yaml.safe_load((await request.json())["content"].split("---\n")[1])["library_name"] == "probemap"
        except (yaml.YAMLError, AssertionError, IndexError) as error:
            return JSONResponse({"errors": [{"message": str(error)}]}, 400)
        return JSONResponse({"errors": [], "warnings": []})

    @app.get("/api/models/{owner}/{name}")
    @app.get("/api/models/{owner}/{name}/revision/{revision}")
    async def info(owner: str, name: str, request: Request, revision: str = "main") -> Response:
        repository = visible_repository(owner, name, request)
        if repository is None:
            return error_response(404 if request.state.user else 401, "RepoNotFound")
        sha = repository.refs.get(revision, revision)
        if sha not in repository.commits:
            return error_response(404, "RevisionNotFound")
        files = [{"rfilename": path} for path in repository.commits[sha]]
        return JSONResponse({"id": f"{owner}/{name}", "sha": sha, "private": repository.private, "siblings": files})

    @app.get("/api/models/{owner}/{name}/tree/{sha}")
    async def tree(owner: str, name: str, sha: str, request: Request) -> Response:
        repository = visible_repository(owner, name, request)
        assert repository is not None
        files = [
            {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
            for path, content in repository.commits[sha].items()
        ]
        return JSONResponse(files)

    @app.api_route("/{owner}/{name}/resolve/{sha}/{path:path}", methods=["GET", "HEAD"])
    async def resolve(owner: str, name: str, sha: str, path: str, request: Request) -> Response:
        repository = visible_repository(owner, name, request)
        assert repository is not None
        content = repository.commits[sha][path]
        return Response(content, headers={"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": sha})

    @app.post("/api/models/{owner}/{name}/preupload/{revision}")
    async def preupload(owner: str, name: str, revision: str, request: Request) -> Response:
        files = (await request.json())["files"]
        return JSONResponse(
            {"files": [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in files]}
        )

    @app.post("/api/models/{owner}/{name}/commit/{revision}")
    async def commit(owner: str, name: str, revision: str, request: Request) -> Response:
        if request.state.user != owner:
            return error_response(403, "Forbidden")
        lines = [json.loads(line) for line in (await request.body()).splitlines()]
        files = {
            line["value"]["path"]: base64.b64decode(line["value"]["content"]) for line in lines if line["key"] == "file"
        }
        sha = hub.put(f"{owner}/{name}", files)
        return JSONResponse({"commitUrl": f"{hub.url}/{owner}/{name}/commit/{sha}", "commitOid": sha})

    return app


@contextmanager
def serve_hub(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[Hub]:
    """Serve a hub that huggingface_hub uses as its user, with an empty cache."""
    hub = Hub()
    with serve_app(create_app(hub)) as client:
        hub.url = str(client.base_url).rstrip("/")
        constants = huggingface_hub.constants
        for name, value in (
            ("ENDPOINT", hub.url),
            ("HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}"),
            ("HF_HUB_CACHE", str(cache)),
            ("HF_TOKEN_PATH", str(cache / "no-token")),
            ("HF_HUB_OFFLINE", False),
            ("HF_HUB_DISABLE_TELEMETRY", True),
        ):
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub
