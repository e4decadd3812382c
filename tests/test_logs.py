"""Logs of evaluation tools: samples written by hand, in the formats of the tools.

`test_golden_logs` reads logs that the tools themselves have written.
"""

import json
import random
import sys
import zipfile
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from running import execute

from probemap.logger import Logger
from probemap.logs.importing import ImportedLog, Selection, read_log
from probemap.logs.samples import Refusal, verdict
from probemap.records import DataError, Example, RunError, TextAnswer, Verdict
from probemap.runs.definitions import ANSWER, JUDGE
from probemap.runs.plan import Context
from probemap.runs.run import Run

CORRECT, INCORRECT = Verdict(True, "supplied as correct"), Verdict(False, "supplied as incorrect")


def lm_eval_row(doc_id: Any = 0, response: Any = " It is Peru.", **fields: Any) -> dict[str, Any]:
    """Return a sample as lm-evaluation-harness 0.4.13 writes it."""
    return {
        "doc_id": doc_id,
        "doc": {"question": "Where is Lima?", "answer": ["Peru"]},
        "target": "['Peru', 'Republic of Peru']",
        "arguments": {"gen_args_0": {"arg_0": "Q: Where is Lima?\nA:", "arg_1": {"until": ["\n"], "max_gen_toks": 16}}},
        "resps": [[response]],
        "filtered_resps": [response],
        "filter": "none",
        "metrics": ["exact_match"],
        "doc_hash": "d",
        "prompt_hash": "p",
        "target_hash": "t",
        "exact_match": 1.0,
        **fields,
    }


def inspect_sample(id_: Any = 1, text: Any = "Lima is in Peru.", **fields: Any) -> dict[str, Any]:
    """Return a sample as Inspect 0.3.285 writes it."""
    question = {"role": "user", "content": "Where is Lima?"}
    answer = {"role": "assistant", "content": text}
    return {
        "id": id_,
        "epoch": 1,
        "input": "Where is Lima?",
        "target": "Peru",
        "messages": [{"role": "system", "content": "Be brief."}, question, answer],
        "output": {"model": "m", "choices": [{"message": answer, "stop_reason": "stop"}], "completion": text},
        "scores": {"match": {"value": "C", "answer": "Peru"}},
        **fields,
    }


def instance(sample_id: str = "a", text: str = "It is Peru.", **fields: Any) -> dict[str, Any]:
    """Return a sample in the schema of Every Eval Ever 0.3.0."""
    return {
        "schema_version": "0.3.0",
        "evaluation_id": "e",
        "model_id": "o/m",
        "evaluation_name": "geography",
        "evaluation_result_id": "accuracy",
        "sample_id": sample_id,
        "interaction_type": "single_turn",
        "input": {"raw": "Where is Lima?", "formatted": "<user>Where is Lima?<end>", "reference": ["Peru"]},
        "output": {"raw": [text]},
        "answer_attribution": [],
        "evaluation": {"score": 1.0, "is_correct": True},
        **fields,
    }


def write_lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), "utf-8")
    return path


def imported(format_: str, path: Path, *rows: Any, select: str = "") -> ImportedLog:
    return read_log(f"{format_}:{write_lines(path, *rows)}", Selection.parse(select))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.jsonl"


def test_lm_eval_sample(path: Path) -> None:
    log = imported("lm-eval", path, lm_eval_row())
    assert log.task.examples == (Example("0", "Where is Lima?", ("Peru", "Republic of Peru")),)
    assert log.answers == [
        TextAnswer("0", " It is Peru.", None, "Q: Where is Lima?\nA:", CORRECT, max_new_tokens=16),
    ]
    assert log.task.max_new_tokens == 16
    assert log.notes == [f"imported 1 of the 1 answers in {path}, with verdicts from the score 'exact_match'"]


def test_lm_eval_conversation_of_a_chat_server(path: Path) -> None:
    messages = [{"role": "user", "content": "Where is Lima?"}]
    for argument in (json.dumps(messages), [json.dumps(messages)]):
        log = imported("lm-eval", path, lm_eval_row(arguments={"gen_args_0": {"arg_0": argument, "arg_1": {}}}))
        assert log.answers[0].prompt == tuple(messages)
        assert log.answers[0].max_new_tokens is None


