"""A detector comes back from disk whole or not at all."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planting import NAMES, of_cells, planted
from safetensors.numpy import save

from probemap.detectors import detector as room
from probemap.detectors.detector import Detector
from probemap.detectors.fit import fit_detector
from probemap.detectors.head import Branch, Cell, Quality, Threshold
from probemap.detectors.provenance import Provenance
from probemap.records import DetectorError, Task

TASK = Task("questions", (), "open")
PROVENANCE = Provenance(
    model="m",
    task=TASK,
    frame="chat",
    locator="none",
    revision="r",
    dtype="float32",
    template="t",
    versions={"probemap": "0"},
)
JUDGED = Quality(100, 50, 0.7, 0.6, 0.8, 0.2, 0.05, 0.04)


@pytest.fixture(scope="module")
def made() -> Detector:
    return fit_detector(*planted(), positions=NAMES, provenance=PROVENANCE)


def test_it_comes_back_as_it_was(made: Detector, tmp_path: Path) -> None:
    whole = made
    whole.save(tmp_path / "d")
    shutil.copytree(tmp_path / "d", tmp_path / "elsewhere")
    again = Detector.load(tmp_path / "elsewhere")
    states, _ = planted()
    seen = of_cells(made, states)
    assert np.array_equal(again.p_correct(seen), whole.p_correct(seen))
    assert (again.provenance, again.seed, again.main.thresholds) == (PROVENANCE, 0, made.main.thresholds)
    card = (tmp_path / "d" / "README.md").read_text()
    assert "Layer 1 at `exact_answer_last`." in card
    assert f"AUC {made.main.quality.auc:.3f}" in card
    assert "- model: m\n" in card
    before = {p.name: p.read_bytes() for p in (tmp_path / "d").iterdir()}
    whole.save(tmp_path / "d")
    assert {p.name: p.read_bytes() for p in (tmp_path / "d").iterdir()} == before


def test_every_changed_byte_is_found(made: Detector, tmp_path: Path) -> None:
    made.save(tmp_path)
    draw = np.random.default_rng(0)
    for name in ("config.json", "detector.safetensors"):
        path = tmp_path / name
        whole = path.read_bytes()
        for at in draw.choice(len(whole), min(len(whole), 150), replace=False).tolist():
            changed = bytearray(whole)
            changed[at] ^= 1 << int(draw.integers(8))
            path.write_bytes(changed)
            with pytest.raises(DetectorError, match=r"hint:"):
                Detector.load(tmp_path)
        for cut in (0, 10, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:cut])
            with pytest.raises(DetectorError):
                Detector.load(tmp_path)
        path.write_bytes(whole)
    assert Detector.load(tmp_path).main.cells == made.main.cells


def test_a_byte_that_changes_nothing_that_is_said_is_found(made: Detector, tmp_path: Path) -> None:
    replace(made, main=replace(made.main, quality=replace(JUDGED, brier=0.056338028169014086))).save(tmp_path)
    path = tmp_path / "config.json"
    Detector.load(tmp_path)
    whole = path.read_text()
    assert 0.056338028169014084 == 0.056338028169014086, "the nearest number is one"
    for digits in ("0.056338028169014084", "5.6338028169014086e-2", "0.0563380281690140860"):
        path.write_text(whole.replace("0.056338028169014086", digits))
        with pytest.raises(DetectorError, match=r"config\.json has changed since it was written"):
            Detector.load(tmp_path)
    for other in (
        whole.replace("\n", "\r\n"),
        whole.replace("\n ", "\n\t", 1),
        whole + "\n",
        whole.replace('"seed": 0', '"seed": -0'),
        whole.replace('"seed": 0', '"seed": 1, "seed": 0'),
        whole.replace("platt", "pl\\u0061tt", 1),
    ):
        assert other != whole
        assert json.loads(other) == json.loads(whole)
        path.write_text(other, newline="")
        with pytest.raises(DetectorError, match=r"config\.json has changed since it was written"):
            Detector.load(tmp_path)


def resealed(folder: Path, change: Any = None, tensors: dict[str, np.ndarray] | None = None) -> None:
    """Somebody who knows how the checksums are made writes other things."""
    config = json.loads((folder / "config.json").read_text())
    config.pop("check")
    if tensors is not None:
        content = save(tensors)
        (folder / "detector.safetensors").write_bytes(content)
        config["tensors"] = hashlib.sha256(content).hexdigest()
    if change is not None:
        change(config)
    text = json.dumps(config, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass")
    config["check"] = hashlib.sha256(text).hexdigest()
    (folder / "config.json").write_bytes(
        json.dumps(config, indent=1, ensure_ascii=False).encode("utf-8", "surrogatepass")
    )


def numbers(folder: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load

    return dict(load((folder / "detector.safetensors").read_bytes()))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("main.weight", np.full((1, 6), np.nan), "numbers that are not finite"),
        ("main.weight", np.zeros((2, 6)), "for 1 cells"),
        ("main.weight", np.zeros((1, 0)), "weights of shape"),
        ("fallback.weight", np.zeros((1, 7)), "states of different widths"),
        ("main.bias", np.zeros(3), "weights of shape"),
        ("main.calibration", np.zeros((3, 1)), "a calibration of shape"),
        ("main.calibration", np.zeros((2, 2)), "a calibration of shape"),
        ("main.calibration", np.array([[-1.0], [0.0]]), "a calibration that falls"),
        ("extra", np.zeros(3), "other branches or tensors"),
        ("main.weight", np.full((1, 6), 1e308), r"main: numbers larger than 1e\+100"),
        ("main.weight", np.full((1, 6), -1e101), "numbers larger than"),
        ("main.bias", np.full(1, 1e308), "numbers larger than"),
        ("main.weight", np.full((1, 6), np.inf), "numbers that are not finite"),
        ("main.weight", np.full((1, 6), 0x7F800001, np.uint32).view(np.float32), "numbers that are not finite"),
        ("main.weight", np.zeros((1, 6), np.complex64), "numbers of type complex64"),
        ("main.weight", np.zeros((1, 6), np.int64), "numbers of type int64"),
        ("main.weight", np.zeros((1, 1_000_001)), "weights of shape"),
    ],
)
def test_numbers_that_no_detector_has_are_refused(
    name: str, value: np.ndarray, message: str, made: Detector, tmp_path: Path
) -> None:
    made.save(tmp_path)
    resealed(tmp_path, tensors=numbers(tmp_path) | {name: value})
    with pytest.raises(DetectorError, match=message):
        Detector.load(tmp_path)


def with_(where: str, value: Any) -> Any:
    """A change of config.json at a path."""

    def change(config: dict[str, Any]) -> None:
        *path, last = where.split(".")
        place: Any = config
        for name in path:
            place = place[int(name)] if isinstance(place, list) else place[name]
        place[last] = value

    return change


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ("seed", float("inf"), "is no detector"),
        ("seed", float("nan"), "is no detector"),
        ("seed", -1, "is no detector"),
        ("seed", None, "is no detector"),
        ("schema", float("inf"), "has schema inf, expected 2"),
        ("schema", "x" * 9999, r"has schema 'x{39}, expected 2"),
        ("branches.main.cells.0.layer", -1, "main: layers -1"),
        ("branches.main.cells", [], "for 0 cells"),
        ("branches.main.quality.n", None, "is no detector"),
        ("branches.main.quality.n", -1, "a quality that nothing has"),
        ("branches.main.quality.auc", float("inf"), "a quality that nothing has"),
        ("branches.main.quality.auc", None, "a quality that nothing has"),
        ("branches.main.quality.brier", 7, "a quality that nothing has"),
        ("branches.main.thresholds.0.score", None, "a threshold that nothing has"),
        ("branches.main.thresholds.0.score", 1e308, "a threshold that nothing has"),
        ("branches.main.thresholds.0.p_correct", 1.5, "a threshold that nothing has"),
        ("branches.main.thresholds.0.false_alarms", 0.1, "thresholds for different shares"),
        ("branches.main.kind", "isotonic", "a calibration to what is no probability"),
        ("provenance.task.max_new_tokens", 0, "answers of 0 tokens"),
        ("provenance.frame", "loud", "frame: Input should be 'chat'"),
        ("provenance.model", "\ud800", "is no detector"),
        ("branches.main.quality.auc", 10**400, "is no detector|a quality that"),
    ],
)
def test_words_that_no_detector_has_are_refused(
    where: str, value: Any, message: str, made: Detector, tmp_path: Path
) -> None:
    made.save(tmp_path)
    assert made.main.kind == "platt"
    tensors = numbers(tmp_path) | {"main.calibration": np.array([[1.0], [1.5]])}
    resealed(tmp_path, with_(where, value), tensors)
    with pytest.raises(DetectorError, match=rf"{message}(.|\n)*\nhint: "):
        Detector.load(tmp_path)


def test_an_endless_count_is_written_as_it_was_read(made: Detector, tmp_path: Path) -> None:
    made.save(tmp_path)
    resealed(tmp_path, with_("branches.main.quality.n", 10**400))
    again = Detector.load(tmp_path)
    again.save(tmp_path)
    assert Detector.load(tmp_path).main.quality.n == 10**400


def test_the_largest_numbers_that_are_read_can_be_scored(made: Detector, tmp_path: Path) -> None:
    made.save(tmp_path)
    for weight in (room.LARGEST, -room.LARGEST):
        changed = {"main.weight": np.full((1, 6), weight), "main.calibration": np.full((2, 1), room.LARGEST)}
        resealed(tmp_path, tensors=numbers(tmp_path) | changed)
        p = Detector.load(tmp_path).p_correct(np.full((1, 2, 6), np.finfo(np.float32).max, np.float32))
        assert p.tolist() == [1.0 if weight > 0 else 0.0]


def test_only_a_hub_id_is_named_to_the_hub_as_the_base(made: Detector) -> None:
    from probemap.detectors.card import card

    known = Provenance(
        model="Qwen2.5-0.5B", task=TASK, frame="qa", locator="none", name="Qwen/Qwen2.5-0.5B", revision="a" * 40
    )
    assert 'base_model: "Qwen/Qwen2.5-0.5B"\n' in card(made.main, None, known)
    for other in (
        replace(known, name="models/qwen", revision="b" * 64),
        replace(known, name="/models/qwen"),
        replace(known, name="smollm2-135m"),
    ):
        assert "base_model" not in card(made.main, None, other)


def test_other_schemas_and_other_files_are_refused(made: Detector, tmp_path: Path) -> None:
    made.save(tmp_path)
    resealed(tmp_path, lambda config: config.update(schema=99))
    with pytest.raises(DetectorError, match="has schema 99, expected 2"):
        Detector.load(tmp_path)
    with pytest.raises(DetectorError, match=r"holds no detector .*\nhint: `probemap export"):
        Detector.load(tmp_path / "nothing")
    made.save(tmp_path)
    pickle = b"\x80\x04cos\nsystem\n(S'true'\ntR."
    (tmp_path / "detector.safetensors").write_bytes(pickle)
    with pytest.raises(DetectorError, match=r"detector\.safetensors has changed since it was written\nhint: take the"):
        Detector.load(tmp_path)
    resealed(tmp_path, lambda config: config.update(tensors=hashlib.sha256(pickle).hexdigest()))
    with pytest.raises(
        DetectorError, match=r"is no detector \(Error while deserializing.*header too large\)\nhint: take the folder"
    ):
        Detector.load(tmp_path)


def test_one_changed_byte_is_told_by_its_file(made: Detector, tmp_path: Path) -> None:
    made.save(tmp_path)
    for name, at in (
        ("detector.safetensors", -1),
        ("config.json", (tmp_path / "config.json").read_bytes().index(b"0.")),
    ):
        whole = (tmp_path / name).read_bytes()
        changed = bytearray(whole)
        changed[at] = ord("7") if name == "config.json" else changed[at] ^ 1
        (tmp_path / name).write_bytes(changed)
        with pytest.raises(
            DetectorError, match=rf"{name} has changed since it was written\nhint: take the folder that was"
        ):
            Detector.load(tmp_path)
        (tmp_path / name).write_bytes(whole)


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_any_bytes_are_refused_with_a_message(tmp_path_factory: pytest.TempPathFactory, one: bytes, two: bytes) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "config.json").write_bytes(one)
    (folder / "detector.safetensors").write_bytes(two)
    with pytest.raises(DetectorError):
        Detector.load(folder)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    ),
    st.sampled_from(["branches", "provenance", "seed", "tensors", "schema"]),
)
def test_any_json_is_refused_with_a_message(
    made: Detector, tmp_path_factory: pytest.TempPathFactory, value: Any, field: str
) -> None:
    folder = tmp_path_factory.mktemp("any")
    made.save(folder)
    resealed(folder, lambda config: config.update({field: value}))
    try:
        Detector.load(folder)
    except DetectorError:
        return
    if field == "provenance":
        assert value is None, "an unknown provenance"
        return
    assert field == "seed" or value == 2, "any number is a seed"


def test_a_threshold_that_flags_nothing_has_no_precision_in_the_card() -> None:
    from probemap.detectors.card import card

    one = Threshold(0.05, -9.0, 0.001, 0.0, 0.0, float("nan"))
    branch = Branch((Cell(0, "-1"),), np.ones((1, 2)), np.zeros(1), np.ones((2, 1)), "platt", JUDGED, (one,))
    assert "| 5% | 0.001 | 0.000 | 0.000 | – |" in card(branch, None, None)


def test_folders_that_were_written_with_nan_are_still_read(made: Detector, tmp_path: Path) -> None:
    made.save(tmp_path)

    def older(config: dict[str, Any]) -> None:
        config["branches"]["main"]["thresholds"][0]["precision"] = float("nan")

    resealed(tmp_path, older)
    assert "NaN" in (tmp_path / "config.json").read_text()
    assert np.isnan(Detector.load(tmp_path).main.thresholds[0].precision)
