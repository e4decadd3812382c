"""What the page on serving says is so: its Python runs, its requests are answered, and what it names exists."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from serving_here import served
from typer.main import get_command

from probemap.cli.main import app
from probemap.detectors.detector import Detector
from probemap.detectors.scorer import Scorer
from probemap.models.model import Model
from probemap.server.app import _STATUS
from probemap.server.listening import GRACE
from probemap.server.middleware import THROWN_AWAY, Limits
from probemap.server.schemas import Rating, ScoreResponse

PAGE = (Path(__file__).parent.parent / "docs" / "serving.md").read_text(encoding="utf-8")
HERE = "http://127.0.0.1:8080"


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


def first_column(title: str) -> list[str]:
    """The names in code, or the numbers, that begin the rows of the table with that title."""
    table = PAGE.split(f"\n| {title} |")[1].split("\n\n")[0]
    return [name for cell in re.findall(r"^\| ([^|]+?) \|", table, re.MULTILINE) for name in re.findall(r"\w+", cell)]


@pytest.fixture(scope="module")
def client(detector: Detector, chat_model: Model) -> Iterator[httpx2.Client]:
    with served(Scorer(detector, chat_model)) as made:
        yield made


@pytest.mark.parametrize("code", blocks("python"))
def test_the_page_s_python_runs_as_it_stands(
    client: httpx2.Client, code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert HERE in code
    exec(compile(code.replace(f"{HERE}/", str(client.base_url)), "serving.md", "exec"), {})  # the page is ours
    assert re.search(r"0\.\d|1\.0|\de-", capsys.readouterr().out), "a probability was printed"


def test_the_page_s_requests_are_answered(client: httpx2.Client) -> None:
    asked = re.findall(rf"curl {HERE}(\S+)(.*?)(?=\ncurl|\Z)", "\n".join(blocks("sh")), re.DOTALL)
    assert len(asked) == 2
    for path, rest in asked:
        body = re.search(r"-d '(.*?)'", rest, re.DOTALL)
        response = client.post(path, json=json.loads(body[1])) if body else client.get(path)
        assert response.status_code == 200, response.text


def test_what_comes_back_is_in_the_table(client: httpx2.Client) -> None:
    fields = [name for name in first_column("field") if name in ScoreResponse.model_fields]
    assert set(fields) == set(ScoreResponse.model_fields)
    assert fields[:5] == list(Rating.model_fields)
    for name in ("main", "fallback", "none", "passed", "flagged", "not judged"):
        assert f"`{name}`" in PAGE


def test_its_numbers_are_the_server_s_own() -> None:
    limits = Limits()
    options = {o: p.default for p in get_command(app).commands["serve"].params for o in p.opts}  # type: ignore[attr-defined]
    for option, own, said in (
        ("--max-body", limits.body, f"a larger body than {limits.body:,} bytes"),
        ("--queue", limits.queue, f"{limits.queue} requests wait already"),
        ("--max-new-tokens", limits.new_tokens, "`--max-new-tokens`"),
    ):
        assert options[option] == own
        assert said in PAGE
    assert f"within {limits.seconds:g} seconds" in PAGE
    assert f"have {GRACE} seconds to end" in PAGE
    assert (THROWN_AWAY, "up to sixteen times" in PAGE) == (16, True)
    named = set(re.findall(r"(?<![\w-])--[a-z][\w-]+", PAGE)) - {"--out"}
    assert named <= set(options)


def test_its_statuses_are_those_that_exist() -> None:
    statuses = [int(name) for name in first_column("status") if name.isdigit()]
    # Errors of the house, those of the guard, pydantic's, and those of the server behind.
    assert statuses == sorted({*_STATUS.values(), 401, 408, 413, 422, 502})


def test_its_metrics_are_all_there_are(client: httpx2.Client) -> None:
    told = re.findall(r"^# TYPE (\w+) \w+$", client.get("/metrics").text, re.MULTILINE)
    assert set(first_column("name")) - {"name"} == {name for name in told if not name.endswith("_created")}
