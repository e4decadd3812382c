"""Convert questions to prompts in several formats, optionally with worked examples, and check the prompts' lengths."""

from __future__ import annotations

import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import TYPE_CHECKING, Literal

from jinja2 import TemplateError

from probemap.records import ChatMessage, DataError, Example, ModelError, Task

if TYPE_CHECKING:
    from probemap.models.model import Model

PromptFormat = Literal["chat", "qa", "none"]
"""Format of a prompt: the model's chat template (``chat``), ``Q: … A:`` (``qa``), or the plain question (``none``)."""

_FIELDS = {"question", "context", "choices", "letters"}


@dataclass(frozen=True)
class Prompt:
    """A prompt as the model receives it."""

    text: str
    token_ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]
    """For each token, the range (start, stop) of its characters in `text`, or (0, 0) if the token has no text."""


def resolve_prompt_format(model: Model, prompt_format: Literal["auto", "chat", "qa", "none"] = "auto") -> PromptFormat:
    """Return the prompt format.  ``auto`` becomes ``chat`` if the model has a chat template, and ``qa`` otherwise.

    Raises
    ------
    ModelError
        If the format is ``chat`` but the model has no chat template.
    """
    if prompt_format == "auto":
        return "chat" if model.has_chat_template else "qa"
    if prompt_format == "chat" and not model.has_chat_template:
        raise ModelError(f"{model.label} has no chat template", "use --frame qa (Q: … A:) or --frame none")
    return prompt_format


def fill_template(template: str, example: Example) -> str:
    """Return the prompt template filled with an example's question, context and choices.

    Raises
    ------
    DataError
        If the template contains an unknown field or unbalanced braces.
    """
    try:
        fields = [field for _, field, _, _ in string.Formatter().parse(template) if field is not None]
    except ValueError as error:
        raise DataError(
            f"the prompt {template!r} is not a valid template: {error}", "write literal braces as {{ and }}"
        ) from None
    if unknown := sorted(set(fields) - _FIELDS):
        raise DataError(
            f"the prompt {template!r} has an unknown field {{{unknown[0]}}}",
            "use only the fields {question}, {context}, {choices} and {letters}",
        )
    return template.format(
        question=example.question,
        context=example.context,
        choices=", ".join(example.choices),
        letters="\n".join(
            f"{letter}) {choice}" for letter, choice in zip(ascii_uppercase, example.choices, strict=False)
        ),
    )


def chat_messages(task: Task, example: Example) -> tuple[ChatMessage, ...]:
    """Return the question as a conversation in which the worked examples are earlier turns."""
    contents = [text for shot in task.shots for text in shot] + [fill_template(task.prompt, example)]
    return tuple({"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(contents))


def make_prompt(model: Model, task: Task, example: Example, prompt_format: PromptFormat) -> Prompt:
    """Return the prompt for a question.

    Parameters
    ----------
    model : Model
    task : Task
        The task, which determines the prompt template and the worked examples.
    example : Example
    prompt_format : {"chat", "qa", "none"}
        - ``chat``: the conversation returned by `chat_messages`, formatted with the model's chat template and followed
          by the generation prompt.
        - ``qa``: ``Q: …\\nA: …\\n\\n`` for each worked example, followed by ``Q: …\\nA:``.
        - ``none``: only the filled template, without worked examples.
    """
    if prompt_format == "chat":
        return chat_prompt(model, chat_messages(task, example))
    question = fill_template(task.prompt, example)
    if prompt_format == "qa":
        question = "".join(f"Q: {q}\nA: {a}\n\n" for q, a in task.shots) + f"Q: {question}\nA:"
    return _tokenise(model, question, add_special_tokens=True)


def chat_prompt(model: Model, messages: Sequence[ChatMessage]) -> Prompt:
    """Format a conversation with the model's chat template, and append the generation prompt.

    Raises
    ------
    DataError
        If the chat template rejects the conversation, e.g. because its roles do not alternate.
    """
    try:
        text = model.tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
    except TemplateError as error:
        raise DataError(
            f"the chat template of {model.label} rejects this conversation: {str(error)[:200]}",
            "use alternating user and assistant messages without a system message, which many templates require",
        ) from None
    # A chat template writes its own beginning-of-text token, and a second one would change all hidden states.
    return _tokenise(model, text, add_special_tokens=False)


def prompt_from_text(model: Model, text: str) -> Prompt:
    """Return the prompt for text that is already formatted, e.g. a prompt that another program sent to the model."""
    bos = model.tokenizer.bos_token
    # A second beginning-of-text token must not be added to a text that already starts with one.
    return _tokenise(model, text, add_special_tokens=not (bos and text.startswith(bos)))


def supplied_prompt(model: Model, prompt: str | Sequence[ChatMessage]) -> Prompt:
    """Return the prompt for formatted text, or for a conversation to which the model's chat template is applied."""
    return prompt_from_text(model, prompt) if isinstance(prompt, str) else chat_prompt(model, prompt)


def task_prompts(model: Model, task: Task, prompt_format: PromptFormat) -> list[tuple[str, Prompt]]:
    """Return the id and the prompt of each question in a task.

    Raises
    ------
    DataError
        If a prompt leaves too little room for its answer in the model's context window, or if the prompt template is
        invalid.
    """
    prompts = [(example.id, make_prompt(model, task, example, prompt_format)) for example in task.examples]
    check_lengths(model, prompts, task.max_new_tokens)
    return prompts


def check_lengths(model: Model, prompts: Iterable[tuple[str, Prompt]], max_new_tokens: int) -> None:
    """Raise DataError if a prompt leaves too little room for its answer in the model's context window.

    Parameters
    ----------
    model : Model
    prompts : iterable of (str, Prompt)
        The id and the prompt of each question.
    max_new_tokens : int
        Maximum number of tokens in an answer.

    Raises
    ------
    DataError
        If at least one prompt is too long.  The message contains the ids of up to five of these prompts.
    """
    if model.window is None:
        return
    limit = model.window - max_new_tokens
    too_long = [(id_, len(prompt.token_ids)) for id_, prompt in prompts if len(prompt.token_ids) > limit]
    if too_long:
        examples = ", ".join(f"{id_!r} ({n_tokens} tokens)" for id_, n_tokens in too_long[:5])
        raise DataError(
            f"{len(too_long)} questions exceed the context window of {model.label} ({model.window} tokens, "
            f"{max_new_tokens} of them reserved for the answer): {examples}",
            "shorten or omit these questions, or reduce --max-new-tokens",
        )


def end_of_turn_id(model: Model) -> int | None:
    """Return the id of the end token that the chat template writes after an answer, or None if it writes none."""
    answer = "Zanzibar"
    messages = [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": answer}]
    text = model.tokenizer.apply_chat_template(messages, tokenize=False)
    suffix = text[text.rindex(answer) + len(answer) :]
    suffix_ids = model.tokenizer(suffix, add_special_tokens=False)["input_ids"]
    return next((token_id for token_id in suffix_ids if token_id in model.end_ids), None)


def _tokenise(model: Model, text: str, *, add_special_tokens: bool) -> Prompt:
    encoding = model.tokenizer(text, add_special_tokens=add_special_tokens, return_offsets_mapping=True, verbose=False)
    offsets = tuple((start, stop) for start, stop in encoding["offset_mapping"])
    return Prompt(text, tuple(encoding["input_ids"]), offsets)
