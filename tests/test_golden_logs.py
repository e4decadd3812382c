"""Logs that lm-evaluation-harness, Inspect, lighteval and Every Eval Ever wrote themselves.

``logs/make_logs.py`` runs the tools, in environments of their own, on SmolLM2-135M and on questions written for this
purpose.  ``golden/NAME.expected.jsonl`` has the prompt and the answer as they were recorded when the model generated
the answer, and the verdict and the extracted answer as they were computed apart from the tool.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from probemap.logs.importing import ImportedLog, Selection, read_log
from probemap.models.model import Model
from probemap.models.prompts import Prompt, supplied_prompt
from probemap.models.retokenise import retokenise
from probemap.records import DataError

GOLDEN = Path(__file__).parent / "logs" / "golden"
SEVERAL_ANSWERS = "the log has one score for several answers, of which the highest counts"

LOGS = [
    ("lm-eval", "lm_eval_open.jsonl", ""),
    ("lm-eval", "lm_eval_chat.jsonl", ""),
    ("lm-eval", "lm_eval_aliases.jsonl", ""),
    ("lm-eval", "lm_eval_api.jsonl", ""),
    ("lm-eval", "lm_eval_filters.jsonl", "filter=strict-match"),
    ("lm-eval", "lm_eval_filters.jsonl", "filter=flexible-extract"),
    ("lm-eval", "lm_eval_repeats.jsonl", "filter=first"),
    ("lm-eval", "lm_eval_repeats.jsonl", "filter=maj@3"),
    ("inspect", "inspect_open.eval", "score=includes"),
    ("inspect", "inspect_open.eval", "score=pattern"),
    ("inspect", "inspect_choices.eval", ""),
    ("inspect", "inspect_graded.eval", "score=graded"),
    ("inspect", "inspect_graded.json", "score=graded"),
    ("inspect", "inspect_attachments.eval", ""),
    ("inspect", "inspect_attachments.json", ""),
    ("inspect", "inspect_faults.eval", ""),
    ("inspect", "inspect_faults.json", ""),
    ("inspect", "inspect_server.eval", ""),
    ("inspect", "inspect_unfinished.eval", ""),
    ("lighteval", "lighteval_open.parquet", ""),
    ("lighteval", "lighteval_chat.parquet", ""),
    ("every-eval-ever", "eee_lm_eval_chat_samples.jsonl", ""),
    ("every-eval-ever", "eee_native_samples.jsonl", "score=exact_match"),
]


def expected(name: str, select: str) -> list[dict[str, Any]]:
    """Return the expected rows of a log, or those with the selected filter or score."""
    stem = name.split(".")[0].removesuffix("_samples")
    rows = [json.loads(line) for line in (GOLDEN / f"{stem}.expected.jsonl").read_text("utf-8").splitlines()]
    key, _, value = select.partition("=")
    field = "scorer" if key == "score" else key
    return [row for row in rows if field not in row or row[field] == value]


@cache
def read(format_: str, name: str, select: str) -> ImportedLog:
    return read_log(f"{format_}:{GOLDEN / name}", Selection.parse(select))


def test_every_golden_log_is_tested() -> None:
    tested = {name for _, name, _ in LOGS} | {name for _, name, _ in REFUSED} | {"lighteval_samples.parquet"}
    logs = {path.name for path in GOLDEN.iterdir() if path.suffix in (".jsonl", ".eval", ".parquet")}
    logs |= {path.name for path in GOLDEN.glob("inspect_*.json")}
    assert {name for name in logs if not name.endswith(".expected.jsonl")} == tested


@pytest.mark.parametrize(("format_", "name", "select"), LOGS)
def test_prompts_answers_verdicts_and_exact_answers(format_: str, name: str, select: str, smollm: Model) -> None:
    log = read(format_, name, select)
    pairs: list[tuple[Prompt, Any]] = []
    for answer in log.answers:
        prompt = supplied_prompt(smollm, answer)
        if prompt is not None:
            pairs.append((prompt, answer))
    found: dict[str, dict[tuple[Any, ...], bool]] = {}
    for (prompt, answer), result in zip(pairs, retokenise(smollm, pairs), strict=True):
        correct = answer.verdict and answer.verdict.correct
        facts = (prompt.text, answer.text, correct, answer.exact_answer)
        found.setdefault(answer.id.split("#")[0], {})[facts] = result.stopped
    rows = expected(name, select)
    assert len(rows) >= 5
    n_ends = 0
    for row in rows:
        facts = (row["prompt"], row["text"], row["correct"], row["exact_answer"])
        assert facts in found[str(row["id"])], row["id"]
        n_ends += found[str(row["id"])][facts] != row["stopped"]
    if name != "eee_lm_eval_chat_samples.jsonl":  # neither the end of an answer nor a limit is converted
        # If a text is not tokenised as it was generated, it may have fewer tokens than the limit.  The model wrote two
        # line breaks as two tokens at the end of three sums; the tokenizer has one token for them.
        assert n_ends <= (3 if name == "lm_eval_filters.jsonl" else 1), "whether the answers were cut off"


REFUSED = [
    ("lm-eval", "lm_eval_choices.jsonl", "no generated text (12)"),
    ("lighteval", "lighteval_choices.parquet", "no generated text (6)"),
    ("every-eval-ever", "eee_lm_eval_choices_samples.jsonl", "no generated text (24)"),
    ("every-eval-ever", "eee_lm_eval_open_samples.jsonl", "no generated text (24)"),
    ("every-eval-ever", "eee_lm_eval_filters_samples.jsonl", "no generated text (24)"),
    ("every-eval-ever", "eee_inspect_open_samples.jsonl", "no generated text (48)"),
    ("every-eval-ever", "eee_inspect_choices_samples.jsonl", "no generated text (10)"),
    ("every-eval-ever", "eee_inspect_server_samples.jsonl", "no generated text (12)"),
    ("every-eval-ever", "eee_inspect_faults_samples.jsonl", "no generated text (7), ended with an error (1)"),
]


@pytest.mark.parametrize(("format_", "name", "reason"), REFUSED)
def test_logs_without_generated_texts_are_refused(format_: str, name: str, reason: str) -> None:
    with pytest.raises(DataError) as error:
        read_log(f"{format_}:{GOLDEN / name}")
    assert reason in error.value.problem


def test_samples_that_failed_are_refused() -> None:
    for name in ("inspect_faults.eval", "inspect_faults.json"):
        reasons = sorted(refusal.reason.partition(":")[0] for refusal in read("inspect", name, "").refusals)
        assert reasons == ["ended with an error", "stopped by a limit of Inspect"]


def test_a_score_of_several_answers_is_no_verdict() -> None:
    log = read("lighteval", "lighteval_samples.parquet", "")
    assert [answer.verdict for answer in log.answers] == [None] * 18
    assert log.notes[0].endswith("graded by the judge step"), SEVERAL_ANSWERS
