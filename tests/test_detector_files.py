"""The file format of a detector: a detector is loaded exactly as it was saved, or an error is raised."""

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
from planted_states import POSITIONS, at_cells, planted
from safetensors.numpy import save

from probemap.detectors import files
from probemap.detectors.card import model_card
from probemap.detectors.detector import Detector
from probemap.detectors.fit import fit_detector
from probemap.detectors.head import Acceptance, Cell, Evaluation, Head, Threshold
from probemap.detectors.provenance import Provenance
from probemap.records import DetectorError, Task

TASK = Task("questions", (), "open")
PROVENANCE = Provenance(
    model="m",
    task=TASK,
    prompt_format="chat",
    locator="none",
    revision="r",
    dtype="float32",
    template="t",
    versions={"probemap": "0"},
)
EVALUATION = Evaluation(
    n=100,
    n_correct=50,
    auc=0.7,
    auc_low=0.6,
    auc_high=0.8,
    brier=0.2,
    calibration_error=0.05,
    calibration_noise=0.04,
)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return fit_detector(*planted(), positions=POSITIONS, provenance=PROVENANCE)


def test_load_returns_the_saved_detector(detector: Detector, tmp_path: Path) -> None:
    detector.save(tmp_path / "d")
    shutil.copytree(tmp_path / "d", tmp_path / "copy")
    loaded = Detector.load(tmp_path / "copy")
    states, _ = planted()
    cell_states = at_cells(detector, states)
    assert np.array_equal(loaded.p_correct(cell_states), detector.p_correct(cell_states))
    assert (loaded.provenance, loaded.seed, loaded.primary.thresholds) == (PROVENANCE, 0, detector.primary.thresholds)
    card = (tmp_path / "d" / "README.md").read_text()
    assert "Layer 1 at `exact_answer_last`." in card
    assert f"AUC {detector.primary.evaluation.auc:.3f}" in card
    assert "- model: m\n" in card
    before = {p.name: p.read_bytes() for p in (tmp_path / "d").iterdir()}
    detector.save(tmp_path / "d")
    assert {p.name: p.read_bytes() for p in (tmp_path / "d").iterdir()} == before


