"""Verdicts as text: reasons, evidence, and examples of each rule."""

from dataclasses import replace
from io import StringIO

from conftest import make_answer
from rich.console import Console

from probemap.grading.rules import grade
from probemap.records import Answer, Example, Judgement, Span, Task, Verdict
from probemap.views.verdicts import explain_verdicts, undecided_reasons, verdict_text, without_exact_answer

CITIES = (("lima", "Peru"), ("oslo", "Norway"), ("rome", "Italy"), ("bonn", "Germany"), ("kiev", "Ukraine"))
TEXTS = ("It is in Peru.", "It is in Sweden.", "It is not in Italy.", "I don't know.", "In [b] \x1b[31m Ukraine.")
TASK = Task("t", tuple(Example(i, f"Where is {i.title()}?", (gold,)) for i, gold in CITIES), "open")
ANSWERS = [make_answer(text, list(text), ["?"], id_=id_) for (id_, _), text in zip(CITIES, TEXTS, strict=True)]
JUDGEMENTS = [Judgement(a.id, v, None, "none") for a, v in zip(ANSWERS, grade(TASK, ANSWERS), strict=True)]


def evidence(answer: Answer, verdict: Verdict) -> str | None:
    return None if verdict.evidence is None else answer.final.text[slice(*verdict.evidence)]


def test_verdicts_carry_their_evidence() -> None:
    found = [(j.verdict.correct, evidence(a, j.verdict)) for a, j in zip(ANSWERS, JUDGEMENTS, strict=True)]
    assert found == [(True, "Peru"), (False, None), (False, "Italy"), (None, "I don't know"), (True, "Ukraine")]


def test_explain_verdicts_lists_each_rule_with_examples() -> None:
    console = Console(width=200, color_system=None, record=True, file=StringIO())
    console.print(explain_verdicts(TASK.examples, ANSWERS, JUDGEMENTS, n=1), markup=False, soft_wrap=True)
    lines = [line.rstrip() for line in console.export_text().split("\n") if line.strip()]
    assert lines[:2] == [
        "correct: names an accepted answer (accepted answer asserted), 2 answers",
        "  lima  Where is Lima? → It is in Peru.  [Peru]",
    ]
    assert "undecided: refusal (declines to answer), 1 answers" in lines
    assert len(lines) == 8, "one example per rule"
    assert "\x1b" not in "".join(lines)


def test_verdict_text_and_counts() -> None:
    assert verdict_text(JUDGEMENTS[0].verdict, ANSWERS[0]) == (
        'correct: names an accepted answer (accepted answer asserted: "Peru")'
    )
    assert verdict_text(Verdict(None, ""), ANSWERS[0]) == "undecided"
    assert undecided_reasons(JUDGEMENTS) == {"refusal": 1}
    located = [replace(JUDGEMENTS[0], span=Span(1, 2, "Peru"), no_span=""), *JUDGEMENTS[1:]]
    assert without_exact_answer(located) == {"none (1 of 2 correct, 2 of 2 incorrect)": 3}
