"""The steps on a run folder: answer → judge → capture → p-true → map → plot.

Each step reads what the steps before it left in the folder, so that each can be run again, replaced, or fed by
another tool.  A step that is done is left alone; one that was interrupted goes on where it stopped.
"""

import hashlib
from dataclasses import replace
from pathlib import Path

from probemap.analysis import make_map, plot
from probemap.capturing import capture
from probemap.contents import answer_inputs, answers_of, check_weights, loader_of
from probemap.data import fingerprint, load_task
from probemap.given import read_replies
from probemap.judge import judge as judge_answer
from probemap.locate import LOCATORS, Locator, locate, locator_from_extracts, paper_locator
from probemap.options import SILENT, Answering, Capturing, Loader, LocatorName, Models, Probing, Talk
from probemap.records import Answer, Belief, Judgement, Reply, RunError, Task
from probemap.run import Run


def answer(
    data: str | Path,
    loader: Loader,
    out: str | Path,
    options: Answering = Answering(),
    *,
    redo: bool = False,
    talk: Talk = SILENT,
    models: Models | None = None,
) -> Run:
    """Put the questions to the model; writes ``task.json`` and ``answers.jsonl``.

    Raises
    ------
    DataError, ModelError, RunError
    """
    task = load_task(data, n=options.n, seed=options.seed, gold=options.answers is None)
    if options.prompt is not None:
        task = replace(task, prompt=options.prompt)
    if options.max_new_tokens is not None:
        task = replace(task, max_new_tokens=options.max_new_tokens)
    replies, inputs = None, {"questions": fingerprint(task)}
    if options.answers is not None:
        if options.endpoint is not None:
            raise RunError("answers come from a file or from a server, not from both", "give --answers or --endpoint")
        replies, others = read_replies(Path(options.answers), task)
        inputs["answers"] = hashlib.sha256(Path(options.answers).read_bytes()).hexdigest()
        if others:
            talk.tell(f"{others} rows of {options.answers} belong to none of the {len(replies)} questions")
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
            tell=talk.tell,
        ) as needed,
    ):
        if needed:
            _answer(run, task, loader, options, replies, talk, {} if models is None else models)
    return run


def _answer(
    run: Run,
    task: Task,
    loader: Loader,
    options: Answering,
    replies: list[Reply] | None,
    talk: Talk,
    models: Models,
) -> None:
    from probemap.engines import engine

    model = loader.load(models)
    check_weights(run, model, ("revision", "dtype"))
    found = engine(model, task, options, replies, talk.tell)
    run.write_task(task)
    run.note(
        "answer",
        {"model": model.label, "revision": model.revision, "dtype": model.dtype, "frame": found.frame},
    )
    begun = run.begun_answers(found.sizes)
    done = sum(found.sizes[:begun])
    if done:
        talk.tell(f"{done} of {len(task.examples)} answers are there already")
    for batch in found.answers(begun):
        run.append_answers(batch)
        done += len(batch)
        talk.progress("answers", done, len(task.examples))


def judge(
    run: Run,
    *,
    locator: LocatorName = "auto",
    loader: Loader | None = None,
    redo: bool = False,
    talk: Talk = SILENT,
    models: Models | None = None,
) -> None:
    """Verdicts and exact answers; writes ``verdicts.jsonl``.

    Parameters
    ----------
    locator: ``auto`` follows the task: its closed set, its numbers, or for open questions the model that
        answered is asked to copy the exact answer out of question and text.  ``paper`` makes the place depend on
        the verdict and is for comparison only, see `locate.paper_locator`; where it has no say it is ``auto``.
    loader: of the model to ask; None is the one that answered.
    """
    with run.locked():
        task = run.task()
        ordinary = "model" if task.kind == "open" else task.kind
        chosen = ordinary if locator == "auto" else locator
        with run.making(
            "judge",
            options={"locator": chosen},
            inputs=answer_inputs(run),
            redo=redo,
            tell=talk.tell,
        ) as needed:
            if not needed:
                return
            answers = answers_of(run, task)
            find = _locator(ordinary if chosen == "paper" else chosen, run, task, answers, loader, models, talk)
            judgements = []
            for example, said in zip(task.examples, answers, strict=True):
                verdict = said.verdict or judge_answer(task, example, said)
                here = paper_locator(example, verdict.correct, find) if chosen == "paper" else find
                span, no_span = locate(task, example, said, here)
                judgements.append(Judgement(said.id, verdict, span, no_span))
            run.write_judgements(judgements)
            if all(j.span is None for j in judgements):
                talk.tell(
                    f"no exact answer was found in any of {len(judgements)} answers: the map will have no "
                    "exact_answer columns\nhint: try --locator model, or look at answers with `probemap inspect`"
                )


def _locator(
    name: str,
    run: Run,
    task: Task,
    answers: list[Answer],
    loader: Loader | None,
    models: Models | None,
    talk: Talk,
) -> Locator:
    if name != "model":
        return LOCATORS[name]
    from probemap.generate import ask_exact_answers

    model = (loader or loader_of(run)).load({} if models is None else models)
    pairs = [(e.question, a.proper.text) for e, a in zip(task.examples, answers, strict=True)]
    talk.tell(f"{model.label} is asked for the exact answer in {len(pairs)} texts")
    return locator_from_extracts(ask_exact_answers(model, pairs))


def ask_p_true(
    run: Run,
    *,
    loader: Loader | None = None,
    batch_size: int = 32,
    redo: bool = False,
    talk: Talk = SILENT,
    models: Models | None = None,
) -> None:
    """Ask the model whether its own answers are true; writes ``p_true.jsonl``, a baseline of the map.

    Parameters
    ----------
    loader: of the model; None is the one that answered.
    """
    with run.locked():
        task = run.task()
        answers = answers_of(run, task)
        with run.making(
            "p-true",
            options={},
            inputs=answer_inputs(run),
            redo=redo,
            tell=talk.tell,
        ) as needed:
            if not needed:
                return
            from probemap.truth import ask_truth

            model = (loader or loader_of(run)).load({} if models is None else models)
            check_weights(run, model, ("revision",))
            found = ask_truth(
                model,
                [(e, a.proper.text) for e, a in zip(task.examples, answers, strict=True)],
                batch_size=batch_size,
                progress=lambda done, total: talk.progress("p(True)", done, total),
            )
            run.write_p_true([Belief(a.id, float(p)) for a, p in zip(answers, found, strict=True)])


def run_all(
    data: str | Path,
    loader: Loader,
    out: str | Path,
    answering: Answering = Answering(),
    capturing: Capturing = Capturing(),
    probing: Probing = Probing(),
    *,
    locator: LocatorName = "auto",
    redo: bool = False,
    talk: Talk = SILENT,
) -> Run:
    """All steps, each left alone where it is done; the model is loaded once, and only if needed.

    The paper's protocol also decides where it probes and what it reads, unless something else is asked for.
    """
    models: Models = {}
    if probing.protocol == "paper":
        locator = "paper" if locator == "auto" else locator
        capturing = replace(capturing, site="mlp_out") if capturing.site == "resid" else capturing
    run = answer(data, loader, out, answering, redo=redo, talk=talk, models=models)
    judge(run, locator=locator, loader=loader, redo=redo, talk=talk, models=models)
    capture(run, capturing, loader=loader, redo=redo, talk=talk, models=models)
    if probing.baselines:
        ask_p_true(run, loader=loader, batch_size=capturing.batch_size, redo=redo, talk=talk, models=models)
    models.clear()  # the probes need the memory
    make_map(run, probing, redo=redo, talk=talk)
    plot(run, talk=talk)
    return run
