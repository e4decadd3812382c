"""A hub in a thread of the test: what huggingface_hub's own client asks for when files are small, and nothing else."""

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
"""Of the only user, whose name is ``me``; others may read what is public."""


@dataclass
class Repository:
    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """Commit -> files, the newest last."""
    names: dict[str, str] = field(default_factory=dict)
    """Branch or tag -> commit."""

    def commit(self, files: dict[str, bytes]) -> str:
        whole = {**(self.commits[self.names["main"]] if self.names else {}), **files}
        sha = hashlib.sha1(repr((len(self.commits), sorted(whole.items()))).encode()).hexdigest()
        self.commits[sha], self.names["main"] = whole, sha
        return sha


@dataclass
class Hub:
    repositories: dict[str, Repository] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    """Method and path of every request."""
    status: int = 0
    """Not 0: every request is refused with it, and the token repeated; 200: with a page for people."""
    url: str = ""

    def put(self, name: str, files: dict[str, bytes], *, private: bool = False) -> str:
        return self.repositories.setdefault(name, Repository(private)).commit(files)

    @property
    def fetched(self) -> set[str]:
        """The files that somebody asked for."""
        return {line.split("/resolve/")[1].split("/", 1)[1] for line in self.asked if "/resolve/" in line}


def refusal(status: int, code: str, said: str = "") -> Response:
    return JSONResponse({"error": said or code}, status, {"X-Error-Code": code, "X-Error-Message": said or code})


def create_app(hub: Hub) -> FastAPI:
    app = FastAPI()

    @app.middleware("http")
    async def watched(request: Request, go_on: Any) -> Response:
        hub.asked.append(f"{request.method} {request.url.path}")
        key = request.headers.get("authorization", "")
        if hub.status == 200:
            return Response(f"<html>Log in, {key}</html>")
        if hub.status:
            return refusal(hub.status, "Refused", f"no use for {key}")
        if key and key != f"Bearer {TOKEN}":
            return refusal(401, "Unauthorized", f"Invalid credentials in Authorization header: {key}")
        request.state.user = "me" if key else ""
        return await go_on(request)  # type: ignore[no-any-return]

    def seen(owner: str, name: str, request: Request) -> Repository | None:
        there = hub.repositories.get(f"{owner}/{name}")
        return there if there and (not there.private or request.state.user == owner) else None

    @app.post("/api/repos/create")
    async def create(request: Request) -> Response:
        wanted = await request.json()
        owner, name = wanted["organization"], wanted["name"]
        if not request.state.user:
            return refusal(401, "Unauthorized")
        if owner != request.state.user:
            return refusal(403, "Forbidden", "You don't have the rights")
        url = {"url": f"{hub.url}/{owner}/{name}"}
        if f"{owner}/{name}" in hub.repositories:
            return JSONResponse(url, 409)
        hub.put(f"{owner}/{name}", {".gitattributes": b"*\n"}, private=wanted.get("visibility") == "private")
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
        there = seen(owner, name, request)
        if there is None:
            return refusal(404 if request.state.user else 401, "RepoNotFound")
        sha = there.names.get(revision, revision)
        if sha not in there.commits:
            return refusal(404, "RevisionNotFound")
        files = [{"rfilename": path} for path in there.commits[sha]]
        return JSONResponse({"id": f"{owner}/{name}", "sha": sha, "private": there.private, "siblings": files})

    @app.get("/api/models/{owner}/{name}/tree/{sha}")
    async def tree(owner: str, name: str, sha: str, request: Request) -> Response:
        there = seen(owner, name, request)
        assert there is not None
        files = [
            {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
            for path, content in there.commits[sha].items()
        ]
        return JSONResponse(files)

    @app.api_route("/{owner}/{name}/resolve/{sha}/{path:path}", methods=["GET", "HEAD"])
    async def resolve(owner: str, name: str, sha: str, path: str, request: Request) -> Response:
        there = seen(owner, name, request)
        assert there is not None
        content = there.commits[sha][path]
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
            return refusal(403, "Forbidden")
        lines = [json.loads(line) for line in (await request.body()).splitlines()]
        files = {
            line["value"]["path"]: base64.b64decode(line["value"]["content"]) for line in lines if line["key"] == "file"
        }
        sha = hub.put(f"{owner}/{name}", files)
        return JSONResponse({"commitUrl": f"{hub.url}/{owner}/{name}/commit/{sha}", "commitOid": sha})

    return app


@contextmanager
def hub_here(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[Hub]:
    """huggingface_hub speaks with this hub, as its user, and keeps what it fetches in an empty cache."""
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
