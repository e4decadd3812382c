"""Write answers, verdicts and probabilities in the format of Every Eval Ever.

Two files are written: ``UUID.json`` with the aggregate results, and ``UUID_samples.jsonl`` with one line per answer and
score.  Their paths below the output directory are those of the public data store, ``data/COLLECTION/DEVELOPER/MODEL``.
Source: the JSON schemas of Every Eval Ever 0.3.0.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from probemap.records import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from probemap.records import Answer, Example, Span

SCHEMA_VERSION = "0.3.0"


@dataclass(frozen=True, kw_only=True)
class ExportedAnswer:
    """An answer with its verdict."""

    example: Example
    answer: Answer
    correct: bool
    span: Span | None
    """The exact answer, or None if there is none."""
    p_correct: float | None
    """Probability that the answer is correct, or None if it is unknown."""


@dataclass(frozen=True, kw_only=True)
class ExportedRun:
    """The answers of a run, and the settings with which they were generated."""

    name: str
    """Name of the evaluation."""
    model_id: str
    """Id of the model on the Hugging Face hub, ``developer/name``."""
    source: str
    """Origin of the questions."""
    created: float
    """Time at which the answers were generated or imported, in seconds since 1970."""
    temperature: float | None
    """Sampling temperature, or None if the answers were imported."""
    max_new_tokens: int | None
    """Maximum number of tokens per answer, or None if the answers were imported."""
    version: str
    """Version of probemap."""
    p_correct_source: str
    """Description of the probe from which `ExportedAnswer.p_correct` was computed."""
    answers: Sequence[ExportedAnswer]


def export_every_eval_ever(run: ExportedRun, out: Path) -> tuple[Path, Path]:
    """Write a run's answers.

    Parameters
    ----------
    run : ExportedRun
    out : Path
        Output directory, which is created if needed.  Existing files of other runs are kept.

    Returns
    -------
    aggregate, samples : Path
        Paths of the two files, whose names depend only on the content.

    Raises
    ------
    DataError
        If the id of the model is not of the form ``developer/name``, or if there are no answers.
    """
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", run.model_id):
        raise DataError(
            f"the model {run.model_id!r} is not named as on the Hugging Face hub",
            "pass its id there, e.g. --model-id HuggingFaceTB/SmolLM2-135M-Instruct",
        )
    if not run.answers:
        raise DataError("no answer has a verdict, so there is nothing to export", "grade the answers first")
    collection = re.sub(r"[^\w.-]+", "_", run.name).strip(".") or "answers"
    evaluation_id = f"{collection}/{run.model_id.replace('/', '_')}/{run.created:.0f}"
    lines = [
        json.dumps(line, ensure_ascii=False)
        for answer in run.answers
        for line in _instances(run, answer, evaluation_id, collection)
    ]
    content = "".join(f"{line}\n" for line in lines)
    digest = hashlib.sha256(content.encode()).hexdigest()
    name = str(uuid.UUID(hex=digest[:32], version=4))
    folder = f"data/{collection}/{run.model_id}"
    aggregate = _aggregate(run, evaluation_id, collection)
    aggregate["detailed_evaluation_results"] = {
        "format": "jsonl",
        "file_path": f"{folder}/{name}_samples.jsonl",
        "hash_algorithm": "sha256",
        "checksum": digest,
        "total_rows": len(lines),
    }
    directory = out / folder
    directory.mkdir(parents=True, exist_ok=True)
    paths = directory / f"{name}.json", directory / f"{name}_samples.jsonl"
    paths[1].write_bytes(content.encode())
    paths[0].write_bytes(f"{json.dumps(aggregate, ensure_ascii=False, indent=2)}\n".encode())
    return paths


_ACCURACY, _P_CORRECT = "accuracy", "p_correct"


def _instances(run: ExportedRun, exported: ExportedAnswer, evaluation_id: str, name: str) -> list[dict[str, Any]]:
    """Return one instance for the verdict and, if the probability is known, one for the probability."""
    example, answer = exported.example, exported.answer
    final, reasoning = answer.final, answer.text[: len(answer.text) - len(answer.final.text)]
    reference = list(example.answers)
    raw = {"raw": example.question, "reference": reference}
    output: dict[str, Any] = {"raw": [final.text]}
    if reasoning:
        output["reasoning_trace"] = [reasoning]
    extracted = exported.span.text if exported.span else final.text
    method = "exact answer located by probemap" if exported.span else "none"
    instance = {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": evaluation_id,
        "model_id": run.model_id,
        "evaluation_name": name,
        "sample_id": example.id,
        "sample_hash": hashlib.sha256(json.dumps(raw, sort_keys=True).encode()).hexdigest(),
        "interaction_type": "single_turn",
        "input": {**raw, "formatted": answer.prompt, "choices": list(example.choices) or None},
        "output": output,
        "answer_attribution": [
            {
                "turn_idx": 0,
                "source": "output.raw",
                "extracted_value": extracted,
                "extraction_method": method,
                "is_terminal": True,
            }
        ],
        "token_usage": {
            "input_tokens": answer.n_prompt,
            "output_tokens": len(answer.produced_ids),
            "total_tokens": len(answer.token_ids),
        },
        "metadata": {"stop_reason": "stop" if answer.stopped else "max_tokens"},
    }
    scores = [(_ACCURACY, float(exported.correct))]
    if exported.p_correct is not None:
        scores.append((_P_CORRECT, exported.p_correct))
    return [
        {**instance, "evaluation_result_id": id_, "evaluation": {"score": score, "is_correct": exported.correct}}
        for id_, score in scores
    ]


def _aggregate(run: ExportedRun, evaluation_id: str, name: str) -> dict[str, Any]:
    correct = [float(exported.correct) for exported in run.answers]
    p_correct = [exported.p_correct for exported in run.answers if exported.p_correct is not None]
    share = "Share of correct answers among those with a verdict"
    results = [_result(run, name, _ACCURACY, correct, description=share, score_type="binary")]
    if p_correct:
        text = f"Mean probability that an answer is correct, from {run.p_correct_source}"
        results.append(_result(run, name, _P_CORRECT, p_correct, description=text, score_type="continuous"))
    return {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": evaluation_id,
        "retrieved_timestamp": f"{run.created:.0f}",
        "source_metadata": {
            "source_name": "probemap",
            "source_type": "evaluation_run",
            "source_organization_name": "unknown",
            "evaluator_relationship": "other",
        },
        "eval_library": {"name": "probemap", "version": run.version},
        "model_info": {
            "name": run.model_id,
            "id": run.model_id,
            "developer": run.model_id.partition("/")[0],
            "additional_details": {"deployment_type": "unknown", "model_availability": "unknown"},
        },
        "evaluation_results": results,
    }


def _result(
    run: ExportedRun, name: str, id_: str, scores: Sequence[float], *, description: str, score_type: str
) -> dict[str, Any]:
    arguments = {"temperature": run.temperature, "max_tokens": run.max_new_tokens}
    stated = {name: value for name, value in arguments.items() if value is not None}
    return {
        "evaluation_result_id": id_,
        "evaluation_name": name,
        "source_data": {"dataset_name": run.source or name, "source_type": "other"},
        "metric_config": {
            "evaluation_description": description,
            "metric_name": id_,
            "lower_is_better": False,
            "score_type": score_type,
            "min_score": 0.0,
            "max_score": 1.0,
        },
        "score_details": {"score": sum(scores) / len(scores), "uncertainty": {"num_samples": len(scores)}},
        **({"generation_config": {"generation_args": stated}} if stated else {}),
    }
