"""A language model as judge: its prompts, what is read from its replies, its budget, and its agreement with rules."""

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import make_answer
from fake_endpoint import FakeEndpoint, chat_reply, error_reply
from hypothesis import given
from hypothesis import strategies as st
from running import execute

import probemap
from probemap.grading.llm import grading_task
from probemap.grading.llm_budget import TokenBudget
from probemap.grading.llm_prompts import RESPONSE_FORMATS, extraction_task
from probemap.grading.llm_replies import find_quotes, parse_exact_answer, parse_verdict
from probemap.logger import Logger
from probemap.models import connection
from probemap.models.endpoint import Endpoint
from probemap.models.prompts import fill_template
from probemap.records import Example, ModelError, RunError, Task
from probemap.runs.agreement import Agreement, Pair, agreement, cohen_kappa
from probemap.runs.definitions import ANSWER, JUDGE
from probemap.runs.plan import Context
from probemap.runs.run import Run
from probemap.runs.steps.report import _judge

TEXT = "It was Jane Austen, in 1815."

# --- prompts ---


@pytest.mark.parametrize("strict", [False, True])
@given(st.text())
def test_an_answer_cannot_leave_its_marks(strict: bool, text: str) -> None:
    answer = make_answer(text, [text], ["?"])
    task = grading_task([Example("a", "Who?", ("Ann",))], [answer], strict=strict)
    if not text.strip():
        assert task.examples == ()
        return
    asked = fill_template(task.prompt, task.examples[0])
    template = fill_template(task.prompt, Example("a", "", ("",)))
    assert asked.count("<<<") == template.count("<<<")
    assert asked.count(">>>") == template.count(">>>")
    assert asked.count("\n") == template.count("\n")


def test_strict_prompts_contain_the_options_and_only_grading_contains_the_accepted_answers() -> None:
    question = Example("a", "Who wrote it?", ("Jane {x} Austen", "Austen, J."), choices=("Brontë", "Austen"))
    answer = make_answer("B, I think.", ["B, I think."], ["?"])
    (grading,) = (grading_task([question], [answer], strict=True),)
    end = fill_template(grading.prompt, grading.examples[0]).rpartition("\nQuestion: ")[2]
    assert end == (
        "Who wrote it?\nA) Brontë\nB) Austen\n"
        'Accepted answers: "Jane {x} Austen", "Austen, J."\nAnswer to grade: <<<B, I think.>>>'
    )
    extraction = extraction_task([question], [answer])
    asked = fill_template(extraction.prompt, extraction.examples[0])
    assert asked.endswith("\nQuestion: Who wrote it?\nA) Brontë\nB) Austen\nText: <<<B, I think.>>>")
    assert "Jane" not in asked


def test_a_cut_off_answer_is_graded_by_its_complete_sentences() -> None:
    example = Example("a", "Who?", ("Ann",))
    cut = [make_answer(text, [text], ["?"], stopped=False) for text in ("It is Ann. She", "It is")]
    task = grading_task([example] * 2, cut)
    assert [e.context for e in task.examples] == ["It is Ann."]


def test_response_formats_are_strict() -> None:
    for name, fields in {"verdicts": ["quote", "grade"], "exact answers": ["sentence", "exact_answer"]}.items():
        schema = RESPONSE_FORMATS[name]["json_schema"]
        assert schema["strict"] is True
        assert schema["schema"]["required"] == list(schema["schema"]["properties"]) == fields
        assert schema["schema"]["additionalProperties"] is False


# --- replies ---


