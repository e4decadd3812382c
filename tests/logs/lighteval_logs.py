"""Run lighteval on the local questions, and write its details and what an import of them should give."""

import json
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lm_eval_logs import FEWSHOT, STOPS
from recording import Call, read_jsonl, recorded_calls, write_jsonl


@dataclass(frozen=True)
class Log:
    """One run of lighteval and the details that it writes."""

    name: str
    task: str
    arguments: str = ""
    limit: int = 12
    sampled: bool = False
    stops: tuple[str, ...] = STOPS


LOGS = (
    Log("lighteval_open", "lighteval_open", "override_chat_template=False"),
    Log("lighteval_chat", "lighteval_open", "override_chat_template=True", stops=()),
    Log(
        "lighteval_samples",
        "lighteval_samples",
        "override_chat_template=False,generation_parameters={temperature:0.9}",
        limit=6,
        sampled=True,
    ),
    Log("lighteval_choices", "lighteval_choices", "override_chat_template=False", limit=6),
)


def make_lighteval_logs(model: Path, out: Path, only: str) -> None:
    """Write ``NAME.parquet`` and ``NAME.expected.jsonl`` of every log."""
    data = Path("lighteval_questions")
    data.mkdir(exist_ok=True)
    questions = read_jsonl(Path("questions.jsonl"))
    fewshot = [{"id": f"f{number}", "choices": [""], "label": 0} | row for number, row in enumerate(FEWSHOT)]
    for split, rows in {"train": fewshot, "test": questions}.items():
        write_jsonl(data / f"{split}.jsonl", rows)
    for log in LOGS:
        if only in log.name:
            _make(log, model, questions, out)


def _make(log: Log, model: Path, questions: list[dict[str, Any]], out: Path) -> None:
    from lighteval.__main__ import app
    from lighteval.tasks.registry import Registry

    # Only the tasks of this directory are loaded: some of the others download files when they are imported.
    Registry._load_from_files = Registry._load_from_subdirs = staticmethod(lambda *_: {})

    model = _sampling_model(model) if log.sampled else model
    with tempfile.TemporaryDirectory() as results, recorded_calls(model) as recording:
        arguments = (
            f"model_name={model},dtype=float32,device=cpu,batch_size=1,cache_dir={results}/cache,{log.arguments}"
        )
        command = ["accelerate", arguments, f"{log.task}|2", "--custom-tasks", "lighteval_tasks.py"]
        command += ["--output-dir", results, "--save-details", "--max-samples", str(log.limit)]
        app(command, standalone_mode=False)
        (details,) = Path(results).rglob("details_*.parquet")
        (out / f"{log.name}.parquet").write_bytes(details.read_bytes())
    rows = []
    for number, question in enumerate(questions):
        calls = [call for call in recording.calls if question["question"] in call.prompt]
        if calls:  # lighteval chooses the questions at random
            rows.append({"id": str(number)} | _expected(calls, question, log))
    write_jsonl(out / f"{log.name}.expected.jsonl", rows)


def _sampling_model(model: Path) -> Path:
    """Return a directory of the same model whose generation settings sample, because lighteval does not set that."""
    directory = Path(f"{model}-sampling")
    directory.mkdir(exist_ok=True)
    for file in model.iterdir():
        if not (directory / file.name).exists():
            (directory / file.name).symlink_to(file.resolve())
    settings = json.loads((model / "generation_config.json").read_text(encoding="utf-8"))
    (directory / "generation_config.json").unlink()
    (directory / "generation_config.json").write_text(json.dumps(settings | {"do_sample": True}), encoding="utf-8")
    return directory


def _expected(calls: list[Call], question: dict[str, Any], log: Log) -> dict[str, Any]:
    """Return one row of the expected import: the first of the most frequent answers."""
    texts = [call.text_before(log.stops) for call in calls]
    answers = [text.strip() for text in texts]
    chosen = answers.index(Counter(answers).most_common(1)[0][0])
    return {
        "prompt": calls[chosen].prompt,
        "text": texts[chosen],
        "correct": answers[chosen] in (question["aliases"] if len(texts) == 1 else [question["answer"]]),
        "exact_answer": None,
        "stopped": calls[chosen].stopped(log.stops),
    } | ({"texts": texts} if len(texts) > 1 else {})
