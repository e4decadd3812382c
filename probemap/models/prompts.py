"""How a question is put to a model: template, worked examples, frame, and whether it fits."""

import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Literal

from jinja2 import TemplateError

from probemap.models.model import Model
from probemap.records import DataError, Example, ModelError, Task

PromptFormat = Literal["chat", "qa", "none"]
"""What stands around a prompt: the model's chat template, ``Q: … A:``, or nothing."""


@dataclass(frozen=True)
class Prompt:
    """A text as the model sees it."""

    text: str
    token_ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]
    """For each token its characters in `text`; (0, 0) for one that stands for none."""


def resolve_prompt_format(model: Model, frame: Literal["auto", "chat", "qa", "none"] = "auto") -> PromptFormat:
    """What stands around the prompts: ``auto`` is the chat template where the model has one, else ``Q: … A:``.

    Raises
    ------
    ModelError: ``chat`` is asked of a model without a chat template.
    """
    if frame == "auto":
        return "chat" if model.has_chat_template else "qa"
    if frame == "chat" and not model.has_chat_template:
        raise ModelError(f"{model.label} has no chat template", "use --frame qa (Q: … A:) or --frame none")
    return frame


ChatMessage = dict[str, str]
"""``role`` and ``content``, as chat templates and servers take it."""

_FIELDS = {"question", "context", "choices", "letters"}


def fill_template(template: str, example: Example) -> str:
    """The prompt template with an example's question, context and choices.

    Raises
    ------
    DataError: a field that does not exist, or unbalanced braces.
    """
    try:
        named = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise DataError(
            f"the prompt {template!r} cannot be read: {error}", "write literal braces twice: {{ }}"
        ) from None
    if unknown := sorted(set(named) - _FIELDS):
        raise DataError(
            f"the prompt {template!r} has an unknown field {{{unknown[0]}}}",
            "fields are {question}, {context}, {choices} and {letters}",
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
    """The example as a conversation: the worked examples as earlier turns, the question as the last one."""
    asked = fill_template(task.prompt, example)
    said = [text for shot in task.shots for text in shot] + [asked]
    return tuple({"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(said))


def make_prompt(model: Model, task: Task, example: Example, frame: PromptFormat) -> Prompt:
    """The example as the model will see it, tokenised once.

    ``chat``: the conversation of `chat_messages` in the model's template, and the generation prompt.
    ``qa``: ``Q: …\\nA: …\\n\\n`` for each worked example, then ``Q: …\\nA:``.  ``none``: the filled template.
    """
    if frame == "chat":
        return chat_prompt(model, chat_messages(task, example))
    if frame == "qa":
        text = "".join(f"Q: {q}\nA: {a}\n\n" for q, a in task.shots) + f"Q: {fill_template(task.prompt, example)}\nA:"
    else:
        text = fill_template(task.prompt, example)
    return _tokenised(model, text, begin=True)


def chat_prompt(model: Model, messages: Sequence[ChatMessage]) -> Prompt:
    """A conversation in the model's chat template, with the generation prompt.

    Raises
    ------
    DataError: the template refuses it, e.g. because its roles do not alternate.
    """
    try:
        text = model.tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
    except TemplateError as error:
        raise DataError(
            f"the chat template of {model.label} refuses this conversation: {str(error)[:200]}",
            "it may want user and assistant in turn, or no system turn",
        ) from None
    # A chat template writes its own beginning-of-text token; adding another would shift every state.
    return _tokenised(model, text, begin=False)


def prompt_from_text(model: Model, text: str) -> Prompt:
    """A prompt that somebody else put to the model, template included, tokenised once."""
    # Who writes out the beginning of the text has no other added.
    begins = model.tokenizer.bos_token
    return _tokenised(model, text, begin=not (begins and text.startswith(begins)))


def _tokenised(model: Model, text: str, *, begin: bool) -> Prompt:
    encoded = model.tokenizer(text, add_special_tokens=begin, return_offsets_mapping=True, verbose=False)
    return Prompt(text, tuple(encoded["input_ids"]), tuple((a, b) for a, b in encoded["offset_mapping"]))


def end_of_turn_id(model: Model) -> int | None:
    """The id that the chat template writes after an answer, to end the turn; None if it writes none."""
    said = "Zanzibar"
    messages = [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": said}]
    text = model.tokenizer.apply_chat_template(messages, tokenize=False)
    after = model.tokenizer(text[text.rindex(said) + len(said) :], add_special_tokens=False)["input_ids"]
    return next((i for i in after if i in model.end_ids()), None)


def check_lengths(model: Model, prompts: Iterable[tuple[str, Prompt]], max_new_tokens: int) -> None:
    """Refuse prompts that do not fit the model's window together with their answers.

    Raises
    ------
    DataError: names up to five of the ids that are too long.
    """
    if model.window is None:
        return
    room = model.window - max_new_tokens
    long = [(i, len(p.token_ids)) for i, p in prompts if len(p.token_ids) > room]
    if long:
        shown = ", ".join(f"{i!r} ({n} tokens)" for i, n in long[:5])
        raise DataError(
            f"{len(long)} questions do not fit the window of {model.label}, {model.window} tokens with "
            f"{max_new_tokens} kept for the answer: {shown}",
            "shorten or leave out these questions, or lower --max-new-tokens",
        )