def test_lm_eval_arguments_of_older_versions(path: Path) -> None:
    log = imported("lm-eval", path, lm_eval_row(arguments=[["Where is Lima?", {"max_gen_toks": 5}]]))
    assert (log.answers[0].prompt, log.answers[0].max_new_tokens) == ("Where is Lima?", 5)


def test_lm_eval_requires_one_of_several_filters(path: Path) -> None:
    strict = lm_eval_row(filter="strict-match", filtered_resps=["[invalid]"], exact_match=0.0)
    flexible = lm_eval_row(filter="flexible-extract", filtered_resps=["Peru"])
    with pytest.raises(DataError, match=r"the results of 2 filters: strict-match, flexible-extract\nhint: .*--select"):
        imported("lm-eval", path, strict, flexible)
    log = imported("lm-eval", path, strict, flexible, select="filter=flexible-extract")
    assert log.notes[1] == "1 answers were processed by other filters or are repeated"
    assert (log.answers[0].verdict, log.answers[0].exact_answer) == (CORRECT, "Peru")
    log = imported("lm-eval", path, strict, flexible, select="filter=strict-match")
    assert (log.answers[0].verdict, log.answers[0].exact_answer) == (INCORRECT, None)
    with pytest.raises(
        DataError, match="has no filter named 'x'\nhint: its filters are strict-match, flexible-extract"
    ):
        imported("lm-eval", path, strict, flexible, select="filter=x")


def test_lm_eval_score_belongs_to_one_of_several_responses(path: Path) -> None:
    texts = ["In Peru, yes.", "In Peru", " In Peru "]
    log = imported("lm-eval", path, lm_eval_row(resps=[texts], filtered_resps=["In Peru"]))
    assert [(a.id, a.text, a.verdict and a.verdict.correct) for a in log.answers] == [
        ("0", "In Peru, yes.", None),
        ("0#2", "In Peru", True),
        ("0#3", " In Peru ", True),
    ]
    assert log.answers[0].verdict == Verdict(None, "supplied without a score")
    assert log.notes[1] == "1 answers have no score of their own and are undecided"


@pytest.mark.parametrize("result", ["5", "[invalid]", None])
def test_lm_eval_score_of_an_extracted_result_belongs_to_no_response(path: Path, result: Any) -> None:
    texts = ["5 apples and 2 more are 7. #### 7", "#### 5", "#### 5"]
    log = imported("lm-eval", path, lm_eval_row(resps=[texts], filtered_resps=[result], exact_match=0.0))
    assert [a.verdict and a.verdict.correct for a in log.answers] == [None] * 3


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (lm_eval_row(resps=[[["-1.2", "False"]], [["-0.3", "True"]]]), "no generated text: the model chose between"),
        (lm_eval_row(resps=[]), "no generated text"),
        (lm_eval_row(resps=[[None]]), "no generated text"),
        (lm_eval_row(arguments={"gen_args_0": {"arg_0": 3}}), "unexpected format: arguments: expected a prompt, got 3"),
        (lm_eval_row(doc_id=None), "unexpected format: doc_id"),
        (lm_eval_row(arguments="x"), "unexpected format: arguments"),
        ("{", "not valid JSON"),
        ("[]", "unexpected format: the sample"),
        (r'{"doc_id": 0, "resps": "\ud800"}', "not valid JSON"),
    ],
)
def test_lm_eval_refuses_single_samples(path: Path, row: Any, reason: str) -> None:
    log = imported("lm-eval", path, lm_eval_row(7), row)
    assert [answer.id for answer in log.answers] == ["7"]
    (refusal,) = log.refusals
    assert refusal.location == "line 2"
    assert refusal.reason.startswith(reason)
    assert log.notes[1] == f"1 answers cannot be imported: {reason.partition(':')[0]} (1)"


def test_targets(path: Path) -> None:
    targets = ["Peru", "['Peru', 'PE']", "[broken", "5 + 4 = <<5+4=9>>9\n#### 9", 12, ["a", "a"], "[" * 5000 + "]"]
    log = imported("lm-eval", path, *[lm_eval_row(i, target=target) for i, target in enumerate(targets)])
    assert [example.answers for example in log.task.examples] == [
        ("Peru",),
        ("Peru", "PE"),
        ("[broken",),
        ("9",),
        ("12",),
        ("a",),
        ("[" * 5000 + "]",),
    ]


