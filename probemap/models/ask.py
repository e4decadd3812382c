"""Generate a model's answers to the questions in a task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from probemap.models.answering import GenerationOptions, generation_worker
from probemap.models.endpoint_engine import EndpointEngine
from probemap.models.prompts import resolve_prompt_format
from probemap.models.transformers_engine import as_engine
from probemap.records import Answer, DataError, Task

if TYPE_CHECKING:
    from probemap.models.endpoint import Endpoint
    from probemap.models.engine import Engine
    from probemap.models.model import Model


def ask(
    model: Model | Engine,
    task: Task,
    *,
    prompt_format: Literal["auto", "chat", "qa", "none"] = "auto",
    batch_size: int = 32,
    temperature: float = 0.0,
    seed: int = 0,
    endpoint: Endpoint | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    log: Callable[[str], None] = lambda text: None,
) -> list[Answer]:
    """Let a model answer the questions in a task.

    Parameters
    ----------
    model : Model or Engine
        The model, as returned by `load_model`, or an engine that runs it.
    task : Task
        The task, as returned by `load_task`.  Its `max_new_tokens` limits the length of the answers, and its `prompt`
        and `shots` determine the prompts.  Use `dataclasses.replace` to change these fields.
    prompt_format : {"auto", "chat", "qa", "none"}, default "auto"
        - ``chat``: the question is formatted with the model's chat template.
        - ``qa``: the question is formatted as ``Q: … A:``, and generation also stops at a line break.
        - ``none``: only the task's prompt template is applied.
        - ``auto``: ``chat`` if the model has a chat template, and ``qa`` otherwise.

    batch_size : int, default 32
        Maximum number of questions per batch.  A batch that does not fit in memory is halved.
    temperature : float, default 0.0
        If 0, decoding is greedy.  If positive, tokens are sampled from the full distribution at this temperature.
    seed : int, default 0
        Random seed for sampling.  On the same machine, the same seed and batch size give the same answers.
    endpoint : Endpoint, optional
        An OpenAI-compatible server that runs the same model and generates the answers.  `model` is then used only to
        tokenise the texts and to compute their log-probabilities.
    progress : callable, optional
        Called after each batch with the number of questions answered so far and the total number of questions.
    log : callable, optional
        Called with a message, e.g. when a batch is halved.

    Returns
    -------
    list of Answer
        The answers, in the order of ``task.examples``.

    Raises
    ------
    DataError
        If two questions have the same id, if a prompt leaves too little room for its answer in the model's context
        window, or if the prompt template is invalid.
    ModelError
        If `prompt_format` is ``chat`` but the model has no chat template, if a single question does not fit in memory,
        or if the server does not respond.

    Examples
    --------
    >>> import probemap
    >>> model = probemap.load_model("smollm2-135m")
    >>> task = probemap.load_task("cities", n=2)
    >>> answers = probemap.ask(model, task)
    >>> [answer.id for answer in answers] == [example.id for example in task.examples]
    True
    """
    counts = Counter(example.id for example in task.examples)
    if repeated := [id_ for id_, count in counts.items() if count > 1]:
        raise DataError(
            f"ids must be unique, but {len(repeated)} belong to more than one question: {', '.join(repeated[:3])}",
            "give each question its own id",
        )
    engine = as_engine(model)
    if engine.model.date is None:  # prompts may contain the time, which must be the same in all of them
        date = datetime.now().isoformat(timespec="seconds")
        engine = engine.with_model(engine.model.with_template(engine.model.template, date))
    options = GenerationOptions(
        prompt_format=resolve_prompt_format(engine.model, prompt_format),
        max_new_tokens=task.max_new_tokens,
        batch_size=batch_size,
        temperature=temperature,
        seed=seed,
    )
    if endpoint is not None:
        engine = EndpointEngine(engine, endpoint)
    worker = generation_worker(engine, task, options, log=log)
    answers: dict[str, Answer] = {}
    for batch in worker.each(range(len(worker.batch_sizes))):
        answers.update({answer.id: answer for answer in batch})
        progress(len(answers), len(task.examples))
    return [answers[example.id] for example in task.examples]
