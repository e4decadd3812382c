"""The resample step: sample several answers to each question."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

from probemap.records import RunError
from probemap.runs.definitions import ANSWER
from probemap.runs.folder import step_command
from probemap.runs.plan import Context, Plan
from probemap.runs.samples import FILE, sample_id

if TYPE_CHECKING:  # torch and transformers take seconds to import and are needed only for execution
    from probemap.models.prompts import PromptFormat
    from probemap.runs.options import ResampleOptions
    from probemap.runs.run import Run


def plan(run: Run, options: ResampleOptions, context: Context) -> Plan[ResampleOptions]:
    """Plan the resample step, which writes ``resamples.jsonl``.

    The step samples ``options.k`` answers to each question, with the same prompt tokens as in ``answers.jsonl``.  An
    interrupted step resumes after the last complete batch.

    Raises
    ------
    RunError
        If the answers are missing or damaged.
    """
    _ = run.answers
    return Plan(
        options=options,
        inputs=run.input_hashes("task.json", "answers.jsonl"),
        execute=partial(_execute, run, options, context),
    )


def _execute(run: Run, options: ResampleOptions, context: Context) -> bool:
    from probemap.models.answering import GenerationOptions, generate_answers, plan_batches
    from probemap.models.prompts import Prompt, check_lengths

    engine = context.open_engine(run.loader(context.device, max_memory=context.max_memory))
    model = engine.model
    run.check_weights(model, ("revision", "dtype"))
    prompts = [
        (answer.id, Prompt(answer.prompt, answer.token_ids[: answer.n_prompt], answer.offsets[: answer.n_prompt]))
        for answer in run.answers
    ]
    check_lengths(model, prompts, run.task.max_new_tokens)
    generation = GenerationOptions(
        prompt_format=_prompt_format(run, model.has_chat_template),
        max_new_tokens=run.task.max_new_tokens,
        batch_size=options.batch_size,
        batch_tokens=options.batch_tokens,
        temperature=options.temperature,
        seed=options.seed,
    )
    # The samples of a question are adjacent, so that they are in the same batch and the prompt is processed only once.
    requests = [(sample_id(name, sample), prompt) for name, prompt in prompts for sample in range(options.k)]
    batches = plan_batches(model, requests, generation)
    _check_order(run, [requests[i][0] for batch in batches for i in batch])
    first = run.count_complete_batches([len(batch) for batch in batches], FILE)
    n_done = sum(len(batch) for batch in batches[:first])
    if n_done:
        context.logger.log(f"{n_done} of {len(requests)} samples already exist")
    for batch in generate_answers(
        engine, requests, generation, batch_numbers=range(first, len(batches)), log=context.logger.log
    ):
        run.append_answers(batch, FILE)
        n_done += len(batch)
        context.logger.progress("samples", n_done, len(requests))
    return True


def _check_order(run: Run, expected: list[str]) -> None:
    """Raise RunError if the existing samples are not the first of those expected."""
    existing = [json.loads(line)["id"] for line in run.complete_lines(FILE)]
    if existing != expected[: len(existing)]:
        raise RunError(
            f"the samples in {run.path / FILE} were drawn in a different order, so they cannot be continued",
            f"{step_command('resample', run.path)} draws new samples and keeps the old ones",
        )


def _prompt_format(run: Run, has_chat_template: bool) -> PromptFormat:
    """Return the prompt format, which determines where an answer ends.

    Prompts that were supplied with the answers are assumed to use the model's chat template, if it has one.
    """
    frame = run.record(ANSWER).facts.frame
    if frame == "qa":
        return "qa"
    return "chat" if frame == "chat" or (frame == "given" and has_chat_template) else "none"
