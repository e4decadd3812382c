"""Run lm-evaluation-harness on the local questions, and write its logs and what an import of them should give."""

import json
import re
import string
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from answer_server import answer_server
from recording import Call, read_jsonl, recorded_calls, write_jsonl

STOPS = ("\n", "Question:")
FEWSHOT = [
    {"question": "What is the capital of Italy?", "answer": "Rome", "aliases": ["Rome", "Roma"]},
    {"question": "How many minutes are there in an hour?", "answer": "60", "aliases": ["60", "sixty"]},
]
FEWSHOT_PROBLEMS = [
    {
        "question": "Eva has 10 pens and gives 3 away. How many pens are left?",
        "answer": "There are 10 - 3 = 7 pens left.\n#### 7",
    },
    {
        "question": "A pack has 4 rolls. How many rolls are in 6 packs?",
        "answer": "There are 4 * 6 = 24 rolls.\n#### 24",
    },
]
STRICT = r"#### (\-?[0-9\.\,]+)"
FLEXIBLE = r"(-?[$0-9.,]{2,})|(-?[0-9]+)"
IGNORED = [",", "\\$", "(?s).*#### ", "\\.$"]

Extract = Callable[[list[str]], str]


def _first(texts: list[str]) -> str:
    return texts[0]


def _stripped(texts: list[str]) -> str:
    return texts[0].strip()


def _majority(texts: list[str]) -> str:
    return Counter(text.strip() for text in texts).most_common(1)[0][0]


def _strict(texts: list[str]) -> str:
    found = re.findall(STRICT, texts[0])
    return str(found[0]).strip() if found else "[invalid]"


def _flexible(texts: list[str]) -> str:
    found = re.findall(FLEXIBLE, texts[0])
    return next(group for group in found[-1] if group).strip() if found else "[invalid]"


@dataclass(frozen=True)
class Log:
    """One run of the harness and the log that it writes."""

    name: str
    task: dict[str, Any]
    options: tuple[str, ...] = ()
    filters: dict[str, Extract] = field(default_factory=lambda: {"none": _first})
    questions: str = "questions.jsonl"
    limit: int = 24
    stops: tuple[str, ...] = STOPS
    chat_server: bool = False


def _open_task(target: str = "{{answer}}", **other: Any) -> dict[str, Any]:
    """Return a task of short questions with two solved examples."""
    return {
        "output_type": "generate_until",
        "doc_to_text": "Question: {{question}}\nAnswer:",
        "doc_to_target": target,
        "num_fewshot": 2,
        "fewshot_config": {"sampler": "first_n", "samples": FEWSHOT},
        "generation_kwargs": {"until": list(STOPS), "do_sample": False, "max_gen_toks": 24},
        "metric_list": [{"metric": "exact_match", "ignore_case": True, "ignore_punctuation": True}],
    } | other


_SAMPLING = {"until": list(STOPS), "do_sample": True, "temperature": 0.9, "max_gen_toks": 24}
_PROBLEMS = _open_task(
    fewshot_config={"sampler": "first_n", "samples": FEWSHOT_PROBLEMS},
    # Some answers are cut off before the number after "####", and a strict filter finds nothing there.
    generation_kwargs={"until": ["Question:", "<|im_end|>"], "do_sample": False, "max_gen_toks": 18},
    metric_list=[{"metric": "exact_match", "ignore_case": True, "regexes_to_ignore": IGNORED}],
    filter_list=[
        {
            "name": "strict-match",
            "filter": [{"function": "regex", "regex_pattern": STRICT}, {"function": "take_first"}],
        },
        {
            "name": "flexible-extract",
            "filter": [
                {"function": "regex", "group_select": -1, "regex_pattern": FLEXIBLE},
                {"function": "take_first"},
            ],
        },
    ],
)
_STRIP = [{"function": "remove_whitespace"}, {"function": "take_first"}]
_STRIPPED = _open_task(filter_list=[{"name": "remove_whitespace", "filter": _STRIP}])
# Some answers are longer than six tokens, and the log does not say that they are cut off.
_SHORT = _open_task("{{aliases}}", generation_kwargs={"until": list(STOPS), "do_sample": False, "max_gen_toks": 6})
_REPEATS = _open_task(
    repeats=3,
    generation_kwargs=_SAMPLING,
    filter_list=[
        {"name": "first", "filter": _STRIP},
        {
            "name": "maj@3",
            "filter": [
                {"function": "remove_whitespace"},
                {"function": "take_first_k", "k": 3},
                {"function": "majority_vote"},
                {"function": "take_first"},
            ],
        },
    ],
)
_CHOICES = {
    "output_type": "multiple_choice",
    "doc_to_text": "Question: {{question}}\nAnswer:",
    "doc_to_choice": "choices",
    "doc_to_target": "label",
    "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
}
_CHAT = ("--apply_chat_template", "--fewshot_as_multiturn", "true")
LOGS = (
    Log("lm_eval_open", _STRIPPED, filters={"remove_whitespace": _stripped}),
    Log("lm_eval_chat", _open_task(), _CHAT),
    Log(
        "lm_eval_filters",
        _PROBLEMS,
        filters={"strict-match": _strict, "flexible-extract": _flexible},
        questions="problems.jsonl",
        stops=("Question:", "<|im_end|>"),
    ),
    Log("lm_eval_repeats", _REPEATS, filters={"first": _stripped, "maj@3": _majority}, limit=10),
    Log("lm_eval_choices", _CHOICES, filters={}, limit=12),
    Log("lm_eval_aliases", _SHORT, (*_CHAT, "--system_instruction", "Answer in one word.")),
    Log("lm_eval_api", _open_task(), _CHAT, limit=12, chat_server=True),
)


