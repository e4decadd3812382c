"""The audit on run directories: draws, labels, the questionnaire, the result, and what makes it out of date."""

import json
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from running import execute
from scipy.stats import beta
from synthetic import from_scores
from test_report import content
from typer.testing import CliRunner

from probemap.cli import questionnaire
from probemap.cli.main import app
from probemap.logger import Logger
from probemap.records import AuditRow, DataError, ProbemapError, RunError, Verdict
from probemap.runs.audit_files import read_rows, write_label, write_rows
from probemap.runs.definitions import AUDIT, MAP
from probemap.runs.plan import Context
from probemap.runs.run import Run
from probemap.runs.steps.report import report
from probemap.runs.study_files import audit_summary
from probemap.studies.audit import AuditedAnswers, audit_table
from probemap.studies.label_errors import audit_labels

SECRET = re.compile(r"verdict|weight|stratum|names an accepted answer|names another answer")


@pytest.fixture
def run(mapped: Path, tmp_path: Path) -> Run:
    """80 answers, of which the odd ones are incorrect."""
    return Run.open(shutil.copytree(mapped, tmp_path / "RUN"))


def said(*words: Any, given: str | None = None) -> tuple[str, str]:
    """Return (stdout, stderr) of a command, with every space and line break as one space."""
    call = CliRunner().invoke(app, [str(word) for word in words], input=given, env={"COLUMNS": "200"})
    assert call.exit_code == 0, call.output
    return call.stdout, call.stderr


def refused(*words: Any) -> str:
    call = CliRunner().invoke(app, [str(word) for word in words])
    assert isinstance(call.exception, ProbemapError), call.output
    return str(call.exception)


def truth(row: AuditRow) -> bool:
    """Return whether an answer is correct, as a person would see it."""
    return f"The answer is {row.accepted[0]}." in row.answer


def label(run: Run, wrong: Sequence[int] = (), unclear: Sequence[int] = ()) -> None:
    """Label all drawn answers; labels of the rows `wrong` contradict the verdicts."""
    rows = read_rows(run)
    labels = [truth(row) != (number in wrong) for number, row in enumerate(rows)]
    write_rows(
        run,
        [
            replace(row, correct="cannot tell" if number in unclear else labels[number])
            for number, row in enumerate(rows)
        ],
    )


# --- draws ---


def test_audit_draws_answers_without_their_verdicts(run: Run) -> None:
    stdout, stderr = said("audit", run.path, "--n", 20)
    path = run.path / "audit.jsonl"
    assert stdout == ""
    assert f"20 answers drawn for an audit, see {path}" in stderr
    assert "20 of 20 answers have no label yet" in stderr
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert len({row["id"] for row in rows}) == 20
    task = {example.id: example for example in run.task.examples}
    answers = {answer.id: answer.text for answer in run.answers}
    for row in rows:
        assert list(row) == ["id", "question", "context", "choices", "accepted", "answer", "correct", "note"]
        example = task[row["id"]]
        assert (row["question"], row["accepted"]) == (example.question, list(example.answers))
        assert (row["answer"], row["correct"], row["note"]) == (answers[row["id"]], None, "")
    assert not SECRET.search(path.read_text())
    draw = json.loads((run.path / "audit_draw.json").read_text())
    assert [(s["correct"], s["answers"], s["drawn"]) for s in draw["strata"]] == [(True, 40, 10), (False, 40, 10)]
    assert draw["ids"] == [row["id"] for row in rows]
    kinds = [int(row["id"][1:]) % 2 for row in rows]
    assert kinds != sorted(kinds) != kinds[::-1]  # the order does not reveal the verdicts
    assert not run.is_done(AUDIT)
    assert not (run.path / "audit.json").exists()


