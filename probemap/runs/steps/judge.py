"""The judge step: determine verdicts and exact answers by rules, a language model or manual labels."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from probemap.records import RunError, Task
from probemap.runs.definitions import JUDGE, JudgeFacts
from probemap.runs.plan import Context, Plan
from probemap.runs.selection import describe_verdicts, selection_warnings
from probemap.tasks.kinds import describe_kinds
from probemap.tasks.supplied import ManualLabel, read_manual_labels

if TYPE_CHECKING:
    from probemap.runs.options import JudgeOptions
    from probemap.runs.run import Run


def plan(run: Run, options: JudgeOptions, context: Context) -> Plan[JudgeOptions]:
    """Plan the judge step, which writes ``verdicts.jsonl``.

    If a language model acts as judge or locator, two more files are written.  ``opinions.jsonl`` stores the model's
    responses, so that they are not requested again.  ``disagreements.jsonl`` lists the answers on which the model and
    the rules disagree.  This file can be edited by hand and then passed to the step as the `decided` option.

    Raises
    ------
    DataError, RunError
        If the manual labels do not match the answers, or if mutually exclusive options are given.
    """
    from probemap.runs.labels import span_of_words

    _ = options.server  # rejects a URL with a password before anything is recorded
    task = run.task
    by_model = options.judge == "model" or options.locator == "model"
    if options.endpoint is not None and not by_model:
        record = run.find_record(JUDGE)
        if record is None or record.options.endpoint != options.endpoint:
            raise RunError(
                "--endpoint is given, but the rules determine verdicts and exact answers",
                "add --judge model or --locator model, or omit --endpoint",
            )
        options = replace(options, endpoint=None, served="")  # recorded when a model was still used as judge
    labels: dict[str, ManualLabel] = {}
    inputs = run.input_hashes("task.json", "answers.jsonl")
    if options.decided is not None:
        path = Path(options.decided)
        labels = read_manual_labels(path, task)
        # The labels are hashed instead of the file, because the step may rewrite the file with the same labels.
        inputs["decided"] = hashlib.sha256(repr(sorted(labels.items())).encode()).hexdigest()
        for answer in run.answers:  # labels that do not match are rejected before any results are moved
            if answer.id in labels:
                span_of_words(answer, labels[answer.id].exact_answer or "")
    return Plan(options=options, inputs=inputs, execute=partial(_execute, run, task, options, labels, context))


def _execute(run: Run, task: Task, options: JudgeOptions, labels: Mapping[str, ManualLabel], context: Context) -> bool:
    from probemap.grading.locate import RULE_LOCATORS
    from probemap.grading.rules import grade
    from probemap.runs.agreement import SpanAgreement, agreement
    from probemap.runs.labels import apply_labels, disagreements
    from probemap.runs.llm_judge import judgements_of, run_judge
    from probemap.runs.span_check import check_open_answers, often_differ, without_span

    answers = list(run.answers)
    paper = options.locator == "paper"
    verdicts_by_model, spans_by_model = options.judge == "model", options.locator == "model"
    locator = None if spans_by_model or paper else RULE_LOCATORS[options.rules_or_model]  # None for the rules
    log = context.logger.log
    rule_verdicts = grade(task, answers)
    if not (verdicts_by_model or spans_by_model):
        by_rules = judgements_of(task, answers, rule_verdicts, locator, paper)
        if options.locator == "auto":
            by_rules = check_open_answers(run, task, answers, by_rules, context)
        judgements = apply_labels(answers, by_rules, labels)
    else:
        judge = run_judge(run, options, context)
        graded = judge.verdicts(task, answers) if verdicts_by_model else rule_verdicts
        if spans_by_model:
            locator = judge.locator(task, answers)
        by_model = judgements_of(task, answers, graded, locator, paper)
        by_rules = judgements_of(task, answers, rule_verdicts, RULE_LOCATORS["rules"])
        located = by_model
        if options.locator == "auto":
            located = check_open_answers(run, task, answers, by_model, context)
        elif spans_by_model:
            same = SpanAgreement.of([j.span for j in by_rules], [j.span for j in by_model])
            if often_differ(same, "--locator rules, or a more capable model", log):
                located = [without_span(judgement) for judgement in by_model]
        judgements = apply_labels(answers, located, labels)
        rows = disagreements(
            task, answers, by_rules, by_model, judgements, verdicts=verdicts_by_model, spans=spans_by_model
        )
        run.write("disagreements.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        if verdicts_by_model:
            pairs = [
                (rules.verdict.correct, model.verdict.correct)
                for answer, rules, model in zip(answers, by_rules, by_model, strict=True)
                if answer.verdict is None  # otherwise neither of them has graded it
            ]
            agreed = agreement(pairs)
            run.note(JUDGE, JudgeFacts(judge.name, agreed))
            log(f"{judge.name} and the rules {agreed.describe()}")
            if agreed.is_chance:
                log(
                    f"{judge.name} and the rules agree no better than by chance: the verdicts of one of them are not "
                    "usable\nhint: read some of the disagreements, then use a more capable model (--endpoint), or "
                    "--judge rules"
                )
        if rows:
            path = run.path / "disagreements.jsonl"
            log(
                f"{judge.name} and the rules disagree on {len(rows)} answers; see {path}\nhint: edit `correct` and "
                f"`exact_answer` there, then repeat the command with --decided {path} --redo"
            )
    run.write_judgements(judgements)
    verdicts = [judgement.verdict for judgement in judgements]
    log(f"{task.name} (kind {describe_kinds(task)}): {describe_verdicts(verdicts)}")
    for warning in selection_warnings(verdicts, answers):
        log(warning)
    if all(judgement.span is None for judgement in judgements):
        log(
            f"no exact answer was found in any of the {len(judgements)} answers: the map will have no exact_answer "
            "columns\nhint: try --locator model, or inspect answers with `probemap inspect`"
        )
    return True