def test_questions_are_fields_that_occur_in_the_prompt(path: Path) -> None:
    rows = [lm_eval_row(0, doc={"question": "Other?", "query": " Where is Lima? "}), lm_eval_row(1, doc="text")]
    log = imported("lm-eval", path, *rows)
    assert [e.question for e in log.task.examples] == [" Where is Lima? ", "Q: Where is Lima?\nA:"]


def test_scores_that_differ_require_a_selection(path: Path) -> None:
    rows = [
        lm_eval_row(0, metrics=["em", "f1", "acc", "same"], em=1.0, f1=0.5, acc=0.0, same=1),
        lm_eval_row(1, metrics=["em", "f1", "acc", "same"], em=0.0, f1=0.0, acc=0.0, same=0),
    ]
    with pytest.raises(DataError, match=r"several scores, which differ: em, acc, same\nhint: .*score=none to grade"):
        imported("lm-eval", path, *rows)
    assert [a.verdict for a in imported("lm-eval", path, *rows, select="score=em").answers] == [CORRECT, INCORRECT]
    graded_again = imported("lm-eval", path, *rows, select="score=none")
    assert [a.verdict for a in graded_again.answers] == [None, None]
    assert graded_again.notes[0].endswith("graded by the judge step")
    assert [a.verdict for a in imported("lm-eval", path, *rows, select="score=f1").answers] == [
        Verdict(None, "supplied as neither correct nor incorrect"),
        INCORRECT,
    ]
    with pytest.raises(DataError, match="has no score named 'x'\nhint: its scores are em, f1, acc, same"):
        imported("lm-eval", path, *rows, select="score=x")


def test_equal_scores_and_scores_with_other_values_need_no_selection(path: Path) -> None:
    row = lm_eval_row(metrics=["f1", "em", "acc"], f1=0.4, em=1.0, acc=True)
    assert imported("lm-eval", path, row).notes[0].endswith("with verdicts from the score 'em'")
    with pytest.raises(DataError, match=r"none of the scores in .* is always 0 or 1: f1\nhint: .*score=f1, .*none"):
        imported("lm-eval", path, lm_eval_row(metrics=["f1"], f1=0.4))


def test_log_without_scores_is_graded(path: Path) -> None:
    log = imported("lm-eval", path, lm_eval_row(metrics=[]), lm_eval_row(1, metrics=[], target=""))
    assert [answer.verdict for answer in log.answers] == [None]
    assert log.refusals == [Refusal("line 2", "neither a score nor an accepted answer")]


def test_lines_that_were_appended_twice(path: Path) -> None:
    log = imported("lm-eval", path, lm_eval_row(), lm_eval_row(), lm_eval_row(response="In Chile."))
    assert [answer.text for answer in log.answers] == [" It is Peru."]
    assert log.refusals == [Refusal("line 3", "a different answer with the same id: '0' (line 1)")]
    assert log.notes[2] == "1 answers were processed by other filters or are repeated"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, CORRECT),
        (1, CORRECT),
        (1.0, CORRECT),
        ("C", CORRECT),
        (0.0, INCORRECT),
        ("I", INCORRECT),
        ("P", Verdict(None, "supplied as partially correct")),
        ("N", Verdict(None, "supplied as no answer")),
        (float("nan"), Verdict(None, "supplied without a score")),
        (None, Verdict(None, "supplied without a score")),
        (0.5, Verdict(None, "supplied as neither correct nor incorrect")),
        (2, Verdict(None, "supplied as neither correct nor incorrect")),
        ("c", Verdict(None, "supplied as neither correct nor incorrect")),
        ({"a": 1}, Verdict(None, "supplied as neither correct nor incorrect")),
    ],
)
def test_verdict_of_a_score(value: Any, expected: Verdict) -> None:
    assert verdict(value) == expected


def write_eval(path: Path, samples: Mapping[str, Any], *, header: bool = True, compression: str = "zstd") -> Path:
    """Write an archive as Inspect does: one member per sample, compressed with Zstandard."""
    module: Any = zipfile
    if compression == "zstd" and sys.version_info < (3, 14):
        module = import_module("backports.zstd.zipfile")
    method = module.ZIP_ZSTANDARD if compression == "zstd" else module.ZIP_DEFLATED
    with module.ZipFile(path, "w", method) as archive:
        archive.writestr("_journal/start.json", "{}")
        for name, sample in samples.items():
            archive.writestr(f"samples/{name}.json", sample if isinstance(sample, bytes) else json.dumps(sample))
        if header:
            archive.writestr("header.json", json.dumps({"version": 2, "status": "success"}))
    return path