def test_load_detects_every_changed_byte(detector: Detector, tmp_path: Path) -> None:
    detector.save(tmp_path)
    draw = np.random.default_rng(0)
    for name in ("config.json", "detector.safetensors"):
        path = tmp_path / name
        content = path.read_bytes()
        for index in draw.choice(len(content), min(len(content), 150), replace=False).tolist():
            changed = bytearray(content)
            changed[index] ^= 1 << int(draw.integers(8))
            path.write_bytes(changed)
            with pytest.raises(DetectorError, match=r"hint:"):
                Detector.load(tmp_path)
        for length in (0, 10, len(content) // 2, len(content) - 1):
            path.write_bytes(content[:length])
            with pytest.raises(DetectorError):
                Detector.load(tmp_path)
        path.write_bytes(content)
    assert Detector.load(tmp_path).primary.cells == detector.primary.cells


def test_load_detects_changes_that_leave_the_parsed_values_unchanged(detector: Detector, tmp_path: Path) -> None:
    replace(
        detector, primary=replace(detector.primary, evaluation=replace(EVALUATION, brier=0.056338028169014086))
    ).save(tmp_path)
    path = tmp_path / "config.json"
    Detector.load(tmp_path)
    text = path.read_text()
    assert 0.056338028169014084 == 0.056338028169014086, "both are the same float"
    for digits in ("0.056338028169014084", "5.6338028169014086e-2", "0.0563380281690140860"):
        path.write_text(text.replace("0.056338028169014086", digits))
        with pytest.raises(DetectorError, match=r"config\.json has changed since it was written"):
            Detector.load(tmp_path)
    for changed in (
        text.replace("\n", "\r\n"),
        text.replace("\n ", "\n\t", 1),
        text + "\n",
        text.replace('"seed": 0', '"seed": -0'),
        text.replace('"seed": 0', '"seed": 1, "seed": 0'),
        text.replace("platt", "pl\\u0061tt", 1),
    ):
        assert changed != text
        assert json.loads(changed) == json.loads(text)
        path.write_text(changed, newline="")
        with pytest.raises(DetectorError, match=r"config\.json has changed since it was written"):
            Detector.load(tmp_path)


def rewrite(folder: Path, change: Any = None, tensors: dict[str, np.ndarray] | None = None) -> None:
    """Change the files of a detector and recompute the checksums, as an attacker could."""
    config = json.loads((folder / "config.json").read_text())
    config.pop("config_sha256")
    if tensors is not None:
        content = save(tensors)
        (folder / "detector.safetensors").write_bytes(content)
        config["tensors_sha256"] = hashlib.sha256(content).hexdigest()
    if change is not None:
        change(config)
    text = json.dumps(config, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass")
    config["config_sha256"] = hashlib.sha256(text).hexdigest()
    (folder / "config.json").write_bytes(
        json.dumps(config, indent=1, ensure_ascii=False).encode("utf-8", "surrogatepass")
    )


def read_arrays(folder: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load

    return dict(load((folder / "detector.safetensors").read_bytes()))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("primary.weight", np.full((1, 6), np.nan), "the arrays contain values that are not finite"),
        ("primary.weight", np.zeros((2, 6)), "do not match 1 cells"),
        ("primary.weight", np.zeros((1, 0)), "weights of shape"),
        ("fallback.weight", np.zeros((1, 7)), "the two heads read states of different widths"),
        ("primary.bias", np.zeros(3), "weights of shape"),
        ("primary.calibration", np.zeros((3, 1)), "the calibration has the invalid shape"),
        ("primary.calibration", np.zeros((2, 2)), "the calibration has the invalid shape"),
        ("primary.calibration", np.array([[-1.0], [0.0]]), "the calibration is a decreasing function"),
        ("extra", np.zeros(3), "unexpected heads or arrays: primary, fallback, .*extra"),
        ("primary.weight", np.full((1, 6), 1e308), r"primary: the arrays contain absolute values above 1e\+100"),
        ("primary.weight", np.full((1, 6), -1e101), "the arrays contain absolute values above"),
        ("primary.bias", np.full(1, 1e308), "the arrays contain absolute values above"),
        ("primary.weight", np.full((1, 6), np.inf), "the arrays contain values that are not finite"),
        (
            "primary.weight",
            np.full((1, 6), 0x7F800001, np.uint32).view(np.float32),
            "the arrays contain values that are not finite",
        ),
        ("primary.weight", np.zeros((1, 6), np.complex64), "arrays must be floating-point, got complex64"),
        ("primary.weight", np.zeros((1, 6), np.int64), "arrays must be floating-point, got int64"),
        ("primary.weight", np.zeros((1, 1_000_001)), "weights of shape"),
    ],
)
def test_load_rejects_invalid_arrays(
    name: str, value: np.ndarray, message: str, detector: Detector, tmp_path: Path
) -> None:
    detector.save(tmp_path)
    rewrite(tmp_path, tensors=read_arrays(tmp_path) | {name: value})
    with pytest.raises(DetectorError, match=message):
        Detector.load(tmp_path)


def set_value(path: str, value: Any) -> Any:
    """Return a function that sets the value at a path of config.json."""

    def change(config: dict[str, Any]) -> None:
        *parents, key = path.split(".")
        node: Any = config
        for name in parents:
            node = node[int(name)] if isinstance(node, list) else node[name]
        node[key] = value

    return change


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("seed", float("inf"), "is not a valid detector"),
        ("seed", float("nan"), "is not a valid detector"),
        ("seed", -1, "is not a valid detector"),
        ("seed", None, "is not a valid detector"),
        ("format_version", float("inf"), "has format version inf, expected 3"),
        ("format_version", "x" * 9999, r"has format version 'x{39}, expected 3"),
        ("heads.primary.cells.0.layer", -1, "primary: layers must not be negative, got -1"),
        ("heads.primary.cells", [], "do not match 0 cells"),
        ("heads.primary.evaluation.n", None, "is not a valid detector"),
        ("heads.primary.evaluation.n", -1, "the evaluation contains impossible values"),
        ("heads.primary.evaluation.auc", float("inf"), "the evaluation contains impossible values"),
        ("heads.primary.evaluation.auc", None, "the evaluation contains impossible values"),
        ("heads.primary.evaluation.metrics.prr", [0.5], "is not a valid detector"),
        ("heads.primary.evaluation.metrics.ece", "x", "is not a valid detector"),
        ("heads.primary.evaluation.brier", 7, "the evaluation contains impossible values"),
        ("heads.primary.thresholds.0.score", None, "a threshold contains impossible values"),
        ("heads.primary.thresholds.0.score", 1e308, "a threshold contains impossible values"),
        ("heads.primary.thresholds.0.p_correct", 1.5, "a threshold contains impossible values"),
        ("heads.primary.thresholds.0.false_alarms", 0.1, "thresholds for different false-alarm rates"),
        ("heads.primary.acceptances.0.risk", 1.5, "a threshold contains impossible values"),
        ("heads.primary.acceptances.0.confidence", 0.8, "thresholds for different false-alarm rates or risks"),
        ("heads.primary.calibration_method", "isotonic", "the calibration contains probabilities outside"),
        ("provenance.task.max_new_tokens", 0, "max_new_tokens must be at least 1, got 0"),
        ("provenance.prompt_format", "loud", "prompt_format: Input should be 'chat'"),
        ("provenance.model", "\ud800", "is not a valid detector"),
        ("heads.primary.evaluation.auc", 10**400, "is not a valid detector|the evaluation contains impossible values"),
    ],
)
def test_load_rejects_invalid_values(path: str, value: Any, message: str, detector: Detector, tmp_path: Path) -> None:
    detector.save(tmp_path)
    assert detector.primary.calibration_method == "platt"
    tensors = read_arrays(tmp_path) | {"primary.calibration": np.array([[1.0], [1.5]])}
    rewrite(tmp_path, set_value(path, value), tensors)
    with pytest.raises(DetectorError, match=rf"{message}(.|\n)*\nhint: "):
        Detector.load(tmp_path)