def test_audit_extends_a_draw_and_keeps_the_labels(run: Run) -> None:
    said("audit", run.path, "--n", 12, "--seed", 5)
    label(run, unclear=[3])
    before = read_rows(run)
    _, stderr = said("audit", run.path, "--n", 30)
    rows = read_rows(run)
    assert rows[:12] == before
    assert len(rows) == 30
    assert {row.correct for row in rows[12:]} == {None}
    assert "18 answers added to" in stderr
    assert "18 of 30 answers have no label yet" in stderr
    for options in ([], ["--n", 20], ["--seed", 5]):
        said("audit", run.path, *options)
        assert read_rows(run) == rows
    assert f"answers in {run.path / 'audit.jsonl'} were drawn with seed 5, not 0" in refused(
        "audit", run.path, "--seed", 0
    )


def test_audit_draws_the_same_answers_again(run: Run, tmp_path: Path) -> None:
    again = Run.open(shutil.copytree(run.path, tmp_path / "AGAIN"))
    for copy in (run, again):
        said("audit", copy.path, "--n", 15)
    assert (run.path / "audit.jsonl").read_bytes() == (again.path / "audit.jsonl").read_bytes()
    (again.path / "audit.jsonl").unlink()  # as if the command had been killed between the two files
    said("audit", again.path)
    assert (run.path / "audit.jsonl").read_bytes() == (again.path / "audit.jsonl").read_bytes()


def test_audit_needs_decided_answers_and_enough_draws(run: Run) -> None:
    assert "1 answers are too few for an audit of 2 combinations" in refused("audit", run.path, "--n", 1)
    run.write_judgements([replace(j, verdict=Verdict(None, "refusal")) for j in run.read_judgements()])
    with pytest.raises(DataError, match="none of 80 answers is decided"):
        execute(AUDIT, run)
    assert not (run.path / "audit.jsonl").exists()


# --- the file ---


def edited(run: Run, old: str, new: str, count: int = 1) -> str:
    path = run.path / "audit.jsonl"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, count))
    return refused("audit", run.path)


def test_audit_refuses_an_edited_file(run: Run) -> None:
    said("audit", run.path, "--n", 10)
    path = run.path / "audit.jsonl"
    original = path.read_text()
    first = original.splitlines(keepends=True)[0]
    name = json.loads(first)["id"]
    cases = [
        ('"correct": null', '"correct": "perhaps"', "line 1: the label 'correct' is 'perhaps'\nhint: enter true"),
        ('"correct": null', '"correct": 7', f"{path}, line 1: the label 'correct' is 7"),
        (first, "{\n", f"{path}, line 1 is damaged"),
        (first, first + first, f"{path} contains the answer {name!r} 2 times"),
        (f'"id": "{name}"', '"id": "q999"', f"{path} contains 'q999', which was not drawn"),
        ("The answer is", "My answer is", f"the answer to {name!r} is not the one that is now in the run"),
    ]  # fmt: skip
    for old, new, message in cases:
        assert message in edited(run, old, new)
        path.write_text(original)
    # A row that was removed is added again, and an empty line is ignored.
    path.write_text(original.replace(first, "\n"))
    said("audit", run.path)
    assert [row.id for row in read_rows(run)][-1] == name
    assert len(read_rows(run)) == 10
    (run.path / "audit_draw.json").unlink()
    assert "audit_draw.json, which records how its answers were drawn, does not" in refused("audit", run.path)
    (run.path / "audit_draw.json").write_text("{}")
    assert "audit_draw.json is damaged: seed: Field required" in refused("audit", run.path)


def test_audit_reads_labels_as_a_person_writes_them(run: Run) -> None:
    said("audit", run.path, "--n", 5)
    path = run.path / "audit.jsonl"
    lines = path.read_text().splitlines()
    labels = ["true", '"false"', '"cannot tell"', '"True"', "null"]
    path.write_text("".join(line.replace("null", text) + "\n" for line, text in zip(lines, labels, strict=True)))
    assert [row.correct for row in read_rows(run)] == [True, False, "cannot tell", True, None]


# --- the questionnaire ---