@pytest.mark.parametrize("compression", ["zstd", "deflate"])
def test_inspect_archive(tmp_path: Path, compression: str) -> None:
    samples = {"1_epoch_1": inspect_sample(), "1_epoch_2": inspect_sample(epoch=2), "2_epoch_1": b"{"}
    path = write_eval(tmp_path / "log.eval", samples, compression=compression)
    log = read_log(f"inspect:{path}")
    assert [answer.id for answer in log.answers] == ["1", "1#2"]
    assert log.answers[0] == TextAnswer(
        "1",
        "Lima is in Peru.",
        True,
        ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Where is Lima?"}),
        CORRECT,
        "Peru",
    )
    assert log.task.examples[0] == Example("1", "Where is Lima?", ("Peru",))
    (refusal,) = log.refusals
    assert (refusal.location, refusal.reason[:8]) == ("samples/2_epoch_1.json", "damaged:")


def test_inspect_log_in_progress_has_no_header(tmp_path: Path) -> None:
    path = write_eval(tmp_path / "log.eval", {"1_epoch_1": inspect_sample()}, header=False)
    assert [answer.text for answer in read_log(f"inspect:{path}").answers] == ["Lima is in Peru."]


def inspect_json(path: Path, *samples: Any) -> Path:
    path.write_text(json.dumps({"version": 2, "samples": samples}), encoding="utf-8")
    return path


def test_inspect_choices_attachments_and_reasoning(tmp_path: Path) -> None:
    content = [{"type": "reasoning", "reasoning": "A port in Peru."}, {"type": "text", "text": "attachment://h"}]
    answer = {"role": "assistant", "content": content}
    sample = inspect_sample(
        input="attachment://q",
        choices=["Chile", "Peru"],
        target="B",
        messages=[{"role": "user", "content": "attachment://p"}, answer],
        output={"choices": [{"message": answer, "stop_reason": "max_tokens"}]},
        attachments={"h": "ANSWER: B", "q": "Where is Lima?", "p": "Where is Lima?\nA) Chile\nB) Peru"},
        scores={"choice": {"value": "C", "answer": "B"}},
    )
    log = read_log(f"inspect:{inspect_json(tmp_path / 'log.json', sample)}")
    assert log.task.examples == (Example("1", "Where is Lima?", ("Peru",), ("Chile", "Peru")),)
    (result,) = log.answers
    assert (result.text, result.reasoning) == ("ANSWER: B", "A port in Peru.")
    assert result.prompt == ({"role": "user", "content": "Where is Lima?\nA) Chile\nB) Peru"},)
    assert (result.stopped, result.exact_answer) == (False, "B")


TOOL_CALL = {"role": "assistant", "content": "", "tool_calls": [{"id": "1", "function": "f", "arguments": {}}]}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"error": {"message": "CUDA out of memory", "traceback": ""}}, "ended with an error: CUDA out of memory"),
        ({"limit": {"type": "token", "limit": 10}}, "stopped by a limit of Inspect: token"),
        ({"output": {"choices": []}}, "no generated text"),
        (
            {"output": {"choices": [{"message": {"content": "x"}, "stop_reason": "content_filter"}]}},
            "not stopped by the model: content_filter",
        ),
        ({"output": {"choices": [{"message": TOOL_CALL, "stop_reason": "stop"}]}}, "not a conversation in text"),
        (
            {
                "output": {
                    "choices": [{"message": {"content": [{"type": "reasoning", "reasoning": "x", "redacted": True}]}}]
                }
            },
            "encrypted reasoning",
        ),
        ({"messages": [{"role": "tool", "content": "x"}]}, "not a conversation in text"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "image": "x"}]}]}, "not a conversation in text"),
        ({"target": 3}, "unexpected format: target"),
        ({"input": ""}, "no question"),
    ],
)
def test_inspect_refuses_single_samples(tmp_path: Path, fields: dict[str, Any], reason: str) -> None:
    path = inspect_json(tmp_path / "log.json", inspect_sample(), inspect_sample(2, **fields))
    log = read_log(f"inspect:{path}")
    assert [answer.id for answer in log.answers] == ["1"]
    assert log.refusals[0].location == "sample 2"
    assert log.refusals[0].reason.startswith(reason)


