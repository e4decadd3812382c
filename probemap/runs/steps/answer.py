"""The answer step: generate the model's answers, or import existing answers."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from probemap.logs.samples import Refusal
from probemap.models.loading import Loader
from probemap.models.model_names import split_untrained
from probemap.records import RunError, Task, TextAnswer
from probemap.runs.definitions import ANSWER, REFUSED, AnswerFacts
from probemap.runs.plan import Context, Plan

if TYPE_CHECKING:  # torch and transformers take seconds to import and are needed only for execution
    from collections.abc import Sequence
    from pathlib import Path

    from probemap.models.answering import AnswerWorker
    from probemap.runs.options import AnswerOptions
    from probemap.runs.questions import Questions
    from probemap.runs.run import Run


def plan(run: Run, options: AnswerOptions, context: Context) -> Plan[AnswerOptions]:
    """Plan the answer step, which writes ``task.json`` and ``answers.jsonl``.

    Raises
    ------
    DataError, RunError
        If the questions or the supplied answers are invalid, or if mutually exclusive options are given.
    """
    from probemap.runs.questions import read_questions
    from probemap.tasks.loading import fingerprint

    options = replace(options, data=str(options.data), model=str(options.model))
    _check(options, context)
    questions = read_questions(options)
    for note in questions.notes:
        context.logger.log(note)
    task = questions.task
    if options.prompt is not None:
        task = replace(task, prompt=options.prompt)
    if options.max_new_tokens is not None:
        task = replace(task, max_new_tokens=options.max_new_tokens)
    inputs = {"questions": fingerprint(task)}
    if questions.sha256 is not None:
        inputs["answers"] = questions.sha256
    resolved = replace(options, prompt=task.prompt, max_new_tokens=task.max_new_tokens)
    execute = partial(_execute, run, replace(questions, task=task), resolved, context)
    return Plan(options=resolved, inputs=inputs, execute=execute)


def _check(options: AnswerOptions, context: Context) -> None:
    _ = options.server  # rejects a URL with a password, or invalid layers, before anything is recorded
    if options.answers is not None and options.endpoint is not None:
        raise RunError(
            "--answers and --endpoint cannot be combined", "use one of them: answers come from a file or a server"
        )
    if options.endpoint is not None and split_untrained(options.model)[0] is not None:
        raise RunError(
            f"a server cannot run {options.model!r}, whose weights are drawn at random in this process",
            "omit --endpoint; to let an untrained model read the answers of another run, use --answers RUN",
        )
    if context.pool is not None and options.endpoint is not None:
        raise RunError(
            "Ray workers cannot be used with answers from a server", "use --engine ray only with `probemap capture`"
        )
    if options.server_layers is not None and options.endpoint is None:
        raise RunError("--server-layers applies to answers from a vLLM server", "add --endpoint, or omit it")
    if options.inline is not None and not options.are_generated and options.server_layers is None:
        raise RunError(
            "states cannot be recorded during generation, because no answers are generated here",
            "omit inline; if a vLLM server extracts the states, pass --server-layers",
        )
    if options.server_layers is not None and options.inline is not None and options.inline.site != "resid":
        raise RunError(
            f"vLLM servers extract states at the site resid, but --site is {options.inline.site}",
            "omit --site, or omit --server-layers to capture the states with the local model",
        )


def _execute(run: Run, questions: Questions, options: AnswerOptions, context: Context) -> bool:
    from probemap.workers import worker_pool

    loader = Loader(
        name=options.model,
        revision=options.revision,
        device=context.device,
        dtype=options.dtype,
        quantize=options.quantize,
        max_memory=context.max_memory,
        template=options.template,
        # A resumed step uses the recorded date, so that all prompts contain the same one.
        date=run.record(ANSWER).facts.date or datetime.now().isoformat(timespec="seconds"),
    )
    worker_options = (loader, questions.task, options, questions.answers, run.inline_states)
    with worker_pool(partial(_make_worker, *worker_options, context.for_workers), context.pool) as workers:
        plan = workers.plan()
        run.check_weights(plan, ("revision", "dtype"))
        task = _without_refused(run, questions, plan.refused, context)
        run.write_task(task)
        run.note(
            ANSWER,
            AnswerFacts(
                model=plan.label,
                revision=plan.revision,
                dtype=plan.dtype,
                template=plan.template_sha256,
                date=plan.date,
                frame=plan.prompt_format,
            ),
        )
        first = run.count_complete_batches(plan.batch_sizes)
        n_done = sum(plan.batch_sizes[:first])
        if n_done:
            context.logger.log(f"{n_done} of {len(task.examples)} answers already exist")
        for batch in workers.each(range(first, len(plan.batch_sizes))):
            run.append_answers(batch)
            n_done += len(batch)
            context.logger.progress("answers", n_done, len(task.examples))
    return True


def _without_refused(run: Run, questions: Questions, refused: Sequence[tuple[str, str]], context: Context) -> Task:
    """Write the list of refused answers, if there are any, and return the task without their questions."""
    refusals = [*questions.refusals, *(Refusal(f"id {id_}", reason) for id_, reason in refused)]
    if refused:
        context.logger.log(f"{len(refused)} answers do not fit the model; the first reason: {refused[0][1]}")
    if refusals:
        rows = (json.dumps(asdict(refusal), ensure_ascii=False) + "\n" for refusal in refusals)
        run.write(REFUSED, "".join(rows))
        context.logger.log(f"the answers that cannot be imported are listed in {run.path / REFUSED}")
    ids = {id_ for id_, _ in refused}
    examples = tuple(example for example in questions.task.examples if example.id not in ids)
    return replace(questions.task, examples=examples)


def _make_worker(
    loader: Loader,
    task: Task,
    options: AnswerOptions,
    supplied: list[TextAnswer] | None,
    inline_states: Path,
    context: Context,
) -> AnswerWorker:
    from probemap.runs.answer_worker import make_worker

    engine = context.open_engine(loader)
    return make_worker(
        engine, task, options, text_answers=supplied, inline_directory=inline_states, log=context.logger.log
    )