def make_lm_eval_logs(model: Path, questions: Path, out: Path, only: str) -> None:
    """Write ``NAME.jsonl``, ``NAME.results.json`` and ``NAME.expected.jsonl`` of every log."""
    for log in LOGS:
        if only in log.name:
            _make(log, model, questions, out)


def _make(log: Log, model: Path, questions: Path, out: Path) -> None:
    from lm_eval.__main__ import cli_evaluate

    with tempfile.TemporaryDirectory() as work:
        tasks, results = Path(work, "tasks"), Path(work, "results")
        tasks.mkdir()
        file = questions / log.questions
        # JSON is valid YAML.  The few-shot examples are in the task, so the questions stand in one prompt each.
        dataset = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(file)}}, "test_split": "test"}
        Path(tasks, f"{log.name}.yaml").write_text(json.dumps({"task": log.name} | dataset | log.task))
        with answer_server(model) as url, recorded_calls(model) as recording:
            backend = ["hf", f"pretrained={model},dtype=float32"]
            if log.chat_server:
                backend = ["local-chat-completions", f"model={model},base_url={url},num_concurrent=1,max_retries=1"]
            command = ["run", "--model", backend[0], "--model_args", backend[1], "--include_path", str(tasks)]
            command += ["--tasks", log.name, "--limit", str(log.limit), "--batch_size", "1", "--log_samples"]
            command += ["--output_path", str(results), *log.options]
            if not log.chat_server:
                command += ["--device", "cpu"]
            sys.argv = ["lm_eval", *command]
            cli_evaluate()
        (samples,) = results.rglob("samples_*.jsonl")
        (summary,) = results.rglob("results_*.json")
        (out / f"{log.name}.jsonl").write_bytes(samples.read_bytes())
        (out / f"{log.name}.results.json").write_text(_without_machine(summary), encoding="utf-8")
    rows = []
    for number, question in enumerate(read_jsonl(file)[: log.limit]):
        for filter_, extract in log.filters.items():
            calls = recording.of_question(question["question"])
            rows.append({"id": number, "filter": filter_} | _expected(calls, question, log, extract))
    write_jsonl(out / f"{log.name}.expected.jsonl", rows)


def _without_machine(summary: Path) -> str:
    """Return the text of a results file without the description of the machine."""
    content = json.loads(summary.read_text(encoding="utf-8"))
    return json.dumps(content | {"pretty_env_info": ""}, ensure_ascii=False, indent=2) + "\n"


def _expected(calls: list[Call], question: dict[str, Any], log: Log, extract: Extract) -> dict[str, Any]:
    """Return one row of the expected import, of the answer that the filter chooses."""
    texts = [call.text_before(log.stops) for call in calls]
    extracted = extract(texts)
    # A vote chooses one of the answers; an expression finds a part of the first one.
    chosen = next((number for number, text in enumerate(texts) if text.strip() == extracted), 0)
    is_part = extract in (_strict, _flexible)
    if log.questions == "problems.jsonl":
        correct = _number(extracted) == _number(question["answer"])
    else:
        accepted = question["aliases"] if log.name == "lm_eval_aliases" else [question["answer"]]
        correct = _bare(extracted) in {_bare(name) for name in accepted}
    return {
        "prompt": calls[chosen].prompt,
        "text": texts[chosen],
        "correct": correct,
        "exact_answer": extracted if is_part and extracted != "[invalid]" else None,
        "stopped": calls[chosen].stopped(log.stops),
    } | ({"texts": texts} if len(texts) > 1 else {})


def _bare(text: str) -> str:
    """Return the text in lower case without ASCII punctuation; the harness keeps spaces at the ends."""
    return "".join(character for character in text.lower() if character not in string.punctuation)


def _number(text: str) -> str:
    """Return the number after ``####``, without separators."""
    return text.split("#### ")[-1].replace(",", "").replace("$", "").removesuffix(".")
