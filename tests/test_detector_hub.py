"""Upload to and download from the hub; errors never contain the token."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import yaml
from fake_hub import TOKEN, Hub, serve_hub
from typer.testing import CliRunner, Result

from probemap.cli.main import app
from probemap.detectors.card import model_card
from probemap.detectors.detector import Detector
from probemap.detectors.hub import FILES, download, parse_address, push_to_hub
from probemap.records import DetectorError


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with serve_hub(monkeypatch, tmp_path / "cache") as hub:
        yield hub


def probemap(*words: Any) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def message_of(error: "pytest.ExceptionInfo[DetectorError]") -> str:
    """Return the message, after a check that it does not contain the token."""
    text = str(error.value)
    assert TOKEN not in text
    assert error.value.hint
    return text


def transfers(directory: Path, repo: str = "me/capitals") -> list[Callable[[], Any]]:
    """Return an upload to and a download from a repository."""
    return [lambda: push_to_hub(directory, repo), lambda: Detector.load(f"hf://{repo}")]


def test_load_returns_the_pushed_detector(hub: Hub, detector: Detector, detector_folder: Path, tmp_path: Path) -> None:
    assert push_to_hub(detector_folder, "me/capitals") == f"{hub.url}/me/capitals"
    repository = hub.repositories["me/capitals"]
    assert repository.private
    assert set(repository.commits[repository.refs["main"]]) == {".gitattributes", *FILES}
    loaded = Detector.load("hf://me/capitals")
    states = np.random.default_rng(0).normal(size=(50, 2, 32))
    assert np.array_equal(loaded.p_correct(states), detector.p_correct(states))
    assert (loaded.provenance, loaded.primary.thresholds) == (detector.provenance, detector.primary.thresholds)
    count = len(repository.commits)
    push_to_hub(detector_folder, "me/capitals")
    changed = replace(detector, seed=detector.seed + 1)
    changed.save(tmp_path / "changed")
    push_to_hub(tmp_path / "changed", "me/capitals")
    assert len(repository.commits) > count
    assert Detector.load("hf://me/capitals").seed == changed.seed
    first = list(repository.commits)[1]
    assert Detector.load(f"hf://me/capitals@{first}").seed == detector.seed, "the history is kept"


def test_download_fetches_the_files_of_a_detector_only(hub: Hub, detector_folder: Path) -> None:
    files = {name: (detector_folder / name).read_bytes() for name in FILES}
    unrelated = {
        "weights.pkl": b"\x80\x04.",
        "code/README.md": b"x",
        "config.json.bak": b"{}",
        "model.safetensors": b"0",
    }
    hub.put("you/theirs", files | unrelated)
    folder = download("you/theirs")
    assert hub.fetched == set(FILES)
    assert {path.name for path in folder.rglob("*")} == set(FILES)
    assert Detector.load(folder).primary.cells == Detector.load("hf://you/theirs").primary.cells


def test_push_uploads_an_edited_card(hub: Hub, detector_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "edited"
    Detector.load(detector_folder).save(folder)
    (folder / "notes.txt").write_text("private")
    card = (folder / "README.md").read_text() + "\nAsk me about it.\n"
    (folder / "README.md").write_text(card)
    call = probemap("push", folder, "me/capitals")
    assert call.exit_code == 0, call.output
    assert call.stdout.strip() == f"{hub.url}/me/capitals"
    assert "other users have to pass --model" in call.stderr, "the model of this test is in a local directory"
    repository = hub.repositories["me/capitals"]
    files = repository.commits[repository.refs["main"]]
    assert files["README.md"].decode() == card
    assert files["config.json"] == (folder / "config.json").read_bytes()
    assert "notes.txt" not in files


def test_model_card_header_is_read_by_hubs(detector: Detector) -> None:
    on_hub = replace(detector.required_provenance(), name="Qwen/Qwen2.5-0.5B", revision="a" * 40)
    header = yaml.safe_load(model_card(detector.primary, None, on_hub).split("---\n")[1])
    tags = ["probemap", "probe", "correctness-detection"]
    assert header == {"library_name": "probemap", "base_model": "Qwen/Qwen2.5-0.5B", "tags": tags}
    assert huggingface_hub.ModelCard(model_card(detector.primary, None, on_hub)).data.base_model == "Qwen/Qwen2.5-0.5B"
    assert "base_model" not in yaml.safe_load(model_card(detector.primary, None, detector.provenance).split("---\n")[1])


def test_push_creates_a_public_repository_only_on_request(hub: Hub, detector_folder: Path) -> None:
    assert probemap("push", detector_folder, "me/open", "--public").exit_code == 0
    assert not hub.repositories["me/open"].private
    before = list(hub.repositories["me/open"].commits)
    with pytest.raises(DetectorError) as error:
        push_to_hub(detector_folder, "me/open")
    assert "the repository me/open already exists and is public\nhint: push with --public" in message_of(error)
    assert list(hub.repositories["me/open"].commits) == before


def test_push_rejects_a_repository_with_other_content(hub: Hub, detector_folder: Path) -> None:
    hub.put("me/model", {"config.json": b"{}", "model.safetensors": b"0"}, private=True)
    with pytest.raises(DetectorError) as error:
        push_to_hub(detector_folder, "me/model")
    assert "me/model contains something other than a detector\nhint: use another name" in message_of(error)
    assert len(hub.repositories["me/model"].commits) == 1


def test_score_loads_a_detector_from_the_hub(
    hub: Hub,
    detector: Detector,
    detector_folder: Path,
    chat_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    push_to_hub(detector_folder, "me/capitals")
    hub.repositories["me/capitals"].refs["v1"] = hub.repositories["me/capitals"].refs["main"]
    (tmp_path / "rows.jsonl").write_text(json.dumps({"question": "What is 1 + 5?", "answer": "The answer is 6."}))
    for address in ("hf://me/capitals", "hf://me/capitals@v1"):
        call = probemap("score", address, tmp_path / "rows.jsonl", "--model", chat_folder)
        assert call.exit_code == 0, call.output
        (line,) = map(json.loads, call.stdout.splitlines())
        assert (line["judged_by"], line["exact_answer"]) == ("primary", "6")
    assert "probability of being correct" in probemap("ask", address, "What is 3 + 5?", "--model", chat_folder).stdout
    # The cache works offline.
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert Detector.load("hf://me/capitals@v1").primary.cells == detector.primary.cells


def test_load_rejects_a_modified_detector_on_the_hub(hub: Hub, detector_folder: Path) -> None:
    files = {name: (detector_folder / name).read_bytes() for name in FILES}
    hub.put("you/theirs", files | {"detector.safetensors": files["detector.safetensors"][:-1] + b"?"})
    with pytest.raises(DetectorError) as error:
        Detector.load("hf://you/theirs@main")
    assert "hf://you/theirs@main/detector.safetensors has changed since it was written: its checksum" in message_of(
        error
    )
    hub.put("you/model", {"config.json": b"{}", "model.safetensors": b"0"})
    with pytest.raises(DetectorError, match="hf://you/model does not contain a detector"):
        Detector.load("hf://you/model")
    hub.put("you/model", {"detector.safetensors": b"\x80\x04cos\nsystem\n."})
    with pytest.raises(DetectorError, match=r"hf://you/model is not a valid detector: 'format_version' is missing"):
        Detector.load("hf://you/model")


def test_errors_of_missing_and_inaccessible_repositories(
    hub: Hub, detector_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.put("me/mine", {"x": b""}, private=True)
    with pytest.raises(DetectorError) as error:
        Detector.load("hf://me/nothing")
    assert (
        "the repository me/nothing does not exist or is not accessible\n"
        "hint: check the name; if the repository is private or gated, use an access token" in message_of(error)
    )
    with pytest.raises(DetectorError) as error:
        Detector.load("hf://me/mine@v9")
    assert "me/mine has no revision 'v9'\nhint: use one of its branches, tags or commits" in message_of(error)
    with pytest.raises(DetectorError) as error:
        push_to_hub(detector_folder, "you/theirs")
    assert "the hub denied access to you/theirs (status 403)\nhint: use an access token" in message_of(error)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(DetectorError) as error:
        Detector.load("hf://me/mine")
    assert "the repository me/mine does not exist or is not accessible" in message_of(error)
    with pytest.raises(DetectorError) as error:
        push_to_hub(detector_folder, "me/new")
    assert "the hub denied access to me/new (status 401)\nhint: use an access token" in message_of(error)
    assert "`hf auth login` or set HF_TOKEN" in message_of(error)
    assert "me/new" not in hub.repositories


@pytest.mark.parametrize("status", [400, 403, 418])
def test_errors_do_not_repeat_the_token_in_a_response(hub: Hub, detector_folder: Path, status: int) -> None:
    hub.status = status
    for request in transfers(detector_folder):
        with pytest.raises(DetectorError) as error:
            request()
        assert f"(status {status})" in message_of(error)


def test_errors_of_a_response_that_is_not_from_a_hub(hub: Hub, detector_folder: Path) -> None:
    hub.status = 200
    for request in transfers(detector_folder):
        with pytest.raises(DetectorError) as error:
            request()
        assert (
            "the server that answered the request for me/capitals is not a hub\nhint: check HF_ENDPOINT"
            in message_of(error)
        )


def test_push_reports_a_rejected_card(hub: Hub, detector: Detector, tmp_path: Path) -> None:
    detector.save(tmp_path)
    (tmp_path / "README.md").write_text("---\ntags: [\n---\n")
    with pytest.raises(DetectorError) as error:
        push_to_hub(tmp_path, "me/capitals")
    assert (
        "the hub rejected the model card of me/capitals\n"
        "hint: correct the YAML header of its README.md, between the two lines ---" in message_of(error)
    )


def test_errors_without_a_connection_and_offline(
    hub: Hub, detector_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    for request in transfers(detector_folder):
        with pytest.raises(DetectorError) as error:
            request()
        assert "cannot reach the hub to access me/capitals\nhint: check the network connection" in message_of(error)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    for request in transfers(detector_folder):
        with pytest.raises(DetectorError) as error:
            request()
        assert "me/capitals is not in the cache, and HF_HUB_OFFLINE is set\nhint: unset HF_HUB_OFFLINE" in message_of(
            error
        )


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("hf://me", "'me' is not a repository name\nhint: use owner/name"),
        ("hf://me/a/b", "'me/a/b' is not a repository name"),
        ("hf://me/../x", "'me/../x' is not a repository name"),
        ("hf://me/--x--", "'me/--x--' is not a repository name"),
        ("hf://me/ä", "'me/ä' is not a repository name"),
        ("hf://me/a@", "hf://me/a@ has an empty revision"),
        ("hf://", "'' is not a repository name"),
    ],
)
def test_score_rejects_invalid_addresses_without_a_request(
    address: str, message: str, hub: Hub, tmp_path: Path
) -> None:
    call = probemap("score", address, tmp_path / "rows.jsonl")
    assert isinstance(call.exception, DetectorError)
    assert message in str(call.exception)
    assert hub.requests == []


def test_errors_of_names_that_the_hub_rejects(hub: Hub, detector_folder: Path) -> None:
    for name in ("me/a..b", "me/a--b", "me/a.git"):
        for request in transfers(detector_folder, name):
            with pytest.raises(DetectorError) as error:
                request()
            assert f"'{name}' is not a repository name\nhint: use owner/name" in message_of(error)
    assert parse_address("hf://me/a.b-c_d@refs/pr/1") == ("me/a.b-c_d", "refs/pr/1")


def test_push_rejects_a_directory_without_a_detector(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    call = probemap("push", tmp_path, "me/capitals")
    assert "does not contain a detector" in str(call.exception)
    assert hub.requests == []
