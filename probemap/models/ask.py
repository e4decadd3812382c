"""Answers of a model to the questions of a task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from probemap.models.engine import endpoint_engine, transformers_engine
from probemap.models.generate import GenerationOptions
from probemap.models.prompts import resolve_prompt_format
from probemap.records import Answer, DataError, Task

if TYPE_CHECKING:
    from probemap.models.endpoint import Endpoint
    from probemap.models.model import Model


def ask(
    model: Model,
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
    """Answer the questions of a task with a model.

    Parameters
    ----------
    model : Model
        From `load_model`.
    task : Task
        From `load_task`.  Its `max_new_tokens` limits the length of the answers, its `prompt` and `shots` determine the
        prompts; use `dataclasses.replace` to change them.
    prompt_format : {"auto", "chat", "qa", "none"}, default "auto"
        ``chat``: the model's chat template.  ``qa``: the question is formatted as ``Q: … A:``, and generation also
        stops at a line break.
        ``none``: the question alone.  ``auto``: ``chat`` if the model has a chat template, else ``qa``.
    batch_size : int, default 32
        Maximum number of questions per batch.  A batch that does not fit in memory is halved.
    temperature : float, default 0.0
        0 is greedy decoding; above 0 tokens are sampled from the complete distribution at that temperature.
    seed : int, default 0
        Random seed for sampling.  The same seed and batch size give the same answers on the same machine.
    endpoint : Endpoint, optional
        A server with OpenAI's API that runs the same model and answers in its place.  `model` then tokenises the
        texts and computes their log-probabilities.
    progress : callable, optional
        Called with (done, total) after each batch.
    log : callable, optional
        Receives messages, e.g. when a batch is halved.

    Returns
    -------
    list of Answer
        In the order of ``task.examples``.

    Raises
    ------
    DataError
        Two questions have the same id, a prompt with its answer exceeds the model's context window, or the prompt
        template is invalid.
    ModelError
        The model has no chat template and `prompt_format` is ``chat``, a single question does not fit in memory, or the
        server does not respond.

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
            f"{len(repeated)} ids belong to more than one question: {', '.join(repeated[:3])}",
            "give each question its own id",
        )
    options = GenerationOptions(
        prompt_format=resolve_prompt_format(model, prompt_format),
        max_new_tokens=task.max_new_tokens,
        batch_size=batch_size,
        temperature=temperature,
        seed=seed,
    )
    if endpoint is None:
        engine = transformers_engine(model, task, options, log=log)
    else:
        engine = endpoint_engine(model, task, options, endpoint, log=log)
    answers: dict[str, Answer] = {}
    for batch in engine.each(range(len(engine.batch_sizes))):
        answers.update({answer.id: answer for answer in batch})
        progress(len(answers), len(task.examples))
    return [answers[example.id] for example in task.examples]
