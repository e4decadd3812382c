"""The steps on a run folder: answer → judge → capture → p-true → map → plot.

Each step reads what the steps before it left in the folder, so that each can be run again, replaced, or fed by
another tool.  A step that is done is left alone; one that was interrupted goes on where it stopped.
"""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from probemap.logger import SILENT, Logger
from probemap.models.loading import Loader, Models
from probemap.records import RunError, Task, TextAnswer
from probemap.runs.integrity import check_weights
from probemap.runs.options import Answering, Capturing, Judging, Probing
from probemap.runs.run import Run
from probemap.runs.steps.capture import capture
from probemap.runs.steps.judge import judge
from probemap.runs.steps.map import make_map
from probemap.runs.steps.p_true import ask_p_true
from probemap.runs.steps.plot import plot
from probemap.tasks.loading import fingerprint, load_task
from probemap.tasks.supplied import read_text_answers
from probemap.workers import RayPool, at_work, worker_pool

if TYPE_CHECKING:  # torch and transformers load in seconds; only the steps that need them pay
    from probemap.runs.engines import Engine


def answer(
    data: str | Path,
    loader: Loader,
    out: str | Path,
    options: Answering = Answering(),
    *,
    ray: RayPool | None = None,
    redo: bool = False,
    logger: Logger = SILENT,
    models: Models | None = None,
) -> Run:
    """Put the questions to the model; writes ``task.json`` and ``answers.jsonl``.

    Parameters
    ----------
    ray: the workers that share the batches; None: all is done here.

    Raises
    ------
    DataError, ModelError, RunError
    """
    task = load_task(data, n=options.n, seed=options.seed, require_answers=options.answers is None)
    if options.prompt is not None:
        task = replace(task, prompt=options.prompt)
    if options.max_new_tokens is not None:
        task = replace(task, max_new_tokens=options.max_new_tokens)
    replies, inputs = None, {"questions": fingerprint(task)}
    if options.answers is not None:
        if options.endpoint is not None:
            raise RunError("answers come from a file or from a server, not from both", "give --answers or --endpoint")
        replies, others = read_text_answers(Path(options.answers), task)
        inputs["answers"] = hashlib.sha256(Path(options.answers).read_bytes()).hexdigest()
        if others:
            logger.log(f"{others} rows of {options.answers} belong to none of the {len(replies)} questions")
    if ray is not None and options.endpoint is not None:
        raise RunError("a server answers, not Ray's workers", "leave --engine ray to `probemap capture`")
    if options.during is not None and (options.answers is not None or options.endpoint is not None):
        raise RunError("the model here does not answer: there are no states to take", "leave --one-pass out")
    run = Run(out)
    with (
        run.locked(),
        run.making(
            "answer",
            options={
                "data": str(data),
                "model": loader.name,
                "revision": loader.revision,
                "dtype": loader.dtype,
                "quantize": loader.quantize,
                "n": options.n,
                "seed": options.seed,
                "prompt": task.prompt,
                "frame": options.frame,
                "max_new_tokens": task.max_new_tokens,
                "batch_size": options.batch_size,
                "batch_tokens": options.batch_tokens,
                "temperature": options.temperature,
                "answers": options.answers,
                "endpoint": options.endpoint and options.endpoint.url,
                "served": options.endpoint and options.endpoint.served,
            },
            inputs=inputs,
            redo=redo,
            log=logger.log,
        ) as needed,
    ):
        if needed:
            given = loader, task, options, replies, run.during
            _answer(run, task, partial(_engine, *given, *at_work(ray, models, logger)), ray, logger)
    return run


def _answer(
    run: Run,
    task: Task,
    make: Callable[[], "Engine"],
    ray: RayPool | None,
    logger: Logger,
) -> None:
    with worker_pool(make, ray) as workers:
        plan = workers.plan()
        check_weights(run, plan, ("revision", "dtype"))
        run.write_task(task)
        facts = ("revision", "dtype", "template", "frame")
        run.note("answer", {"model": plan.label, **{name: getattr(plan, name) for name in facts}})
        begun = run.begun_answers(plan.sizes)
        done = sum(plan.sizes[:begun])
        if done:
            logger.log(f"{done} of {len(task.examples)} answers are there already")
        for batch in workers.each(range(begun, len(plan.sizes))):
            run.append_answers(batch)
            done += len(batch)
            logger.progress("answers", done, len(task.examples))


def _engine(
    loader: Loader,
    task: Task,
    options: Answering,
    replies: list[TextAnswer] | None,
    during: Path,
    models: Models,
    logger: Logger,
) -> "Engine":
    from probemap.runs.engines import engine

    return engine(loader.load(models), task, options, replies, logger.log, during)


def run_all(
    data: str | Path,
    loader: Loader,
    out: str | Path,
    answering: Answering = Answering(),
    judging: Judging = Judging(),
    capturing: Capturing = Capturing(),
    probing: Probing = Probing(),
    *,
    ray: RayPool | None = None,
    redo: bool = False,
    logger: Logger = SILENT,
) -> Run:
    """All steps, each left alone where it is done; the model is loaded once, and only if needed.

    The paper's protocol also decides where it probes and what it reads, unless something else is asked for.
    """
    models: Models = {}
    if probing.protocol == "paper":
        judging = replace(judging, locator="paper") if judging.locator == "auto" else judging
        capturing = replace(capturing, site="mlp_out") if capturing.site == "resid" else capturing
    if answering.during is not None:
        answering = replace(answering, during=capturing)
        if judging.locator != "auto":
            logger.log(
                f"{judging.locator} locates after the answers are there: the states are captured in a second pass"
            )
            answering = replace(answering, during=None)
    run = answer(data, loader, out, answering, ray=ray, redo=redo, logger=logger, models=models)
    judge(run, judging, loader=loader, redo=redo, logger=logger, models=models)
    if ray is not None:
        models.clear()  # the workers need the memory
    capture(run, capturing, ray=ray, loader=loader, redo=redo, logger=logger, models=models)
    if probing.baselines:
        ask_p_true(run, loader=loader, batch_size=capturing.batch_size, redo=redo, logger=logger, models=models)
    models.clear()  # the probes need the memory
    make_map(run, probing, ray=ray, redo=redo, logger=logger)
    plot([run], logger=logger)
    return run
