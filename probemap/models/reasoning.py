"""Reasoning models: where the reasoning ends and the final answer begins."""

from collections.abc import Sequence

_MARKERS = (
    ("<think>", "</think>"),  # DeepSeek-R1, Qwen3, SmolLM3 and most other models
    ("[THINK]", "[/THINK]"),  # Magistral
    ("<|channel|>analysis", "<|channel|>final<|message|>"),  # gpt-oss
)


def count_reasoning_tokens(prompt: str, text: str, offsets: Sequence[tuple[int, int]]) -> int:
    """Return how many of the first generated tokens are reasoning, including the white space after it.

    A reasoning block is open if the text starts with the opening marker, or the prompt ends with it (some chat
    templates write it).  A block that is never closed extends to the end of the text: there is no final answer.

    Parameters
    ----------
    prompt : str
    text : str
        The generated text.
    offsets : sequence of (int, int)
        For each generated token its characters in `text`; see `records.Answer`.
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