def test_questionnaire_saves_after_each_answer_and_resumes(run: Run) -> None:
    stdout, stderr = said("audit", run.path, "--n", 8, "--ask", given="c\nx\n\nb\ni\nu\nq\n")
    rows = read_rows(run)
    # The first label was corrected; "x" and an empty line are no labels.
    assert [row.correct for row in rows] == [False, "cannot tell", *[None] * 6]
    assert "answer 1 of 8" in stdout
    assert f"question {rows[0].question}" in stdout
    assert f"answer   {rows[0].answer}" in stdout
    assert "accepted" in stdout
    assert "labelled as: correct" in stdout
    assert stdout.count("unknown key") == 2
    assert "2 of 8 answers are labelled" in stdout
    assert "6 of 8 answers have no label yet" in stderr
    questions, result = stdout.split("are labelled")
    assert not SECRET.search(questions)
    assert "A person labelled 2 of 8 drawn answers, 1 of them as not decidable." in result
    stdout, _ = said("audit", run.path, "--ask", given="c\nc\n")  # the input ends
    assert stdout.startswith("\nanswer 3 of 8")
    assert [row.correct for row in read_rows(run)] == [False, "cannot tell", True, True, *[None] * 4]
    stdout, stderr = said("audit", run.path, "--ask", given="i\ni\ni\ni\nc\n")
    assert "8 of 8 answers are labelled" in stdout
    assert "no label yet" not in stderr
    assert said("audit", run.path, "--ask", given="")[0].startswith("\n8 of 8 answers are labelled")


def test_questionnaire_reads_keys_from_a_terminal(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    said("audit", run.path, "--n", 3)
    keys = iter("Ci\x1bq")
    monkeypatch.setattr("click.getchar", lambda: next(keys))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    rows = read_rows(run)
    saved: list[AuditRow] = []
    console = Console(record=True, width=200)
    questionnaire.ask_labels(list(rows), saved.append, console)
    assert [(row.id, row.correct) for row in saved] == [(rows[0].id, True), (rows[1].id, False)]
    assert "unknown key '\\x1b'" in console.export_text()


def test_a_label_is_saved_without_changing_other_labels(run: Run) -> None:
    said("audit", run.path, "--n", 3)
    first, second, third = read_rows(run)
    write_label(run, replace(second, correct=False))
    write_label(run, replace(third, correct="cannot tell"))
    assert [row.correct for row in read_rows(run)] == [first.correct, False, "cannot tell"]


def test_questionnaire_escapes_control_characters() -> None:
    evil = "\x1b[31m[bold]red[/bold]\u202e\nsecond line"
    row = AuditRow(id="a", question=evil, context=evil, choices=(evil,), accepted=(evil,), answer=evil)
    console = Console(record=True, width=200)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.stdin, "readline", lambda: "", raising=False)
        questionnaire.ask_labels([row], lambda rows: None, console)
    text = console.export_text()
    assert text.count("\\x1b[31m[bold]red[/bold]\\u202e") == 5
    assert text.count("\n         second line") == 5
    assert "\x1b" not in text


# --- the result ---


