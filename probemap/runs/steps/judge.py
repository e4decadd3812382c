"""The judge step: determine verdicts and exact answers with rules, a language model or manual labels."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
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
    from probemap.records import Judgement
    from probemap.runs.options import JudgeOptions, LocatorName
    from probemap.runs.run import Run


def plan(run: Run, options: JudgeOptions, context: Context) -> Plan[JudgeOptions]:
    """Plan the judge step, which writes ``verdicts.jsonl``.

    If a language model acts as judge or locator, two more files are written.  ``opinions.jsonl`` stores the model's
    responses, so that they are not requested again.  ``disagreements.jsonl`` lists the answers on which the model and
    the rules disagree.  The list can be edited by hand and then passed to the step as the `decided` option.

    Raises
    ------
    DataError, RunError
        If the manual labels do not match the answers, or if mutually exclusive options are given.
    """
    from probemap.runs.labels import span_of_words

    _ = options.server  # rejects a URL with a password before anything is recorded
    task = run.task
    options = replace(options, locator=resolve_locator(task, options.locator))
    by_model = options.judge == "model" or _ordinary_locator(task, options.locator) == "model"
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


def resolve_locator(task: Task, locator: LocatorName) -> LocatorName:
    """Return `locator` or, if it is ``auto``, the default locator for the questions of the task."""
    if locator != "auto":
        return locator
    return "rules"


def _ordinary_locator(task: Task, locator: LocatorName) -> LocatorName:
    """Return `locator` or, if it is ``paper``, the locator that `paper_locator` falls back on."""
    return resolve_locator(task, "auto") if locator == "paper" else locator


def _execute(run: Run, task: Task, options: JudgeOptions, labels: Mapping[str, ManualLabel], context: Context) -> bool:
    from probemap.grading.locate import RULE_LOCATORS
    from probemap.grading.rules import grade
    from probemap.runs.agreement import agreement
    from probemap.runs.labels import apply_labels, disagreements
    from probemap.runs.llm_judge import judge_by_model, judgements_of, run_judge

    answers = list(run.answers)
    locator = _ordinary_locator(task, options.locator)
    find = None if locator == "model" else RULE_LOCATORS[locator]
    paper = options.locator == "paper"
    log = context.logger.log
    if find is not None and options.judge == "rules":
        judgements = apply_labels(answers, judgements_of(task, answers, grade(task, answers), find, paper), labels)
    else:
        judge = run_judge(run, options, context)
        verdicts_by_model = options.judge == "model"
        by_model = judge_by_model(judge, task, answers, verdicts=verdicts_by_model, find=find, paper=paper)
        by_rules = judgements_of(task, answers, grade(task, answers), RULE_LOCATORS["rules"])
        located = _without_doubtful_spans(by_rules, by_model, log) if find is None else by_model
        judgements = apply_labels(answers, located, labels)
        rows = disagreements(
            task, answers, by_rules, by_model, judgements, verdicts=verdicts_by_model, spans=find is None
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


def _without_doubtful_spans(
    by_rules: Sequence[Judgement], by_model: Sequence[Judgement], log: Callable[[str], None]
) -> list[Judgement]:
    """Return the judgements of a model, without exact answers if those of the model and the rules often differ."""
    from probemap.runs.agreement import MIN_SPAN_AGREEMENT, SpanAgreement

    same = SpanAgreement.of([judgement.span for judgement in by_rules], [judgement.span for judgement in by_model])
    log(f"the model and the rules find the same exact answer in {same.n_same} of {same.n_both} answers")
    if not same.is_low:
        return list(by_model)
    log(
        f"this is less than {MIN_SPAN_AGREEMENT:.0%}, so many of the model's exact answers are probably wrong, and "
        "none of them is used\nhint: use --locator rules, or a more capable model (--endpoint)"
    )
    return [
        replace(judgement, span=None, no_span="the model and the rules disagree too often") for judgement in by_model
    ]
