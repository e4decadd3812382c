"""The resample step: every question asked again and again, and what the answers are, judged as the run's own."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from probemap.logger import SILENT, Logger
from probemap.models.loading import Loader, Models
from probemap.records import Answer, Example, Judgement, RunError, Task
from probemap.runs.folder import again
from probemap.runs.integrity import answers_of, check_weights, loader_of
from probemap.runs.options import Resampling
from probemap.runs.run import Run
from probemap.runs.steps.judge import judge_of

if TYPE_CHECKING:  # torch and transformers load in seconds; only the steps that need them pay
    from probemap.models.prompts import PromptFormat

FILE = "resamples.jsonl"
QUESTIONS_AT_ONCE = 64
"""Whose samples are in memory together."""


def resample(
    run: Run,
    options: Resampling = Resampling(),
    *,
    loader: Loader | None = None,
    redo: bool = False,
    logger: Logger = SILENT,
    models: Models | None = None,
) -> None:
    """Answer every question `options.k` times more, drawn at a temperature; writes ``resamples.jsonl``.

    The prompts are those of the run's answers, token by token.  What was interrupted goes on at a whole batch.

    Parameters
    ----------
    loader: of the model; None is the one that answered.

    Raises
    ------
    RunError: the folder's answers are missing or came from other weights.
    ModelError: one question alone does not fit the memory.
    """
    with run.locked():
        task = run.task()
        answers = answers_of(run, task)
        with run.making(
            "resample",
            options={
                "k": options.k,
                "temperature": options.temperature,
                "seed": options.seed,
                "batch_size": options.batch_size,
                "batch_tokens": options.batch_tokens,
            },
            inputs={name: run.sha256(name) for name in ("task.json", "answers.jsonl")},
            redo=redo,
            log=logger.log,
        ) as needed:
            if not needed:
                return
            from probemap.models.generate import generate_answers, plan_batches
            from probemap.models.prompts import Prompt, check_lengths

            model = (loader or loader_of(run)).load({} if models is None else models)
            check_weights(run, model, ("revision", "dtype"))
            frame = _frame(run, model.has_chat_template)
            prompts = [(a.id, Prompt(a.prompt, a.token_ids[: a.n_prompt], a.offsets[: a.n_prompt])) for a in answers]
            limit = task.max_new_tokens
            check_lengths(model, prompts, limit)
            plan = plan_batches(prompts, limit, options.batch_size, options.batch_tokens)
            sizes = [len(batch) for batch in plan] * options.k
            begun = run.begun_answers(sizes, FILE)
            done = sum(sizes[:begun])
            if done:
                logger.log(f"{done} of {len(prompts) * options.k} samples are there already")
            for sample in range(begun // len(plan), options.k):
                named = [(sample_id(id_, sample), prompt) for id_, prompt in prompts]
                for batch in generate_answers(
                    model,
                    named,
                    frame=frame,
                    max_new_tokens=limit,
                    batch_size=options.batch_size,
                    batch_tokens=options.batch_tokens,
                    temperature=options.temperature,
                    seed=_seed(options.seed, sample),
                    numbers=range(max(0, begun - sample * len(plan)), len(plan)),
                    log=logger.log,
                ):
                    run.append_answers(batch, FILE)
                    done += len(batch)
                    logger.progress("samples", done, len(prompts) * options.k)


def sample_id(id_: str, sample: int) -> str:
    """What a sample is called: its question's id, and its number from 0 on."""
    return f"{id_}#{sample}"


def _seed(seed: int, sample: int) -> int:
    """Of a sample, far from all others and from that of the run's own answers: batch b draws with this plus b."""
    return int.from_bytes(hashlib.sha256(f"resample {seed} {sample}".encode()).digest()[:6])


def _frame(run: Run, chat: bool) -> "PromptFormat":
    """What ends an answer; prompts that came with their answers have the model's own template, if it has one."""
    frame: PromptFormat | str = run.step("answer")["facts"]["frame"]
    if frame == "qa":
        return "qa"
    return "chat" if frame == "chat" or (frame == "given" and chat) else "none"


def samples_per_question(run: Run) -> int:
    """How many samples there are of each question.

    Raises
    ------
    RunError: the step was not done, or for other answers than the folder now holds.
    """
    step = run.step("resample")
    if not run.is_done("resample"):
        raise RunError(
            f"{run.path} holds no samples, or not all", f"{again('resample', run.path, redo=False)} draws them"
        )
    if changed := [name for name, content in step["inputs"].items() if run.sha256(name) != content]:
        raise RunError(
            f"{' and '.join(changed)} changed since the samples were drawn",
            f"{again('resample', run.path)} draws them again and keeps the old ones",
        )
    return int(step["options"]["k"])


Samples = tuple[Example, list[Answer], list[Judgement]]
"""A question, its samples, and their verdicts and exact answers."""


def each_question(
    run: Run,
    task: Task,
    rows: Sequence[int] | None = None,
    *,
    logger: Logger = SILENT,
    models: Models | None = None,
) -> Iterator[Samples]:
    """Questions with their samples, judged and located as the run's own answers were.

    Parameters
    ----------
    rows: of the questions; None: all, in order.

    Raises
    ------
    RunError: as `samples_per_question`; or the samples are damaged.
    """
    k = samples_per_question(run)
    if lacking := sum(not e.answers for e in task.examples):
        raise RunError(
            f"{lacking} questions have no accepted answers: nobody can judge their samples",
            "add `answers` to the questions; verdicts that came with the answers say nothing of others",
        )
    judge, file = judge_of(run, logger=logger, models=models), run.samples()
    wanted = task.examples if rows is None else [task.examples[row] for row in rows]
    for start in range(0, len(wanted), QUESTIONS_AT_ONCE):
        examples = wanted[start : start + QUESTIONS_AT_ONCE]
        named = [replace(e, id=sample_id(e.id, sample)) for e in examples for sample in range(k)]
        try:
            answers = list(file.in_order([e.id for e in named]))
        except KeyError as error:
            raise RunError(
                f"{run.path / FILE} holds no sample {error}", f"{again('resample', run.path)} draws them again"
            ) from None
        judged = judge(replace(task, examples=tuple(named)), answers)
        logger.progress("samples judged", (start + len(examples)) * k, len(wanted) * k)
        for row, example in enumerate(examples):
            mine = slice(row * k, (row + 1) * k)
            yield example, answers[mine], judged[mine]


def judged_otherwise(run: Run, task: Task, answers: Sequence[Answer], judgements: Sequence[Judgement]) -> str:
    """Says of how many of the run's own answers the verdict is not that of whoever judges the samples: it was given
    with them, or decided by hand; empty if of none."""
    found = judge_of(run)(task, answers)
    differ = sum(a.verdict.correct != b.verdict.correct for a, b in zip(found, judgements, strict=True))
    if not differ:
        return ""
    return (
        f"Mind that the verdicts on {differ} of the run's own {len(answers)} answers were given or decided by hand, "
        "and are not those that the judge of the samples would have given."
    )