def test_audit_reports_error_rates_and_the_corrected_auc(run: Run) -> None:
    said("audit", run.path, "--n", 60)
    rows = read_rows(run)
    wrong = [number for number, row in enumerate(rows) if truth(row)][:1]
    wrong += [number for number, row in enumerate(rows) if not truth(row)][:2]
    label(run, wrong)
    stdout, _ = said("audit", run.path)
    table = run.read_table("audit")
    assert table.words[0] == (
        'A person labelled 60 of 60 drawn answers.  Of the verdicts "correct", 3.3 % [1.1, 7.7] are wrong (α), and '
        'of the verdicts "incorrect", 6.7 % [3.2, 12.2] (β).'
    )
    # 1 of 30 is wrong, and 30 of 40 were drawn, which is as precise as 4 of 120 from many answers.
    values = {row[0]: row[1:] for row in table.rows}
    low, high = (float(beta.ppf(level, 4.5, 116.5)) for level in (0.025, 0.975))
    assert values['wrong verdicts "correct" (α)'] == pytest.approx((1 / 30, low, high, 40, 30, 1))
    assert values["incorrect: names another answer"] == (2 / 30, None, None, 40, 30, 2)
    nested = run.map.nested_best()
    assert nested is not None
    assert values["AUC against the verdicts, best cell, nested CV"][:3] == pytest.approx(
        (nested.auc, nested.low, nested.high)
    )
    corrected = values["AUC corrected for label errors, best cell, nested CV"]
    assert corrected[0] == pytest.approx((nested.auc - 0.5) / (1 - 1 / 30 - 2 / 30) + 0.5)
    (best,) = run.map.best()
    of_cell = values[f"AUC against the verdicts, layer {best.layer}, {best.position}"]
    assert of_cell[:3] == pytest.approx((best.auc, best.low, best.high))
    assert "Audit of the labels" in stdout
    for sentence in table.words:
        assert sentence in stdout
    assert table.words[-1] == (
        "Wrong verdicts: 1 of 30 answers with the verdict correct (names an accepted answer); 2 of 30 answers with the "
        "verdict incorrect (names another answer)."
    )
    assert (run.path / "audit.csv").read_text().startswith("quantity,value,low,high,answers,audited,errors\n")
    # The result is kept, and shown again without a computation.
    saved = (run.path / "audit.json").stat().st_mtime_ns
    assert said("audit", run.path)[0] == stdout
    assert (run.path / "audit.json").stat().st_mtime_ns == saved


def test_changed_labels_repeat_the_step_without_redo(run: Run) -> None:
    said("audit", run.path, "--n", 20)
    label(run)
    said("audit", run.path)
    assert "0.0 %" in audit_summary(run)[0]
    label(run, wrong=range(20))
    assert audit_summary(run) == [
        "The audit of the labels refers to earlier files: audit.jsonl changed after the study was executed.  "
        f"`probemap audit {run.path}` updates it."
    ]
    said("audit", run.path)
    assert "100.0 %" in audit_summary(run)[0]
    assert (run.path / "earlier/001-audit/audit.json").exists()


def test_show_and_report_state_the_consequence_unless_verdicts_have_changed(run: Run) -> None:
    assert "person" not in said("show", run.path)[0]
    said("audit", run.path, "--n", 40)
    assert "person" not in said("show", run.path)[0]  # no labels yet
    label(run)
    said("audit", run.path)
    words = run.read_table("audit").words
    for options in ([], ["--words"]):
        stdout, _ = said("show", run.path, *options)
        assert stdout.endswith(f"\n\n{words[0]}\n{words[1]}\n")
    assert words[1].startswith("With correct labels, the AUC would be ")
    messages: list[str] = []
    path = report([run], logger=Logger(log=messages.append))
    (shown,) = content(path.read_text())["runs"]
    (study,) = shown["studies"]
    assert (study["title"], study["words"]) == ("Audit of the labels", list(words))
    assert study["columns"] == ["quantity", "value", "answers", "audited", "errors"]

    first, *others = run.read_judgements()
    run.write_judgements([replace(first, verdict=Verdict(False, "corrected by hand")), *others])
    stdout, _ = said("show", run.path)
    assert "refers to earlier files: verdicts.jsonl changed after the study was executed" in stdout
    assert words[0] not in stdout
    path = report([run], logger=Logger(log=messages.append))
    assert content(path.read_text())["runs"][0]["studies"] == []
    assert "the page does not show audit: verdicts.jsonl changed after the study was executed" in messages


def test_labels_remain_valid_when_verdicts_change(run: Run) -> None:
    """The labels refer to the answers, so new verdicts are evaluated with the same draw."""
    said("audit", run.path, "--n", 80)
    label(run)
    said("audit", run.path)
    judgements = run.read_judgements()
    changed = [replace(j, verdict=Verdict(True, "too kind")) if k % 8 == 1 else j for k, j in enumerate(judgements)]
    run.write_judgements(changed)
    logged: list[str] = []
    execute(AUDIT, run, Context(logger=Logger(log=logged.append)))
    table = run.read_table("audit")
    # 10 of 50 verdicts "correct" are wrong, and all were labelled.
    assert table.rows[0] == ('wrong verdicts "correct" (α)', 0.2, 0.2, 0.2, 50, 50, 10)
    assert table.words[1] == "The consequence for the map is not computed, because there is no map of these verdicts."
    assert any("the audit does not use the map: map.nc was made before verdicts.jsonl changed" in t for t in logged)
    assert "the verdicts have changed since the answers were drawn" in refused("audit", run.path, "--n", 81)
    execute(MAP, run, redo=True)
    execute(AUDIT, run)
    assert "AUC" in run.read_table("audit").words[1]


