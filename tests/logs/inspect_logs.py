"""Run Inspect on the local questions, and write its logs and what an import of them should give."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from answer_server import answer_server
from recording import Call, Recording, read_jsonl, recorded_calls, write_jsonl

PATTERN = r"(?:is|was|are|wrote) (?:the |in |located in |known as )*([A-Z0-9][\w-]*(?: [A-Z][\w-]*)*)"
SYSTEM = "Answer the question in one short sentence."
VALUES: dict[str, Any] = {"q02": "I", "q03": "P", "q04": "N", "q05": float("nan"), "q06": 0.25, "q07": True, "q08": 0}
"""Values that the scorer of `inspect_graded` gives; the value of all other questions is ``C``."""
EXAMPLES = (
    ("What is the capital of Italy?\n\nA) Milan\nB) Rome\nC) Turin\nD) Bari", "B"),
    ("What is 2 plus 2?\n\nA) 1\nB) 2\nC) 3\nD) 4", "D"),
    ("Which colour is grass?\n\nA) green\nB) red\nC) blue\nD) white", "A"),
)
"""Solved examples of `inspect_choices`, with their letters."""

# What one scorer of one sample gives: the verdict, and the extracted answer if the scorer extracts one.
Grade = Callable[[dict[str, Any], str], tuple[bool | None, str | None]]


def _includes(question: dict[str, Any], text: str) -> tuple[bool, None]:
    return any(name.lower() in text.lower() for name in question["aliases"]), None


def _pattern(question: dict[str, Any], text: str) -> tuple[bool, str | None]:
    found = re.search(PATTERN, text)
    answer = found[1] if found else None
    return answer is not None and answer.lower() in {name.lower() for name in question["aliases"]}, answer


def _choice(question: dict[str, Any], text: str) -> tuple[bool, str | None]:
    # The multiple-choice solver accepts the letter alone on its line first, and then anywhere after "ANSWER:".
    found = re.search(r"(?i)^ANSWER\s*:\s*([A-D])(?:[^\w]|\n|$|\.)", text, re.MULTILINE) or re.search(
        r"(?i)ANSWER\s*:\s*([A-D])(?:[^\w]|\n|$|\.)", text
    )
    letter = found[1].upper() if found else None
    return letter == "ABCD"[question["label"]], letter


def _graded(question: dict[str, Any], text: str) -> tuple[bool | None, None]:
    value = VALUES.get(question["id"], "C")
    verdicts = {"C": True, "I": False, True: True, 0: False}
    return verdicts.get(value), None  # partly correct, no answer, unscored and 0.25 are no verdicts


@dataclass(frozen=True)
class Log:
    """One run of Inspect and the log that it writes."""

    name: str
    graders: dict[str, Grade]
    limit: int = 12
    epochs: int = 1
    max_tokens: int = 32
    sampled: bool = False
    as_json: bool = True
    """Whether the log is also written as one JSON file, which is about four times as large."""
    server: bool = False
    """Whether the model is asked through a chat completions server."""


LOGS = (
    Log("inspect_open", {"includes": _includes, "pattern": _pattern}, epochs=2, sampled=True, as_json=False),
    Log("inspect_choices", {"choice": _choice}, limit=10, as_json=False),
    Log("inspect_attachments", {"includes": _includes}, limit=6),
    Log("inspect_faults", {"includes": _includes}, limit=8),
    Log("inspect_graded", {"graded": _graded}, limit=10),
    Log("inspect_server", {"includes": _includes}, max_tokens=12, as_json=False, server=True),
)
UNFINISHED = Log("inspect_unfinished", {"includes": _includes}, limit=8)
KILLED_AT, FAILED, LIMITED = "q06", "q02", "q03"


def make_inspect_logs(model: Path, out: Path, only: str) -> None:
    """Write ``NAME.eval`` and ``NAME.expected.jsonl`` of every log, and ``NAME.json`` of some."""
    for log in LOGS:
        if only in log.name:
            _make(log, model, out)
    if only in UNFINISHED.name:
        command = [sys.executable, "make_logs.py", "inspect-unfinished", "--model", str(model), "--out", str(out)]
        subprocess.run(command, check=False)


def make_unfinished_log(model: Path, out: Path) -> None:
    """Kill this process within a run, after it has copied the log that is in progress."""
    _make(UNFINISHED, model, out)


def _make(log: Log, model: Path, out: Path) -> None:
    from inspect_ai import eval as run
    from inspect_ai.log import read_eval_log, write_eval_log
    from inspect_ai.model import get_model

    questions = read_jsonl(Path("questions.jsonl"))[: log.limit]
    with (
        tempfile.TemporaryDirectory() as directory,
        answer_server(model) as url,
        recorded_calls(model) as recording,
    ):

        def end_process() -> None:
            (file,) = Path(directory).glob("*.eval")
            shutil.copyfile(file, out / f"{log.name}.eval")
            _write_expected(log, questions, recording, out, before=KILLED_AT)
            os.kill(os.getpid(), signal.SIGKILL)

        if log.server:
            base_url = url.removesuffix("/chat/completions")
            served = get_model(f"openai-api/local/{model}", base_url=base_url, api_key="none")
        else:
            served = get_model(f"hf/{model}", device="cpu", do_sample=log.sampled)
        run(
            _task(log, questions, end_process),
            model=served,
            epochs=log.epochs,
            log_dir=directory,
            log_format="eval",
            log_buffer=1,
            max_samples=1,
            max_connections=1,
            max_tokens=log.max_tokens,
            temperature=0.4 if log.sampled else None,
            fail_on_error=False,
            display="none",
        )
        (file,) = Path(directory).glob("*.eval")
        shutil.copyfile(file, out / f"{log.name}.eval")
        if log.as_json:
            write_eval_log(read_eval_log(str(file)), str(out / f"{log.name}.json"))
        _write_expected(log, questions, recording, out)


def _task(log: Log, questions: list[dict[str, Any]], end_process: Callable[[], None]) -> Any:
    """Return the Inspect task of a log."""
    from inspect_ai import Task
    from inspect_ai.dataset import Sample
    from inspect_ai.scorer import Score, accuracy, choice, includes, pattern, scorer
    from inspect_ai.solver import generate, multiple_choice, solver, system_message

    def fault() -> Any:
        async def solve(state: Any, generate: Any) -> Any:
            if state.sample_id == FAILED:
                raise RuntimeError("the question cannot be prepared")
            if state.sample_id == LIMITED:
                state.token_limit = 20  # the model's answer is over the limit, and the log does not have it
            return state

        return solve

    def kill() -> Any:
        async def solve(state: Any, generate: Any) -> Any:
            if state.sample_id == KILLED_AT:
                end_process()
            return state

        return solve

    def graded() -> Any:
        async def score(state: Any, target: Any) -> Any:
            return Score(value=VALUES.get(state.sample_id, "C"), explanation="The grader's reasons stand here.")

        return score

    samples = [
        Sample(
            id=question["id"],
            input=_prepared(log, question),
            target="ABCD"[question["label"]] if log.name == "inspect_choices" else question["aliases"],
            choices=question["choices"] if log.name == "inspect_choices" else None,
            metadata={"number": number},
        )
        for number, question in enumerate(questions)
    ]
    solvers = {
        "inspect_choices": [multiple_choice(template="{question}\n\n{choices}")],
        "inspect_attachments": [system_message(SYSTEM), generate()],
        "inspect_faults": [solver("fault")(fault)(), system_message(SYSTEM), generate()],
        "inspect_unfinished": [solver("kill")(kill)(), generate()],
    }
    scorers = {
        "inspect_open": [includes(), pattern(PATTERN, ignore_case=False)],
        "inspect_choices": [choice()],
        "inspect_graded": [scorer(metrics=[accuracy()], name="graded")(graded)()],
    }
    return Task(
        name=log.name,
        dataset=samples,
        solver=solvers.get(log.name, [system_message(SYSTEM), generate()]),
        scorer=scorers.get(log.name, [includes()]),
    )


def _prepared(log: Log, question: dict[str, Any]) -> Any:
    """Return the text that a sample asks, or messages with solved examples."""
    from inspect_ai.model import ChatMessageAssistant, ChatMessageUser

    if log.name == "inspect_attachments":
        remark = f"of the reader of text {question['id']} is not about the question."
        return "\n".join([*(f"Remark {number} {remark}" for number in range(20)), str(question["question"])])
    if log.name == "inspect_choices":
        turns = [message for asked, letter in EXAMPLES for message in (ChatMessageUser(content=asked), letter)]
        return [
            *(ChatMessageAssistant(content=f"ANSWER: {turn}") if isinstance(turn, str) else turn for turn in turns),
            ChatMessageUser(content=question["question"]),
        ]
    return question["question"]


def _write_expected(
    log: Log, questions: list[dict[str, Any]], recording: Recording, out: Path, before: str = ""
) -> None:
    """Write one row per question, epoch and scorer whose answer is in the log."""
    rows = []
    for question in questions:
        if question["id"] == before:
            break
        if log.name == "inspect_faults" and question["id"] in (FAILED, LIMITED):
            continue  # the log has no answer to these questions
        for epoch, call in enumerate(recording.of_question(question["question"]), 1):
            for name, grade in log.graders.items():
                rows.append({"id": question["id"], "epoch": epoch, "scorer": name} | _expected(question, call, grade))
    write_jsonl(out / f"{log.name}.expected.jsonl", rows)


def _expected(question: dict[str, Any], call: Call, grade: Grade) -> dict[str, Any]:
    correct, answer = grade(question, call.text)
    return {
        "prompt": call.prompt,
        "text": call.text,
        "correct": correct,
        "exact_answer": answer,
        "stopped": call.has_end_token,
    }