@pytest.mark.parametrize(
    ("response", "correct", "evidence"),
    [
        ('{"quote": "Jane Austen", "grade": "CORRECT"}', True, "Jane Austen"),
        ('{"grade": "Incorrect", "quote": "in 1815"}', False, "in 1815"),
        ('```json\n{"quote": "jane\\n**AUSTEN**", "grade": "CORRECT"}\n```', True, "Jane Austen"),
        ('Sure: {"quote": "", "grade": "CORRECT"} Bye.', True, None),
        ('{"quote": "", "grade": "NOT_ATTEMPTED"}', None, None),
        ('{"quote": "Bronte", "grade": "not attempted"}', None, None),
        ('{"quote": 7, "grade": "INCORRECT"}', False, None),
        ("CORRECT", True, None),
        ("**NOT_ATTEMPTED**", None, None),
        ("Grade: INCORRECT", False, None),
        ("The text names an accepted answer, so: yes.", True, None),
        ("Reply: yes", True, None),
        ("The answer is yes", True, None),
        (" Yes, it is.", True, None),
        ("**No**", False, None),
        ("no.", False, None),
        ("Correct.", True, None),
    ],
)
def test_parse_verdict_reads_json_and_words(response: str, correct: bool | None, evidence: str | None) -> None:
    verdict = parse_verdict(response, TEXT)
    reasons = {True: "the judge says correct", False: "the judge says incorrect", None: "the judge says not attempted"}
    assert (verdict.correct, verdict.reason) == (correct, reasons[correct])
    assert (verdict.evidence and TEXT[slice(*verdict.evidence)]) == evidence
    assert (verdict.rule != "") is (evidence is not None)


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ("", "the judge gives no reply"),
        (" \n", "the judge gives no reply"),
        ("Nobody knows", "the judge's reply is not a verdict"),
        ("yesterday", "the judge's reply is not a verdict"),
        ("Correct answers are rare", "the judge's reply is not a verdict"),
        ("That is not correct.", "the judge's reply is not a verdict"),
        ("Yes. Or rather: no", "the judge's reply is not a verdict"),
        ('{"quote": "Jane Austen", "grade": "COR', "the judge's reply is not a verdict"),
        ('{"quote": "Jane Austen", "grade": "MAYBE"}', "the judge's reply is not a verdict"),
        ('{"quote": "Jane Austen", "grade": null}', "the judge's reply is not a verdict"),
        ('{"verdict": "CORRECT"}', "the judge's reply is not a verdict"),
        ('{"quote": "Emily Brontë", "grade": "INCORRECT"}', "the judge quotes words that the answer does not contain"),
        ('{"quote": "Jan", "grade": "CORRECT"}', "the judge quotes words that the answer does not contain"),
    ],
)
def test_any_other_reply_is_undecided_with_its_own_reason(response: str, reason: str) -> None:
    verdict = parse_verdict(response, TEXT)
    assert (verdict.correct, verdict.reason, verdict.evidence) == (None, reason, None)


@given(st.text() | st.text().map(lambda quote: json.dumps({"quote": quote, "grade": "CORRECT"})), st.text())
def test_evidence_is_always_a_range_of_the_text(response: str, text: str) -> None:
    verdict = parse_verdict(response, text)
    if verdict.evidence is not None:
        start, stop = verdict.evidence
        assert 0 <= start < stop <= len(text)
    exact = parse_exact_answer(response, text)
    assert exact is None or 0 <= exact[0] < exact[1] <= len(text)


@pytest.mark.parametrize(
    ("text", "quote", "places"),
    [
        ("It is Rome. Rome!", "rome", ["Rome", "Rome"]),
        ("中国的首都是北京。", "北京", ["北京"]),
        ("It was Łódź.", "Lodz", ["Łódź"]),
        ("It is -5 or 5.", "-5", ["-5", "5"]),
        ("1,500 men", "1500", ["1,500"]),
        ("x = y", "=", ["="]),
        ("Romeo", "Rome", []),
        ("Rome", "", []),
    ],
)
def test_find_quotes(text: str, quote: str, places: list[str]) -> None:
    assert [text[start:stop] for start, stop in find_quotes(text, quote)] == places


@pytest.mark.parametrize(
    ("response", "place"),
    [
        ('{"sentence": "It is Rome.", "exact_answer": "Rome"}', (26, 30)),
        ('{"sentence": "", "exact_answer": "Rome"}', (6, 10)),
        ('{"sentence": "It must be Rome.", "exact_answer": "Rome"}', None),
        ('{"sentence": "It must be Bari.", "exact_answer": "Bari"}', (14, 18)),
        ('{"sentence": "It is Rome.", "exact_answer": "Roma"}', None),
        ('{"sentence": "It is Rome.", "exact_answer": ""}', None),
        ('{"exact_answer": null}', None),
        ("Rome.", (6, 10)),
        ("None", None),
        ("", None),
    ],
)
def test_an_exact_answer_has_to_occur_in_the_sentence(response: str, place: tuple[int, int] | None) -> None:
    assert parse_exact_answer(response, "Is it Rome or Bari? It is Rome.") == place


# --- a server without a schema ---


def test_a_judge_without_structured_output_replies_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def respond(path: str, body: Any) -> Any:
        if "response_format" in body:
            return error_reply(400, "response_format is not supported")
        return chat_reply("CORRECT" if "Accepted answers" in body["messages"][0]["content"] else "Rome")

    server = FakeEndpoint(monkeypatch, respond)
    task = Task("t", (Example("a", "Which city?", ("Rome",)),), "open")
    answer = make_answer("It is Rome.", ["It is", " Rome", "."], ["?"], id_="a")
    judge = Endpoint("http://x/v1")
    (verdict,) = probemap.grade(task, [answer], grader=probemap.llm_grader(judge, task, [answer]))
    (span,) = probemap.locate(task, [answer], locator=probemap.llm_locator(judge, task, [answer]))
    assert (verdict.correct, verdict.evidence) == (True, None)
    assert span is not None
    assert span.text == "Rome"
    assert [body.get("response_format", {}).get("type") for body in server.requests[:3]] == [
        "json_schema",
        "json_object",
        None,
    ]