def test_save_keeps_a_huge_count(detector: Detector, tmp_path: Path) -> None:
    detector.save(tmp_path)
    rewrite(tmp_path, set_value("heads.primary.evaluation.n", 10**400))
    Detector.load(tmp_path).save(tmp_path)
    assert Detector.load(tmp_path).primary.evaluation.n == 10**400


def test_p_correct_is_finite_for_the_largest_valid_weights(detector: Detector, tmp_path: Path) -> None:
    detector.save(tmp_path)
    for weight in (files.MAX_ABS, -files.MAX_ABS):
        changed = {"primary.weight": np.full((1, 6), weight), "primary.calibration": np.full((2, 1), files.MAX_ABS)}
        rewrite(tmp_path, tensors=read_arrays(tmp_path) | changed)
        p = Detector.load(tmp_path).p_correct(np.full((1, 2, 6), np.finfo(np.float32).max, np.float32))
        assert p.tolist() == [1.0 if weight > 0 else 0.0]


def test_model_card_names_the_base_model_only_if_it_is_on_the_hub(detector: Detector) -> None:
    on_hub = Provenance(
        model="Qwen2.5-0.5B", task=TASK, prompt_format="qa", locator="none", name="Qwen/Qwen2.5-0.5B", revision="a" * 40
    )
    assert 'base_model: "Qwen/Qwen2.5-0.5B"\n' in model_card(detector.primary, None, on_hub)
    for provenance in (
        replace(on_hub, name="models/qwen", revision="b" * 64),
        replace(on_hub, name="/models/qwen"),
        replace(on_hub, name="smollm2-135m"),
    ):
        assert "base_model" not in model_card(detector.primary, None, provenance)


def test_load_rejects_other_versions_and_other_files(detector: Detector, tmp_path: Path) -> None:
    detector.save(tmp_path)
    rewrite(tmp_path, lambda config: config.update(format_version=99))
    with pytest.raises(DetectorError, match="has format version 99, expected 3"):
        Detector.load(tmp_path)
    with pytest.raises(DetectorError, match=r"does not contain a detector .*\nhint: create one with `probemap export"):
        Detector.load(tmp_path / "missing")
    detector.save(tmp_path)
    pickle = b"\x80\x04cos\nsystem\n(S'true'\ntR."
    (tmp_path / "detector.safetensors").write_bytes(pickle)
    with pytest.raises(
        DetectorError, match=r"detector\.safetensors has changed since .*\nhint: use an unmodified copy"
    ):
        Detector.load(tmp_path)
    rewrite(tmp_path, lambda config: config.update(tensors_sha256=hashlib.sha256(pickle).hexdigest()))
    with pytest.raises(
        DetectorError, match=r"is not a valid detector: Error while deserializing.*header too large\nhint: use an"
    ):
        Detector.load(tmp_path)