def test_inspect_limit_of_tokens(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    for header in ({"plan": {"config": {"max_tokens": 9}}}, {"eval": {"model_generate_config": {"max_tokens": 9}}}):
        path.write_text(json.dumps({**header, "samples": [inspect_sample()]}))
        assert read_log(f"inspect:{path}").answers[0].max_new_tokens == 9


def test_inspect_unknown_stop_reason_is_unknown(tmp_path: Path) -> None:
    output = {"choices": [{"message": {"role": "assistant", "content": "Peru."}, "stop_reason": "unknown"}]}
    log = read_log(f"inspect:{inspect_json(tmp_path / 'log.json', inspect_sample(output=output))}")
    assert log.answers[0].stopped is None
    assert log.notes[1] == "whether 1 answers were cut off is not known: they count as complete"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04 torn", "is not a log of Inspect: the archive is damaged"),
        (b"{", "is not a log of Inspect: it is not valid JSON"),
        (b'{"version": 2}', "is not a log of Inspect: it contains no samples"),
        (b'{"samples": []}', r"none of the 0 answers in .* can be imported: the file is empty"),
        (
            b'{"samples": [1]}',
            r"none of the 1 answers in .* can be imported: unexpected format \(1\); sample 1: unexpected",
        ),
    ],
)
def test_inspect_files_that_are_no_logs(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "log.eval"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_log(f"inspect:{path}")


def test_every_eval_ever_sample(path: Path) -> None:
    attribution = {"turn_idx": 0, "source": "output.raw", "extracted_value": "Peru", "is_terminal": True}
    row = instance(
        answer_attribution=[{**attribution, "extraction_method": "regex"}],
        output={"raw": ["It is Peru."], "reasoning_trace": ["A port."]},
        metadata={"stop_reason": "stop", "epoch": "2"},
        input={"raw": "Where?", "formatted": "<u>Where?<e>", "reference": ["B"], "choices": ["Chile", "Peru"]},
    )
    log = imported("every-eval-ever", path, row)
    assert log.task.examples == (Example("a#2", "Where?", ("Peru",), ("Chile", "Peru")),)
    assert log.answers == [TextAnswer("a#2", "It is Peru.", True, "<u>Where?<e>", CORRECT, "Peru", reasoning="A port.")]


def test_every_eval_ever_conversation(path: Path) -> None:
    messages = [
        {"turn_idx": 0, "role": "user", "content": "Hello"},
        {"turn_idx": 1, "role": "assistant", "content": "Hi"},
        {"turn_idx": 2, "role": "user", "content": "Where is Lima?"},
        {"turn_idx": 3, "role": "assistant", "content": "Peru."},
    ]
    log = imported("every-eval-ever", path, instance(interaction_type="multi_turn", output=None, messages=messages))
    (answer,) = log.answers
    assert answer.text == "Peru."
    assert isinstance(answer.prompt, tuple)
    assert [turn["content"] for turn in answer.prompt] == ["Hello", "Hi", "Where is Lima?"]


def test_every_eval_ever_prompt_that_was_not_logged(path: Path) -> None:
    log = imported("every-eval-ever", path, instance(input={"raw": "Where is Lima?", "reference": ["Peru"]}))
    assert log.answers[0].prompt is None
    assert "the log does not contain 1 of the prompts, which are built from the questions" in log.notes


def test_every_eval_ever_has_one_sample_per_score(path: Path) -> None:
    wrong = {"score": 0.0, "is_correct": False}
    rows = [instance(), instance(evaluation_result_id="other", evaluation=wrong)]
    with pytest.raises(DataError, match="several scores, which differ: accuracy, other"):
        imported("every-eval-ever", path, *rows)
    log = imported("every-eval-ever", path, *rows, select="score=other")
    assert [(a.verdict, log.refusals) for a in log.answers] == [(INCORRECT, [])]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"error": "timeout"}, "ended with an error: timeout"),
        ({"output": {"raw": []}}, "no generated text"),
        (
            {"metadata": {"lm_eval_metrics": "{}", "filter": "strict-match"}},
            "no generated text: only the result of the filter 'strict-match' was converted",
        ),
        (
            {"token_usage": {"input_tokens": 9, "output_tokens": 40, "total_tokens": 49}},
            "no generated text: the text 'It is Peru.' is shorter than 40 tokens",
        ),
        (
            {"input": {"raw": "Where?", "reference": ["Peru"]}, "metadata": {"epoch": "1", "stop_reason": "stop"}},
            "no generated text: only the answer that the scorer of Inspect extracted was converted",
        ),
        (
            {
                "input": {"raw": "Where?", "reference": ["0"], "choices": ["Peru"]},
                "metadata": {"lm_eval_metrics": "{}", "filter": "none"},
            },
            "no generated text: the model chose between given continuations",
        ),
        ({"messages": [], "output": None}, "not a conversation in text"),
        ({"evaluation": {"score": "high", "is_correct": True}}, "unexpected format: evaluation.score"),
    ],
)
def test_every_eval_ever_refuses_single_samples(path: Path, fields: dict[str, Any], reason: str) -> None:
    log = imported("every-eval-ever", path, instance(), instance("b", **fields))
    assert [answer.id for answer in log.answers] == ["a"]
    assert log.refusals[0].reason.startswith(reason)


