"""Chat templates: selection by name, rendering, and a check that the rendered text contains the whole conversation.

A chat template is a program that comes with a model.  It may refuse a conversation, leave out a message, raise any
exception, or contain the current time.  This module is the only one that calls chat templates.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError

from probemap.models.reasoning import final_answer
from probemap.records import ChatMessage, DataError, ModelError, ProbemapError

_MAX_REASONING_MARK = 40
"""Maximum number of characters that may follow the beginning of an answer in a prompt, e.g. an empty reasoning."""
_QUESTION, _ANSWER, _NEXT = "Where is Stone Town?", "Zanzibar", "Thank you very much."
"""Texts of the conversation with which a template is examined."""

_PART = re.compile(r"""['"]type['"]: ['"]text['"]""")
"""Regular expression for a part of a message that a template writes as it is, instead of its text."""


_FORMAT_CODE = re.compile(r"(?<!\{)%[-_0^#:]*\d*[EO]?[A-Za-z%]")
"""Regular expression for a format code of ``strftime``.  In Jinja, ``{%`` begins a statement."""
_PERCENT = "\ue000"
"""Character of the Unicode block for private use, which stands for a percent sign in a format."""


def select_template(templates: str | dict[str, str] | None, name: str | None, label: str) -> str:
    """Return the text of a chat template.

    Parameters
    ----------
    templates : str, dict or None
        The chat template of a tokenizer, or a mapping from names to several chat templates.
    name : str or None
        Name of one of several templates.  By default, the only template, or the one named ``default``.
    label : str
        Name of the model in error messages.

    Raises
    ------
    ModelError
        If there is no chat template, no template of this name, or more than one template and none is chosen.

    Examples
    --------
    >>> from probemap.models.templates import select_template
    >>> select_template({"default": "A", "rag": "B"}, "rag", "my-model")
    'B'
    """
    if not templates:
        raise ModelError(f"{label} has no chat template", "use --frame qa (Q: … A:) or --frame none")
    named = templates if isinstance(templates, dict) else {"default": templates}
    names = ", ".join(sorted(named))
    if name is not None and name not in named:
        raise ModelError(f"{label} has no chat template named {name!r}", f"its chat templates are: {names}")
    if name is None and "default" not in named and len(named) > 1:
        raise ModelError(
            f"{label} has several chat templates and none of them is the default: {names}",
            f"choose one of them, e.g. --template {min(named)}",
        )
    return named[name or ("default" if "default" in named else next(iter(named)))]


@dataclass(frozen=True)
class ChatTemplate:
    """A chat template with the tokenizer that renders it."""

    label: str
    """Name of the model in error messages."""
    tokenizer: Any
    text: str
    """The template, in the language Jinja."""
    date: str | None = None
    """Date and time that the template is given as the current time, in ISO format.  If None, it is the actual time."""

    @property
    def has_clock(self) -> bool:
        """Whether the template may write the current date or time into prompts."""
        return "strftime_now" in self.text

    def render(self, messages: Sequence[ChatMessage]) -> str:
        """Return a conversation as text, followed by the beginning of the assistant's answer.

        The contents of messages are passed as strings.  If the rendered text then lacks a message, or if the template
        fails, they are passed as lists of parts, which some templates require.

        Raises
        ------
        DataError
            If the template rejects the conversation or leaves out a message.
        ModelError
            If the template is not valid or fails.
        """
        text = self._dated_text if self.date else self.text
        return self._render_complete(text, messages, begin_answer=True) + self.assistant_header

    @cached_property
    def assistant_header(self) -> str:
        """The beginning of an answer if the template does not write it after a question, otherwise an empty string.

        Some templates ignore the argument ``add_generation_prompt``.  The beginning of an answer is then read from a
        conversation with an answer.
        """
        question = [{"role": "user", "content": _QUESTION}]
        answer = {"role": "assistant", "content": _ANSWER}
        prompt = self._example(question, begin_answer=True)
        if prompt != self._example(question, begin_answer=True):
            raise ModelError(
                f"the chat template of {self.label} renders the same conversation differently each time",
                "use a chat template without random choices",
            )
        if prompt is None or prompt != self._example(question):
            return ""
        answered = self._example([*question, answer])
        if answered is None or not answered.startswith(prompt):
            return ""
        header = answered[len(prompt) :].partition(_ANSWER)[0]
        # Most tokenizers join the space before a word with the word, so the answer begins with the space.
        return header.rstrip(" ") if header.strip() else ""

    @cached_property
    def after_answer(self) -> str:
        """The text that the template writes after an answer, or an empty string if it accepts no answers."""
        turns = [("user", _QUESTION), ("assistant", _ANSWER), ("user", _NEXT)]
        conversation = [{"role": role, "content": content} for role, content in turns]
        # Some templates refuse a conversation that does not end with the user.
        for messages in (conversation[:2], conversation):
            if (text := self._example(messages)) is not None:
                return text.rpartition(_ANSWER)[2].partition(_NEXT)[0]
        return ""

    @cached_property
    def before_answer(self) -> str:
        """The text that the template writes between a question and its answer, or an empty string if it fails."""
        try:
            return self.render([{"role": "user", "content": _QUESTION}]).rpartition(_QUESTION)[2]
        except ProbemapError:
            return ""

    def has_formatted(self, prompt: str) -> bool:
        """Return whether a prompt ends as if this template had formatted it; it may also begin the reasoning."""
        ending = self.before_answer.strip()
        return bool(ending) and ending in prompt[-len(ending) - _MAX_REASONING_MARK :]

    @property
    def notes(self) -> list[str]:
        """Messages for the log about unusual properties of the template."""
        notes = []
        if self.has_clock and self.date:
            notes.append(
                f"the chat template of {self.label} may write the current date or time: {self.date} is used in all "
                "prompts"
            )
        if header := self.assistant_header:
            notes.append(
                f"the chat template of {self.label} does not begin the answer: {header!r} is appended to each prompt, "
                "as in the template's conversations with answers"
            )
        return notes

    @cached_property
    def _dated_text(self) -> str:
        """The template with `date`, or by default the time of the first access, as the current time."""
        if not self.has_clock:
            return self.text
        return _clock(datetime.fromisoformat(self.date) if self.date else datetime.now(), self.text) + self.text

    def _example(self, messages: Sequence[ChatMessage], *, begin_answer: bool = False) -> str | None:
        """Render a conversation with which the template is examined, or return None if the template fails."""
        try:
            return self._render_complete(self._dated_text, messages, begin_answer=begin_answer)
        except ProbemapError:
            return None

    def _render_complete(self, text: str, messages: Sequence[ChatMessage], *, begin_answer: bool) -> str:
        """Render a conversation, and check that the text contains all messages."""
        errors: list[ProbemapError] = []
        for in_parts in (False, True):
            conversation = [
                {**m, "content": [{"type": "text", "text": m["content"]}] if in_parts else m["content"]}
                for m in messages
            ]
            try:
                rendered = self.tokenizer.apply_chat_template(
                    conversation, tokenize=False, add_generation_prompt=begin_answer, chat_template=text
                )
            except Exception as error:  # a template may raise any exception
                errors.append(self._error(error))
                continue
            if in_parts and _PART.search(rendered):
                continue
            missing = next((m for m in messages if not _contains(rendered, m)), None)
            if missing is None:
                return str(rendered)
            errors.append(
                DataError(
                    f"the chat template of {self.label} leaves out the message {missing['content']!r:.80} "
                    f"({missing['role']}): the rendered text is {rendered!r:.200}",
                    "choose another template with --template, or use --frame qa, which requires no template",
                )
            )
        raise errors[0]

    def _error(self, error: Exception) -> ProbemapError:
        hint = "correct the template, choose another one with --template, or use --frame qa, which requires no template"
        if isinstance(error, TemplateSyntaxError):
            return ModelError(
                f"the chat template of {self.label} is not a valid template: {str(error)[:200]} (line {error.lineno})",
                hint,
            )
        if type(error) is TemplateError:  # raised by the function `raise_exception` of chat templates
            return DataError(
                f"the chat template of {self.label} rejects this conversation: {str(error)[:200]}",
                "use alternating user and assistant messages without a system message, which many templates require; "
                "if it rejects worked examples, use --frame qa",
            )
        return ModelError(f"the chat template of {self.label} fails: {type(error).__name__}: {str(error)[:200]}", hint)


def _clock(now: datetime, template: str) -> str:
    """Return a definition of the function ``strftime_now`` in Jinja, to be placed before a template.

    It replaces the function that transformers provides, which cannot be passed as an argument.  It supports the format
    codes that the template contains.
    """
    codes = sorted(set(_FORMAT_CODE.findall(template)) - {"%%"}, key=len, reverse=True)
    # `%%` is replaced first, by a character that no template uses, so that `%%d` does not become a day.
    pairs = [("%%", _PERCENT), *((code, now.strftime(code)) for code in codes), (_PERCENT, "%")]
    filters = "".join(f" | replace({json.dumps(old)}, {json.dumps(new)})" for old, new in pairs)
    return f"{{% macro strftime_now(format) %}}{{{{ format{filters} }}}}{{% endmacro +%}}"


def _contains(rendered: str, message: ChatMessage) -> bool:
    """Return whether a rendered conversation contains a message, either as it is or as a JSON string.

    White space is ignored, because many templates remove it at the beginning and end of a message.  So is reasoning,
    which many templates remove from earlier answers.
    """
    content = message["content"]
    if message["role"] == "assistant":
        content = final_answer(content)
    forms = (content, json.dumps(content)[1:-1], json.dumps(content, ensure_ascii=False)[1:-1])
    text = "".join(rendered.split())
    return any("".join(form.split()) in text for form in forms)
