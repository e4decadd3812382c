"""Logs that probemap writes for other tools."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from conftest import make_answer
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from probemap.cli.main import app
from probemap.logs.exporting import ExportedAnswer, ExportedRun, export_every_eval_ever
from probemap.logs.importing import Selection, read_log
from probemap.records import DataError, Example, Span
from probemap.runs.run import Run
from probemap.runs.steps.export_log import export_log

SCHEMAS = Path(__file__).parent / "logs" / "schemas"
"""The JSON schemas of Every Eval Ever 0.3.0 (MIT licence)."""


def validate(aggregate: Path, samples: Path) -> list[dict[str, Any]]:
    """Validate both files against the schemas of the other tool, and return the samples."""
    schema = json.loads((SCHEMAS / "eval.schema.json").read_text("utf-8"))
    jsonschema.validate(json.loads(aggregate.read_text("utf-8")), schema)
    rows = [json.loads(line) for line in samples.read_text("utf-8").split("\n")[:-1]]
    schema = json.loads((SCHEMAS / "instance_level_eval.schema.json").read_text("utf-8"))
    for row in rows:
        jsonschema.validate(row, schema)
    return rows


def test_export_log_writes_verdicts_and_probabilities(mapped: Path, tmp_path: Path) -> None:
    run = Run.open(mapped)
    aggregate, samples, n_undecided = export_log(run, tmp_path, model_id="owner/tiny")
    rows = validate(aggregate, samples)
    assert n_undecided == 0
    assert samples.parent == tmp_path / "data" / "questions" / "owner" / "tiny"
    assert samples.name == f"{aggregate.stem}_samples.jsonl"
    assert len(rows) == 160, "two scores for each of 80 answers"
    first, second = rows[:2]
    assert first["input"]["raw"] == "What is 0 + 5?"
    assert first["input"]["formatted"] == run.answers[0].prompt
    assert first["output"]["raw"] == ["The answer is 5. Is it?"]
    assert first["evaluation"] == {"score": 1.0, "is_correct": True}
    assert first["answer_attribution"][0]["extracted_value"] == "5"
    assert (first["evaluation_result_id"], second["evaluation_result_id"]) == ("accuracy", "p_correct")
    by_score = {
        name: [r["evaluation"]["score"] for r in rows if r["evaluation_result_id"] == name]
        for name in ("accuracy", "p_correct")
    }
    (best,) = run.map.best()
    assert roc_auc_score(by_score["accuracy"], by_score["p_correct"]) == pytest.approx(best.auc, abs=0.02)
    assert np.mean(by_score["p_correct"]) == pytest.approx(0.5, abs=1e-3), "Platt scaling is calibrated in the mean"
    content = json.loads(aggregate.read_text())
    assert [result["score_details"]["score"] for result in content["evaluation_results"]] == [
        pytest.approx(0.5),
        pytest.approx(0.5, abs=1e-3),
    ]
    assert content["detailed_evaluation_results"]["total_rows"] == 160
    assert content["detailed_evaluation_results"]["file_path"] == str(samples.relative_to(tmp_path))


def test_exported_log_can_be_imported(mapped: Path, tmp_path: Path) -> None:
    run = Run.open(mapped)
    _, samples, _ = export_log(run, tmp_path, model_id="owner/tiny")
    log = read_log(f"every-eval-ever:{samples}", Selection(score="accuracy"))
    graded = run.graded
    # Logs do not contain the further fields of the questions.
    assert log.task.examples == tuple(replace(example, metadata=()) for example in graded.task.examples)
    assert [answer.text for answer in log.answers] == [answer.text for answer in graded.answers]
    assert [answer.prompt for answer in log.answers] == [answer.prompt for answer in graded.answers]
    assert [answer.verdict and answer.verdict.correct for answer in log.answers] == graded.correct
    assert [answer.exact_answer for answer in log.answers] == [span and span.text for span in graded.spans]
    assert log.refusals == []


def test_model_from_a_directory_has_no_id(mapped: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the model was loaded from the file or directory .*\nhint: .*--model-id"):
        export_log(Run.open(mapped), tmp_path)


def test_settings_of_supplied_answers_are_not_stated(mapped: Path, tmp_path: Path) -> None:
    aggregate, _, _ = export_log(Run.open(mapped), tmp_path, model_id="owner/tiny")
    assert all("generation_config" not in result for result in json.loads(aggregate.read_text())["evaluation_results"])


def test_export_log_twice_writes_the_same_files(mapped: Path, tmp_path: Path) -> None:
    first = export_log(Run.open(mapped), tmp_path, model_id="owner/tiny")
    contents = [path.read_bytes() for path in first[:2]]
    assert export_log(Run.open(mapped), tmp_path, model_id="owner/tiny") == first
    assert [path.read_bytes() for path in first[:2]] == contents


def exported(text: str = "Peru", **fields: Any) -> ExportedRun:
    answer = make_answer(text, list(text), ["?"])
    row = ExportedAnswer(
        example=Example("a", "Where?", ("Peru",)),
        answer=answer,
        correct=True,
        span=Span(1, 2, text[:1]),
        p_correct=None,
    )
    options: dict[str, Any] = {
        "name": "geo/graphy: 1",
        "model_id": "owner/tiny",
        "source": "",
        "created": 1e9,
        "temperature": 0.0,
        "max_new_tokens": 8,
        "version": "0.1.0",
        "p_correct_source": "",
        "answers": [row],
    }
    return ExportedRun(**{**options, **fields})


@pytest.mark.parametrize("text", ["Peru", "日本\u2028x", '"quoted"\n', "\x00"])
def test_texts_of_all_kinds_are_valid(text: str, tmp_path: Path) -> None:
    (row,) = validate(*export_every_eval_ever(exported(text), tmp_path))
    assert row["output"]["raw"] == [text]
    assert row["evaluation_name"] == "geo_graphy_1"


def test_export_requires_a_hub_id_and_verdicts(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'/models/x' is not named as on the Hugging Face hub\nhint: .*--model-id"):
        export_every_eval_ever(exported(model_id="/models/x"), tmp_path)
    for name in ("../..", "./model", "../model", "a/b/c", "model"):
        with pytest.raises(DataError, match="is not named as on the Hugging Face hub"):
            export_every_eval_ever(exported(model_id=name), tmp_path)
    with pytest.raises(DataError, match="no answer has a verdict"):
        export_every_eval_ever(exported(answers=[]), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_export_log_command(mapped: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["export-log", str(mapped), "--out", str(tmp_path), "--model-id", "owner/tiny"])
    assert result.exit_code == 0, result.output
    paths = [Path(line) for line in result.stdout.splitlines()]
    assert [path.exists() for path in paths] == [True, True]