def test_load_names_the_changed_file(detector: Detector, tmp_path: Path) -> None:
    detector.save(tmp_path)
    for name, index in (
        ("detector.safetensors", -1),
        ("config.json", (tmp_path / "config.json").read_bytes().index(b"0.")),
    ):
        content = (tmp_path / name).read_bytes()
        changed = bytearray(content)
        changed[index] = ord("7") if name == "config.json" else changed[index] ^ 1
        (tmp_path / name).write_bytes(changed)
        with pytest.raises(
            DetectorError, match=rf"{name} has changed since it was written: .*\nhint: use an unmodified copy"
        ):
            Detector.load(tmp_path)
        (tmp_path / name).write_bytes(content)


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_load_rejects_arbitrary_bytes(tmp_path_factory: pytest.TempPathFactory, config: bytes, tensors: bytes) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "config.json").write_bytes(config)
    (folder / "detector.safetensors").write_bytes(tensors)
    with pytest.raises(DetectorError):
        Detector.load(folder)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    ),
    st.sampled_from(["heads", "provenance", "seed", "tensors_sha256", "format_version"]),
)
def test_load_rejects_arbitrary_json(
    detector: Detector, tmp_path_factory: pytest.TempPathFactory, value: Any, field: str
) -> None:
    folder = tmp_path_factory.mktemp("any")
    detector.save(folder)
    rewrite(folder, lambda config: config.update({field: value}))
    try:
        Detector.load(folder)
    except DetectorError:
        return
    if field == "provenance":
        assert value is None, "the provenance may be unknown"
        return
    assert field == "seed" or value == 3, "any integer from 0 is a seed"


def test_model_card_states_the_guarantees() -> None:
    threshold = Threshold(
        false_alarms=0.05, score=-9.0, p_correct=0.001, flagged_correct=0.0, flagged_incorrect=0.0, precision=np.nan
    )
    none = Threshold(
        false_alarms=0.01,
        score=np.nan,
        p_correct=np.nan,
        flagged_correct=0.0,
        flagged_incorrect=0.0,
        precision=np.nan,
    )
    accepted = Acceptance(risk=0.1, confidence=0.9, score=1.0, p_correct=0.72, coverage=0.4, incorrect=0.05)
    refused = Acceptance(risk=0.02, confidence=0.9, score=np.nan, p_correct=np.nan, coverage=0, incorrect=np.nan)
    head = Head(
        cells=(Cell(0, "-1"),),
        weight=np.ones((1, 2)),
        bias=np.zeros(1),
        calibration=np.ones((2, 1)),
        calibration_method="platt",
        evaluation=EVALUATION,
        thresholds=(threshold, none),
        acceptances=(accepted, refused),
    )
    lines = model_card(head, None, None).splitlines()
    assert (
        "- False-alarm rate of at most 5%: flags answers with p(correct) below 0.00, which are 0% of the incorrect "
        "answers; precision –." in lines
    )
    assert (
        "- False-alarm rate of at most 1%: nothing is flagged, because fewer than 99 questions with a correct answer "
        "are held out." in lines
    )
    assert (
        "- At most 10% incorrect among the accepted answers, with 90% confidence: accepts answers with p(correct) of "
        "at least 0.72, which are 40% of all answers." in lines
    )
    assert (
        "- At most 2% incorrect among the accepted answers, with 90% confidence: nothing is accepted, because no "
        "threshold can be shown to keep this limit." in lines
    )
    assert any(line.startswith("These limits hold for answers to new questions that are exch") for line in lines)


def test_load_reads_nan_in_place_of_null(detector: Detector, tmp_path: Path) -> None:
    detector.save(tmp_path)

    def write_nan(config: dict[str, Any]) -> None:
        config["heads"]["primary"]["thresholds"][0]["precision"] = float("nan")

    rewrite(tmp_path, write_nan)
    assert "NaN" in (tmp_path / "config.json").read_text()
    assert np.isnan(Detector.load(tmp_path).primary.thresholds[0].precision)