def test_every_eval_ever_partial_score_is_undecided(path: Path) -> None:
    log = imported(
        "every-eval-ever",
        path,
        instance(evaluation={"score": 0.4, "is_correct": True}),
        instance("b"),
        select="score=accuracy",
    )
    assert [a.verdict and a.verdict.correct for a in log.answers] == [None, True]


def lighteval_file(path: Path, rows: Sequence[Any]) -> Path:
    import pyarrow as pa
    import pyarrow.parquet

    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("mark", ["", "__"])
def test_lighteval_details(tmp_path: Path, mark: str) -> None:
    document = {"id": "7", "query": "Where is Lima?", "choices": [" Peru"], "gold_index": 0, "generation_size": 8}
    response = {"input": "Q: Where is Lima?\nA:", "text": [" Peru"], "logprobs": []}
    path = lighteval_file(
        tmp_path / "details.parquet",
        [{f"{mark}doc{mark}": document, f"{mark}model_response{mark}": response, f"{mark}metric{mark}": {"em": 1.0}}],
    )
    log = read_log(f"lighteval:{path}")
    assert log.task.examples == (Example("7", "Where is Lima?", ("Peru",)),)
    assert log.answers == [TextAnswer("7", " Peru", None, "Q: Where is Lima?\nA:", CORRECT, max_new_tokens=8)]


def test_lighteval_tokens_are_imported_without_padding(tmp_path: Path) -> None:
    document = {"id": "7", "query": "Where is Lima?", "choices": ["Peru"], "gold_index": [0], "generation_size": 8}
    tokens = {"input": None, "input_tokens": [0, 0, 5, 6], "padded_tokens_count": 2, "output_tokens": [[7, 8]]}
    row = {"doc": document, "model_response": {**tokens, "text": [" Peru"]}, "metric": {"em": 1}}
    (answer,) = read_log(f"lighteval:{lighteval_file(tmp_path / 'details.parquet', [row])}").answers
    assert (answer.prompt, answer.prompt_ids, answer.produced_ids) == (None, (5, 6), (7, 8))


@pytest.mark.parametrize(
    ("response", "document", "reason"),
    [
        ({"input": "Q", "text": []}, {}, "no generated text"),
        ({"input": None, "text": ["x"]}, {}, "no prompt: the log does not contain"),
        ({"input": "Q", "text": ["x"]}, {"gold_index": 4}, "unexpected format: gold_index"),
    ],
)
def test_lighteval_refuses_single_rows(
    tmp_path: Path, response: dict[str, Any], document: dict[str, Any], reason: str
) -> None:
    good: dict[str, Any] = {"doc": {"id": "1", "query": "q", "choices": ["a"], "gold_index": 0}, "metric": {"em": 0.0}}
    rows = [
        {**good, "model_response": {"input": "Q", "text": ["b"]}},
        {**good, "doc": {**good["doc"], "id": "2", **document}, "model_response": response},
    ]
    log = read_log(f"lighteval:{lighteval_file(tmp_path / 'details.parquet', rows)}")
    assert [answer.id for answer in log.answers] == ["1"]
    assert log.refusals[0].location == "row 2"
    assert log.refusals[0].reason.startswith(reason)


def test_selections_with_commas_in_names() -> None:
    assert Selection.parse("score=exact_match,none") == Selection(score="exact_match,none")
    assert Selection.parse("filter=a,b, score=c,d") == Selection("a,b", "c,d")


def test_logs_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"unknown format of a log: 'foo'\nhint: the formats are lm-eval, inspect"):
        read_log(f"foo:{tmp_path}")
    with pytest.raises(DataError, match="cannot be read"):
        read_log(f"lm-eval:{'x' * 5000}")


