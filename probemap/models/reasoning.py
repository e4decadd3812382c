"""Separate a model's reasoning from its final answer, and join them again.

`MARKS` is the table of the marks that models write before and after their reasoning.  Each row names the models that
use it, or the software in which it is documented.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Marks:
    """The marks that a model writes before and after its reasoning."""

    token: str
    """The distinctive part of the opening mark.  A model uses these marks if its tokenizer or its chat template
    contains this text."""
    opening: str
    """Regular expression for the opening mark."""
    closing: str
    """Regular expression for the closing mark.  If it is empty, the end of the reasoning cannot be recognised, and the
    opening mark is recognised only for models that are known to use it."""
    written: tuple[str, str]
    """The exact texts that the model writes before and after its reasoning."""
    distinctive: bool = True
    """False if the opening mark may be ordinary text.  It is then recognised only at the beginning of the generated
    text, and not at the end of the prompt or after a closing mark."""


def _tag(name: str) -> Marks:
    """Return the marks ``<name>`` and ``</name>``, in upper or lower case and with attributes."""
    opening, closing = rf"(?i:<\s*{name}(?:\s[^<>]*)?>)", rf"(?i:<\s*/\s*{name}\s*>)"
    return Marks(f"<{name}>", opening, closing, (f"<{name}>\n", f"\n</{name}>\n\n"))


def _pair(opening: str, closing: str, *, before: str = "", after: str = "") -> Marks:
    """Return marks that are fixed texts, in upper or lower case.

    `before` is text that the model writes between the opening mark and the reasoning, and `after` is text between the
    closing mark and the answer.
    """
    begin, end = (rf"(?i:{re.escape(mark)})" for mark in (opening, closing))
    return Marks(opening, begin, end, (opening + before, closing + after))


MARKS: tuple[Marks, ...] = (
    # DeepSeek-R1, Qwen3, QwQ, SmolLM3, Phi-4-reasoning, GLM-4.5, Kimi K2, MiniMax M1 and M2, Nemotron 3, Hunyuan, ERNIE
    # 4.5, Ling, Ring, Step 3, Intern-S1, OLMo 3, EXAONE 4, Granite 3.3, Cogito, Skywork (vLLM and SGLang)
    _tag("think"),
    _tag("thinking"),  # Reflection (Open WebUI)
    _tag("thought"),  # EXAONE Deep, Marco-o1 (Open WebUI)
    _tag("reasoning"),  # Reka Flash 3 (Open WebUI)
    _tag("reason"),  # Open WebUI
    _tag("seed:think"),  # Seed-OSS (vLLM, seedoss_reasoning_parser.py)
    _tag("mm:think"),  # MiniMax M3 (SGLang, reasoning_parser.py)
    _tag("longcat_think"),  # LongCat (vLLM, longcat_reasoning_parser.py)
    _tag("REASONING_SCRATCHPAD"),  # Hermes (NousResearch/hermes-agent#11366)
    _tag("scratchpad"),  # Hermes 3, and prompts that ask for it
    _tag("antThinking"),  # Claude (LobeHub)
    _tag("inner_monologue"),  # Hermes 3
    _pair("[THINK]", "[/THINK]"),  # Magistral, Ministral 3, Mistral Small 4 (vLLM, mistral_reasoning_parser.py)
    _pair("◁think▷", "◁/think▷"),  # Kimi-VL, Kimi-Dev (SGLang, reasoning_parser.py)
    # OpenThinker, Sky-T1 (Open WebUI)
    _pair("<|begin_of_thought|>", "<|end_of_thought|>", before="\n\n", after="\n\n<|begin_of_solution|>\n\n"),
    # Command A and Command R7B (vLLM, cohere_command_reasoning_parser.py)
    _pair("<|START_THINKING|>", "<|END_THINKING|>", after="<|START_RESPONSE|>"),
    _pair("<|inner_prefix|>", "<|inner_suffix|>"),  # Apertus (vLLM, apertus_reasoning_parser.py)
    # Gemma 4 (vLLM, gemma4_utils.py).  Without special tokens, only the name of the channel remains.
    _pair("<|channel>thought", "<channel|>", before="\n"),
    Marks("<|channel>", r"thought\n", "", ("<|channel>thought\n", "<channel|>"), distinctive=False),
    # gpt-oss (openai/harmony, docs/format.md).  All channels before the channel `final` are reasoning.
    Marks(
        "<|channel|>",
        r"(?:<\|start\|>assistant)?<\|channel\|>(?:\s*(?:analysis|commentary)[^<]*(?:<\|message\|>)?)?",
        r"<\|channel\|>\s*final(?:(?!<\|channel\|>).){0,60}?<\|message\|>",
        ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ),
    # gpt-oss without special tokens (oobabooga/textgen#7374)
    Marks(
        "<|channel|>",
        r"(?:assistant)?(?:analysis|commentary)(?:(?=[^\W\d_a-z])|(?=(?s:.*)assistant\s*final))",
        r"assistant(?:<\|channel\|>)?\s*final(?:<\|message\|>)?",
        ("analysis", "assistantfinal"),
        distinctive=False,
    ),
    # Granite 3.2 (vLLM, granite_reasoning_parser.py)
    Marks(
        "Here is my thought process:",
        r"Here(?:'s|’s| is) my thought process:",
        r"Here(?:'s|’s| is) my response:",
        ("Here is my thought process:\n\n", "\n\nHere is my response:\n\n"),
        distinctive=False,
    ),
    # Apriel (ServiceNow; llama.cpp, models/templates/unsloth-Apriel-1.5.jinja)
    _pair("Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]", before="\n", after="\n"),
    # s1 (simplescaling/s1)
    _pair("<|im_start|>think", "<|im_start|>answer", before="\n", after="\n"),
    # HyperCLOVA X SEED Think 14B (vLLM, hyperclovax_seed_think_14b_reasoning_parser.py)
    Marks(
        "/think\n",
        r"/think\n",
        r"<\|im_end\|>\n<\|im_start\|>assistant\n",
        ("/think\n", "<|im_end|>\n<|im_start|>assistant\n"),
        distinctive=False,
    ),
    # Solar Open (ggml-org/llama.cpp#18540)
    Marks(
        "<|think|>",
        r"<\|think\|>",
        r"<\|end\|>\s*<\|begin\|>assistant\s*(?:<\|content\|>)?|<\|content\|>",
        ("<|think|>", "<|end|><|begin|>assistant<|content|>"),
    ),
    # Kimi K3 (SGLang, reasoning_parser.py)
    _pair("<|open|>think<|sep|>", "<|close|>think<|sep|>", after="<|open|>response<|sep|>"),
    # Inkling (SGLang, inkling_tokenizer.py)
    Marks(
        "<|content_thinking|>",
        r"(?:<\|message_model\|>)?<\|content_thinking\|>",
        r"<\|content_text\|>",
        ("<|content_thinking|>", "<|end_message|><|message_model|><|content_text|>"),
    ),
    _pair("[unused16]", "[unused17]"),  # Pangu (vLLM, pangu_reasoning_parser.py)
    Marks(  # HuatuoGPT-o1
        "## Thinking\n",
        r"## Thinking\n",
        r"## Final Response\n",
        ("## Thinking\n\n", "\n\n## Final Response\n\n"),
        distinctive=False,
    ),
)

_ANSWER_MARK = re.compile(
    r"\s*(?:(?i:<\s*(?:answer|response|output|solution)\s*>)|<\|START_RESPONSE\|>|<\|begin_of_solution\|>"
    r"|<\|open\|>response<\|sep\|>|<\|message_model\|><\|content_text\|>)?\s*"
)
"""Marks that some models write between the reasoning and the answer, e.g. Hunyuan, ERNIE 4.5, Marco-o1, Command A."""

_PROMPT_END = 200
"""Number of characters at the end of a prompt that are searched for an opening mark."""

_PARTNERS = (("<", "</"), ("[", "[/"), ("◁", "◁/"), ("begin", "end"), ("start", "end"), ("prefix", "suffix"))
"""Differences between the opening and the closing mark of a model.  They are tried in lower and in upper case."""


def marks_of(tokens: Collection[str], template: str) -> tuple[Marks, ...]:
    """Return the marks that a model uses, as far as its tokenizer and its chat template name them.

    Pairs of tokens that are not in `MARKS` are recognised by their names: one contains ``think``, ``thought`` or
    ``reason``, and the other differs from it as ``</think>`` does from ``<think>`` or ``end`` does from ``begin``.

    Parameters
    ----------
    tokens : collection of str
        The added tokens of the tokenizer.
    template : str
        The chat template, or an empty string if there is none.

    Examples
    --------
    >>> from probemap.models.reasoning import marks_of
    >>> [marks.token for marks in marks_of({"[THINK]", "[/THINK]", "<s>"}, "")]
    ['[THINK]']
    >>> [marks.written for marks in marks_of({"<|thought_begin|>", "<|thought_end|>"}, "")]
    [('<|thought_begin|>', '<|thought_end|>')]
    """
    own_marks = [marks for marks in MARKS if marks.token in tokens or marks.token in template]
    listed = {marks.token for marks in own_marks}
    for token in sorted(tokens):
        if token not in listed and re.search("think|thought|reason", token, re.IGNORECASE):
            pairs = [pair for a, b in _PARTNERS for pair in ((a, b), (a.upper(), b.upper()))]
            partners = [token.replace(a, b, 1) for a, b in pairs if a in token]
            own_marks += [_pair(token, partner) for partner in dict.fromkeys(partners) if partner in tokens]
    return tuple(own_marks)


def count_reasoning_tokens(
    prompt: str, text: str, offsets: Sequence[tuple[int, int]], own_marks: Sequence[Marks] = ()
) -> int:
    """Return the number of generated tokens before the final answer.

    These are the tokens of the reasoning, of the marks around it and of white space after it.  The text contains
    reasoning if it starts with an opening mark such as ``<think>``, or if the prompt ends with one, as is the case with
    some chat templates.  The reasoning ends at the last closing mark.  If the closing mark is missing, the whole text
    is reasoning, and there is no final answer.

    Parameters
    ----------
    prompt : str
    text : str
        The generated text, including special tokens if they are known.
    offsets : sequence of (int, int)
        For each generated token, the range (start, stop) of its characters in `text`; see `records.Answer`.
    own_marks : sequence of Marks, optional
        The marks that the model is known to use.  They are tried before those in `MARKS`.

    Examples
    --------
    >>> from probemap.models.reasoning import count_reasoning_tokens
    >>> count_reasoning_tokens("Q", "[THINK]5?[/THINK]5", [(0, 7), (7, 9), (9, 17), (17, 18)])
    3
    """
    end = _answer_start(prompt, text, own_marks)
    if end == len(text):
        return sum(start < end for start, _ in offsets)
    return sum(start < end and stop <= end for start, stop in offsets)


def final_answer(text: str) -> str:
    """Return the part of an answer after its reasoning.

    Parameters
    ----------
    text : str
        The generated text.

    Returns
    -------
    str
        The final answer, or an empty string if there is none.

    Examples
    --------
    >>> from probemap.models.reasoning import final_answer
    >>> final_answer("<think>Rome?</think>Paris")
    'Paris'
    """
    return text[_answer_start("", text, ()) :]


def join_reasoning(
    reasoning: object, text: str, stopped: bool, *, prompt: str = "", own_marks: Sequence[Marks] = ()
) -> str:
    """Reconstruct the generated text from the reasoning and the answer that a server returned separately.

    Parameters
    ----------
    reasoning : object
        The reasoning, as returned by vLLM and SGLang.  Any value other than a non-empty string means that there is no
        reasoning.
    text : str
        The answer.
    stopped : bool
        False if the output was cut off.
    prompt : str, default ""
        The prompt.  If it ends with an opening mark, the mark is not repeated.
    own_marks : sequence of Marks, optional
        The marks that the model is known to use.  The first ones are written; by default, ``<think>`` and
        ``</think>``.

    Examples
    --------
    >>> from probemap.models.reasoning import join_reasoning
    >>> join_reasoning("2 + 3?", "5", True)
    '<think>\\n2 + 3?\\n</think>\\n\\n5'
    """
    if not isinstance(reasoning, str) or not reasoning:
        return text
    opened = _opened_by(prompt, own_marks)
    opening, closing = (opened or next(iter(own_marks), MARKS[0])).written
    return f"{'' if opened else opening}{reasoning.strip()}{closing if text or stopped else ''}{text.lstrip()}"


def _answer_start(prompt: str, text: str, own_marks: Sequence[Marks]) -> int:
    """Return the index of the first character of the final answer.  It is ``len(text)`` if there is no final answer."""
    opened = _opened_by(prompt, own_marks)
    candidates = [opened] if opened else []
    recognised = [*own_marks, *(marks for marks in MARKS if marks.closing)]
    candidates += [marks for marks in recognised if re.match(rf"\s*(?:{marks.opening})", text)]
    if not candidates:
        return 0
    marks = candidates[0]
    closings = list(re.finditer(marks.closing, text, re.DOTALL)) if marks.closing else []
    if not closings:
        return len(text)
    end = closings[-1].end()
    if marks.distinctive and re.search(rf"^[ \t]*(?:{marks.opening})", text[end:], re.MULTILINE):
        return len(text)
    match = _ANSWER_MARK.match(text, end)
    return match.end() if match else end


def _opened_by(prompt: str, own_marks: Sequence[Marks]) -> Marks | None:
    """Return the marks whose opening mark is the end of the prompt, or None if there are none."""
    end = prompt[-_PROMPT_END:].rstrip()
    for marks in (*own_marks, *MARKS):
        if marks.distinctive and re.search(rf"(?:{marks.opening})\Z", end):
            return marks
    return None
