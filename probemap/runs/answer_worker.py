"""Select how the answer step generates or imports answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from probemap.activations.inline import InlineCapture
from probemap.logs.importing import is_log
from probemap.models.answering import AnswerWorker, GenerationOptions, Recorder, generation_worker, supplied_worker
from probemap.models.engines import with_server
from probemap.models.prompts import PromptFormat, resolve_prompt_format
from probemap.positions import parse_positions
from probemap.runs.options import CaptureOptions

if TYPE_CHECKING:
    from probemap.models.engine import Engine
    from probemap.models.model import Model
    from probemap.records import Task, TextAnswer
    from probemap.runs.options import AnswerOptions


def make_worker(
    engine: Engine,
    task: Task,
    options: AnswerOptions,
    *,
    text_answers: Sequence[TextAnswer] | None,
    inline_directory: Path,
    log: Callable[[str], None],
) -> AnswerWorker:
    """Return the worker that the options for the answer step select.

    Parameters
    ----------
    engine : Engine
        The engine that runs the language model.
    task : Task
        The questions and the prompt template.
    options : AnswerOptions
        Options for the answer step.
    text_answers : sequence of TextAnswer or None
        Supplied answers, one per question, in the order of the questions.  If None, answers are generated.
    inline_directory : Path
        Directory for the hidden states that are captured during generation.
    log : callable
        Function that is called with each log message.

    Raises
    ------
    DataError
        If a prompt and its answer do not fit in the context window, or if the prompt template is invalid.
    ModelError
        If the options require a chat template but the model has none, or if the model has fewer layers than the server
        is said to extract.
    """
    model = engine.model
    prompt_format = resolve_prompt_format(model, options.frame)
    if options.frame == "auto" and prompt_format == "qa":
        log(f"{model.label} has no chat template: questions are formatted as `Q: … A:`")
    for note in [*_end_notes(model, prompt_format), *(model.chat_template.notes if prompt_format == "chat" else ())]:
        log(note)
    generation = GenerationOptions(
        prompt_format=prompt_format,
        max_new_tokens=task.max_new_tokens,
        batch_size=options.batch_size,
        batch_tokens=options.batch_tokens,
        temperature=options.temperature,
        seed=options.seed,
    )
    if text_answers is not None:
        return supplied_worker(engine, task, generation, text_answers, refuse=is_log(options.data), log=log)
    if options.server is not None:
        engine = with_server(engine, options.server)
    recorder = _inline_recorder(model, task, options, inline_directory)
    if recorder is not None and not engine.can_record(recorder.recording, task.max_new_tokens):
        log("the states of all generated tokens need too much memory: they are computed after the answers")
        recorder = None
    return generation_worker(engine, task, generation, recorder=recorder, log=log)


def _end_notes(model: Model, prompt_format: PromptFormat) -> list[str]:
    """Return a message for the log if the model has no end token."""
    if model.end_ids:
        return []
    line_break = "at a line break or " if prompt_format == "qa" else ""
    return [
        f"neither the tokenizer of {model.label} nor its generation configuration names an end token: answers end only "
        f"{line_break}at --max-new-tokens, and count as cut off in the latter case"
    ]


def _inline_recorder(model: Model, task: Task, options: AnswerOptions, directory: Path) -> Recorder | None:
    """Return a recorder for states that are captured during generation, or None if this was not requested."""
    layers = options.extracted_layers
    inline_options = options.inline or (None if layers is None else CaptureOptions())
    if inline_options is None:
        return None
    inline = InlineCapture(
        folder=directory,
        model=model,
        task=task,
        positions=parse_positions(inline_options.positions),
        site=inline_options.site,
        layers=inline_options.layers if layers is None else layers,
    )
    return inline.recorder
