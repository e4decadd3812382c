"""Separate a model's reasoning from its final answer, and join them again."""

from collections.abc import Sequence

_MARKERS = (
    ("<think>", "</think>"),  # DeepSeek-R1, Qwen3, SmolLM3 and most other models
    ("[THINK]", "[/THINK]"),  # Magistral
    ("<|channel|>analysis", "<|channel|>final<|message|>"),  # gpt-oss
)


def count_reasoning_tokens(prompt: str, text: str, offsets: Sequence[tuple[int, int]]) -> int:
    """Return the number of generated tokens that belong to the reasoning or to the white space after it.

    The text contains reasoning if it starts with an opening marker such as ``<think>``, or if the prompt ends with one,
    as is the case with some chat templates.  If the closing marker is missing, the whole text is reasoning, and there
    is no final answer.

    Parameters
    ----------
    prompt : str
    text : str
        The generated text.
    offsets : sequence of (int, int)
        For each generated token, the range (start, stop) of its characters in `text`; see `records.Answer`.
    """
    for opening, closing in _MARKERS:
        if not (text.lstrip().startswith(opening) or prompt.rstrip().endswith(opening)):
            continue
        close = text.rfind(closing)
        if close < 0:
            return sum(start < len(text) for start, _ in offsets)
        end = close + len(closing)
        end += len(text[end:]) - len(text[end:].lstrip())
        return sum(start < end and stop <= end for start, stop in offsets)
    return 0


def join_reasoning(reasoning: object, text: str, stopped: bool, *, opened: bool = False) -> str:
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
    opened : bool, default False
        True if the prompt ends with the opening marker of the reasoning.
    """
    if not isinstance(reasoning, str) or not reasoning:
        return text
    opening = "" if opened else "<think>\n"
    closing = "\n</think>\n\n" if text or stopped else ""
    return f"{opening}{reasoning.strip()}{closing}{text.lstrip()}"
