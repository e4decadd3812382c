"""Convert the other logs with the Every Eval Ever package, and write what an import of them should give.

The expected rows have what the model read and wrote.  The converted files do not always have it: ``logged_text`` is the
text that a file has in its place, and an import must not take one for the other.
"""

import json
import shutil
import tempfile
import uuid
from pathlib import Path
from typing import Any

from recording import read_jsonl, write_jsonl

LM_EVAL = ("lm_eval_open", "lm_eval_chat", "lm_eval_filters", "lm_eval_choices")
INSPECT = ("inspect_open", "inspect_faults", "inspect_server", "inspect_choices")
MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"


def make_every_eval_ever_logs(out: Path) -> None:
    """Write ``eee_NAME.json``, ``eee_NAME_samples.jsonl`` and ``eee_NAME.expected.jsonl`` of every log."""
    for name in LM_EVAL:
        with tempfile.TemporaryDirectory() as directory:
            source = Path(directory)
            shutil.copyfile(out / f"{name}.jsonl", source / f"samples_{name}_2026-01-01T00-00-00.000000.jsonl")
            # The package refuses a model without an organisation.
            summary = (out / f"{name}.results.json").read_text(encoding="utf-8").replace(MODEL.split("/")[1], MODEL)
            (source / "results_2026-01-01T00-00-00.000000.json").write_text(summary, encoding="utf-8")
            _convert(["lm_eval", "--log_path", str(source), "--include_samples"], out / f"eee_{name}")
        _write_expected(name, out)
    for name in INSPECT:
        _convert(["inspect", "--log_path", str(out / f"{name}.eval")], out / f"eee_{name}")
        _write_expected(name, out)
    _write_native(out)


def _convert(arguments: list[str], target: Path) -> None:
    """Convert one log, validate the two files, and copy them."""
    from every_eval_ever.cli import main

    with tempfile.TemporaryDirectory() as directory:
        data = Path(directory, "data")
        if main(["convert", *arguments, "--output_dir", str(data), "--source_organization_name", "probemap"]):
            raise RuntimeError(f"the conversion of {target.name} failed")
        files = sorted(data.rglob("*.json*"))
        if main(["validate", *map(str, files)]):
            raise RuntimeError(f"the conversion of {target.name} is not valid")
        for file in files:
            ending = "_samples.jsonl" if file.suffix == ".jsonl" else ".json"
            shutil.copyfile(file, target.with_name(target.name + ending))


def _write_expected(name: str, out: Path) -> None:
    rows = [row | {"logged_text": _logged_text(name, row)} for row in read_jsonl(out / f"{name}.expected.jsonl")]
    write_jsonl(out / f"eee_{name}.expected.jsonl", [row | {"id": str(row["id"])} for row in rows])


def _logged_text(name: str, row: dict[str, Any]) -> str:
    """Return what the package writes as the raw output: the filtered answer, or the answer that a scorer names."""
    text = str(row["text"])
    if name == "lm_eval_filters":
        return row["exact_answer"] or "[invalid]"
    if name == "lm_eval_open":
        return text.strip()
    if row.get("scorer") == "includes":
        return text.lower()
    if row.get("scorer") == "pattern":
        return row["exact_answer"] or f"Scoring pattern not matched in output: {text}"
    return text


def _write_native(out: Path) -> None:
    """Write a log with the package's own classes that uses what its converters leave empty."""
    from every_eval_ever.cli import main
    from every_eval_ever.instance_level_types import InstanceLevelEvaluationLog

    questions = read_jsonl(Path("questions.jsonl"))
    aggregate = json.loads((out / "eee_lm_eval_chat.json").read_text(encoding="utf-8"))
    result_id = aggregate["evaluation_results"][0].get("evaluation_result_id")
    rows, expected = [], []
    for number, (question, row) in enumerate(
        zip(questions[:16], read_jsonl(out / "lm_eval_chat.expected.jsonl"), strict=False)
    ):
        text, name = row["text"], question["answer"]
        said = name if name in text else ""
        attribution = [
            {
                "turn_idx": 0,
                "source": "output.raw",
                "extracted_value": said,
                "extraction_method": "regex",
                "is_terminal": True,
            }
        ]
        native: dict[str, Any] = {
            "schema_version": "0.3.0",
            "evaluation_id": aggregate["evaluation_id"],
            "model_id": aggregate["model_info"]["id"],
            "evaluation_name": "eee_native",
            "evaluation_result_id": result_id,
            "sample_id": question["id"],
            "interaction_type": "single_turn",
            "input": {"raw": question["question"], "formatted": row["prompt"], "reference": question["aliases"]},
            "output": {"raw": [text]},
            "answer_attribution": attribution if said else [],
            "evaluation": {"score": float(bool(said)), "is_correct": bool(said)},
        }
        good = {"id": question["id"], "prompt": row["prompt"], "text": text, "correct": bool(said)} | {
            "exact_answer": said or None,
            "stopped": row["stopped"],
        }
        if number in UNUSUAL:
            UNUSUAL[number](native, text)
        else:
            expected.append(good)
        rows.append(InstanceLevelEvaluationLog.model_validate(native).model_dump(mode="json"))
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory, "data", "eee_native", *MODEL.split("/"))
        folder.mkdir(parents=True)
        samples = folder / f"{uuid.UUID(int=4, version=4)}_samples.jsonl"
        write_jsonl(samples, rows)
        detail = {"format": "jsonl", "file_path": str(samples.relative_to(directory)), "total_rows": len(rows)}
        aggregate["detailed_evaluation_results"] = detail
        for result in aggregate["evaluation_results"]:
            result["source_data"]["dataset_name"] = "eee_native"
        summary = folder / f"{uuid.UUID(int=4, version=4)}.json"
        summary.write_text(json.dumps(aggregate, indent=2), encoding="utf-8")
        if main(["validate", str(summary), str(samples)]):
            raise RuntimeError("the log eee_native is not valid")
        shutil.copyfile(samples, out / "eee_native_samples.jsonl")
        shutil.copyfile(summary, out / "eee_native.json")
    write_jsonl(out / "eee_native.expected.jsonl", expected)


def _two_outputs(row: dict[str, Any], text: str) -> None:
    row["output"]["raw"] = [text, f"{text} Or not."]


def _error(row: dict[str, Any], text: str) -> None:
    row["error"] = "timeout"
    row["output"]["raw"] = [""]


def _partial(row: dict[str, Any], text: str) -> None:
    row["evaluation"] = {"score": 0.5, "is_correct": False}


def _several_turns(row: dict[str, Any], text: str) -> None:
    turns = [("user", row["input"]["raw"]), ("assistant", text), ("user", "Are you sure?"), ("assistant", text)]
    messages = [{"turn_idx": turn, "role": role, "content": content} for turn, (role, content) in enumerate(turns)]
    row |= {"interaction_type": "multi_turn", "output": None, "messages": messages, "answer_attribution": []}
    row["evaluation"]["num_turns"] = 4


def _reasoning(row: dict[str, Any], text: str) -> None:
    row["output"]["reasoning_trace"] = ["The question asks for one word."]


def _no_prompt(row: dict[str, Any], text: str) -> None:
    row["input"]["formatted"] = None


UNUSUAL = {10: _two_outputs, 11: _error, 12: _partial, 13: _several_turns, 14: _reasoning, 15: _no_prompt}
"""Rows of `eee_native` that have another shape; the expected file does not have them."""
