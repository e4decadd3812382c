"""docs/serving.md: its code runs, its requests are answered, and the names and numbers in it are the server's."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from serving import serve_scorer
from typer.main import get_command

from probemap.cli.main import app
from probemap.detectors.detector import Detector
from probemap.detectors.scorer import Scorer
from probemap.models.model import Model
from probemap.server.app import STATUS_CODES
from probemap.server.listening import GRACE_SECONDS
from probemap.server.middleware import DISCARD_FACTOR, Limits
from probemap.server.schemas import AnswerScore, ScoreResponse

PAGE = (Path(__file__).parent.parent / "docs" / "serving.md").read_text(encoding="utf-8")
URL = "http://127.0.0.1:8080"


def code_blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def first_column(title: str) -> list[str]:
    """The words in the first column of the table whose header starts with `title`."""
    table = PAGE.split(f"\n| {title} |")[1].split("\n\n")[0]
    return [name for cell in re.findall(r"^\| ([^|]+?) \|", table, re.MULTILINE) for name in re.findall(r"\w+", cell)]


@pytest.fixture(scope="module")
def client(detector: Detector, chat_model: Model) -> Iterator[httpx2.Client]:
    with serve_scorer(Scorer(detector, chat_model)) as http_client:
        yield http_client


@pytest.mark.parametrize("code", code_blocks("python"))
def test_serving_page_python_runs(client: httpx2.Client, code: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert URL in code
    exec(compile(code.replace(f"{URL}/", str(client.base_url)), "serving.md", "exec"), {})
    assert re.search(r"0\.\d|1\.0|\de-", capsys.readouterr().out), "the code prints a probability"


def test_serving_page_requests_are_answered(client: httpx2.Client) -> None:
    requests = re.findall(rf"curl {URL}(\S+)(.*?)(?=\ncurl|\Z)", "\n".join(code_blocks("sh")), re.DOTALL)
    assert len(requests) == 2
    for path, arguments in requests:
        body = re.search(r"-d '(.*?)'", arguments, re.DOTALL)
        response = client.post(path, json=json.loads(body[1])) if body else client.get(path)
        assert response.status_code == 200, response.text


def test_serving_page_lists_every_response_field(client: httpx2.Client) -> None:
    fields = [name for name in first_column("field") if name in ScoreResponse.model_fields]
    assert set(fields) == set(ScoreResponse.model_fields)
    assert set(fields[:8]) == set(AnswerScore.model_fields)
    for name in ("primary", "fallback", "none", "passed", "flagged", "not judged"):
        assert f"`{name}`" in PAGE


def test_serving_page_limits_are_the_defaults() -> None:
    limits = Limits()
    options = {o: p.default for p in get_command(app).commands["serve"].params for o in p.opts}  # type: ignore[attr-defined]
    for option, default, sentence in (
        ("--max-body", limits.body, f"a body larger than {limits.body:,} bytes"),
        ("--queue", limits.queue, f"{limits.queue} requests are waiting"),
        ("--max-new-tokens", limits.new_tokens, "`--max-new-tokens`"),
    ):
        assert options[option] == default
        assert sentence in PAGE
    assert f"within {limits.seconds:g} seconds" in PAGE
    assert f"have {GRACE_SECONDS} seconds to finish" in PAGE
    assert (DISCARD_FACTOR, "up to sixteen times" in PAGE) == (16, True)
    named_options = set(re.findall(r"(?<![\w-])--[a-z][\w-]+", PAGE)) - {
        "--out",
        "--held-out",
        "--risks",
        "--confidence",
    }  # the others are those of `export`
    assert named_options <= set(options)


def test_serving_page_lists_every_status() -> None:
    statuses = [int(name) for name in first_column("status") if name.isdigit()]
    # Errors of the package, of the middleware, of pydantic, and of the upstream server.
    assert statuses == sorted({*STATUS_CODES.values(), 401, 408, 413, 422, 502})


def test_serving_page_lists_every_metric(client: httpx2.Client) -> None:
    metrics = re.findall(r"^# TYPE (\w+) \w+$", client.get("/metrics").text, re.MULTILINE)
    assert set(first_column("name")) - {"name"} == {name for name in metrics if not name.endswith("_created")}