def test_answers_that_are_not_those_of_the_labels_are_refused(run: Run) -> None:
    said("audit", run.path, "--n", 20)
    label(run)
    (run.path / "audit_draw.json").write_text((run.path / "audit_draw.json").read_text().replace('"q', '"x'))
    with pytest.raises(RunError, match="which was not drawn"):
        execute(AUDIT, run)


# --- sentences ---


def audited(verdicts: Sequence[Verdict], labels: Sequence[Any]) -> AuditedAnswers:
    """Return answers that were all drawn."""
    return AuditedAnswers(
        ids=[str(k) for k in range(len(verdicts))],
        verdicts=verdicts,
        labels=labels,
        weights=[1.0] * len(verdicts),
        strata=[0] * len(verdicts),
        groups=[str(k) for k in range(len(verdicts))],
    )


def test_audit_table_of_undecided_answers_and_one_verdict() -> None:
    verdicts = [Verdict(True, "a")] * 4 + [Verdict(None, "refusal")] * 5
    table = audit_table(audited(verdicts, [True, False, None, None, True, False, False, "cannot tell", None]), None)
    assert 'of the verdicts "incorrect", an unknown share (β)' in table.words[0]
    assert table.words[0].startswith("A person labelled 6 of 9 drawn answers, 1 of them as not decidable.")
    assert table.words[-2:] == (
        "Wrong verdicts: 1 of 2 answers with the verdict correct (a).",
        "Of 4 audited answers without a verdict, the person decided 3, 1 of them as correct (33 %, compared with 100 % "
        "of the verdicts).",
    )
    assert table.rows[1] == ('wrong verdicts "incorrect" (β)', None, None, None, 0, 0, 0)
    assert table.rows[-1] == ("undecided: a person decides", 0.75, None, None, 5, 4, None)
    unclear = audit_table(audited(verdicts, [None] * 4 + ["cannot tell"] * 5), None)
    assert unclear.words[-1] == "Of 5 audited answers without a verdict, the person decided 0."


def test_audit_table_warns_if_errors_depend_on_the_scores() -> None:
    rng = np.random.default_rng(0)
    verdict = rng.random(400) < 0.5
    is_wrong = rng.random(400) < 0.2
    truth = verdict ^ is_wrong
    ids = [str(k) for k in range(400)]
    verdicts = [Verdict(bool(v), "a") for v in verdict]
    answers = audited(verdicts, [bool(t) for t in truth])

    def words(scores: Any) -> str:
        return " ".join(audit_table(answers, from_scores(scores[:, None, None], verdict, ids=ids)).words)

    independent = rng.normal(size=400) + truth
    assert "Label errors depend" not in words(independent)
    text = words(independent + 2 * verdict)
    assert "Label errors depend on what the probe reads (p = " in text
    assert "cannot be corrected by their frequency.  Against the person's labels of 400 answers, the AUC is 0." in text
    assert "With correct labels" not in text
    table = audit_table(answers, from_scores((independent + 2 * verdict)[:, None, None], verdict, ids=ids))
    corrected = [row for row in table.rows if str(row[0]).startswith("AUC corrected")]
    assert [row[1:4] for row in corrected] == [(None, None, None)]
    # The probe reads nothing: the formula is applied, and the interval contains 0.5.
    audit = audit_labels(verdict, truth, rng.normal(size=400))
    assert audit.corrected.low < 0.5 < audit.corrected.high