# --- budget ---


def test_token_budget_counts_reserved_and_used_tokens() -> None:
    budget = TokenBudget(100)
    assert [budget.reserve(40), budget.reserve(40), budget.reserve(40)] == [40, 40, None]
    budget.settle(40, 10)
    assert (budget.used, budget.is_exhausted, budget.reserve(50), budget.reserve(1)) == (10, True, 50, None)
    budget.settle(40, 20)
    assert budget.reserve(1) == 15, "the mean of the completed requests"
    assert TokenBudget().reserve(10**12) == 10**12


@pytest.fixture
def run(chat_folder: Path, tmp_path: Path) -> Run:
    """Six answers to open questions."""
    (tmp_path / "q.jsonl").write_text(
        "".join(json.dumps({"id": f"q{i}", "question": f"Who is {i}?", "answers": ["Ann"]}) + "\n" for i in range(6))
    )
    (tmp_path / "a.jsonl").write_text(
        "".join(json.dumps({"id": f"q{i}", "text": "It is Ann."}) + "\n" for i in range(6))
    )
    given: dict[str, Any] = {"answers": str(tmp_path / "a.jsonl")}
    return execute(ANSWER, tmp_path / "run", data=tmp_path / "q.jsonl", model=chat_folder, **given)


OPTIONS: dict[str, Any] = {"judge": "model", "locator": "none", "endpoint": "http://x/v1", "in_flight": 1}


def test_a_judge_stops_at_its_budget_and_continues(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = {"prompt_tokens": 1000, "completion_tokens": 500}
    reply = json.dumps({"quote": "Ann", "grade": "CORRECT"})
    server = FakeEndpoint(monkeypatch, lambda path, body: chat_reply(reply, usage=usage))
    messages: list[str] = []
    context = Context(logger=Logger(messages.append))
    with pytest.raises(RunError) as caught:
        execute(JUDGE, run, context, **OPTIONS, judge_budget=3500)
    assert caught.value.problem == (
        "the budget of 3500 tokens does not allow another request: 3000 tokens were used, and 2 of 6 verdicts are "
        "stored"
    )
    assert caught.value.hint.startswith("repeat the command, which continues where it stopped; a higher --judge-budget")
    assert len(server.requests) == len(run.read_judge_responses()) == 2
    execute(JUDGE, run, context, **OPTIONS, judge_budget=20_000)
    assert len(server.requests) == 6
    assert messages[0] == "requesting verdicts from only at http://x/v1: 6 requests, about 4400 tokens"
    assert messages[1].startswith("requesting verdicts from only at http://x/v1: 4 requests, about 2900 tokens (2 resp")
    assert [j.verdict.correct for j in run.read_judgements()] == [True] * 6
    assert [j.verdict.evidence for j in run.read_judgements()] == [(6, 9)] * 6
    execute(JUDGE, run, redo=True, **OPTIONS, judge_budget=1)
    assert len(server.requests) == 6, "stored responses cost nothing"


def test_a_changed_prompt_is_asked_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    server = FakeEndpoint(monkeypatch, lambda path, body: chat_reply('{"quote": "Ann", "grade": "CORRECT"}'))
    execute(JUDGE, run, **OPTIONS)
    from probemap.grading import llm_prompts

    strict = llm_prompts._STRICT_GRADING
    monkeypatch.setattr(llm_prompts, "_STRICT_GRADING", replace(strict, prompt=strict.prompt + " "))
    execute(JUDGE, run, redo=True, **OPTIONS)
    assert len(server.requests) == 12
    assert len(run.read_judge_responses()) == 12


def test_responses_in_flight_during_a_failure_are_stored(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "RETRIES", 0)
    started = threading.Barrier(6)

    def respond(path: str, body: Any) -> Any:
        started.wait(20)
        fails = "Who is 1?" in body["messages"][0]["content"]
        return error_reply(500, "no") if fails else chat_reply('{"quote": "Ann", "grade": "CORRECT"}')

    FakeEndpoint(monkeypatch, respond)
    with pytest.raises(ModelError, match="Error code: 500"):
        execute(JUDGE, run, **OPTIONS | {"in_flight": 6})
    assert len(run.read_judge_responses()) == 5


def test_responses_before_a_failure_are_stored(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "RETRIES", 0)
    reply = chat_reply('{"quote": "Ann", "grade": "CORRECT"}')
    server = FakeEndpoint(monkeypatch, lambda path, body: reply if len(server.requests) < 4 else error_reply(500, "no"))
    with pytest.raises(ModelError, match="Error code: 500"):
        execute(JUDGE, run, **OPTIONS)
    assert len(run.read_judge_responses()) == 3


def test_a_budget_without_a_server_is_refused(run: Run) -> None:
    with pytest.raises(RunError, match="--judge-budget is given, but the judge is a local model"):
        execute(JUDGE, run, judge="model", locator="none", judge_budget=100)


# --- agreement ---


def test_agreement_of_a_table_computed_by_hand() -> None:
    """Ten answers; p_o = 0.7, p_e = 0.5·0.4 + 0.4·0.5 + 0.1·0.1 = 0.41, kappa = 0.29 / 0.59."""
    pairs: list[Pair] = [*[(True, True)] * 4, (True, False), *[(False, False)] * 3, (False, None), (None, False)]
    result = agreement(pairs)
    assert (result.n, result.n_same, result.n_decided, result.n_decided_same) == (10, 7, 8, 7)
    assert result.kappa == pytest.approx(0.29 / 0.59)
    # Variance, with q = 1 - kappa = 0.30 / 0.59; the diagonal, the cells off the diagonal, and the last term:
    q = 0.30 / 0.59
    diagonal = 0.4 * (1 - 0.9 * q) ** 2 + 0.3 * (1 - 0.9 * q) ** 2
    others = q**2 * 0.1 * ((0.4 + 0.4) ** 2 + (0.5 + 0.1) ** 2 + (0.1 + 0.4) ** 2)
    error = ((diagonal + others - (0.29 / 0.59 - 0.41 * q) ** 2) / (10 * 0.59**2)) ** 0.5
    assert result.interval == pytest.approx((0.29 / 0.59 - 1.959964 * error, 0.29 / 0.59 + 1.959964 * error), abs=1e-6)


def test_cohen_kappa_of_a_published_example() -> None:
    """Fleiss, Levin and Paik (2003), table 18.1: kappa 0.68; the interval is that of statsmodels 0.14."""
    kappa, interval = cohen_kappa([[75, 1, 4], [5, 4, 1], [0, 0, 10]])
    assert kappa == pytest.approx(0.676470588)
    assert interval == pytest.approx((0.504575958, 0.848365218))


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([], Agreement()),
        ([(True, True)] * 3, Agreement(n=3, n_same=3, n_decided=3, n_decided_same=3)),
        ([(None, None)], Agreement(n=1, n_same=1)),
        ([(True, True), (None, None)], Agreement(n=2, n_same=2, n_decided=1, n_decided_same=1, kappa=1.0)),
    ],
)
def test_agreement_without_an_interval(pairs: Any, expected: Agreement) -> None:
    assert agreement(pairs) == expected


