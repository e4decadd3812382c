"""Convert questions to prompts in several formats, optionally with worked examples, and check the prompts' lengths."""

from __future__ import annotations

import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from string import ascii_uppercase
from typing import TYPE_CHECKING, Literal

from probemap.models.decoding import decode_with_offsets, offsets_in
from probemap.records import ChatMessage, DataError, Example, ModelError, Task, TextAnswer

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
    is_chat: bool = False
    """Whether the text is in the format of the model's chat template, which ends answers with an end-of-turn token."""
    conversation: tuple[ChatMessage, ...] = field(default=(), repr=False, compare=False)
    """The messages in the text, to be sent to a server.  Empty if there are none or if they are not known."""


@dataclass(frozen=True)
class TokenisedText:
    """A tokenised text, as an `engine.TokenSequence`."""

    id: str
    prompt: Prompt
    n_prompt: int
    """Number of tokens before those whose log-probabilities are computed."""

    @property
    def token_ids(self) -> tuple[int, ...]:
        return self.prompt.token_ids


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
    return tokenise(model, question, add_special_tokens=True)


def chat_prompt(model: Model, messages: Sequence[ChatMessage]) -> Prompt:
    """Format a conversation with the model's chat template, and append the generation prompt.

    Raises
    ------
    DataError
        If the chat template rejects the conversation, e.g. because its roles do not alternate, or leaves out a message.
    ModelError
        If the chat template is not valid or fails.
    """
    text = model.chat_template.render(messages)
    # A chat template writes its own beginning-of-text token, and a second one would change all hidden states.
    return replace(tokenise(model, text, add_special_tokens=False), is_chat=True, conversation=tuple(messages))


def prompt_from_text(model: Model, text: str) -> Prompt:
    """Return the prompt for text that is already formatted, e.g. a prompt that another program sent to the model."""
    bos = model.tokenizer.bos_token
    # A second beginning-of-text token must not be added to a text that already starts with one.
    prompt = tokenise(model, text, add_special_tokens=not (bos and text.startswith(bos)))
    return replace(prompt, is_chat=_is_formatted(model, text))


def _is_formatted(model: Model, text: str) -> bool:
    is_chosen = model.template_sha256 != ""  # otherwise there is no template, or several and no default
    return is_chosen and model.chat_template.has_formatted(text)


def supplied_prompt(model: Model, answer: TextAnswer) -> Prompt | None:
    """Return the prompt that was supplied with an answer, or None if there is none.

    It is supplied as token ids, as formatted text, or as a conversation to which the model's chat template is applied.
    """
    if answer.prompt_ids is not None:
        check_embeddings(model, answer.prompt_ids, f"the prompt of {answer.id!r}")
        text, offsets = decode_with_offsets(model.tokenizer, answer.prompt_ids)
        return Prompt(text, answer.prompt_ids, tuple(offsets), _is_formatted(model, text))
    if answer.prompt is None:
        return None
    return (
        prompt_from_text(model, answer.prompt) if isinstance(answer.prompt, str) else chat_prompt(model, answer.prompt)
    )


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
    suffix_ids = model.tokenizer(model.chat_template.after_answer, add_special_tokens=False)["input_ids"]
    return next((token_id for token_id in suffix_ids if token_id in model.end_ids), None)


def tokenise(model: Model, text: str, *, add_special_tokens: bool) -> Prompt:
    """Return the tokens of a prompt.

    Parameters
    ----------
    model : Model
    text : str
    add_special_tokens : bool
        Whether to add the tokenizer's beginning-of-text token.  Special tokens that the tokenizer adds to the end are
        always omitted, because the model continues the text.

    Raises
    ------
    DataError
        If the model has no embedding for one of the tokens.
    """
    token_ids, offsets = _encode(model, text, add_special_tokens=False)
    if add_special_tokens:
        complete, complete_offsets = _encode(model, text, add_special_tokens=True)
        n = len(token_ids)
        begins = (i for i in range(len(complete) - n + 1) if n and complete[i : i + n] == token_ids)
        stop = next((i + n for i in begins), len(complete))
        token_ids, offsets = complete[:stop], complete_offsets[:stop]
    check_embeddings(model, token_ids, "the prompt")
    return Prompt(text, tuple(token_ids), tuple(offsets))


def check_embeddings(model: Model, token_ids: Sequence[int], name: str) -> None:
    """Check that the model has an embedding for each token of a text.

    Parameters
    ----------
    model : Model
    token_ids : sequence of int
    name : str
        Description of the text in the error message, e.g. ``the prompt``.

    Raises
    ------
    DataError
        If a token has no embedding.
    """
    if token_ids and (token_id := max(token_ids)) >= model.n_embeddings:
        token = model.tokenizer.convert_ids_to_tokens(token_id)
        raise DataError(
            f"{name} contains the token {token!r} with the id {token_id}, but {model.label} has embeddings for "
            f"only {model.n_embeddings} tokens",
            "remove the token from the text, or use the tokenizer that the model was trained with",
        )


def _encode(model: Model, text: str, *, add_special_tokens: bool) -> tuple[list[int], list[tuple[int, int]]]:
    """Return the token ids of a text and, for each token, the range of its characters."""
    tokenizer = model.tokenizer
    encoding = tokenizer(
        text, add_special_tokens=add_special_tokens, return_offsets_mapping=tokenizer.is_fast, verbose=False
    )
    token_ids = list(encoding["input_ids"])
    offsets = [(int(start), int(stop)) for start, stop in encoding.get("offset_mapping", ())]
    if not any(start < stop for start, stop in offsets):  # e.g. tokenizers that are implemented in Python
        offsets = offsets_in(tokenizer, token_ids, text)
    return token_ids, offsets
