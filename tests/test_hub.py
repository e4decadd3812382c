"""A detector goes to the hub and comes back the same; nothing else is fetched, and no token is ever told."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import yaml
from hub_here import TOKEN, Hub, hub_here
from typer.testing import CliRunner, Result

from probemap.cli.main import app
from probemap.detectors import hub as room
from probemap.detectors.detector import Detector
from probemap.records import DetectorError


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with hub_here(monkeypatch, tmp_path / "cache") as made:
        yield made


def probemap(*words: Any) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def said(problem: "pytest.ExceptionInfo[DetectorError]") -> str:
    """The message, which holds no token."""
    text = str(problem.value)
    assert TOKEN not in text
    assert problem.value.hint
    return text


def test_what_is_pushed_comes_back_the_same(hub: Hub, detector: Detector) -> None:
    assert detector.push_to_hub("me/capitals") == f"{hub.url}/me/capitals"
    made = hub.repositories["me/capitals"]
    assert made.private
    assert set(made.commits[made.names["main"]]) == {".gitattributes", *room.FILES}
    again = Detector.from_hub("me/capitals")
    states = np.random.default_rng(0).normal(size=(50, 2, 32))
    assert np.array_equal(again.p_correct(states), detector.p_correct(states))
    assert (again.provenance, again.main.thresholds) == (detector.provenance, detector.main.thresholds)
    count = len(made.commits)
    detector.push_to_hub("me/capitals")
    changed = replace(detector, seed=detector.seed + 1)
    changed.push_to_hub("me/capitals")
    assert len(made.commits) > count
    assert Detector.from_hub("me/capitals").seed == changed.seed
    first = list(made.commits)[1]
    assert Detector.from_hub("me/capitals", revision=first).seed == detector.seed, "its history is kept"


def test_only_a_detector_s_three_files_are_fetched(hub: Hub, detector_folder: Path) -> None:
    files = {name: (detector_folder / name).read_bytes() for name in room.FILES}
    others = {"weights.pkl": b"\x80\x04.", "code/README.md": b"x", "config.json.bak": b"{}", "model.safetensors": b"0"}
    hub.put("you/theirs", files | others)
    folder = room.pull("you/theirs")
    assert hub.fetched == set(room.FILES)
    assert {path.name for path in folder.rglob("*")} == set(room.FILES)
    assert Detector.load(folder).main.cells == Detector.from_hub("you/theirs").main.cells


def test_a_card_that_somebody_wrote_is_pushed_as_it_stands(hub: Hub, detector_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "edited"
    Detector.load(detector_folder).save(folder)
    (folder / "notes.txt").write_text("mine")
    card = (folder / "README.md").read_text() + "\nAsk me about it.\n"
    (folder / "README.md").write_text(card)
    call = probemap("push", folder, "me/capitals")
    assert call.exit_code == 0, call.output
    assert call.stdout.strip() == f"{hub.url}/me/capitals"
    assert "others name their own place with --model" in call.stderr, "the model of this test lies in a folder"
    made = hub.repositories["me/capitals"]
    files = made.commits[made.names["main"]]
    assert files["README.md"].decode() == card
    assert files["config.json"] == (folder / "config.json").read_bytes()
    assert "notes.txt" not in files


def test_the_card_s_header_is_what_hubs_read(detector: Detector) -> None:
    from probemap.detectors.card import card

    known = replace(detector.required_provenance(), name="Qwen/Qwen2.5-0.5B", revision="a" * 40)
    header = yaml.safe_load(card(detector.main, None, known).split("---\n")[1])
    tags = ["probemap", "probe", "correctness-detection"]
    assert header == {"library_name": "probemap", "base_model": "Qwen/Qwen2.5-0.5B", "tags": tags}
    assert huggingface_hub.ModelCard(card(detector.main, None, known)).data.base_model == "Qwen/Qwen2.5-0.5B"
    assert "base_model" not in yaml.safe_load(card(detector.main, None, detector.provenance).split("---\n")[1])


def test_public_is_said_and_never_assumed(hub: Hub, detector: Detector, detector_folder: Path) -> None:
    assert probemap("push", detector_folder, "me/open", "--public").exit_code == 0
    assert not hub.repositories["me/open"].private
    before = list(hub.repositories["me/open"].commits)
    with pytest.raises(DetectorError) as problem:
        detector.push_to_hub("me/open")
    assert "me/open is there already, and everybody can read it\nhint: say --public" in said(problem)
    assert list(hub.repositories["me/open"].commits) == before


def test_a_repository_that_holds_something_else_is_left_alone(hub: Hub, detector: Detector) -> None:
    hub.put("me/model", {"config.json": b"{}", "model.safetensors": b"0"}, private=True)
    with pytest.raises(DetectorError) as problem:
        detector.push_to_hub("me/model")
    assert "me/model holds something other than a detector\nhint: name another repository" in said(problem)
    assert len(hub.repositories["me/model"].commits) == 1


def test_scoring_takes_a_detector_of_the_hub(
    hub: Hub, detector: Detector, chat_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector.push_to_hub("me/capitals")
    hub.repositories["me/capitals"].names["v1"] = hub.repositories["me/capitals"].names["main"]
    (tmp_path / "rows.jsonl").write_text(json.dumps({"question": "What is 1 + 5?", "answer": "The answer is 6."}))
    for place in ("hf://me/capitals", "hf://me/capitals@v1"):
        call = probemap("score", place, tmp_path / "rows.jsonl", "--model", chat_folder)
        assert call.exit_code == 0, call.output
        (line,) = map(json.loads, call.stdout.splitlines())
        assert (line["judged_by"], line["exact_answer"]) == ("main", "6")
    assert "right with probability" in probemap("ask", place, "What is 3 + 5?", "--model", chat_folder).stdout
    # Once fetched, it needs no hub.
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert Detector.from_hub("me/capitals", "v1").main.cells == detector.main.cells


def test_what_was_changed_on_the_hub_is_refused_by_its_address(hub: Hub, detector_folder: Path) -> None:
    files = {name: (detector_folder / name).read_bytes() for name in room.FILES}
    hub.put("you/theirs", files | {"detector.safetensors": files["detector.safetensors"][:-1] + b"?"})
    with pytest.raises(DetectorError) as problem:
        Detector.from_hub("you/theirs", "main")
    assert "hf://you/theirs@main/detector.safetensors has changed since it was written\nhint: " in said(problem)
    hub.put("you/model", {"config.json": b"{}", "model.safetensors": b"0"})
    with pytest.raises(DetectorError, match="hf://you/model holds no detector"):
        Detector.from_hub("you/model")
    hub.put("you/model", {"detector.safetensors": b"\x80\x04cos\nsystem\n."})
    with pytest.raises(DetectorError, match=r"hf://you/model is no detector \('schema'\)"):
        Detector.from_hub("you/model")


def test_what_the_hub_does_not_show_is_told(hub: Hub, detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.put("me/mine", {"x": b""}, private=True)
    with pytest.raises(DetectorError) as problem:
        Detector.from_hub("me/nothing")
    assert "the hub shows no me/nothing\nhint: check the name; if it is private or gated, give a token" in said(problem)
    with pytest.raises(DetectorError) as problem:
        Detector.from_hub("me/mine", "v9")
    assert "me/mine has no revision 'v9'\nhint: give a branch, tag or commit" in said(problem)
    with pytest.raises(DetectorError) as problem:
        detector.push_to_hub("you/theirs")
    assert "the hub does not let you use you/theirs (status 403)\nhint: give a token" in said(problem)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(DetectorError) as problem:
        Detector.from_hub("me/mine")
    assert "the hub shows no me/mine" in said(problem)
    with pytest.raises(DetectorError) as problem:
        detector.push_to_hub("me/new")
    assert "the hub does not let you use me/new (status 401)\nhint: give a token that may do this" in said(problem)
    assert "`hf auth login`, or HF_TOKEN" in said(problem)
    assert "me/new" not in hub.repositories


@pytest.mark.parametrize("status", [400, 403, 418])
def test_a_hub_that_repeats_the_token_is_not_repeated(hub: Hub, detector: Detector, status: int) -> None:
    hub.status = status
    for what in (lambda: detector.push_to_hub("me/capitals"), lambda: Detector.from_hub("me/capitals")):
        with pytest.raises(DetectorError) as problem:
            what()
        assert f"(status {status})" in said(problem)


def test_a_page_that_is_no_hub_is_told(hub: Hub, detector: Detector) -> None:
    hub.status = 200
    for what in (lambda: detector.push_to_hub("me/capitals"), lambda: Detector.from_hub("me/capitals")):
        with pytest.raises(DetectorError) as problem:
            what()
        assert "what answers to the question for me/capitals is no hub\nhint: check HF_ENDPOINT" in said(problem)


def test_a_card_that_the_hub_does_not_take(hub: Hub, detector: Detector, tmp_path: Path) -> None:
    detector.save(tmp_path)
    (tmp_path / "README.md").write_text("---\ntags: [\n---\n")
    with pytest.raises(DetectorError) as problem:
        room.push(tmp_path, "me/capitals")
    assert "the hub does not take the card of me/capitals\nhint: check the lines between the two ---" in said(problem)


def test_nobody_there_and_nothing_allowed(hub: Hub, detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    for what in (lambda: detector.push_to_hub("me/capitals"), lambda: Detector.from_hub("me/capitals")):
        with pytest.raises(DetectorError) as problem:
            what()
        assert "the hub cannot be reached, to ask for me/capitals\nhint: check the network" in said(problem)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    for what in (lambda: detector.push_to_hub("me/capitals"), lambda: Detector.from_hub("me/capitals")):
        with pytest.raises(DetectorError) as problem:
            what()
        assert "HF_HUB_OFFLINE is set, and me/capitals was not fetched before\nhint: unset it" in said(problem)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("hf://me", "'me' is no repository's name\nhint: owner/name"),
        ("hf://me/a/b", "'me/a/b' is no repository's name"),
        ("hf://me/../x", "'me/../x' is no repository's name"),
        ("hf://me/--x--", "'me/--x--' is no repository's name"),
        ("hf://me/ä", "'me/ä' is no repository's name"),
        ("hf://me/a@", "hf://me/a@ has an empty revision"),
        ("hf://", "'' is no repository's name"),
    ],
)
def test_bad_names_are_refused_before_anybody_is_asked(address: str, message: str, hub: Hub, tmp_path: Path) -> None:
    call = probemap("score", address, tmp_path / "rows.jsonl")
    assert isinstance(call.exception, DetectorError)
    assert message in str(call.exception)
    assert hub.asked == []


def test_names_that_only_the_hub_knows_to_be_bad(hub: Hub, detector: Detector) -> None:
    for name in ("me/a..b", "me/a--b", "me/a.git"):
        for what in (lambda name=name: detector.push_to_hub(name), lambda name=name: Detector.from_hub(name)):
            with pytest.raises(DetectorError) as problem:
                what()
            assert f"'{name}' is no repository's name\nhint: owner/name" in said(problem)
    assert room.parse("hf://me/a.b-c_d@refs/pr/1") == ("me/a.b-c_d", "refs/pr/1")


def test_a_folder_that_is_no_detector_is_not_pushed(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    call = probemap("push", tmp_path, "me/capitals")
    assert "holds no detector" in str(call.exception)
    assert hub.asked == []