@pytest.mark.parametrize(
    ("pairs", "is_chance"),
    [
        ([(True, True), (False, True)] * 20, True),  # the second grader always says correct
        ([(True, True), (True, False), (False, True), (False, False)] * 10, True),
        ([(True, True), (True, False), (False, True), (False, False)] * 7, False),  # too few answers
        ([(True, True), (False, False)] * 20, False),
        ([(True, True), (False, False)] * 15 + [(True, False), (False, True)] * 5, False),
        ([(True, True)] * 40, False),
    ],
)
def test_agreement_by_chance_is_detected(pairs: Any, is_chance: bool) -> None:
    assert agreement(pairs).is_chance is is_chance


def test_a_judge_that_agrees_by_chance_is_reported(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probemap.runs.agreement._MIN_ANSWERS", 6)
    answers = list(run.answers)
    assert [grade.correct for grade in probemap.grade(run.task, answers)] == [True] * 6
    FakeEndpoint(monkeypatch, lambda path, body: chat_reply("INCORRECT"))
    messages: list[str] = []
    execute(JUDGE, run, Context(logger=Logger(messages.append)), **OPTIONS)
    assert messages[1].endswith("agree on 0 of 6 verdicts, Cohen's kappa 0.00; on 0 of 6 that both decide")
    assert messages[2].startswith(
        "only at http://x/v1 and the rules agree no better than by chance: the verdicts of one"
    )


def test_agreement_is_recorded_and_shown_in_the_report(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def respond(path: str, body: Any) -> Any:
        is_first = "Who is 0?" in body["messages"][0]["content"]
        return chat_reply(json.dumps({"quote": "Ann", "grade": "INCORRECT" if is_first else "CORRECT"}))

    FakeEndpoint(monkeypatch, respond)
    execute(JUDGE, run, **OPTIONS)
    recorded = run.record(JUDGE).facts.agreement
    assert recorded == Agreement(n=6, n_same=5, n_decided=6, n_decided_same=5, kappa=0.0, interval=None)
    assert _judge(run) == (
        "only at http://x/v1; this model and the rules agree on 5 of 6 verdicts, Cohen's kappa 0.00; "
        "on 5 of 6 that both decide"
    )