def test_letters_that_are_choices_themselves_are_not_replaced(path: Path) -> None:
    row = instance(input={"raw": "Which?", "formatted": "Which?", "reference": ["A"], "choices": ["B", "A"]})
    assert imported("every-eval-ever", path, row).task.examples[0].answers == ("A",)


def test_deep_prompts_and_long_epochs_are_no_errors(path: Path) -> None:
    row = lm_eval_row(arguments={"gen_args_0": {"arg_0": '[{"a":' * 50_000, "arg_1": {}}})
    assert imported("lm-eval", path, row).answers[0].prompt == '[{"a":' * 50_000
    log = imported("every-eval-ever", path, instance(metadata={"epoch": "1" * 5000}))
    assert [answer.id for answer in log.answers] == ["a"]


@pytest.mark.parametrize("text", ["filter", "filter=", "filter=a,filter=b", "epoch=2", "=x"])
def test_selections_that_cannot_be_parsed(text: str) -> None:
    with pytest.raises(DataError, match="cannot parse the selection"):
        Selection.parse(text)


def test_missing_log(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none.jsonl does not exist or is not a file"):
        read_log(f"lm-eval:{tmp_path / 'none.jsonl'}")


def _unlimited() -> dict[str, Any]:
    return {"arguments": {"gen_args_0": {"arg_0": "Q: Where is Lima?\nA:", "arg_1": {"max_gen_toks": 99}}}}


def test_answers_that_use_up_their_limit_count_as_cut_off(base_folder: Path, path: Path, tmp_path: Path) -> None:
    write_lines(path, lm_eval_row(0, response=" Peru"), lm_eval_row(1, response=" Peru, a country in South America"))
    run = execute(ANSWER, tmp_path / "run", data=f"lm-eval:{path}", model=str(base_folder))
    assert [(len(answer.produced_ids) < 16, answer.stopped) for answer in run.answers] == [(True, True), (False, False)]


def test_run_on_a_log(base_folder: Path, path: Path, tmp_path: Path) -> None:
    rows = [
        lm_eval_row(0, filtered_resps=["Peru"]),
        lm_eval_row(1, response=" Peru or Chile or Peru", filtered_resps=["Peru"], exact_match=0.0, **_unlimited()),
        lm_eval_row(2, resps=[]),
    ]
    write_lines(path, *rows)
    run = execute(ANSWER, tmp_path / "run", data=f"lm-eval:{path}", model=str(base_folder))
    execute(JUDGE, run)
    graded = Run.open(run.path).graded
    assert [answer.prompt for answer in graded.answers] == ["Q: Where is Lima?\nA:"] * 2
    assert [answer.text for answer in graded.answers] == [" It is Peru.", " Peru or Chile or Peru"]
    assert graded.correct == [True, False]
    tokens = [
        "".join(answer.token_texts[: span.start - answer.n_prompt])
        for answer, span in zip(graded.answers, graded.spans, strict=True)
        if span is not None
    ]
    assert [span and span.text for span in graded.spans] == ["Peru", "Peru"]
    assert [text.rstrip() for text in tokens] == [" It is", " Peru or Chile or"]  # the last of two places
    refused = [json.loads(line) for line in (run.path / "refused.jsonl").read_text().splitlines()]
    assert [row["location"] for row in refused] == ["line 3"]


def test_options_that_do_not_apply_to_logs(base_folder: Path, path: Path, tmp_path: Path) -> None:
    source = f"lm-eval:{write_lines(path, lm_eval_row())}"
    with pytest.raises(RunError, match="the answers come from a log\nhint: omit --answers"):
        execute(ANSWER, tmp_path / "a", data=source, model=str(base_folder), answers=str(path))
    with pytest.raises(RunError, match="--select applies only to a log"):
        execute(ANSWER, tmp_path / "b", data="cities", model=str(base_folder), select="score=em")


def mutations(rng: random.Random, content: bytes) -> bytes:
    """Return a log in which bytes were changed, removed, repeated or inserted, or JSON values were replaced."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at, length = rng.randrange(len(data)), rng.randint(1, 40)
        kind = rng.randrange(5)
        if kind == 0:
            data[at] = rng.randrange(256)
        elif kind == 1:
            del data[at : at + length]
        elif kind == 2:
            data[at:at] = data[at : at + length]
        elif kind == 3:
            data[at:at] = rng.choice([b"null", b"[]", b'"', b"{}", b"1e999", b"NaN", b"\xff", b"\\ud800", b"-1", b"\n"])
        else:
            value = rng.choice([b"null", b"[[]]", b'{"a": null}', b'""', b"-7", b"NaN", b"true", b'"\\u0000"'])
            colon = data.find(b": ", at)
            end = min((i for i in (data.find(mark, colon + 2) for mark in (b", ", b"}", b"]")) if i > 0), default=-1)
            if 0 <= colon < end:
                data[colon + 2 : end] = value
        data = data or bytearray(b"{")
    return bytes(data)


def assert_read_or_refused(source: str) -> None:
    """Assert that a log is read, or refused in words, and that each of its samples is accounted for."""
    try:
        log = read_log(source, Selection(score="none"))
    except DataError as error:
        assert error.problem
        assert error.hint
        return
    assert len(log.answers) == len(log.task.examples)
    assert [answer.id for answer in log.answers] == [example.id for example in log.task.examples]
    n_samples = int(log.notes[0].split(" answers")[0].rsplit(" ", 1)[1])
    n_others = sum(int(note.split(" ")[0]) for note in log.notes if "other filters" in note)
    assert n_samples == len(log.answers) + len(log.refusals) + n_others
    for answer, example in zip(log.answers, log.task.examples, strict=True):
        assert isinstance(answer.text, str)
        assert example.question.strip()
        assert answer.prompt is None or answer.prompt


@pytest.mark.parametrize("format_", ["lm-eval", "inspect", "lighteval", "every-eval-ever"])
def test_damaged_logs_are_refused_in_words(format_: str, tmp_path: Path) -> None:
    rng = random.Random(1)
    path = tmp_path / "log"
    if format_ == "lm-eval":
        content = write_lines(path, *[lm_eval_row(i) for i in range(4)]).read_bytes()
    elif format_ == "every-eval-ever":
        content = write_lines(path, *[instance(str(i)) for i in range(4)]).read_bytes()
    elif format_ == "inspect":
        content = inspect_json(path, *[inspect_sample(i) for i in range(4)]).read_bytes()
    else:
        document = {"id": "7", "query": "Where is Lima?", "choices": ["Peru"], "gold_index": 0}
        response = {"input": "Q: Where is Lima?\nA:", "text": ["Peru"]}
        path = tmp_path / "log.parquet"
        content = lighteval_file(
            path, [{"doc": document, "model_response": response, "metric": {"em": 1.0}}]
        ).read_bytes()
    for _ in range(500):
        path.write_bytes(mutations(rng, content))
        assert_read_or_refused(f"{format_}:{path}")


def test_damaged_archives_are_refused_in_words(tmp_path: Path) -> None:
    rng = random.Random(2)
    path = tmp_path / "log.eval"
    content = write_eval(path, {f"{i}_epoch_1": inspect_sample(i) for i in range(4)}).read_bytes()
    for _ in range(500):
        path.write_bytes(mutations(rng, content))
        assert_read_or_refused(f"inspect:{path}")


def test_answers_that_do_not_fit_the_model_are_refused_by_row(base_folder: Path, path: Path, tmp_path: Path) -> None:
    rows = [lm_eval_row(0), lm_eval_row(1, response=" a▁b"), lm_eval_row(2, response=" x" * 600), lm_eval_row(3)]
    write_lines(path, *rows)
    messages: list[str] = []
    run = execute(
        ANSWER,
        tmp_path / "run",
        Context(logger=Logger(messages.append)),
        data=f"lm-eval:{path}",
        model=str(base_folder),
    )
    assert run.answers.ids == [example.id for example in run.task.examples] == ["0", "3"]
    refused = [json.loads(line) for line in (run.path / "refused.jsonl").read_text().splitlines()]
    assert [row["location"] for row in refused] == ["id 1", "id 2"]
    assert "does not reproduce the text of '1'" in refused[0]["reason"]
    assert "exceed the context window" in refused[1]["reason"]
    assert any("2 answers do not fit the model" in message for message in messages)
    write_lines(path, lm_eval_row(1, response=" a▁b"))
    with pytest.raises(DataError, match="does not reproduce the text"):
        execute(ANSWER, tmp_path / "other", data=f"lm-eval:{path}", model=str(base_folder))
